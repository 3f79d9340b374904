"""The task of classifying rows of any numbers: tabular features, or whatever tensors a model takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import default_collate

from lrensemble.array import Array
from lrensemble.errors import UserError
from lrensemble.own import calling
from lrensemble.tasks.inputs import Normalise
from lrensemble.tasks.labels import check_classes, checked_labels, numbered_classes
from lrensemble.tasks.rows import check_rows
from lrensemble.tasks.task import Arrays, Batch, Task, TrainingOptions, check_kinds, fingerprint_of

Loss = Callable[[Tensor, Tensor], Tensor]  # of scores (B, C) and classes (B,): one number a row (B,)
Rows = Mapping[str, Any] | Sequence[Any] | TorchDataset[Any]


class ArrayTask(Task):
    """Rows that are given: arrays, tensors or torch datasets, and optionally a loss and metrics of your own.

    Parameters
    ----------
    train, val, test : (x, y), dict of arrays with ``y``, or a map-style torch Dataset of (x, y)
        Inputs (N, ...) and classes (N,), whole numbers from 0. A Dataset for train is read anew in every epoch, so that
        what it does at random goes on; those of val and test are read once.
    class_names : sequence of str, optional
        Default: as many classes as the labels have, by their numbers.
    standardise : bool, optional
        Subtract the mean of every feature (or channel) of train and divide by its deviation. Default: where ``x`` is
        floating point.
    loss : callable, optional
        Of scores (B, C) and classes (B,), one number a row. Default: what ``training.loss`` says.
    metrics : dict of str to callable, optional
        As in `Task`.

    Raises
    ------
    UserError
        Rows without labels, other numbers of rows than of labels, labels that are no classes, values that are not
        finite, splits of other shapes.
    """

    def __init__(
        self,
        train: Rows,
        val: Rows,
        test: Rows,
        *,
        class_names: Sequence[str] | None = None,
        standardise: bool | None = None,
        loss: Loss | None = None,
        metrics: Mapping[str, Callable[[Array, Array], float]] | None = None,
    ) -> None:
        self._items = train if isinstance(train, TorchDataset) else None
        given = {"train": train, "val": val, "test": test}
        self._arrays = {name: checked_arrays(name, rows, self.collate) for name, rows in given.items()}
        labels = {name: arrays["y"] for name, arrays in self._arrays.items()}
        self.class_names = tuple(map(str, numbered_classes(labels["train"]) if class_names is None else class_names))
        check_classes(labels, self.class_names)
        first = {name: {k: a.shape[1:] for k, a in arrays.items()} for name, arrays in self._arrays.items()}
        for name in ("val", "test"):
            if first[name] != first["train"]:
                raise UserError(f"rows of {name} have the shapes {first[name]}, those of train {first['train']}")
        x = self._arrays["train"].get("x")
        standardise = (x is not None and x.dtype.kind == "f") if standardise is None else standardise
        if standardise and (x is None or self._items is not None):
            standardise = False  # a Dataset makes its rows what they are to be
        self._standardise = standardise
        if not (loss is None or callable(loss)):
            raise UserError(f"loss = {loss!r:.60} is no function: one of ours has its name in training.loss")
        self._loss = loss
        self.metrics = {} if metrics is None else metrics
        shape = {} if x is None else {"input_shape": tuple(x.shape[1:])}
        self.facts = {**shape, "num_classes": len(self.class_names)}
        check_kinds(self, type(self).__name__)

    def split(self, name: str) -> Arrays | TorchDataset[Any]:
        """The rows; of train the Dataset, where it is one."""
        return self._items if name == "train" and self._items is not None else self._arrays[name]

    def labels(self, name: str) -> Array:
        """(N,)."""
        return self._arrays[name]["y"]

    def inputs(self) -> nn.Module | None:
        """Standardisation, if it is wanted."""
        return Normalise(*self._moments, self.facts["input_shape"]) if self._standardise else None

    @cached_property
    def _moments(self) -> tuple[list[float], list[float]]:
        """Mean and deviation of every feature over train."""
        x = self._arrays["train"]["x"]
        axes = (0, *range(2, x.ndim))
        mean, deviation = x.mean(axes, dtype=np.float64), x.std(axes, dtype=np.float64)
        constant = deviation <= 1e-7 * np.abs(mean)  # up to rounding: becomes 0, and what differs later is not huge
        return mean.tolist(), np.where(constant, 1.0, deviation).tolist()

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all rows; of a train Dataset, which may change its rows at random, of its labels alone."""
        train = self._arrays["train"]
        splits = [train if self._items is None else {"y": train["y"]}, self._arrays["val"], self._arrays["test"]]
        return fingerprint_of(self.class_names, splits)

    def loss(
        self, model: Callable[..., Tensor], batch: Batch, training: TrainingOptions
    ) -> tuple[Tensor, Tensor | None]:
        if self._loss is None:
            return super().loss(model, batch, training)
        if training.loss.name != "cross_entropy" or training.loss.parameters or training.label_smoothing:
            raise UserError("training.loss and label_smoothing change nothing: the task has a loss of its own")
        scores = self.scores(model, batch)
        return self._loss(scores, batch["y"]), scores


def checked_arrays(name: str, rows: Rows, collate: Callable[[list[Any]], Batch] = default_collate) -> dict[str, Array]:
    """Arrays of a split, checked; the items of a Dataset are read once."""
    if isinstance(rows, TorchDataset):
        with calling(f"{name}: len() of the Dataset"):
            count = len(rows)  # type: ignore[arg-type]
        with calling(f"{name}: reading the Dataset"):
            items = [rows[i] for i in range(count)]
        with calling(f"{name}: collate of the items"):
            batch = collate(items) if count else {}
        check_rows(batch, count, name)
        rows = {key: value.numpy() for key, value in batch.items()}
    if not isinstance(rows, Mapping):
        if not hasattr(rows, "__len__") or len(rows) != 2:
            what = f"{len(rows)} things" if hasattr(rows, "__len__") else type(rows).__name__
            raise UserError(f"{name}: (x, y) is needed: inputs and labels, not {what}")
        rows = {"x": rows[0], "y": rows[1]}
    arrays = {key: _array(name, key, value) for key, value in rows.items()}
    if "y" not in arrays:
        raise UserError(f"{name} has no labels: 'y' is missing (there are: {', '.join(arrays) or 'nothing'})")
    arrays["y"] = y = checked_labels(arrays["y"], name)
    for key, array in arrays.items():
        if not array.ndim or len(array) != len(y):
            raise UserError(f"{name}: {len(array)} rows of {key}, but {len(y)} labels")
    return arrays


def _array(name: str, key: str, value: Any) -> Array:
    try:
        array = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value)
    except ValueError:
        raise UserError(f"{name}: the rows of {key} are of different lengths") from None
    if array.dtype.kind not in "fiub":
        fix = ": classes, classes_by_number = np.unique(y, return_inverse=True)" if key == "y" else ""
        raise UserError(f"{name}: {key} holds {array.dtype}, numbers are needed{fix}")
    if array.dtype.kind == "f":
        array = array.astype(np.float32, copy=False)
        if not np.isfinite(array).all():
            row = int(np.argmax(~np.isfinite(array).reshape(len(array), -1).all(1)))
            raise UserError(f"{name}: {key} of row {row} is not finite")
    return np.ascontiguousarray(array)
