"""Ask a team about files of rows, a batch at a time; a file that cannot be used spoils nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lrensemble.array import Array
from lrensemble.errors import UserError
from lrensemble.export.ensemble import Ensemble
from lrensemble.export.images import Reader
from lrensemble.export.rows import RowReader
from lrensemble.export.texts import TextReader, TextTeam

TOP = 3  # classes of an answer


@dataclass(frozen=True)
class Answer:
    """What the team says of one row, an image for example.

    Attributes
    ----------
    row : its number in its file, where that holds several
    probabilities : (classes,)
    error : why there is no answer; then there are no probabilities
    """

    file: str
    row: int | None = None
    probabilities: Array | None = None
    error: str = ""


def answer_of(p: Array, names: tuple[str, ...], abstain: float | None) -> dict[str, Any]:
    """What probabilities (classes,) say, as plain values; no class where the confidence is below `abstain`."""
    order = sorted(range(len(p)), key=lambda i: -p[i])  # stable: ties to the lower class, as everywhere
    first = order[0]
    abstains = abstain is not None and float(p[first]) < abstain
    return {
        "class": None if abstains else names[first],
        "index": None if abstains else first,
        "confidence": float(p[first]),
        "abstains": abstains,
        "top": [{"class": names[i], "index": i, "probability": float(p[i])} for i in order[:TOP]],
    }


def predict_files(
    team: Ensemble,
    files: Iterable[tuple[Path, str]],
    reader: Reader | RowReader | TextReader,
    *,
    batch: int = 128,
    tell: Callable[[int], object] = lambda files: None,
) -> Iterator[Answer]:
    """Answers in the order of the files, computed in batches; at most a file and about `batch` rows are in memory.

    Parameters
    ----------
    files : paths, each with an error that is known already (or "")
    tell : is told how many files were dealt with, after each batch
    """
    waiting: list[tuple[str, int | None, Any]] = []  # a row, or an error

    def flush() -> Iterator[Answer]:
        rows = [row for _, _, row in waiting if not isinstance(row, str)]
        texts = team.card is not None and team.card.preprocessing.text is not None
        answers = iter(team.predict_proba(rows if texts else np.stack(rows)) if rows else ())
        for file, number, row in waiting:
            if isinstance(row, str):
                yield Answer(file, number, error=row)
            else:
                yield Answer(file, number, probabilities=next(answers))
        tell(len({file for file, _, _ in waiting}))
        waiting.clear()

    for path, error in files:
        rows: Sequence[Any] | Array = ()
        try:
            if not error:
                rows = reader.read(path)
        except UserError as found:
            error = str(found).removeprefix(str(path)).lstrip(":, ")
        if error:
            waiting.append((str(path), None, error))
        for number, row in enumerate(rows):
            waiting.append((str(path), number if len(rows) > 1 else None, row))
            if len(waiting) >= batch:
                yield from flush()
    yield from flush()


def reader_of(
    team: Ensemble, *, convert: bool, resize: bool, scale: float, key: str | None
) -> Reader | RowReader | TextReader:
    """What reads the files of a team's kind; `UserError` for an option that is for images, where it takes none."""
    assert team.card is not None
    preprocessing = team.card.preprocessing
    if preprocessing.is_image:
        return Reader(preprocessing, convert, resize, scale, key)
    for option, value in (("--convert", convert), ("--resize", resize), ("--scale", scale != 1)):
        if value:
            what = "texts" if preprocessing.text else f"rows of shape {preprocessing.input_shape}"
            raise UserError(f"{option} is for images: this team takes {what}")
    if isinstance(team.module, TextTeam):
        return TextReader(team.module)
    return RowReader(preprocessing, key)


def find_files(paths: Sequence[Path], reader: Reader | RowReader | TextReader) -> Iterator[tuple[Path, str]]:
    """Files in the order of the paths, folders with all files that are read there; an error for an empty folder."""
    for path in paths:
        found = reader.find(path) if path.is_dir() else [path]
        yield from ((file, "") for file in found)
        if not found:
            kind = {Reader: "images", TextReader: "texts"}.get(type(reader), "tables, arrays or recordings")
            yield path, f"there are no {kind} in this folder"
