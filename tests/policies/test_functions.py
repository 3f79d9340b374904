"""Every LR function against torch's own schedulers, the literal formulas, and properties."""

from __future__ import annotations

import copy
import math
import pickle
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, reject
from hypothesis import strategies as st
from torch.optim import lr_scheduler as torch_lr

from lrensemble import UserError
from lrensemble.policies import ALIASES, FUNCTIONS, LRBENCH, Length, Parameter, Policy

STEPS = 3000


def torch_values(make, lr: float = 0.1, steps: int = STEPS) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr, momentum=0.9)
    scheduler = make(optimizer)
    values = []
    for _ in range(steps):
        values.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return values


def lambda_lr(formula):
    return lambda o: torch_lr.LambdaLR(o, lambda t: formula(t) / 0.1)


# torch's chained schedulers multiply in every step; the tolerance is for their rounding over 3,000 steps.
CHAINED = 1e-9
EXACT = 1e-12

ORACLES = [
    ("STEP(k0=0.1, gamma=0.5, l=70)", lambda o: torch_lr.StepLR(o, 70, 0.5), EXACT),
    (
        "NSTEP(k0=0.1, gamma=0.1, l=[100,1000,2500])",
        lambda o: torch_lr.MultiStepLR(o, [100, 1000, 2500], 0.1),
        EXACT,
    ),
    ("EXP(k0=0.1, gamma=0.999)", lambda o: torch_lr.ExponentialLR(o, 0.999), CHAINED),
    ("POLY(k0=0.1, p=1.7, l=2000)", lambda o: torch_lr.PolynomialLR(o, 2000, 1.7), CHAINED),
    ("COS(k0=0.1, k1=0.001, l=500)", lambda o: torch_lr.CosineAnnealingLR(o, 500, 0.001), 1e-7),
    ("TRI(k0=0.01, k1=0.1, l=150)", lambda o: torch_lr.CyclicLR(o, 0.01, 0.1, 150), EXACT),
    ("TRI2(k0=0.01, k1=0.1, l=150)", lambda o: torch_lr.CyclicLR(o, 0.01, 0.1, 150, mode="triangular2"), EXACT),
    (
        "TRIEXP(k0=0.01, k1=0.1, l=150, gamma=0.9995)",
        lambda o: torch_lr.CyclicLR(o, 0.01, 0.1, 150, mode="exp_range", gamma=0.9995),
        EXACT,
    ),
    ("COSRSW(k0=0.1, k1=0.001, l=300)", lambda o: torch_lr.CosineAnnealingWarmRestarts(o, 300, 1, 0.001), EXACT),
    (
        "SGDR(k0=0.1, k1=0.001, l=200, mult=2)",
        lambda o: torch_lr.CosineAnnealingWarmRestarts(o, 200, 2, 0.001),
        EXACT,
    ),
    ("ONECYCLE(k0=0.1, l=3000)", lambda o: torch_lr.OneCycleLR(o, 0.1, total_steps=3001), None),
    (
        "WARMUP(FIX(k0=0.1), l=500, start=0.01)",
        lambda o: torch_lr.LinearLR(o, 0.1, 1.0, 500),
        CHAINED,
    ),
    (
        "SEQ([FIX(k0=0.05), EXP(k0=0.1, gamma=0.99), FIX(k0=0.001)], at=[700, 1500])",
        lambda o: torch_lr.SequentialLR(
            o,
            [
                torch_lr.ConstantLR(o, 0.5, STEPS),
                torch_lr.ExponentialLR(o, 0.99),
                torch_lr.ConstantLR(o, 0.01, STEPS),
            ],
            [700, 1500],
        ),
        CHAINED,
    ),
]


