"""Spiking networks: the fused neuron against a loop over its definition, first weights that fire, and dead networks."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lrensemble import UserError, load_config, train_pool
from lrensemble.models import build_model
from lrensemble.models.spiking import LIF, SURROGATES
from lrensemble.models.spiking.neuron import fire_stepwise
from lrensemble.tasks import load_task
from lrensemble.tasks.events import EventTask, Recording
from lrensemble.tasks.events.neurons import firing_rates, reset_states
from lrensemble.tasks.events.sets import EventSet
from lrensemble.training.judges import dead
from tests.tasks.events.files import pictures

DERIVATIVES = {
    "rectangle": lambda v, threshold: (v.abs() < threshold).float(),
    "triangle": lambda v, threshold: (1 - v.abs() / threshold).clamp_min(0),
    "atan": lambda v, threshold: 1 / (1 + (torch.pi * v) ** 2),
    "fast_sigmoid": lambda v, threshold: 1 / (1 + 25 * v.abs()) ** 2,
}


class Step(torch.autograd.Function):
    """[v > 0] with another derivative."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, threshold: float, surrogate: str) -> Tensor:
        ctx.save_for_backward(v)
        ctx.rest = threshold, surrogate
        return (v > 0).float()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (v,) = ctx.saved_tensors
        threshold, surrogate = ctx.rest
        return grad * DERIVATIVES[surrogate](v, threshold), None, None


def loop(current: Tensor, steps: int, lif: LIF) -> Tensor:
    """The neuron as it is defined, one step after the other."""
    u = s = torch.zeros_like(current[0])
    spikes = []
    for t in range(steps):
        u = lif.decay * u * (1 - s) + current[t if len(current) > 1 else 0]
        s = Step.apply(u - lif.threshold, lif.threshold, lif.surrogate)
        spikes.append(s)
    return torch.stack(spikes)


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize(
    ("shape", "steps", "halve"),
    [((7, 3, 5), 7, False), ((1, 3, 5), 6, False), ((5, 2, 3, 7, 9), 5, True), ((1, 2, 3, 8, 6), 5, True)],
)
def test_the_fused_neuron_is_the_loop(surrogate, shape, steps, halve):
    torch.manual_seed(0)
    lif = LIF(0.3, 0.4, surrogate)
    fused, plain = (torch.randn(shape, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2))
    mine, theirs = lif(fused, steps, halve=halve), loop(plain, steps, lif)
    theirs = F.avg_pool2d(theirs.flatten(0, 1), 2).unflatten(0, (steps, shape[1])) if halve else theirs
    assert torch.equal(mine, theirs) and 0.05 < float(mine.detach().mean()) < 0.6
    weight = torch.randn_like(mine)
    (mine * weight).sum().backward()
    (theirs * weight).sum().backward()
    assert relative(fused.grad, plain.grad) < 1e-5
    with torch.no_grad():
        assert torch.equal(lif(fused, steps, halve=halve), mine)
        assert torch.equal(fire_stepwise(fused, steps, halve, lif.decay, lif.threshold), mine)


def plain_carsnn(net: Any, x: Tensor) -> Tensor:
    """CarSNN step by step: all layers at one time, then the next."""
    layers = [net.conv1, net.conv2, net.fc1, net.fc2]
    u, s, out = [0.0] * 4, [0.0] * 4, 0.0
    for t in range(x.shape[1]):
        signal = F.avg_pool2d(x[:, t], 4)
        for i, layer in enumerate(layers):
            u[i] = 0.2 * u[i] * (1 - s[i]) + layer.synapses(signal)
            s[i] = Step.apply(u[i] - 0.4, 0.4, "rectangle")
            signal = F.avg_pool2d(s[i], 2) if i < 2 else s[i]
            signal = signal.flatten(1) if i == 1 else signal
        out = out + signal
    return out / x.shape[1]


@pytest.mark.parametrize("static", [False, True])
def test_the_network_is_its_step_loop(static):
    torch.manual_seed(0)
    net = build_model("carsnn", input_shape=(8, 2, 34, 34), num_classes=10)
    x = torch.poisson(torch.full((6, 1 if static else 8, 2, 34, 34), 0.3)).expand(-1, 8, -1, -1, -1)
    net.calibrate(lambda model: model(x))
    grads = []
    for run in (net, lambda x: plain_carsnn(net, x)):
        net.zero_grad()
        out = run(x)
        ((out - F.one_hot(torch.arange(6), 10)) ** 2).mean().backward()
        grads.append((out.detach(), [p.grad.clone() for p in net.parameters()]))
    assert torch.equal(grads[0][0], grads[1][0])
    assert max(itertools.starmap(relative, zip(grads[0][1], grads[1][1], strict=True))) < 1e-5


