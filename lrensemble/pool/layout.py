"""What the files of an import mean: one decision over all of them together, pure.

Which first lines are headers, which columns are classes and in which order, what the classes are called. What has two
readings is an error that names both; what was left out or put in order is said in a note.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lrensemble.array import Array
from lrensemble.errors import UserError
from lrensemble.pool.columns import (
    GUESS,
    TRUTH,
    UNNAMED,
    Look,
    check_positive,
    class_columns,
    fold,
    label_column,
    numbers_of,
    one_hot_columns,
    order_columns,
    strip_common,
    undecided,
)
from lrensemble.pool.convert import adds_up
from lrensemble.pool.labels import (
    MOST_CLASSES,
    check_labels,
    count_classes,
    labels_are_names,
    listed,
    number_names,
    whole_numbers,
)
from lrensemble.pool.reading import Table

SAMPLE = 500  # rows of a wide table that are looked at for its layout; all of them are checked afterwards
WIDE = 8  # columns


@dataclass(frozen=True)
class View:
    """The looks that one file can have: without (False) and with (True) its first line as a header.

    Attributes
    ----------
    split : of the rows
    is_labels : true classes, or predictions
    headed : with both looks, whether what follows is of another kind than the first line
    first : that line
    """

    split: str
    is_labels: bool
    looks: dict[bool, Look]
    headed: bool
    first: str


@dataclass(frozen=True)
class Pick:
    """How to read one file: its columns are the classes in their order, or there is one of labels."""

    headed: bool
    columns: tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """What all files of an import mean.

    Attributes
    ----------
    class_names : of the pool
    picks : one for every view
    named : of classes whose names are numbers, whether labels are these names; None: the labels do not say it
    notes : what was left out or put in order, for people
    """

    class_names: tuple[str, ...]
    picks: tuple[Pick, ...]
    named: bool | None
    notes: tuple[str, ...]


def view(table: Table, split: str, is_labels: bool) -> View:
    """Look at a table in all ways that it can be read."""
    if table.first is None or len(table.values) < 2:
        return View(split, is_labels, {table.names is not None: _look(table)}, False, "")
    looks = {False: _look(table), True: _look(table.headed())}
    return View(split, is_labels, looks, _surely_headed(looks), ",".join(table.first[:8]))


def _look(table: Table) -> Look:
    values, n = table.values, len(table.values)
    rows = np.arange(n)[:, None]
    counting = (values == rows).all(0) | (values == rows + 1).all(0)
    few = np.sort(values[:SAMPLE], axis=0)
    with np.errstate(invalid="ignore"):
        possible = (np.mod(few, 1) == 0).all(0) & (np.diff(few, axis=0) > 0).all(0)
        whole = {int(j): values[:, j] for j in np.flatnonzero(possible) if (np.mod(values[:, j], 1) == 0).all()}
    cells: dict[int, Array] = {**whole, **{j: np.array(texts) for j, texts in table.texts.items()}}
    ids = {j: column for j, column in cells.items() if len(np.unique(column)) == n}
    if values.shape[1] > WIDE and n > SAMPLE:
        values = values[np.linspace(0, n - 1, SAMPLE).astype(int)]
    return Look(table.where, n, values, table.names, table.texts, counting, ids)


def _surely_headed(looks: dict[bool, Look]) -> bool:
    """Whether the rows below a first line that can be a header are of another kind than it."""
    numbers = [j for j in range(looks[True].values.shape[1]) if j not in looks[True].texts]
    body, everything = (looks[flag].values[:, numbers] for flag in (True, False))
    if not numbers:  # all is text: cat, dog under label
        names = [fold(name) for name in looks[True].names or ()]
        known = any(TRUTH.fullmatch(name) or GUESS.fullmatch(name) for name in names)
        return known and not any(name in map(fold, looks[True].texts[j]) for j, name in enumerate(names))
    if len(numbers) < 2:
        return False
    if adds_up(body) is not None:
        return adds_up(everything) is None
    with np.errstate(invalid="ignore"):
        return not (np.mod(body, 1) == 0).all(1).any()


def decide(
    views: Sequence[View],
    *,
    rows: dict[str, int] | None = None,
    class_names: Sequence[str] | int | None = None,
    header: bool | None = None,
) -> Layout:
    """Decide what the files are, all of them together.

    Parameters
    ----------
    rows : of each split, where a pool is there
    class_names : names, or how many there are, where that is known
    header : whether first lines that can be column numbers as well as rows are headers

    Raises
    ------
    UserError
        Files that do not fit each other, or more than one possible reading.
    """
    headed = _settle_headers(views, rows or {}, header)
    looks = [v.looks[flag] for v, flag in zip(views, headed, strict=True)]
    labels = [look for v, look in zip(views, looks, strict=True) if v.is_labels]
    members = [look for v, look in zip(views, looks, strict=True) if not v.is_labels]
    label_columns = [one_hot_columns(look) or (label_column(look, TRUTH),) for look in labels]
    given = None if isinstance(class_names, int) or class_names is None else tuple(class_names)
    count = len(given) if given else class_names if isinstance(class_names, int) else None
    columns = _settle_columns(members, given, count)
    seen = [_values(look, picked) for look, picked in zip(labels, label_columns, strict=True)]
    for look, picked, values in zip(labels, label_columns, seen, strict=True):
        if values.dtype.kind == "f":
            whole_numbers(look.values[:, picked[0]], look.where)
    tables = [(look, picked) for look, picked in zip(members, columns, strict=True) if len(picked) > 1]
    guesses = [_values(look, p) for look, p in zip(members, columns, strict=True) if len(p) == 1]
    true = np.unique(np.concatenate([s for s in seen if s.dtype.kind == "i"] or [np.empty(0, np.int64)]))
    one = any(g.dtype.kind == "f" for g in guesses)  # a probability of class 1
    width = len(tables[0][1]) if tables else 2 if one and count is None else None
    where = " and ".join(dict.fromkeys(look.where for look in labels))
    least = count_classes(true, labels[0].rows, where, width or count) if len(true) else 0
    if count is None:
        count = width or least
    elif count > MOST_CLASSES and count != width:
        raise UserError(f"--classes {count}: no file has as many columns, and more than {MOST_CLASSES:,} are not made")
    textual = bool(seen) and all(s.dtype.kind == "U" for s in seen)
    if textual and not given and count == 0 and all(g.dtype.kind == "U" for g in guesses):
        given = tuple(sorted({str(name) for name in np.concatenate([*seen, *guesses])}))
    names, by_name = (given, True) if given else _names(tables, count, true, textual)
    notes = check_labels(true, names, where, width, [g for g in guesses if g.dtype.kind == "i" and len(g)])
    picks = []
    for v, look, flag in zip(views, looks, headed, strict=True):
        picked = label_columns.pop(0) if v.is_labels else columns.pop(0)
        if len(picked) > 1:
            ordered = order_columns(look, picked, names, by_name or textual)
            if list(ordered) != sorted(ordered):
                notes.append(f"{look.where}: columns put into the order of the classes, by their names")
            picked = ordered
        elif not v.is_labels:
            check_positive(look, picked[0], names)
        if left_out := [j for j in range(look.values.shape[1]) if j not in picked]:
            notes.append(f"{look.where}: {look.called(left_out)} left out")
        picks.append(Pick(flag, picked))
    notes += _check_ids(views, looks, picks)
    numbers = number_names(names)
    named = labels_are_names(true, numbers) if numbers and len(true) else None
    return Layout(names, tuple(picks), named, tuple(dict.fromkeys(notes)))


def _settle_headers(views: Sequence[View], rows: dict[str, int], header: bool | None) -> list[bool]:
    """For every view whether its first line is a header: what gives all files of a split as many rows."""
    headed: list[bool] = []
    chosen = dict(rows)
    for split in dict.fromkeys(v.split for v in views):
        group = [v for v in views if v.split == split]
        looks = {id(v): v.looks if header is None or len(v.looks) < 2 else {header: v.looks[header]} for v in group}
        possible = {rows[split]} if split in rows else {look.rows for look in looks[id(group[0])].values()}
        for v in group:
            fits = possible & {look.rows for look in looks[id(v)].values()}
            if not fits:
                raise UserError(_unequal(v, looks[id(v)], group[0], possible, split in rows))
            possible = fits
        if len(possible) > 1:
            sure = [v for v in group if v.headed]
            v = group[0]
            if not sure:
                raise UserError(
                    f"{v.looks[True].where}: is the first line ({v.first}) a header above {min(possible):,} rows, or "
                    f"the first of {max(possible):,} rows? --header yes or --header no says it"
                )
            possible = {min(possible)}
        [chosen[split]] = possible
    for v in views:
        flag = next(flag for flag, look in v.looks.items() if look.rows == chosen[v.split])
        if v.headed and not flag and header is None:
            raise UserError(
                f"{v.looks[False].where}: the first line ({v.first}) looks like a header of column numbers, but as one "
                f"it leaves {v.looks[True].rows:,} rows, and {v.looks[False].rows:,} are needed: is one missing? "
                "--header no takes it as a row"
            )
        headed.append(flag)
    return headed


def _unequal(v: View, looks: dict[bool, Look], other: View, possible: set[int], known: bool) -> str:
    look = next(iter(looks.values()))
    have = " or ".join(f"{n:,}" for n in sorted({look.rows for look in looks.values()}))
    need = " or ".join(f"{n:,}" for n in sorted(possible))
    whose = f"the pool has {need} of {v.split}" if known else f"{next(iter(other.looks.values())).where} has {need}"
    turned = " (transposed?)" if look.values.shape[1] in possible else ""
    return f"{look.where}: {have} rows ({look.values.shape[1]} columns), but {whose}{turned}"


def _settle_columns(members: list[Look], names: tuple[str, ...] | None, count: int | None) -> list[tuple[int, ...]]:
    """The columns of every table of predictions; what one does not say, the others may."""
    found = [class_columns(look, names, count) for look in members]
    widths: dict[int, Look] = {}
    for look, columns in zip(members, found, strict=True):
        if columns and len(columns) > 1:
            widths.setdefault(len(columns), look)
    if count is None and len(widths) > 1:
        said = ", ".join(f"{look.where} has {n}" for n, look in widths.items())
        raise UserError(f"members of one pool have as many classes: {said} columns; --classes says how many")
    known = count or next(iter(widths), None)
    for i, look in enumerate(members):
        if found[i] is None and known:
            found[i] = class_columns(look, names, known)
        if found[i] is None:
            raise undecided(look)
    return [columns for columns in found if columns is not None]


def _values(look: Look, columns: tuple[int, ...]) -> Array:
    """The labels in a table: whole numbers, or names (U); empty for predictions that are no labels."""
    if len(columns) > 1:
        return np.arange(len(columns))
    if columns[0] in look.texts:
        return np.array(look.texts[columns[0]])
    values = look.values[:, columns[0]]
    finite = np.isfinite(values).all() and (np.mod(values, 1) == 0).all() and (np.abs(values) < 2**62).all()
    return values.astype(np.int64) if finite else np.empty(0, np.float64)


def _names(
    tables: list[tuple[Look, tuple[int, ...]]], count: int, true: Array, textual: bool
) -> tuple[tuple[str, ...], bool]:
    """Names of the classes from headers; whether labels refer to them, so that their order means nothing."""
    default = tuple(map(str, range(count)))
    headers = [([look.name(j) for j in columns], look) for look, columns in tables if look.names]
    words = [header for header, _ in headers if numbers_of(header) is None]
    if words:
        kept = strip_common(words[0])
        plain = {name: shown for shown, name in zip(_strip_shown(words[0], kept), kept, strict=True)}
        return tuple(plain[name] for name in kept) if len(plain) == count else default, textual
    for header, look in headers:
        numbers = numbers_of(header) or []
        ordered = sorted(numbers)
        if ordered == [*range(count)]:
            continue
        as_names = len(true) > 0 and labels_are_names(true, ordered)
        if as_names:
            return tuple(map(str, ordered)), True
        if not (len(true) and as_names is False and numbers == [*range(1, count + 1)]):
            raise UserError(
                f"{look.where}: its columns are {', '.join(header[:12])}: class numbers that labels from 0 do not "
                f"have, or that labels have too? --classes {listed(numbers)} says the latter; else leave the header out"
            )
    return default, True


def _strip_shown(header: list[str], kept: list[str]) -> list[str]:
    """The stripped names as they were written: `P_Cat` gives `Cat`."""
    return [h[at : at + len(k)] if (at := h.casefold().rfind(k)) >= 0 else k for h, k in zip(header, kept, strict=True)]


def _check_ids(views: Sequence[View], looks: list[Look], picks: list[Pick]) -> list[str]:
    """Rows that have identities in several files have them in the same order; a note where only one has."""
    first: dict[tuple[str, str], tuple[Look, int]] = {}  # by split and name, or by type
    notes = []
    for v, look, pick in zip(views, looks, picks, strict=True):
        ids = sorted((j for j in look.ids if j not in pick.columns), key=lambda j: bool(look.counting[j]))
        if look.rows < 2 or not ids:
            continue
        names = {(v.split, fold(look.name(j))): j for j in ids if not look.is_called(j, UNNAMED) and look.name(j)}
        types = {(v.split, " text" if look.ids[j].dtype.kind == "U" else " number"): j for j in reversed(ids)}
        pairs = [(j, *first[key]) for key, j in names.items() if key in first]
        pairs = pairs or [(j, *first[key]) for key, j in types.items() if key in first]
        for j, other, theirs in pairs:
            if _in_another_order(look.ids[j], other.ids[theirs]):
                raise UserError(
                    f"{look.where}: its rows are others, or in another order, than those of {other.where} (by "
                    f"{look.called([j])}): bring them into one order"
                )
        if not pairs and any(_counts(look.ids[j]) and (np.diff(look.ids[j]) < 0).any() for j in ids):
            notes.append(f"{look.where}: rows are taken as they stand, not in the order of {look.called(ids)}")
        for key, j in [*names.items(), *types.items()]:
            first.setdefault(key, (look, j))
    return notes


def _in_another_order(ids: Array, theirs: Array) -> bool:
    if ids.dtype.kind == "U" or theirs.dtype.kind == "U":
        return not np.array_equal(ids, theirs)
    counts = _counts(ids), _counts(theirs)
    if all(counts):  # from 0 and from 1
        return not np.array_equal(ids - ids.min(), theirs - theirs.min())
    return not any(counts) and not np.array_equal(ids, theirs)  # the number of a row is no identity


def _counts(ids: Array) -> bool:
    """Whether they are the numbers of the rows, in any order."""
    return ids.dtype.kind != "U" and np.array_equal(np.sort(ids), np.arange(len(ids)) + ids.min())
