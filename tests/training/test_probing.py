"""What controllers may try: the line search through real optimizers, and that nothing of it is left behind."""

from __future__ import annotations

import copy
import io
import weakref

import numpy as np
import pytest
import torch
from torch import nn

from lrensemble import Policy, load_config, train_pool
from lrensemble.errors import UserError
from lrensemble.policies.control import parse_schedule, register_control, trace_policy
from lrensemble.policies.registry import CONTROLS
from lrensemble.training.loop import Run, fit
from lrensemble.training.probing import steady_update
from lrensemble.training.tuned import TunedLR
from tests.conftest import tiny_config
from tests.training.runs import assert_equal, digits, specs_of, train

DROPOUT = {"name": "mlp", "hidden": [16], "dropout": 0.2}


class Bowl(nn.Module):
    """L(w) = curvature / 2 |w|^2; what a batch adds to the gradient is the batch."""

    def __init__(self, curvature: float, dim: int = 8) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(dim, dtype=torch.float64))
        self.curvature = curvature

    def forward(self, batch):
        return self.curvature / 2 * self.w @ self.w + batch @ self.w


def tuned_on(bowl: nn.Module, optimizer, schedule: str = "LRTUNER(factor=1, warmup=0)", **options) -> TunedLR:
    def batches(number: int):
        return torch.zeros(8, dtype=torch.float64)

    options = {"loss": lambda model, batch: model(batch), "batches": batches, "total_steps": 10_000, **options}
    return TunedLR(bowl, optimizer, schedule, **options)


@pytest.mark.parametrize(
    ("build", "lr"),
    [
        (lambda p: torch.optim.SGD(p), 1 / 50),
        (lambda p: torch.optim.SGD(p, momentum=0.9), 0.1 / 50),
        (lambda p: torch.optim.SGD(p, momentum=0.9, nesterov=True), 0.1 / 50),
        (lambda p: torch.optim.SGD(p, momentum=0.8, dampening=0.5), 0.2 / 0.5 / 50),
        (lambda p: torch.optim.Adam(p), 1.0),  # its update is 1 long in every weight, and every weight is 1
        (lambda p: torch.optim.AdamW(p, weight_decay=0), 1.0),
        (lambda p: torch.optim.NAdam(p), 1.0),
        (lambda p: torch.optim.Adagrad(p), 10.0),  # after 100 updates
    ],
)
def test_it_finds_the_lr_of_a_known_curvature(build, lr):
    bowl = Bowl(50.0)
    optimizer = build(bowl.parameters())
    found = tuned_on(bowl, optimizer).report["probes"][0]
    assert found["lr"] == pytest.approx(lr, rel=0.05) and found["source"] == "line"
    assert optimizer.param_groups[0]["lr"] == found["peak"] == found["lr"]
    assert torch.equal(bowl.w, torch.ones(8, dtype=torch.float64)) and bowl.w.grad is None
    assert all(not value.any() for state in optimizer.state.values() for value in state.values())


def test_groups_keep_their_ratios():
    bowl = Bowl(50.0)
    twice = nn.Parameter(torch.ones(8, dtype=torch.float64))
    bowl.register_parameter("twice", twice)
    groups = [{"params": [bowl.w], "lr": 0.1}, {"params": [twice], "lr": 0.2}]
    optimizer = torch.optim.SGD(groups)
    tuned = tuned_on(bowl, optimizer, base_lr=0.1, loss=lambda model, batch: model(batch) + 25 * twice @ twice)
    # The direction is (1, 2): lr = g.d / d.H d = (1 + 2) / (1 + 4) / 50
    assert tuned.report["probes"][0]["lr"] == pytest.approx(3 / 5 / 50)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.012, 0.024])


def test_accumulated_batches_and_clipping():
    bowl = Bowl(50.0)
    tuned = tuned_on(bowl, torch.optim.SGD(bowl.parameters()), accumulate=3, clip=1.0)
    assert tuned.report["probes"][0]["lr"] == pytest.approx(8**0.5)  # a unit step from |w| = sqrt(8)


