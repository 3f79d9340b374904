"""Members that come of a run on its way: snapshots and averages, which change nothing about the run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from lrensemble import Member, Pool, UserError, load_config, train_pool
from lrensemble.evaluation.again import Selectors
from lrensemble.evaluation.control import seeds_of_best
from lrensemble.models import build_model
from lrensemble.pool import Named
from lrensemble.training import member as member_module
from lrensemble.training.derived import Average, check_average, cycle_ends, refresh_norms, snapshot_epochs
from lrensemble.training.loop import Run
from lrensemble.training.runner import control_specs
from lrensemble.training.seeds import derive_seed
from tests.conftest import tiny_config
from tests.training.runs import digits, specs_of
from tests.training.test_runner import contents

STEPS = 10  # an epoch, where only the policy matters


def epochs_of(policy: str, epochs: int, snapshots="cycles", steps: int = STEPS) -> list[int]:
    [spec] = specs_of([policy], f"training.epochs={epochs}")
    return snapshot_epochs(snapshots, spec, steps)


@pytest.mark.parametrize(
    ("policy", "epochs", "expected"),
    [
        ("TRI(k0=0.1, k1=0.01, l=2e)", 16, [4, 8, 12]),  # up 2, down 2; the end of the last cycle is the run's own
        ("TRI(k0=0.1, k1=0.01, l=2e)", 18, [4, 8, 12, 16]),  # ends on the way up
        ("TRI(k0=0.1, k1=0.01, l=2e)", 4, []),
        ("COSRSW(k0=0.1, k1=0.001, l=3e)", 9, [3, 6]),  # Snapshot Ensembles: COS restarts
        ("COSRSW(k0=0.1, k1=0.001, l=3e)", 10, [3, 6, 9]),
        ("RSW(k0=0.1, k1=0.001, l=5e)", 20, [5, 10, 15]),
        ("COS(k0=0.1, k1=0, l=4e)", 16, [4, 12]),  # no restarts: down 4, up 4
        ("SGDR(k0=0.1, k1=0, l=1e, mult=2)", 15, [1, 3, 7]),  # cycles of 1, 2, 4, 8
        ("SGDR(k0=0.1, k1=0, l=2e, mult=3)", 30, [2, 8, 26]),
        ("FIX(0.1)", 10, []),
        ("STEP(k0=0.1, gamma=0.1, l=2e)", 10, []),
        ("NSTEP(0.1, 0.1, [3e, 6e])", 10, []),
        ("EXP(k0=0.1, gamma=0.99)", 10, []),
        ("INV(0.1, 0.0001, 0.75)", 2000, []),
        ("POLY(0.1, 2, 100%)", 2000, []),
        ("COS(k0=0.1, l=100%)", 10, []),
        ("COS(k0=0.1, l=100%)", 5000, []),  # flat at both ends: rounding must not look like a turn
        ("SIG(0.1, -0.01, 5000)", 1000, []),
        ("ONECYCLE(k0=0.1, l=100%)", 10, []),  # warm-up and one way down
    ],
)
def test_ends_of_cycles(policy, epochs, expected):
    assert epochs_of(policy, epochs) == expected


def test_warm_up_is_no_cycle():
    from lrensemble import Policy

    lr = Policy.parse("COS(k0=0.1, l=100)")(np.arange(100))
    assert cycle_ends(np.concatenate([np.linspace(0, 0.1, 50), lr])) == []
    assert cycle_ends(np.concatenate([lr, lr, lr])) == [100, 200]
    assert cycle_ends(np.array([3.0, 2, 2, 2, 3, 3, 1, 1])) == [4]  # a plateau belongs to the way down
    assert cycle_ends(np.array([1.0])) == cycle_ends(np.array([])) == []


def test_snapshots_at_lengths():
    assert epochs_of("FIX(0.1)", 8, ("50%", "2e", "30")) == [2, 3, 4]
    assert epochs_of("FIX(0.1)", 8, ("8e", "100%")) == []  # the end is the run's own
    for outside in ("0e", "9e"):
        with pytest.raises(UserError, match=f"snapshots: {outside} is not possible: from the end of epoch 1"):
            epochs_of("FIX(0.1)", 8, (outside,))
    assert epochs_of("FIX(0.1)", 8, ("26", "34", "2.9e")) == [3]  # to the nearest end of an epoch, each once


@pytest.mark.parametrize(
    ("average", "message"),
    [
        ("swaa", "unknown average 'swaa': did you mean 'swa'"),
        ({"name": "swa", "begin": 3}, "unknown parameter 'begin'"),
        ({"name": "swa", "start": 0}, "start = 0 is not possible: it is an epoch from 1 to 8"),
        ({"name": "swa", "start": 9}, "start = 9 is not possible"),
        ({"name": "swa", "start": True}, "start = True is not possible"),
        ({"name": "ema", "decay": 1.0}, "decay = 1.0 is not possible"),
        ({"name": "ema", "start": 2}, "unknown parameter 'start'"),
    ],
)
def test_impossible_averages(average, message):
    with pytest.raises(UserError, match=message):
        check_average(Named.model_validate(average), 8)


def test_defaults_of_averages():
    assert check_average(Named(name="swa"), 8).parameters == {"start": 7}
    assert check_average(Named(name="swa"), 1).parameters == {"start": 1}
    assert check_average(Named(name="ema"), 8).parameters == {"decay": 0.999}


# Pools

POLICY = "COSRSW(k0=0.2, k1=0.001, l=2e)"
DROPS = {"name": "mlp", "hidden": [16], "dropout": 0.1}
AVERAGES = [{"name": "swa", "start": 4}, {"name": "ema", "decay": 0.9}]


def with_norm(*, input_shape, num_classes):
    """Batch norm and dropout."""
    return nn.Sequential(
        nn.Flatten(), nn.Dropout(0.2), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, num_classes)
    )


NORM = "tests.training.test_derived:with_norm"


def config_of(*overrides: str, **changes):
    changes = {"model": DROPS, "policies": [POLICY], "control": False, "snapshots": "cycles"} | changes
    return load_config(tiny_config(**changes), ["training.epochs=6", "engine.stack=1", *overrides])


def fill(path: Path, *overrides: str, **changes) -> Pool:
    return train_pool(config_of(*overrides, **changes), path, workers=1, threads=1, devices="cpu")


def by_kind(pool: Pool) -> dict[str, Member]:
    kinds = {str(m.record.spec.derived or "run"): m for m in pool.members}
    assert len(kinds) == len(pool.members)
    return kinds


@pytest.fixture
def often(monkeypatch):
    """A state after every epoch."""
    monkeypatch.setattr(member_module, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(member_module, "CHECKPOINT_SHARE", 1e9)


@pytest.mark.parametrize("model", [DROPS, NORM])
def test_the_run_is_the_same_with_and_without(tmp_path: Path, model):
    bare = fill(tmp_path / "bare", model=model, snapshots=[])
    rich = fill(tmp_path / "rich", model=model, averages=AVERAGES)
    [run] = bare.members
    ours = {name: data for name, data in contents(rich.path).items() if run.id in name}
    assert ours == {name: data for name, data in contents(bare.path).items() if run.id in name}
    assert set(by_kind(rich)) == {
        "run", "snapshot(epoch=2)", "snapshot(epoch=4)", "swa(start=4)", "ema(decay=0.9)"
    }  # fmt: skip
    for kind, member in by_kind(rich).items():
        assert member.record.parent == (None if kind == "run" else run.id)
        assert member.status == "complete"


def test_a_snapshot_is_the_run_at_that_epoch(tmp_path: Path):
    kinds = by_kind(fill(tmp_path / "p"))
    data = digits()
    at: dict[int, dict[str, np.ndarray]] = {}

    def look(run: Run) -> None:
        run.model.eval()
        with torch.no_grad():
            at[run.epoch] = {
                split: run.model(getattr(data, split).arrays["x"]).softmax(1).numpy() for split in ("val", "test")
            }

    from lrensemble.training.loop import fit

    fit(Run(kinds["run"].record.spec, kinds["run"].id, data), after_epoch=look)
    for epoch, kind in ((2, "snapshot(epoch=2)"), (4, "snapshot(epoch=4)"), (6, "run")):
        for split in ("val", "test"):
            array = np.load(kinds[kind].path / "predictions" / f"{split}.npy")
            np.testing.assert_allclose(array, at[epoch][split], rtol=0, atol=1e-6)
        assert [line["epoch"] for line in kinds[kind].history()] == list(range(1, epoch + 1))
        assert kinds[kind].record.costs["steps"] == kinds[kind].history()[-1]["step"]
    assert not np.allclose(at[2]["val"], at[6]["val"], atol=1e-3)


def weights_on_the_way(spec, member_id: str) -> tuple[list[dict[str, torch.Tensor]], list[dict[str, torch.Tensor]]]:
    """Weights after every step and after every epoch, of a loop written out."""
    data = digits()
    torch.manual_seed(derive_seed(member_id, "init"))
    model = build_model(**spec.model.build, input_shape=(1, 8, 8), num_classes=10, trust=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    steps, epochs = [], []
    for epoch in range(spec.training.epochs):
        torch.manual_seed(derive_seed(member_id, epoch))
        order = torch.randperm(len(data.train))
        model.train()
        for step in range(len(data.train) // 64):
            index = order[step * 64 : (step + 1) * 64]
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(data.train.arrays["x"][index]), data.train.labels[index]).backward()
            optimizer.step()
            steps.append({name: value.detach().clone() for name, value in model.state_dict().items()})
        epochs.append(steps[-1])
    return steps, epochs


def test_swa_is_the_mean_and_ema_the_recursion(tmp_path: Path):
    pool = fill(tmp_path / "p", policies=["FIX(0.05)"], snapshots=[], averages=AVERAGES)
    kinds = by_kind(pool)
    steps, epochs = weights_on_the_way(kinds["run"].record.spec, kinds["run"].id)
    assert len(epochs) == 6
    swa, ema = (load_file(kinds[k].path / "weights.safetensors") for k in ("swa(start=4)", "ema(decay=0.9)"))
    naive = dict(steps[0])
    for weights in steps[1:]:
        naive = {name: 0.9 * naive[name] + 0.1 * value for name, value in weights.items()}
    for name in naive:
        mean = (epochs[3][name] + epochs[4][name] + epochs[5][name]) / 3  # after epochs 4, 5 and 6
        torch.testing.assert_close(swa[name], mean, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(ema[name], naive[name], rtol=1e-4, atol=1e-6)


def test_batch_norm_of_an_average_is_refreshed_over_the_training_rows(tmp_path: Path):
    """The statistics are those of the averaged weights: the mean of whole batches, as evaluation sees the network."""
    pool = fill(tmp_path / "p", model=NORM, averages=AVERAGES)
    images = digits().train.arrays["x"]
    for kind in ("swa(start=4)", "ema(decay=0.9)"):
        weights = load_file(by_kind(pool)[kind].path / "weights.safetensors")
        hidden = images.flatten(1) @ weights["2.weight"].T + weights["2.bias"]
        batches = hidden[: len(hidden) // 64 * 64].reshape(-1, 64, 16)
        torch.testing.assert_close(weights["3.running_mean"], batches.mean((0, 1)), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(weights["3.running_var"], batches.var(1).mean(0), rtol=1e-4, atol=1e-5)


def test_refresh_where_one_row_is_left_over():
    """N = 1 modulo the batch size: batch norm knows no variance of one row."""
    data = digits()
    net = with_norm(input_shape=(1, 8, 8), num_classes=10)
    average = Average(check_average(Named(name="ema"), 3), net)
    average.after_step(net)
    size = next(size for size in range(2, len(data.train)) if len(data.train) % size == 1)
    momentum = net[3].momentum
    refreshed = refresh_norms(average.model.module, data, size)
    assert torch.isfinite(refreshed[3].running_var).all()
    assert refreshed[3].momentum == momentum
    refresh_norms(average.model.module, data, len(data.train) + 5)  # fewer rows than a batch
    assert torch.isfinite(refreshed[3].running_var).all()


def test_an_average_does_not_depend_on_what_else_is_derived(tmp_path: Path):
    """Dropout and batch norm: nothing random in the refresh."""
    both = by_kind(fill(tmp_path / "both", model=NORM, averages=AVERAGES))
    one = by_kind(fill(tmp_path / "one", model=NORM, snapshots=[], averages=AVERAGES[1:]))
    a, b = (load_file(kinds["ema(decay=0.9)"].path / "weights.safetensors") for kinds in (both, one))
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("when", [1, 2, 3, 4, 5])
def test_interrupted_after_any_epoch_equals_quiet(tmp_path: Path, often, monkeypatch, when):
    quiet = fill(tmp_path / "quiet", model=NORM, averages=AVERAGES)
    original = member_module._Checkpoints.__call__

    def interrupt(self, run: Run) -> None:
        original(self, run)
        if run.epoch == when:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(member_module._Checkpoints, "__call__", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fill(tmp_path / "p", model=NORM, averages=AVERAGES)
    assert list((tmp_path / "p").rglob("state.pt"))
    trained = []
    real = Run.train_epoch
    monkeypatch.setattr(Run, "train_epoch", lambda run: (trained.append(run.epoch), real(run))[1])
    assert contents(fill(tmp_path / "p", model=NORM, averages=AVERAGES).path) == contents(quiet.path)
    assert trained == list(range(when, 6))
    assert not list((tmp_path / "p").rglob("state.pt"))


def test_interrupted_between_the_averages_equals_quiet(tmp_path: Path, often, monkeypatch):
    quiet = fill(tmp_path / "quiet", model=NORM, averages=AVERAGES)
    calls = []
    original = refresh_norms

    def second(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(member_module, "refresh_norms", second)
        with pytest.raises(KeyboardInterrupt):
            fill(tmp_path / "p", model=NORM, averages=AVERAGES)
    assert contents(fill(tmp_path / "p", model=NORM, averages=AVERAGES).path) == contents(quiet.path)


def files_of(member: Member) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(member.path)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in member.path.rglob("*")
        if path.is_file()
    }


def test_asked_for_later_leaves_the_run_as_it_is(tmp_path: Path, often):
    pool = fill(tmp_path / "p", snapshots=[])
    [run] = pool.members
    before = files_of(run)
    later = fill(tmp_path / "p", averages=AVERAGES)
    assert files_of(run) == before  # no state is left either
    assert {m.status for m in later.members} == {"complete"}
    assert contents(later.path) == contents(fill(tmp_path / "at once", averages=AVERAGES).path)
    records = {m.id: m.record for m in later.members}
    more = fill(tmp_path / "p", averages=AVERAGES, snapshots=["1e", "2e", "4e"])
    assert {m.id: m.record for m in more.members if m.id in records} == records  # finished is finished
    assert len(more.complete) == 6


class Breaks(nn.Sequential):
    """A user's network that raises in the fifth epoch when told to."""

    broken = False
    calls = 0

    def forward(self, x):
        Breaks.calls += self.training
        if Breaks.broken and self.training and Breaks.calls > 4 * 15:
            raise RuntimeError("a bug")
        return super().forward(x)


