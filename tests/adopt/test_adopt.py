"""Checkpoints become the members that the loop which trained them would have made."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lrensemble import Policy, Pool, UserError, adopt_checkpoints, export_team, select_teams
from lrensemble.adopt import worth
from lrensemble.adopt.files import Checkpoint
from lrensemble.cli.main import main
from lrensemble.evaluation.network import load_network
from lrensemble.tasks import load_task
from lrensemble.training.config import DataConfig
from lrensemble.training.runner import pool_of_task
from tests.adopt import nets
from tests.adopt.conftest import CONFIG, MODEL


def members_by_run(pool: Pool) -> dict[str, object]:
    return {Path(m.record.spec.notes["run"]).stem: m for m in pool.complete}


def own_loop_pool(path: Path, runs: dict[str, dict[str, torch.Tensor]]) -> Pool:
    """The same runs, recorded by `pool.member`."""
    pool = pool_of_task(path, "own", DataConfig(**nets.DATA), load_task("digits", val_fraction=0.25))
    for name, logits in runs.items():
        with pool.member(model=name) as member:
            member.predict(kind="logits", **logits)
    return pool


def team_of(pool: Pool, selector: str, name_of) -> dict[str, float]:
    """Members by the names of their runs, with their weights."""
    [team] = select_teams(pool, [selector])
    return {name_of(pool.find(i)): pytest.approx(weight, abs=1e-6) for i, weight in team.members.items()}


def assert_same_teams(adopted: Pool, own: Pool, name_of) -> None:
    for selector in ("greedy", "all", "best-single", "convex"):
        assert team_of(adopted, selector, name_of) == team_of(own, selector, lambda m: m.record.spec.model.name)


def test_plain_torch_ends_in_the_teams_of_pool_member(folder, plain, data):
    config = {**CONFIG, "policies": ["FIX(k0=1)"]}  # a whole configuration will do
    pool, adopted = adopt_checkpoints("p", ["runs"], config=config, model=nets.net)
    own = own_loop_pool(folder / "own", {run.name: nets.logits(run.model, data) for run in plain})
    assert [one.path.stem for one in adopted] == [run.name for run in plain] and all(one.new for one in adopted)
    members = members_by_run(pool)
    for run in plain:
        member, theirs = members[run.name], next(m for m in own.complete if m.record.spec.model.name == run.name)
        for split in ("val", "test"):
            ours = pool.predictions(split, [member])[0]
            np.testing.assert_allclose(ours, own.predictions(split, [theirs])[0], atol=1e-6)
        assert all(torch.equal(value, run.model.state_dict()[name]) for name, value in member.weights().items())
    assert_same_teams(pool, own, lambda m: Path(m.record.spec.notes["run"]).stem)


def test_what_lies_beside_is_in_the_records(folder, plain, data):
    pool, _ = adopt_checkpoints("p", ["runs"], config=CONFIG, model=MODEL)
    members = members_by_run(pool)
    for run in plain:
        record, history = members[run.name].record, members[run.name].history()
        assert (record.spec.seed, record.spec.optimizer.name) == (run.seed, "sgd")
        assert record.spec.notes["lr"] == run.lr
        assert record.spec.model.parameters == {"hidden": run.hidden}  # a parameter of the builder
        assert record.costs["steps"] == len(run.log) == len(history)
        assert record.costs["parameters"] == sum(p.numel() for p in run.model.parameters())
        assert history[-1]["val_accuracy"] == pytest.approx(record.val["accuracy"], abs=1e-6)
        policy = Policy.parse(record.spec.policy).bind(steps_per_epoch=1, total_steps=len(history))
        wanted = [line["lr"] for line in run.log]
        np.testing.assert_allclose(policy(np.arange(len(history))), wanted, rtol=0.02, atol=0.005 * max(wanted))
    assert members["run2"].record.spec.policy == "FIX(k0=0.05)"
    assert members["run1"].record.spec.policy == "COS(k0=0.1, l=100%)"


def test_the_same_again_changes_nothing_and_a_copy_is_left_out(folder, capsys):
    said: list[str] = []
    first, _ = adopt_checkpoints("p", ["runs/run0.pt"], config=CONFIG, model=MODEL)
    before = {path: path.read_bytes() for path in Path("p").rglob("*") if path.is_file()}
    Path("runs/last.pt").write_bytes(Path("runs/run0.pt").read_bytes())
    Path("runs/run0.yaml").write_text("lr: 7\nhidden: 12\n")
    again = ["runs/run0.pt", "runs/last.pt"]
    _, members = adopt_checkpoints("p", again, model=MODEL, tell=said.append)  # the pool knows its data
    assert [one.new for one in members] == [False] and "last.pt has the same weights as runs/run0.pt" in said[0]
    assert before == {path: path.read_bytes() for path in Path("p").rglob("*") if path.is_file()}
    assert first.complete[0].id == members[0].record.id


def test_a_pool_that_was_made_of_labels_alone(folder, data):
    labels = {"val": data.val.labels.numpy(), "test": data.test.labels.numpy()}
    pool = Pool.create("own", labels=labels)
    adopt_checkpoints("own", ["runs"], config=CONFIG, model=MODEL)
    assert len(pool.complete) == 4
    other = Pool.create("other", labels={**labels, "test": labels["test"][::-1]})
    with pytest.raises(UserError, match="the labels of test differ"):
        adopt_checkpoints("other", ["runs"], config=CONFIG, model=MODEL)
    assert Pool.open("other").members == other.members == []


def test_members_can_be_exported(folder, plain, data):
    pool, _ = adopt_checkpoints("p", ["runs"], config=CONFIG, model=MODEL)
    raw = torch.from_numpy(np.asarray(data.task.split("val")["x"]))
    with pytest.raises(UserError, match=r"model tests.adopt.nets:net is not built"):
        load_network(pool, pool.complete[0])
    for member in pool.complete:
        network = load_network(pool, member, trust=True)
        np.testing.assert_allclose(network(raw).softmax(1).detach(), pool.predictions("val", [member])[0], atol=1e-5)


@pytest.mark.slow
def test_a_team_of_them_is_exported(folder):
    pool, _ = adopt_checkpoints("p", ["runs"], config=CONFIG, model=MODEL)
    [team] = select_teams(pool, ["all"])
    export_team(pool, team, folder / "team", trust=True)
    assert (folder / "team" / "team.json").exists()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {f"module.{k}": v for k, v in state.items()},
        lambda state: {"state_dict": {f"model._orig_mod.{k}": v for k, v in state.items()}, "epoch": 3},
        lambda state: {"model": {f"_orig_mod.module.{k}": v for k, v in state.items()}, "optimizer": {"state": {}}},
        lambda state: {"n_averaged": torch.tensor(3), **{f"module.{k}": v for k, v in state.items()}},
        lambda state: {k: v.double() for k, v in state.items()},
    ],
    ids=["DataParallel", "Lightning and compile", "in a checkpoint", "AveragedModel", "double"],
)
def test_prefixes_are_mended(folder, plain, wrap):
    torch.save(wrap(plain[0].model.state_dict()), "wrapped.pt")
    pool, _ = adopt_checkpoints("p", ["wrapped.pt"], config=CONFIG, model=MODEL)
    weights = pool.complete[0].weights()
    assert all(torch.equal(weights[name], value) for name, value in plain[0].model.state_dict().items())


def test_a_model_with_a_prefix_of_its_own(folder, plain):
    pool, _ = adopt_checkpoints("p", ["runs/run0.pt"], config=CONFIG, model=nets.Wrapped)
    assert set(pool.complete[0].weights()) == {f"inner.{name}" for name in plain[0].model.state_dict()}


def test_a_builder_of_this_program_gets_the_hyperparameters(folder, plain):
    def local(num_classes, hidden=1, name="not a hyperparameter"):
        assert name == "not a hyperparameter"
        return nets.net((1, 8, 8), num_classes, hidden)

    Path("runs/run0.yaml").write_text("hidden: 12\nname: evil\n")
    pool, _ = adopt_checkpoints("p", ["runs/run0.pt"], config=CONFIG, model=local)
    assert pool.complete[0].record.spec.model.parameters == {"hidden": 12}


def test_a_builder_that_loads_the_checkpoint_itself(folder, plain):
    def own(checkpoint):
        model = nets.net((1, 8, 8), 10)
        model.load_state_dict(torch.load(checkpoint))
        return model

    pool, _ = adopt_checkpoints("p", ["runs/run0.pt"], config=CONFIG, model=own)
    assert torch.equal(pool.complete[0].weights()["1.weight"], plain[0].model.state_dict()["1.weight"])

    def forgetful(checkpoint):
        return nets.net((1, 8, 8), 10)

    with pytest.raises(UserError, match=r"another every time it is built \(1.bias.*has to load the weights"):
        adopt_checkpoints("p", ["runs/run0.pt"], config=CONFIG, model=forgetful)


def test_weights_that_are_there_twice(folder, plain):
    content = {"state_dict": plain[0].model.state_dict(), "state_dict_ema": plain[1].model.state_dict()}
    torch.save(content, "ema.pth.tar")
    with pytest.raises(UserError, match=r"there twice, as state_dict and as state_dict_ema: --part state_dict_ema"):
        adopt_checkpoints("p", ["ema.pth.tar"], config=CONFIG, model=MODEL)
    pool, _ = adopt_checkpoints("p", ["ema.pth.tar"], config=CONFIG, model=MODEL, part="state_dict_ema")
    assert torch.equal(pool.complete[0].weights()["1.weight"], plain[1].model.state_dict()["1.weight"])
    with pytest.raises(UserError, match=r"no weights of the model .* in 'ema', but in: state_dict, state_dict_ema"):
        adopt_checkpoints("p", ["ema.pth.tar"], config=CONFIG, model=MODEL, part="ema")


def test_an_adapter_keeps_its_base_out_of_the_pool(folder, data):
    model = nets.Adapted(10)
    nets.train(model, data, 0.1)
    Path("peft").mkdir()
    save_file(
        {
            "lora_A.weight": model.lora_A["default"].weight.detach(),
            "lora_A.bias": model.lora_A["default"].bias.detach(),
        },
        "peft/adapter_model.safetensors",
    )
    pool, _ = adopt_checkpoints("p", ["peft"], config=CONFIG, model=nets.Adapted)
    [member] = pool.complete
    assert set(member.weights()) == {"lora_A.default.weight", "lora_A.default.bias"} and member.record.base
    expected = nets.logits(model, data)["val"].softmax(1)
    np.testing.assert_allclose(pool.predictions("val")[0], expected, atol=1e-6)
    load_network(pool, member, trust=True)
    with pytest.raises(UserError, match="has another base every time"):
        adopt_checkpoints("q", ["peft"], config=CONFIG, model=nets.random_base)


def test_equal_adapters_of_two_bases_are_two_members(folder, data):
    model = nets.Adapted(10)
    nets.train(model, data, 0.1)
    state = {name: value for name, value in model.state_dict().items() if name.startswith("lora_A")}
    for scale in (1, 2):
        torch.save(state, f"base{scale}.pt")
        Path(f"base{scale}.yaml").write_text(f"scale: {scale}\n")

    def scaled(num_classes, scale):
        model = nets.Adapted(num_classes)
        model.base.weight.data *= scale
        return model

    def adopt(*files: str) -> tuple[Pool, list[bool]]:
        pool, members = adopt_checkpoints("p", files, config=CONFIG, model=scaled)
        return pool, [one.new for one in members]

    assert adopt("base1.pt", "base2.pt")[1] == [True, True]
    pool, new = adopt("base2.pt", "base1.pt")
    assert new == [False, False] and len({member.record.base for member in pool.complete}) == 2
    first, second = pool.predictions("val")
    assert not np.allclose(first, second)


def test_a_checkpoint_is_read_once(folder, monkeypatch):
    read: list[str] = []
    once = Checkpoint.read
    monkeypatch.setattr(Checkpoint, "read", lambda self: read.append(self.path.name) or once(self))
    pool, members = adopt_checkpoints("p", ["runs"], config=CONFIG, model=MODEL)
    assert sorted(read) == [f"run{i}.pt" for i in range(4)] and all(one.new for one in members)
    for one in members:
        state = torch.load(one.path)
        assert all(torch.equal(pool.find(one.record.id).weights()[name], value) for name, value in state.items())
    assert {path.name for path in Path().iterdir()} == {"p", "runs"}  # nothing is left of what it kept meanwhile


def test_a_team_that_is_worse_on_validation_is_no_answer(folder, plain):
    """Of a good run and one that has half lost its features there is no better team than the good one."""
    state = plain[1].model.state_dict()
    state["1.weight"] = state["1.weight"] * torch.linspace(-1, 1, 12)[:, None] * 20
    torch.save(state, "spoilt.pt")
    pool, _ = adopt_checkpoints("p", ["runs/run1.pt", "spoilt.pt"], config=CONFIG, model=MODEL)
    found = worth(pool)
    assert found.gain is None and len(found.team.members) == 1
    assert str(found) == "You have 2 runs: no team of them is better on validation than the best one alone"


def test_shards_and_a_file_beside_them(folder, plain):
    state = plain[0].model.state_dict()
    Path("hf").mkdir()
    names = list(state)
    save_file({name: state[name] for name in names[:2]}, "hf/model-00001-of-00002.safetensors")
    save_file({name: state[name] for name in names[2:]}, "hf/model-00002-of-00002.safetensors")
    where = {name: f"model-0000{1 + (i >= 2)}-of-00002.safetensors" for i, name in enumerate(names)}
    Path("hf/model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    torch.save({"state": {}}, "hf/optimizer.pt")
    pool, members = adopt_checkpoints("p", ["hf"], config=CONFIG, model=MODEL)
    assert [str(one.path) for one in members] == ["hf"]
    assert all(torch.equal(pool.complete[0].weights()[name], value) for name, value in state.items())
    Path("hf/model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../runs/run0.pt"}}))
    with pytest.raises(UserError, match=r"'../runs/run0.pt' is no file with weights in this folder"):
        adopt_checkpoints("p", ["hf"], model=MODEL)


def test_the_command_answers_first(folder, capsys):
    Path("data.yaml").write_text("data: {name: digits, val_fraction: 0.25}\nmodel: tests.adopt.nets:net\n")
    assert main(["adopt", "p", "--config", "data.yaml", "runs", "--policy", "STEP(k0={lr}, gamma=0.5, l=1e)"]) == 0
    out = capsys.readouterr().out
    first = out.splitlines()[0]
    assert first.startswith("You have 4 runs: a team of ") and "on test (n = 450, 95 % interval [" in first
    assert "p: 4 adopted" in out and "STEP(k0=0.02, gamma=0.5, l=1e)" in out
    found = worth(Pool.open("p"))
    assert str(found) in out
    score = found.evaluation.score(found.team.name)
    assert found.gain.value == pytest.approx(100 * (score.accuracy - found.evaluation.scores[0].accuracy))
    assert main(["adopt", "p", "runs", "--model", MODEL, "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [one["new"] for one in data["members"]] == [False] * 4 and data["worth"]["rows"] == 450
    for command in (["ls", "p"], ["show", "p", data["members"][0]["id"]], ["evaluate", "p"]):
        assert main(command) == 0