@pytest.mark.parametrize(("text", "make", "rtol"), [o for o in ORACLES if o[2]], ids=[o[0] for o in ORACLES if o[2]])
def test_equals_torch(text, make, rtol):
    policy = Policy.parse(text).bind(steps_per_epoch=1, total_steps=STEPS)
    values = torch_values(make)
    np.testing.assert_allclose(policy(np.arange(STEPS)), values, rtol=rtol, atol=1e-13)
    order = random.Random(0).sample(range(STEPS), 200)
    np.testing.assert_allclose([policy(t) for t in order], [values[t] for t in order], rtol=rtol, atol=1e-13)


CLOSED = {  # torch's own closed forms, without the rounding of the chained ones
    "STEP(k0=0.1, gamma=0.5, l=70)": lambda o: torch_lr.StepLR(o, 70, 0.5),
    "NSTEP(k0=0.1, gamma=0.1, l=[100,1000,2500])": lambda o: torch_lr.MultiStepLR(o, [100, 1000, 2500], 0.1),
    "EXP(k0=0.1, gamma=0.999)": lambda o: torch_lr.ExponentialLR(o, 0.999),
    "POLY(k0=0.1, p=1.7, l=2000)": lambda o: torch_lr.PolynomialLR(o, 2000, 1.7),
    "COS(k0=0.1, k1=0.001, l=500)": lambda o: torch_lr.CosineAnnealingLR(o, 500, 0.001),
}


@pytest.mark.parametrize("text", CLOSED)
def test_equals_torchs_closed_form(text):
    policy = Policy.parse(text)
    scheduler = CLOSED[text](torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1))
    expected = []
    for t in range(STEPS):
        scheduler.last_epoch = t
        expected.append(scheduler._get_closed_form_lr()[0])
    np.testing.assert_allclose(policy(np.arange(STEPS)), expected, rtol=1e-12, atol=1e-17)
    np.testing.assert_allclose([policy(t) for t in range(STEPS)], expected, rtol=1e-12, atol=1e-17)


@pytest.mark.parametrize("shape", ["cos", "linear"])
@pytest.mark.parametrize("phases", [2, 3])
@pytest.mark.parametrize("total", [1000, 77])
def test_onecycle_equals_torch(shape, phases, total):
    policy = Policy.parse(f"ONECYCLE(k0=0.3, l={total}, up=0.35, div=20, final=100, phases={phases}, shape={shape})")
    values = torch_values(
        lambda o: torch_lr.OneCycleLR(
            o,
            0.3,
            total_steps=total,
            pct_start=0.35,
            div_factor=20,
            final_div_factor=100,
            three_phase=phases == 3,
            anneal_strategy=shape,
        ),
        steps=total - 1,
    )
    np.testing.assert_allclose(policy(np.arange(total - 1)), values, rtol=1e-11)
    np.testing.assert_allclose([policy(t) for t in range(total - 1)], values, rtol=1e-11)
    assert policy(total - 1) == pytest.approx(0.3 / 20 / 100)
    assert policy(10**9) == pytest.approx(0.3 / 20 / 100)


T, W = 1000, 120  # steps, warm-up of the schedules of transformers


def after_warmup(formula):
    return lambda t: 0.1 * (t / W if t < W else formula(t))