@pytest.mark.parametrize("name", ["carsnn", "event_resnet"])
def test_a_frame_shown_for_all_steps_is_computed_once_and_the_same(name):
    torch.manual_seed(0)
    net = build_model(name, input_shape=(6, 2, 20, 24), num_classes=3)
    x = torch.poisson(torch.full((4, 1, 2, 20, 24), 0.3)).expand(-1, 6, -1, -1, -1)
    net.calibrate(lambda model: model(x))
    assert torch.allclose(net(x), net(x.contiguous()), atol=1e-6) and net(x).std() > 0


def test_sizes_of_the_papers_networks():
    def parameters(side, classes, name="carsnn"):
        net = build_model(name, input_shape=(10, 2, side, side), num_classes=classes)
        return sum(p.numel() for p in net.parameters())

    assert parameters(50, 2) == 51_552 and parameters(100, 2) == 600_640
    assert parameters(34, 10, "event_resnet") == 77_216
    for side in (16, 17, 31, 33):
        net = build_model("carsnn", input_shape=(3, 2, side, side), num_classes=2)
        assert net(torch.ones(2, 3, 2, side, side)).shape == (2, 2)
        assert set(net.state_dict()) == {f"{layer}.synapses.weight" for layer in ("conv1", "conv2", "fc1", "fc2")}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"input_shape": (10, 2, 15, 40)}, "window of 40x15 pixels: it needs at least 16x16"),
        ({"input_shape": (3, 32, 32)}, "takes events"),
        ({"rate": 0.7}, "rate = 0.7 is not possible"),
        ({"surrogate": "atann"}, "unknown surrogate 'atann': did you mean 'atan'"),
        ({"decay": 1.0}, "decay = 1.0"),
        ({"threshold": 0}, "threshold = 0"),
        ({"hidden": 0}, "hidden = 0"),
    ],
)
def test_networks_that_cannot_be(options, words):
    shape = options.pop("input_shape", (10, 2, 34, 34))
    with pytest.raises(UserError, match=words):
        build_model("carsnn", input_shape=shape, num_classes=2, parameters=options)


@pytest.fixture(scope="module")
def bars() -> EventSet:
    return pictures()


def config(**changes: Any) -> dict[str, Any]:
    return {
        "name": "bars",
        "model": {"name": "carsnn"},
        "optimizer": {"name": "Adam"},
        "training": {"epochs": 3, "batch_size": 20},
        "policies": ["FIX(k0=3e-3)"],
        **changes,
    }


def trained(task: EventTask, folder: Any, **changes: Any) -> Any:
    pool = train_pool(load_config(config(**changes), task=task), folder, workers=1, threads=1, devices="cpu")
    return pool.members[0]


@pytest.mark.parametrize("protocol", ["sequence", "carsnn"])
@pytest.mark.parametrize("name", ["carsnn", "event_resnet"])
def test_every_layer_begins_at_its_rate(bars, protocol, name):
    task = EventTask(bars, protocol=protocol, steps=5 if protocol == "carsnn" else None, val_fraction=0.2)
    rows = task.collate([(i, 5) for i in range(task.rows("train"))])
    weights = []
    for _ in range(2):
        torch.manual_seed(3)
        model = build_model(name, **task.facts)
        task.initialise(model, rows)
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
        rates: list[float] = []
        for module in model.modules():
            if isinstance(module, LIF):
                module.register_forward_hook(lambda m, i, out, rates=rates: rates.append(float(out.mean())))
        with torch.no_grad():
            task.scores(model, rows)
        low = 0.13 if name == "carsnn" else 0.1  # few of the first layer's neurons get anything of 10x10 pixels
        assert len(rates) == (4 if name == "carsnn" else 10) and low <= min(rates) <= max(rates) <= 0.17, rates
    assert torch.equal(*weights)


def test_it_learns_and_its_rates_are_in_the_history(bars, tmp_path):
    task = EventTask(bars, val_fraction=0.25)
    member = trained(task, tmp_path / "pool", training={"epochs": 8, "batch_size": 10})
    history = member.history()
    assert member.status == "complete" and member.record.val["accuracy"] > 0.8
    assert {"rate_conv1", "rate_conv2", "rate_fc1", "rate_fc2"} <= set(history[0]) & set(member.record.costs)
    assert 0.05 < history[0]["rate_conv1"] < 0.3


def test_without_calibration_it_is_dead_after_one_epoch(bars, tmp_path):
    task = EventTask(bars, val_fraction=0.25)
    member = trained(task, tmp_path / "pool", model={"name": "carsnn", "rate": None})
    assert member.status == "stopped" and member.record.reason.startswith("dead: the neurons of")
    assert len(member.history()) == 1


def test_too_high_an_lr_kills(bars, tmp_path):
    member = trained(EventTask(bars, val_fraction=0.25), tmp_path / "pool", policies=["FIX(k0=10)"])
    assert member.status == "stopped" and "dead" in member.record.reason


