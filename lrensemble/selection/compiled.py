"""The loop of greedy selection that NumPy cannot do in one pass over memory, compiled by numba (extra ``fast``)."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

_ROWS = 16  # of numbers from 2^-52 to 2^11: their product stays in the range of float64
_MANTISSA = (1 << 52) - 1
_ONE = 1023 << 52  # exponent field of numbers in [1, 2)


def _log_sums(columns: Any, running: Any, least: float, most: float, out: Any) -> None:
    """Sum over the rows of log(clip(running + column, least, most)), by one product: (M,) from (N, M) and (N,)."""
    rows, members = columns.shape
    product = np.ones(members)
    exponent = np.zeros(members, np.int64)
    field = product.view(np.int64)
    for first in range(0, rows, _ROWS):
        last = min(first + _ROWS, rows)
        row = first
        while row + 4 <= last:
            a, b, c, d = columns[row], columns[row + 1], columns[row + 2], columns[row + 3]
            sa, sb, sc, sd = running[row], running[row + 1], running[row + 2], running[row + 3]
            for m in range(members):
                product[m] *= (min(max(a[m] + sa, least), most) * min(max(b[m] + sb, least), most)) * (
                    min(max(c[m] + sc, least), most) * min(max(d[m] + sd, least), most)
                )
            row += 4
        for rest in range(row, last):
            for m in range(members):
                product[m] *= min(max(columns[rest, m] + running[rest], least), most)
        for m in range(members):
            exponent[m] += (field[m] >> 52) - 1023
            field[m] = (field[m] & _MANTISSA) | _ONE
    for m in range(members):
        out[m] = np.log(product[m]) + exponent[m] * np.log(2.0)


log_sums = numba.njit(cache=True, nogil=True)(_log_sums)
