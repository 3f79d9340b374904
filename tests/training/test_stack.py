"""Stacks: what a run becomes is the same bit for bit whoever else is in the stack, and up to rounding alone.

Whether a stack of small networks equals the plain loop bit for bit depends on the processor's matrix kernels: it does
on an Intel Xeon and does not on an AMD EPYC. Nothing relies on it: what may be stacked is, also a single run. What must
hold on any processor: gradients and single steps from the same state.
"""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lrensemble import Pool, UserError, load_config, train_pool
from lrensemble.training.engine import Engine
from lrensemble.training.loop import Outcome, Run
from lrensemble.training.stack import fit_stack, stack_size
from tests.conftest import tiny_config
from tests.training.runs import CPU, assert_close, assert_equal, digits, specs_of, train
from tests.training.test_runner import contents

# Calm LRs, of SGD with momentum and of Adam: 100 steps make 5e-7 of a rounding error (scripts/measure_stack).
MIX = ["FIX(0.05)", "COS(k0=0.05, l=100%)", "TRI(k0=0.05, k1=0.01, l=30)", "FIX(0.01)"]
SMALL = ["FIX(0.003)", "COS(k0=0.01, l=100%)", "TRI(k0=0.01, k1=0.001, l=30)", "FIX(0.001)"]
ROUNDING = 1e-4


def stacked(specs, ids=None, states=None, engine=None, after_epoch=lambda run: None) -> list[Outcome]:
    ids = ids or [f"run{i}" for i in range(len(specs))]
    runs = [Run(spec, i, digits(), engine) for spec, i in zip(specs, ids, strict=True)]
    for run, state in zip(runs, states or [], strict=bool(states)):
        if state is not None:
            run.load_state(state)
    outcomes: dict[str, Outcome] = {}

    def ended(run: Run, outcome: Outcome) -> None:
        assert run.member_id not in outcomes
        outcomes[run.member_id] = outcome

    fit_stack(runs, after_epoch=after_epoch, ended=ended)
    return [outcomes[i] for i in ids]


