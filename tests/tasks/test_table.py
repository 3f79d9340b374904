"""Tables as tasks: what columns become, which rows are cut off, and what is refused in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from lrensemble import UserError, load_config, load_task
from lrensemble.tasks.rows import DeviceData
from tests.training.runs import CPU

RNG = np.random.default_rng(0)
N = 120
FRAME = pd.DataFrame(
    {
        "id": [f"p{i}" for i in range(N)],
        "age": RNG.normal(50, 10, N).round(1),
        "town": RNG.choice(["Ulm", "Bonn", "Jena"], N),
        "pressure": np.where(RNG.random(N) < 0.2, np.nan, RNG.normal(120, 9, N)),
        "nothing": np.nan,
        "ill": RNG.choice(["yes", "no"], N),
    }
)


def write(folder: Path, frame: pd.DataFrame = FRAME, **options) -> Path:
    frame.to_csv(folder / "table.csv", **{"index": False, **options})
    return folder / "table.csv"


def load(path: Path, **options):
    return load_task("table", **{"root": path, "target": "ill", "drop": ["id"], **options})


def test_columns_become_features_by_rules_of_the_train_rows(tmp_path):
    task = load(write(tmp_path), val_fraction=0.25)
    assert task.class_names == ("no", "yes")
    assert [column.name for column in task.columns] == ["age", "town", "pressure"]
    y = (FRAME.ill == "yes").to_numpy()
    rest, test = train_test_split(np.arange(N), test_size=0.25, random_state=0, stratify=y)
    train, val = train_test_split(np.sort(rest), test_size=0.25, random_state=0, stratify=y[np.sort(rest)])
    fill = FRAME.pressure[train].mean()
    for split, rows in (("train", train), ("val", val), ("test", test)):
        part = FRAME.iloc[np.sort(rows)]
        towns = OneHotEncoder(sparse_output=False).fit(FRAME[["town"]]).transform(part[["town"]])
        expected = np.column_stack([part.age, towns, part.pressure.fillna(fill)])
        np.testing.assert_allclose(task.split(split)["x"], expected, rtol=1e-6)
        assert (task.labels(split) == (part.ill == "yes")).all()
    assert any("left out, as they have no value: nothing" in note for note in task.notes)
    assert any(f"{FRAME.pressure.isna().sum()} missing values" in note for note in task.notes)


def test_other_ways_to_write_a_table(tmp_path):
    plain = load(write(tmp_path)).fingerprint
    assert load(write(tmp_path, sep=";")).fingerprint == plain
    assert load(write(tmp_path, sep="\t", index=True, encoding="utf-8-sig")).fingerprint == plain
    assert load(write(tmp_path, na_rep="NA")).fingerprint == plain


def test_splits_of_their_own(tmp_path):
    for name, frame in (("train", FRAME[:70]), ("valid", FRAME[70:90]), ("test", FRAME[90:])):
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
    task = load(tmp_path)
    assert [task.rows(split) for split in ("train", "val", "test")] == [70, 20, 30]
    np.testing.assert_allclose(task.split("test")["x"][:, 0], FRAME.age[90:], rtol=1e-6)
    for option in ("val_fraction", "test_fraction"):
        with pytest.raises(UserError, match=f"data.{option} = 0.3: .* split of its own"):
            load(tmp_path, **{option: 0.3})


def test_arrays_in_an_npz(tmp_path):
    x, y = load_breast_cancer(return_X_y=True)
    np.savez(tmp_path / "a.npz", x=x, y=y, class_names=["malignant", "benign"])
    task = load_task("table", root=tmp_path / "a.npz")
    assert task.fingerprint == load_task("breast_cancer").fingerprint
    np.savez(tmp_path / "b.npz", train_x=x[:400], train_y=y[:400], test_x=x[400:], test_y=y[400:])
    assert load_task("table", root=tmp_path / "b.npz", val_fraction=0.25).rows("val") == 100


def test_a_constant_feature_stays_small_where_it_changes():
    from lrensemble import ArrayTask

    x, y = np.random.default_rng(0).normal(size=(40, 2)), np.arange(40) % 2
    x[:30, 1] = 7.0
    task = ArrayTask((x[:20], y[:20]), (x[20:30], y[20:30]), (x[30:], y[30:]))
    data = DeviceData.of(task, CPU)
    np.testing.assert_allclose(data.train.arrays["x"], StandardScaler().fit_transform(x[:20]), atol=1e-5)
    assert data.test.arrays["x"].abs().max() < 20


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        ({}, {"target": "il"}, "data.target = il: no such column .*did you mean 'ill'"),
        ({}, {"target": None}, "data.target must say which column .* id, age, town"),
        ({}, {"drop": ["ag"]}, "data.drop = ag: no such column .*did you mean 'age'"),
        ({}, {"drop": []}, "column 'id' has 81 different texts .*data.drop=\\[id\\] leaves it out"),
        ({}, {"target": "age"}, "'age' has \\d+ different values in 120 rows"),
        ({}, {"targets": "ill"}, "data.targets: it has no use for that"),
        ({}, {"root": None}, "data.root: it is needed"),
        ({"ill": [None, *FRAME.ill[1:]]}, {}, "'ill' of row 1 is '', classes are no, yes"),
        ({"age": [f"{a:.1f}".replace(".", ",") for a in FRAME.age]}, {}, "numbers such as '\\d+,\\d': write decimal"),
        ({"age": [*FRAME.age[:5], np.inf, *FRAME.age[6:]]}, {}, "column 'age' holds 'inf': a number is needed"),
        ({"age": None, "town": None, "pressure": None}, {}, "no column of features"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, change, options, words):
    with pytest.raises(UserError, match=words):
        load(write(tmp_path, FRAME.assign(**change)), **options)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names of columns and rows below them are needed"),
        ("a,b\n1,2,3\n", "line 2: 3 columns, the first line has 2"),
        ("1,2\n3,4\n", "its first line must name the columns, it is 1, 2"),
        ("a,a\n1,2\n", "two columns are called 'a'"),
        ("a,b\n1,\xff\n", "no text in UTF-8"),
    ],
)
def test_files_that_are_no_tables(tmp_path, text, words):
    (tmp_path / "table.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=words):
        load(tmp_path / "table.csv", target="b")


def test_unknown_keys_of_a_configuration():
    config = {"name": "x", "model": "mlp", "training": {"epochs": 1, "batch_size": 8}, "policies": "FIX(k0=0.1)"}
    with pytest.raises(UserError, match=r"unknown key 'data.targt': did you mean 'target'"):
        load_config({**config, "data": {"name": "table", "root": "a.csv", "targt": "ill"}})
    with pytest.raises(UserError, match=r"unknown key 'data.target'"):
        load_config({**config, "data": {"name": "iris", "target": "ill"}})
