"""What training took: CPU seconds, energy and carbon of every member, and where each number is from.

Energy is what the machine's counters said while the member trained (RAPL, NVML), else an estimate: CPU seconds times
--watts. Ratios of estimates are ratios of CPU seconds, no finding of their own. Carbon is kWh x PUE x the grams of a
kWh in --country (2023; Ember, Our World in Data). Spiking networks also have their operations per inference.
"""

from __future__ import annotations

import argparse
from typing import Any

from lrensemble.cli import output

HELP = "CPU seconds, energy and carbon of training"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pool", metavar="POOL", help="folder of a pool")
    parser.add_argument("--country", metavar="CODE", help="three letters, for example FRA (default: the world's mean)")
    parser.add_argument(
        "--watts", metavar="W", type=output.real(0, 10_000), help="of a busy thread, in estimates (default: 4)"
    )
    parser.add_argument(
        "--pue",
        metavar="X",
        type=output.real(1, 10),
        default=1.0,
        help="of the data centre: its energy over the computers' (default: 1)",
    )
    output.add_format(parser)


def run(args: argparse.Namespace) -> int:
    from lrensemble.pool import Pool
    from lrensemble.pool.costs import OPERATIONS
    from lrensemble.pool.energy import JOULES, WATTS, WORLD, YEAR, carbon_intensity, energy_of, has_own_energy

    country = args.country or WORLD
    grams_per_kwh = carbon_intensity(country)
    pool = Pool.open(args.pool)
    members = [member for member in pool.readable if has_own_energy(member)]
    settings = {"watts": WATTS if args.watts is None else args.watts, "pue": args.pue, "grams_per_kwh": grams_per_kwh}
    rows: list[dict[str, Any]] = []
    for member in members:
        record = member.record
        operations = {key: record.costs[key] for key in OPERATIONS if key in record.costs}
        rows.append(
            {
                "id": member.id,
                "label": record.spec.label,
                "seed": record.spec.seed,
                "status": member.status,
                **vars(energy_of(record, **settings)),
                **operations,
            }
        )
    total = {key: sum(row[key] for row in rows if row[key] is not None) for key in ("cpu_seconds", "joules", "grams")}
    if args.format == "json":
        output.print_json(
            {"pool": str(pool.path), "country": country, "year": YEAR, **settings, "members": rows, "total": total}
        )
        return 0
    known = sum(row["joules"] is not None for row in rows)
    spiking = any("acs" in row for row in rows)
    output.print_rows(
        f"{pool.path}: training of {known} runs took {total['joules'] / JOULES * 1000:.3g} Wh and "
        f"{1000 * total['grams']:.3g} mg CO2e"
        + (f" ({len(rows) - known} more say nothing of what they took)" if known < len(rows) else ""),
        [
            {
                "<id": row["id"],
                "<policy": row["label"],
                "seed": str(row["seed"]),
                "<status": row["status"],
                "CPU s": output.number(row["cpu_seconds"], 1),
                "energy J": output.number(row["joules"], 1),
                "mg CO2e": output.number(row["grams"] and 1000 * row["grams"], 2),
                "<energy from": row["source"],
                **({key: f"{row[key]:,.0f}" if key in row else "-" for key in OPERATIONS} if spiking else {}),
            }
            for row in rows
        ],
        f"Carbon: {grams_per_kwh:g} g CO2e a kWh ({country}, {YEAR}), PUE {args.pue:g}."
        + (
            " Operations per inference: spikes, accumulations that they cause (acs), multiplications of inputs that "
            "are not 0 (effective_macs), and of a network that is not spiking (dense_macs)."
            if spiking
            else ""
        ),
    )
    return 0
