"""What the README and the pages in docs/ show works."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from lrensemble import Pool, load_config, load_task, select_teams, train_pool
from lrensemble.cli.main import main, parse
from lrensemble.diversity import diversity
from lrensemble.evaluation import BASELINES
from lrensemble.policies import ALIASES, CONTROLS, FUNCTIONS
from lrensemble.selection import SELECTORS
from lrensemble.training.engine import Engine

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
EVALUATION = (ROOT / "docs" / "evaluation.md").read_text()
EXTENSIONS = (ROOT / "docs" / "extensions.md").read_text()
OWN_LOOPS = (ROOT / "docs" / "own_loops.md").read_text()
SELECTION = (ROOT / "docs" / "selection.md").read_text()
RECOMMEND = (ROOT / "docs" / "recommend.md").read_text()
REPORT = (ROOT / "docs" / "report.md").read_text()
TRAINING = (ROOT / "docs" / "training.md").read_text()
VERIFY = (ROOT / "docs" / "verify.md").read_text()
ROUNDS = (ROOT / "docs" / "rounds.md").read_text()
DEPLOY = (ROOT / "docs" / "deploy.md").read_text()
TABULAR = (ROOT / "docs" / "tabular.md").read_text()


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """The arguments of every ``lrensemble`` command that stands on a line of its own."""
    return [shlex.split(line)[1:] for line in re.findall(r"^    (lrensemble .*?)(?:\s+#.*)?$", text, re.MULTILINE)]


def missing_libraries(code: str) -> list[str]:
    names = re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE)
    return [name for name in names if importlib.util.find_spec(name) is None]


@pytest.mark.parametrize(
    "code",
    blocks("python") + blocks("python", VERIFY) + blocks("python", TABULAR),
    ids=lambda code: code.split("\n")[0],
)
def test_python_examples_run(code, tmp_path, monkeypatch, capsys):
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README", "exec"), {"__name__": "readme"})
    if "verdicts" in code:
        assert ("n = 200" if code in TABULAR else "n = 450") in capsys.readouterr().out


def test_commands_parse():
    pages = (README, *(path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))))
    found = [arguments for text in pages for arguments in commands(text)]
    assert len(found) >= 9
    for arguments in found:
        parse(arguments)


def test_selection_page(pool: Pool, tmp_path, monkeypatch, capsys):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "digits").symlink_to(pool.path)
    monkeypatch.chdir(tmp_path)
    for code in blocks("python", SELECTION):
        exec(compile(code.replace("[0, 3, 5]", "[0, 2, 3]"), "selection.md", "exec"), {"__name__": "selection"})
    for arguments in commands(SELECTION):
        assert main([str(pool.path) if word == "POOL" else word for word in arguments]) == 0
    (table,) = re.findall(r"^\| selector \|.*\n\|---.*\n((?:\|.*\n)+)", SELECTION, re.MULTILINE)
    listed = re.findall(r"^\| ([a-z][a-z, -]*) \|", table, re.MULTILINE)
    assert {name for row in listed for name in row.split(", ")} == set(SELECTORS)


def test_evaluation_page(pool: Pool, tmp_path, monkeypatch, capsys):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "digits").symlink_to(pool.path)
    monkeypatch.chdir(tmp_path)
    select_teams(pool, ["greedy", "top-k"], size=2)
    for team in pool.teams:
        pool.save_team(team.model_copy(update={"name": team.selector}))
    images = np.random.default_rng(0).integers(0, 256, (30, 10, 10), dtype=np.uint8)
    labels = np.arange(30) % 3
    np.savez("other.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    Path("my_metrics.py").write_text("def cost(p, y):\n    return -float((p.argmax(1) != y).mean())\n")
    for code in blocks("python", EVALUATION):
        exec(compile(code, "evaluation.md", "exec"), {"__name__": "evaluation"})
    assert "n = 450" in capsys.readouterr().out
    for arguments in commands(EVALUATION):
        arguments += ["--workers", "1"] if "--lr-scales" in arguments else []  # no processes that load torch anew
        assert main([str(pool.path) if word == "POOL" else word for word in arguments]) == 0
    assert set(re.findall(r"^\| ([a-z][a-z -]+) \|", EVALUATION, re.MULTILINE)) >= set(BASELINES)


def test_report_page(pool: Pool, tmp_path, monkeypatch, capsys):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "digits").symlink_to(pool.path)
    monkeypatch.chdir(tmp_path)
    assert main(["select", "checkpoints/digits", "--selector", "all,greedy"]) == 0
    for arguments in commands(REPORT):
        assert main(arguments) == 0
    assert (tmp_path / "page.html").exists()
    for code in blocks("python", REPORT):
        exec(compile(code, "report.md", "exec"), {"__name__": "report"})


def test_recommend_page(trained: Path, tmp_path, monkeypatch, capsys):
    shutil.copytree(trained, tmp_path / "checkpoints" / "digits")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    few = ["training.epochs=3", "--trials", "2", "--finalists", "1", "--seeds", "2"]
    searches = [arguments for arguments in commands(RECOMMEND) if arguments[0] == "recommend"]
    for arguments in (*(c for c in commands(RECOMMEND) if c not in searches), searches[0] + few):  # the others parse
        assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "n = 337" in out
    assert "PyTorch default LR" in out


def test_rounds_page(tmp_path, monkeypatch, capsys):
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("python", ROUNDS)
    exec(compile(code, "rounds.md", "exec"), {"__name__": "rounds"})
    out = capsys.readouterr().out
    assert "1 rounds" in out
    assert out.count("n = 337") == 2
    (proposing,) = [a for a in commands(ROUNDS) if a[0] == "propose" and "--train" not in a]
    assert main([word.replace("digits", "rounds") for word in proposing]) == 0


def test_deploy_page(pool: Pool, tmp_path, monkeypatch, capsys):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "digits").symlink_to(pool.path)
    monkeypatch.chdir(tmp_path)
    select_teams(pool, ["greedy"])
    images = load_task("digits").test.images
    (tmp_path / "images").mkdir()
    Image.fromarray(images[0, 0]).save(tmp_path / "images" / "0.png")
    for arguments in commands(DEPLOY):
        assert arguments[0] == "serve" or main(arguments) == 0  # it would not end: tests/export/test_serve.py
    for code in blocks("python", DEPLOY):
        exec(compile(code, "deploy.md", "exec"), {"__name__": "deploy"})
    assert "test split, n = 450" in capsys.readouterr().out


def test_the_keys_on_the_training_page_exist():
    data = {"name": "x", "data": "digits", "policies": ["FIX(0.1)"], "model": "mlp", "training": {"epochs": 40}}
    for text in blocks("yaml", TRAINING):
        data |= YAML(typ="safe", pure=True).load(text)
    config = load_config(data)
    assert config.snapshots == "cycles"
    assert [named.name for named in config.averages] == ["swa", "ema"]
    assert config.engine == Engine()  # the page shows the defaults
    assert set(data["engine"]) <= set(Engine.model_fields)


def test_own_loops(tmp_path, monkeypatch, capsys):
    """The blocks of the page one after the other, in one namespace, as a reader would paste them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    namespace = {"__name__": "own_loops"}
    left_out = set()
    for code in blocks("python", OWN_LOOPS):
        if missing := missing_libraries(code):
            left_out |= set(missing)
            continue
        if "evaluate" in code:
            [arguments] = [a for a in commands(OWN_LOOPS) if a[0] == "import"]
            assert main(arguments) == 0
        exec(compile(code, "own_loops.md", "exec"), namespace)
    assert left_out <= {"transformers", "lightning", "accelerate"}
    models = [member.record.spec.model.name for member in Pool.open("checkpoints/own").complete]
    expected = {"mlp": 4, "forest": 1, "logistic": 1}
    expected |= {} if "transformers" in left_out else {"tiny bert": 1}
    expected |= {} if "lightning" in left_out else {"mlp in lightning": 1}
    expected |= {} if "accelerate" in left_out else {"mlp with accelerate": 1}
    assert {model: models.count(model) for model in models} == expected
    for member in Pool.open("checkpoints/own").complete:
        assert bool(member.history()) == (member.record.spec.source == "loop")
    out = capsys.readouterr().out
    assert "n = 360" in out
    assert "chance: 37.5%" in out
    for arguments in commands(OWN_LOOPS):
        assert main(arguments) == 0


def test_the_configuration_is_valid():
    (text,) = blocks("yaml")
    config = load_config({"name": "readme", **YAML(typ="safe", pure=True).load(text)})
    assert len(config.specs()) == (3 + 2) * 3 * 2


def test_every_policy_is_in_the_document():
    text = (ROOT / "docs" / "policies.md").read_text()
    assert {*FUNCTIONS, *ALIASES, *CONTROLS} <= set(re.findall(r"[A-Z][A-Z0-9_]+", text))


def test_names_of_ones_own(tmp_path, own_names):
    [code] = blocks("python", EXTENSIONS)
    exec(compile(code, "docs/extensions.md", "exec"), {"__name__": "__main__"})
    config = {
        "name": "own",
        "data": {"name": "rows", "count": 40},
        "model": {"name": "perceptron", "width": 8},
        "training": {"epochs": 1, "batch_size": 20},
        "policies": ["EIGHTH(k0=[0.4, 0.8])"],
    }
    pool = train_pool(load_config(config), tmp_path / "pool", threads=1, devices="cpu")
    [team] = select_teams(pool, ["last"])
    assert len(team.members) == 1
    assert diversity(np.stack(list(pool.predictions("val"))), pool.labels("val"), metric="HALF") <= 0.5
