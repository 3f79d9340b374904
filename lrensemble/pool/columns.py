"""Which columns of a table are classes, and of which: pure, from their names and their numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrensemble.array import Array
from lrensemble.errors import UserError
from lrensemble.pool.convert import adds_up

UNNAMED = re.compile(r"(unnamed: \d+(_level_\d+)?)?")  # pandas' index
INDEX = re.compile(
    r"ids?|.*_id|idx|index|rows?|row_?names?|#|no|nr|samples?|images?|img|files?|file_?names?|paths?|names?|keys?|u?uid"
    r"|uuid|level_\d+|folds?|cv|splits?|seeds?|epochs?|steps?|time|weights?|correct|conf|confidence|entropy|loss|nll"
)
GUESS = re.compile(r"(y_?)?(pred|preds|prediction|predictions|predicted|guess|argmax)(_?(class|label|y))?|y_?hat")
TRUTH = re.compile(r"(y_?)?(true|truth|target|targets|label|labels|class|gt|y|ground_?truth)(_?(class|label|y))?")
POSITIVE = re.compile(
    r"(y_?)?(p|prob|probs|proba|probability|score|scores|sigmoid|logits?|outputs?)(_?(1|pos|positive))?"
)
NEAR = 16  # columns that are tried as the one too many: of many that can be it none is


@dataclass(frozen=True)
class Look:
    """What a decision needs to know of a table, read with a header or without.

    Attributes
    ----------
    rows : N
    values : (N, C), or of a wide table some of its rows; NaN in columns of text
    counting : (C,) columns that count the rows from 0 or 1
    ids : by column, what can be an identity of the rows: (N,) that are all different
    """

    where: str
    rows: int
    values: Array
    names: tuple[str, ...] | None
    texts: dict[int, list[str]]
    counting: NDArray[np.bool_]
    ids: dict[int, Array]

    def name(self, column: int) -> str:
        return self.names[column] if self.names else ""

    def called(self, columns: Sequence[int]) -> str:
        """Columns for people: by their names, or their places from 1."""
        nameless = " (without a name)" if self.names else ""
        shown = [repr(self.name(j)) if self.name(j) else f"{j + 1}{nameless}" for j in columns[:8]]
        return f"column{'s' * (len(columns) > 1)} {', '.join(shown)}{', ...' * (len(columns) > 8)}"

    def is_called(self, column: int, pattern: re.Pattern[str]) -> bool:
        return bool(self.names) and pattern.fullmatch(fold(self.name(column))) is not None

    def plain(self) -> list[int]:
        """Columns but for pandas' index, which alone has no name."""
        everything = [*range(self.values.shape[1])]
        named = [j for j in everything if not self.is_called(j, UNNAMED)]
        return named or everything


def fold(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip().casefold())


def strip_common(names: Sequence[str]) -> list[str]:
    """Names without the words that all have around them: p_cat, p_dog are cat, dog; class10 is 10."""
    kept = [fold(name) for name in names]
    if len(set(kept)) < 2:
        return kept
    for _ in range(2):  # in front, then behind (of the reversed names)
        common = 0
        while len({name[: common + 1] for name in kept}) == 1 and all(len(name) > common + 1 for name in kept):
            common += 1
        digits = all(name[common:].isdecimal() for name in kept)
        while common and (kept[0][common - 1].isdecimal() if digits else kept[0][common - 1].isalnum()):
            common -= 1  # whole words and numbers only
        kept = [name[common:][::-1] for name in kept]
    return kept


def numbers_of(names: Sequence[str]) -> list[int] | None:
    """The numbers that names are but for what is around them; None when they are words."""
    kept = [re.sub(r"\.0$", "", name) for name in strip_common(names)]  # 0.0, 1.0: numbers of a frame of floats
    return [int(name) for name in kept] if all(re.fullmatch(r"[0-9]{1,9}", name) for name in kept) else None


def match(look: Look, class_names: Sequence[str]) -> tuple[int, ...] | None:
    """The column of every class, by names that have the same words around them; None when some have none."""
    if look.names is None:
        return None
    columns = {fold(name): j for j, name in enumerate(look.names) if j not in look.texts}
    first, found = fold(class_names[0]), set()
    for name in columns:
        for place in re.finditer(f"(?={re.escape(first)})", name):
            before, after = name[: place.start()], name[place.start() + len(first) :]
            wanted = [f"{before}{fold(other)}{after}" for other in class_names]
            if all(other in columns for other in wanted):
                found.add(tuple(columns[other] for other in wanted))
    if len(found) > 1:
        sets = " or ".join(look.called(columns) for columns in sorted(found))
        raise UserError(f"{look.where}: {sets} can be the classes: leave one of them out")
    return found.pop() if found else None


