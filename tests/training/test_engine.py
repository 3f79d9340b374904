"""The engine's choices change results by rounding at most; what ends a run early; what stands in the record."""

from __future__ import annotations

import math
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lrensemble import Pool, load_config, load_task, train_pool
from lrensemble.models import build_model
from lrensemble.pool import writing
from lrensemble.tasks import Images, Split
from lrensemble.tasks.augment import cutout, mixup
from lrensemble.tasks.rows import DeviceData, Rows, StreamedRows
from lrensemble.training import loop, make_plan
from lrensemble.training.engine import Engine
from lrensemble.training.loop import Run
from lrensemble.training.seeds import derive_seed
from tests.conftest import tiny_config
from tests.training.runs import CPU, assert_close, assert_equal, digits, specs_of, train
from tests.training.test_runner import contents

LENET = {"name": "tests.training.test_stack:small_lenet"}
NORM = "tests.training.test_derived:with_norm"


def streamed(workers: int, **options) -> DeviceData:
    return DeviceData.of(load_task("digits", val_fraction=0.25), CPU, stream=True, loader_workers=workers, **options)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("model", [{"name": "mlp", "hidden": [16], "dropout": 0.1}, LENET])
def test_streamed_equals_on_the_device_bit_for_bit(workers, model):
    changes = ["training.augment=[crop, flip]", "training.cutout=2", "training.epochs=2"]
    [spec] = specs_of(["FIX(0.05)"], *changes, model=model)
    data = streamed(workers, memory_format=torch.channels_last)
    assert isinstance(data.train, StreamedRows)
    kept = digits(channels_last=True)
    assert_equal(train(spec, data=data), train(spec, data=kept))


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_streamed_batches_lie_in_memory_as_kept_ones(memory_format):
    """Three channels; some layers' kernels, and so their bits, depend on the layout."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (90, 3, 6, 5), dtype=np.uint8)
    split = Split(images, np.arange(90) % 3)
    data = Images(split, split, split, ("a", "b", "c"))
    mean, std = (torch.tensor(values)[:, None, None] for values in data.normalisation)
    normalised = ((torch.from_numpy(images).float() - mean) / std).contiguous(memory_format=memory_format)
    streamed, kept = (DeviceData.of(data, CPU, stream=s, memory_format=memory_format).train for s in (True, False))
    assert isinstance(streamed, StreamedRows)
    assert isinstance(kept, Rows)
    order = torch.randperm(90)
    ours, theirs = ([*rows.batches(order, 40, 2), *rows.chunks(40)] for rows in (streamed, kept))
    assert len(ours) == len(theirs) == 5
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a["x"], b["x"])
        assert torch.equal(a["y"], b["y"])
        assert a["x"].is_contiguous(memory_format=memory_format)
        assert b["x"].is_contiguous(memory_format=memory_format)
    assert torch.equal(torch.cat([batch["x"] for batch in ours[2:]]), normalised)


def test_a_streamed_pool_equals_a_kept_one(tmp_path: Path):
    training = {"epochs": 2, "batch_size": 64}
    config = tiny_config(
        model=NORM, policies=["FIX(0.05)"], averages=["ema"], snapshots="50%", control=False, training=training
    )
    a, b = (
        train_pool(load_config(config, [f"engine.data={where}"]), tmp_path / where, workers=1, threads=1)
        for where in ("device", "stream")
    )
    assert len(a.complete) == 3
    assert contents(a.path) == contents(b.path)


def test_channels_last_or_not():
    [spec] = specs_of(["FIX(0.05)"], "optimizer.momentum=0.9", model=LENET)
    yes = train(spec, engine=Engine(), data=digits(channels_last=True))
    no = train(spec, engine=Engine(channels_last=False))
    assert (yes.engine["channels_last"], no.engine["channels_last"]) == (True, False)
    assert_close(yes, no, 1e-4)


@pytest.mark.parametrize(
    "optimizer", ["{name: SGD, momentum: 0.9, nesterov: true, weight_decay: 1e-3}", "Adam", "AdamW", "Adagrad"]
)
def test_fused_or_not(optimizer):
    [spec] = specs_of(["FIX(0.003)"], f"optimizer={optimizer}")
    assert Run(spec, "id", digits(), Engine(fused=True)).optimizer.param_groups[0]["fused"]
    assert not Run(spec, "id", digits(), Engine(fused=False)).optimizer.param_groups[0].get("fused")
    assert_close(train(spec, engine=Engine(fused=True)), train(spec, engine=Engine(fused=False)), 1e-4)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_on_the_cpu(precision):
    [spec] = specs_of(["FIX(0.05)"], "optimizer.momentum=0.9", model=LENET)
    exact = train(spec)
    half = train(spec, engine=Engine(precision=precision))
    assert (exact.engine["precision"], half.engine["precision"]) == ("float32", precision)
    assert half.status == "complete"
    # Not the same numbers, but as good a network; predictions are float32.
    assert not torch.equal(half.weights["4.weight"], exact.weights["4.weight"])
    assert half.probabilities["val"].dtype == np.float32
    labels = digits().val.labels.numpy()
    accuracies = [(o.probabilities["val"].argmax(1) == labels).mean() for o in (exact, half)]
    assert accuracies[0] == pytest.approx(accuracies[1], abs=0.03)


def test_precision_is_recorded_also_of_stacks(tmp_path: Path):
    """bfloat16 stacked is bfloat16: near the run alone, and not float32."""
    config = tiny_config(model={"name": "mlp", "hidden": [16]}, policies=["FIX(0.05)", "FIX(0.02)"], control=False)
    pools = {
        name: train_pool(load_config(config, overrides), tmp_path / name, workers=1, threads=1)
        for name, overrides in {
            "exact": [],
            "stacked": ["engine.precision=bfloat16"],
            "alone": ["engine.precision=bfloat16", "engine.stack=1"],
        }.items()
    }
    for name, stack in (("stacked", 2), ("alone", 1)):
        for member in pools[name].complete:
            environment = member.record.environment
            assert (environment["precision"], environment["stack"]) == ("bfloat16", stack)
    exact, stacked, alone = (np.asarray(pools[name].predictions("val")) for name in ("exact", "stacked", "alone"))
    assert np.abs(stacked - alone).max() < 0.1
    assert np.abs(stacked - exact).max() > 1e-4


@pytest.mark.slow  # half a minute for the compiler
def test_compiled_once_for_all_and_the_same():
    import torch._dynamo.utils as dynamo

    specs = specs_of(["FIX(0.05)", "COS(k0=0.1, l=100%)", "FIX(0.01)"], "optimizer.momentum=0.9", model=LENET)
    torch._dynamo.reset()
    dynamo.counters.clear()
    loop._compiled.cache_clear()
    compiled = [train(spec, f"run{i}", Engine(compile="default")) for i, spec in enumerate(specs)]
    assert dynamo.counters["stats"]["unique_graphs"] == 1
    for i, spec in enumerate(specs):
        assert_close(compiled[i], train(spec, f"run{i}"), 1e-4)
    assert compiled[0].engine["compile"] == "default"


# Short of memory


@pytest.mark.parametrize("pieces", [2, 3, 7, 64])
@pytest.mark.parametrize("extra", [[], ["training.mixup=0.4", "training.label_smoothing=0.1"]])
def test_a_batch_in_pieces_equals_the_whole(pieces, extra):
    [spec] = specs_of(["FIX(0.05)"], "optimizer.momentum=0.9", *extra)
    whole, split = train(spec), train(spec, micro_batches=pieces)
    assert split.engine["micro_batches"] == pieces
    assert_close(whole, split, 1e-4)
    for key in ("train_loss", "train_accuracy", "val_loss"):
        assert [line[key] for line in split.history] == pytest.approx([line[key] for line in whole.history], rel=1e-4)


class Hungry(nn.Sequential):
    """Memory for so many rows, in training."""

    most = 1000

    def forward(self, x):
        if self.training and len(x) > self.most:
            raise torch.OutOfMemoryError(f"no memory for {len(x)} rows")
        return super().forward(x)


def hungry(*, input_shape, num_classes):
    return Hungry(nn.Flatten(), nn.Linear(64, num_classes))


def hungry_pool(path: Path, most: int, *overrides: str) -> Pool:
    config = tiny_config(model="tests.training.test_engine:hungry", policies=["FIX(0.05)"], control=False)
    plan = make_plan(load_config(config, ["engine.stack=1", *overrides]), path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Hungry, "most", most)
        return train_pool(plan, workers=1, threads=1)


@pytest.mark.parametrize(("most", "pieces"), [(64, 1), (40, 2), (16, 4), (15, 8), (2, 32)])
def test_short_of_memory_trains_in_pieces(tmp_path: Path, most, pieces):
    pool, plenty = hungry_pool(tmp_path / "p", most), hungry_pool(tmp_path / "plenty", 1000)
    [member] = pool.complete
    assert member.record.environment["micro_batches"] == pieces
    np.testing.assert_allclose(pool.predictions("val"), plenty.predictions("val"), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("most", "overrides", "smallest"),
    [
        (0, [], 1),  # 64 rows in 64 pieces
        (0, ["training.batch_size=5"], 1),
        (4, ["training.batch_size=320"], 5),  # 64 pieces are the most
        (0, ["training.batch_size=99999", "data.val_fraction=0.98"], 1),  # more pieces than rows there are
    ],
)
def test_what_never_fits_has_failed_with_the_reason(tmp_path: Path, most, overrides, smallest):
    [member] = hungry_pool(tmp_path / "p", most, *overrides).members
    assert member.status == "failed"
    assert member.record.reason == f"OutOfMemoryError: no memory for {smallest} rows"


# Augmentation and decay


def test_cutout_equals_a_naive_loop():
    x = torch.randn(40, 2, 9, 7)
    for side in (1, 2, 3, 5, 20):
        torch.manual_seed(side)
        ours = cutout(side)(x)
        torch.manual_seed(side)
        rows = torch.randint(0, 9, (40, 1))[:, 0] - side // 2
        columns = torch.randint(0, 7, (40, 1))[:, 0] - side // 2
        naive = x.clone()
        for i in range(40):
            for r in range(int(rows[i]), int(rows[i]) + side):
                for c in range(int(columns[i]), int(columns[i]) + side):
                    if 0 <= r < 9 and 0 <= c < 7:
                        naive[i, :, r, c] = 0
        assert torch.equal(ours, naive)


def test_cutout_hits_everywhere():
    torch.manual_seed(0)
    hit = (cutout(1)(torch.ones(4000, 1, 5, 6)) == 0).sum(0)[0]
    assert hit.sum() == 4000
    assert 80 < hit.min() <= hit.max() < 200  # 133 are expected


def test_mixup_equals_a_naive_loop():
    x, y = torch.randn(12, 1, 3, 3), torch.arange(12)
    shares = []
    for seed in range(300):
        torch.manual_seed(seed)
        batch = mixup({"x": x, "y": y}, 0.4)
        mixed, other, share = batch["x"], batch["other_y"], batch["share"][0]
        assert torch.equal(batch["y"], y)
        assert torch.equal(batch["share"], share.expand(12))
        shares.append(float(share))
        assert sorted(other.tolist()) == list(range(12))
        for i in range(12):
            expected = share * x[i] + (1 - share) * x[int(other[i])]
            torch.testing.assert_close(mixed[i], expected)
    # Beta(a, a): mean 1/2, variance 1 / (4 (2a + 1))
    assert np.mean(shares) == pytest.approx(0.5, abs=0.05)
    assert np.var(shares) == pytest.approx(1 / (4 * 1.8), abs=0.02)


def plain_loop(spec, member_id: str, loss, after_step=lambda model: None) -> nn.Module:
    """SGD with momentum, written out; `loss` of (model, x, y)."""
    data = digits()
    torch.manual_seed(derive_seed(member_id, "init"))
    model = build_model(**spec.model.build, input_shape=(1, 8, 8), num_classes=10, trust=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for epoch in range(spec.training.epochs):
        torch.manual_seed(derive_seed(member_id, epoch))
        order = torch.randperm(len(data.train))
        for step in range(len(data.train) // 64):
            index = order[step * 64 : (step + 1) * 64]
            optimizer.zero_grad()
            loss(model, data.train.arrays["x"][index], data.train.labels[index]).backward()
            optimizer.step()
            after_step(model)
    return model


def test_mixup_trains_on_mixed_targets():
    """The paper's other form: one soft target of both labels."""

    def loss(model, x, y):
        share = torch.distributions.Beta(0.4, 0.4).sample()
        other = torch.randperm(len(x))
        target = share * F.one_hot(y, 10) + (1 - share) * F.one_hot(y[other], 10)
        return -(target * model(share * x + (1 - share) * x[other]).log_softmax(1)).sum(1).mean()

    [spec] = specs_of(["FIX(0.05)"], "training.mixup=0.4")
    outcome = train(spec)
    for name, value in plain_loop(spec, "id", loss).state_dict().items():
        torch.testing.assert_close(outcome.weights[name], value, rtol=1e-3, atol=1e-5)