TRANSFORMERS = {  # the multipliers that transformers.optimization documents, times 0.1
    "linear(k0=0.1, warmup=120)": after_warmup(lambda t: max(0.0, (T - t) / (T - W))),
    "cosine(k0=0.1, warmup=120)": after_warmup(lambda t: 0.5 * (1 + math.cos(math.pi * (t - W) / (T - W)))),
    "cosine(k0=0.1, warmup=120, k1=0.01)": after_warmup(
        lambda t: 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (t - W) / (T - W)))
    ),
    "cosine_with_restarts(k0=0.1, warmup=120, cycles=4)": after_warmup(
        lambda t: 0.5 * (1 + math.cos(math.pi * ((4 * (t - W) / (T - W)) % 1)))
    ),
    "polynomial(k0=0.1, warmup=120, p=2, k1=0.001)": after_warmup(
        lambda t: (0.1 - 0.001) / 0.1 * (1 - (t - W) / (T - W)) ** 2 + 0.001 / 0.1
    ),
    "inverse_sqrt(k0=0.1, warmup=120)": after_warmup(lambda t: 1 / math.sqrt(t / W)),
    "constant_with_warmup(k0=0.1, warmup=120)": after_warmup(lambda t: 1.0),
    "WSD(k0=0.1, warmup=120, decay=300, l=1000, shape=cos)": after_warmup(
        lambda t: 1.0 if t < 700 else 0.5 * (1 + math.cos(math.pi * (t - 700) / 300))
    ),
    "WSD(k0=0.1, warmup=120, decay=300, l=1000, shape=sqrt)": after_warmup(
        lambda t: 1.0 if t < 700 else 1 - math.sqrt((t - 700) / 300)
    ),
    "KNEE(k0=0.1, warmup=120, hold=500, l=1000)": after_warmup(lambda t: 1.0 if t < 620 else (T - t) / (T - 620)),
    # DeepSpeed: WarmupLR with its logarithm, LRRangeTest with and without stairs
    "WARMUP(FIX(k0=0.1), l=120, shape=log, start=0.001)": lambda t: (
        0.001 + 0.099 * math.log(t + 1) / math.log(W) if t < W else 0.1
    ),
    "RANGE(k0=0.001, l=50, rate=1.5)": lambda t: 0.001 * (1 + 1.5 * t / 50),
    "RANGE(k0=0.001, l=50, rate=1.5, shape=stairs)": lambda t: 0.001 * (1 + 1.5 * (t // 50)),
    "RANGE(k0=0.001, l=1000, k1=1, shape=exp)": lambda t: 0.001 * 1000 ** (t / 1000),
    # a warm-up inside the clock of the whole
    "WARMUP(COS(k0=0.1, l=100%), l=120, clock=global)": lambda t: (
        0.5 * (1 + math.cos(math.pi * W / T)) * 0.1 * t / W if t < W else 0.05 * (1 + math.cos(math.pi * t / T))
    ),
}


@pytest.mark.parametrize("text", TRANSFORMERS)
def test_equals_the_documented_formula(text):
    policy, formula = Policy.parse(text).bind(steps_per_epoch=10, total_steps=T), TRANSFORMERS[text]
    expected = [formula(t) for t in range(T)]
    np.testing.assert_allclose([policy(t) for t in range(T)], expected, rtol=1e-11, atol=1e-15)
    np.testing.assert_allclose(policy(np.arange(T)), expected, rtol=1e-11, atol=1e-15)


def g_of(name: str, t: int, l: int, gamma: float) -> float:  # noqa: E741
    """LRBench's waves from its paper and code, by name, in another form than ours."""
    plain = name.removesuffix("EXP").removesuffix("2")
    u = math.ceil(t / l) - t / l  # the saw of the restarts; our peaks at t = 0, l, ... are left out of the test
    waves = {
        "TRI": (2 / math.pi) * abs(math.asin(math.sin(math.pi * t / (2 * l)))),
        "DTRI": (2 / math.pi) * abs(math.asin(math.sin(math.pi * (t + l) / (2 * l)))),
        "SIN": abs(math.sin(math.pi * t / (2 * l))),
        "DSIN": abs(math.sin(math.pi * (t + l) / (2 * l))),
        "COS": 0.5 * (1 + math.cos(math.pi * t / l)),
        "UPCOS": 0.5 * (1 + math.cos(math.pi * (t / l + 1))),
        "RSW": u,
        "SINRSW": math.sin(math.pi / 2 * u),
        "COSRSW": 0.5 * (1 - math.cos(math.pi * u)),
    }
    value = waves[plain]
    if name.endswith("EXP"):
        return value * gamma**t
    if name.endswith("2"):
        ahead = {"DTRI": l, "DSIN": l, "COS": l}.get(plain, 0)
        period = l if plain.endswith("RSW") else 2 * l
        return value / 2 ** math.floor((t + ahead) / period)
    return value


WAVES = sorted(name for name in LRBENCH if name.startswith(("TRI", "DTRI", "SIN", "DSIN", "COS", "UPCOS", "RSW")))


@pytest.mark.parametrize("name", WAVES)
@pytest.mark.parametrize(("k0", "k1"), [(0.01, 0.1), (0.1, 0.01)])
def test_lrbench_dictionaries(name, k0, k1):
    parameters = {"lrPolicy": name, "k0": k0, "k1": k1, "l": 150, "p": None}
    if name.endswith("EXP"):
        parameters["gamma"] = 0.997
    policy = Policy.from_lrbench(parameters)
    for t in range(1000):
        if "RSW" in name and t % 150 == 0:
            assert policy(t) != pytest.approx(k0)  # LRBench: the floor; we: the peak
            continue
        expected = k0 + (k1 - k0) * g_of(name, t, 150, 0.997)
        assert policy(t) == pytest.approx(expected, rel=1e-10, abs=1e-15)


DECAYING = {
    "FIX": ({}, lambda t: 0.1),
    "STEP": ({"gamma": 0.7, "l": 90}, lambda t: 0.1 * 0.7 ** (t // 90)),
    "NSTEP": ({"gamma": 0.7, "l": [90, 400]}, lambda t: 0.1 * 0.7 ** ((t >= 90) + (t >= 400))),
    "EXP": ({"gamma": 0.99}, lambda t: 0.1 * 0.99**t),
    "INV": ({"gamma": 0.01, "p": 0.75}, lambda t: 0.1 * (1 + 0.01 * t) ** -0.75),
    "SIG": ({"gamma": -0.02, "l": 300}, lambda t: 0.1 / (1 + math.exp(0.02 * (t - 300)))),
    # k0 is the end in LRBench's POLY, k1 the start
    "POLY": ({"k1": 0.3, "p": 1.5, "l": 1000}, lambda t: (0.3 - 0.1) * (1 - t / 1000) ** 1.5 + 0.1),
}


def test_all_34_names_of_lrbench_are_tested():
    assert len(LRBENCH) == 34
    assert set(WAVES) | set(DECAYING) == set(LRBENCH)


@pytest.mark.parametrize("name", DECAYING)
def test_lrbench_decaying(name):
    parameters, formula = DECAYING[name]
    policy = Policy.from_lrbench({"lrPolicy": name, "k0": 0.1, **parameters})
    for t in range(1000):
        assert policy(t) == pytest.approx(formula(t), rel=1e-12)


def test_lrbench_poly_that_rises():
    policy = Policy.from_lrbench({"lrPolicy": "POLY", "k0": 0.1, "k1": 0.02, "p": 2, "l": 100})
    assert [policy(t) for t in (0, 50, 100)] == pytest.approx([0.02, 0.1 - 0.08 * 0.25, 0.1])


def test_lrbench_piecewise():
    pieces = [{"lrPolicy": "FIX", "k0": 0.1}, {"lrPolicy": "EXP", "k0": 0.2, "gamma": 0.9}]
    policy = Policy.from_lrbench(pieces, [100])
    assert [policy(t) for t in (99, 100, 103)] == pytest.approx([0.1, 0.2, 0.2 * 0.9**3])  # the clock restarts


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"lrPolicy": "TRI3", "k0": 1, "k1": 2, "l": 3}, "did you mean 'TRI'"),
        ({"lrPolicy": "TRI", "k0": 1, "l": 3}, "k1 is missing"),
        ({"lrPolicy": "TRI", "k0": 1, "k1": 2, "l": 0}, "l = 0 is not possible"),
        ({"lrPolicy": "TRI", "k0": 1, "k1": 2, "l": 3, "gama": 2}, "unknown key 'gama'"),
        ({"lrPolicy": "EXP", "k0": 1}, "gamma is missing"),
    ],
)
def test_lrbench_errors(parameters, message):
    with pytest.raises(UserError, match=message):
        Policy.from_lrbench(parameters)


