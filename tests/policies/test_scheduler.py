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


# Groups with their own LR, and groups that come and go


def parameter() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.zeros(1))


def lrs(optimizer) -> list[float]:
    return [float(group["lr"]) for group in optimizer.param_groups]


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
@pytest.mark.parametrize(
    ("own", "default", "base_lr", "expected"),
    [
        ([1.0, 1.0], None, None, [0.05, 0.05]),
        ([1e-5, 1e-4], None, None, [0.005, 0.05]),
        ([1e-4, 1e-5, 1e-4], None, None, [0.05, 0.005, 0.05]),
        ([None, 1e-2], None, 1e-3, [0.05, 0.5]),  # the first is at torch's 1e-3
        ([None, 1e-2], None, 1e-2, [0.005, 0.05]),
        ([None, 1e-4], None, None, [0.05, 0.005]),
        ([1e-3, 1e-4], None, None, [0.05, 0.005]),
        ([None, 1.0], 0.1, None, [0.05, 0.5]),
        ([None, 0.01], 0.1, None, [0.05, 0.005]),
        ([0.2, 1.0], 0.1, None, [0.01, 0.05]),
        ([1e-5, 1e-4], None, 1e-5, [0.05, 0.5]),
        ([None, 1.0], 0.1, 1.0, [0.005, 0.05]),
        ([None, 0.0], 0.1, None, [0.05, 0.0]),
        ([None, 1e-2], 0.0, None, [0.0, 0.05]),  # frozen, although it is the default
    ],
)
@pytest.mark.parametrize("tensor", [False, True])
def test_what_gets_the_policys_value(kind, own, default, base_lr, expected, tensor):
    def lr(value):
        return torch.tensor(value) if tensor else value

    groups = [{"params": [parameter()]} | ({} if value is None else {"lr": lr(value)}) for value in own]
    options = ({} if default is None else {"lr": lr(default)}) | ({"foreach": False} if tensor else {})
    optimizer = kind(groups, **options)
    policy = Policy.parse("STEP(k0=0.05, gamma=0.5, l=2)")
    scheduler = policy.scheduler(optimizer, base_lr=base_lr)
    for step in range(5):
        assert lrs(optimizer) == pytest.approx([value * 0.5 ** (step // 2) for value in expected], rel=1e-6)
        assert [float(x) for x in scheduler.get_last_lr()] == lrs(optimizer)
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW, torch.optim.RMSprop])
@pytest.mark.parametrize("own", [[None, 0.2], [None, 0.001, 0.2], "default"])
def test_torchs_default_has_two_readings(kind, own):
    """A group's own LR of just that, or none: 1e-4, 1e-3, 1e-2 of three blocks gave the head 10 times the policy."""
    default = kind([parameter()]).defaults["lr"]
    own = [default / 10, default, default * 10] if own == "default" else own
    groups = [{"params": [parameter()]} | ({} if value is None else {"lr": value}) for value in own]
    policy, largest = Policy.parse("FIX(0.05)"), max(value or 0 for value in own)
    with pytest.raises(UserError, match=f"base_lr={default:g} or base_lr={largest:g} says which"):
        policy.scheduler(kind(groups))
    optimizer = kind(groups)
    policy.scheduler(optimizer, base_lr=largest)
    assert max(lrs(optimizer)) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "all parameter groups have lr 0.*base_lr"),
        ({"base_lr": 0}, "base_lr = 0 is not possible"),
        ({"base_lr": -1.0}, "base_lr = -1.0 is not possible"),
        ({"base_lr": float("nan")}, "base_lr = nan is not possible"),
    ],
)
def test_no_base(options, message):
    with pytest.raises(UserError, match=message):
        Policy.parse("FIX(0.1)").scheduler(torch.optim.SGD([parameter()], lr=0.0), **options)


@pytest.mark.parametrize(
    "earlier",
    [
        lambda o: torch.optim.lr_scheduler.OneCycleLR(o, max_lr=3.0, total_steps=50),
        lambda o: torch.optim.lr_scheduler.CyclicLR(o, 1e-4, 0.3, cycle_momentum=False),
        lambda o: torch.optim.lr_scheduler.StepLR(o, 2, gamma=0.1),
        lambda o: Policy.parse("EXP(k0=7, gamma=0.1)").scheduler(o),
        lambda o: Policy.parse("EXP(k0=7, gamma=0.1)").scheduler(o, base_lr=4.0),
    ],
)
def test_what_an_earlier_scheduler_did_is_no_ratio(earlier):
    optimizer = torch.optim.SGD([parameter()], lr=0.1)
    first = earlier(optimizer)
    for _ in range(7):
        optimizer.step()
        first.step()
    policy = Policy.parse("TRI(k0=0.5, k1=0.01, l=7)")
    policy.scheduler(optimizer)
    assert lrs(optimizer) == [policy(0)]


