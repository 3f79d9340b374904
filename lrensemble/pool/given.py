"""A pool as programs give it: an object, or its folder."""

from __future__ import annotations

from pathlib import Path

from lrensemble.errors import UserError
from lrensemble.pool.pool import Pool


def given_pool(pool: Pool | str | Path) -> Pool:
    """The pool, or that in the folder that is named in its place; `UserError` for anything else."""
    if isinstance(pool, str | Path):
        return Pool.open(pool)
    if not isinstance(pool, Pool):
        raise UserError(f"pool = {pool!r}: a Pool or its folder is needed, not {type(pool).__name__}")
    return pool
