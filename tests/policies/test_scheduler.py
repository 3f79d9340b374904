"""The torch LRScheduler of a policy."""

from __future__ import annotations

import io

import pytest
import torch
from torch.optim.lr_scheduler import LRScheduler

from lrensemble import Policy, UserError


def two_groups(tensor_lr: bool = False) -> torch.optim.SGD:
    def lr(value: float):
        return torch.tensor(value, dtype=torch.float64) if tensor_lr else value

    body, head = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    return torch.optim.SGD([{"params": [body]}, {"params": [head], "lr": lr(1.0)}], lr=lr(0.1))


@pytest.mark.parametrize("tensor_lr", [False, True])
def test_lr_before_every_step_and_ratios(tensor_lr):
    policy = Policy.parse("TRI(k0=0.5, k1=0.01, l=7)")
    optimizer = two_groups(tensor_lr)
    held = [group["lr"] for group in optimizer.param_groups]
    scheduler = policy.scheduler(optimizer)
    assert isinstance(scheduler, LRScheduler)
    for step in range(30):
        body, head = (float(group["lr"]) for group in optimizer.param_groups)
        assert body == pytest.approx(policy(step), rel=1e-7)
        assert head == pytest.approx(10 * policy(step), rel=1e-6)
        optimizer.step()
        scheduler.step()
    if tensor_lr:  # the same tensors, filled: what a captured CUDA graph reads
        assert all(group["lr"] is old for group, old in zip(optimizer.param_groups, held, strict=True))


def test_resume_through_a_safe_file():
    policy = Policy.parse("STEP(k0=0.1, gamma=0.5, l=2e)")
    kwargs = {"steps_per_epoch": 3, "total_steps": 60}

    def run(scheduler, optimizer, steps):
        seen = []
        for _ in range(steps):
            seen.append([group["lr"] for group in optimizer.param_groups])
            optimizer.step()
            scheduler.step()
        return seen

    optimizer = two_groups()
    whole = run(policy.scheduler(optimizer, **kwargs), optimizer, 20)

    first = two_groups()
    scheduler = policy.scheduler(first, **kwargs)
    before = run(scheduler, first, 11)
    file = io.BytesIO()
    torch.save({"optimizer": first.state_dict(), "scheduler": scheduler.state_dict()}, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    second = two_groups()
    resumed = policy.scheduler(second, **kwargs)
    second.load_state_dict(state["optimizer"])
    resumed.load_state_dict(state["scheduler"])
    assert before + run(resumed, second, 9) == whole


def test_unbound_policies_need_the_budget():
    with pytest.raises(UserError, match="steps_per_epoch and total_steps"):
        Policy.parse("COS(k0=0.1, l=100%)").scheduler(two_groups())