def test_the_steady_update_is_that_of_many_equal_gradients():
    for build in (lambda p: torch.optim.SGD(p, momentum=0.5, weight_decay=0.1), torch.optim.RAdam, torch.optim.RMSprop):
        parameter = nn.Parameter(torch.linspace(0.5, 1, 4))
        optimizer = build([parameter])
        parameter.grad = torch.linspace(0.1, 1, 4)
        before = copy.deepcopy(optimizer.state_dict())
        [update], gain, _ = steady_update(optimizer, [1.0])
        twin = parameter.detach().clone().requires_grad_()
        other = build([twin])
        other.param_groups[0]["lr"] = 1.0
        steps = []
        for _ in range(100):
            twin.data.copy_(parameter.data)
            twin.grad = parameter.grad.clone()
            other.step()
            steps.append(twin.detach() - parameter.detach())
        torch.testing.assert_close(update, steps[-1])
        assert gain == pytest.approx(float(steps[-1].norm() / steps[0].norm()))
        assert optimizer.state_dict() == before and torch.equal(parameter, torch.linspace(0.5, 1, 4))


def test_probed_and_ignored_is_fix_bit_for_bit():
    for overrides in ((), ("optimizer=AdamW",), ("training.augment=[crop]", "training.clip=1")):
        [probed] = specs_of(["LRTUNER(k0=0.05, explore=0)"], *overrides, model=DROPOUT)
        outcome = train(probed)
        assert_equal(outcome, train(probed.model_copy(update={"policy": "FIX(0.05)"})))
        assert outcome.trace == "POINTS(at=[0], k=[0.05], between=hold)"
        assert outcome.control["probes"][0]["peak"] > 0 and outcome.costs["probe_seconds"] > 0


def test_it_learns_resumes_and_replays():
    [spec] = specs_of(["LRTUNER()"], "training.epochs=20", model={"name": "mlp", "hidden": [16]})
    states = []

    def keep(run: Run) -> None:
        torch.save(run.state(), file := io.BytesIO())
        states.append(file)

    whole = fit(Run(spec, "id", digits()), after_epoch=keep)
    assert whole.history[-1]["val_accuracy"] > 0.9
    for file in states[::7]:
        file.seek(0)
        resumed = fit(Run(spec, "id", digits()), state=torch.load(file, weights_only=True))
        assert_equal(resumed, whole)
        assert (resumed.trace, resumed.control) == (whole.trace, whole.control)
    assert_equal(whole, train(spec.model_copy(update={"policy": whole.trace})))
    steps, probe = np.arange(300), whole.control["probes"][0]
    hold = 150 if probe["high"] is not None and probe["high"] < 4 * probe["low"] else 0  # a doubtful one only falls
    shares = np.minimum(1, (steps + 1) / 15) * np.minimum(1, (300 - steps) / (300 - hold))
    np.testing.assert_allclose(Policy.parse(whole.trace)(steps), probe["peak"] * shares)


@pytest.fixture
def reckless():
    """LRTUNER with a peak that is 1,000 times what it measured."""
    tuner = CONTROLS["LRTUNER"].make

    class Reckless(tuner):
        def begin(self, probing) -> None:
            super().begin(probing)
            self.known["peak"] *= 1000

    parameters = CONTROLS["LRTUNER"].parameters
    register_control("RECKLESS", "", "", *parameters)(Reckless)
    yield
    del CONTROLS["RECKLESS"]


