"""Rows of any numbers: tabular data, torch datasets, own losses; and every way to give them wrongly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler
from torch.utils.data import Dataset, TensorDataset

from lrensemble import UserError
from lrensemble.tasks.arrays import ArrayTask
from lrensemble.tasks.rows import DeviceData
from lrensemble.training.loop import Run, fit
from lrensemble.training.plan import _try
from tests.training.runs import CPU, assert_equal, specs_of

X, Y = load_breast_cancer(return_X_y=True)
SPLITS = [(X[a:b], Y[a:b]) for a, b in ((0, 400), (400, 480), (480, 569))]


def trained(task: ArrayTask, **engine):
    [spec] = specs_of(["FIX(0.05)"], "training.epochs=4")
    return fit(Run(spec, "id", DeviceData.of(task, CPU, **engine)))


def test_tabular_rows_are_standardised_and_learnt():
    task = ArrayTask(*SPLITS)
    assert dict(task.facts) == {"input_shape": (30,), "num_classes": 2}
    rows = DeviceData.of(task, CPU).val.arrays["x"]
    np.testing.assert_allclose(rows, StandardScaler().fit(X[:400]).transform(X[400:480]), rtol=1e-3, atol=1e-4)
    outcome = trained(task)
    assert outcome.history[-1]["val_accuracy"] > 0.9
    assert_equal(outcome, trained(task, stream=True))


def test_a_dataset_is_read_anew_in_every_epoch():
    class Noisy(Dataset):
        reads = 0

        def __len__(self) -> int:
            return 400

        def __getitem__(self, i: int):
            Noisy.reads += 1
            return torch.tensor((X[i] - X.mean(0)) / X.std(0), dtype=torch.float32), int(Y[i])

    scaled = [((x - X.mean(0)) / X.std(0), y) for x, y in SPLITS]
    task = ArrayTask(Noisy(), scaled[1], scaled[2], standardise=False)
    before = Noisy.reads
    outcome = trained(task)
    assert outcome.history[-1]["val_accuracy"] > 0.9
    assert Noisy.reads - before >= 4 * (400 // 64) * 64
    kept = ArrayTask(scaled[0], scaled[1], scaled[2], standardise=False)
    assert outcome.history[-1]["val_loss"] == pytest.approx(trained(kept).history[-1]["val_loss"], rel=1e-4)


def test_a_loss_of_ones_own():
    def hinge(scores, y):
        return torch.nn.functional.multi_margin_loss(scores, y, reduction="none")

    assert trained(ArrayTask(*SPLITS, loss=hinge)).history[-1]["val_accuracy"] > 0.9


def test_the_fingerprint_knows_every_row():
    first = ArrayTask(*SPLITS).fingerprint
    assert first == ArrayTask(*[(torch.tensor(x), list(y)) for x, y in SPLITS]).fingerprint
    changed = [(x.copy(), y) for x, y in SPLITS]
    changed[1][0][3, 4] += 1
    assert first != ArrayTask(*changed).fingerprint
    assert first != ArrayTask(*SPLITS, class_names=("malignant", "benign")).fingerprint


@pytest.mark.parametrize(
    ("train", "words"),
    [
        ((X[:400],), "train: \\(x, y\\) is needed"),
        ({"x": X[:400]}, "train has no labels: 'y' is missing"),
        ((X[:400], Y[:399]), "train: 400 rows of x, but 399 labels"),
        (
            (X[:400], Y[:400] + 0.5),
            "labels must be one whole number .*: numbers to be predicted .regression. are no cl",
        ),
        ((X[:400], Y[:400] + 0.0), "labels must be one whole number .*: labels.astype.'int64'.$"),
        ((X[:400], Y[:400].astype(str)), "y holds <U.*, numbers are needed: .* = np.unique.y, return_inverse=True."),
        (([[1.0, 2.0], [1.0]], [0, 1]), "train: the rows of x are of different lengths"),
        (None, "train: .x, y. is needed: inputs and labels, not NoneType"),
        ((X[:400], Y[:400] - 1), "train labels run from -1 to 0"),
        ((X[:400], Y[:400] * 10**9), "a train label is 1000000000, but there are only 400 rows"),
        ((X[:400, :7], Y[:400]), "rows of val have the shapes"),
        ((np.where(X[:400] > 2000, np.nan, X[:400]), Y[:400]), "x of row \\d+ is not finite"),
        ((X[:400].astype(str), Y[:400]), "numbers are needed"),
        ((X[:0], Y[:0]), "train has no rows"),
    ],
)
def test_bad_rows_are_one_line(train, words):
    with pytest.raises(UserError, match=words):
        ArrayTask(train, *SPLITS[1:])


class Changing(TensorDataset):
    """A Dataset that has other rows than it had."""

    length = 400

    def __len__(self) -> int:
        return self.length


@pytest.mark.parametrize("length", [399, 410])
def test_a_dataset_whose_length_changes_is_one_line(length):
    items = Changing(torch.tensor(X[:400], dtype=torch.float32), torch.tensor(Y[:400]))
    task = ArrayTask(items, *SPLITS[1:])
    data = DeviceData.of(task, CPU)
    items.length = length
    with pytest.raises(UserError, match=f"the dataset of train has {length} items, but had 400 when it was loaded"):
        fit(Run(specs_of(["FIX(0.05)"])[0], "id", data))


class Dropping(ArrayTask):
    """Its collate leaves out what it does not like."""

    most = 1e9

    def collate(self, items):
        return super().collate([item for item in items if item[0][0] < self.most])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_collate_that_drops_rows_is_one_line(workers):
    items = TensorDataset(torch.tensor(X[:400], dtype=torch.float32), torch.tensor(Y[:400]))
    task = Dropping(items, *SPLITS[1:])
    data = DeviceData.of(task, CPU, loader_workers=workers)
    task.most = 20
    with pytest.raises(
        UserError, match=r"train: a batch of 64 rows has \d+ of x, \d+ of y: every item is one row"
    ) as e:
        fit(Run(specs_of(["FIX(0.05)"])[0], "id", data))
    assert "\n" not in str(e.value)


def test_a_collate_that_drops_rows_from_the_beginning(monkeypatch):
    monkeypatch.setattr(Dropping, "most", 20)
    items = TensorDataset(torch.tensor(X[:400], dtype=torch.float32), torch.tensor(Y[:400]))
    with pytest.raises(UserError, match=r"train: a batch of 400 rows has \d+ of x"):
        Dropping(items, *SPLITS[1:])


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (lambda i: (X[i], Y[i], i), "an item of the dataset is 3 things: a pair .x, y. or a dict"),
        (lambda i: X[i], "an item of the dataset is one tensor"),
        (lambda i: (X[i], "cat"), "train: y of a batch is tuple: a tensor is needed"),
        (lambda i: (X[i, : i % 2 + 1], Y[i]), "train: collate of the items raises RuntimeError: stack expects"),
        (lambda i: {}[i], r"train: reading the Dataset raises KeyError: 0 \(test_arrays.py, line \d+\)"),
    ],
)
def test_a_dataset_of_other_items_is_one_line(item, words):
    class Items(Dataset):
        def __len__(self):
            return 20

        def __getitem__(self, i):
            return item(i)

    with pytest.raises(UserError, match=words):
        ArrayTask(Items(), *SPLITS[1:])


def test_one_class_is_no_task():
    with pytest.raises(UserError, match="at least 2 classes"):
        ArrayTask(*[(x, y * 0) for x, y in SPLITS])


def test_a_class_that_train_lacks_is_one_line_and_one_that_test_lacks_is_said():
    train, val, (x, y) = [(x, y + (y == 0) * 2) for x, y in SPLITS]  # classes 1 and 2
    names = ("none", "benign", "malignant")
    kept = ArrayTask(train, val, (x[y == 1], y[y == 1]), class_names=names)
    assert kept.notes == ("no train row is of class none, but 3 are assumed", "no test row is of class malignant")
    with pytest.raises(UserError, match="test has rows of class malignant, but train has none"):
        ArrayTask((x[y == 1], y[y == 1]), (x[y == 1], y[y == 1]), (x, y), class_names=names)


@pytest.mark.parametrize(
    "change", ["loss=focal", "label_smoothing=0.1", "loss={name: cross_entropy, weights: balanced}"]
)
def test_options_of_a_loss_that_is_not_used_are_one_line(change):
    task = ArrayTask(*SPLITS, loss=torch.nn.CrossEntropyLoss(reduction="none"))
    with pytest.raises(UserError, match="change nothing: the task has a loss of its own"):
        _try(specs_of(["FIX(0.05)"], f"training.{change}")[0], task, 2, True, str)


def test_a_loss_is_a_function():
    with pytest.raises(UserError, match=r"loss = 'focal' is no function: one of ours has its name in training.loss"):
        ArrayTask(*SPLITS, loss="focal")


def test_a_loss_of_the_wrong_shape_is_one_line():
    for loss, words in (
        (lambda scores, y: scores.sum(), "the loss is \\(\\) for 2 rows"),
        (lambda scores, y: scores.sum(1) * torch.nan, "must be finite"),
        (lambda scores, y: None, "the loss is NoneType for 2 rows"),
        (lambda scores, y: scores.argmax(1) != y, "the loss has no gradient"),
        (lambda scores, y: scores.detach().sum(1), "the loss has no gradient"),
    ):
        with pytest.raises(UserError, match=words):
            _try(specs_of(["FIX(0.05)"])[0], ArrayTask(*SPLITS, loss=loss), 2, True, str)
