"""docs/adopt.md, block by block; each framework's runs end in the teams that its own loader and `pool.member` give."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest
import torch

from lrensemble import Policy, Pool
from lrensemble.cli.main import main
from tests.adopt import nets
from tests.adopt.test_adopt import assert_same_teams, own_loop_pool

PAGE = (Path(__file__).parents[2] / "docs" / "adopt.md").read_text()
SECTIONS = {part.partition("\n")[0]: part for part in PAGE.split("\n## ")}


def blocks(section: str, language: str = "python") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", SECTIONS[section], re.DOTALL)


def command(section: str) -> list[str]:
    [line] = re.findall(r"^    lrensemble (adopt .*)$", SECTIONS[section], re.MULTILINE)
    return shlex.split(line)


@pytest.fixture
def page(tmp_path, monkeypatch):
    """The folder and the namespace of somebody who has followed the first section."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_nets", raising=False)
    [config] = blocks("The rows and the model", "yaml")
    module, rows = blocks("The rows and the model")
    Path("digits.yaml").write_text(config)
    Path("my_nets.py").write_text(module)
    namespace = {"__name__": "page", "Path": Path}
    exec(compile(rows, "docs/adopt.md", "exec"), namespace)
    yield namespace
    sys.modules.pop("my_nets", None)


def follow(section: str, namespace, capsys) -> Pool:
    """Run a section's block and its command; the pool."""
    [code] = blocks(section)
    exec(compile(code, "docs/adopt.md", "exec"), namespace)
    capsys.readouterr()
    assert main(command(section)) == 0
    out = capsys.readouterr().out
    assert out.startswith("You have ") and "n = 450" in out.splitlines()[0]
    return Pool.open(command(section)[1])


def assert_teams(pool: Pool, models, tmp_path) -> None:
    """`models`: by the path of each checkpoint what the framework itself loads of it."""
    data = nets.rows()
    own = own_loop_pool(tmp_path / "own", {str(p): nets.logits(model, data) for p, model in models.items()})
    assert len(pool.complete) == len(own.complete) == len(models)
    assert_same_teams(pool, own, lambda m: str(Path(m.record.environment["adopted_from"]).relative_to(tmp_path)))


def test_optuna_and_plain_torch(page, tmp_path, capsys):
    optuna = pytest.importorskip("optuna")
    pool = follow("Optuna and plain PyTorch", page, capsys)
    models = {}
    for trial in optuna.load_study(study_name=None, storage="sqlite:///tune.db").trials:
        models[path := f"tune/trial_{trial.number}.pt"] = model = page["net"]((1, 8, 8), 10, trial.params["hidden"])
        model.load_state_dict(torch.load(path))
        [record] = [m.record for m in pool.complete if m.record.spec.notes["trial"] == trial.number]
        assert record.environment["adopted_from"] == str(tmp_path / path)
        assert record.spec.policy == str(Policy.parse(f"FIX(k0={trial.params['lr']})"))
        assert record.val["accuracy"] == pytest.approx(trial.value, abs=1e-6)
    assert_teams(pool, models, tmp_path)
    [last] = blocks("What is read, and what is not")
    exec(compile(last, "docs/adopt.md", "exec"), page)
    assert "You have 4 runs" in capsys.readouterr().out
    assert len(Pool.open("checkpoints/optuna").members) == 4


@pytest.mark.slow
def test_lightning(page, tmp_path, capsys):
    pytest.importorskip("lightning")
    pool = follow("Lightning", page, capsys)
    paths = sorted(Path("lightning").rglob("*.ckpt"))
    models = {str(path): page["Net"].load_from_checkpoint(path).net for path in paths}
    for member in pool.complete:
        record, history = member.record, member.history()
        assert record.spec.policy == f"COS(k0={record.spec.notes['lr']}, l=100%)"
        assert record.costs["steps"] == 48 == max(line["step"] for line in history) + 1
        assert sum("train_loss" in line for line in history) == 3
    assert_teams(pool, models, tmp_path)