CASES: list[tuple[str, list[str]]] = [
    *((f"{{name: {name}}}", []) for name in ["Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "ASGD"]),
    *((f"{{name: {name}}}", []) for name in ["NAdam", "RAdam", "RMSprop", "Rprop", "SGD"]),
    ("{name: SGD, momentum: 0.9, nesterov: true, weight_decay: 1e-3}", ["training.decoupled_weight_decay=1e-4"]),
    ("{name: AdamW, weight_decay: 0.1, amsgrad: true}", ["training.label_smoothing=0.1"]),
    ("{name: RMSprop, momentum: 0.9, centered: true}", ["model.hidden=[17, 13]"]),
]


@pytest.mark.parametrize(("optimizer", "overrides"), CASES)
def test_gradients_and_steps_are_those_of_a_run_alone(optimizer: str, overrides: list[str]):
    """From the same state the same gradients up to rounding; from the same gradients the same step, by any optimizer.

    Not: the same path. Where a step turns on the sign of a gradient near 0, rounding may grow to anything.
    """
    one_step = ["training.batch_size=1000", "training.epochs=5"]
    specs = specs_of(SMALL, f"optimizer={optimizer}", *one_step, *overrides)

    def run_at(i: int, state: dict[str, Any] | None) -> Run:
        run = Run(specs[i], f"run{i}", digits())
        assert run.steps_per_epoch == 1
        if state is not None:
            run.load_state(copy.deepcopy(state))
        return run

    states: list[dict[str, Any] | None] = [None] * len(specs)
    for _ in range(4):
        together, alone = ([run_at(i, state) for i, state in enumerate(states)] for _ in range(2))
        fit_stack([at_its_end(run) for run in together], ended=lambda run, outcome: None)
        for i, (one, other) in enumerate(zip(together, alone, strict=True)):
            other.train_epoch()
            assert one.history[-1]["train_loss"] == pytest.approx(other.history[-1]["train_loss"], rel=1e-5)
            step = run_at(i, states[i])
            for mine, theirs, parameter in zip(one.parameters, other.parameters, step.parameters, strict=True):
                assert_near(mine.grad, theirs.grad)
                parameter.grad = mine.grad.clone()
            step.optimizer.step()
            step.after_step()
            for mine, theirs in zip(leaves(one), leaves(step), strict=True):
                assert_near(mine, theirs)
        states = [copy.deepcopy(run.state()) for run in alone]


def at_its_end(run: Run) -> Run:
    """The same run, over after its next epoch."""
    training = run.spec.training.model_copy(update={"epochs": run.epoch + 1})
    run.spec = run.spec.model_copy(update={"training": training})
    return run


def leaves(run: Run) -> list[torch.Tensor]:
    """What a step changes: parameters and the optimizer's state."""
    state = run.optimizer.state_dict()["state"]
    return [*run.parameters, *(value for one in state.values() for value in one.values() if torch.is_tensor(value))]


def assert_near(a: torch.Tensor, b: torch.Tensor) -> None:
    """Equal within some units of rounding of the largest."""
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5 * float(b.detach().abs().max()))


@pytest.mark.parametrize(
    ("policies", "overrides"),
    [
        (MIX, ["optimizer=SGD"]),
        (MIX, ["optimizer={name: SGD, momentum: 0.9, nesterov: true, weight_decay: 1e-3}"]),
        (MIX, ["training.decoupled_weight_decay=1e-4", "training.label_smoothing=0.1"]),
        (SMALL, ["optimizer={name: AdamW, weight_decay: 0.1}", "training.epochs=1"]),
    ],
)
def test_stacked_equals_one_after_the_other(policies, overrides):
    """Whole runs, where `scripts/measure_stack` found that rounding does not grow: calm LRs, few steps."""
    specs = specs_of(policies, *overrides)
    for i, outcome in enumerate(stacked(specs)):
        assert_close(outcome, train(specs[i], f"run{i}"), ROUNDING)


def test_larger_networks_are_equal_up_to_rounding():
    specs = specs_of(MIX[:2], "model.hidden=[512]", "training.batch_size=200", "training.epochs=2")
    for i, outcome in enumerate(stacked(specs)):
        assert_close(outcome, train(specs[i], f"run{i}"), ROUNDING)


@pytest.mark.parametrize("overrides", [[], ["model.hidden=[512]", "training.batch_size=200", "training.epochs=2"]])
def test_nobody_else_in_the_stack_matters(overrides):
    """Bit for bit, also where a stack differs from a run alone by rounding: else kills and workers would show."""
    specs = specs_of(MIX, *overrides)
    ids = [f"run{i}" for i in range(4)]
    whole = stacked(specs)
    for some in ([2], [0, 2], [2, 1], [3, 2, 0]):
        for i, outcome in zip(some, stacked([specs[i] for i in some], [ids[i] for i in some]), strict=True):
            assert_equal(outcome, whole[i])


def test_every_run_has_its_own_seed():
    """Equal policies, other ids: other starts and other orders."""
    [spec] = specs_of(["FIX(0.05)"], "training.epochs=1")
    a, b = stacked([spec, spec], ["a", "b"])
    assert not np.array_equal(a.probabilities["val"], b.probabilities["val"])
    assert_close(a, train(spec, "a"), ROUNDING)
    assert_close(b, train(spec, "b"), ROUNDING)


def test_one_that_diverges_leaves_the_others_alone():
    specs = specs_of(["FIX(0.05)", "FIX(1e30)", "COS(k0=0.05, l=100%)", "FIX(1e4)"])
    first, nan, third, huge = stacked(specs)
    assert_close(first, train(specs[0], "run0"), ROUNDING)
    assert_close(third, train(specs[2], "run2"), ROUNDING)
    for outcome, alone in ((nan, train(specs[1], "run1")), (huge, train(specs[3], "run3"))):
        assert (outcome.status, outcome.reason) == (alone.status, alone.reason)
        assert [line["step"] for line in outcome.history] == [line["step"] for line in alone.history]
    assert nan.status == huge.status == "diverged"
    assert nan.reason == "the training loss is not finite at step 15 (LR 1e+30)"


def test_diverging_in_the_middle_of_an_epoch_of_many_steps():
    """Steps per epoch > CHECK_STEPS: found out at step 100, and the others' sums are not mixed up."""
    specs = specs_of(["FIX(1e30)", "FIX(0.01)"], "training.batch_size=8", "training.epochs=1")
    bad, good = stacked(specs)
    assert bad.reason == "the training loss is not finite at step 100 (LR 1e+30)"
    assert bad.history[0]["step"] == bad.costs["steps"] == 100
    assert_close(good, train(specs[1], "run1"), ROUNDING)


def test_resumed_from_states_of_different_epochs_equals_uninterrupted():
    specs = specs_of(SMALL, "optimizer=AdamW")
    states: dict[tuple[str, int], io.BytesIO] = {}

    def keep(run: Run) -> None:
        states[run.member_id, run.epoch] = file = io.BytesIO()
        torch.save(run.state(), file)

    def load(member_id: str, epoch: int):
        states[member_id, epoch].seek(0)
        return torch.load(states[member_id, epoch], weights_only=True) if epoch else None

    for i in range(4):
        states[f"run{i}", 0] = io.BytesIO()
    whole = stacked(specs, after_epoch=keep)
    for epochs in ([3, 1, 0, 2], [1, 1, 1, 1], [4, 0, 4, 3]):
        again = stacked(specs, states=[load(f"run{i}", epoch) for i, epoch in enumerate(epochs)])
        for a, b in zip(again, whole, strict=True):
            assert_equal(a, b)
    # ... and a state of a stack is one of a run alone.
    from lrensemble.training.loop import fit

    assert_close(fit(Run(specs[2], "run2", digits()), state=load("run2", 2)), whole[2], ROUNDING)


@pytest.mark.parametrize("engine", [Engine(), Engine(stack=4)])
@pytest.mark.parametrize(
    "overrides",
    [
        ["model.dropout=0.1"],
        ["training.augment=[crop]"],
        ["training.cutout=2"],
        ["training.mixup=0.2"],
        ["model={name: resnet20}"],
        ["optimizer=LBFGS"],
    ],
)
def test_what_cannot_be_stacked(engine, overrides):
    [spec] = specs_of(["FIX(0.1)"], *overrides)
    assert stack_size(spec, Run(spec, "id", digits()).model, engine, CPU) == 1


def test_how_many_are_stacked():
    [spec] = specs_of(["FIX(0.1)"])
    model = Run(spec, "id", digits()).model
    assert stack_size(spec, model, Engine(), CPU) == 16
    assert stack_size(spec, model, Engine(), torch.device("cuda")) == 1  # not measured to be faster
    assert stack_size(spec, model, Engine(stack=5), CPU) == 5
    assert stack_size(spec, model, Engine(stack=1), CPU) == 1
    [chaotic] = specs_of(["FIX(0.001)"], "optimizer={name: rmsprop, momentum: 0.9}")
    assert stack_size(chaotic, model, Engine(), CPU) == 1  # another run than alone, after some 100 steps
    assert stack_size(chaotic, model, Engine(stack=5), CPU) == 5
    [calm] = specs_of(["FIX(0.001)"], "optimizer=RMSprop")
    assert stack_size(calm, model, Engine(), CPU) == 16
    assert stack_size(spec, model, Engine(compile="default"), CPU) == 1
    assert stack_size(spec, model, Engine(precision="float16"), CPU) == 1
    wide = nn.Sequential(nn.Flatten(), nn.Linear(64, 1500), nn.ReLU(), nn.Linear(1500, 10))
    assert stack_size(spec, wide, Engine(), CPU) == 1  # measured to be no faster
    assert stack_size(spec, wide, Engine(stack=3), CPU) == 3
    convolutional = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 10))
    assert stack_size(spec, convolutional, Engine(), CPU) == 1
    assert stack_size(spec, convolutional, Engine(stack=3), CPU) == 3


