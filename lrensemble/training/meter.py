"""What training steps used: seconds, CPU seconds, and joules where the machine counts them."""

from __future__ import annotations

import ctypes
import functools
import time
from pathlib import Path
from typing import Any

import psutil
import torch

RAPL = Path("/sys/class/powercap")


class Meter:
    """Counts from its making on.

    Joules of the processor are RAPL's, of the whole packages: this process's share of the machine's busy CPU time of
    them. Those of a GPU are NVML's, of the whole card. What no counter gives is left out, never guessed.
    """

    def __init__(self, device: torch.device, rapl: Path = RAPL) -> None:
        self.device, self.zones = device, _zones(rapl)
        self.began = self._read()

    def used(self) -> dict[str, float]:
        """``seconds`` on the clock and ``cpu_seconds`` (all threads); ``cpu_joules`` and ``gpu_joules`` where known."""
        now, began = self._read(), self.began
        used = {name: now[name] - began[name] for name in ("seconds", "cpu_seconds")}
        if self.zones:
            joules = sum((now[z] - began[z]) % limit for z, limit in self.zones.items()) / 1e6  # the counters wrap
            busy = max(now["busy"] - began["busy"], used["cpu_seconds"])
            used["cpu_joules"] = joules * used["cpu_seconds"] / busy if busy else 0.0
        if "gpu" in now and "gpu" in began:
            used["gpu_joules"] = (now["gpu"] - began["gpu"]) / 1e3
        return used

    def _read(self) -> dict[Any, float]:
        values: dict[Any, float] = {"seconds": time.perf_counter(), "cpu_seconds": time.process_time()}
        if self.zones:
            times = psutil.cpu_times()
            values["busy"] = times.user + times.system + getattr(times, "nice", 0.0)
            for zone in self.zones:
                values[zone] = int(zone.read_text())
        if self.device.type == "cuda" and (joules := _gpu_millijoules(self.device)) is not None:
            values["gpu"] = joules
        return values


def _zones(folder: Path) -> dict[Path, int]:
    """The counters of the processor's packages that can be read (root's alone on many systems), and where they wrap."""
    zones = {}
    for zone in sorted(folder.glob("*-rapl:*")):
        try:
            if not (zone / "name").read_text().startswith("package"):
                continue  # psys counts the packages once more
            int((zone / "energy_uj").read_text())
            zones[zone / "energy_uj"] = int((zone / "max_energy_range_uj").read_text()) + 1
        except (OSError, ValueError):
            continue
    return zones


@functools.lru_cache(maxsize=1)
def _nvml() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    return library if library.nvmlInit_v2() == 0 else None


def _gpu_millijoules(device: torch.device) -> int | None:
    """Since the driver was loaded; None for a card that does not count them (before Volta)."""
    library = _nvml()
    if library is None:
        return None
    handle, energy = ctypes.c_void_p(), ctypes.c_ulonglong()
    uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}".encode()
    torch.cuda.synchronize(device)
    if library.nvmlDeviceGetHandleByUUID(uuid, ctypes.byref(handle)):
        return None
    return None if library.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(energy)) else energy.value
