"""Soups: averages by hand, greedy against its definition, nothing written that does not hold up."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from lrensemble import Pool, UserError, export_team, load_config, load_task, select_teams, train_pool
from lrensemble.cli.main import main
from lrensemble.evaluation import evaluate
from lrensemble.export.soup import groups, make_soups
from lrensemble.models import build_model
from lrensemble.training.runner import control_specs
from tests.conftest import tiny_config
from tests.training.test_runner import contents

POLICIES = ["FIX(k0=[0.1, 0.105, 0.11, 0.02])"]  # greedy takes some and leaves some


def with_norm(*, input_shape, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, num_classes))


def fill(path: Path, *overrides: str, **changes) -> Pool:
    changes = {"policies": POLICIES, "control": False, "model": {"name": "mlp", "hidden": [16]}} | changes
    config = load_config(tiny_config(**changes), ["training.epochs=4", *overrides])
    return train_pool(config, path, workers=1, threads=1, devices="cpu")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four runs from the same weights. Read only."""
    return fill(tmp_path_factory.mktemp("soup") / "shared", "training.shared_init=true").path


@pytest.fixture
def soups_pool(shared: Path, tmp_path: Path) -> Pool:
    return Pool.open(shutil.copytree(shared, tmp_path / "shared"))


def averaged(pool: Pool, ids) -> dict[str, torch.Tensor]:
    states = [load_file(pool.path / "members" / i / "weights.safetensors") for i in ids]
    return {name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]}


def logits_of(pool: Pool, state: dict[str, torch.Tensor], split: str) -> torch.Tensor:
    """The data set read and normalised here, and an MLP written out."""
    data = load_task("digits", val_fraction=0.25)
    mean, std = (torch.tensor(values)[:, None, None] for values in data.normalisation)
    x = ((torch.from_numpy(np.array(getattr(data, split).images)).float() - mean) / std).flatten(1)
    first, last = [name.removesuffix(".weight") for name in state if name.endswith(".weight")]
    hidden = torch.relu(x @ state[f"{first}.weight"].T + state[f"{first}.bias"])
    return hidden @ state[f"{last}.weight"].T + state[f"{last}.bias"]


def val_nll(pool: Pool, ids) -> float:
    logits = logits_of(pool, averaged(pool, ids), "val")
    return float(nn.functional.cross_entropy(logits.double(), torch.tensor(pool.labels("val"))))


def test_the_written_soup_is_the_average_by_hand(soups_pool: Pool):
    [soups] = make_soups(soups_pool, device="cpu")
    assert soups.new
    soup = min((soups.greedy, soups.uniform), key=lambda soup: soup.nll)
    record = soups_pool.find(soups.written).record
    assert record.spec.notes["soup"]["ingredients"] == sorted(soup.ingredients)
    expected = averaged(soups_pool, soup.ingredients)
    for name, value in load_file(soups_pool.find(soups.written).path / "weights.safetensors").items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-6)
    for split in ("val", "test"):
        stored = soups_pool.predictions(split, [soups_pool.find(soups.written)])[0]
        np.testing.assert_allclose(stored, logits_of(soups_pool, expected, split).softmax(1), rtol=0, atol=1e-5)
    assert record.metrics["val"]["nll"] == pytest.approx(val_nll(soups_pool, soup.ingredients), abs=1e-5)


def test_greedy_is_its_definition_and_never_worse_than_the_best(soups_pool: Pool):
    [soups] = make_soups(soups_pool, device="cpu")
    order = sorted((m for m in Pool.open(soups_pool.path).runs), key=lambda m: m.record.metrics["val"]["nll"])
    ids = [member.id for member in order]
    chosen = ids[:1]
    for i in ids[1:]:
        if val_nll(soups_pool, [*chosen, i]) <= val_nll(soups_pool, chosen):
            chosen.append(i)
    assert soups.tried == tuple(ids)
    assert soups.greedy.ingredients == tuple(chosen)
    assert 1 < len(soups.greedy.ingredients) < 4
    assert soups.greedy.nll <= soups.best.nll
    assert soups.uniform.nll == pytest.approx(val_nll(soups_pool, ids), abs=1e-5)
    rows = nn.functional.cross_entropy(
        logits_of(soups_pool, averaged(soups_pool, ids), "val"),
        torch.tensor(soups_pool.labels("val")),
        reduction="none",
    )
    assert soups.uniform.nll_se == pytest.approx(float(rows.std(correction=0)) / len(rows) ** 0.5, rel=1e-4)


def test_the_same_again_finds_it_and_a_soup_is_no_ingredient(soups_pool: Pool):
    [first] = make_soups(soups_pool, device="cpu")
    before = contents(soups_pool.path)
    [second] = make_soups(soups_pool, device="cpu")
    assert (second.written, second.new) == (first.written, False)
    assert (second.tried, second.greedy) == (first.tried, first.greedy)
    assert contents(soups_pool.path) == before


def test_killed_before_its_record_it_is_made_again(soups_pool: Pool):
    [first] = make_soups(soups_pool, device="cpu")
    folder = soups_pool.find(first.written).path
    files = {p: p.read_bytes() for p in folder.rglob("*") if p.name in ("val.npy", "test.npy", "weights.safetensors")}
    member = soups_pool.find(first.written)
    member.write_record(member.record.model_copy(update={"status": "planned", "files": {}, "metrics": {}}))
    (folder / "weights.safetensors").write_bytes(b"cut")
    [second] = make_soups(soups_pool, device="cpu")
    assert (second.written, second.new) == (first.written, True)
    assert {path: path.read_bytes() for path in files} == files


