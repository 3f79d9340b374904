"""Operations of spiking networks, against loops over every spike and synapse."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from lrensemble.models.spiking import carsnn, event_resnet
from lrensemble.tasks import load_task
from lrensemble.tasks.events.operations import counting, fan_out


def by_hand(height: int, width: int, out: int, size: int) -> torch.Tensor:
    """Output positions that every pixel of a padded convolution of stride 1 reaches, times the channels."""
    reach = size // 2
    return torch.tensor(
        [
            [
                out
                * sum(
                    0 <= y + dy < height and 0 <= x + dx < width
                    for dy in range(-reach, reach + 1)
                    for dx in range(-reach, reach + 1)
                )
                for x in range(width)
            ]
            for y in range(height)
        ],
        dtype=torch.float32,
    )


@pytest.mark.parametrize(("height", "width", "size"), [(5, 4, 3), (1, 3, 3), (4, 4, 1)])
def test_borders_have_fewer_synapses(height, width, size):
    convolution = torch.nn.Conv2d(2, 7, size, padding=size // 2, bias=False)
    counts = fan_out(convolution, torch.Size((2, height, width)))
    assert torch.equal(counts, by_hand(height, width, 7, size).expand(2, -1, -1))
    assert fan_out(torch.nn.Linear(6, 3), torch.Size((6,))).tolist() == [3.0] * 6


@pytest.fixture
def frames() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.poisson(torch.full((6, 5, 2, 18, 18), 0.3))  # 3 rows of 2 crops, 5 steps


def test_carsnn(frames):
    torch.manual_seed(1)
    model = carsnn(input_shape=tuple(frames.shape[1:]), num_classes=4)
    model.calibrate(lambda m: m(frames))
    with torch.no_grad(), counting(model, 3) as counted:
        model(frames)
    found = counted()
    # Once more without the halving of the layers: every spike for itself.
    with torch.no_grad():
        x = F.avg_pool2d(frames.transpose(0, 1).flatten(0, 1), 4)  # 4x4 pixels
        effective = ((x != 0) * by_hand(4, 4, 32, 3)).flatten(1).sum(1).view(5, 3, 2).sum((0, 2))
        one = model.conv1.neuron(model.conv1.synapses(x).view(5, 6, 32, 4, 4))
        two = model.conv2.neuron(model.conv2.synapses(F.avg_pool2d(one.flatten(0, 1), 2)).view(5, 6, 32, 2, 2))
        three = model.fc1.neuron(model.fc1.synapses(F.avg_pool2d(two.flatten(0, 1), 2).flatten(1)).view(5, 6, -1))
    of_two = F.interpolate(by_hand(2, 2, 32, 3)[None, None], scale_factor=2)[0, 0]  # of a pixel before pooling
    acs = (
        (one * of_two).flatten(2).sum((0, 2))
        + two.flatten(2).sum((0, 2)) * model.fc1.synapses.out_features
        + three.sum((0, 2)) * 4
    )
    assert found["acs"].tolist() == pytest.approx(acs.view(3, 2).sum(1).tolist()) and found["acs"].min() > 0
    spikes = one.flatten(2).sum((0, 2)) + two.flatten(2).sum((0, 2)) + three.sum((0, 2))
    assert found["spikes"].tolist() == pytest.approx(spikes.view(3, 2).sum(1).tolist())
    assert found["effective_macs"].tolist() == pytest.approx(effective.tolist())
    hidden = model.fc1.synapses.out_features
    dense = 2 * by_hand(4, 4, 32, 3).sum() + 32 * by_hand(2, 2, 32, 3).sum() + 32 * hidden + hidden * 4
    assert found["dense_macs"].tolist() == pytest.approx([float(dense) * 10] * 3)


def test_every_spike_of_the_residual_network_is_counted(frames):
    torch.manual_seed(1)
    model = event_resnet(input_shape=tuple(frames.shape[1:]), num_classes=4, width=4)
    model.calibrate(lambda m: m(frames))
    with torch.no_grad(), counting(model, 6) as counted:
        model(frames)
    counts = counted()
    assert torch.equal(counts["spikes"], counts["spikes"].round())  # pooled ones as a whole number of spikes
    assert (counts["spikes"] < counts["acs"]).all() and (counts["acs"] < counts["dense_macs"]).all()


def test_other_networks_have_none(frames):
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(5 * 2 * 18 * 18, 4))
    with counting(model, 6) as counted:
        model(frames)
    assert counted() == {}


def test_a_task_measures_them():
    task = load_task("simulated_events", images="digits", rows=[12, 4, 4], bins=5)
    model = carsnn(**task.facts)
    rows = {"x": torch.from_numpy(task.split("val")["x"]), "y": torch.from_numpy(task.labels("val"))}
    task.initialise(model, rows)
    measured = task.measure(model, rows)
    assert {"rate_conv1", "acs", "spikes", "effective_macs", "dense_macs"} <= measured.keys()
    assert all(values.shape == (4,) for values in measured.values())