def test_decoupled_decay_equals_a_naive_loop():
    def shrink(model):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter *= 1 - 1e-3

    [spec] = specs_of(["FIX(0.05)"], "training.decoupled_weight_decay=1e-3")
    outcome = train(spec)
    naive = plain_loop(spec, "id", lambda model, x, y: F.cross_entropy(model(x), y), shrink)
    for name, value in naive.state_dict().items():
        torch.testing.assert_close(outcome.weights[name], value, rtol=1e-4, atol=1e-5)


def test_decoupled_decay_does_not_depend_on_the_lr():
    """With (nearly) no LR, nothing but the decay is left: (1 - d)^steps of the first weights."""
    for lr in (1e-30, 1e-25):
        [spec] = specs_of([f"FIX({lr})"], "training.decoupled_weight_decay=0.01", optimizer="SGD")
        first = {name: value.clone() for name, value in Run(spec, "id", digits()).model.state_dict().items()}
        outcome = train(spec)
        for name, value in outcome.weights.items():
            torch.testing.assert_close(value, first[name] * 0.99 ** outcome.costs["steps"], rtol=1e-4, atol=1e-8)


# Ended early


def test_an_explosion_is_found_before_the_epochs_end():
    """More than CHECK_STEPS steps an epoch: at step 100, not at 252; the time until then counts."""
    [spec] = specs_of(["FIX(1e4)"], "training.batch_size=4", "training.epochs=2")
    outcome = train(spec)
    assert (len(digits().train) // 4) == 252
    assert outcome.status == "diverged"
    assert outcome.reason.startswith("the training loss exploded to ")
    assert re.search(r"\(it began at 2\.\d+\) at step 100 \(LR 1e\+04\)$", outcome.reason)
    assert outcome.costs["steps"] == 100
    assert outcome.costs["seconds"] > 0
    assert outcome.history[0]["seconds"] == outcome.costs["seconds"]
    assert 400 / outcome.costs["samples_per_second"] == pytest.approx(outcome.costs["seconds"], rel=1e-3, abs=6e-4)


def test_an_explosion_in_a_later_epoch_names_its_step():
    [spec] = specs_of(["SEQ(of=[FIX(0.05), FIX(1e5)], at=[330])"], "training.batch_size=4", "training.epochs=3")
    per_epoch = len(digits().train) // 4
    outcome = train(spec)
    step = per_epoch + 100 * math.ceil((331 - per_epoch) / 100)  # the first look after step 330
    assert f"at step {step:,} (LR 1e+05)" in outcome.reason
    assert [line["epoch"] for line in outcome.history] == [1, 2]
    assert math.isnan(outcome.history[1]["val_loss"])


def stopping(path: Path, *overrides: str, stop=None) -> Pool:
    config = tiny_config(policies=["FIX([1e-9, 0.1])"], control=False)
    config["training"] = {"epochs": 8, "batch_size": 64, "stop": stop or {"accuracy": 0.5, "after": 0.25}}
    return train_pool(load_config(config, overrides), path, workers=1, threads=1)


@pytest.mark.parametrize("stack", ["auto", "1"])
def test_a_hopeless_run_is_stopped(tmp_path: Path, stack):
    overrides = ["model.dropout=0.0", f"engine.stack={stack}"]
    pool = stopping(tmp_path / "p", *overrides)
    [stopped] = [m for m in pool.members if m.status == "stopped"]
    accuracy = stopped.history()[-1]["val_accuracy"]
    assert stopped.record.reason == (f"hopeless: validation accuracy {accuracy:.4f} after 2 of 8 epochs is below 0.5")
    assert len(stopped.history()) == 2
    assert stopped.record.costs["steps"] == stopped.history()[-1]["step"] < 8 * 15
    assert stopped.record.spec.policy == "FIX(k0=1e-09)"
    [other] = pool.complete  # never in a team
    assert other.id != stopped.id
    assert len(pool.predictions("val")) == 1
    assert {m.id for m in pool.runs} == {stopped.id, other.id}
    before = stopped.record
    assert stopping(tmp_path / "p", *overrides).find(stopped.id).record == before  # not trained again


def test_the_last_epoch_stops_nothing(tmp_path: Path):
    """A run that has spent its whole budget is complete, however bad it is."""
    pool = stopping(tmp_path / "p", stop={"accuracy": 0.5, "after": 0.99})
    assert [m.status for m in pool.members] == ["complete", "complete"]


@pytest.mark.parametrize(("after", "epochs", "stops"), [(0.07, 100, 7), (0.25, 10, 3), (0.5, 3, 2), (0.001, 9, 1)])
def test_when_a_hopeless_run_is_stopped(after, epochs, stops):
    stop = {"accuracy": 0.99, "after": after}
    [spec] = specs_of(["FIX(1e-9)"], training={"epochs": epochs, "batch_size": 700, "stop": stop})
    assert train(spec).history[-1]["epoch"] == stops


# The record


def test_targets_in_the_record(tmp_path: Path):
    config = tiny_config(policies=["FIX(0.1)"], control=False, targets=[0.0001, 0.5, 0.85, 1.0])
    [member] = train_pool(load_config(config), tmp_path / "p", workers=1, threads=1).complete
    history, targets = member.history(), member.record.targets
    assert set(targets) == {"0.0001", "0.5", "0.85", "1"}
    for text, found in targets.items():
        lines = [line for line in history if line["val_accuracy"] >= float(text)]
        assert found == ({"step": lines[0]["step"], "seconds": lines[0]["seconds"]} if lines else None)
    assert targets["1"] is None
    assert targets["0.5"] is not None


def test_flops_by_hand():
    [spec] = specs_of(["FIX(0.1)"], "training.epochs=1", "model.hidden=[32, 16]")
    assert train(spec).costs["flops"] == 2 * (64 * 32 + 32 * 16 + 16 * 10)
    assert train(spec).costs["parameters"] == 65 * 32 + 33 * 16 + 17 * 10
    [spec] = specs_of(["FIX(0.1)"], "training.epochs=1", model={"name": "lenet"})
    rng = np.random.default_rng(0)
    images = rng.normal(size=(64, 1, 28, 28)).astype(np.float32)
    split = Split(images, np.arange(64) % 10)
    lenet = train(spec, data=DeviceData.of(Images(split, split, split, tuple("0123456789")), CPU))
    convolutions = 24 * 24 * 20 * 25 + 8 * 8 * 50 * 25 * 20
    assert lenet.costs["flops"] == 2 * (convolutions + 800 * 500 + 500 * 10)
    assert lenet.costs["parameters"] == 431_080


def test_git_revision(tmp_path: Path, monkeypatch):
    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=x", "-c", "user.email=x@x", *arguments]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    revision = writing.git_revision.__wrapped__
    assert revision() is None
    git("init", "-q")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-qm", "a")
    commit = git("rev-parse", "HEAD")
    assert len(commit) == 40
    assert revision() == commit
    (tmp_path / "a").write_text("2")
    assert revision() == f"{commit}-dirty"


def test_environment_of_the_record(tmp_path: Path):
    config = tiny_config(model=LENET, policies=["FIX(0.1)"], control=False)
    [member] = train_pool(load_config(config), tmp_path / "p", workers=1, threads=1).complete
    environment = member.record.environment
    expected = {
        "device": "cpu", "threads": 1, "precision": "float32", "channels_last": True, "compile": "no",
        "micro_batches": 1, "stack": 1, "torch": torch.__version__.split("+")[0],
    }  # fmt: skip
    assert {key: str(environment[key]).split("+")[0] for key in expected} == {k: str(v) for k, v in expected.items()}
    assert environment["git"] == writing.git_revision()