@pytest.mark.slow
def test_hugging_face(page, tmp_path, capsys):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    pool = follow("Hugging Face", page, capsys)

    class Logits(torch.nn.Module):
        def __init__(self, path):
            super().__init__()
            self.model = transformers.ViTForImageClassification.from_pretrained(path)

        def forward(self, x):
            return self.model(pixel_values=x).logits

    paths = sorted(path.parent for path in Path("hf").rglob("model.safetensors"))
    assert [path.name for path in paths] == ["checkpoint-48"] * 2
    for member in pool.complete:
        policy = Policy.parse(member.record.spec.policy)
        assert policy.function == "POLY" and dict(policy.parameters)["p"] == 1  # the Trainer's linear decay
        assert member.record.costs["steps"] == 48 and len(member.history()) == 12
    assert_teams(pool, {str(path): Logits(path) for path in paths}, tmp_path)


@pytest.mark.slow
def test_ray_tune(page, tmp_path, capsys):
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.tune")
    ray.init("local", num_cpus=1, include_dashboard=False)  # whatever cluster runs here
    try:
        pool = follow("Ray Tune", page, capsys)
    finally:
        ray.shutdown()
    models = {}
    for path in Path("ray").rglob("model.pt"):
        models[str(path)] = model = page["net"]((1, 8, 8), 10, 16)
        model.load_state_dict(torch.load(path))
    for member in pool.complete:
        assert member.record.spec.policy == f"FIX(k0={member.record.spec.notes['lr']})"
        assert member.history()[-1]["val_accuracy"] == pytest.approx(member.record.val["accuracy"], abs=1e-6)
    assert_teams(pool, models, tmp_path)


def test_studies_that_are_wrong(page, tmp_path):
    optuna = pytest.importorskip("optuna")
    from lrensemble import UserError, adopt_checkpoints

    torch.save(page["net"]((1, 8, 8), 10).state_dict(), "trial_5.pt")
    wanted = {"config": "digits.yaml", "study": "sqlite:///tune.db"}
    with pytest.raises(UserError, match=r"tune.db does not exist"):
        adopt_checkpoints("p", ["trial_5.pt"], **wanted)
    study = optuna.create_study(storage="sqlite:///tune.db", study_name="a")
    with pytest.raises(UserError, match=r"study 'a' in .* is empty: it has no trials"):
        adopt_checkpoints("p", ["trial_5.pt"], **wanted)
    study.add_trial(optuna.create_trial(value=1.0))
    with pytest.raises(UserError, match=r"trial_5.pt: which of the 1 trials is it"):
        adopt_checkpoints("p", ["trial_5.pt"], **wanted)
    optuna.create_study(storage="sqlite:///tune.db", study_name="b")
    with pytest.raises(UserError, match="has 2 studies, --study-name says which: a, b"):
        adopt_checkpoints("p", ["trial_5.pt"], **wanted)
    with pytest.raises(UserError, match="no study 'aa': did you mean 'a'"):
        adopt_checkpoints("p", ["trial_5.pt"], study_name="aa", **wanted)
    assert not Path("p").exists()


def test_adapters_as_peft_saves_them(tmp_path, monkeypatch):
    """Placed by their names, and where peft loads them itself; the base stays out of the pool."""
    peft = pytest.importorskip("peft")
    from lrensemble import adopt_checkpoints
    from lrensemble.evaluation.network import load_network

    monkeypatch.chdir(tmp_path)
    data = nets.rows()

    def base(num_classes):
        torch.manual_seed(7)
        return nets.net((1, 8, 8), num_classes, 24)

    def with_adapters(num_classes):
        return peft.get_peft_model(base(num_classes), peft.LoraConfig(target_modules=["1"], modules_to_save=["3"], r=4))

    def loaded(checkpoint, num_classes):
        return peft.PeftModel.from_pretrained(base(num_classes), checkpoint, is_trainable=True)

    model = with_adapters(10)
    assert nets.train(model, data, 0.05)[-1]["val_acc"] > 0.5
    model.save_pretrained("lora")
    expected = nets.logits(model, data)["test"].softmax(1)
    for name, builder in (("by names", with_adapters), ("by peft", loaded)):
        pool, _ = adopt_checkpoints(tmp_path / name, ["lora"], config={"data": nets.DATA}, model=builder)
        [member] = pool.complete
        torch.testing.assert_close(torch.tensor(pool.predictions("test")[0]), expected, atol=1e-6, rtol=0)
        trained = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
        assert set(member.weights()) == trained and member.record.base
        load_network(pool, member, trust=True)