def breaks(*, input_shape, num_classes):
    Breaks.calls = 0
    return Breaks(nn.Flatten(), nn.Linear(64, num_classes))


def test_a_failure_while_deriving_does_not_touch_what_is_finished(tmp_path: Path, monkeypatch):
    model = "tests.training.test_derived:breaks"
    [run] = fill(tmp_path / "p", model=model, snapshots=[]).members
    before = files_of(run)
    monkeypatch.setattr(Breaks, "broken", True)
    pool = fill(tmp_path / "p", model=model, snapshots=["2e", "5e"])
    kinds = by_kind(pool)
    assert files_of(run) == before
    assert {kind: m.status for kind, m in kinds.items()} == {
        "run": "complete",
        "snapshot(epoch=2)": "complete",
        "snapshot(epoch=5)": "failed",
    }
    assert kinds["snapshot(epoch=5)"].record.reason == "RuntimeError: a bug"
    snapshot = files_of(kinds["snapshot(epoch=2)"])
    monkeypatch.setattr(Breaks, "broken", False)
    again = fill(tmp_path / "p", model=model, snapshots=["2e", "5e"])
    assert {m.status for m in again.members} == {"complete"}
    assert files_of(run) == before
    assert files_of(kinds["snapshot(epoch=2)"]) == snapshot


