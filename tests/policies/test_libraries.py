"""The schedules of transformers and timm themselves, step by step."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lrensemble.policies import Policy

T, W = 1000, 120


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)


def check(text: str, values: list[float]) -> None:
    policy = Policy.parse(text).bind(steps_per_epoch=10, total_steps=T)
    np.testing.assert_allclose(policy(np.arange(T)), values, rtol=1e-12, atol=1e-16)
    np.testing.assert_allclose([policy(t) for t in range(T)], values, rtol=1e-12, atol=1e-16)


TRANSFORMERS = {
    "constant_with_warmup(0.1, 120)": ("get_constant_schedule_with_warmup", (W,), {}),
    "linear(0.1, 120)": ("get_linear_schedule_with_warmup", (W, T), {}),
    "cosine(0.1, 120)": ("get_cosine_schedule_with_warmup", (W, T), {}),
    "cosine(0.1, 120, k1=0.01)": ("get_cosine_with_min_lr_schedule_with_warmup", (W, T), {"min_lr": 0.01}),
    "cosine_with_restarts(0.1, 120, 4)": ("get_cosine_with_hard_restarts_schedule_with_warmup", (W, T, 4), {}),
    "polynomial(0.1, 120, 2, k1=0.001)": ("get_polynomial_decay_schedule_with_warmup", (W, T, 0.001, 2.0), {}),
    "inverse_sqrt(0.1, 120)": ("get_inverse_sqrt_schedule", (W,), {}),
    **{
        f"WSD(0.1, warmup=120, decay=300, l=1000, shape={ours})": (
            "get_wsd_schedule",
            (W, 300),
            {"num_training_steps": T, "decay_type": theirs},
        )
        for ours, theirs in (("linear", "linear"), ("cos", "cosine"), ("sqrt", "1-sqrt"))
    },
}


@pytest.mark.parametrize("text", TRANSFORMERS)
def test_transformers(text):
    from transformers import optimization

    name, arguments, options = TRANSFORMERS[text]
    steps = optimizer()
    scheduler = getattr(optimization, name)(steps, *arguments, **options)
    values = []
    for _ in range(T):
        values.append(steps.param_groups[0]["lr"])
        steps.step()
        scheduler.step()
    check(text, values)


TIMM = {
    "WARMUP(COS(0.1, 0.001, l=880), l=120)": (
        "CosineLRScheduler",
        {"t_initial": 880, "lr_min": 0.001, "warmup_t": W, "warmup_prefix": True},
    ),
    "SEQ([POINTS(at=[0, 120], k=[0, 0.1]), COS(0.1, l=100%)], at=[120], clock=global)": (
        "CosineLRScheduler",
        {"t_initial": T, "warmup_t": W},
    ),
    "sgdr(0.1, l=100, mult=2)": ("CosineLRScheduler", {"t_initial": 100, "cycle_mul": 2, "cycle_limit": 10}),
    "sgdr(0.1, l=100, mult=2, decay=0.5)": (
        "CosineLRScheduler",
        {"t_initial": 100, "cycle_mul": 2, "cycle_decay": 0.5, "cycle_limit": 10},
    ),
    "STEP(0.1, 0.5, 70)": ("StepLRScheduler", {"decay_t": 70, "decay_rate": 0.5}),
    "NSTEP(0.1, 0.5, [69, 299])": (  # timm drops one step early
        "MultiStepLRScheduler",
        {"decay_t": [70, 300], "decay_rate": 0.5},
    ),
    "POLY(0.1, 2, 1000)": ("PolyLRScheduler", {"t_initial": T, "power": 2.0}),
}


@pytest.mark.parametrize("text", TIMM)
def test_timm(text):
    from timm import scheduler as timm_scheduler

    name, options = TIMM[text]
    steps = optimizer()
    scheduler = getattr(timm_scheduler, name)(steps, t_in_epochs=False, **options)
    values = []
    for t in range(T):
        scheduler.step_update(t)
        values.append(steps.param_groups[0]["lr"])
    check(text, values)
