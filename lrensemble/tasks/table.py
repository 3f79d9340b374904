"""Tabular rows by name: a CSV file (or a folder of one a split), an .npz, or one of scikit-learn's own sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from lrensemble.array import Array
from lrensemble.errors import UserError, did_you_mean
from lrensemble.tabular import Cells, Column, encode, fit_columns, read_csv
from lrensemble.tasks.arrays import ArrayTask, checked_arrays
from lrensemble.tasks.dataset import Parts, Shares, cut_missing
from lrensemble.tasks.labels import few, in_order
from lrensemble.tasks.sources import read_npz
from lrensemble.tasks.splits import find_splits
from lrensemble.tasks.task import SPLITS


def load_table(
    *,
    root: Path,
    target: str | None = None,
    drop: Sequence[str] | str = (),
    val_fraction: float | None = None,
    test_fraction: float | None = None,
    split_seed: int = 0,
) -> ArrayTask:
    """Rows of features and a class.

    Parameters
    ----------
    root : Path
        A CSV file with names of columns; a folder of ``train.csv``, ``test.csv`` and optionally ``val.csv``; or an
        .npz with ``x`` and ``y``, or with ``train_x``, ``train_y`` and so on, and optionally ``class_names``.
    target : str
        The column of a CSV file that holds the class.
    drop : names of columns that are no features: numbers of rows, names, what is known only afterwards
    val_fraction, test_fraction : float, optional
        Shares that are cut off, stratified by class, where there is no such split: a quarter of all rows for test,
        always the same, and then a tenth of train for val.
    split_seed : int
        Seed of the cut of val.

    Raises
    ------
    UserError
        What cannot be read as rows and classes, and why.
    """
    path, shares = root.expanduser(), {"test": test_fraction, "val": val_fraction}
    if path.suffix.lower() == ".npz":
        if target is not None or drop:
            raise UserError(f"data.target and data.drop are columns of CSV files: the classes of {path} are in y")
        splits, class_names = _from_npz(path)
        return _of_arrays(splits, class_names, shares, split_seed, str(path))
    paths = {"train": path}
    if path.is_dir():
        stems, _ = find_splits(sorted(file.stem for file in path.glob("*.csv")), str(path))
        if lacking := [split for split in ("train", "test") if split not in stems]:
            raise UserError(f"data.root = {path}: there is no {lacking[0]}.csv")
        paths = {split: path / f"{stem}.csv" for split, stem in stems.items()}
    tables = {split: read_csv(file) for split, file in paths.items()}
    dropped = [drop] if isinstance(drop, str) else list(drop)
    if target is None:
        raise UserError(f"data.target must say which column of {path} is the class: {few(tables['train'])}")
    for what, name in [("target", target), *(("drop", name) for name in dropped)]:
        if name not in tables["train"]:
            raise UserError(f"data.{what} = {name}: no such column in {path}: {did_you_mean(name, tables['train'])}")
    labels, class_names = _classes(tables, target, paths)
    parts: Parts = {split: (split, np.arange(len(y))) for split, y in labels.items()}
    cut_missing(parts, labels, shares, split_seed, path)
    cells = {
        split: {name: [column[i] for i in rows] for name, column in tables[source].items()}
        for split, (source, rows) in parts.items()
    }
    features = {name: column for name, column in cells["train"].items() if name not in (target, *dropped)}
    columns = fit_columns(features, path)
    task = ArrayTask(
        *(
            (encode(cells[split], columns, paths[source]), labels[source][rows])
            for split, (source, rows) in ((split, parts[split]) for split in SPLITS)
        ),
        class_names=class_names,
    )
    notes = []
    if empty := features.keys() - {column.name for column in columns}:
        notes.append(f"{path}: left out, as they have no value: {few(sorted(empty))}")
    gaps = {c.name: n for c in columns if (n := sum(split[c.name].count("") for split in cells.values()))}
    if gaps:
        notes.append(f"{path}: {sum(gaps.values()):,} missing values are filled in, of {few(gaps)}")
    task.columns, task.notes = columns, (*task.notes, *notes)
    return task


def _classes(tables: Mapping[str, Cells], target: str, paths: Mapping[str, Path]) -> tuple[dict[str, Array], list[str]]:
    """The classes of all rows by their numbers, and their names."""
    train = tables["train"][target]
    classes = sorted(set(train) - {""}, key=in_order)
    if 2 * len(classes) > len(train):
        raise UserError(f"{paths['train']}: {target!r} has {len(classes):,} different values in {len(train):,} rows")
    numbers = {name: i for i, name in enumerate(classes)}
    labels = {}
    for split, table in tables.items():
        if target not in table:
            raise UserError(f"{paths[split]}: no column {target!r}: {did_you_mean(target, table)}")
        if wrong := next(((i, cell) for i, cell in enumerate(table[target], 1) if cell not in numbers), None):
            raise UserError(f"{paths[split]}: {target!r} of row {wrong[0]} is {wrong[1]!r}, classes are {few(classes)}")
        labels[split] = np.array([numbers[cell] for cell in table[target]], dtype=np.int64)
    return labels, classes


def _from_npz(path: Path) -> tuple[dict[str, dict[str, Array]], list[str] | None]:
    arrays = read_npz(path)
    class_names = [str(name) for name in np.atleast_1d(arrays.pop("class_names", []))]
    found, _ = find_splits(dict.fromkeys(key.rpartition("_")[0] for key in arrays), str(path))
    prefixes = {split: f"{name}_" for split, name in found.items()} or {"train": ""}
    splits = {}
    for split, prefix in prefixes.items():
        for key in (prefix + part for part in "xy"):
            if key not in arrays:
                raise UserError(f"{path}: no array {key!r}: {did_you_mean(key, arrays)}")
        splits[split] = checked_arrays(f"{path} ({split})", (arrays.pop(prefix + "x"), arrays.pop(prefix + "y")))
    if arrays:
        raise UserError(f"{path}: {few(arrays)}: x and y, or train_x, train_y, ..., and class_names are read")
    if "train" not in splits:
        raise UserError(f"{path}: no array 'train_x': {did_you_mean('train_x', [p + 'x' for p in prefixes.values()])}")
    return splits, class_names or None


def _of_arrays(
    splits: Mapping[str, Mapping[str, Array]],
    class_names: Sequence[str] | None,
    shares: Shares,
    split_seed: int,
    where: str,
    names: Sequence[str] = (),
) -> ArrayTask:
    """The task of arrays x and y, whose features may have names."""
    labels = {split: arrays["y"] for split, arrays in splits.items()}
    parts: Parts = {split: (split, np.arange(len(y))) for split, y in labels.items()}
    cut_missing(parts, labels, shares, split_seed, where)
    rows = {split: {key: a[index] for key, a in splits[source].items()} for split, (source, index) in parts.items()}
    task = ArrayTask(rows["train"], rows["val"], rows["test"], class_names=class_names)
    means = rows["train"]["x"].mean(0) if names else ()
    task.columns = tuple(Column(str(name), fill=float(mean)) for name, mean in zip(names, means, strict=True))
    return task


def _builtin(name: str) -> Callable[..., ArrayTask]:
    """A set of scikit-learn's that comes with it; a stratified quarter, always the same, is the test split."""

    def load(*, val_fraction: float | None = None, split_seed: int = 0) -> ArrayTask:
        from sklearn import datasets

        table = getattr(datasets, f"load_{name}")()
        classes, shares = [str(name) for name in table.target_names], {"test": None, "val": val_fraction}
        arrays = {"train": {"x": table.data, "y": table.target}}
        return _of_arrays(arrays, classes, shares, split_seed, name, list(table.feature_names))

    return load


TABLES: dict[str, Callable[..., ArrayTask]] = {
    "table": load_table,
    **{name: _builtin(name) for name in ("breast_cancer", "iris", "wine")},
}
