"""Teams as bit masks: bit m of the integer says whether member m belongs to the team."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lrensemble.array import Array
from lrensemble.errors import UserError

MAX_LATTICE = 24  # members of which all 2^M teams may be asked for
MAX_BITS = 64


def mask_type(members: int) -> Any:
    """uint32 for up to 32 members, uint64 for up to 64."""
    if members > MAX_BITS:
        raise UserError(
            f"a bit mask holds {MAX_BITS} members, not {members}: give teams as a bool array (teams, members)"
        )
    return np.uint32 if members <= 32 else np.uint64


def to_masks(indicators: ArrayLike) -> Array:
    """Bit masks (T,) of teams given as bool (T, M)."""
    x = np.asarray(indicators, dtype=bool)
    kind = mask_type(x.shape[1])
    bits = kind(1) << np.arange(x.shape[1], dtype=kind)
    masks: Array = np.bitwise_or.reduce(np.where(x, bits, kind(0)), axis=1)
    return masks


def to_indicators(masks: ArrayLike, members: int) -> Array:
    """Teams as bool (T, M) from bit masks (T,)."""
    m = np.asarray(masks).astype(mask_type(members))
    bits = m[:, None] >> np.arange(members, dtype=m.dtype) & m.dtype.type(1)
    return np.asarray(bits, dtype=bool)


def members_of(mask: int) -> list[int]:
    """Member indices of one team, ascending.

    >>> members_of(0b1011)
    [0, 1, 3]
    """
    return [m for m in range(int(mask).bit_length()) if int(mask) >> m & 1]


def mask_of(members: Sequence[int]) -> int:
    """Bit mask of these member indices."""
    mask = 0
    for m in members:
        mask |= 1 << int(m)
    return mask


def check_sizes(members: int, sizes: Sequence[int] | None) -> list[int] | None:
    """Team sizes, distinct and ascending; None for all teams; `UserError` for a size that is not possible."""
    if sizes is None:
        if members > MAX_LATTICE:
            raise UserError(
                f"all teams of {members} members are 2^{members}, the limit is 2^{MAX_LATTICE}: give sizes, "
                "or fewer members (selector top-k finds good ones)"
            )
        return None
    mask_type(members)
    for size in sizes:
        if not 1 <= size <= members:
            raise UserError(f"a team of {size} is not possible: the pool has {members} members")
    return sorted(set(sizes))


def number_of_teams(members: int, sizes: Sequence[int] | None = None) -> int:
    """How many non-empty teams there are, of these sizes or (None) of any."""
    if sizes is None:
        return (1 << members) - 1
    return sum(math.comb(members, size) for size in sizes)


def masks_of_sizes(members: int, sizes: Sequence[int], chunk: int = 1 << 18) -> Iterator[Array]:
    """Yield the bit masks of all teams of these sizes, at most `chunk` at a time.

    Order: size by size as given, and within a size by ascending mask. Nothing is enumerated twice or kept: the
    rank-th mask of a size follows from the combinatorial number system (Knuth, TAOCP 4A, section 7.2.1.3).
    """
    kind = mask_type(members)
    for size in sizes:
        total = math.comb(members, size)
        # choose[j][c] = C(c, j): the largest c with C(c, j) <= rank is the highest member of the remaining team.
        choose = [np.array([math.comb(c, j) for c in range(members + 1)], dtype=np.uint64) for j in range(size + 1)]
        for start in range(0, total, chunk):
            rank = np.arange(start, min(total, start + chunk), dtype=np.uint64)
            masks = np.zeros(len(rank), dtype=kind)
            for j in range(size, 0, -1):
                member = np.searchsorted(choose[j], rank, side="right") - 1
                rank -= choose[j][member]
                masks |= kind(1) << member.astype(kind)
            yield masks


def all_masks(members: int, sizes: Sequence[int] | None = None) -> Array:
    """Return all teams at once, in the order of `masks_of_sizes`; without `sizes` 1 .. 2^M - 1 ascending."""
    sizes = check_sizes(members, sizes)
    if sizes is None:
        return np.arange(1, 1 << members, dtype=mask_type(members))
    return np.concatenate(list(masks_of_sizes(members, sizes)) or [np.empty(0, dtype=mask_type(members))])


def check_members(team: Sequence[int] | None, total: int) -> list[int]:
    """Member indices of one team (None: all), each once; `UserError` for any that does not exist."""
    members = list(range(total)) if team is None else [int(m) for m in team]
    for m in members:
        if not 0 <= m < total:
            raise UserError(f"there is no member {m}: the pool has members 0 to {total - 1}")
    if not members or len(set(members)) < len(members):
        raise UserError(f"a team names at least one member, and each once, not {members}")
    return members


def indicators_of(teams: ArrayLike, members: int) -> Array:
    """Teams as bool (T, M), from bit masks (T,) or unchanged; `UserError` for teams without members."""
    teams = np.asarray(teams)
    if teams.ndim == 1 and teams.dtype.kind in "iu":
        if len(teams) and (int(teams.min()) < 1 or int(teams.max()) >> members):
            raise UserError(f"team masks must be 1 to 2^{members} - 1, not {teams.min()} to {teams.max()}")
        return to_indicators(teams, members)
    if teams.ndim != 2 or teams.shape[1] != members:
        raise UserError(f"teams must be bit masks (teams,) or bool (teams, {members}), not {teams.shape}")
    if not teams.any(1).all():
        raise UserError("a team names at least one member: there is a row without any")
    return teams.astype(bool)