def test_an_earlier_scheduler_keeps_the_ratios_of_the_groups():
    optimizer = two_groups()
    first = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.1)
    optimizer.step()
    first.step()
    Policy.parse("FIX(0.05)").scheduler(optimizer)
    assert lrs(optimizer) == pytest.approx([0.05, 0.5])


@pytest.mark.parametrize("after", [0, 3])
@pytest.mark.parametrize(("own", "ratio"), [({}, 1.0), ({"lr": 0.01}, 0.1), ({"lr": 0.5}, 5.0), ({"lr": 0.0}, 0.0)])
def test_a_group_added_later_follows(after, own, ratio):
    policy = Policy.parse("STEP(k0=0.2, gamma=0.1, l=1)")
    optimizer = torch.optim.SGD([parameter()], lr=0.1, momentum=0.9)
    scheduler = policy.scheduler(optimizer, momentum=(0.8, 0.95), total_steps=10)
    for _ in range(after):
        optimizer.step()
        scheduler.step()
    optimizer.add_param_group({"params": [parameter()], **own})
    for step in range(after + 1, after + 4):
        optimizer.step()
        scheduler.step()
        assert lrs(optimizer) == pytest.approx([policy(step), ratio * policy(step)])
        assert optimizer.param_groups[0]["momentum"] == optimizer.param_groups[1]["momentum"]
    # A resumed run, whose groups are there before the state.
    other = torch.optim.SGD([{"params": [parameter()]}, {"params": [parameter()], **own}], lr=0.1, momentum=0.9)
    resumed = policy.scheduler(other, momentum=(0.8, 0.95), total_steps=10)
    other.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(scheduler.state_dict())
    assert lrs(other) == lrs(optimizer)
    resumed.step()
    scheduler.step()
    assert lrs(other) == lrs(optimizer)
    # The first group goes; the other one keeps its own ratio.
    del optimizer.param_groups[0]
    optimizer.step()
    scheduler.step()
    assert lrs(optimizer) == pytest.approx([ratio * policy(after + 5)])
    with pytest.raises(UserError, match="2 parameter groups, this one has 1"):
        scheduler.load_state_dict(resumed.state_dict())


def test_a_group_without_an_lr_joins_groups_that_have_their_own():
    optimizer = torch.optim.SGD([{"params": [parameter()], "lr": 1.0}, {"params": [parameter()], "lr": 2.0}])
    scheduler = Policy.parse("FIX(0.05)").scheduler(optimizer)
    optimizer.add_param_group({"params": [parameter()]})  # torch gives it 1e-3
    optimizer.step()
    scheduler.step()
    assert lrs(optimizer) == pytest.approx([0.025, 0.05, 0.05])


@pytest.mark.parametrize(
    ("text", "theirs"),
    [
        ("STEP(k0=0.1, gamma=0.5, l=3)", lambda o: torch.optim.lr_scheduler.StepLR(o, 3, gamma=0.5)),
        ("EXP(k0=0.1, gamma=0.9)", lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.9)),
        ("COS(k0=0.1, l=20)", lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 20)),
        ("POLY(k0=0.1, p=2, l=20)", lambda o: torch.optim.lr_scheduler.PolynomialLR(o, 20, power=2)),
    ],
)
def test_several_groups_equal_torchs_schedulers(text, theirs):
    """With the policy's peak at the base of the groups, each is where torch's own scheduler puts it."""
    for own in ({}, {"lr": 0.1}):
        ours, reference = (
            torch.optim.SGD(
                [{"params": [parameter()], **own}, {"params": [parameter()], "lr": 0.02}],
                **({} if own else {"lr": 0.1}),
            )
            for _ in range(2)
        )
        pairs = ((ours, Policy.parse(text).scheduler(ours)), (reference, theirs(reference)))
        for _ in range(20):
            assert lrs(ours) == pytest.approx(lrs(reference), abs=1e-12)
            for optimizer, scheduler in pairs:
                optimizer.step()
                scheduler.step()


def test_inside_torchs_sequential_scheduler():
    optimizer = two_groups()
    parts = [Policy.parse(f"EXP(k0={k0}, gamma=0.5)").scheduler(optimizer) for k0 in (0.1, 0.3)]
    scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, parts, milestones=[2])
    for body in (0.1, 0.05, 0.3, 0.15):
        assert lrs(optimizer) == pytest.approx([body, 10 * body])
        optimizer.step()
        scheduler.step()


# States of other schedulers