def test_a_soup_is_a_member_but_no_run(soups_pool: Pool):
    runs, control = [m.id for m in soups_pool.runs], control_specs(soups_pool)
    [soups] = make_soups(soups_pool, device="cpu")
    assert [m.id for m in soups_pool.runs] == runs
    assert len(control_specs(soups_pool)) == len(control)
    record = soups_pool.find(soups.written).record
    assert record.parent in runs
    assert record.runs == sorted(record.spec.notes["soup"]["ingredients"])
    assert record.spec.label.endswith(f"soup(size={len(record.runs)})")


def test_select_evaluate_and_export_take_it(soups_pool: Pool, tmp_path: Path):
    [soups] = make_soups(soups_pool, device="cpu")
    (team,) = select_teams(soups_pool, ["all"])
    soups_pool.save_team(team)
    assert soups.written in team.members
    assert evaluate(soups_pool).rows == 450
    card = export_team(soups_pool, "all", tmp_path / "team", formats=["safetensors"], benchmark=False)
    assert card.checks["safetensors"].rows == 450  # compared with the stored test predictions
    assert card.checks["safetensors"].largest_difference < 1e-5


def test_what_does_not_hold_up_is_not_written(soups_pool: Pool, capsys):
    """Hidden units put into another order: the same networks and predictions, but their average is neither."""
    for k, member in enumerate(soups_pool.complete):
        path = member.path / "weights.safetensors"
        state = load_file(path)
        order = torch.randperm(16, generator=torch.Generator().manual_seed(k))
        names = list(state)
        weight, last = sorted((n for n in names if n.endswith("weight")), key=lambda n: state[n].shape[0] != 16)
        state[weight] = state[weight][order]
        state[weight.replace("weight", "bias")] = state[weight.replace("weight", "bias")][order]
        state[last] = state[last][:, order].contiguous()
        save_file(state, path)
        reseal(member)
    before = contents(soups_pool.path)
    [soups] = make_soups(soups_pool, device="cpu")
    assert soups.written is None
    assert soups.greedy == soups.best
    assert soups.uniform.nll > soups.best.nll
    assert contents(soups_pool.path) == before
    assert main(["soup", str(soups_pool.path), "--device", "cpu"]) == 0
    assert "nothing was written" in capsys.readouterr().out


def reseal(member) -> None:
    """Give a record the hash of the changed weights."""
    from lrensemble.pool.record import FileInfo

    path = member.path / "weights.safetensors"
    info = FileInfo.of(path)
    files = {**member.record.files, "weights.safetensors": info}
    member.write_record(member.record.model_copy(update={"files": files}))


def test_snapshots_and_averages_of_a_run_share_its_start(tmp_path: Path):
    """With batch norm: the statistics of the average are those of the training rows, as torch computes them."""
    pool = fill(
        tmp_path / "p", "snapshots=[1e, 2e, 3e]", "averages=[ema]", policies=["FIX(k0=[0.05, 0.1])"],
        model="tests.export.test_soup:with_norm",
    )  # fmt: skip
    found = groups(pool)
    assert sorted(len(group) for group in found) == [5, 5]
    assert all(len({m.record.parent or m.id for m in group}) == 1 for group in found)
    both = make_soups(pool, device="cpu", trust=True)
    assert any(soups.written for soups in both)
    for soups in both:
        if soups.written is None:
            continue
        record = pool.find(soups.written).record
        assert record.runs == [record.parent]
        state = load_file(pool.find(soups.written).path / "weights.safetensors")
        model = build_model("tests.export.test_soup:with_norm", input_shape=(1, 8, 8), num_classes=10, trust=True)
        model.load_state_dict(state)
        data = load_task("digits", val_fraction=0.25)
        mean, std = (torch.tensor(values)[:, None, None] for values in data.normalisation)
        x = (torch.from_numpy(np.array(data.train.images)).float() - mean) / std
        whole = len(x) // 64
        inputs = model[1](x.flatten(1))[: whole * 64].view(whole, 64, 16)
        torch.testing.assert_close(state["2.running_mean"], inputs.mean((0, 1)), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(state["2.running_var"], inputs.var(1).mean(0), rtol=1e-4, atol=1e-5)


def test_other_models_and_seeds_are_other_groups(tmp_path: Path):
    pool = fill(
        tmp_path / "p",
        "training.shared_init=true",
        "seeds=[0, 1]",
        "training.epochs=1",
        policies=["FIX(k0=[0.02, 0.1])"],
    )
    assert sorted([m.record.spec.seed for m in group] for group in groups(pool)) == [[0, 0], [1, 1]]


def test_command(soups_pool: Pool, capsys):
    assert main(["soup", str(soups_pool.path), "--format", "json", "--device", "cpu"]) == 0
    answer = json.loads(capsys.readouterr().out)
    [group] = answer["groups"]
    assert answer["rows"] == 337
    assert group["greedy"]["nll"] <= group["best"]["nll"]
    assert main(["soup", str(soups_pool.path), "--device", "cpu"]) == 0
    text = " ".join(capsys.readouterr().out.split())  # a title wraps
    assert "n = 337" in text
    assert f"was written before as member {group['written']}" in text


def test_no_group(pool: Pool, tmp_path: Path, capsys):
    assert main(["soup", str(pool.path)]) == 2
    assert "training.shared_init=true" in capsys.readouterr().err
    assert main(["soup", str(tmp_path / "nothing")]) == 2


def test_members_without_weights(soups_pool: Pool):
    victim = soups_pool.complete[-1]
    (victim.path / "weights.safetensors").unlink()
    before = contents(soups_pool.path)
    with pytest.raises(UserError, match=rf"{victim.id}.*missing"):
        make_soups(soups_pool, device="cpu")
    assert contents(soups_pool.path) == before