def test_the_guard_goes_back(reckless):
    """To where the loss was best, and as often as it takes; an average of the weights goes back, too."""
    from lrensemble.pool import Named

    [spec] = specs_of(["RECKLESS(warmup=0)"], "training.epochs=20")
    ema = {"e": Named.model_validate({"name": "ema", "decay": 0.9})}
    run = Run(spec, "id", digits(), averages=ema)
    outcome = fit(run)
    returns = outcome.control["returns"]
    assert outcome.status == "complete" and len(returns) >= 2
    peaks = [outcome.control["probes"][0]["peak"] * 1000 / 4**i for i in range(len(returns))]
    assert [went["lr"] for went in returns] == pytest.approx(peaks, rel=0.3)  # it falls a little on the way
    assert outcome.history[-1]["val_accuracy"] > 0.8
    losses = [line["train_loss"] for line in outcome.history]
    assert np.isnan(losses[0]) and np.isfinite(losses[-1]) and np.nanmin(losses) > 0  # NaN: every step was undone
    assert all(torch.isfinite(value).all() for value in run.averages["e"].model.state_dict().values())
    [unguarded] = specs_of(["RECKLESS(guard=1, warmup=0)"], "training.epochs=20")
    assert train(unguarded).status == "diverged"


def test_a_bit_equal_model_after_any_probe():
    """Batch norm, dropout, gradients, random states, the optimizer: in a plain loop with a loader."""
    torch.manual_seed(0)
    x, y = digits().train.arrays["x"].flatten(1), digits().train.labels
    model = nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=64, shuffle=True)

    def loss(model, batch):
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    loss(model, next(iter(loader))).backward()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    gradients = [p.grad for p in model.parameters()]
    random_state = torch.get_rng_state()
    tuned = TunedLR(model, optimizer, "LRTUNER()", loss=loss, batches=loader, total_steps=400)
    trial = tuned.prober.trial([0.1] * 5, 7)
    assert trial == tuned.prober.trial([0.1] * 5, 7) and len(set(trial)) == 5
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is gradient for p, gradient in zip(model.parameters(), gradients, strict=True))
    assert torch.equal(torch.get_rng_state(), random_state) and not optimizer.state
    state = None
    for step, batch in zip(range(60), (batch for _ in range(9) for batch in loader), strict=False):
        optimizer.zero_grad()
        (value := loss(model, batch)).backward()
        optimizer.step()
        tuned.step(value)
        if step == 30:
            state = copy.deepcopy(tuned.state_dict())
    again = TunedLR(model, optimizer, "LRTUNER()", loss=loss, batches=loader, total_steps=400, state=state)
    assert again.steps == 31 and again.report["probes"] == tuned.report["probes"]
    assert float(value.detach()) < 1.0


def test_a_loss_that_is_not_the_same_twice_is_measured():
    rng = np.random.default_rng(0)  # of its own

    def loss(model, batch):
        return model(batch) * (1 + 0.01 * rng.random())

    bowl = Bowl(1.0)
    with pytest.warns(UserWarning, match="the loss of one batch differs by .* between two computations"):
        tuned = tuned_on(bowl, torch.optim.SGD(bowl.parameters()), loss=loss)
    assert 0 < tuned.report["probes"][0]["noise"] < 0.01


def test_errors():
    bowl = Bowl(1.0)
    with pytest.raises(UserError, match="LRTUNER probes the optimizer's update, which LBFGS makes of a closure"):
        tuned_on(bowl, torch.optim.LBFGS(bowl.parameters()))
    with pytest.raises(UserError, match="LRTUNER probes"):
        train_pool(load_config(tiny_config(policies=["LRTUNER()"], optimizer="LBFGS", control=False)), "nowhere")
    rows = torch.utils.data.TensorDataset(torch.zeros(4, 8))
    with pytest.raises(UserError, match="probes draw rows by their numbers"):
        tuned_on(bowl, torch.optim.SGD(bowl.parameters()), batches=torch.utils.data.DataLoader(rows, batch_size=None))


