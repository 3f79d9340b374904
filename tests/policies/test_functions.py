"""The 13 LR functions against torch's own schedulers, the literal formulas, and properties."""

from __future__ import annotations

import math
import pickle
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler as torch_lr

from lrensemble.policies import FUNCTIONS, Length, Parameter, Policy

STEPS = 3000
PAPER = {"FIX", "STEP", "NSTEP", "EXP", "INV", "POLY", "TRI", "TRI2", "TRIEXP", "SIN", "SIN2", "SINEXP", "COS"}

ORACLES = {
    "STEP(k0=0.1, gamma=0.5, l=70)": lambda o: torch_lr.StepLR(o, 70, 0.5),
    "NSTEP(k0=0.1, gamma=0.1, l=[100,1000,2500])": lambda o: torch_lr.MultiStepLR(o, [100, 1000, 2500], 0.1),
    "EXP(k0=0.1, gamma=0.999)": lambda o: torch_lr.ExponentialLR(o, 0.999),
    "POLY(k0=0.1, p=1.7, l=2000)": lambda o: torch_lr.PolynomialLR(o, 2000, 1.7),
    "COS(k0=0.1, k1=0.001, l=500)": lambda o: torch_lr.CosineAnnealingLR(o, 500, 0.001),
    "TRI(k0=0.01, k1=0.1, l=150)": lambda o: torch_lr.CyclicLR(o, 0.01, 0.1, 150, cycle_momentum=False),
    "TRI2(k0=0.01, k1=0.1, l=150)": lambda o: torch_lr.CyclicLR(
        o, 0.01, 0.1, 150, mode="triangular2", cycle_momentum=False
    ),
    "TRIEXP(k0=0.01, k1=0.1, l=150, gamma=0.9995)": lambda o: torch_lr.CyclicLR(
        o, 0.01, 0.1, 150, mode="exp_range", gamma=0.9995, cycle_momentum=False
    ),
}


def torch_values(make) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = make(optimizer)
    values = []
    for _ in range(STEPS):
        values.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return values


def test_the_papers_functions_are_all_there():
    assert set(FUNCTIONS) >= PAPER


@pytest.mark.parametrize("text", ORACLES)
def test_equals_torch(text):
    policy = Policy.parse(text)
    # torch's chained forms round in every step: that is the tolerance, not ours.
    rtol = 1e-9 if text.startswith(("COS", "TRI", "EXP", "POLY")) else 1e-12
    np.testing.assert_allclose(policy(np.arange(STEPS)), torch_values(ORACLES[text]), rtol=rtol, atol=1e-13)


FORMULAS = {  # Wu et al. 2019, Table I, literally
    "INV(k0=0.1, gamma=0.01, p=0.75)": lambda t: 0.1 * (1 + 0.01 * t) ** -0.75,
    "TRI(k0=0.1, k1=0.01, l=150)": lambda t: 0.09 * 2 / math.pi * abs(math.asin(math.sin(math.pi * t / 300))) + 0.01,
    "SIN(k0=0.1, k1=0.01, l=150)": lambda t: 0.09 * abs(math.sin(math.pi * t / 300)) + 0.01,
    "SIN2(k0=0.1, k1=0.01, l=150)": lambda t: 0.09 * abs(math.sin(math.pi * t / 300)) / 2 ** (t // 300) + 0.01,
    "SINEXP(k0=0.1, k1=0.01, l=150, gamma=0.999)": lambda t: 0.09 * abs(math.sin(math.pi * t / 300)) * 0.999**t + 0.01,
    "COS(k0=0.1, k1=0.01, l=150)": lambda t: 0.09 * 0.5 * (1 + math.cos(math.pi * t / 150)) + 0.01,
    "FIX(k0=0.07)": lambda t: 0.07,
}


@pytest.mark.parametrize("text", FORMULAS)
def test_equals_the_papers_formula(text):
    policy, formula = Policy.parse(text), FORMULAS[text]
    for t in range(STEPS):
        assert policy(t) == pytest.approx(formula(t), rel=1e-9, abs=1e-12)


def test_poly_stays_at_its_end_and_real():
    policy = Policy.parse("POLY(k0=0.1, p=0.5, l=100, k1=0.02)")
    assert policy(100) == policy(101) == policy(10**9) == 0.02
    assert Policy.parse("POLY(k0=0.1, p=0, l=100)")(100) == 0.0


def test_per_sets_the_time_of_one_power():
    by_epoch = Policy.parse("EXP(k0=0.1, gamma=0.9, per=1e)").bind(steps_per_epoch=50, total_steps=1000)
    assert by_epoch(100) == pytest.approx(0.1 * 0.9**2, rel=1e-12)


def values_of(parameter: Parameter) -> st.SearchStrategy:
    numbers = st.floats(
        max(parameter.low, 1e-6 if parameter.low_open else 0.0), min(parameter.high, 5.0), allow_nan=False
    )
    lengths = st.builds(Length, st.floats(0.5, 1e4), st.sampled_from(["", "e", "%"]))
    if parameter.kind == "number":
        return numbers
    if parameter.kind == "length":
        return lengths
    return st.lists(st.floats(0, 1e4), min_size=1, max_size=5, unique=True).map(
        lambda values: [Length(v, "e") for v in sorted(values)]
    )


@st.composite
def policies(draw) -> Policy:
    function = FUNCTIONS[draw(st.sampled_from(sorted(FUNCTIONS)))]
    return Policy.make(function.name, **{p.name: draw(values_of(p)) for p in function.parameters})


@given(policies(), st.integers(1, 500), st.integers(1, 10**5), st.lists(st.integers(0, 10**7), min_size=1, max_size=20))
def test_defined_everywhere_in_any_order(policy, steps_per_epoch, total, steps):
    bound = policy.bind(steps_per_epoch=steps_per_epoch, total_steps=total)
    values = [bound(step) for step in steps]
    assert all(isinstance(v, float) and math.isfinite(v) and v >= 0 for v in values)
    shuffled = random.Random(0).sample(range(len(steps)), len(steps))
    assert [bound(steps[i]) for i in shuffled] == [values[i] for i in shuffled]
    np.testing.assert_allclose(bound(np.array(steps)), values, rtol=1e-12, atol=1e-300)
    top = max(bound["k0"], dict(bound.parameters).get("k1", 0.0))
    assert max(values) <= top * (1 + 1e-12)


@given(policies())
def test_text_and_dict_round_trip(policy):
    assert Policy.parse(str(policy)) == policy
    assert Policy.from_dict(policy.to_dict()) == policy
    assert pickle.loads(pickle.dumps(policy)) == policy
    assert len({policy, Policy.parse(str(policy))}) == 1


def test_units_bind():
    policy = Policy.parse("NSTEP(k0=1, gamma=0.5, l=[2e, 50%, 900])").bind(steps_per_epoch=100, total_steps=1000)
    assert [policy(t) for t in (199, 200, 499, 500, 899, 900)] == [1, 0.5, 0.5, 0.25, 0.25, 0.125]
    assert policy.is_bound


def test_unbound_policy_says_what_to_do():
    with pytest.raises(Exception, match=r"bind\(steps_per_epoch"):
        Policy.parse("STEP(k0=0.1, gamma=0.1, l=3e)")(0)


def test_negative_steps_are_a_programming_error():
    policy = Policy.parse("FIX(0.1)")
    with pytest.raises(ValueError, match="-1"):
        policy(-1)
    with pytest.raises(ValueError, match="-1"):
        policy(np.array([3, -1]))