def test_poly_stays_at_its_end_and_real():
    policy = Policy.parse("POLY(k0=0.1, p=0.5, l=100, k1=0.02)")
    assert policy(100) == policy(101) == policy(10**9) == 0.02
    assert Policy.parse("POLY(k0=0.1, p=0, l=100)")(100) == 0.0


def test_sigmoid_never_overflows():
    policy = Policy.parse("SIG(k0=0.1, gamma=-1e3, l=500)")
    assert [policy(t) for t in (0, 500, 10**9)] == pytest.approx([0.1, 0.05, 0.0])


def test_per_sets_the_time_of_one_power():
    by_epoch = Policy.parse("EXP(k0=0.1, gamma=0.9, per=1e)").bind(steps_per_epoch=50, total_steps=1000)
    assert by_epoch(100) == pytest.approx(0.1 * 0.9**2, rel=1e-12)


# Properties of every registered function


def values_of(parameter: Parameter, inner: st.SearchStrategy) -> st.SearchStrategy:
    low = max(parameter.low, -5.0)
    if parameter.low_open:
        low += 1e-6
    numbers = st.floats(low, min(parameter.high, 5.0), allow_nan=False)
    lengths = st.builds(Length, st.floats(0.5, 1e4), st.sampled_from(["", "e", "%"]))
    return {
        "number": numbers,
        "numbers": st.lists(numbers, min_size=3, max_size=3),
        "length": lengths,
        "lengths": st.lists(st.floats(0.5, 1e4), min_size=3, max_size=3, unique=True).map(
            lambda values: [Length(v, "e") for v in sorted(values)]
        ),
        "word": st.sampled_from(parameter.words or ("",)),
        "policy": inner,
        "policies": st.lists(inner, min_size=4, max_size=4),
    }[parameter.kind]