def class_columns(look: Look, names: Sequence[str] | None, count: int | None) -> tuple[int, ...] | None:
    """The columns of a table of predictions that are classes, or the one of hard labels; None: more must be known.

    Parameters
    ----------
    names, count : of the classes, where they are known
    """
    folded = [fold(name) for name in look.names or () if name]
    if twice := [name for name, times in Counter(folded).items() if times > 1]:
        raise UserError(f"{look.where}: column {twice[0]!r} is there twice")
    if names is not None and (found := match(look, names)) is not None:
        return found
    plain = [j for j in look.plain() if j not in look.texts]
    suspects = _suspects(look, plain)
    rest = [j for j in plain if j not in suspects]
    if len(plain) < 2 or (suspects and len(rest) < 2 and (count or 0) != len(plain)):
        return (label_column(look, GUESS),)
    full, part = (adds_up(look.values[:, columns]) is not None if columns else False for columns in (plain, rest))
    if not full and len(plain) > 2 and look.rows > 2:
        suspects = suspects or _one_too_many(look, plain)
        if suspects and not rest == [j for j in plain if j not in suspects]:
            raise UserError(
                f"{look.where}: {look.called(suspects)} is no class? All others sum to the same in every row: leave it "
                "out of the file"
            )
    if count is not None:
        if len(plain) == count and (full or not (suspects or _other_stems(look, plain))):
            return tuple(plain)
        if len(rest) == count:
            return tuple(rest)
        ask = f" ({look.called(suspects)} not?)" if suspects else ""
        raise UserError(f"{look.where}: {look.called(plain)} ({len(plain)}), but there are {count:,} classes{ask}")
    if full and part and suspects:
        return None  # a class that nobody predicts, or no class
    if full or not suspects:
        strangers = [] if full else _other_stems(look, plain)
        return None if strangers else tuple(plain)
    sure = part or all(look.counting[j] and look.is_called(j, INDEX) for j in suspects)
    return tuple(rest) if sure else None


def undecided(look: Look) -> UserError:
    """What to say of a table for which `class_columns` found None."""
    plain = [j for j in look.plain() if j not in look.texts]
    suspects = _suspects(look, plain) or _other_stems(look, plain)
    return UserError(
        f"{look.where}: {look.called(suspects)}: classes, or not? --classes {len(plain)} or "
        f"--classes {len(plain) - len(suspects)} says it (or their names: A,B,C)"
    )


def label_column(look: Look, pattern: re.Pattern[str]) -> int:
    """The column of labels: the only one, or the only one that is called so."""
    left = look.plain()
    everything = range(look.values.shape[1])
    for kept in (
        {j for j in everything if look.is_called(j, pattern)},
        {j for j in everything if not look.is_called(j, INDEX)},
        {j for j in everything if not look.counting[j]},
        {j for j in everything if not (look.is_called(j, TRUTH) or look.is_called(j, GUESS))},
    ):
        if len(left) > 1:
            left = [j for j in left if j in kept] or left
    if len(left) > 1:
        text = f" (text such as {look.texts[left[0]][0]!r})" if left[0] in look.texts else ""
        raise UserError(
            f"{look.where}: labels are one number (or name) a row, which one of {look.called(left)}{text} is it? Leave "
            "the others out, or call it label"
        )
    return left[0]


def one_hot_columns(look: Look) -> tuple[int, ...] | None:
    """The columns of labels that are written as one 1 a row."""
    columns = [j for j in look.plain() if j not in look.texts and not look.is_called(j, INDEX)]
    if any(_about_rows(look, j) for j in columns):
        return None
    values = look.values[:, columns]
    ones = ((values == 0) | (values == 1)).all() and (values.sum(1) == 1).all()
    return tuple(columns) if len(columns) > 1 and ones else None


