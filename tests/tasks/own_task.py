"""A task and a model of a user's own, as the tests import them: two moons, with another loss and a metric."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.datasets import make_moons
from torch import Tensor, nn

from lrensemble.tasks import Batch, Task


def g_mean(probabilities: Any, labels: Any) -> float:
    return float(np.sqrt(np.prod([(probabilities.argmax(1) == c)[labels == c].mean() for c in (0, 1)])))


class Moons(Task):
    class_names = ("upper", "lower")
    metrics: ClassVar = {"g_mean": g_mean}

    def __init__(self, noise: float = 0.2, rows: int = 300) -> None:
        self.facts = {"num_classes": 2, "features": 2}
        self._splits = {}
        for seed, name in enumerate(("train", "val", "test")):
            x, y = make_moons(rows, noise=noise, random_state=seed)
            self._splits[name] = {"place": x.astype(np.float32), "y": y.astype(np.int64)}

    def split(self, name: str) -> dict[str, Any]:
        return self._splits[name]

    def scores(self, model: Any, batch: Batch) -> Tensor:
        return model(batch["place"])

    def loss(self, model: Any, batch: Batch, training: Any) -> tuple[Tensor, Tensor | None]:
        scores = self.scores(model, batch)
        return nn.functional.multi_margin_loss(scores, batch["y"], reduction="none"), scores


class NoLabels(Moons):
    def split(self, name: str) -> dict[str, Any]:
        return {"place": self._splits[name]["place"]}


class Short(Moons):
    def split(self, name: str) -> dict[str, Any]:
        return {**self._splits[name], "y": self._splits[name]["y"][:-1]}


class Column(Moons):
    def split(self, name: str) -> dict[str, Any]:
        return {**self._splits[name], "y": self._splits[name]["y"][:, None]}


class Unlearnt(Moons):
    """Train has one class only."""

    def split(self, name: str) -> dict[str, Any]:
        rows = self._splits[name]
        return {**rows, "y": rows["y"] * (name != "train")}


class WideScores(Moons):
    def scores(self, model: Any, batch: Batch) -> Tensor:
        return torch.cat([super().scores(model, batch)] * 2, 1)


class Dropping(Moons):
    """Half of a batch is left out by its augmentation."""

    def augment(self, batch: Batch, training: Any) -> Batch:
        return {key: value[::2] for key, value in batch.items()}


METHODS = ("split", "inputs", "augment", "scores", "loss", "initialise", "measure")


class Raising(Moons):
    """It raises where it is told to, or when it is made."""

    def __init__(self, at: str = "") -> None:
        if at not in METHODS:
            raise ValueError("no rows in x")
        super().__init__()

        def fails(*arguments: Any) -> Any:
            raise KeyError(at)

        setattr(self, at, fails)


class Giving(Moons):
    """What it gives is None, and its rows are lists."""

    def __init__(self, what: str) -> None:
        super().__init__()
        rows = {name: {key: array.tolist() for key, array in split.items()} for name, split in self._splits.items()}
        instead = rows.get if what == "split" else (lambda *arguments: None) if what in METHODS else None
        setattr(self, what, instead)


class NoTask:
    pass


class Net(nn.Module):
    def __init__(self, features: int, width: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(features, width), nn.Tanh(), nn.Linear(width, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(torch.atleast_2d(x))
