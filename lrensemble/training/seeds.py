"""Seeds from anything: a run's from its member id, so that they depend on nothing else."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch


def derive_seed(*parts: object) -> int:
    """A seed from anything that has a text form; different parts give unrelated seeds."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8]) >> 1


def seed_everything(*parts: object) -> None:
    """Seed torch, NumPy and Python (a user's model may draw from any of them)."""
    seed = derive_seed(*parts)
    # torch.manual_seed asks every kind of accelerator, which takes a millisecond where there is none.
    accelerated = torch.cuda.is_initialized() or torch.backends.mps.is_available()  # type: ignore[no-untyped-call]
    (torch.manual_seed if accelerated else torch.default_generator.manual_seed)(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    random.seed(seed)
