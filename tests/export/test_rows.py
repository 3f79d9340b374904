"""Teams of rows that are no images: from a table to the answers about a file; own tasks; objects of a program."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import make_classification
from torch import nn

from lrensemble import (
    ArrayTask,
    Ensemble,
    Pool,
    UserError,
    evaluate,
    export_team,
    load_config,
    select_teams,
    train_pool,
)
from lrensemble.cli.main import main
from lrensemble.evaluation.network import load_data, load_network
from tests.export.conftest import FORMATS
from tests.export.test_write import stored

RUN = {
    "name": "rows",
    "model": {"name": "mlp", "hidden": [16]},
    "optimizer": {"name": "SGD", "momentum": 0.9},
    "training": {"epochs": 4, "batch_size": 32},
    "policies": "FIX(k0=[0.02, 0.1])",
}
GRAPHS = [format for format in FORMATS if format != "safetensors"]


def trained(path: Path, data=None, **given) -> Pool:
    config = load_config({**RUN, "data": data} if data else RUN, **given)
    pool = train_pool(config, path, workers=1, threads=1, devices="cpu")
    select_teams(pool, ["all"])
    return pool


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pool, Path, Path]:
    """A pool of a CSV file with categories and gaps, that file, and the team exported in every format."""
    folder = tmp_path_factory.mktemp("table")
    rng = np.random.default_rng(0)
    kind, size = rng.choice(["ash", "oak", "elm"], 200), rng.normal(5, 2, 200)
    grows = np.where((kind == "oak") ^ (size > 5), "up", "down")
    rows = [[k, "" if rng.random() < 0.1 else f"{s:.3f}", g] for k, s, g in zip(kind, size, grows, strict=True)]
    with (folder / "trees.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["kind", "size", "grows"], *rows])
    pool = trained(folder / "pool", {"name": "table", "root": str(folder / "trees.csv"), "target": "grows"})
    export_team(pool, "all", folder / "team", formats=FORMATS, benchmark=False)
    return pool, folder / "trees.csv", folder / "team"


def test_the_shipped_configuration_through_all_commands(tmp_path, capsys):
    config = Path(__file__).parents[2] / "configs" / "breast_cancer.yaml"
    assert len([line for line in config.read_text().splitlines() if not line.startswith("#")]) <= 10
    pool, page = tmp_path / "pool", tmp_path / "page.html"
    quick = ["seeds=[0]", "control=false", "training.epochs=3"]
    for words in (
        ["train", str(config), *quick, "--pool", str(pool), "--workers", "1"],
        ["select", str(pool), "--selector", "greedy"],
        ["evaluate", str(pool)],
        ["diversity", str(pool)],
        ["report", str(pool), "-o", str(page)],
        ["export", str(pool), "greedy", "-o", str(tmp_path / "team"), "--no-benchmark"],
    ):
        assert main(words) == 0, (words, capsys.readouterr().err)
    assert evaluate(Pool.open(pool)).scores[0].accuracy > 0.85
    assert "<html" in page.read_text()
    assert json.loads((tmp_path / "team" / "team.json").read_text())["checks"]["torch"]["rows"] == 143


def test_predictions_of_a_file_are_those_of_its_rows(table, tmp_path, capsys):
    pool, file, folder = table
    lines = list(csv.reader(file.open()))
    kinds, fill = ("ash", "elm", "oak"), load_data(pool).columns[1].fill
    rows = [[*(float(kind == k) for k in kinds), float(size) if size else fill] for kind, size, _ in lines[1:]]
    expected = Ensemble.load(folder).predict_proba(np.array(rows, dtype=np.float32))
    for format in FORMATS:
        assert main(["predict", str(folder), str(file), "--as", format, "--format", "json"]) == 0
        found = json.loads(capsys.readouterr().out)["predictions"]
        assert [p["row"] for p in found] == list(range(200))
        np.testing.assert_allclose([p["confidence"] for p in found], expected.max(1), atol=1e-5)
    # Columns in another order, without the class, and a kind that training did not see: as if it had none.
    other = [[line[1], "pine" if i == 1 else line[0]] for i, line in enumerate(lines)]
    with (tmp_path / "other.csv").open("w", newline="") as out:
        csv.writer(out, delimiter=";").writerows(other)
    np.save(tmp_path / "plain.npy", load_data(pool).split("test")["x"])
    assert main(["predict", str(folder), str(tmp_path), "--format", "json"]) == 0
    again = json.loads(capsys.readouterr().out)["predictions"]
    assert len(again) == 200 + 50
    assert [p["confidence"] for p in again[1:200]] == pytest.approx([p["confidence"] for p in found[1:]], abs=1e-5)
    assert [p["index"] for p in again[200:]] == list(stored(pool, "all").argmax(1))


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "kind,sise\noak,1\n", "no column 'size': did you mean 'sise'"),
        ("a.csv", "kind,size\noak,big\n", "column 'size' holds 'big': a number is needed"),
        ("a.csv", "oak,1\n", "names of columns and rows below them are needed"),
        ("a.png", "", "files of type .png are not read"),
    ],
)
def test_files_that_are_no_rows_of_the_team(table, tmp_path, capsys, name, text, words):
    (tmp_path / name).write_text(text)
    assert main(["predict", str(table[2]), str(tmp_path / name)]) == 1
    assert words in capsys.readouterr().err
    np.save(tmp_path / "wide.npy", np.zeros((3, 7)))
    assert main(["predict", str(table[2]), str(tmp_path / "wide.npy"), "--resize"]) == 2
    assert "--resize is for images" in capsys.readouterr().err


def test_what_is_for_images_says_so(table, capsys):
    assert main(["robustness", str(table[0].path)]) == 2
    assert "images or recordings of event cameras, its data are table" in capsys.readouterr().err
    config = {**RUN, "data": "iris", "training": {**RUN["training"], "augment": ["flip"]}}
    with pytest.raises(UserError, match=r"training.augment, cutout and mixup are for images: ArrayTask takes none"):
        train_pool(load_config(config), table[0].path.parent / "none")


def test_without_the_table_the_team_is_exported_all_the_same(table, tmp_path):
    pool, file, _ = table
    hidden = file.rename(file.with_suffix(".away"))
    try:
        card = export_team(pool, "all", tmp_path / "team", benchmark=False)
    finally:
        hidden.rename(file)
    assert "random rows" in card.checks["torch"].what
    assert len(card.preprocessing.columns) == 2


def test_a_task_of_ones_own(tmp_path):
    pool = trained(tmp_path / "pool", {"name": "tests.tasks.own_task:Moons", "noise": 0.1}, model=moons_net)
    with pytest.raises(UserError, match=r"task tests.tasks.own_task:Moons is not built.*--trust"):
        export_team(pool, "all", tmp_path / "team")
    with pytest.raises(UserError, match="--as torch or onnx"):
        export_team(pool, "all", tmp_path / "team", formats=["safetensors"], trust=True)
    card = export_team(pool, "all", tmp_path / "team", formats=GRAPHS, trust=True, benchmark=False)
    assert card.checks["torch"].rows == 300
    assert card.preprocessing.input_shape == (2,)
    rows = load_data(pool, trust=True).split("test")["place"]
    np.testing.assert_allclose(Ensemble.load(tmp_path / "team").predict_proba(rows), stored(pool, "all"), atol=1e-5)
    assert Ensemble.load(pool.path, "all", trust=True).score(rows, pool.labels("test")) > 0.8


def moons_net(features: int, hidden: list[int]) -> nn.Module:
    return nn.Sequential(nn.Linear(features, hidden[0]), nn.Tanh(), nn.Linear(hidden[0], 2))


def test_objects_of_a_program(tmp_path):
    """Like covertype: 54 columns, 7 classes; rows of another program's objects are exported without them, unchecked."""
    x, y = make_classification(700, 54, n_informative=20, n_classes=7, class_sep=2.0, random_state=0)
    x[:, 10:] = x[:, 10:] > 0  # most of its columns are 0 or 1
    splits = [(x[a:b].astype(np.float32), y[a:b]) for a, b in ((0, 400), (400, 550), (550, 700))]
    task = ArrayTask(*splits, standardise=False)
    pool = trained(tmp_path / "pool", task=task)
    assert load_network(pool, pool.complete[0]).shape == (54,)
    card = export_team(pool, "all", tmp_path / "team", formats=FORMATS, benchmark=False)
    assert (card.checks["torch"].rows, len(card.class_names)) == (150, 7)
    with torch.no_grad():
        found = Ensemble.load(tmp_path / "team")(torch.from_numpy(splits[2][0]))
    np.testing.assert_allclose(found.numpy(), stored(pool, "all"), atol=1e-5)
    from lrensemble.tasks.load import OBJECTS

    kept = OBJECTS.pop(pool.task.data["name"])
    try:
        again = export_team(pool, "all", tmp_path / "again", benchmark=False)
    finally:
        OBJECTS[pool.task.data["name"]] = kept
    assert "its data are not known here" in again.checks["torch"].what
