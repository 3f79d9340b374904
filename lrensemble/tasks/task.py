"""A task: the rows of three splits, and what a batch of them means."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset, default_collate

from lrensemble.array import Array
from lrensemble.errors import UserError
from lrensemble.tabular import Column
from lrensemble.tasks.labels import lacking_classes
from lrensemble.tasks.losses import row_losses
from lrensemble.tasks.row_arrays import Picked, pieces

Arrays = Mapping[str, Array | Picked]  # of one split: "y" (N,) and the inputs, by name; the first dimension is the row
Batch = dict[str, Tensor]  # the same rows as tensors
SPLITS = ("train", "val", "test")


class TrainingOptions(Protocol):
    """What a task may ask about the training of a member (`lrensemble.pool.Training` has it)."""

    @property
    def augment(self) -> Sequence[Any]: ...
    @property
    def cutout(self) -> int: ...
    @property
    def mixup(self) -> float: ...
    @property
    def label_smoothing(self) -> float: ...
    @property
    def loss(self) -> Any: ...


class Task:
    """What members are trained for. A subclass has at least `class_names`, `facts` and `split`.

    Everything that trains, evaluates or exports asks the task: a loss and "the highest score is the prediction" are
    written nowhere else.

    Attributes
    ----------
    class_names : tuple of str
    facts : dict
        What the builder of a model may ask for: ``input_shape``, ``num_classes``, ...
    metrics : dict of str to callable
        What evaluations and reports have beside accuracy and NLL, and selection can optimise: functions of
        probabilities (N, C) and labels (N,), higher is better, or `lrensemble.register_metric` of them. Of one that
        can be imported, other processes know the name ``package.module:function``.
    notes : tuple of str
        What of the data people should know before they train. Default: the classes that splits lack.
    eval_rows : int
        Most rows of a forward pass without gradients, where rows are large.
    columns : tuple of Column
        How the cells of a CSV file become the features of ``x``, where they do: an exported team reads files by it.
    """

    class_names: tuple[str, ...]
    facts: Mapping[str, Any]
    metrics: Mapping[str, Callable[[Array, Array], float]] = {}
    columns: tuple[Column, ...] = ()
    eval_rows: int = 2**31

    def split(self, name: str) -> Arrays | Dataset[Any]:
        """All rows of ``train``, ``val`` or ``test``, in a fixed order: ``y`` (N,) int64, and the inputs by name.

        Or a map-style dataset of items that `collate` makes batches of, read anew in every epoch.
        """
        raise NotImplementedError(f"{type(self).__name__}.split must give the rows of {name!r}")

    # Left alone by most

    @cached_property
    def notes(self) -> tuple[str, ...]:
        return tuple(lacking_classes({name: self.labels(name) for name in SPLITS}, self.class_names))

    def inputs(self) -> nn.Module | None:
        """From the raw ``x`` of a row to what the model takes; put in front of the model on export. None: as it is."""
        return None

    def collate(self, items: list[Any]) -> Batch:
        """A batch of the items of a map-style dataset: (x, y) pairs, or dicts of tensors."""
        batch = default_collate(items)
        if isinstance(batch, Mapping):
            return dict(batch)
        if isinstance(batch, Tensor) or len(batch) != 2:
            what = "one tensor" if isinstance(batch, Tensor) else f"{len(batch)} things"
            raise UserError(f"an item of the dataset is {what}: a pair (x, y) or a dict with 'y' is needed")
        return {"x": batch[0], "y": batch[1]}

    def augment(self, batch: Batch, training: TrainingOptions) -> Batch:
        """Change a batch of training rows, from torch's global random state (seeded per member and epoch)."""
        if training.augment or training.cutout or training.mixup:
            raise UserError(f"training.augment, cutout and mixup are for images: {type(self).__name__} takes none")
        return batch

    def scores(self, model: Callable[..., Tensor], batch: Batch) -> Tensor:
        """Scores (B, C) of a batch; their softmax is the prediction."""
        return model(batch["x"])

    def loss(
        self, model: Callable[..., Tensor], batch: Batch, training: TrainingOptions
    ) -> tuple[Tensor, Tensor | None]:
        """The loss of every row (B,), and the scores (B, C) that it comes from.

        None in place of scores, where the loss is not made of them: the history has no training accuracy then.
        """
        scores = self.scores(model, batch)
        return row_losses(scores, batch, training, self.class_counts), scores

    def initialise(self, model: nn.Module, batch: Batch) -> None:
        """Change the weights of a new model by what it will see: a batch of training rows, the same for one seed."""

    def choices(self, name: str) -> NDArray[np.bool] | None:
        """Multiple choice: which classes the rows of a split have, (N, C). None: all rows have all."""
        return None

    def measure(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        """What else a model does with each row, by name (B,): its mean over validation rows is in the history."""
        return {}

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @cached_property
    def class_counts(self) -> tuple[int, ...]:
        """Training rows of every class."""
        return tuple(np.bincount(self.labels("train"), minlength=self.num_classes).tolist())

    def rows(self, name: str) -> int:
        """How many rows a split has."""
        return len(self.labels(name))

    def labels(self, name: str) -> NDArray[np.int64]:
        """(N,)."""
        split = self.split(name)
        if not isinstance(split, Mapping):
            raise NotImplementedError(f"{type(self).__name__}.labels must give the labels of the dataset of {name!r}")
        if "y" not in split:
            raise UserError(f"{type(self).__name__}: {name} has no labels: 'y' is missing (it has {', '.join(split)})")
        return np.asarray(split["y"])

    @cached_property
    def fingerprint(self) -> str:
        """Hash of every value, label and class name in row order: equal only if predictions are comparable."""
        splits = [self.split(name) for name in SPLITS]
        if not all(isinstance(split, Mapping) for split in splits):
            raise NotImplementedError(f"{type(self).__name__}.fingerprint must tell its rows from any others")
        return fingerprint_of(self.class_names, [split for split in splits if isinstance(split, Mapping)])


def check_kinds(task: Task, name: str) -> None:
    """Raise `UserError` where what a task says of itself is missing or of another kind."""
    for attribute, kind, words in (
        ("class_names", tuple | list, "a tuple of names"),
        ("facts", Mapping, "a dict of what models ask for"),
        ("metrics", Mapping, "a dict of functions by their names"),
    ):
        value = getattr(task, attribute, None)
        if not isinstance(value, kind):
            raise UserError(f"task {name}: {attribute} = {value!r:.60}: {words} is needed")


def fingerprint_of(class_names: tuple[str, ...], splits: Iterable[Arrays]) -> str:
    """Hash of all values of all splits in row order."""
    digest = hashlib.sha256(repr(class_names).encode())
    for split in splits:
        for key, array in split.items():
            known = "" if key in ("x", "y") else key  # images have been hashed without names from the beginning
            digest.update(f"{known}{array.dtype.str}{array.shape}".encode())
            for piece in pieces(array):
                digest.update(piece.data)
    return digest.hexdigest()[:32]


def right_rows(scores: Tensor, y: Tensor) -> Tensor:
    """Whether the class with the highest score (ties: the lower class) is the right one: (..., C), (...) -> (...)."""
    return scores.argmax(-1) == y
