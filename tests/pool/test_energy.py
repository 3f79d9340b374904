"""Energy and carbon: measured where it was, estimated where it was not, and the source beside it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lrensemble import Pool, UserError, select_teams
from lrensemble.cli.main import main
from lrensemble.pool.energy import carbon_intensity, energy_of

OLD = Path(__file__).parents[1] / "fixtures" / "old_pool"
GRAMS = {"grams_per_kwh": 500.0}


@pytest.fixture
def record(trained):
    return Pool.open(trained).complete[0].record


def changed(record, device: str = "cpu", **costs):
    environment = {**record.environment, "device": device, "threads": 3}
    return record.model_copy(update={"costs": costs, "environment": environment})


def test_what_is_measured_goes_first(record):
    cases = [
        ({"seconds": 9.0, "cpu_seconds": 7.0}, 28.0, "estimate: 4 W x CPU seconds"),
        ({"seconds": 9.0}, 9 * 3 * 4.0, "estimate: 4 W x seconds x 3 threads"),
        ({"cpu_seconds": 7.0, "cpu_joules": 5.0}, 5.0, "RAPL"),
        ({"cpu_seconds": 7.0, "cpu_joules": 5.0, "gpu_joules": 90.0}, 95.0, "NVML + RAPL"),
        ({"cpu_seconds": 7.0, "gpu_joules": 90.0}, 118.0, "NVML + estimate: 4 W x CPU seconds"),
        ({}, None, "not known"),
    ]
    for costs, joules, source in cases:
        found = energy_of(changed(record, **costs), **GRAMS)
        assert (found.joules, found.source) == (joules, source)
    assert energy_of(changed(record, cpu_seconds=1.0, device="NVIDIA H200"), **GRAMS).source.endswith(
        "without the NVIDIA H200's"
    )


def test_carbon_is_kwh_times_the_data_centre_times_the_grid(record):
    found = energy_of(changed(record, cpu_seconds=3600.0), watts=10, grams_per_kwh=56, pue=1.5)
    assert found.joules == 36_000 and found.grams == pytest.approx(0.01 * 1.5 * 56)
    assert carbon_intensity("fra") == carbon_intensity("FRA") == 56 < carbon_intensity() == 481
    with pytest.raises(UserError, match=r"unknown country 'FR': did you mean 'FRA'"):
        carbon_intensity("FR")


def test_training_keeps_cpu_seconds_in_records_and_histories(trained):
    for member in Pool.open(trained).complete:
        seconds = [line["cpu_seconds"] for line in member.history()]
        assert seconds == sorted(seconds) and seconds[-1] == member.record.costs["cpu_seconds"] > 0


def test_the_command(trained, capsys):
    assert main(["energy", str(trained), "--country", "NOR", "--watts", "6", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    records = {member.id: member.record for member in Pool.open(trained).members}
    assert {row["id"] for row in found["members"]} == records.keys()
    for row in found["members"]:
        if "cpu_joules" not in records[row["id"]].costs:
            assert row["joules"] == pytest.approx(6 * records[row["id"]].costs["cpu_seconds"])
        assert row["grams"] == pytest.approx(row["joules"] / 3.6e6 * 30)
    assert found["total"]["joules"] == pytest.approx(sum(row["joules"] for row in found["members"]))
    assert main(["energy", str(OLD)]) == 0
    assert "W x seconds" in capsys.readouterr().out
    assert main(["energy", str(trained), "--country", "Frankreich"]) == 2
    assert "unknown country 'Frankreich'" in capsys.readouterr().err


def test_pareto_weighs_what_is_asked_for(trained, tmp_path, capsys):
    pool = Pool.open(shutil.copytree(trained, tmp_path / "pool"))
    [team] = select_teams(pool, ["pareto"], cost="energy")
    assert team.cost_unit == "energy"
    joules = [energy_of(pool.find(i).record, **GRAMS).joules for i in team.members]
    assert team.cost == pytest.approx(sum(joules))
    [team] = select_teams(pool, ["pareto"], cost="parameters")
    assert team.cost == sum(pool.find(i).record.costs["parameters"] for i in team.members)
    assert team.cost_unit == "parameters"
    [default], [same] = select_teams(pool, ["pareto"]), select_teams(pool, ["pareto"], cost="flops")
    assert (default.cost_unit, default.cost) == (same.cost_unit, same.cost) == ("FLOPs per sample", default.cost)
    assert main(["select", str(pool.path), "--selector", "pareto", "--cost", "enrgy"]) == 2
    assert "cost = enrgy is not known of all members: did you mean 'energy'?" in capsys.readouterr().err