def test_autolrs_tries_and_keeps_nothing():
    [spec] = specs_of(["AUTOLRS(low=1e-3, high=1, stages=3, trials=5)"], "training.epochs=6", model=DROPOUT)
    run = Run(spec, "id", digits())
    outcome = fit(run)
    assert_equal(outcome, train(spec.model_copy(update={"policy": outcome.trace})))
    probes = outcome.control["probes"]
    assert [probe["step"] for probe in probes] == [0, 30, 60]
    for probe in probes:
        best = probe["forecasts"].index(min(f for f in probe["forecasts"] if f is not None))
        assert probe["lr"] == probe["lrs"][best] == float(Policy.parse(outcome.trace)(probe["step"]))


def test_in_a_pool(tmp_path):
    """The record has what was measured; members that were planned by an older version have none."""
    config = load_config(tiny_config(policies=["LRTUNER()", "FIX(0.1)"], control=False, model=DROPOUT))
    pool = train_pool(config, tmp_path / "pool", workers=1, threads=1)
    records = {m.record.spec.policy: m.record for m in pool.complete}
    assert records["FIX(k0=0.1)"].control is None and "probe_seconds" not in records["FIX(k0=0.1)"].costs
    assert records["LRTUNER()"].control["probes"][0]["step"] == 0 and records["LRTUNER()"].costs["probe_seconds"] > 0


def test_probes_draw_the_rows_of_the_loaders_sampler_alone():
    seen = []

    def collate(items):
        seen.extend(int(row[0]) for row in items)
        return torch.zeros(8, dtype=torch.float64)

    rows = torch.utils.data.TensorDataset(torch.arange(100))
    train_rows = [*range(0, 100, 7)]
    sampler = torch.utils.data.SubsetRandomSampler(train_rows)
    loader = torch.utils.data.DataLoader(rows, batch_size=4, sampler=sampler, collate_fn=collate)
    bowl = Bowl(50.0)
    tuned_on(bowl, torch.optim.SGD(bowl.parameters()), batches=loader)
    assert seen and {*seen} <= {*train_rows}
    weighted = torch.utils.data.WeightedRandomSampler(torch.ones(100), 10)
    with pytest.raises(UserError, match="a sampler of its own"):
        tuned_on(bowl, torch.optim.SGD(bowl.parameters()), batches=torch.utils.data.DataLoader(rows, sampler=weighted))


def test_probes_leave_modes_and_the_gradients_of_others():
    net = nn.Sequential(nn.Linear(8, 4).double(), nn.BatchNorm1d(4).double(), nn.Linear(4, 1).double())
    net[1].eval()  # frozen by its user
    net[0].weight.grad = torch.ones_like(net[0].weight)  # of another optimizer
    optimizer = torch.optim.SGD(net[2].parameters())
    data = torch.randn(16, 8, dtype=torch.float64)
    TunedLR(
        net,
        optimizer,
        "LRTUNER()",
        loss=lambda model, x: model(x).square().mean(),
        batches=lambda n: data,
        total_steps=99,
    )
    assert net.training and not net[1].training
    assert torch.equal(net[0].weight.grad, torch.ones_like(net[0].weight))


class Returns:
    """A `Probing` that counts what the guard does."""

    def __init__(self) -> None:
        self.returns = self.kept = 0

    def restore(self) -> None:
        self.returns += 1

    def keep(self) -> None:
        self.kept += 1

    def confirm(self) -> None:
        pass


def guard(**known):
    control = parse_schedule("LRTUNER()").bind(steps_per_epoch=10, total_steps=1000).controller()
    control.known |= {"peak": 0.1, **known}
    return control, Returns()


def test_the_guard_takes_losses_below_zero():
    control, probing = guard(first=2.0, best=-5.0)
    control.observe(9, -5.0, probing)
    assert probing.returns == 0 and control.known["peak"] == 0.1
    control.observe(19, 3.0, probing)
    assert probing.returns == 1 and control.known["peak"] == pytest.approx(0.025)


