"""The first hour: what there is to begin with trains as it is, in any folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lrensemble import Pool, load_config
from lrensemble.cli.main import main
from lrensemble.examples import TASKS, YOURS, example

SHORT = ["training.epochs=1", "policies=FIX(1e-3)", "seeds=1", "control=false"]
ALONE = ["--workers", "1", "--threads", "1"]


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("task", [task for task in TASKS if task not in YOURS])
def test_what_init_writes_trains_as_it_is(task, empty, capsys):
    assert main(["init", task]) == 0
    out = capsys.readouterr().out
    [said] = re.findall(r"^Next: lrensemble (.*)$", out, re.MULTILINE)
    less = ["data.rows=[60, 20, 20]", "data.bins=2"] if task == "events" else []
    assert main([*said.split(), *SHORT, *less, *ALONE]) == 0
    captured = capsys.readouterr()
    assert f"checkpoints/{task}: 1 complete" in captured.out
    config = Path(f"{task}.yaml").read_text()
    assert config.startswith("# ") and len(load_config(f"{task}.yaml").specs()) > 3
    # Once more: nothing of the user's is written over.
    Path(f"{task}.yaml").write_text("mine")
    assert main(["init", task]) == 2
    assert Path(f"{task}.yaml").read_text() == "mine"


def test_nothing_is_written_where_the_configuration_cannot_be(empty, capsys):
    assert main(["init", "images", "-o", "nowhere/images.yaml"]) == 2
    assert "there is no folder nowhere" in capsys.readouterr().err and not list(empty.iterdir())


def test_data_of_ones_own_takes_the_place_of_the_sample(empty, capsys):
    assert main(["init", "tabular"]) == 0
    Path("table.csv").rename("my patients.csv")
    Path("tabular.yaml").unlink()
    assert main(["init", "tabular", "my patients.csv", "--target", "diagnosis", "-o", "mine.yaml"]) == 0
    assert not Path("table.csv").exists()
    data = load_config("mine.yaml").data
    assert str(data.root) == "my patients.csv" and data.model_extra["target"] == "diagnosis"
    Path("q.tsv").touch()
    assert main(["init", "text", "q.tsv"]) == 0
    assert '  root: "q.tsv"' in Path("text.yaml").read_text()
    for name in ("text.yaml", "q.tsv"):
        Path(name).unlink()
    for words, message in (
        (["init", "images", "nowhere"], "nowhere does not exist"),
        (["init", "digits", "."], "the example digits takes no data of yours"),
        (["init", "tabular", "--target", "x"], "name the table too"),
        (["init", "text"], "lrensemble init text FILE"),
        (["init", "imags"], "did you mean 'images'"),
        (["train", "configs/digits.yaml"], "lrensemble init digits writes one"),
        (["train", "min.yaml"], "in . are mine.yaml"),
    ):
        assert main(words) == 2
        assert message in capsys.readouterr().err
    assert sorted(path.name for path in empty.iterdir()) == ["mine.yaml", "my patients.csv"]


def test_every_example_is_a_configuration():
    for path in example("digits").parent.glob("*.yaml"):
        assert path.read_text().startswith("# "), path
        lies_beside = path.stem in ("own_model", "finetune", "text", "llm_text", "llm_choices")  # files, or weights
        if not lies_beside:
            load_config(path)


def test_the_demo_does_the_whole_job(empty, capsys):
    few = ["training.epochs=1", "policies=FIX(k0=[0.02, 0.1])", "control=false", *ALONE]
    for _ in range(2):  # the second time it goes on
        assert main(["demo", *few]) == 0
        out = capsys.readouterr().out
        assert re.findall(r"^\$ lrensemble (\w+)", out, re.MULTILINE) == ["train", "select", "evaluate", "report"]
        assert "orth it" in out
        assert out.splitlines()[-1] == "Next: lrensemble export checkpoints/demo -o team"
        assert (empty / "checkpoints" / "demo" / "report.html").exists()
    assert len(Pool.open("checkpoints/demo").complete) == 2
    assert [path.name for path in empty.iterdir()] == ["checkpoints"]
