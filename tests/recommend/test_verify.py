"""Real runs on digits: yes and no, early ends, answers that are known, and interruption."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lrensemble import Pool, UserError, load_config, train_pool
from lrensemble.cli.main import main
from lrensemble.policies import Policy
from lrensemble.recommend import verify as module
from lrensemble.recommend.verify import misfits, verify
from lrensemble.training import member as training
from tests.conftest import tiny_config

CONFIG = tiny_config(model={"name": "mlp", "hidden": [32]}, training={"epochs": 20, "batch_size": 32}, control=False)


def ask(policy: str, path: Path, target: float = 0.9, **options):
    return verify(load_config(CONFIG), policy, target, pool=path, threads=1, devices="cpu", **options)


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pool with a yes of two seeds and a no."""
    path = tmp_path_factory.mktemp("verify") / "pool"
    assert ask("FIX(0.1)", path, seeds=2).yes
    assert not ask("FIX(1e-6)", path).yes
    return path


@pytest.fixture
def known(answered: Path, tmp_path: Path) -> Path:
    return shutil.copytree(answered, tmp_path / "pool")


def test_yes_at_the_first_epoch_that_reaches_it(known: Path):
    answer = ask("FIX(0.1)", known, seeds=2)
    [attempt] = answer.attempts
    assert (answer.yes, attempt.share, answer.proposals) == (True, 1.0, ())
    for run in attempt.runs:
        member = Pool.open(known).find(run.member)
        accuracies = [line["val_accuracy"] for line in member.history()]
        assert max(accuracies[:-1], default=0) < 0.9 <= accuracies[-1]
        assert run.reached == {**member.record.targets["0.9"], "epoch": len(accuracies)}
        assert run.epochs < 20 and member.status == "stopped" and run.known
        assert run.best == accuracies[-1]
        assert run.se == pytest.approx((run.best * (1 - run.best) / 337) ** 0.5)
    steps = [run.reached["step"] for run in attempt.runs]
    assert attempt.median("step") == sum(steps) / 2


def test_no_is_a_forecast_after_a_fifth_of_the_budget(known: Path):
    answer = ask("FIX(1e-6)", known)
    [run] = answer.attempts[0].runs
    assert (answer.yes, run.given_up, run.reached, run.epochs) == (False, True, None, 4)
    assert "is not expected to exceed" in run.reason
    assert answer.proposals[0].policy == "SCALE(of=FIX(k0=1e-06), by=100)"
    assert answer.attempts[0].median("step") is None


def test_what_was_asked_before_trains_nothing(known: Path, monkeypatch):
    def refuse(*args, **options):
        raise AssertionError("trained")

    monkeypatch.setattr(module, "train_pool", refuse)
    ask("FIX(0.1)", known, seeds=2)
    ask("FIX(1e-6)", known)
    assert ask("FIX(0.1)", known, target=0.5).yes  # it passed that on the way
    with pytest.raises(AssertionError, match="trained"):
        ask("FIX(0.1)", known, target=0.999)
    with pytest.raises(AssertionError, match="trained"):
        ask("FIX(1e-6)", known, give_up=False)


def test_to_the_end(known: Path):
    answer = ask("FIX(1e-6)", known, give_up=False)
    [run] = answer.attempts[0].runs
    assert (answer.yes, run.given_up, run.epochs, run.status) == (False, False, 20, "complete")


def test_an_ordinary_member_answers(tmp_path: Path, monkeypatch):
    pool = train_pool(load_config(CONFIG | {"policies": ["FIX(0.1)"]}), tmp_path / "pool", threads=1, devices="cpu")
    monkeypatch.setattr(module, "train_pool", None)
    answer = ask("FIX(0.1)", pool.path)
    first = next(line for line in pool.members[0].history() if line["val_accuracy"] >= 0.9)
    assert answer.attempts[0].runs[0].reached == {key: first[key] for key in ("step", "epoch", "seconds")}
    assert (answer.backtest.runs, answer.backtest.reached) == (1, 1)
    no = ask("FIX(0.1)", pool.path, target=1.0)
    assert not no.yes and no.attempts[0].runs[0].epochs == 20


def test_changes_are_tried_until_one_gets_there(known: Path):
    answer = ask("FIX(1e-6)", known, tries=4)
    assert answer.yes and not answer.attempts[0].yes and answer.attempts[-1].yes
    assert 2 <= len(answer.attempts) <= 5
    for attempt in answer.attempts[1:]:
        assert attempt.why and Policy.parse(attempt.policy)
    assert len({attempt.policy for attempt in answer.attempts}) == len(answer.attempts)
    assert len(ask("FIX(1e-6)", known, tries=1).attempts) == 2