def test_of_a_run_that_diverges(tmp_path: Path):
    """The LR explodes in epoch 4: what was before is good, what would have come after is diverged."""
    pool = fill(
        tmp_path / "p",
        policies=["SEQ(of=[FIX(0.05), FIX(1e30)], at=[3e])"],
        snapshots=["1e", "3e", "5e"],
        averages=AVERAGES,
    )
    kinds = by_kind(pool)
    assert {kind: m.status for kind, m in kinds.items()} == {
        "run": "diverged",
        "snapshot(epoch=1)": "complete",
        "snapshot(epoch=3)": "complete",
        "snapshot(epoch=5)": "diverged",
        "swa(start=4)": "diverged",
        "ema(decay=0.9)": "diverged",
    }
    why = kinds["run"].record.reason
    assert "not finite" in why
    assert kinds["snapshot(epoch=5)"].record.reason == f"its run {kinds['run'].id} ended before: {why}"
    assert len(pool.complete) == 2
    before = {m.id: m.record for m in pool.members}
    again = fill(
        tmp_path / "p",
        policies=["SEQ(of=[FIX(0.05), FIX(1e30)], at=[3e])"],
        snapshots=["1e", "3e", "5e"],
        averages=AVERAGES,
    )
    assert {m.id: m.record for m in again.members} == before


