"""Members of the user's own loop: finished, failed, interrupted, diverged; nothing is lost, nothing trained twice."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch

from lrensemble import Policy, Pool, UserError
from lrensemble.pool import recorder as module
from lrensemble.pool.select import select_teams
from tests.conftest import PATIENCE

LABELS = {"val": [0, 1, 2, 1], "test": [2, 1, 0]}


@pytest.fixture
def own(tmp_path: Path) -> Pool:
    return Pool.create(tmp_path / "own", labels=LABELS)


def good(rows: int, shift: float = 0.0) -> np.ndarray:
    return np.eye(3)[np.arange(rows) % 3] * 3 - 1 + shift


def only(pool: Pool):
    (member,) = Pool.open(pool.path).members
    return member


def test_a_pool_of_labels_alone(own: Pool):
    assert own.task.class_names == ("0", "1", "2")
    assert own.task.rows == {"train": 0, "val": 4, "test": 3}
    assert Pool.create(own.path, labels=LABELS).task == own.task  # again: the same pool
    with pytest.raises(UserError, match="is a pool for other data"):
        Pool.create(own.path, labels={**LABELS, "val": [0, 1, 2, 2]})
    with pytest.raises(UserError, match="is a pool for other data"):
        Pool.create(own.path, labels=LABELS, class_names=["a", "b", "c"])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"val": [0, 1]}, "labels of test are missing"),
        ({**LABELS, "val": []}, "labels of val: float64 of shape .0,.; whole numbers"),
        ({**LABELS, "val": [0.5]}, "labels of val: labels are whole numbers, this has 0.5"),
        ({**LABELS, "test": [-1]}, "labels of test: .* a label of -1 .unlabelled.. is no class"),
        ({**LABELS, "test": [2**32 - 1]}, "labels of test: a label is 4294967295 .-1 as an unsigned number of 32 bits"),
        (
            {**LABELS, "test": np.array([2**64 - 1], dtype=np.uint64)},
            "labels of test: .*-1 as an unsigned number of 64",
        ),
        ({**LABELS, "test": [[1, 0]]}, "labels of test"),
        ({**LABELS, "test": ["cat"]}, "labels of test: <U3"),
    ],
)
def test_labels_that_are_none(tmp_path: Path, labels, message):
    with pytest.raises(UserError, match=message):
        Pool.create(tmp_path / "p", labels=labels)
    assert not (tmp_path / "p").exists()


def test_too_few_class_names(tmp_path: Path):
    with pytest.raises(UserError, match="class 2, but there are 2 class names"):
        Pool.create(tmp_path / "p", labels=LABELS, class_names=["a", "b"])


def test_a_finished_member(own: Pool):
    model = torch.nn.Linear(2, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    with own.member(model="linear", policy="STEP(0.1, 0.5, 1e)", seed=3, batch_size=8) as member:
        scheduler = member.scheduler(optimizer, total_steps=4, steps_per_epoch=2)
        for step in range(1, 5):
            lr = optimizer.param_groups[0]["lr"]
            optimizer.step()
            scheduler.step()
            member.log(step=step, lr=lr, val_accuracy=torch.tensor(0.25 * step), val_loss=np.float32(1 / step))
        member.costs(steps=4, parameters=np.int64(9))
        member.weights(model)
        member.predict(val=torch.tensor(good(4), requires_grad=True), test=torch.tensor(good(3)).half())
    found = only(own)
    record = found.record
    assert record.status == "complete"
    assert (record.spec.source, record.spec.seed, record.spec.notes) == ("loop", 3, {"batch_size": 8})
    assert record.metrics["val"]["accuracy"] == 0.75
    assert record.costs["parameters"] == 9
    assert record.costs["seconds"] >= 0
    assert [line["lr"] for line in found.history()] == [0.1, 0.1, 0.05, 0.05]
    assert torch.equal(found.weights()["weight"], model.weight)
    assert own.predictions("val").shape == (1, 4, 3)
    np.testing.assert_allclose(np.asarray(own.predictions("test")).sum(-1), 1, atol=1e-6)
    assert [team.name for team in select_teams(own, ["all"])] == ["all"]
    assert not list(own.path.rglob(".*"))  # no lock, no temporary file


def test_a_finished_member_is_found_again_and_stays(own: Pool):
    def run(value: float) -> bool:
        with own.member(model="m", policy=Policy.parse("FIX(0.1)"), notes_of_mine=(1, 2)) as member:
            member.log(step=1, val_loss=value)
            member.predict(val=good(4, value), test=good(3))
        return member.finished

    assert run(1.0) is False
    before = {path: path.read_bytes() for path in own.path.rglob("*") if path.is_file()}
    assert run(2.0) is True
    with pytest.raises(RuntimeError), own.member(model="m", policy="FIX(0.1)", notes_of_mine=[1, 2]):
        raise RuntimeError("after it was finished")
    assert {path: path.read_bytes() for path in own.path.rglob("*") if path.is_file()} == before


def test_an_error_makes_it_failed_and_goes_on(own: Pool):
    with pytest.raises(ZeroDivisionError), own.member(model="m") as member:
        member.log(step=1, val_loss=2.0)
        _ = 1 / 0
    record = only(own).record
    assert (record.status, record.reason) == ("failed", "ZeroDivisionError: division by zero")
    assert "1 / 0" in record.traceback
    assert len(only(own).history()) == 1
    with own.member(model="m") as member:  # again: a failed member is not finished
        assert not member.finished
        member.predict(val=good(4), test=good(3))
    record = only(own).record
    assert (record.status, record.reason, record.traceback) == ("complete", None, None)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_member_stays_planned(own: Pool, stop):
    with pytest.raises(stop), own.member(model="m") as member:
        member.log(step=1, val_loss=2.0)
        member.predict(val=good(4), test=good(3))
        raise stop
    assert only(own).status == "planned"
    assert [line["step"] for line in only(own).history()] == [1]
    assert not list(own.path.rglob("*.npy.*")) + list(own.path.rglob("predictions"))


@pytest.mark.parametrize("given", [[], ["val"], ["test"]])
def test_no_predictions(own: Pool, given):
    missing = " and ".join(split for split in ("val", "test") if split not in given)
    with pytest.raises(UserError, match=f"ended without predictions of {missing}"), own.member(model="m") as member:
        for split in given:
            member.predict(**{split: good(len(LABELS[split]))})
    assert only(own).status == "planned"


@pytest.mark.parametrize("split", ["val", "test"])
def test_predictions_that_are_not_finite_are_diverged(own: Pool, split):
    predictions = {"val": good(4), "test": good(3)}
    predictions[split][1, 1] = np.nan
    with own.member(model="m") as member:
        member.log(step=1, train_loss=float("nan"))
        member.predict(**predictions)
    assert (only(own).status, only(own).record.reason) == ("diverged", "the predictions are not finite")
    assert only(own).history()[0]["train_loss"] is None
    assert own.complete == []
    with own.member(model="m") as member:
        assert member.finished


def test_logits_probabilities_and_labels_are_one(own: Pool):
    exponentials = np.exp(good(4))
    forms = {
        "logits": good(4),
        "probabilities": exponentials / exponentials.sum(1, keepdims=True),
        "labels": good(4).argmax(1),
    }
    for kind, val in forms.items():
        with own.member(model=kind) as member:
            member.predict(val=val, kind=kind)
            member.predict(test=torch.tensor([0, 1, 2]))
    a, b, c = (own.predictions("val", [m])[0] for m in sorted(own.complete, key=lambda m: m.record.spec.model.name))
    np.testing.assert_array_equal(a, np.eye(3)[[0, 1, 2, 0]])
    np.testing.assert_allclose(b, c, atol=1e-7)


def test_float16_members_do_not_round_the_others(own: Pool):
    for name, dtype in (("half", np.float16), ("single", np.float32)):
        with own.member(model=name) as member:
            member.predict(val=good(4).astype(dtype), test=good(3).astype(dtype))
    assert {own.predictions("val")[i].dtype.name for i in range(2)} == {"float16", "float32"}
    stacked = np.asarray(own.predictions("val"))
    assert stacked.dtype == np.float32
    for i in range(2):
        np.testing.assert_array_equal(stacked[i], own.predictions("val")[i])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.predict(val=good(5)), r"predictions of val: shape \(5, 3\)"),
        (lambda m: m.predict(train=good(4)), "no predictions for split 'train'"),
        (lambda m: m.predict(vall=good(4)), "did you mean 'val'"),
        (lambda m: m.predict(val=good(4), kind="label"), "did you mean 'labels'"),
        (lambda m: m.log(val_loss=torch.zeros(2)), r"val_loss: one number is needed, not Tensor of shape \(2,\)"),
        (lambda m: m.log(val_loss=np.zeros(2)), r"val_loss: one number is needed, not ndarray of shape \(2,\)"),
        (lambda m: m.log(step=None), "step: one number is needed, not NoneType"),
        (lambda m: m.costs(gpu="H100"), "gpu: one number is needed, not str"),
        (lambda m: m.costs(flops=float("nan")), "flops = nan is no cost"),
        (lambda m: m.weights({"step": 3}), "weights: 'step' is of type int"),
        (lambda m: m.scheduler(None), "this member has no policy"),
    ],
)
def test_wrong_values_are_refused_at_once(own: Pool, call, message):
    with pytest.raises(UserError, match=message), own.member(model="m") as member:
        call(member)
    assert only(own).status == "failed"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"policy": "COSS(0.1)"}, "did you mean 'COS'"),
        ({"policy": "FIX([0.1, 0.2])"}, "is a grid of 2 policies"),
        ({"seed": -1}, "seed = -1"),
        ({"seed": "one"}, "seed = 'one'"),
        ({"model": None}, "model = None"),
        ({"model": torch.nn.Linear(1, 1)}, r"model = Linear\(in_features=1, out_features=1, bias=True\)"),
        ({"optimizer": {"name": "SGD", "lr": float("nan")}}, "lr = nan is not possible"),
        ({"data": {1, 2}}, "notes of a member are plain values"),
        ({"data": object()}, "notes of a member are plain values"),
        ({"threshold": float("nan")}, "notes of a member are plain values"),
    ],
)
def test_members_that_cannot_be(own: Pool, arguments, message):
    with pytest.raises(UserError, match=message), own.member(**{"model": "m", **arguments}):
        raise AssertionError("the body must not run")
    assert own.members == []


def test_a_members_repr_of_many_lines_is_cut(own: Pool):
    net = torch.nn.Sequential(*[torch.nn.Linear(1, 1) for _ in range(20)])
    with pytest.raises(UserError) as error, own.member(model=net):
        pass
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200


def test_tied_weights(own: Pool):
    layer = torch.nn.Linear(3, 3)
    with own.member(model="m") as member:
        member.weights(torch.nn.Sequential(layer, layer))
        member.predict(val=good(4), test=good(3))
    assert torch.equal(only(own).weights()["0.weight"], only(own).weights()["1.weight"])


def test_weights_are_those_of_the_moment(own: Pool):
    layer = torch.nn.Linear(3, 3)
    before = layer.weight.detach().clone()
    with own.member(model="m") as member:
        member.weights(layer)
        torch.nn.init.zeros_(layer.weight)
        member.predict(val=good(4), test=good(3))
    assert torch.equal(only(own).weights()["weight"], before)


def test_the_history_is_seen_while_it_grows(own: Pool, monkeypatch):
    monkeypatch.setattr(module, "SHOW_SECONDS", -1)
    with own.member(model="m") as member:
        member.log(step=1)
        assert [line["step"] for line in only(own).history()] == [1]
        assert only(own).status == "running"
        member.predict(val=good(4), test=good(3))


def test_damaged_records_and_notes(own: Pool):
    with own.member(model="m", tag="x") as member:
        member.predict(val=good(4), test=good(3))
    path = only(own).record_path
    record = json.loads(path.read_text())
    del record["sha256"]  # as of an older version
    for damage in ({"spec": {**record["spec"], "notes": 3}}, {"spec": None}, {"status": "done"}):
        path.write_text(json.dumps({**record, **damage}))
        assert only(own).status == "damaged"
        with pytest.raises(UserError, match=r"record.json: cut off or damaged"), own.member(model="m", tag="x"):
            raise AssertionError("the body must not run")


def _second_process(path: str, started, results) -> None:
    started.set()
    with Pool.open(path).member(model="m") as member:
        results.put(member.finished)
        if not member.finished:
            member.predict(val=good(4), test=good(3))


def test_two_processes_train_a_member_once(own: Pool):
    context = multiprocessing.get_context("spawn")
    started, results = context.Event(), context.Queue()
    process = context.Process(target=_second_process, args=(str(own.path), started, results))
    with own.member(model="m") as member:
        process.start()
        assert started.wait(PATIENCE)
        process.join(1)
        assert process.is_alive()  # it waits
        assert results.empty()
        member.predict(val=good(4), test=good(3))
    process.join(PATIENCE)
    assert results.get(timeout=PATIENCE) is True
    assert only(own).status == "complete"


def test_both_splits_are_of_one_kind(own: Pool):
    logits = np.random.default_rng(0).normal(size=(4, 3)) * 4
    exact = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    with own.member(model="net") as member:
        member.predict(val=100 * exact)
        with pytest.raises(
            UserError, match="predictions of val looks like probabilities and predictions of test looks"
        ):
            member.predict(test=logits[:3])
        member.predict(test=100 * exact[:3])
    np.testing.assert_allclose(own.predictions("val")[0], exact, atol=1e-6)


def test_the_type_of_predictions_is_the_widest(own: Pool):
    for name, dtype in (("half", np.float16), ("single", np.float32)):
        with own.member(model=name) as member:
            member.predict(val=good(4).astype(dtype), test=good(3).astype(dtype))
    for members in (own.complete, own.complete[::-1]):
        found = own.predictions("val", members)
        assert (found.dtype, found.nbytes) == (np.float32, 2 * 4 * 3 * 4)
        assert np.asarray(found).dtype == np.float32