@pytest.mark.parametrize("dropout", [0.0, 0.1], ids=["stack", "alone"])
def test_interrupted_and_repeated_is_the_same(tmp_path: Path, monkeypatch, dropout):
    config = load_config(CONFIG, [f"model.dropout={dropout}"])
    options = {"threads": 1, "devices": "cpu", "seeds": 2, "workers": 1}  # in this process
    verify(config, "FIX(0.001)", 0.97, pool=tmp_path / "quiet", **options)
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr(training, "CHECKPOINT_SHARE", 1e9)
    calls = []

    def stop(curve, target, rule=module.is_hopeless):
        calls.append(len(curve.accuracy))
        if len(calls) == 9:
            raise KeyboardInterrupt
        return rule(curve, target)

    monkeypatch.setattr(module, "is_hopeless", stop)
    with pytest.raises(KeyboardInterrupt):
        verify(config, "FIX(0.001)", 0.97, pool=tmp_path / "pool", **options)
    answer = verify(config, "FIX(0.001)", 0.97, pool=tmp_path / "pool", **options)
    assert calls[9] > 1  # not from the beginning
    for run in answer.attempts[0].runs:
        quiet, noisy = (Pool.open(tmp_path / name).find(run.member) for name in ("quiet", "pool"))
        assert noisy.record.reason == quiet.record.reason
        accuracies = [[line["val_accuracy"] for line in member.history()] for member in (quiet, noisy)]
        assert accuracies[0] == accuracies[1]


def test_a_policy_beyond_the_budget_is_warned_of():
    def of(text: str) -> list[str]:
        return misfits(Policy.parse(text), steps_per_epoch=10, epochs=5)

    assert of("STEP(0.1, 0.3, 30e)") == ["STEP: l = 30e is longer than the budget of 5 epochs"]
    assert len(of("WARMUP(SEQ([FIX(1), FIX(2)], at=[60]), l=51)")) == 2
    assert of("COS(0.1, l=100%)") == of("STEP(0.1, 0.3, 5e)") == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--target", "91"], "write 0.91 for 91 %"),
        (["--target", "0"], "above 0 and at most 1"),
        (["--target", "nan"], "above 0 and at most 1"),
        (["--target", "0.9", "--budget", "0"], "must be above 0"),
        (["--target", "0.9", "--budget", "10"], "less than one epoch (31 steps)"),
        (["--target", "0.9", "--budget", "50%"], "a share of what?"),
        (["--target", "0.9", "--budget", "2.5e"], "whole epochs"),
        (["--target", "0.9", "--seeds", "0"], "argument --seeds: 0 is not possible"),
        (["--target", "0.9", "--try", "-1"], "argument --try/--adapt: -1 is not possible"),
        (["--target", "0.9", "training.epoch=3"], "did you mean 'epochs'?"),
    ],
)
def test_bad_input(words, message, tmp_path: Path, capsys):
    assert main(["verify", "FIX(0.1)", "configs/digits.yaml", "--pool", str(tmp_path / "p"), *words]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1
    assert not (tmp_path / "p").exists()


def test_the_command(answered: Path, tmp_path: Path, capsys):
    path = str(shutil.copytree(answered, tmp_path / "pool"))
    common = ["--target", "0.9", "--threads", "1", "--device", "cpu", "--format", "json"]
    assert main(["verify", "FIX(0.1)", path, *common, "--budget", "20e"]) == 0
    yes = json.loads(capsys.readouterr().out)
    assert main(["verify", "FIX(1e-6)", path, *common, "--budget", "650"]) == 1  # 20 epochs and a bit
    no = json.loads(capsys.readouterr().out)
    assert (yes["yes"], no["yes"], yes["rows"], no["epochs"]) == (True, False, 337, 20)
    assert yes["attempts"][0]["runs"][0]["known"] and no["attempts"][0]["runs"][0]["known"]
    assert no["attempts"][0]["median"] == {"step": None, "seconds": None}
    assert main(["verify", "FIX(1e-6)", path, *common[:-2]]) == 1
    out = capsys.readouterr().out
    assert "given up after 4 of 20 (known)" in out and "n = 337" in out and "wrongly gives up: 2.6 %" in out
    assert main(["verify", "FIX(0.1)", path, *common[:-2]]) == 0
    assert "yes: FIX(k0=0.1), step" in capsys.readouterr().out


def test_other_data_in_the_folder_are_refused(known: Path):
    config = load_config(CONFIG, ["data.split_seed=1"])
    with pytest.raises(UserError, match="other data"):
        verify(config, "FIX(0.1)", 0.9, pool=known)


def test_the_configuration_of_a_pool_stays(known: Path):
    """A question trains in the pool, and is no configuration of it."""
    path = known / "config.json"
    kept = json.dumps({**json.loads(path.read_text()), "policies": ["FIX(k0=0.2)"]})
    path.write_text(kept)
    assert not ask("FIX(1e-6)", known, target=0.999, give_up=False).yes
    assert path.read_text() == kept
    train_pool(load_config(CONFIG, ["policies=FIX(0.1)", "training.epochs=1"]), known, workers=1, threads=1)
    assert json.loads(path.read_text())["training"]["epochs"] == 1
