"""One member: against a plain torch loop, resumed at every epoch, with every optimizer, and when it diverges."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lrensemble import UserError, load_config, load_task
from lrensemble.models import build_model
from lrensemble.tasks.augment import PAD, crop, flip
from lrensemble.tasks.rows import DeviceData
from lrensemble.training.loop import Run
from lrensemble.training.loop import fit as fit_run
from lrensemble.training.seeds import derive_seed
from tests.conftest import tiny_config

CPU = torch.device("cpu")


def fit(spec, member_id, data, **options):
    return fit_run(Run(spec, member_id, data), **options)


@pytest.fixture(scope="module")
def data() -> DeviceData:
    return DeviceData.of(load_task("digits", val_fraction=0.25), CPU)


def spec_of(*overrides: str):
    return load_config(tiny_config(policies=["TRI(k0=0.1, k1=0.01, l=30)"]), overrides).specs()[0]


def test_equals_a_plain_torch_loop(data):
    """torch's own CyclicLR and a loop written out: the same weights (up to the rounding of torch's chained LR)."""
    spec = spec_of("model.dropout=0.0", "optimizer.weight_decay=1e-3")
    outcome = fit(spec, "some-id", data)

    torch.manual_seed(derive_seed("some-id", "init"))
    model = build_model("mlp", input_shape=(1, 8, 8), num_classes=10, parameters={"hidden": [16]})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-3)
    steps = len(data.train) // 64
    scheduler = torch.optim.lr_scheduler.CyclicLR(optimizer, 0.01, 0.1, 30, cycle_momentum=False)
    for epoch in range(4):
        torch.manual_seed(derive_seed("some-id", epoch))
        order = torch.randperm(len(data.train))
        for step in range(steps):
            index = order[step * 64 : (step + 1) * 64]
            optimizer.zero_grad()
            F.cross_entropy(model(data.train.arrays["x"][index]), data.train.labels[index]).backward()
            optimizer.step()
            scheduler.step()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(outcome.weights[name], value, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        probabilities = model(data.val.arrays["x"]).softmax(1)
    np.testing.assert_allclose(outcome.probabilities["val"], probabilities, rtol=1e-3, atol=1e-4)


def test_shared_init(data):
    """The same weights to start from for every policy of one model and seed, and its own order for every run."""

    def start(i: str, *overrides: str) -> dict[str, torch.Tensor]:
        return Run(spec_of(*overrides), i, data).model.state_dict()

    def same(a, b) -> bool:
        return all(torch.equal(a[name], b[name]) for name in a if a[name].ndim > 1)

    shared = "training.shared_init=true"
    assert same(start("a", shared), start("b", shared, "policies=FIX(0.1)", "optimizer=AdamW"))
    assert not same(start("a", shared), start("a", shared, "seeds=[1]"))
    assert not same(start("a"), start("b"))
    assert not same(start("a"), start("a", shared))
    a, b = (fit(spec_of(shared, "training.epochs=1"), i, data) for i in "ab")
    assert not same(a.weights, b.weights)


@pytest.mark.parametrize("optimizer", ["{name: SGD, momentum: 0.9}", "AdamW", "LBFGS"])
def test_resumed_after_any_epoch_equals_uninterrupted(data, optimizer):
    spec = spec_of(f"optimizer={optimizer}", "policies=COS(k0=0.01, l=100%)", "training.augment=[crop, flip]")
    states = []

    def keep(run: Run) -> None:
        file = io.BytesIO()
        torch.save(run.state(), file)
        states.append(file)

    whole = fit(spec, "id", data, after_epoch=keep)
    assert len(states) == 4
    for file in states[:-1]:
        file.seek(0)
        torch.rand(7)  # whatever the process did in between must not matter
        resumed = fit(spec, "id", data, state=torch.load(file, weights_only=True))
        for split in ("val", "test"):
            np.testing.assert_array_equal(resumed.probabilities[split], whole.probabilities[split])
        assert all(torch.equal(resumed.weights[name], value) for name, value in whole.weights.items())

        def timeless(history):
            return [{k: v for k, v in line.items() if "seconds" not in k} for line in history]

        assert timeless(resumed.history) == timeless(whole.history)


def test_seed_and_id_decide(data):
    spec = spec_of()
    a, again, b = (fit(spec, i, data).probabilities["val"] for i in ("a", "a", "b"))
    np.testing.assert_array_equal(a, again)
    assert not np.array_equal(a, b)


def test_history_has_the_lr_of_the_last_step(data):
    spec = spec_of()
    history = fit(spec, "id", data).history
    steps = len(data.train) // 64
    assert [line["step"] for line in history] == [steps * e for e in (1, 2, 3, 4)]
    from lrensemble import Policy

    policy = Policy.parse(spec.policy)
    assert [line["lr"] for line in history] == pytest.approx([policy(line["step"] - 1) for line in history])


@pytest.mark.parametrize(
    "name",
    sorted({"Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "ASGD", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD"}),
)
def test_optimizers_of_torch(data, name):
    spec = spec_of(f"optimizer={name.lower()}", "training.epochs=1", "policies=FIX(0.001)")
    assert fit(spec, "id", data).status == "complete"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer=SDG", "unknown optimizer 'SDG': did you mean 'SGD'"),
        ("optimizer.momentun=0.9", "did you mean 'momentum'"),
        ("optimizer.lr=0.1", "lr is what the policies are for"),
        ("optimizer.weight_decay=-1", "weight_decay"),
    ],
)
def test_optimizer_errors(data, override, message):
    with pytest.raises(UserError, match=message):
        fit(spec_of(override), "id", data)


def test_nan_stops_early_and_is_diverged(data):
    outcome = fit(spec_of("policies=FIX(1e30)", "training.epochs=50"), "id", data)
    assert outcome.status == "diverged"
    assert outcome.reason == "the training loss is not finite at step 15 (LR 1e+30)"  # the first look: an epoch's end
    assert len(outcome.history) == 1
    assert outcome.probabilities == {}


def test_fewer_rows_than_a_batch(data):
    outcome = fit(spec_of("training.batch_size=100000"), "id", data)
    assert outcome.costs["steps"] == 4


def test_crop_shifts_and_flip_mirrors():
    torch.manual_seed(0)
    x = torch.randn(200, 2, 9, 7)
    padded = F.pad(x, (PAD, PAD, PAD, PAD))
    shifted = crop(x)
    shifts = set()
    for i in range(200):
        places = [
            (r, c)
            for r in range(2 * PAD + 1)
            for c in range(2 * PAD + 1)
            if torch.equal(padded[i, :, r : r + 9, c : c + 7], shifted[i])
        ]
        assert places, "not a window of the padded image"
        shifts.update(places)
    assert len(shifts) > 60  # of 81
    mirrored = flip(x)
    was = torch.tensor([torch.equal(mirrored[i], x[i].flip(-1)) for i in range(200)])
    assert all(torch.equal(mirrored[i], x[i]) for i in range(200) if not was[i])
    assert 60 < was.sum() < 140


def test_one_spike_is_no_explosion(data):
    """One step an epoch: its loss alone must not end a run, NaN must."""
    from lrensemble.training.totals import EXPLODED, Ended, Totals

    run = Run(spec_of("training.batch_size=100000"), "id", data)
    assert run.steps_per_epoch == 1
    Totals(run).add(torch.tensor(100.0 * EXPLODED), torch.tensor(0))
    with pytest.raises(Ended):
        Totals(run).add(torch.tensor(float("nan")), torch.tensor(0))
