"""`find_lr` in a loop of one's own: what it finds on quadratics, and that nothing of it is left behind."""

from __future__ import annotations

import copy
import io
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lrensemble import UserError, find_lr
from lrensemble.training.unchanged import unchanged


class Net(nn.Module):
    """Everything that changes in a step: batch norm, dropout, a buffer that is not saved, a counter, a tensor."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3))
        self.head = nn.Linear(8, 3)
        self.register_buffer("seen", torch.zeros(()), persistent=False)
        self.calls, self.last = 0, torch.zeros(())

    def forward(self, x):
        self.calls += 1
        self.seen += len(x)
        self.last = x.sum()
        self.extra = self.calls
        return self.head(self.body(x))


class Loop:
    """A training loop with all that people put into one."""

    def __init__(self, optimizer="AdamW", seed=0):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        x = torch.randn(96, 4)
        self.model = Net()
        groups = [{"params": self.model.body.parameters()}, {"params": self.model.head.parameters(), "lr": 0.1}]
        options = {"foreach": False} if optimizer == "AdamW" else {"momentum": 0.9}
        self.optimizer = getattr(torch.optim, optimizer)(groups, lr=0.01, **options)
        self.data = TensorDataset(x, (x[:, 0] > 0).long() + (x[:, 1] > 0).long())
        self.loader = DataLoader(self.data, batch_size=16, shuffle=True, generator=torch.Generator().manual_seed(seed))
        self.ema = torch.optim.swa_utils.AveragedModel(self.model)
        self.scheduler = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, 0.99)
        self.losses = []

    def step(self, batch):
        x, y = batch
        x = x + 0.01 * torch.randn_like(x) + np.random.normal(scale=0.01) + random.gauss(0, 0.01)  # noqa: NPY002
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.model(x.float()), y)
        loss.backward()
        self.optimizer.step()
        self.ema.update_parameters(self.model)
        self.scheduler.step()
        return loss

    def train(self, epochs=1):
        for _ in range(epochs):
            for batch in self.loader:
                self.losses.append(float(self.step(batch).detach()))

    def find(self, **options):
        keep = [self.ema, self.scheduler]
        options = {"steps": 40, "repeats": 2, "base_lr": 0.01, **options}
        return find_lr(self.step, self.optimizer, self.model, self.loader, keep=keep, **options)

    def bits(self):
        """Everything, as bytes."""
        states = [part.state_dict() for part in (self.model, self.optimizer, self.ema, self.scheduler)]
        grads = [None if p.grad is None else p.grad for p in self.model.parameters()]
        more = [self.model.seen, self.model.last, self.model.calls, self.loader.generator.get_state()]
        values = [states, grads, more, torch.get_rng_state(), random.getstate(), self.model.training]
        torch.save(values, file := io.BytesIO())
        return file.getvalue() + repr((np.random.get_state(), sorted(vars(self.model)))).encode()  # noqa: NPY002


@pytest.mark.parametrize("optimizer", ["AdamW", "SGD"])
@pytest.mark.parametrize("epochs", [0, 1])
def test_everything_is_as_it_was_to_the_bit(optimizer, epochs):
    """Lightning #6675: weights and more stayed changed. Before training and in the middle of it."""
    loop = Loop(optimizer)
    loop.train(epochs)
    before, tensors = loop.bits(), [*loop.model.parameters()]
    found = loop.find()
    assert loop.bits() == before
    assert all(a is b for a, b in zip(tensors, loop.model.parameters(), strict=True))
    assert min(len(curve.lr) for curve in found.curves) > 10
    loop.train(2)
    after = loop.bits()
    other = Loop(optimizer)
    other.train(epochs + 2)
    assert loop.losses == other.losses and after == other.bits()


def test_also_when_a_step_raises():
    loop, calls = Loop(), []
    before = loop.bits()

    def step(batch):
        calls.append(1)
        loop.step(batch)
        if len(calls) == 25:
            raise FloatingPointError("no luck")
        return 1.0

    with pytest.raises(FloatingPointError):
        find_lr(step, loop.optimizer, loop.model, loop.loader, keep=[loop.ema, loop.scheduler], base_lr=0.01)
    assert loop.bits() == before


