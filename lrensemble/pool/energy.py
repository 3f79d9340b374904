"""What training a member took: CPU seconds, energy, and carbon, each with where the number is from."""

from __future__ import annotations

import csv
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from lrensemble.errors import UserError, did_you_mean
from lrensemble.pool.member import Member
from lrensemble.pool.record import Record

WATTS = 4.0  # of a busy thread, where nothing was measured: server processors take 2 to 6 (their TDP over threads)
JOULES = 3.6e6  # of a kWh
YEAR = 2023
WORLD = "world"


@dataclass(frozen=True)
class Energy:
    """None is not known.

    Attributes
    ----------
    joules, grams : energy of training, and CO2 equivalents
    source : ``RAPL``, ``NVML + RAPL``, ``estimate: ...``
    """

    cpu_seconds: float | None
    joules: float | None
    grams: float | None
    source: str


def energy_of(record: Record, *, watts: float = WATTS, grams_per_kwh: float, pue: float = 1.0) -> Energy:
    """Energy of a member's training: what the machine's counters said of it, else CPU seconds times `watts`.

    Records from before CPU seconds were kept: the seconds times the threads.
    """
    costs, environment = record.costs, record.environment
    seconds, source = costs.get("cpu_seconds"), f"estimate: {watts:g} W x CPU seconds"
    if seconds is None and "seconds" in costs:
        threads = environment.get("threads")
        threads = threads if isinstance(threads, int) and not isinstance(threads, bool) else 1
        seconds, source = costs["seconds"] * threads, f"estimate: {watts:g} W x seconds x {threads} threads"
    joules = None if seconds is None else seconds * watts
    if "cpu_joules" in costs:
        joules, source = costs["cpu_joules"], "RAPL"
    if "gpu_joules" in costs:
        joules, source = (joules or 0.0) + costs["gpu_joules"], f"NVML + {source}"
    elif joules is not None and environment.get("device", "cpu") != "cpu":
        source += f", without the {environment['device']}'s"
    grams = None if joules is None else joules / JOULES * pue * grams_per_kwh
    return Energy(costs.get("cpu_seconds"), joules, grams, source if joules is not None else "not known")


def has_own_energy(member: Member) -> bool:
    """Not of snapshots, averages and soups: their runs' energy is counted already."""
    return member.record.parent is None and member.record.spec.derived is None


def own_joules(member: Member) -> float | None:
    """Of its training; None for members that are derived from runs, too."""
    return energy_of(member.record, grams_per_kwh=0.0).joules if has_own_energy(member) else None


def training_joules(members: Sequence[Member]) -> list[float | None]:
    """Of every member, that of its runs where it is derived from some."""
    return [energy_of(member.record, grams_per_kwh=0.0).joules for member in members]


@functools.cache
def _table() -> dict[str, float]:
    text = resources.files("lrensemble.pool").joinpath("carbon_intensity.csv").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {row["country"]: float(row["grams_per_kwh"]) for row in csv.DictReader(lines)}


def carbon_intensity(country: str = WORLD) -> float:
    """Grams of CO2 equivalents of a kWh in `YEAR`, by the ISO code of three letters, or of the ``world``."""
    table = _table()
    known = {name.lower(): name for name in table}
    if country.lower() not in known:
        raise UserError(
            f"unknown country {country!r}: {did_you_mean(country, table)} (ISO 3166 codes of three letters)"
        )
    return table[known[country.lower()]]
