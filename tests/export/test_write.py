"""Exported teams against the pool's stored predictions, by the libraries that will run them."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from lrensemble import Ensemble, Pool, UserError, evaluate, export_team, load_config, select_teams, train_pool
from lrensemble.cli.main import main
from lrensemble.evaluation.stored import read_evaluation
from lrensemble.export.card import Card
from lrensemble.pool.files import write_sealed
from lrensemble.pool.timings import read_timings
from lrensemble.selection import VOTES, team_vote
from tests.conftest import PATIENCE, tiny_config
from tests.export.conftest import FORMATS, save_team


def stored(pool: Pool, name: str) -> np.ndarray:
    team = pool.team(name)
    predictions = [np.load(pool.path / "members" / i / "predictions" / "test.npy") for i in team.members]
    temperatures = np.array(list(team.temperatures.values())) if team.temperatures else None
    return team_vote(np.stack(predictions), np.array(list(team.members.values())), team.vote, temperatures)


PLAIN_TORCH = """
import sys
class Forbid:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "lrensemble":
            raise ImportError("lrensemble is not to be used here")
sys.meta_path.insert(0, Forbid())
import numpy as np, torch
team = torch.export.load(sys.argv[1]).module()
images = torch.from_numpy(np.load(sys.argv[2])).float()
parts = [team(images[:1]), team(images[1:200]), team(images[200:])]
np.save(sys.argv[3], torch.cat(parts).detach().numpy())
assert not any(name.startswith("lrensemble") for name in sys.modules)
"""


def test_plain_torch_gives_the_stored_predictions(shipped, digits, tmp_path):
    pool, folder = shipped
    np.save(tmp_path / "images.npy", digits.test.images)
    arguments = [folder / "team.pt2", tmp_path / "images.npy", tmp_path / "out.npy"]
    subprocess.run(
        [sys.executable, "-c", PLAIN_TORCH, *map(str, arguments)], check=True, cwd=tmp_path, timeout=PATIENCE
    )
    assert np.abs(np.load(tmp_path / "out.npy") - stored(pool, "all-weighted")).max() < 1e-5


def test_onnxruntime_gives_the_stored_predictions(shipped, digits):
    onnxruntime = pytest.importorskip("onnxruntime")
    pool, folder = shipped
    session = onnxruntime.InferenceSession(folder / "team.onnx", providers=["CPUExecutionProvider"])
    images = digits.test.images.astype(np.float32)
    parts = [session.run(["probabilities"], {"images": x})[0] for x in (images[:1], images[1:200], images[200:])]
    assert np.abs(np.concatenate(parts) - stored(pool, "all-weighted")).max() < 1e-5


@pytest.mark.parametrize("format", FORMATS)
def test_all_formats_load(shipped, digits, format):
    pool, folder = shipped
    team = Ensemble.load(folder, format=format)
    assert np.abs(team.predict_proba(digits.test.images) - stored(pool, "all-weighted")).max() < 1e-5
    check = team.card.checks[format]
    assert (check.rows, check.undecided) == (450, 0)
    assert check.largest_difference < 1e-5


@pytest.mark.parametrize("vote", sorted(VOTES))
def test_every_vote_is_exported(pool: Pool, tmp_path, digits, vote):
    save_team(pool, "team", vote, calibrated=vote == "logit")
    card = export_team(pool, "team", tmp_path / "team", benchmark=False)
    assert card.checks["torch"].largest_difference < 1e-5
    exported = Ensemble.load(tmp_path / "team").predict_proba(digits.test.images)
    rows = np.abs(exported - stored(pool, "team")).max(1)
    assert (rows > 1e-5).sum() <= card.checks["torch"].undecided <= 4


def test_convolutions_batch_norm_and_onnx(tmp_path, digits):
    config = tiny_config(
        model={"name": "resnet20"},
        training={"epochs": 1, "batch_size": 512},
        policies=["FIX(k0=0.05)"],
        control=False,
    )
    pool = train_pool(load_config(config), tmp_path / "pool", workers=1, devices="cpu")
    select_teams(pool, ["all"])
    card = export_team(pool, "all", tmp_path / "team", formats=FORMATS, benchmark=False)
    assert set(card.checks) == set(FORMATS)
    assert all(check.rows == 450 and check.largest_difference < 1e-5 for check in card.checks.values())


def test_a_wrong_export_leaves_nothing(pool: Pool, tmp_path):
    """Stored predictions of other weights: what is exported is not what was promised."""
    select_teams(pool, ["all"])
    one, other = pool.complete[:2]
    data = (other.path / "weights.safetensors").read_bytes()
    (one.path / "weights.safetensors").write_bytes(data)
    files = {**one.record.files, "weights.safetensors": other.record.files["weights.safetensors"]}
    one.write_record(one.record.model_copy(update={"files": files}))
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=r"differ from the stored predictions by up to .* of 450 test rows"):
        export_team(pool, "all", tmp_path / "out" / "team", benchmark=False)
    assert not list((tmp_path / "out").iterdir())
    card = export_team(pool, "all", tmp_path / "out" / "team", benchmark=False, check=False)
    assert "--no-check" in card.checks["torch"].what


def test_without_the_data_it_says_so(pool: Pool, tmp_path, capsys):
    select_teams(pool, ["best-single"])
    file = pool.path / "pool.json"
    task = json.loads(file.read_text())
    task["data"] = {"name": "npz", "root": str(tmp_path / "gone.npz")}
    write_sealed(file, task)
    assert main(["export", str(pool.path), "best-single", "-o", str(tmp_path / "team"), "--no-benchmark"]) == 0
    captured = capsys.readouterr()
    assert "not checked against the stored predictions" in captured.err
    assert "random rows" in captured.out
    text = (tmp_path / "team" / "README.md").read_text()
    assert "random rows, compared with the module in memory (not checked against" in text
    assert Card.read(tmp_path / "team").preprocessing.range is None


def test_the_card_has_the_test_split_only_after_evaluate(pool: Pool, tmp_path):
    select_teams(pool, ["greedy"])
    out = tmp_path / "team"
    assert export_team(pool, "greedy", out, benchmark=False).test is None
    text = (out / "README.md").read_text()
    assert "was not evaluated on the test split" in text
    result = evaluate(pool)
    score = result.score("greedy")
    card = export_team(pool, "greedy", out, force=True)
    text = (out / "README.md").read_text()
    low, high = (100 * x for x in score.accuracy_interval)
    assert f"test (n = 450, 95 % interval) | {100 * score.accuracy:.2f} [{low:.2f}, {high:.2f}]" in text
    assert f"| {result.bill} |" in text and result.bill.trainings == 4
    assert all(f"- {line}.\n" in text for line in result.verdicts["greedy"].split("\n"))
    team = pool.team("greedy")
    assert all(member_id in text for member_id in team.members)
    flops = sum(pool.find(i).record.costs["flops"] for i in team.members)
    assert f"| FLOPs per row | {flops:,} |" in text
    assert [t.batch for t in card.timings] == [1, 128]
    assert read_timings(pool, pool.team(card.name)) == card.timings
    for timing in card.timings:
        for fastest, spread in ((timing.team_ms, timing.team_spread), (timing.single_ms, timing.single_spread)):
            assert 0 < fastest <= spread[0] <= spread[1] and timing.calls >= 5
        assert f"| batch of {timing.batch} | {timing.text('team')} | {timing.text('single')} |" in text
    # Selected again: the same team has the same numbers, whatever the clock says; another has none.
    pool.save_team(team.model_copy(update={"created": "2999-01-01T00:00:00+00:00"}))
    assert read_evaluation(pool, pool.team("greedy"))[0] is not None
    pool.save_team(team.model_copy(update={"members": {i: 1 / len(team.members) for i in team.members}}))
    said: list[str] = []
    assert export_team(pool, "greedy", out, force=True, benchmark=False, tell=said.append).test is None
    assert "evaluations/greedy.json is of another team of this name, its numbers are not used" in said[0]


def test_abstention_on_validation(shipped):
    pool, folder = shipped
    team = pool.team("all-weighted")
    predictions = np.stack([np.load(pool.path / "members" / i / "predictions" / "val.npy") for i in team.members])
    vote = team_vote(
        predictions, np.array(list(team.members.values())), "soft", np.array([*team.temperatures.values()])
    )
    for threshold, share, accuracy in Card.read(folder).abstention:
        rows = vote.max(1) >= threshold
        assert share == pytest.approx(rows.mean())
        if rows.any():
            assert accuracy == pytest.approx((vote.argmax(1) == pool.labels("val"))[rows].mean())


def test_bad_input(pool: Pool, tmp_path, capsys):
    select_teams(pool, ["greedy", "all"])
    out = str(tmp_path / "team")

    def error(*arguments: str) -> str:
        assert main(["export", str(pool.path), *arguments, "--no-benchmark"]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        return line

    assert "has no team 'gredy': did you mean 'greedy'?" in error("gredy", "-o", out)
    assert "unknown format 'onxx': did you mean 'onnx'?" in error("greedy", "-o", out, "--as", "onxx")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    assert "exists and is no exported team" in error("greedy", "-o", str(tmp_path / "full"), "--force")
    assert "is a file" in error("greedy", "-o", str(tmp_path / "full" / "thesis.tex"))
    assert main(["export", str(pool.path), "greedy", "-o", out, "--no-benchmark"]) == 0
    capsys.readouterr()
    assert "holds an exported team already: --force" in error("greedy", "-o", out)
    member = pool.find(next(iter(pool.team("all").members)))
    (member.path / "weights.safetensors").unlink()
    removed = {"weights.safetensors": "2026-01-01T00:00:00"}
    member.write_record(member.record.model_copy(update={"removed": removed}))
    assert "was deleted by lrensemble gc" in error("all", "-o", out, "--force")
    member.record_path.unlink()
    assert f"member {member.id} of team all is not in" in error("all", "-o", out, "--force")
    assert Ensemble.load(out).card.name == "greedy"  # what was there is there
    assert {path.name for path in tmp_path.iterdir()} == {"team", "full", pool.path.name}


def test_a_model_that_cannot_be_traced(tmp_path, monkeypatch):
    (tmp_path / "branching.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.layer = torch.nn.Linear(64, 10)\n"
        "    def forward(self, x):\n"
        "        y = self.layer(x.flatten(1))\n"
        "        return y if float(y.sum()) > 1e9 else y * 1.0\n"
        "def net(input_shape, num_classes):\n"
        "    return Net()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = tiny_config(model="branching:net", policies=["FIX(k0=0.05)"], control=False)
    pool = train_pool(load_config(config), tmp_path / "pool", workers=1, devices="cpu")
    select_teams(pool, ["all"])
    with pytest.raises(UserError, match=r"cannot be exported as torch .*: try --as safetensors"):
        export_team(pool, "all", tmp_path / "team", trust=True)
    card = export_team(pool, "all", tmp_path / "team", formats=["safetensors"], trust=True)
    assert card.checks["safetensors"].largest_difference < 1e-5


def test_export_leaves_the_random_state(shipped, tmp_path):
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    Ensemble.load(shipped[1], format="safetensors")
    assert torch.rand(1) == expected
