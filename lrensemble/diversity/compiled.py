"""The two loops over all teams that NumPy cannot do fast, compiled by numba (extra ``fast``).

`lattice_votes` holds the same loops in NumPy; both give the same numbers. The machine code is cached beside this file
(or in numba's cache folder), so it is compiled once per machine, not per run.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

_VOTE_ROWS = 16  # rows whose subset sums are kept at once: a few hundred KiB
_MANTISSA = (1 << 52) - 1
_ONE = 1023 << 52  # exponent field of numbers in [1, 2)


def _subset_sums(values: Any, out: Any) -> None:
    out[0] = 0.0
    size = 1
    for m in range(len(values)):
        for t in range(size):
            out[size + t] = out[t] + values[m]
        size *= 2


def _high_sum(values: Any, bits: int, high: int) -> float:
    total = 0.0
    for m in range(bits, len(values)):
        if (high >> (m - bits)) & 1:
            total += values[m]
    return total


def _right(values: Any, strict: Any, starts: Any, times: Any, bits: int, first: int, counts: Any) -> None:
    rows, size = len(starts) - 1, 1 << bits
    most = 0
    for r in range(rows):
        most = max(most, starts[r + 1] - starts[r])
    low = np.empty((_VOTE_ROWS * most, size))
    least, largest = np.empty(len(low)), np.empty(len(low))
    active, over = np.empty(most, np.int64), np.empty(most)
    holds = np.empty(size, np.uint8)
    for r0 in range(0, rows, _VOTE_ROWS):
        r1 = min(rows, r0 + _VOTE_ROWS)
        q0 = starts[r0]
        for q in range(q0, starts[r1]):
            subset_sums(values[q, :bits], low[q - q0])
            # Extremes of the subset sums: exactly those of `low`, as rounding is monotone.
            least[q - q0], largest[q - q0] = 0.0, 0.0
            for m in range(bits):
                least[q - q0] += min(values[q, m], 0.0)
                largest[q - q0] += max(values[q, m], 0.0)
        for h in range(len(counts)):
            count = counts[h]
            base: Any = np.int32(0)
            for r in range(r0, r1):
                n = 0
                lost = False
                for q in range(starts[r], starts[r + 1]):
                    c = -high_sum(values[q], bits, first + h)
                    if not strict[q]:
                        c = np.nextafter(c, -np.inf)  # s >= c as s > the number before it
                    if largest[q - q0] <= c:  # fails for every team of the block
                        lost = True
                        break
                    if least[q - q0] <= c:  # else it holds for all
                        active[n], over[n] = q - q0, c
                        n += 1
                if lost:
                    continue
                w = np.int32(times[r])
                if n == 0:
                    base += w
                    continue
                a, ca = low[active[0]], over[0]
                if n == 1:
                    for t in range(size):
                        count[t] += w * (a[t] > ca)
                    continue
                b, cb = low[active[1]], over[1]
                if n == 2:
                    for t in range(size):
                        count[t] += w * ((a[t] > ca) & (b[t] > cb))
                    continue
                d, cd = low[active[2]], over[2]
                if n == 3:
                    for t in range(size):
                        count[t] += w * ((a[t] > ca) & (b[t] > cb) & (d[t] > cd))
                    continue
                for t in range(size):
                    holds[t] = (a[t] > ca) & (b[t] > cb) & (d[t] > cd)
                for i in range(3, n):
                    e, ce = low[active[i]], over[i]
                    for t in range(size):
                        holds[t] &= e[t] > ce
                for t in range(size):
                    count[t] += w * holds[t]
            if base:
                for t in range(size):
                    count[t] += np.int32(base)


def _log_likelihood(true: Any, safe: Any, tiny: float, bits: int, first: int, out: Any) -> None:
    rows, size = len(true), 1 << bits
    low, high = np.empty((4, size)), np.empty(4)
    exponents = np.zeros(out.shape, np.int64)
    lowsize = np.zeros(size)
    subset_sums(np.ones(bits), lowsize)
    out[:] = 1.0
    for r0 in range(0, rows, 4):
        n = min(4, rows - r0)
        for i in range(n):
            subset_sums(true[r0 + i, :bits], low[i])
        quick = n == 4 and safe[r0] and safe[r0 + 1] and safe[r0 + 2] and safe[r0 + 3]
        for h in range(len(out)):
            product = out[h]
            for i in range(n):
                high[i] = high_sum(true[r0 + i], bits, first + h)
            if quick:
                a, b, c, d = low[0], low[1], low[2], low[3]
                ha, hb, hc, hd = high[0], high[1], high[2], high[3]
                for t in range(size):
                    product[t] *= ((a[t] + ha) * (b[t] + hb)) * ((c[t] + hc) * (d[t] + hd))
            else:
                more = 0
                for m in range(64):
                    more += ((first + h) >> m) & 1
                for i in range(n):
                    for t in range(size):
                        members = lowsize[t] + more
                        product[t] *= min(max(low[i, t] + high[i], tiny * members), members)
            # Move the exponent aside before the product can leave the range of float64.
            if r0 // 4 % 3 == 2 or r0 + 4 >= rows:
                field = product.view(np.int64)
                exponent = exponents[h]
                for t in range(size):
                    exponent[t] += (field[t] >> 52) - 1023
                    field[t] = (field[t] & _MANTISSA) | _ONE
    for h in range(len(out)):
        for t in range(size):
            out[h, t] = np.log(out[h, t]) + exponents[h, t] * np.log(2.0)


_jit = numba.njit(cache=True, nogil=True)
subset_sums = _jit(_subset_sums)
high_sum = _jit(_high_sum)
right = _jit(_right)
log_likelihood = _jit(_log_likelihood)