@st.composite
def policies(draw, depth: int = 2) -> Policy:
    flat = [name for name, f in FUNCTIONS.items() if not any("polic" in p.kind for p in f.parameters)]
    function = FUNCTIONS[draw(st.sampled_from(sorted(FUNCTIONS) if depth else sorted(flat)))]
    inner = policies(depth - 1) if depth else st.nothing()
    try:
        return Policy.make(function.name, **{p.name: draw(values_of(p, inner)) for p in function.parameters})
    except UserError:  # parameters that do not fit together
        reject()


@given(policies(), st.integers(1, 500), st.integers(1, 10**5), st.lists(st.integers(0, 10**7), min_size=1, max_size=20))
def test_defined_everywhere_in_any_order(policy, steps_per_epoch, total, steps):
    try:
        bound = policy.bind(steps_per_epoch=steps_per_epoch, total_steps=total)
    except UserError:  # boundaries of mixed units that cross
        reject()
    assert bound.is_bound
    values = [bound(step) for step in steps]
    assert all(isinstance(v, float) and math.isfinite(v) and v >= 0 for v in values), values
    shuffled = random.Random(0).sample(range(len(steps)), len(steps))
    assert [bound(steps[i]) for i in shuffled] == [values[i] for i in shuffled]
    np.testing.assert_array_equal(bound(np.array(steps)), values)  # one definition: the same bits
    assert bound.bind(steps_per_epoch=7, total_steps=70) == bound  # what is bound stays


@given(policies(), st.integers(0, 10**12), st.integers(1, 700))
def test_a_step_has_the_same_bits_in_every_array(policy, first, size):
    try:
        bound = policy.bind(steps_per_epoch=97, total_steps=10**4)
    except UserError:
        reject()
    steps = np.arange(first, first + size)
    lrs = bound(steps)
    for same in (steps.astype(float), np.repeat(steps, 2)[::2], np.asfortranarray(steps[None])):
        np.testing.assert_array_equal(bound(same).ravel(), lrs)
    assert [bound(int(t)) for t in steps[::97]] == [bound(np.array([t]))[0] for t in steps[::97]] == list(lrs[::97])


