"""Ask a team about image files, a batch at a time; a file that cannot be used spoils nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrensemble.errors import UserError
from lrensemble.export.ensemble import Ensemble
from lrensemble.export.images import Reader

Array = NDArray[Any]


@dataclass(frozen=True)
class Answer:
    """What the team says of one image.

    Attributes
    ----------
    row : of the image in its file, where that is an array of several
    probabilities : (classes,)
    error : why there is no answer; then there are no probabilities
    """

    file: str
    row: int | None = None
    probabilities: Array | None = None
    error: str = ""


def predict_files(
    team: Ensemble,
    files: Iterable[tuple[Path, str]],
    reader: Reader,
    *,
    batch: int = 128,
    tell: Callable[[int], object] = lambda images: None,
) -> Iterator[Answer]:
    """Answers in the order of the files, computed in batches; at most about `batch` images are in memory.

    Parameters
    ----------
    files : paths, each with an error that is known already (or "")
    tell : is told how many files were dealt with, after each batch
    """
    waiting: list[tuple[str, int | None, Array | str]] = []  # an image, or an error

    def flush() -> Iterator[Answer]:
        images = [image for _, _, image in waiting if not isinstance(image, str)]
        answers = iter(team.predict_proba(np.stack(images)) if images else ())
        for file, row, image in waiting:
            if isinstance(image, str):
                yield Answer(file, row, error=image)
            else:
                yield Answer(file, row, probabilities=next(answers))
        tell(len({file for file, _, _ in waiting}))
        waiting.clear()

    for path, error in files:
        images: Array = np.empty(0)
        try:
            if not error:
                images = reader.read(path)
        except UserError as found:
            error = str(found)
        if error:
            waiting.append((str(path), None, error))
        for row, image in enumerate(images):
            waiting.append((str(path), row if len(images) > 1 else None, image))
            if len(waiting) >= batch:
                yield from flush()
    yield from flush()
