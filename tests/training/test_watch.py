"""Runs that end between epochs: at their target, or because a judge says so; alone and as a stack."""

from __future__ import annotations

from pathlib import Path

import pytest

from lrensemble import Pool, UserError, load_config, train_pool
from lrensemble.pool import Named
from lrensemble.training.loop import Run, fit
from lrensemble.training.runner import control_specs
from tests.conftest import tiny_config
from tests.training.runs import digits, specs_of, timeless, train

ENOUGH = Named(name=f"{__name__}:enough", epochs=3)
SEEN: list[tuple[str, int]] = []


def enough(spec, history, *, epochs: int) -> str | None:
    """A judge of our own."""
    SEEN.append((spec.policy, len(history)))
    return "enough of it" if spec.policy == "FIX(k0=1e-06)" and len(history) == epochs else None


STACKS = pytest.mark.parametrize("dropout", [0.0, 0.1], ids=["stack", "alone"])  # dropout cannot be stacked


def filled(path: Path, dropout: float, judges=(), workers: int = 1, **training) -> Pool:
    config = load_config(
        tiny_config(
            model={"name": "mlp", "hidden": [16], "dropout": dropout},
            policies=["FIX(k0=[0.1, 1e-6])"],
            training={"epochs": 8, "batch_size": 64, **training},
            control=False,
        )
    )
    return train_pool(config, path, threads=1, devices="cpu", judges=judges, workers=workers)


@pytest.mark.parametrize("share", [0.5, 0.85])
def test_a_run_ends_at_its_target_and_is_the_same_until_then(share):
    [plain] = specs_of(["FIX(0.1)"], "training.epochs=8")
    [asked] = specs_of(["FIX(0.1)"], "training.epochs=8", f"training.until={share}")
    whole, ended = train(plain), train(asked)
    epochs = next(i for i, line in enumerate(whole.history, 1) if line["val_accuracy"] >= share)
    assert epochs < 8
    assert ended.status == "stopped" and ended.reason.endswith(f"reached {share:g} after {epochs} of 8 epochs")
    assert timeless(ended.history) == timeless(whole.history[:epochs])
    assert plain.id("data") != asked.id("data")


def test_a_target_that_is_missed_changes_nothing():
    [plain] = specs_of(["FIX(0.1)"])
    [asked] = specs_of(["FIX(0.1)"], "training.until=1.0")
    assert train(asked).status == "complete"
    assert timeless(train(asked).history) == timeless(train(plain).history)


def test_exactly_the_target_is_enough():
    """405 of 450 rows are 0.9; in float32 they would be less."""
    rows = len(digits().val)
    [plain] = specs_of(["FIX(0.1)"])
    for line in train(plain).history[:2]:
        share = round(line["val_accuracy"] * rows) / rows
        [asked] = specs_of(["FIX(0.1)"], f"training.until={share!r}")
        assert timeless(train(asked).history)[-1:] == timeless([line])


@STACKS
def test_a_judge_ends_the_run_it_names_and_no_other(tmp_path: Path, dropout):
    SEEN.clear()
    pool = filled(tmp_path / "judged", dropout, [ENOUGH])
    [stopped] = [m for m in pool.members if m.status == "stopped"]
    assert (stopped.record.reason, len(stopped.history())) == ("enough of it", 3)
    assert stopped.record.costs["steps"] == stopped.history()[-1]["step"]
    assert not stopped.record.files.keys() - {"history.jsonl"}
    # After every epoch but the last, each once.
    assert sorted(SEEN) == [("FIX(k0=0.1)", i) for i in range(1, 8)] + [("FIX(k0=1e-06)", i) for i in range(1, 4)]
    for member in filled(tmp_path / "quiet", dropout).members:
        judged, stop = pool.find(member.id), 3 if member.id == stopped.id else 8
        assert timeless(judged.history()) == timeless(member.history()[:stop])
    SEEN.clear()
    filled(tmp_path / "judged", dropout, [ENOUGH])
    assert not SEEN  # finished: not asked again


@STACKS
def test_runs_that_ended_at_their_target_are_no_model_for_the_control(tmp_path: Path, dropout):
    pool = filled(tmp_path / "pool", dropout, until=0.5)
    assert sorted(m.status for m in pool.members) == ["complete", "stopped"]
    [spec] = control_specs(pool)
    assert (spec.policy, spec.training.until) == ("FIX(k0=1e-06)", None)


@STACKS
def test_a_judge_travels_to_workers(tmp_path: Path, dropout):
    here = filled(tmp_path / "here", dropout, [ENOUGH])
    there = filled(tmp_path / "there", dropout, [ENOUGH], workers=2)
    assert {m.id: m.record.reason for m in here.members} == {m.id: m.record.reason for m in there.members}
    assert [m.record.reason for m in there.members if m.status == "stopped"] == ["enough of it"]


def test_a_judge_that_is_not_there_is_one_line(tmp_path: Path):
    for name, words in (
        ("taget", "unknown judge 'taget': did you mean 'target'"),
        ("no.such:thing", "judge no.such:thing: it cannot be imported"),
        (f"{__name__}:enouhg", "cannot be imported"),
    ):
        with pytest.raises(UserError, match=words):
            filled(tmp_path / "pool", 0.0, [Named(name=name)])
    assert not (tmp_path / "pool").exists()


def test_no_state_is_kept_of_an_epoch_at_which_a_run_is_stopped():
    [spec] = specs_of(["FIX(0.1)"], "training.epochs=8", "training.until=0.5")
    states = []
    run = Run(spec, "id", digits())
    outcome = fit(run, after_epoch=lambda run: (run.ask(), states.append(run.epoch)))
    assert outcome.status == "stopped" and outcome.history[-1]["epoch"] not in states
