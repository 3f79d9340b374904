"""Controlled runs: PLATEAU in the trainer resumes and replays bit for bit, and a probe changes nothing."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch

from lrensemble import Policy, load_config, train_pool
from lrensemble.policies.control import Controller, register_control
from lrensemble.policies.registry import CONTROLS, Parameter
from lrensemble.training.loop import Run, fit
from lrensemble.training.steering import Steering
from tests.conftest import tiny_config
from tests.training.runs import assert_equal, digits, specs_of, train

PLATEAU = "PLATEAU(k0=0.5, factor=0.3, patience=0, threshold=0.2)"  # impatient: the LR falls more than once
LONG = "training.epochs=8"
DROPOUT = {"name": "mlp", "hidden": [16], "dropout": 0.2}


@pytest.fixture
def curious():
    """A controller that looks at every third step and takes the better of half and twice its LR."""

    class Curious(Controller):
        looks = 3
        probes = True

        def __init__(self, k0: float) -> None:
            super().__init__(lr=k0, seen=[])

        def lr(self, step: int) -> float:
            return self.known["lr"]

        def observe(self, step, loss, probing) -> None:
            lrs = [self.known["lr"] / 2, self.known["lr"], self.known["lr"] * 2]
            losses = probing.along(lrs, step).differences
            self.known["seen"].append([step, *losses, *probing.trial(lrs, step)])
            self.known["lr"] = min(zip(losses, lrs, strict=True))[1]

    register_control("CURIOUS", "", "", Parameter("k0", "LR at the start"))(Curious)
    yield
    del CONTROLS["CURIOUS"]


def test_the_lr_falls_and_the_history_says_so():
    [spec] = specs_of([PLATEAU], LONG)
    outcome = train(spec)
    lrs = [line["lr"] for line in outcome.history]
    assert lrs[0] == 0.5 and len(set(lrs)) > 2 and sorted(lrs, reverse=True) == lrs
    assert outcome.trace is not None
    steps = outcome.history[0]["step"]
    assert [float(Policy.parse(outcome.trace)(steps * epoch)) for epoch in range(8)] == lrs


def test_its_trace_gives_the_same_bits():
    [spec] = specs_of([PLATEAU], LONG, "training.augment=[crop]")
    controlled = train(spec)
    replayed = train(spec.model_copy(update={"policy": controlled.trace}))
    assert_equal(controlled, replayed)
    assert replayed.trace is None


def test_resumed_after_any_epoch_equals_uninterrupted(curious):
    for policy in (PLATEAU, "CURIOUS(k0=0.05)"):
        [spec] = specs_of([policy])
        states = []

        def keep(run: Run, states=states) -> None:
            torch.save(run.state(), file := io.BytesIO())
            states.append(file)

        whole = fit(Run(spec, "id", digits()), after_epoch=keep)
        for file in states[:-1]:
            file.seek(0)
            torch.rand(5)
            resumed = fit(Run(spec, "id", digits()), state=torch.load(file, weights_only=True))
            assert_equal(resumed, whole)
            assert resumed.trace == whole.trace


def test_a_probe_changes_nothing(curious):
    """Dropout, momentum, Adam's moments: the run with probes has the bits of its trace without them."""
    [spec] = specs_of(["CURIOUS(k0=0.01)"], "optimizer=AdamW", model=DROPOUT)
    run = Run(spec, "id", digits())
    curious_run = fit(run)
    seen = run.steering.controller.known["seen"]
    looks = {*range(2, run.steps_per_epoch * 4, 3), *range(run.steps_per_epoch - 1, run.steps_per_epoch * 4, 21)}
    assert {step for step, *_ in seen} == looks
    assert all(len({half, same, twice}) == 3 for _, half, same, twice, *_ in seen)
    assert_equal(curious_run, train(spec.model_copy(update={"policy": curious_run.trace})))


def test_in_a_pool(tmp_path: Path):
    """The record keeps the trace; plots, scaling and the database read it in place of the policy."""
    config = load_config(
        tiny_config(policies=[PLATEAU, "FIX(0.05)"], control=False, model={"name": "mlp", "hidden": [8]})
    )
    pool = train_pool(config, tmp_path / "pool", workers=1, threads=1)
    records = {m.record.spec.policy: m.record for m in pool.complete}
    assert records["FIX(k0=0.05)"].trace is None
    controlled = next(record for policy, record in records.items() if policy.startswith("PLATEAU"))
    assert controlled.followed.policy == controlled.trace and controlled.trace.startswith("POINTS(")
    assert controlled.id == controlled.spec.id(pool.task.data_fingerprint)


def test_a_state_of_a_torch_scheduler_goes_on():
    """What versions before wrote into state.pt."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    steering = Steering(optimizer, "COS(k0=0.1, l=100%)", steps_per_epoch=5, total_steps=20)
    steering.load_state({"policy": "COS(k0=0.1, l=20)", "ratios": [1.0], "last_epoch": 10})
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)
    assert steering.lr(0) == 0.1
