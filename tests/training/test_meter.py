"""What steps used: counters that wrap, cannot be read, or are not there."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path

import psutil
import pytest
import torch

from lrensemble.training import meter
from lrensemble.training.meter import Meter

CPU = torch.device("cpu")


def zone(folder: Path, name: str, value: object, kind: str = "package-0", limit: int = 999_999) -> Path:
    path = folder / name
    path.mkdir(parents=True)
    (path / "name").write_text(f"{kind}\n")
    (path / "energy_uj").write_text(f"{value}\n")
    (path / "max_energy_range_uj").write_text(f"{limit}\n")
    return path / "energy_uj"


def busy(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_seconds_of_the_clock_and_of_the_processor(tmp_path):
    counted = Meter(CPU, tmp_path)
    busy(0.05)
    time.sleep(0.1)
    used = counted.used()
    assert used.keys() == {"seconds", "cpu_seconds"}
    assert 0.05 <= used["cpu_seconds"] <= used["seconds"] - 0.09


def test_rapl_counters_wrap_and_are_shared_with_other_processes(tmp_path, monkeypatch):
    first, second = zone(tmp_path, "intel-rapl:0", 999_000), zone(tmp_path, "intel-rapl:1", 5)
    zone(tmp_path, "intel-rapl:0:0", 0, "core")  # a part of package 0: it is counted there
    zone(tmp_path, "intel-rapl:3", 0, "psys")  # the packages and more
    zone(tmp_path, "intel-rapl:2", "no number")
    times = psutil.cpu_times()
    monkeypatch.setattr(psutil, "cpu_times", lambda: times)
    counted = Meter(CPU, tmp_path)
    busy(0.02)
    first.write_text("1000\n")  # 2,000 uJ further
    second.write_text("3005\n")
    cpu = counted.used()["cpu_seconds"]
    monkeypatch.setattr(psutil, "cpu_times", lambda: times._replace(user=times.user + 10 * cpu))
    used = counted.used()
    assert used["cpu_joules"] == pytest.approx(5000e-6 * used["cpu_seconds"] / (10 * cpu), rel=0.01)


class _Nvml:
    """What NVML's functions do, of a card whose counter goes up by 1.5 J a reading."""

    energy = 10_000

    def nvmlDeviceGetHandleByUUID(self, uuid, handle) -> int:
        return 0 if uuid == b"GPU-1234" else 6

    def nvmlDeviceGetTotalEnergyConsumption(self, handle, energy) -> int:
        self.energy += 1500
        ctypes.cast(energy, ctypes.POINTER(ctypes.c_ulonglong))[0] = self.energy
        return 0


def test_nvml_counts_the_whole_card(tmp_path, monkeypatch):
    card = type("Card", (), {"uuid": "1234"})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    library = _Nvml()
    monkeypatch.setattr(meter, "_nvml", lambda: library)
    assert Meter(torch.device("cuda:0"), tmp_path).used()["gpu_joules"] == 1.5
    card.uuid = "other"
    assert "gpu_joules" not in Meter(torch.device("cuda:0"), tmp_path).used()
    monkeypatch.setattr(meter, "_nvml", lambda: None)
    assert "gpu_joules" not in Meter(torch.device("cuda:0"), tmp_path).used()