def test_the_judge():
    def line(**rates):
        return [{"epoch": 1, "lr": 0.1, "val_accuracy": 0.5, **{f"rate_{key}": rate for key, rate in rates.items()}}]

    assert dead(None, line()) is None and dead(None, line(a=0.1, b=0.001)) is None
    assert "of b fire in 0.00%" in dead(None, line(a=0.1, b=0.0))
    assert "of a fire in 100.00%" in dead(None, line(a=1.0, b=0.1))


def test_scores_are_rates_and_votes_and_crops_are_averaged(bars):
    rates = torch.rand(300, 2)

    def model(x: Tensor) -> Tensor:
        return rates[: len(x)]

    batch = {"x": torch.zeros(4, 30, 2, 20, 20, dtype=torch.uint8), "y": torch.tensor([0, 1, 1, 0])}
    crops = EventTask(bars, crops=3, val_fraction=0.2)
    assert torch.allclose(crops.scores(model, batch), 10 * rates[:12].view(4, 3, 2).mean(1))
    votes = EventTask(bars, protocol="carsnn", val_fraction=0.2)
    batch["x"] = batch["x"][:, :10]
    wanted = torch.stack([(rates[:40].view(4, 10, 2).argmax(-1) == c).sum(1) for c in (0, 1)], 1)
    counts = votes.scores(model, batch)
    assert (counts - wanted).abs().max() < 0.6 and (wanted[:, 0] == wanted[:, 1]).logical_or(
        counts.argmax(1) == wanted.argmax(1)
    ).all()

    class Options:
        augment, cutout, mixup, label_smoothing = (), 0, 0.0, 0.0

    losses, _ = votes.loss(model, batch, Options())
    one_hot = F.one_hot(batch["y"], 2)[:, None]
    assert torch.allclose(losses, ((rates[:40].view(4, 10, 2) - one_hot) ** 2).mean((1, 2)))


class Stateful(nn.Module):
    """A neuron that keeps its state, as snnTorch's and SpikingJelly's do: wrong from the second batch on."""

    def __init__(self, reset: str) -> None:
        super().__init__()
        self.threshold = 1.0
        self.weight = nn.Parameter(torch.tensor(0.5))
        self.mem: Tensor | float = 0.0
        setattr(self, reset, self._forget)

    def _forget(self) -> None:
        self.mem = 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.mem = self.mem + self.weight * x
        return torch.sigmoid(self.mem - self.threshold)


@pytest.mark.parametrize("reset", ["reset_mem", "reset"])
def test_states_of_other_libraries_are_reset_before_every_batch(bars, reset):
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neuron = Stateful(reset)

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([self.neuron(x[:, t].flatten(1)[:, :2]) for t in range(x.shape[1])]).mean(0)

    task, net = EventTask(bars, val_fraction=0.2), Net()
    batch = task.collate([(0, 0), (1, 0)])
    first = task.scores(net, batch)
    first.sum().backward()
    again = task.scores(net, batch)
    again.sum().backward()  # "backward through the graph a second time" without a reset
    assert torch.equal(first, again)
    assert set(task.measure(net, batch)) == {"rate_neuron"}


def test_rates_are_of_rows(bars):
    task = EventTask(bars, crops=2, val_fraction=0.2)
    model = build_model("carsnn", **task.facts)
    batch = {key: torch.from_numpy(np.asarray(value))[:5] for key, value in task.split("val").items()}
    task.initialise(model, batch)
    rates = task.measure(model, batch)
    alone = task.measure(model, {key: value[2:3] for key, value in batch.items()})
    assert all(value.shape == (5,) and torch.allclose(value[2:3], alone[key]) for key, value in rates.items())
    assert firing_rates(nn.Linear(2, 2), lambda model: None, 5) == {}
    reset_states(nn.Linear(2, 2))


def test_simulated_events_of_digits():
    task = load_task("simulated_events", images="digits", rows=[20, 10, 10])
    assert task.facts["input_shape"] == (10, 2, 34, 34) and task.num_classes == 10
    assert [task.rows(name) for name in ("train", "val", "test")] == [20, 10, 10]
    assert any("SIMULATED" in note for note in task.notes)
    with pytest.raises(UserError, match=r"data\.rows"):
        load_task("simulated_events", rows=[20])


def test_a_recording_has_no_events():
    empty = Recording(*(np.zeros(0, kind) for kind in (np.int64, np.uint16, np.uint16, np.uint8)))
    assert empty.duration == 0 and empty.size == (0, 0)


def test_other_networks_train_on_events_too(bars, tmp_path):
    """An mlp, which would train as a stack if all rows lay on the device; without neurons there are no rates."""
    task = EventTask(bars, val_fraction=0.25)
    changes = {"model": {"name": "mlp", "hidden": [4]}, "policies": ["FIX(k0=[1e-3, 2e-3])"]}
    pool = train_pool(load_config(config(**changes), task=task), tmp_path / "pool", workers=1, threads=1, devices="cpu")
    assert [member.status for member in pool.members] == ["complete"] * 2
    assert not [key for member in pool.members for key in member.history()[0] if key.startswith("rate")]