def test_the_control_counts_runs(tmp_path: Path):
    pool = fill(tmp_path / "p", policies=[POLICY, "FIX(0.01)"], averages=["ema"], control=True)
    assert len(pool.members) == 6  # 2 runs, 2 snapshots, 2 averages
    assert len(pool.runs) == len(control_specs(pool)) == 2
    assert len(pool.control.members) == 2
    best = max((m for m in pool.runs), key=lambda m: m.record.metrics["val"]["accuracy"])
    for member in pool.control.members:
        assert member.record.spec.policy == best.record.spec.policy
        assert member.record.spec.derived is None
    found = seeds_of_best(pool)
    [(_, average)] = Selectors.of(pool, [], "(all-average)").on(found.complete)
    assert "2 members" in found.note
    assert found.bill.trainings == 4 and "its bill is 4 trainings" in found.note
    control = np.asarray(pool.control.predictions("test")).mean(0)
    np.testing.assert_allclose(average.rows, control, rtol=1e-5)


def test_out_of_memory_after_a_snapshot_keeps_it(tmp_path: Path, often, monkeypatch):
    """The retry in smaller pieces goes on from the state and does not write the snapshot again."""
    written = []
    real = member_module._write
    monkeypatch.setattr(
        member_module, "_write", lambda member, *rest, **more: (written.append(member.id), real(member, *rest, **more))
    )
    raised = []
    step = Run.step

    def short(self, batch):
        if self.epoch == 3 and self.micro_batches == 1:
            raised.append(1)
            raise torch.OutOfMemoryError("too big")
        return step(self, batch)

    monkeypatch.setattr(Run, "step", short)
    pool = fill(tmp_path / "p")
    assert raised == [1]
    assert sorted(written) == sorted(m.id for m in pool.members)
    kinds = by_kind(pool)
    assert {kind: m.record.environment["micro_batches"] for kind, m in kinds.items()} == {
        "run": 2, "snapshot(epoch=2)": 1, "snapshot(epoch=4)": 2
    }  # fmt: skip