@pytest.mark.parametrize("stack", ["0", "-1", "many"])
def test_impossible_stacks(stack):
    with pytest.raises(UserError, match="stack"):
        load_config(tiny_config(), [f"engine.stack={stack}"])


LENET = {"name": "tests.training.test_stack:small_lenet"}


def small_lenet(*, input_shape, num_classes):
    """Two convolutions with pooling as in LeNet, for 8x8 images."""
    return nn.Sequential(
        nn.Conv2d(input_shape[0], 6, 3), nn.MaxPool2d(2), nn.Conv2d(6, 16, 2), nn.Flatten(),
        nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, num_classes),
    )  # fmt: skip


def stacks(pool: Pool) -> set[int]:
    return {member.record.environment["stack"] for member in pool.complete}


def test_a_convolutional_pool_stacked_by_request(tmp_path: Path):
    config = tiny_config(model=LENET, policies=MIX, control=False)
    alone = train_pool(load_config(config), tmp_path / "alone", workers=1, threads=1)
    together = train_pool(load_config(config, ["engine.stack=4"]), tmp_path / "stack", workers=1, threads=1)
    assert (stacks(alone), stacks(together)) == ({1}, {4})
    for split in ("val", "test"):
        np.testing.assert_allclose(together.predictions(split), alone.predictions(split), rtol=0, atol=1e-4)


