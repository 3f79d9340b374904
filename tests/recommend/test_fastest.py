"""The fastest policy on digits: what is found is in the records, goes on where it was, reads the test split once."""

from __future__ import annotations

import itertools
import json
import re
import time
from types import SimpleNamespace

import numpy as np
import pytest

from lrensemble import Policy, Pool, UserError, load_config
from lrensemble.cli.main import main
from lrensemble.pool.fastest import Contestant, read_fastest
from lrensemble.recommend import fastest_trials
from lrensemble.recommend.fastest import find_fastest
from lrensemble.recommend.iso_accuracy import Curves
from lrensemble.training import make_plan
from lrensemble.training.meter import Meter
from tests.conftest import tiny_config

OPTIONS = {"workers": 1, "threads": 1, "devices": "cpu", "seeds": 4, "finalists": 1}
SLOW = "STEP(k0=0.02, gamma=0.3, l=20%)"  # a decay that ends too early
TRAINING = {"epochs": 10, "batch_size": 128}


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(fastest_trials, "FAMILIES", {"EXP": fastest_trials.FAMILIES["EXP"][:2]})
    monkeypatch.setattr(fastest_trials, "BUDGETS", (0.5, 1.0))
    monkeypatch.setattr(fastest_trials, "CONSTANTS", 2)
    # An epoch takes a second: what these small networks really take is the machine's noise, and would decide.
    ticks = itertools.count()
    clock = SimpleNamespace(perf_counter=time.perf_counter, process_time=lambda: float(next(ticks)))
    monkeypatch.setattr("lrensemble.training.meter.time", clock)


def plan_of(path, **changes):
    return make_plan(load_config(tiny_config(training=TRAINING, **changes)), path)


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """The splits that predictions were read of."""
    seen = []
    predictions = Pool.predictions

    def watched(self, split, *rest):
        seen.append(split)
        return predictions(self, split, *rest)

    monkeypatch.setattr(Pool, "predictions", watched)
    return seen


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fastest") / "pool"


def test_a_slow_baseline_is_beaten(folder, reads, capsys):
    found = find_fastest(plan_of(folder), baseline=SLOW, lrs=[0.01, 0.3], **OPTIONS)
    assert found.winner is not None and found.confirmation.holds
    assert reads.count("test") == 2  # the winner's and the baseline's, once
    row, pool = found.recommended, Pool.open(folder)
    assert [r.why for r in found.rows[:3]] == ["baseline", "baseline without its decay", "best constant LR"]
    assert found.rows[1].policy == "FIX(k0=0.02)" and found.largest == 0.3
    # Its numbers are those of the records.
    runs = {(m.record.spec.policy, m.record.spec.training.epochs, m.record.spec.seed): m for m in pool.runs}
    accuracy = [[line["val_accuracy"] for line in runs[SLOW, 10, seed].history()] for seed in range(4)]
    assert found.target == pytest.approx(np.mean([line[-5:] for line in accuracy]))
    assert found.rows[0].curve == pytest.approx(np.mean(accuracy, axis=0))
    epoch = found.confirmation.epoch
    seconds = [
        [runs[policy, budget, seed].history()[at - 1]["cpu_seconds"] for seed in found.fresh]
        for policy, budget, at in ((SLOW, 10, 10), (row.policy, row.epochs, epoch))
    ]
    slow, quick = map(np.median, seconds)
    assert found.speed_ups["full baseline"] == pytest.approx(slow / quick)
    assert found.search_seconds == pytest.approx(sum(m.record.costs["cpu_seconds"] for m in pool.runs))
    assert (found.repaid_after - 1) * (slow - quick) < found.search_seconds <= found.repaid_after * (slow - quick)
    labels = pool.labels("test")
    base = [
        np.asarray(p).argmax(1) == labels for p in pool.predictions("test", [runs[SLOW, 10, s] for s in found.fresh])
    ]
    assert found.confirmation.test["baseline"] == pytest.approx(np.mean(base))
    # As accurate, and no faster with fresh seeds; or a fresh seed ended early: the baseline stays.
    for change in ({"seconds": 2 * slow}, {"seconds": slow}, {"seconds": None, "difference": None, "holds": False}):
        other = found.model_copy(update={"confirmation": found.confirmation.model_copy(update=change)})
        assert other.recommended is other.rows[0] and other.repaid_after is None
        assert set(other.speed_ups.values()) == {1.0}
    assert read_fastest(pool) == found


def test_the_same_call_trains_nothing_again(folder):
    find_fastest(plan_of(folder), baseline=SLOW, lrs=[0.01, 0.3], **OPTIONS)
    before = read_fastest(Pool.open(folder))
    times = {path: path.stat().st_mtime_ns for path in folder.glob("members/*/record.json")}
    again = find_fastest(plan_of(folder), baseline=SLOW, lrs=[0.01, 0.3], **OPTIONS)
    assert {path: path.stat().st_mtime_ns for path in folder.glob("members/*/record.json")} == times
    assert again.model_copy(update={"created": before.created}) == before


def test_a_baseline_that_nothing_beats_is_kept(tmp_path, reads, capsys):
    found = find_fastest(plan_of(tmp_path / "pool"), baseline="FIX(k0=0.3)", lrs=[1e-5], **OPTIONS)
    assert found.winner is None and found.confirmation is None and found.repaid_after is None
    assert found.recommended is found.rows[0] and set(found.speed_ups.values()) == {1.0}
    assert "test" not in reads


