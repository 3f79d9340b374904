"""SWITCH: when it goes to which policy."""

from __future__ import annotations

import json

import pytest

from lrensemble.errors import UserError
from lrensemble.policies import Controlled, parse_schedule

THREE = "policies=[FIX(0.4), FIX(0.2), FIX(0.1)]"


def course(text: str, values: list[float], watch: str = "val_loss") -> list[float]:
    """LRs after each epoch of 10 steps, through a state after every one."""
    schedule = Controlled.parse(text).bind(steps_per_epoch=10, total_steps=10 * len(values))
    controller, lrs = schedule.controller(), []
    for epoch, value in enumerate(values, start=1):
        controller.after_epoch(10 * epoch, {watch: value})
        lrs.append(controller.lr(10 * epoch))
        state = json.loads(json.dumps(controller.state()))
        controller = schedule.controller()
        controller.load(state)
    return lrs


def test_up_in_the_first_part_and_down_after_it():
    lrs = course(f"SWITCH({THREE}, window=2e)", [1.0] * 10)
    # 1 is the first best; two flat epochs later it goes up, and everything begins anew; down from epoch 8 of 10 on.
    assert lrs == [0.2, 0.2, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.2, 0.2]


def test_what_becomes_worse_is_no_plateau():
    lrs = course(f"SWITCH({THREE}, window=2e)", [1.0, 1.1, 1.2, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    assert lrs == [0.2, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]


def test_the_threshold_is_what_a_plateau_may_vary_by():
    """Of a noisy plateau the best value is better than all after it: by less than the threshold, it goes up."""
    noisy = [1.0, 0.97, 1.01, 0.98, 1.02, 0.99, 1.0, 0.98, 1.01, 0.99]
    assert course(f"SWITCH({THREE}, window=3e)", noisy)[4] == 0.1
    assert course(f"SWITCH({THREE}, window=3e, threshold=0.02)", noisy)[4] == 0.4


def test_accuracies_thresholds_and_cooldown():
    rising = [0.5, 0.505, 0.51, 0.515, 0.52, 0.525]
    text = f"SWITCH({THREE}, window=2e, threshold=0.02, scale={{}}, watch=val_accuracy, start=3{{}})"
    assert course(text.format("abs", ""), rising, "val_accuracy")[2] == 0.2
    assert course(text.format("rel", ""), rising, "val_accuracy")[2:4] == [0.2, 0.2]
    assert (
        course(text.format("abs", ", threshold=0.004").replace("threshold=0.02, ", ""), rising, "val_accuracy")
        == [0.1] * 6
    )
    waiting = course(text.format("abs", ", cooldown=3e"), rising, "val_accuracy")
    assert waiting == [0.1, 0.1, 0.2, 0.2, 0.2, 0.2]


def test_the_clock_is_the_policys_own_or_the_runs():
    falling = "policies=[STEP(0.8, gamma=0.5, l=2e), STEP(0.4, gamma=0.5, l=2e)], start=2, window=2e"
    assert course(f"SWITCH({falling})", [1.0] * 6)[1:4] == [0.2, 0.8, 0.8]
    assert course(f"SWITCH({falling}, clock=global)", [1.0] * 6)[1:4] == [0.2, 0.4, 0.2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SWITCH([FIX(0.1)])", r"FIX\(k0=0.1\) is the only policy: two or more are needed"),
        (
            "SWITCH([FIX(0.1), FIX(0.2)])",
            r"FIX\(k0=0.1\) \(mean LR 0.1\) stands before FIX\(k0=0.2\) \(0.2\): the order",
        ),
        (f"SWITCH({THREE}, window=40e)", "window = 400 is not possible: the run is not longer"),
        (f"SWITCH({THREE}, window=100%)", "window = 100% is not possible"),
        (f"SWITCH({THREE}, start=4)", "start = 4 is not possible: there are 3 policies"),
        (f"SWITCH({THREE}, watch=val_acuracy)", "did you mean 'val_accuracy'"),
        ("SWITCH([FIX(0.1), PLATEAU(0.01)])", "PLATEAU is a controller"),
    ],
)
def test_impossible_ones(text, message):
    with pytest.raises(UserError, match=message):
        parse_schedule(text).bind(steps_per_epoch=10, total_steps=300)


def test_a_value_that_is_not_recorded():
    with pytest.raises(UserError, match="SWITCH watches val_loss, the history has val_accuracy"):
        course(f"SWITCH({THREE})", [0.5], "val_accuracy")
