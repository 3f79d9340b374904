"""`Ensemble`: one team as an nn.Module and as a scikit-learn classifier."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from torch import Tensor, nn

from lrensemble.errors import UserError
from lrensemble.export.card import Card
from lrensemble.export.formats import FILES, read_module
from lrensemble.export.module import TeamModule
from lrensemble.export.team import team_module
from lrensemble.export.texts import TextTeam, read_team
from lrensemble.export.unit import Unit
from lrensemble.models import build_model
from lrensemble.pool import Pool, Team

ROWS = 256  # images of one forward pass


class Ensemble(nn.Module, ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A team that predicts.

    As a module, ``ensemble(rows)`` maps a tensor (B, *input_shape), in the unit of the data and not normalised (pixels
    from 0 to 255, for most images), to probabilities (B, classes), float32.

    As a classifier it has `predict`, `predict_proba`, `score` and `classes_`, for arrays (N, *input_shape), of images
    also (N, H, W, C) and (N, H, W), or flat (N, features). Labels are the numbers of the classes, as in the pool; their
    names are `class_names`. It is fitted; `fit` is not for it. It is always in eval mode.

    Pixels in another unit than training had (0 to 1 for 0 to 255, the other way round, normalised already) give wrong
    classes without an error: the first ones are warned of, once.

    Attributes
    ----------
    classes_ : (classes,) array of int
    class_names : tuple of str
    input_shape : of one row; (channels, height, width) of images
    card : Card or None
        What ``team.json`` says, of an exported team.
    """

    def __init__(
        self,
        module: nn.Module,
        class_names: tuple[str, ...],
        input_shape: tuple[int, ...],
        card: Card | None = None,
    ) -> None:
        super().__init__()
        self.module = module
        self.class_names, self.input_shape, self.card = tuple(class_names), tuple(input_shape), card
        self.classes_ = np.arange(len(class_names))
        self._unit = _unit(module, self.input_shape, card)  # None: not known, or warned of

    @classmethod
    def load(
        cls, path: str | Path, team: str | Team | None = None, *, format: str | None = None, trust: bool = False
    ) -> Self:
        """An exported team's folder, or a pool and the name of a team in it.

        Parameters
        ----------
        format : {"torch", "onnx", "safetensors"}, optional
            Which file of an exported team to run; default: the first of these that is there.
        trust : bool
            Models ``package.module:callable`` that a pool or a team's card names may be imported and called.

        Raises
        ------
        UserError
            Nothing of the kind is there, files are damaged, members are gone.
        """
        path = Path(path)
        if team is not None:
            pool = Pool.open(path)
            module = team_module(pool, pool.team(team) if isinstance(team, str) else team, trust=trust)
            return cls(module, pool.task.class_names, module.shape)
        if (path / "pool.json").is_file():
            names = ", ".join(team.name for team in Pool.open(path).teams) or "none yet: lrensemble select"
            raise UserError(f"{path} is a pool: say which team of it (it has {names})")
        card = Card.read(path)
        if card.preprocessing.text is not None:
            return cls(_of_texts(card, path, trust), card.class_names, (), card)
        there = [name for name, file in FILES.items() if (path / file).is_file()]
        if not there or (format is not None and format not in there):
            raise UserError(f"{path} holds no team as {format or ' or '.join(FILES)} (but: {', '.join(there) or '-'})")
        chosen = format or there[0]
        file = path / FILES[chosen]
        card.check_file(file)
        empty = _empty(card, file.stat().st_size, trust) if chosen == "safetensors" else None
        return cls(read_module(chosen, file, empty), card.class_names, card.preprocessing.input_shape, card)

    def train(self, mode: bool = True) -> Self:
        """Nothing: an ensemble predicts, so dropout and batch norm stay as they are."""
        return self

    def forward(self, rows: Tensor) -> Tensor:
        if not rows.ndim or tuple(rows.shape[1:]) != self.input_shape:
            raise ValueError(f"rows must be (B, {', '.join(map(str, self.input_shape))}), not {tuple(rows.shape)}")
        values = rows.float()
        if self._unit and values.numel() and not torch.compiler.is_compiling():
            least, most = values.aminmax()
            if text := self._unit.warning(float(least), float(most), rows.is_floating_point()):
                warnings.warn(text, stacklevel=2)
                self._unit = None
        probabilities: Tensor = self.module(values)
        return probabilities

    # As a classifier

    def fit(self, X: Any, y: Any = None) -> Self:
        """An ensemble is fitted already: this raises `UserError`."""
        raise UserError("an Ensemble is fitted already (lrensemble train and select do that); it only predicts")

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict_proba(self, X: ArrayLike | Tensor) -> NDArray[np.float32]:
        """Probabilities (N, classes), float32. A team for texts takes texts, or questions with their choices."""
        if isinstance(self.module, TextTeam):
            return self.module.predict(X)  # type: ignore[arg-type]
        rows = self._rows(X)
        device = next(self.module.buffers(), torch.empty(0)).device
        with torch.inference_mode():
            parts = [self(part.to(device)).cpu() for part in torch.split(rows, ROWS)]
        return np.concatenate([part.numpy() for part in parts]) if parts else np.empty((0, len(self.classes_)), "f4")

    def predict(self, X: ArrayLike | Tensor) -> NDArray[np.int64]:
        """The class with the most probability, ties to the lower one: (N,)."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(1)])

    def _rows(self, X: ArrayLike | Tensor) -> Tensor:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*NumPy array is not writable")  # it is only read
            rows = X.detach() if isinstance(X, Tensor) else torch.from_numpy(np.ascontiguousarray(X))
        shape, wanted = tuple(rows.shape), self.input_shape
        if shape[1:] == wanted and shape:
            return rows
        if len(wanted) == 3 and wanted[0] == 1 and shape[1:] == wanted[1:]:
            return rows[:, None]
        if len(wanted) == 3 and shape[1:] == (*wanted[1:], wanted[0]):
            return rows.permute(0, 3, 1, 2)
        if len(shape) == 2 and shape[1] == math.prod(wanted):
            return rows.reshape(-1, *wanted)
        raise ValueError(f"rows of shape {shape}: (N, {', '.join(map(str, wanted))}) or the like are needed")


def _unit(module: nn.Module, input_shape: tuple[int, ...], card: Card | None) -> Unit | None:
    """Of the images that a team was trained on; None for other rows, and where the module alone prepares them."""
    if len(input_shape) != 3:
        return None
    if card is not None:
        return Unit.of(card.preprocessing)
    if isinstance(module, TeamModule):
        return Unit.about(module.mean.flatten().tolist(), module.std.flatten().tolist())
    return None


def _of_texts(card: Card, path: Path, trust: bool) -> TextTeam:
    assert card.preprocessing.text is not None
    for name in card.files:
        card.check_file(path / name)
    members = [(m.id, m.model, m.weight, m.temperature) for m in card.members]
    return read_team(card.preprocessing.text, path, card.class_names, members, card.vote, trust)


def _empty(card: Card, size: int, trust: bool) -> TeamModule:
    """A module like the exported one, with random weights; `size` is that of the file with the right ones."""
    shape, classes = card.preprocessing.input_shape, len(card.class_names)
    with torch.random.fork_rng(devices=[]):
        models = [
            build_model(
                **m.model.build,
                input_shape=shape,
                num_classes=classes,
                trust=trust,
                weight_bytes=size,
                pretrained=False,  # all of them are in the file
            )
            for m in card.members
        ]
    return TeamModule(
        models,
        [m.weight for m in card.members],
        card.vote,
        [m.temperature for m in card.members],
        mean=card.preprocessing.mean,
        std=card.preprocessing.std,
        shape=shape,
        classes=classes,
        choices=card.choices,
    )
