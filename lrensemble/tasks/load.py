"""Any task by name: a data set of ours, or a class of the user's own."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
from pydantic import ValidationError, validate_call

from lrensemble.errors import UserError
from lrensemble.own import calling, current_folder, is_own, load_own
from lrensemble.plugins import Registry
from lrensemble.tasks.events.task import EVENTS
from lrensemble.tasks.labels import check_classes, checked_labels
from lrensemble.tasks.row_arrays import Picked
from lrensemble.tasks.sources import SOURCES, load_images
from lrensemble.tasks.table import TABLES
from lrensemble.tasks.task import SPLITS, Task, check_kinds
from lrensemble.tasks.text import TEXTS

OBJECTS: dict[str, Task] = {}  # given by a Python program, by their names


_OURS: dict[str, Callable[..., Task]] = {name: functools.partial(load_images, name) for name in SOURCES}
LOADERS: dict[str, Callable[..., Task]] = {**TABLES, **EVENTS, **TEXTS}
TASKS: Registry[Callable[..., Task]] = Registry("tasks", "task", {**_OURS, **LOADERS})
register_task = TASKS.register


def is_known(name: str) -> bool:
    """Whether `load_task` can be asked for it."""
    return name in OBJECTS or is_own(name) or name in TASKS


def options_of(name: str) -> Collection[str] | None:
    """The options that a task of ours takes beside those of images; None: whatever its class has parameters for."""
    if name in LOADERS:
        return inspect.signature(LOADERS[name]).parameters
    return ("test_fraction",) if name == "digits" else () if name in SOURCES else None


def check_known(name: str) -> None:
    """Raise `UserError`, with the nearest name, where `load_task` cannot be asked for it."""
    if not is_known(name):
        raise UserError(f"unknown data set {name!r}: {TASKS.hint(name)} or package.module:Class")
    if name in TASKS:
        TASKS.find(name)


def name_of(task: Task) -> str:
    """The name of a task given as an object, by which `load_task` has it in this process."""
    check_task(task, type(task).__name__)
    name = f"{type(task).__name__}-{task.fingerprint[:8]}"
    OBJECTS[name] = task
    return name


def load_task(name: str, **options: Any) -> Task:
    """Load a task: images by a name in `SOURCES`, others by one in `LOADERS`, or a class called with the options.

    The class is one of `register_task`, of an installed package (entry point ``lrensemble.tasks``), or
    ``package.module:Class``. The name is the user's: what it names is imported and called.

    Parameters
    ----------
    options
        Those of `load_images` or of the table (`lrensemble.tasks.table`), or what the class has parameters for.

    Raises
    ------
    UserError
        Unknown name or options, a class that cannot be imported or is no task, and what its rows lack.
    """
    if name in OBJECTS:
        return OBJECTS[name]
    check_known(name)
    if name in SOURCES:
        return _called(load_images, {"name": name, **options})
    given = {
        key: value
        for key, value in options.items()
        if value is not None and value is not False and (key, value) != UNSPLIT  # 0 is a value
    }
    if name in LOADERS:
        return _called(LOADERS[name], given)
    with current_folder():
        made = load_own(name, "task") if is_own(name) else TASKS.find(name)
        with calling(f"task {name}"):
            task = made(**given)
    check_task(task, name)
    return task


def _called(loader: Callable[..., Task], options: Mapping[str, Any]) -> Task:
    """What a loader makes of options that may be a file's."""
    try:
        return validate_call(loader)(**options)
    except ValidationError as error:
        first = error.errors()[0]
        problem = {
            "unexpected_keyword_argument": "it has no use for that",
            "missing_keyword_only_argument": "it is needed",
        }.get(first["type"], first["msg"])
        raise UserError(f"data.{first['loc'][0]}: {problem}") from None


UNSPLIT = ("split_seed", 0)  # of a configuration that does not say it


def check_task(task: object, name: str) -> None:
    """Raise `UserError` for a task that cannot be trained for: no labels, other numbers of rows, classes that are none.

    Only what is cheap is looked at: the shapes, and the labels.
    """
    if not isinstance(task, Task):
        raise UserError(f"task {name} is {type(task).__name__}, a lrensemble.Task is needed")
    check_kinds(task, name)
    with calling(f"task {name}"):
        splits = {split: task.split(split) for split in SPLITS}
        labels = {split: task.labels(split) for split in SPLITS}
    for split, y in labels.items():
        where, rows = f"task {name}, {split}", splits[split]
        for key, array in rows.items() if isinstance(rows, Mapping) else ():
            if not isinstance(array, np.ndarray | Picked) or array.dtype.kind not in "fiub":
                kind = getattr(array, "dtype", "") if isinstance(array, np.ndarray) else type(array).__name__
                raise UserError(f"{where}: {key} is {kind}: a NumPy array of numbers is needed")
        if checked_labels(y, where).shape != y.shape:
            raise UserError(f"{where}: labels of shape {y.shape}: (N,) is needed, one whole number a row")
        sized: Any = rows if isinstance(rows, Mapping) else {"the dataset": rows}
        for key, array in sized.items():
            if len(array) != len(y):
                raise UserError(f"{where}: {len(array)} rows of {key}, but {len(y)} labels")
    check_classes(labels, task.class_names, f"task {name}: ")