def test_the_guard_sees_a_loss_that_is_back_where_it_began():
    """At chance the loss of 100 classes is 4.6: 1.2 times the best plus 0.3 times the first is above it."""
    control, probing = guard(first=4.6, best=3.6, good=3.6)
    control.observe(199, 4.3, probing)
    assert probing.returns == 0
    control.observe(219, 4.6, probing)
    assert probing.returns == 1 and control.known["peak"] == pytest.approx(0.025)
    control, probing = guard(first=4.6, best=4.4)  # nothing was learnt that could be lost
    control.observe(199, 4.6, probing)
    assert probing.returns == 0


def test_the_guard_sees_a_dead_model_and_never_keeps_one():
    control, probing = guard(first=2.35, best=2.32, good=2.35)
    control.after_epoch(199, {"val_loss": 2.3})
    control.observe(209, 2.3, probing)
    assert (probing.returns, probing.kept) == (0, 0)  # as low as never before, but no more than dead ones have
    control.after_epoch(219, {"val_loss": 2.3, "constant": 1.0})
    control.observe(229, 2.29, probing)
    assert probing.returns == 1 and control.known["peak"] == pytest.approx(0.025)
    control.observe(239, 1.5, probing)
    assert (probing.returns, probing.kept) == (1, 1)


def test_a_model_that_died_is_stopped_unless_the_guard_goes_back():
    """Units that are 0 for all rows have no gradient: the model answers every row the same for good."""
    options = ("training.epochs=12", "optimizer.momentum=0.9")
    model = {"name": "mlp", "hidden": [64]}
    [unguarded] = specs_of(["LRTUNER(factor=30, warmup=0, guard=1)"], *options, model=model)
    outcome = train(unguarded)
    assert outcome.status == "stopped" and len(outcome.history) == 2
    assert outcome.reason.startswith("dead: the model answers every validation row the same after epoch 2 (LR 2.")
    assert all(line["constant"] == 1 for line in outcome.history)
    [guarded] = specs_of(["LRTUNER(factor=30, warmup=0)"], *options, model=model)
    outcome = train(guarded)
    assert outcome.status == "complete" and outcome.history[-1]["val_accuracy"] > 0.9 and outcome.control["returns"]
    assert all("constant" not in line for line in outcome.history)


def test_the_guard_never_goes_back_to_what_the_last_step_wrecked():
    """The losses of a window are those before its steps: they do not show what its last step did."""
    bowl = Bowl(1.0)
    optimizer = torch.optim.SGD(bowl.parameters())
    tuned = tuned_on(bowl, optimizer, total_steps=500)
    good = []
    for step in range(100):
        optimizer.zero_grad()
        loss = bowl(torch.zeros(8, dtype=torch.float64))
        loss.backward()
        optimizer.param_groups[0]["lr"] = 0.001
        optimizer.step()
        if step == 59:  # at a look, after the loss was computed
            good.append(bowl.w.detach().clone())
            bowl.w.data.fill_(1e6)
        tuned.step(loss)
        if tuned.report["returns"]:
            break
    assert step == 69 and float(bowl.w.detach().min()) > 0 and float(bowl.w.detach().max()) <= 1
    assert tuned.lr == tuned.report["probes"][0]["peak"] / 4


def test_batches_of_a_trial_are_drawn_one_by_one():
    bowl, alive = Bowl(1.0), []

    def batches(number: int):
        alive.append(weakref.ref(batch := torch.zeros(8, dtype=torch.float64)))
        assert sum(one() is not None for one in alive) <= 3
        return batch

    tuned_on(bowl, torch.optim.SGD(bowl.parameters()), batches=batches).prober.trial([0.1] * 20, 5)


def test_lengths_in_epochs_need_the_length_of_one():
    bowl = Bowl(1.0)
    with pytest.raises(UserError, match="lengths in epochs: give steps_per_epoch"):
        tuned_on(bowl, torch.optim.SGD(bowl.parameters()), "LRTUNER(explore=5e)")
    tuned_on(bowl, torch.optim.SGD(bowl.parameters()), "LRTUNER(explore=5e)", steps_per_epoch=100)