def order_columns(look: Look, columns: tuple[int, ...], names: Sequence[str], by_name: bool) -> tuple[int, ...]:
    """Bring columns into the order of the classes, where their names say it.

    Parameters
    ----------
    by_name : False where the order of `names` was taken from a header, so that another order is a contradiction
    """
    if look.names is None:
        return columns
    header = [look.names[j] for j in columns]
    found = match(look, names)
    if found is not None and sorted(found) == sorted(columns):
        if found != columns and not by_name:
            raise UserError(
                f"{look.where}: its columns are {_short(header)}, another file has {_short(names)}: "
                "--classes A,B,C says the order of the classes, as the labels number them"
            )
        return found
    numbers = numbers_of(header)
    if numbers is not None:
        if sorted(numbers) == [*range(len(numbers))]:
            return tuple(columns[i] for i in np.argsort(numbers))
        if numbers == [*range(1, len(numbers) + 1)]:
            return columns
        raise UserError(
            f"{look.where}: its columns are {_short(header)}, the classes {_short(names)}: --classes A,B,C of a new "
            "pool says the order of the classes, as the labels number them"
        )
    if _counted(strip_common(header)) or _counted([*map(fold, names)]) or numbers_of(names) is not None:
        if {*strip_common(header)} & {*map(fold, names)} and len(header) > 1:
            raise UserError(f"{look.where}: its columns are {_short(header)}, the classes {_short(names)}")
        return columns
    raise UserError(
        f"{look.where}: its columns are {_short(header)}, the classes {_short(names)}: call the columns like the "
        "classes, or leave the header out"
    )


def check_positive(look: Look, column: int, names: Sequence[str]) -> None:
    """One column of numbers that are no labels, of two classes, is of class 1, unless its name says otherwise."""
    finite = look.values[:, column][np.isfinite(look.values[:, column])]
    name = fold(look.name(column))
    if len(names) != 2 or not np.mod(finite, 1).any() or not name or POSITIVE.fullmatch(name):
        return
    if GUESS.fullmatch(name) or TRUTH.fullmatch(name):
        return
    words = re.split(r"[^a-z0-9]+|(?<=[a-z])(?=[0-9])", name)
    of = [fold(class_name) in (name, *words) or name.endswith(f"_{fold(class_name)}") for class_name in names]
    if of != [False, True]:
        raise UserError(
            f"{look.where}: of which class is {look.called([column])}? One column alone is taken for the second class, "
            f"{names[1]!r}: call it p_{names[1]}, or write one column for each class"
        )


def _suspects(look: Look, plain: Sequence[int]) -> list[int]:
    """Columns that are rather something else than a class: by their name, or whole numbers among others."""
    values = look.values[:, plain]
    with np.errstate(invalid="ignore"):
        broken = np.isfinite(values) & (np.mod(values, 1) != 0)
        whole = (np.mod(values, 1) == 0).all(0) & ((np.ptp(values, axis=0) > 0) | (look.rows == 1))
    odd = whole & broken.any()
    called = [look.is_called(j, INDEX) or _about_rows(look, j) for j in plain]
    return [j for j, name, number in zip(plain, called, odd, strict=True) if name or number or look.counting[j]]


def _about_rows(look: Look, column: int) -> bool:
    """Whether a column is called like labels or predicted ones; False and True together are two classes."""
    if look.is_called(column, GUESS):
        return True
    return look.is_called(column, TRUTH) and not {"false", "true"} <= {*map(fold, look.names or ())}


def _one_too_many(look: Look, plain: Sequence[int]) -> list[int]:
    """The column without which all rows sum to the same."""
    values = look.values[:, plain]
    values = values[np.isfinite(values).all(1)]
    if not len(values):
        return []
    others = values.sum(1, keepdims=True) - values
    near = np.flatnonzero(np.ptp(others, axis=0) <= 0.02 * np.abs(others).mean(0))[:NEAR]
    return next(([plain[int(i)]] for i in near if adds_up(np.delete(values, i, axis=1)) is not None), [])


def _other_stems(look: Look, plain: Sequence[int]) -> list[int]:
    """Columns beside numbered ones of one name: entropy beside logit_0, logit_1."""
    stems = [re.sub(r"\d+(\.0)?$", "", fold(look.name(j))) for j in plain]
    numbered = [stem for stem, j in zip(stems, plain, strict=True) if stem != fold(look.name(j))]
    if len(numbered) < 2:
        return []
    return [j for stem, j in zip(stems, plain, strict=True) if stem != numbered[0] or stem == fold(look.name(j))]


def _counted(names: Sequence[str]) -> bool:
    """Whether names only count: a, b, c."""
    return [*names] == [chr(ord("a") + i) for i in range(len(names))]


def _short(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + ", ..." * (len(names) > 12)
