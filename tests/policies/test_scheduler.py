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


@pytest.mark.parametrize("shape", ["cos", "linear"])
def test_momentum_against_the_lr_equals_onecycle(shape):
    total = 200
    ours, theirs = (torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9) for _ in range(2))
    policy = Policy.parse(f"ONECYCLE(k0=0.3, l={total}, div=25, final=1, shape={shape})")
    mine = policy.scheduler(ours, total_steps=total, momentum=(0.85, 0.95))
    oracle = torch.optim.lr_scheduler.OneCycleLR(
        theirs, 0.3, total_steps=total, final_div_factor=1, anneal_strategy=shape
    )
    for _ in range(total - 1):
        assert ours.param_groups[0]["lr"] == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-9)
        # Both move over the same way while the LR does; the probe of the peak lies on whole steps.
        assert ours.param_groups[0]["momentum"] == pytest.approx(theirs.param_groups[0]["momentum"], abs=2e-4)
        for optimizer, scheduler in ((ours, mine), (theirs, oracle)):
            optimizer.step()
            scheduler.step()


def test_momentum_moves_betas_and_survives_resume():
    def build():
        optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        return optimizer, Policy.parse("TRI(k0=0.1, k1=0.01, l=10)").scheduler(optimizer, momentum=(0.8, 0.9))

    optimizer, scheduler = build()
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.999)
    for _ in range(10):
        optimizer.step()
        scheduler.step()
    assert optimizer.param_groups[0]["betas"] == (pytest.approx(0.8), 0.999)
    other, resumed = build()
    resumed.load_state_dict(scheduler.state_dict())
    assert other.param_groups[0]["betas"] == (pytest.approx(0.8), 0.999)


@pytest.mark.parametrize("momentum", [(0.9, 0.8), (-0.1, 0.5), (0.5, 1.0)])
def test_impossible_momentum(momentum):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    with pytest.raises(UserError, match="momentum"):
        Policy.parse("FIX(0.1)").scheduler(optimizer, momentum=momentum)
    with pytest.raises(UserError, match="neither momentum nor betas"):
        Policy.parse("FIX(0.1)").scheduler(
            torch.optim.Adagrad([torch.nn.Parameter(torch.zeros(1))]), momentum=(0.8, 0.9)
        )


def test_skipped_steps_and_accumulation():
    """The clock is the calls of step(): an update that the AMP scaler skipped, or a micro-batch, does not move it."""
    policy = Policy.parse("EXP(k0=0.1, gamma=0.9)")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = policy.scheduler(optimizer)
    updates = 0
    for micro in range(24):
        if micro % 4 == 3 and micro != 11:  # every fourth micro-batch updates; one update is skipped
            optimizer.step()
            scheduler.step()
            updates += 1
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * 0.9**updates)
    assert updates == 5


@pytest.mark.slow
def test_a_compiled_step_sees_every_lr():
    """One graph for all LRs: a tensor LR is filled, so the compiled step is neither stale nor compiled again."""

    def run(compiled: bool) -> torch.Tensor:
        parameter = torch.nn.Parameter(torch.ones(4))
        optimizer = torch.optim.SGD([parameter], lr=torch.tensor(0.1), momentum=0.9, foreach=True)
        scheduler = Policy.parse("TRI(k0=0.5, k1=0.01, l=5)").scheduler(optimizer)
        step = torch.compile(optimizer.step) if compiled else optimizer.step
        for i in range(12):
            parameter.grad = torch.ones(4) * (i + 1) / 10
            step()
            scheduler.step()
        return parameter.detach()

    torch._dynamo.utils.counters.clear()
    torch.testing.assert_close(run(True), run(False))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 2  # the first step makes the momentum buffers
