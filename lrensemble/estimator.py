"""`LREnsembleClassifier`: a pool, a selection and the team's vote as a classifier of scikit-learn."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from lrensemble.array import Array
from lrensemble.errors import UserError
from lrensemble.export.ensemble import Ensemble
from lrensemble.pool import Pool
from lrensemble.pool.select import select_teams
from lrensemble.tasks import ArrayTask
from lrensemble.tasks.load import OBJECTS
from lrensemble.training import load_config, make_plan, train_pool

POLICIES = ("COS(k0=[0.02, 0.1], l=100%)", "FIX(k0=[0.01, 0.05])")


class LREnsembleClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Networks trained under several learning-rate policies, and the team of them that does best on rows held out.

    Parameters
    ----------
    policies : str or sequence of str
        LR policies, one network each and for each seed.
    model : str, dict, class, function or Module
        A name, ``{"name": "mlp", "hidden": [64, 64]}``, or what makes a module of ``input_shape`` and ``num_classes``.
    optimizer : str or dict, optional
        As in a configuration. Default: SGD with momentum 0.9.
    epochs, batch_size : int
        Batches are of all rows where there are fewer.
    seeds : int
        Networks of every policy.
    selector : str
        Who chooses the team (`lrensemble select --help`).
    val_fraction : float
        Share of the rows that selection sees and training does not.
    training : dict, optional
        More of a configuration's ``training``: ``{"loss": "focal"}``.
    pool : path, optional
        Folder for the pool, which then stays: with the same rows and parameters, what is there is not trained again.
        A quarter of the rows is held out of it as the test split of ``lrensemble evaluate`` and ``report``. Default: a
        temporary folder, and no test split.
    threads : int
        For all of it: more do not pay for networks as small as those of most tables.
    devices : str
        ``auto``, ``cpu``, ``cuda``, ...
    random_state : int, RandomState instance or None
        Of weights, orders of rows and the split.

    Attributes
    ----------
    classes_ : (classes,) array, as in y
    n_features_in_ : int
    feature_names_in_ : (features,) array of str, where X has names of columns
    ensemble_ : Ensemble
        The team: an `nn.Module` of rows as they are in X, with its own standardisation.
    """

    def __init__(
        self,
        policies: str | Sequence[str] = POLICIES,
        *,
        model: Any = "mlp",
        optimizer: str | dict[str, Any] | None = None,
        epochs: int = 50,
        batch_size: int = 32,
        seeds: int = 1,
        selector: str = "greedy",
        val_fraction: float = 0.25,
        training: dict[str, Any] | None = None,
        pool: str | Path | None = None,
        threads: int = 1,
        devices: str = "auto",
        random_state: Any = None,
    ) -> None:
        self.policies = policies
        self.model = model
        self.optimizer = optimizer
        self.epochs = epochs
        self.batch_size = batch_size
        self.seeds = seeds
        self.selector = selector
        self.val_fraction = val_fraction
        self.training = training
        self.pool = pool
        self.threads = threads
        self.devices = devices
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Train the pool on a part of the rows and select the team on the rest.

        Raises
        ------
        ValueError
            Rows that are no finite numbers, labels that are no classes, fewer than two classes, too few rows; options
            that are not possible.
        """
        X, y = validate_data(self, X, y, dtype=np.float32)
        check_classification_targets(y)
        self.classes_, numbers = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("there is one class only, and two are needed")
        random = check_random_state(self.random_state)
        if not 0 < self.val_fraction < 1:
            raise ValueError(f"val_fraction={self.val_fraction} is not possible: a share above 0 and below 1 is needed")
        splits = self._splits(X, numbers, random)
        before = set(OBJECTS)
        try:
            task = ArrayTask(*splits, class_names=[str(name) for name in self.classes_], standardise=True)
            with tempfile.TemporaryDirectory() as folder:
                self.ensemble_ = self._team(task, int(random.randint(2**20)), Path(self.pool or f"{folder}/pool"))
        except UserError as error:
            raise ValueError(str(error)) from None
        finally:
            for name in OBJECTS.keys() - before:  # the rows need not stay in memory
                del OBJECTS[name]
        return self

    def _splits(self, X: Array, y: Array, random: np.random.RandomState) -> list[tuple[Array, Array]]:
        """Train, validation and test rows; of a pool that does not stay, nobody looks at the last."""
        rest = np.arange(len(y))
        held = []
        for share in (0.25 if self.pool is not None else 0.0, self.val_fraction):
            off = _held_out(y[rest], share, random)
            held.append(rest[off])
            rest = np.delete(rest, off)
        test, val = held
        if not len(val):
            raise ValueError(f"n_samples={len(y)} are too few to hold val_fraction={self.val_fraction} of them out")
        return [(X[rows], y[rows]) for rows in (rest, val, test if len(test) else val[:1])]

    def _team(self, task: ArrayTask, seed: int, folder: Path) -> Ensemble:
        named = isinstance(self.model, str | dict)
        config = {
            "name": "classifier",
            **({"model": self.model} if named else {}),
            "optimizer": self.optimizer or {"name": "SGD", "momentum": 0.9},
            "training": {
                "epochs": self.epochs,
                "batch_size": min(self.batch_size, task.rows("train")),
                **(self.training or {}),
            },
            "policies": [self.policies] if isinstance(self.policies, str) else list(self.policies),
            "seeds": [seed + i for i in range(self.seeds)],
        }
        wanted = load_config(config, task=task, model=None if named else self.model)
        plan = make_plan(wanted, folder)
        kept = Pool.open(folder) if (folder / "pool.json").exists() else None
        same = kept is not None and kept.task.data_fingerprint == task.fingerprint  # else train_pool says it
        if kept and same and {member.id for member in kept.members} - set(plan.ids):
            raise UserError(f"{folder} holds members of other parameters: give another folder for these")
        pool = train_pool(plan, threads=self.threads, devices=self.devices, progress=False)
        (team,) = select_teams(pool, [self.selector])
        return Ensemble.load(pool.path, team, trust=True)  # the models are those of the arguments

    def predict_proba(self, X: Any) -> Array:
        """Probabilities (N, classes), in the order of `classes_`."""
        check_is_fitted(self)
        return self.ensemble_.predict_proba(validate_data(self, X, reset=False, dtype=np.float32))

    def predict(self, X: Any) -> Array:
        """The most probable class (N,)."""
        check_is_fitted(self)
        return np.asarray(self.classes_[self.predict_proba(X).argmax(1)])


def _held_out(y: Array, share: float, random: np.random.RandomState) -> Array:
    """Numbers of about that share of the rows, spread over the classes; one row of every class is never among them."""
    order = np.lexsort((random.permutation(len(y)), y))
    free = np.delete(order, np.unique(y[order], return_index=True)[1])
    count = min(len(free), max(1, round(share * len(y)))) if share else 0
    return free[((np.arange(count) + 0.5) * len(free) / max(1, count)).astype(np.int64)]