def stepped(text, total, steps, **options):
    optimizer = torch.optim.SGD([parameter()], lr=0.1, momentum=0.9)
    scheduler = Policy.parse(text).scheduler(optimizer, steps_per_epoch=5, total_steps=total, **options)
    for _ in range(steps):
        optimizer.step()
        scheduler.step()
    return optimizer, scheduler


COSINE = "COS(k0=0.1, l=100%)"


@pytest.mark.parametrize(
    ("text", "total", "options", "named"),
    [
        (COSINE, 20, {}, ["COS(k0=0.1, l=100%) (5 steps an epoch, 10 steps in all)", "20 steps in all"]),
        ("FIX(k0=0.005)", 10, {}, [COSINE, "FIX(k0=0.005)"]),
        (COSINE, 10, {"momentum": (0.8, 0.9)}, [COSINE, "momentum (0.8, 0.9)"]),
    ],
)
def test_a_state_of_another_policy_or_budget(text, total, options, named):
    state = stepped(COSINE, 10, 10)[1].state_dict()
    optimizer, scheduler = stepped(text, total, 3, **options)
    before = lrs(optimizer), scheduler.state_dict()
    with pytest.raises(UserError) as error:
        scheduler.load_state_dict(state)
    assert all(part.replace("(0.8, 0.9)", "[0.8, 0.9]") in str(error.value) for part in [*named, 'on_change="new"'])
    assert (lrs(optimizer), scheduler.state_dict()) == before  # nothing half loaded
    # Asked for, in either place, the step alone is taken, and the new policy goes on from there.
    scheduler.load_state_dict(state, on_change="new")
    other_optimizer, other = stepped(text, total, 0, **options, on_change="new")
    other.load_state_dict(state)
    expected_optimizer, expected = stepped(text, total, 10, **options)
    for _ in range(4):
        for opt, sched in ((optimizer, scheduler), (other_optimizer, other), (expected_optimizer, expected)):
            assert lrs(opt) == lrs(expected_optimizer)
            assert opt.param_groups[0]["momentum"] == expected_optimizer.param_groups[0]["momentum"]
            assert sched.last_epoch == expected.last_epoch
        for opt, sched in ((optimizer, scheduler), (other_optimizer, other), (expected_optimizer, expected)):
            opt.step()
            sched.step()


def test_a_state_that_means_the_same_policy():
    """A budget that changes nothing, and the bound text of earlier versions."""
    assert stepped("FIX(0.1)", 10, 2)[1].state_dict()["policy"] == "FIX(k0=0.1)"
    _, scheduler = stepped("FIX(0.1)", 20, 0)
    scheduler.load_state_dict(stepped("FIX(0.1)", 10, 2)[1].state_dict())
    assert scheduler.last_epoch == 2
    _, scheduler = stepped(COSINE, 10, 0)
    scheduler.load_state_dict({"policy": "COS(k0=0.1, l=10)", "ratios": [1.0], "last_epoch": 4})
    assert scheduler.get_last_lr() == [Policy.parse("COS(k0=0.1, l=10)")(4)]


def test_a_state_of_a_torch_scheduler():
    optimizer = torch.optim.SGD([parameter()], lr=0.1)
    torchs = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    for _ in range(4):
        optimizer.step()
        torchs.step()
    _, scheduler = stepped(COSINE, 10, 0)
    with pytest.raises(UserError, match=r"another kind of scheduler \(it holds .*gamma.*COS\(k0=0.1, l=100%\)"):
        scheduler.load_state_dict(torchs.state_dict())
    scheduler.load_state_dict(torchs.state_dict(), on_change="new")
    assert scheduler.get_last_lr() == [Policy.parse("COS(k0=0.1, l=10)")(4)]
    with pytest.raises(UserError, match="no state of a scheduler"):
        scheduler.load_state_dict({"model": 1}, on_change="new")
    with pytest.raises(UserError, match="on_change = 'old'"):
        scheduler.load_state_dict(torchs.state_dict(), on_change="old")


def test_where_a_group_starts_is_kept_for_the_schedulers_after_ours():
    """As torch does: `initial_lr` is the LR that the group was given, of groups that are added later too."""
    first, later = torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([first], lr=0.5)
    scheduler = Policy.parse("POLY(k0=1, p=1, l=10)").scheduler(optimizer)
    for _ in range(3):
        optimizer.step()
        scheduler.step()
    optimizer.add_param_group({"params": [later], "lr": 0.25})
    scheduler.step()
    assert [group["initial_lr"] for group in optimizer.param_groups] == [0.5, 0.25]
    # Another one starts from there, not from where ours has come to.
    again = Policy.parse("FIX(k0=1)").scheduler(optimizer)
    assert again.base_lr == 0.5
    assert again.get_lr() == pytest.approx([1, 0.5])