def pool_of(path: Path, *overrides: str, **arguments) -> Pool:
    config = tiny_config(model={"name": "mlp", "hidden": [512]}, policies=MIX[:3], control=False)
    config = load_config(config, ["training.batch_size=200", "training.epochs=2", *overrides])
    return train_pool(config, path, threads=1, devices="cpu", **arguments)


def test_any_number_of_workers_gives_the_same_bits(tmp_path: Path):
    """Two workers: stacks of 2 and of 1 instead of one of 3; a stack of 1 is a stack too."""
    one = pool_of(tmp_path / "one", workers=1)
    two = pool_of(tmp_path / "two", workers=2)
    assert stacks(one) == {3}
    assert stacks(two) == {1, 2}
    assert contents(one.path) == contents(two.path)


def test_the_last_of_a_stack_comes_back_the_same(tmp_path: Path):
    """All but one are finished before a kill: the rest of the stack is one run."""
    import shutil

    pool = pool_of(tmp_path / "p", workers=1)
    before = contents(pool.path)
    shutil.rmtree(pool.members[1].path)
    assert contents(pool_of(tmp_path / "p", workers=1).path) == before


def frozen_first(*, input_shape, num_classes):
    """A user's network with a frozen layer."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, num_classes))
    net[1].requires_grad_(False)
    return net


class OtherInTraining(nn.Sequential):
    def forward(self, x):
        x = super().forward(x)
        return 2 * x if self.training else x


def other_in_training(*, input_shape, num_classes):
    return OtherInTraining(nn.Flatten(), nn.Linear(64, num_classes))


class Tied(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(64, 64), nn.Linear(64, 64)
        self.b.weight = self.a.weight
        self.head = nn.Linear(64, num_classes)

    def forward(self, x):
        return self.head(self.b(self.a(x.flatten(1)).relu()).relu())


def tied(*, input_shape, num_classes):
    return Tied(num_classes)


@pytest.mark.parametrize("name", ["frozen_first", "other_in_training", "tied"])
def test_users_networks(name):
    specs = specs_of(MIX[:2], model=f"tests.training.test_stack:{name}", optimizer={"name": "SGD", "weight_decay": 0.1})
    for i, outcome in enumerate(stacked(specs)):
        assert_close(outcome, train(specs[i], f"run{i}"), ROUNDING)


class DropsFunctionally(nn.Sequential):
    def forward(self, x):
        return nn.functional.dropout(super().forward(x), 0.3, self.training)


def drops_functionally(*, input_shape, num_classes):
    return DropsFunctionally(nn.Flatten(), nn.Linear(64, num_classes))


def test_what_turns_out_not_to_stack_trains_one_by_one(tmp_path: Path):
    """Dropout that no module shows: torch.func refuses it, and every run has its own random numbers."""
    config = tiny_config(model="tests.training.test_stack:drops_functionally", policies=MIX[:2], control=False)
    a = train_pool(load_config(config), tmp_path / "a", workers=1, threads=1)
    b = train_pool(load_config(config, ["engine.stack=1"]), tmp_path / "b", workers=1, threads=1)
    assert stacks(a) == {1}
    assert contents(a.path) == contents(b.path)


class Hungry(nn.Sequential):
    """No memory for more than 40 rows in training (in a stack: of every run)."""

    def forward(self, x):
        if self.training and len(x) > 40:
            raise MemoryError("a big batch")
        return super().forward(x)


def hungry(*, input_shape, num_classes):
    return Hungry(nn.Flatten(), nn.Linear(64, num_classes))


def test_a_stack_that_does_not_fit_trains_one_by_one(tmp_path: Path):
    config = load_config(tiny_config(model="tests.training.test_stack:hungry", policies=MIX[:2], control=False))
    pool = train_pool(config, tmp_path / "p", workers=1, threads=1)
    assert [m.record.environment["micro_batches"] for m in pool.complete] == [2, 2]
