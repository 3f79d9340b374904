"""Policies as parameters of a trial: the same curve comes back, and everything that is drawn is a policy."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrensemble.policies import ALIASES, FUNCTIONS, Policy
from lrensemble.recommend.space import CHOICES, parameters_of, policy_of, suggest

EXAMPLES = {name: definition.example for name, definition in {**FUNCTIONS, **ALIASES}.items()}

SPE, TOTAL = 50, 5000
STEPS = np.linspace(0, TOTAL - 1, 997)


def curve(policy: Policy) -> np.ndarray:
    return policy.bind(steps_per_epoch=SPE, total_steps=TOTAL)(STEPS)


def same(a: Policy, b: Policy) -> bool:
    # A jump may move by a step's rounding.
    close = np.isclose(curve(a), curve(b), rtol=1e-6, atol=1e-9)
    return close.mean() > 0.99


@pytest.mark.parametrize("text", EXAMPLES.values(), ids=list(EXAMPLES))
def test_every_function_comes_back(text):
    policy = Policy.parse(text)
    found = parameters_of(policy, steps_per_epoch=SPE, total_steps=TOTAL)
    for value, distribution in found.values():
        assert distribution._contains(distribution.to_internal_repr(value))
    assert same(policy_of({name: value for name, (value, _) in found.items()}), policy)


NESTED = [
    "SEQ([WARMUP(TRI(k0=0.1, k1=0.01, l=5e), l=200), STEP(k0=0.05, gamma=0.1, l=10e), FIX(0.001)], at=[30%, 80e])",
    "WARMUP(REPEAT(SCALE(COS(k0=0.1, l=100%), by=0.5), l=20e, grow=2), l=5e, clock=global)",
    "CLIP(SCALE(POINTS(at=[0, 10e], k=[0, 0.1], between=hold), by=-1, plus=0.2), low=0, high=0.15)",
]


@pytest.mark.parametrize("text", NESTED)
def test_policies_in_policies_come_back(text):
    policy = Policy.parse(text)
    found = parameters_of(policy, steps_per_epoch=SPE, total_steps=TOTAL)
    assert same(policy_of({name: value for name, (value, _) in found.items()}), policy)


def test_everything_fits_into_one_study():
    """Optuna refuses one name with two kinds of distribution."""
    study = optuna.create_study()
    for text in [*EXAMPLES.values(), *NESTED]:
        found = parameters_of(Policy.parse(text), steps_per_epoch=SPE, total_steps=TOTAL)
        study.add_trial(
            optuna.trial.create_trial(
                params={name: value for name, (value, _) in found.items()},
                distributions={name: distribution for name, (_, distribution) in found.items()},
                value=0.5,
            )
        )
    for _ in range(30):  # and with what is searched
        suggest(study.ask(), (1e-3, 0.5))


@given(st.integers(0, 10_000))
def test_what_is_drawn_is_a_policy_within_its_range(seed):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    policy = suggest(study.ask(), (0.01, 0.5))
    assert Policy.parse(str(policy)) == policy
    values = curve(policy)
    assert np.isfinite(values).all() and 0 < values.max() <= 0.5 * (1 + 1e-9)


def test_every_function_is_searched_but_the_helpers():
    assert set(FUNCTIONS) - set(CHOICES) == {"CLIP", "POINTS", "RANGE", "REPEAT", "SCALE"}
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [suggest(study.ask(), (0.01, 0.5)) for _ in range(400)]
    assert {policy.function for policy in drawn} == set(CHOICES)
    pieces = [[piece.function for piece in p["of"]] for p in drawn if p.function == "SEQ"]
    assert any(a != b for a, b in pieces)


def test_known_observations_guide_the_sampler():
    """TPE draws near what was good although the observations lie outside of the range that is asked for."""
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=0, multivariate=False, n_startup_trials=0)
    )
    for k0 in np.geomspace(1e-5, 5, 40):
        found = parameters_of(Policy.make("FIX", k0=float(k0)), steps_per_epoch=SPE, total_steps=TOTAL)
        study.add_trial(
            optuna.trial.create_trial(
                params={name: value for name, (value, _) in found.items()},
                distributions={name: distribution for name, (_, distribution) in found.items()},
                value=-abs(float(np.log10(k0) + 2)),  # best at 0.01
            )
        )
    k0 = [suggest(study.ask(), (1e-3, 1.0)).bind(steps_per_epoch=SPE, total_steps=TOTAL) for _ in range(60)]
    peaks = [trial.params["k0"] for trial in study.get_trials() if trial.value is None and "k0" in trial.params]
    assert len(k0) == 60 and len(peaks) > 40
    assert abs(np.median(np.log10(peaks)) + 2) < 0.4