def test_autolrs_searches_every_stage_of_a_loop_that_says_no_losses():
    bowl = Bowl(1.0)
    tuned = tuned_on(bowl, torch.optim.SGD(bowl.parameters()), "AUTOLRS(stages=4, trials=3)", total_steps=80)
    for _ in range(80):
        tuned.step()
    assert [probe["step"] for probe in tuned.report["probes"]] == [0, 20, 40, 60]


def test_autolrs_takes_the_lowest_lr_when_all_trials_explode():
    bowl = Bowl(1e300)
    with pytest.warns(UserWarning, match="all 3 trials at step 0 exploded, so the lowest LR is taken"):
        tuned = tuned_on(bowl, torch.optim.SGD(bowl.parameters()), "AUTOLRS(low=1e-2, high=1, trials=3)")
    assert tuned.lr == 1e-2


class FloatMoments(torch.optim.Optimizer):
    """Adam's second moment in float32, whatever the type of the parameter."""

    def __init__(self, params) -> None:
        super().__init__(params, {"lr": 1.0})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for p in self.param_groups[0]["params"]:
            moment = self.state[p].setdefault("moment", torch.zeros_like(p, dtype=torch.float32))
            moment.mul_(0.9).add_(p.grad.float().square(), alpha=0.1)
            p.sub_((self.param_groups[0]["lr"] * p.grad / (moment.sqrt() + 1e-8)).to(p.dtype))


def test_float32_moments_of_bfloat16_weights_come_back():
    """From probes, from the guard, and from a state: `Optimizer.load_state_dict` would round them."""
    torch.manual_seed(0)
    model = nn.Linear(8, 4, dtype=torch.bfloat16)
    optimizer = FloatMoments(model.parameters())

    def loss(model, batch):
        return model(batch).float().square().mean()

    def batches(number: int):
        return torch.randn(16, 8, generator=torch.Generator().manual_seed(number), dtype=torch.bfloat16)

    options = {"loss": loss, "batches": batches, "total_steps": 500}
    loss(model, batches(0)).backward()
    optimizer.step()
    moments = [optimizer.state[p]["moment"].clone() for p in model.parameters()]
    tuned = TunedLR(model, optimizer, "LRTUNER()", **options)
    tuned.prober.trial([1e-2] * 3, 0)
    snapshot = tuned.snapshot()
    optimizer.step()
    tuned.go_back(snapshot)
    for p, moment in zip(model.parameters(), moments, strict=True):
        assert optimizer.state[p]["moment"].dtype == torch.float32 and torch.equal(optimizer.state[p]["moment"], moment)


def test_long_traces_are_lines():
    """Of 30,000 changes: few points, within a millionth of the largest LR; jumps stay jumps."""
    changes = [(step, 0.3 * (1 + np.cos(step * np.pi / 40_000)) / 2) for step in range(30_000)]
    changes += [(30_000, 0.01), (39_999, 0.0)]
    policy = trace_policy(changes)
    assert len(policy["at"]) < 2000 and policy["between"] == "linear"
    steps = np.array([step for step, _ in changes])
    np.testing.assert_allclose(policy(steps), [lr for _, lr in changes], rtol=0, atol=0.3e-6)
    assert policy(np.array([30_000, 39_998])) == pytest.approx([0.01, 0.01], abs=0.3e-6)
    assert Policy.parse(str(policy)) == policy
    rng = np.random.default_rng(0)
    noise = trace_policy([(step, float(rng.uniform())) for step in range(12_000)])
    assert len(noise["at"]) <= 10_000


def test_the_lr_of_the_optimizer_does_not_matter():
    traces = set()
    for lr in (1e-3, 1e-2, 1e-1, 1.0):
        bowl = Bowl(50.0)
        tuned = tuned_on(bowl, torch.optim.SGD(bowl.parameters(), lr=lr, momentum=0.9), "LRTUNER()", total_steps=200)
        for _ in range(200):
            tuned.step()
        traces.add(tuned.trace)
    assert len(traces) == 1
