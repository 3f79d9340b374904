"""Predictions of any framework as probabilities: from probabilities in any unit, logits or hard labels.

What numbers are is decided once for all splits of a member, and a minority of rows never decides: a file is read only
when one reading is possible.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import softmax

from lrensemble.array import Array
from lrensemble.errors import UserError, did_you_mean
from lrensemble.pool.labels import whole_numbers

KINDS = ("auto", "probabilities", "logits", "labels")
SUM_TOLERANCE = 1e-2  # of a row of probabilities in float16, or rounded to two digits
EXACT = 1e-4  # of rows that sum to another constant: logits of 1,000 classes may come near one by chance
BELOW_ZERO = 1e-5  # what rounding leaves below 0 (1 - p), as a share of the sum


@dataclass(frozen=True)
class Converted:
    """Predictions of some splits as (N, C) probabilities.

    Attributes
    ----------
    kinds : what the numbers of each split were taken for
    notes : what was done to them, for people
    """

    probabilities: dict[str, Array]
    kinds: dict[str, str]
    notes: tuple[str, ...]


def convert(
    predictions: Mapping[str, ArrayLike],
    rows: Mapping[str, int],
    classes: int,
    kinds: Mapping[str, str],
    where: Mapping[str, str] | None = None,
    choices: Callable[[str], Array | None] | None = None,
) -> Converted:
    """Bring predictions of all splits of one member to (N, C) probabilities, float32 (float16 stays).

    Parameters
    ----------
    predictions : by split: (N, C) probabilities or logits; (N,) or (N, 1) labels, or of two classes p of class 1
    rows, classes : N of every split and C, what the pool needs
    kinds : by split: "auto", "probabilities", "logits" or "labels"
        ``auto``: rows with one constant sum (1, 100, the number of networks) and nothing below 0 are probabilities;
        with most rows outside of [0, 1] it is logits; one whole number a row is a label.
    where : by split, for messages: which file or argument this is
    choices : of a split (N, C) truth values, which classes its rows have (`Pool.choices`)

    Raises
    ------
    UserError
        Wrong shape, labels out of range, rows that are no probabilities, something for a choice that does not exist,
        more than one possible reading. Rows that are not finite are let through: whoever writes the member decides
        what they mean.
    """
    arrays: dict[str, Array] = {}
    names = where or {split: split for split in predictions}
    if len(set(names.values())) < len(names):  # one file for both
        names = {split: f"{name} ({split})" for split, name in names.items()}
    for split, values in predictions.items():
        array = _as_array(values, names[split])
        if array.ndim == 2 and array.shape[1] == 1 and classes > 1:
            array = array[:, 0]
        if array.ndim not in (1, 2) or len(array) != rows[split] or (array.ndim == 2 and array.shape[1] != classes):
            raise UserError(
                f"{names[split]}: shape {array.shape} does not fit, ({rows[split]}, {classes}) probabilities or logits "
                f"or ({rows[split]},) labels are needed, in the row order of the pool's labels"
            )
        arrays[split] = array
    probabilities, found, notes = {}, {}, []
    for ndim, convert_group in ((1, _convert_columns), (2, _convert_tables)):
        splits = [split for split, array in arrays.items() if array.ndim == ndim]
        if splits:
            where = {split: names[split] for split in splits}
            kind = _one_kind([kinds[split] for split in splits], " and ".join(where.values()))
            kind, tables, note = convert_group({names[split]: arrays[split] for split in splits}, classes, kind)
            probabilities.update({split: tables[names[split]] for split in splits})
            found.update(dict.fromkeys(splits, kind))
            notes += [note] if note else []
    for split, table in probabilities.items():
        if (mask := choices and choices(split)) is not None and (given := np.where(mask, 0, table) > 0).any():
            row, choice = np.argwhere(given)[0]
            raise UserError(
                f"{names[split]}: row {row} gives {table[row, choice]:.4g} to choice {choice}, which it does not have: "
                "let the logits of such choices be minus infinity, or their probabilities 0"
            )
    return Converted({s: probabilities[s] for s in arrays}, {s: found[s] for s in arrays}, tuple(notes))


def adds_up(values: Array) -> float | None:
    """What all finite rows of (N, C) numbers >= 0 surely sum to; None when they do not, or too few rows differ."""
    rows = _Rows(values)
    return rows.total if rows.usable.any() and not rows.bad.any() and rows.sure(values) else None


class _Rows:
    """What every row of (N, C) numbers says about them being probabilities.

    Attributes
    ----------
    usable : (N,) rows that can be judged: finite, or masked with minus infinity, which no probability is
    total : what rows sum to, by the median
    bad : (N,) usable rows that are no probabilities of this total
    """

    def __init__(self, values: Array) -> None:
        with np.errstate(invalid="ignore", over="ignore"):  # rows that are not finite, and logits in float16
            finite = np.isfinite(values).all(1)
            masked = ~finite & ~(np.isnan(values) | (values == np.inf)).any(1)
            self.sums = values.sum(1, dtype=np.float64)
            self.low, self.high = values.min(1).astype(float), values.max(1).astype(float)
            self.usable = finite | masked
            sums = self.sums[finite]
            ones = np.abs(sums - 1) <= SUM_TOLERANCE
            self.total = 1.0 if 2 * ones.sum() >= len(sums) else float(np.median(sums))
            unit = self.total == 1
            self.exact = 1e-3 if values.dtype == np.float16 else EXACT
            off = np.abs(self.sums - self.total) > (SUM_TOLERANCE if unit else self.exact * self.total)
            self.bad = self.usable & (masked | off | (self.low < -BELOW_ZERO * self.total) | (self.total <= 0))

    def sure(self, values: Array) -> bool:
        """False for a sum other than 1 in rows of so few kinds that they may sum to the same by chance."""
        some = values[self.usable][:100].astype(float)
        return self.total == 1 or len({tuple(np.round(np.sort(row) / self.total, 6)) for row in some}) > 2


def _convert_tables(arrays: dict[str, Array], classes: int, kind: str) -> tuple[str, dict[str, Array], str]:
    kind, total = _kind_of_tables(arrays, kind)
    if kind == "logits":
        return kind, {name: _keep_type(_softmax(a), a) for name, a in arrays.items()}, ""
    tables = {}
    for name, array in arrays.items():
        # NaN stays; -0.0 does not, as it marks what does not exist.
        values = np.maximum(array, 0) + 0 if array.dtype.kind == "f" and np.signbit(array).any() else array
        if total != 1:
            with np.errstate(invalid="ignore", divide="ignore"):
                values = values / values.sum(1, keepdims=True, dtype=np.float64)
        tables[name] = _keep_type(values, array)
    said = "" if total == 1 else f"{' and '.join(arrays)}: rows sum to {total:.6g}: divided by that, as probabilities"
    return kind, tables, said


def _kind_of_tables(arrays: dict[str, Array], kind: str) -> tuple[str, float]:
    """What the (N, C) arrays of one member are, and what rows of probabilities sum to."""
    if kind == "labels":
        name, array = next(iter(arrays.items()))
        raise UserError(f"{name}: labels are one number a row, this has {array.shape[1]} columns")
    if kind == "logits":
        return kind, 1.0
    found = {name: _kind_of_table(array, name, kind) for name, array in arrays.items()}
    sure = {name: pair for name, pair in found.items() if pair[0] in ("probabilities", "logits")}
    if kind == "auto" and not sure and any(pair[0] == "either" for pair in found.values()):
        raise UserError(
            f"{' and '.join(arrays)}: every row sums to {max(total for _, total in found.values()):.6g}, but too few "
            "rows differ to tell probabilities in this unit from logits: --kind probabilities or --kind logits says it"
        )
    if len({pair[0] for pair in sure.values()}) > 1:
        said = " and ".join(f"{name} looks like {found[name][0]}" for name in sure)
        raise UserError(
            f"{said}: predictions of one member are of one kind: write both as probabilities or both as logits (where "
            "one only looks so, --kind says which)"
        )
    if not sure and kind == "auto":  # nothing is finite
        return "logits", 1.0
    if next(iter(sure.values()), ("", 1.0))[0] == "logits":
        return "logits", 1.0
    totals = {name: total for name, (what, total) in found.items() if what != "none"}
    total = next(iter(totals.values()), 1.0)
    if any(abs(other - total) > SUM_TOLERANCE * total for other in totals.values()):
        said = ", ".join(f"{value:.6g} in {name}" for name, value in totals.items())
        raise UserError(f"rows of one member sum to {said}: bring them to one unit")
    return "probabilities", total


def _kind_of_table(array: Array, name: str, kind: str) -> tuple[str, float]:
    """Probabilities or logits, or either (too few rows), or none (nothing is finite); what its rows sum to."""
    rows = _Rows(array)
    judged, bad = int(rows.usable.sum()), int(rows.bad.sum())
    if not judged:
        return "none", 1.0
    if not bad:
        sure = kind == "probabilities" or rows.sure(array)
        return ("probabilities" if sure else "either"), rows.total
    first = int(np.argmax(rows.bad))
    found = f"{name}: row {first} has a sum of {rows.sums[first]:.4g} and a lowest value of {rows.low[first]:.4g}"
    percent = ((np.abs(rows.sums - 100) <= 5) & (rows.low >= 0))[rows.usable].all()  # rounded to whole numbers
    if kind == "probabilities":
        if percent:
            return kind, 100.0
        raise UserError(f"{found}: probabilities are >= 0 and sum to 1 (or all to one other number)")
    if percent:
        raise UserError(
            f"{found}, all nearly 100: rounded percentages or logits? --kind probabilities divides every row by its "
            "sum, --kind logits takes them as they are"
        )
    if bad * 2 <= judged:
        unit = "" if rows.total == 1 else f" that sum to {rows.total:.4g}"
        raise UserError(
            f"{found}, but {judged - bad:,} of {judged:,} rows are probabilities{unit}: mend it (rounded ones: divide "
            "every row by its sum), or say --kind logits"
        )
    inside = rows.usable & (rows.low >= -BELOW_ZERO) & (rows.high <= 1 + SUM_TOLERANCE)
    if inside.sum() * 2 >= judged:
        which = "all" if inside.sum() == judged else f"{inside.sum():,} of {judged:,} rows"
        raise UserError(
            f"{found}, {which} within [0, 1]: say kind 'logits', or let every row of probabilities sum to 1 "
            "(rounded ones: divide by their sum)"
        )
    with np.errstate(invalid="ignore"):
        counts = not (array < 0).any() and bool((np.mod(array, 1) == 0)[rows.usable].all())
    if counts:
        raise UserError(
            f"{found}, all whole numbers: counts, decimal commas or logits? --kind logits takes them for logits; "
            "probabilities sum to the same in every row"
        )
    return "logits", 1.0


def _convert_columns(arrays: dict[str, Array], classes: int, kind: str) -> tuple[str, dict[str, Array], str]:
    """One number a row: a label, or of two classes something of class 1."""
    together = np.concatenate([*arrays.values()]).astype(np.float64)
    finite = together[np.isfinite(together)]
    where = " and ".join(arrays)
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 0.0)
    inside = low >= -BELOW_ZERO and high <= 1 + BELOW_ZERO
    broken = np.mod(finite, 1) != 0
    if kind == "auto" and classes == 2 and broken.any():
        if not inside or broken.mean() < 0.5:
            raise UserError(
                f"{where}: one number a row, {broken.sum():,} of {len(finite):,} not whole (from {low:.4g} to "
                f"{high:.4g}): --kind probabilities or --kind logits (of class 1) or --kind labels says what they are"
            )
        kind = "probabilities"
    if kind in ("auto", "labels"):
        return "labels", {name: _one_hot(array, classes, name) for name, array in arrays.items()}, ""
    if classes != 2:
        raise UserError(
            f"{where}: one number a row is no {kind}: one column for each class is needed (of two classes one column "
            "is enough, of class 1)"
        )
    if kind == "probabilities" and not inside:
        raise UserError(f"{where}: from {low:.4g} to {high:.4g}, but probabilities of class 1 are within [0, 1]")
    tables = {}
    for name, array in arrays.items():
        wide = array.astype(np.float64)
        p = np.clip(wide, 0, 1)
        table = np.stack([1 - p, p], 1) if kind == "probabilities" else _softmax(np.stack([0 * wide, wide], 1))
        tables[name] = _keep_type(table, array)
    return kind, tables, f"{where}: one column, taken for {kind} of class 1"


def _one_kind(kinds: list[str], where: str) -> str:
    for kind in kinds:
        if kind not in KINDS:
            raise UserError(f"unknown kind of predictions {kind!r}: {did_you_mean(kind, KINDS)}")
    said = sorted(set(kinds) - {"auto"})
    if len(said) > 1:
        raise UserError(f"{where}: predictions of one member are of one kind, not {' and '.join(said)}")
    return said[0] if said else "auto"


def _keep_type(probabilities: Array, original: Array) -> Array:
    return probabilities.astype(np.float16 if original.dtype == np.float16 else np.float32, copy=False)


def _as_array(predictions: ArrayLike, where: str) -> Array:
    try:
        array = np.asarray(predictions)
    except (ValueError, TypeError) as error:  # rows of different lengths, a tensor on another device
        raise UserError(f"{where}: no array of numbers ({str(error).splitlines()[0]})") from None
    if array.dtype.kind not in "fiub":
        raise UserError(f"{where}: {array.dtype} is not a type of numbers")
    if array.dtype.itemsize > 8:  # long double
        array = array.astype(np.float64)
    return array


def _softmax(logits: Array) -> Array:
    with np.errstate(invalid="ignore"):  # rows of NaN or infinity become NaN, which is for the caller to judge
        return np.asarray(softmax(logits.astype(np.float64), axis=1))


def _one_hot(labels: Array, classes: int, where: str) -> Array:
    whole = whole_numbers(labels, where)
    if len(whole) and whole.max() >= classes:
        raise UserError(
            f"{where}: labels from {whole.min()} to {whole.max()}, but the pool has classes 0 to {classes - 1}"
        )
    table = np.zeros((len(whole), classes), dtype=np.float32)
    table[np.arange(len(whole)), whole] = 1
    return table