def test_any_kind_of_step():
    policy = Policy.parse("COSEXP(k0=0.1, k1=0.01, l=300, gamma=0.999)")
    for step in (0, 511, 512, 10**12, 10**30):
        lr = policy(np.array([step], dtype=float))[0]
        assert type(policy(step)) is float
        assert policy(step) == policy(float(step)) == lr
        if step < 2**63:
            assert policy(np.int64(step)) == policy(torch.tensor(step)) == lr == policy(np.array(step))
    assert policy(True) == policy(1)
    assert policy(0.5) == policy(np.array([0.5]))[0] == pytest.approx(math.sqrt(policy(0.4) * policy(0.6)), rel=1e-3)
    assert policy(np.empty((0, 3))).shape == (0, 3)
    assert policy(np.arange(6, dtype=np.int8).reshape(2, 3)).shape == (2, 3)
    with pytest.raises(TypeError):
        policy([1, 2])


def test_what_a_policy_keeps_is_neither_seen_nor_much():
    policy, other = (Policy.parse("EXP(k0=0.1, gamma=0.9999)") for _ in range(2))
    expected = policy(np.arange(10**5)).tolist()
    with ThreadPoolExecutor(8) as pool:  # forwards, backwards and across each other
        orders = [range(0, 10**5, 3), range(10**5 - 1, -1, -3), random.Random(0).sample(range(10**5), 500)]
        for order, lrs in pool.map(lambda order: (order, [policy(t) for t in order]), orders * 3):
            assert lrs == [expected[t] for t in order]
    assert policy == other and hash(policy) == hash(other)
    assert pickle.dumps(policy) == pickle.dumps(other)
    assert copy.deepcopy(policy).__dict__ == {"function": "EXP", "parameters": policy.parameters}
    assert len(policy._table) <= 4096


def test_a_long_time_of_short_rounds():
    """As many rounds as steps, or far more: neither time nor memory follow their number."""
    policy = Policy.parse("REPEAT(POLY(k0=0.1, p=1, l=1), l=0.5, grow=1.000000001, decay=0.999999999)")
    lrs = policy(np.array([0, 10, 10**11, 10**12]))
    assert lrs.tolist() == [policy(t) for t in (0, 10, 10**11, 10**12)]
    assert ((lrs >= 0) & (lrs <= 0.1)).all()


@given(policies())
def test_text_and_dict_round_trip(policy):
    assert Policy.parse(str(policy)) == policy
    assert Policy.from_dict(policy.to_dict()) == policy
    assert pickle.loads(pickle.dumps(policy)) == policy
    assert len({policy, Policy.parse(str(policy))}) == 1


@pytest.mark.parametrize("name", [*FUNCTIONS, *ALIASES])
def test_every_definition_has_a_source_and_meanings(name):
    definition = FUNCTIONS.get(name) or ALIASES[name]
    assert definition.source
    example = Policy.parse(definition.example)
    assert name in ALIASES or example.function == name
    assert all(p.meaning and p.allowed for p in definition.parameters)


def test_units_bind():
    policy = Policy.parse("NSTEP(k0=1, gamma=0.5, l=[2e, 50%, 900])").bind(steps_per_epoch=100, total_steps=1000)
    assert [policy(t) for t in (199, 200, 499, 500, 899, 900)] == [1, 0.5, 0.5, 0.25, 0.25, 0.125]


def test_unbound_policy_says_what_to_do():
    with pytest.raises(UserError, match=r"bind\(steps_per_epoch"):
        Policy.parse("STEP(k0=0.1, gamma=0.1, l=3e)")(0)
    with pytest.raises(UserError, match=r"bind\(steps_per_epoch"):
        Policy.parse("WARMUP(COS(k0=0.1, l=3e), l=10)")(0)


def test_negative_steps_are_a_programming_error():
    policy = Policy.parse("FIX(0.1)")
    with pytest.raises(ValueError, match="-1"):
        policy(-1)
    with pytest.raises(ValueError, match="-1"):
        policy(np.array([3, -1]))