@pytest.mark.parametrize("workers", [0, 1])
def test_in_the_middle_of_a_pass(workers):
    """The caller's pass over the loader goes on as if nothing had been."""

    def batches(finding):
        generator = torch.Generator().manual_seed(3)
        data = TensorDataset(torch.arange(64.0)[:, None])
        loader = DataLoader(
            data, 8, shuffle=True, generator=generator, num_workers=workers, persistent_workers=bool(workers)
        )
        model = nn.Linear(1, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        seen = []
        for _ in range(2):
            for number, (x,) in enumerate(loader):
                seen.append(x)
                if finding and number == 2:
                    find_lr(lambda batch: batch[0].sum(), optimizer, model, loader, steps=20, repeats=1)
        return torch.cat(seen)

    assert torch.equal(batches(True), batches(False))


def test_a_quadratic_in_three_lines():
    x = nn.Parameter(torch.ones(2, dtype=torch.float64))
    optimizer = torch.optim.SGD([x], lr=0.5)

    def step():
        optimizer.zero_grad()
        loss = 4 * (x**2).sum() / 2
        loss.backward()
        optimizer.step()
        return loss

    found = find_lr(step, optimizer, nn.ParameterList([x]), repeats=2)
    for curve in found.curves:
        last = int(np.argmin(curve.loss))
        assert curve.lr[last] <= 2 / 4 < curve.lr[last + 1]
    assert found.lr < 2 / 4 and torch.equal(x.detach(), torch.ones_like(x)) and x.grad is None
    assert found.curves[0] == found.curves[1] and found.suggestions["middle"].low == found.lr


def test_the_suggestion_stays_and_ratios_too():
    """Lightning #21030: the LR that was found was lost when the state was put back."""
    loop, seen = Loop("SGD"), []
    step = loop.step

    def watched(batch):
        seen.append([group["lr"] for group in loop.optimizer.param_groups])
        return step(batch)

    loop.step = watched
    found = loop.find()
    assert all(b == pytest.approx(10 * a) for a, b in seen)
    assert [s[0] for s in seen[:3]] == pytest.approx(list(np.geomspace(1e-5, 10, 41)[:3]))
    assert [group["lr"] for group in loop.optimizer.param_groups] == [0.01, 0.1]
    for group in loop.optimizer.param_groups:
        group["lr"] = found.lr
    loop.train(1)
    assert loop.optimizer.param_groups[0]["lr"] == pytest.approx(found.lr * 0.99**6)


def test_moments_keep_their_type():
    """`load_state_dict` would make float32 moments of bfloat16 weights bfloat16."""
    weight = nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    optimizer.state[weight]["momentum_buffer"] = torch.tensor([0.1, 0.2, 0.3])
    optimizer.param_groups[0]["lr"] = lr = torch.tensor(0.1)
    before = copy.deepcopy(optimizer.state[weight]["momentum_buffer"])
    with unchanged(optimizer):
        optimizer.state[weight]["momentum_buffer"].mul_(2)
        weight.data.add_(1)
        lr.fill_(7)
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(1))]})
    assert torch.equal(optimizer.state[weight]["momentum_buffer"], before) and torch.equal(weight, torch.ones(3))
    assert optimizer.param_groups[0]["lr"] is lr and float(lr) == pytest.approx(0.1)
    assert len(optimizer.param_groups) == 1


def linear():
    model = nn.Linear(1, 1)
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def sets_the_lr(optimizer):
    optimizer.param_groups[0]["lr"] *= 0.9
    return 1.0


@pytest.mark.parametrize(
    ("step", "options", "message"),
    [
        (lambda _: None, {}, "step\\(\\) returns NoneType: the loss of its batch is needed, one number"),
        (lambda _: torch.ones(3), {}, "step\\(\\) returns a tensor of shape \\(3,\\)"),
        (lambda _: 1.0, {"batches": []}, "batches is empty"),
        (lambda _: 1.0, {"batches": iter([1])}, "batches is an iterator: what it gives cannot be put back"),
        (lambda _: 1.0, {"keep": [object()]}, "a object cannot be put back afterwards: it has no state_dict"),
        (lambda _: 1.0, {"low": 1.0, "high": 0.1}, "a sweep from LR 1 to 0.1 in 200 steps is not possible"),
        (lambda _: 1.0, {"low": -1.0}, "SWEEP: k0 = -1.0 is not possible"),
        (lambda _: 1.0, {"repeats": 0}, "repeats = 0 is not possible"),
        (lambda _: 1.0, {"shape": "log"}, "SWEEP: shape = log is not possible"),
    ],
)
def test_bad_input(step, options, message):
    model, optimizer = linear()
    with pytest.raises(UserError, match=message) as error:
        find_lr(step, optimizer, model, **{"batches": [1], **options})
    assert "\n" not in str(error.value)


def test_a_step_that_sets_the_lr_is_told():
    model, optimizer = linear()
    with pytest.raises(UserError, match="step\\(\\) sets the LR: give its scheduler in keep"):
        find_lr(lambda: sets_the_lr(optimizer), optimizer, model)
    lazy = nn.LazyLinear(1)
    with pytest.raises(UserError, match="lazy layers"), unchanged(lazy):
        pass
