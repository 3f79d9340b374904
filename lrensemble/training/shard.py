"""A share of the runs, for job arrays: every job of the array trains one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

from lrensemble.errors import UserError

T = TypeVar("T")
MOST = 100_000


@dataclass(frozen=True)
class Shard:
    """Number `index` (from 1) of `count` shares; `UserError` for one that there is not."""

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count <= MOST:
            raise UserError(
                f"shard {self} is not possible: the first number is from 1 to the second, and that at most {MOST:,} "
                "(sbatch --array=1-16 counts so: --shard $SLURM_ARRAY_TASK_ID/16)"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``3/16``."""
        if not re.fullmatch(r"[0-9]{1,9}/[0-9]{1,9}", text, re.ASCII):
            raise UserError(f"shard {text!r:.50} is not possible: write 3/16 for the third of 16")
        index, count = map(int, text.split("/"))
        return cls(index, count)

    def of(self, runs: Sequence[T]) -> list[T]:
        """Every `count`-th run, so that neighbours, which take equally long, are in different shares."""
        return list(runs[self.index - 1 :: self.count])

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"
