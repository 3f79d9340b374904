"""Controllers: PLATEAU against torch, resume and replay bit for bit, and texts that are of the other kind."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import ReduceLROnPlateau

from lrensemble import Policy, UserError
from lrensemble.policies import Controlled, controller_of, parse_schedule, parse_schedules, trace_policy
from lrensemble.policies.registry import CONTROLS

values = st.one_of(st.floats(-2, 2), st.sampled_from([1.0, 1.0001, 0.9999, 0.9998, math.nan, math.inf]))


@given(
    st.lists(values, min_size=1, max_size=60),
    st.fixed_dictionaries(
        {
            "factor": st.sampled_from([0.1, 0.5, 0.999]),
            "patience": st.integers(0, 4),
            "threshold": st.sampled_from([0.0, 1e-4, 0.1]),
            "cooldown": st.integers(0, 3),
            "min_lr": st.sampled_from([0.0, 0.003]),
        }
    ),
    st.sampled_from(["rel", "abs"]),
    st.sampled_from(["min", "max"]),
    st.integers(0, 59),
)
def test_plateau_equals_torch_and_resumes(seen, given_, scale, mode, cut):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    oracle = ReduceLROnPlateau(optimizer, mode=mode, threshold_mode=scale, **given_)
    schedule = Controlled.make("PLATEAU", k0=0.1, scale=scale, mode=mode, **given_)
    assert parse_schedule(str(schedule)) == schedule == Controlled.from_dict(schedule.to_dict())
    controller = schedule.controller()
    changes = [(0, controller.lr(0))]
    for epoch, value in enumerate(seen, 1):
        controller.after_epoch(10 * epoch, {"val_loss": value})
        oracle.step(value)
        assert controller.lr(10 * epoch) == optimizer.param_groups[0]["lr"]
        changes.append((10 * epoch, controller.lr(10 * epoch)))
        if epoch == cut:  # killed: a new one goes on from plain values
            state = json.loads(json.dumps(controller.state()))
            controller = schedule.controller()
            controller.load(state)
            assert controller.lr(10 * epoch) == changes[-1][1]
    replayed = Policy.parse(str(trace_policy(changes)))
    lrs = replayed(np.arange(10 * len(seen) + 10))
    assert lrs.tolist() == [lr for _, lr in changes for _ in range(10)]
    assert [replayed(t) for t in range(len(lrs))] == lrs.tolist()


def test_a_state_is_a_copy():
    controller = parse_schedule("PLATEAU(0.1, patience=0)").controller()
    state = controller.state()
    for _ in range(3):
        controller.after_epoch(1, {"val_loss": 1.0})
    assert controller.lr(1) < state["lr"] == 0.1
    with pytest.raises(UserError, match="the state of a controller has lr, Plateau needs bad, best, cooling, lr"):
        controller.load({"lr": 0.1})


def test_higher_is_better_for_accuracies():
    controller = parse_schedule("plateau(k0=0.1, watch=val_accuracy, patience=1)").controller()
    for accuracy in (0.1, 0.2, 0.3, 0.4):
        controller.after_epoch(1, {"val_accuracy": accuracy})
    assert controller.lr(1) == 0.1
    with pytest.raises(UserError, match="PLATEAU watches val_accuracy, the history has epoch, val_loss"):
        controller.after_epoch(1, {"val_loss": 1.0, "epoch": 3})


def test_a_policy_is_the_trivial_controller():
    policy = Policy.parse("COS(k0=0.1, l=100)")
    controller = controller_of(policy)
    assert [controller.lr(t) for t in (0, 70, 30)] == [policy(t) for t in (0, 70, 30)]
    controller.begin(None)
    controller.observe(1, math.nan, None)
    controller.after_epoch(10, {"val_loss": 3.0})
    controller.load(controller.state())
    assert controller.looks == 0 and controller.lr(50) == policy(50)


def test_texts_of_either_kind():
    assert isinstance(parse_schedule("COS(0.1, l=5e)"), Policy)
    grid = parse_schedules("PLATEAU(k0=[0.1, 0.2], patience=[2, 3])")
    assert [str(s) for s in grid] == [f"PLATEAU(k0={k}, patience={p})" for k in (0.1, 0.2) for p in (2, 3)]
    assert grid[0].bind(steps_per_epoch=3, total_steps=30) == grid[0]
    assert parse_schedule(CONTROLS["PLATEAU"].example) == Controlled.make("PLATEAU", k0=0.1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Policy.parse("PLATEAU(0.1)"), "PLATEAU is a controller: .* where a policy is needed"),
        (lambda: Policy.from_dict({"policy": "PLATEAU", "k0": 0.1}), "PLATEAU is a controller"),
        (lambda: parse_schedule("WARMUP(PLATEAU(0.1), l=5e)"), "PLATEAU is a controller"),
        (lambda: parse_schedule("PLATEAU(k0=[0.1, 0.2])"), "grid of 2 policies where one is needed"),
        (lambda: Controlled.parse("COS(0.1, l=5e)"), "COS is a policy, where a controller is needed: .*PLATEAU"),
        (lambda: Controlled.parse("cosine(0.1)"), "COSINE is a policy, where a controller is needed"),
        (lambda: parse_schedule("PLATEU(0.1)"), "unknown LR policy 'PLATEU': did you mean 'PLATEAU'"),
        (lambda: parse_schedule("PLATEAU(0.1, factor=1.5)"), "PLATEAU: factor = 1.5 is not possible"),
        (lambda: parse_schedule("PLATEAU(0.1, watch=val_los)"), "did you mean 'val_loss'"),
        (lambda: trace_policy([(0, 0.1), (5, 0.2), (3, 0.1)]), "ascending"),
        (lambda: trace_policy([]), "POINTS: at = "),
    ],
)
def test_errors(call, message):
    with pytest.raises(UserError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
