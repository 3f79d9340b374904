"""Where to train."""

from __future__ import annotations

import torch

from lrensemble.errors import UserError, did_you_mean


def pick_devices(names: str = "auto") -> list[torch.device]:
    """Devices by their names, ``cuda:0,cuda:1``; ``auto`` is every CUDA device, else Apple's MPS, else the CPU."""
    if names == "auto":
        if torch.cuda.is_available():
            return [torch.device("cuda", i) for i in range(torch.cuda.device_count())]
        return [torch.device("mps" if torch.backends.mps.is_available() else "cpu")]
    return list(dict.fromkeys(_pick(name.strip()) for name in names.split(",")))


def _pick(name: str) -> torch.device:
    if name.split(":")[0] not in ("cpu", "cuda", "mps"):
        raise UserError(f"unknown device {name!r}: {did_you_mean(name, ['auto', 'cpu', 'cuda', 'cuda:1', 'mps'])}")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from None
    return device
