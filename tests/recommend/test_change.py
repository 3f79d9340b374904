"""What is proposed when a run missed its target."""

from __future__ import annotations

import numpy as np
import pytest

from lrensemble.policies import ALIASES, FUNCTIONS, Policy
from lrensemble.recommend.change import changes, in_epochs, plateau, scaled

EXAMPLES = {name: definition.example for name, definition in {**FUNCTIONS, **ALIASES}.items()}

STEPS, EPOCHS = 10, 20


def lrs(policy: Policy | str, epochs: int = EPOCHS) -> np.ndarray:
    policy = Policy.parse(policy) if isinstance(policy, str) else policy
    return policy.bind(steps_per_epoch=STEPS, total_steps=STEPS * epochs)(np.arange(STEPS * epochs))


def history(accuracy, losses):
    return [
        {"epoch": i, "step": i * STEPS, "val_accuracy": a, "train_loss": loss}
        for i, (a, loss) in enumerate(zip(accuracy, losses, strict=True), 1)
    ]


def proposed(policy, accuracy, losses, **options):
    options = {"steps_per_epoch": STEPS, "epochs": EPOCHS, "target": 0.95, "rows": 1000, **options}
    return changes(policy, history(accuracy, losses), **options)


NOISY = [0.5 + 0.01 * (-1) ** i for i in range(EPOCHS)]
FALLING = [1 / i for i in range(1, EPOCHS + 1)]


@pytest.mark.parametrize("text", EXAMPLES.values())
def test_in_epochs_is_the_same_policy_in_its_budget_and_in_a_longer_one(text):
    policy = Policy.parse(text)
    fixed = in_epochs(policy, STEPS, EPOCHS)
    np.testing.assert_allclose(lrs(fixed), lrs(policy), rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(lrs(fixed, 3 * EPOCHS)[: STEPS * EPOCHS], lrs(policy), rtol=1e-6, atol=1e-12)
    assert Policy.parse(str(fixed)) == fixed


def test_on_a_plateau_it_lowers_then_raises_then_extends():
    accuracy = [0.5, 0.7, *[0.9] * 18]
    found = proposed("FIX(0.1)", accuracy, NOISY)
    assert [change.policy for change in found] == [
        "SEQ(of=[FIX(k0=0.1), COS(k0=0.1, l=100%)], at=[3e])",
        "SEQ(of=[FIX(k0=0.1), COS(k0=0.3, l=100%)], at=[3e])",
        "SCALE(of=FIX(k0=0.1), by=3)",
        "SCALE(of=FIX(k0=0.1), by=0.3333)",
    ]
    assert "plateau at 0.9000 from epoch 3 of 20" in found[0].why


def test_until_the_boundary_the_lr_is_the_failed_runs():
    accuracy = [*np.linspace(0.5, 0.9, 10), *[0.9] * 10]
    policy = "WARMUP(COS(k0=0.1, l=100%), l=20%)"
    for change in proposed(policy, accuracy, NOISY)[:2]:
        boundary = STEPS * int(float(str(Policy.parse(change.policy)["at"][0])[:-1]))
        np.testing.assert_allclose(lrs(change.policy)[:boundary], lrs(policy)[:boundary], rtol=1e-6, atol=1e-12)
        assert lrs(change.policy)[-1] < 0.01 * 0.1


def test_no_raise_in_the_last_fifth():
    accuracy = [*np.linspace(0.5, 0.9, 17), *[0.9] * 3]
    assert not any("raise" in change.why for change in proposed("FIX(0.1)", accuracy, NOISY))


def test_a_low_lr_is_raised_first():
    assert proposed("FIX(0.1)", np.linspace(0.6, 0.9, EPOCHS), FALLING)[0].policy == "SCALE(of=FIX(k0=0.1), by=3)"


def test_no_progress_at_all_moves_the_range_far():
    found = proposed("SCALE(FIX(1e-4), 2)", [0.1] * EPOCHS, NOISY)
    assert [change.policy for change in found] == [f"SCALE(of=FIX(k0=0.0001), by={by})" for by in ("200", "20", "0.2")]


@pytest.mark.parametrize("entries", [0, 3])
def test_a_diverged_run_is_lowered(entries):
    found = proposed("FIX(9)", [0.1] * entries, [1e9] * entries, diverged=True)
    assert all(lrs(change.policy).max() < 9 for change in found)
    assert len({change.policy for change in found}) == 3


def test_plateau_is_the_first_epoch_within_an_error_of_the_best():
    error = np.sqrt(0.9 * 0.1 / 100)
    accuracy = np.array([0.5, 0.9 - 1.1 * error, 0.9 - 0.9 * error, 0.9, 0.85, 0.85])
    assert plateau(accuracy, 100, 20) == 3
    assert plateau(accuracy[:4], 100, 20) is None  # not long enough ago


def test_scale_of_scale_is_one_scale():
    policy = Policy.parse("COS(k0=0.1, l=100%)")
    twice = scaled(scaled(policy, 10), 0.5)
    assert str(twice) == "SCALE(of=COS(k0=0.1, l=100%), by=5)"
    np.testing.assert_allclose(lrs(twice), 5 * lrs(policy))
