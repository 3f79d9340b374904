"""Changes of an event camera's recordings: events dropped, their times jittered, events of noise added."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from lrensemble.tasks.events import Recording


def dropped(one: Recording, level: int, bin_us: int, rng: np.random.Generator) -> Recording:
    """Every event with a chance of 1/4, 1/2, 3/4: a slower or noisier readout."""
    kept = rng.random(len(one)) >= level / 4
    return replace(one, t=one.t[kept], x=one.x[kept], y=one.y[kept], p=one.p[kept])


def jittered(one: Recording, level: int, bin_us: int, rng: np.random.Generator) -> Recording:
    """Gaussian jitter of the times, of 1/2, 1, 2 bins; what would leave the recording is put at its ends."""
    if not len(one):
        return one
    t = one.t + np.rint(rng.normal(0, bin_us * 2 ** (level - 2), len(one))).astype(np.int64)
    return _sorted(replace(one, t=t.clip(one.t[0], one.t[-1])))


def with_noise(one: Recording, level: int, bin_us: int, rng: np.random.Generator) -> Recording:
    """Background noise: 1/4, 1/2, 1 times as many events again, at any time and pixel, ON or OFF."""
    if not len(one):
        return one
    count, (width, height) = rng.poisson(len(one) * 2.0 ** (level - 3)), one.size
    t = rng.integers(one.t[0], one.t[-1], count, endpoint=True)
    x, y, p = rng.integers(width, size=count), rng.integers(height, size=count), rng.integers(2, size=count)
    added = Recording(t, x.astype(one.x.dtype), y.astype(one.y.dtype), p.astype(one.p.dtype))
    t, x, y, p = (np.concatenate([getattr(one, key), getattr(added, key)]) for key in "txyp")
    return _sorted(replace(one, t=t, x=x, y=y, p=p))


def _sorted(one: Recording) -> Recording:
    order = np.argsort(one.t, kind="stable")
    return replace(one, t=one.t[order], x=one.x[order], y=one.y[order], p=one.p[order])


EVENT_CHANGES: dict[str, Callable[[Recording, int, int, np.random.Generator], Recording]] = {
    "drop": dropped,
    "jitter": jittered,
    "noise": with_noise,
}