def test_budgets_grow_until_enough_of_them_are_accurate_and_a_warm_up_is_tried_above_the_largest_lr(monkeypatch):
    monkeypatch.undo()  # all families

    class Imagined:
        """More accurate at the end with the budget, and the higher ONECYCLE's peak is."""

        def train(self, candidates, seeds):
            return [[candidate] for candidate in candidates]

        def curves(self, members, epochs):
            [candidate] = members
            peak = Policy.parse(candidate.policy)["k0"] if candidate.policy.startswith("ONECYCLE(") else 0.01
            ends = np.where(np.arange(epochs) < epochs - 5, 0.0, epochs / 100 + peak)
            return Curves(ends[None], np.arange(1.0, epochs + 1)[None])

    trials = fastest_trials.Trials(Imagined())
    fastest_trials.search_policies(trials, 0.1, 100, 0.42, 2, lambda text: None)
    peaks = {
        name: {Policy.parse(c.policy)["k0"] for c in trials.scores if c.policy.startswith(f"{name}(")}
        for name in fastest_trials.FAMILIES
    }
    assert max(peaks.pop("ONECYCLE")) == 0.3 and max(map(max, peaks.values())) <= 0.1
    finalists = trials.finalists(0.42, 2)
    assert [c.epochs for c in finalists] == [12, 14]  # 0.3 + 0.12: the first two budgets that have what is wanted
    assert max(c.epochs for c in trials.scores if c.epochs != 20) == 14  # 20: the screening
    assert all(Policy.parse(c.policy)["k0"] == 0.3 for c in finalists)


def test_there_is_one_clock_for_all(tmp_path, monkeypatch):
    """A run that an older version has left, and that the search comes to after the baseline, has no CPU seconds."""
    plan = plan_of(tmp_path / "pool")
    used = Meter.used
    with monkeypatch.context() as patched:
        patched.setattr(Meter, "used", lambda self: {k: v for k, v in used(self).items() if k != "cpu_seconds"})
        trainer = fastest_trials.Trainer(plan, {"workers": 1, "threads": 1, "devices": "cpu"})
        trainer.train([Contestant(policy="FIX(k0=0.3)", epochs=6)], [0])
    found = find_fastest(plan, baseline=SLOW, lrs=[0.01, 0.3], **{**OPTIONS, "seeds": 2})
    assert found.clock == "seconds"
    trainer = fastest_trials.Trainer(plan, {"workers": 1, "threads": 1, "devices": "cpu"})
    [[member]] = trainer.train([Contestant(policy=SLOW, epochs=10)], [0])  # the first it trains: kept, and no clock
    assert "cpu_seconds" in member.record.costs and trainer.clock == "seconds"
    assert found.search_seconds == pytest.approx(sum(m.record.costs["seconds"] for m in Pool.open(plan.pool).runs))
    assert all(row.seconds is None or row.seconds < 10 for row in found.rows)  # no epochs, which take a second of CPU


def test_what_cannot_be_asked(tmp_path, capsys):
    with pytest.raises(UserError, match=r"every FIX run died at >= 1e\+30 .*: try smaller LRs, --lrs 3e\+29"):
        find_fastest(plan_of(tmp_path / "pool"), baseline=SLOW, lrs=[1e30, 1e31], **OPTIONS)
    with pytest.raises(UserError, match="seeds = 1 is not possible"):
        find_fastest(plan_of(tmp_path / "pool"), baseline=SLOW, **{**OPTIONS, "seeds": 1})
    short = make_plan(load_config(tiny_config()), tmp_path / "short")
    with pytest.raises(UserError, match=r"training.epochs = 4 is not possible here: .* 10 or more"):
        find_fastest(short, baseline=SLOW, **OPTIONS)
    config = tmp_path / "tiny.yaml"
    config.write_text(json.dumps(tiny_config()))
    assert main(["fastspiker", str(config)]) == 2
    assert "fastspiker is for events; lrensemble fastest is for all data" in capsys.readouterr().err


def test_the_command(folder, tmp_path, capsys):
    config = tmp_path / "tiny.yaml"
    config.write_text(json.dumps(tiny_config(training=TRAINING, policies=[SLOW])))
    command = ["fastest", str(config), "--pool", str(folder), "--lrs", "0.01", "0.3", "--workers", "1"]
    command += ["--finalists", "1", "--seeds", "4", "--device", "cpu"]
    assert main([*command, "--format", "json"]) == 0
    data, found = json.loads(capsys.readouterr().out), read_fastest(Pool.open(folder))
    assert data["speed_ups"] == pytest.approx(found.speed_ups) and data["split"] == "validation"
    assert main(command) == 0
    out = capsys.readouterr().out
    assert out.startswith(found.recommended.policy) and "baseline without its decay" in out
    assert f"{found.speed_ups['full baseline']:.2f} times: the baseline's whole budget" in out
    assert f"repaid after {found.repaid_after} trainings" in out


def test_the_report_page_has_it(folder, tmp_path):
    find_fastest(plan_of(folder), baseline=SLOW, lrs=[0.01, 0.3], **OPTIONS)  # done before, unless another process has
    pool, found = Pool.open(folder), read_fastest(Pool.open(folder))
    assert main(["report", str(folder), "-o", str(tmp_path / "page.html")]) == 0
    text = (tmp_path / "page.html").read_text()
    values = dict(re.findall(r'data-key="(fastest[^"]*)" value="([^"]*)"', text))
    assert float(values["fastest.search"]) == pytest.approx(found.search_seconds, rel=1e-8)
    for i, row in enumerate(found.rows):
        assert float(values[f"fastest.{i}.final"]) == pytest.approx(row.final, rel=1e-8)
    for name, ratio in found.speed_ups.items():
        shown = values.get(f"fastest.ratio.{name.replace(' ', '-')}")
        assert ratio is None or float(shown) == pytest.approx(ratio, rel=1e-8)
    section = text[text.index('<section id="fastest"') : text.index('<section id="members"')]
    assert section.count("<path") == len(found.rows) + 1  # a line each, and the target band
    assert pool.task.name in text
