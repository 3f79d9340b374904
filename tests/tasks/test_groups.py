"""Rows that belong together are on one side; splits that lack classes; a validation split from elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lrensemble import UserError, load_task
from lrensemble.cli.main import main
from lrensemble.evaluation.network import load_data
from lrensemble.pool import Pool
from lrensemble.tasks.groups import cut_groups

RNG = np.random.default_rng(0)


def arrays(rows: int = 120, classes: int = 3, **changes) -> dict[str, np.ndarray]:
    made = {}
    for split, n in (("train", rows), ("test", 30)):
        made[f"{split}_images"] = RNG.integers(0, 256, (n, 6, 6), dtype=np.uint8)
        made[f"{split}_labels"] = np.arange(n) % classes
    return {**made, **changes}


def write(path: Path, **content) -> Path:
    np.savez(path / "x.npz", **content)
    return path / "x.npz"


@given(
    st.integers(40, 200), st.integers(2, 30), st.integers(2, 4), st.floats(0.02, 0.6), st.integers(0, 5)
)  # rows, groups, classes, share, seed
@settings(max_examples=40, deadline=None)
def test_no_group_is_on_two_sides(rows, count, classes, share, seed):
    rng = np.random.default_rng(seed)
    labels, groups = rng.integers(0, classes, rows), rng.integers(0, count, rows).astype(str)
    try:
        rest, off = cut_groups(labels, groups, share, seed, "data.val_fraction")
    except UserError as error:
        assert "train would keep no row of class" in str(error) or "of one group" in str(error)
        return
    assert sorted([*rest, *off]) == list(range(rows))
    assert not set(groups[rest]) & set(groups[off])
    assert len(rest) and len(off)
    assert set(labels[rest]) == set(labels)
    largest = max(np.unique(groups, return_counts=True)[1])
    assert abs(len(off) - share * rows) <= max(largest, 0.06 * rows)


def test_the_cut_is_stratified_when_groups_are_small():
    labels, groups = np.arange(900) % 3, (np.arange(900) // 3).astype(str)
    for share in (0.1, 0.15, 0.3, 0.5):
        _, off = cut_groups(labels, groups, share, 0, "")
        assert abs(len(off) / 900 - share) < 0.01
        np.testing.assert_allclose(np.bincount(labels[off]) / len(off), 1 / 3, atol=0.01)
    first, again, other = (cut_groups(labels, groups, 0.1, seed, "")[1].tolist() for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize("kind", ["npz", "npy"])
def test_groups_in_arrays(tmp_path, kind):
    patient = np.repeat(np.arange(40), 3)
    content = arrays(train_patient=patient, test_patient=100 + np.arange(30))
    root = write(tmp_path, **content)
    if kind == "npy":
        root = tmp_path
        for key, array in content.items():
            np.save(root / f"{key}.npy", array)
    data = load_task(kind, root=root, groups="patient", val_fraction=0.2)
    assert len(data.val) == 24
    assert not set(data.train.groups) & set(data.val.groups)
    assert set(data.train.groups) | set(data.val.groups) == set(patient.astype(str))
    assert data.notes == ()
    plain = load_task(kind, root=root, val_fraction=0.2)
    assert plain.fingerprint != data.fingerprint
    assert set(plain.train.groups or ()) == set()


def test_a_group_in_train_and_test_is_one_line(tmp_path):
    content = arrays(train_patient=np.repeat(np.arange(40), 3), test_patient=np.arange(30) + 38)
    with pytest.raises(UserError, match=r"data.groups: 38, 39 have rows in train and in test"):
        load_task("npz", root=write(tmp_path, **content), groups="patient")
    content = arrays(train_patient=np.repeat(np.arange(40), 3))
    data = load_task("npz", root=write(tmp_path, **content), groups="patient")
    assert data.notes == (
        "data.groups: the groups of the test rows are not known, so it is not checked that train has none of them",
    )


def test_groups_in_a_file(tmp_path, monkeypatch):
    root = write(tmp_path, **arrays(train_patient=np.arange(120)))
    monkeypatch.chdir(tmp_path)
    Path("patient").write_text("x")
    with pytest.raises(UserError, match=r"patient: both the array 'train_patient' of .* and a file: rename one"):
        load_task("npz", root=root, groups="patient")
    Path("patients.txt").write_text("\n".join(f"p{i // 4}" for i in range(120)))
    data = load_task("npz", root=root, groups="patients.txt")
    assert not set(data.train.groups) & set(data.val.groups)
    # A mark of the encoding and blanks at the end of a line are no part of a name.
    Path("patients.txt").write_bytes(b"\xef\xbb\xbf" + b"\n".join(b"p%d " % (i // 4) for i in range(120)))
    assert {*load_task("npz", root=root, groups="patients.txt").train.groups} == {*data.train.groups}
    Path("patients.txt").write_text("a\nb\n")
    with pytest.raises(UserError, match=r"data.groups: 2 groups of 120 rows \(patients.txt\)"):
        load_task("npz", root=root, groups="patients.txt")
    Path("patients.txt").write_bytes(b"\xff\xfe\n" * 60)
    with pytest.raises(UserError, match=r"data.groups = patients.txt: not a text file"):
        load_task("npz", root=root, groups="patients.txt")


@pytest.mark.parametrize(
    ("changes", "options", "words"),
    [
        ({"train_patients": np.zeros(120, int)}, {}, "no array 'train_patient' .* did you mean 'train_patients'"),
        ({"train_patient": np.zeros(120)}, {}, "groups must be one number or text a row, not float64"),
        ({"train_patient": np.zeros(120, int)}, {}, "all train rows are of one group, 0"),
        ({"train_patient": np.arange(119)}, {}, "119 groups of 120 rows"),
        (  # class 2 is one patient
            {"train_patient": np.where(np.arange(120) % 3 == 2, 0, 1)},
            {"val_fraction": 0.5},
            "train would keep no row of class|cannot",
        ),
    ],
)
def test_bad_groups_are_one_line(tmp_path, changes, options, words):
    with pytest.raises(UserError, match=words):
        load_task("npz", root=write(tmp_path, **arrays(**changes)), groups="patient", **options)


def test_a_class_of_one_group_stays_in_train(tmp_path):
    patient = np.where(np.arange(120) % 3 == 2, 0, 1 + np.arange(120) // 4)
    data = load_task("npz", root=write(tmp_path, **arrays(train_patient=patient)), groups="patient")
    assert set(data.train.labels) == {0, 1, 2} and set(data.val.labels) == {0, 1}
    assert "no val row is of class 2" in data.notes


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two classes, eight patients in train and two others in test and elsewhere/val, four pictures of each."""
    for folder, patients in (("set/train", range(8)), ("set/test", (8, 9)), ("elsewhere/val", (10, 11))):
        for name in ("cat", "dog"):
            (tmp_path / folder / name).mkdir(parents=True)
            for p in patients:
                for i in range(4):
                    image = RNG.integers(0, 256, (9, 9, 3), dtype=np.uint8)
                    Image.fromarray(image).save(tmp_path / folder / name / f"p{p:02d}_{i}.png")
    return tmp_path / "set"


def test_groups_by_file_names(pictures):
    data = load_task("folder", root=pictures, groups=r"/(p\d+)_", val_fraction=0.25)
    assert set(data.train.groups) | set(data.val.groups) == {f"p{p:02d}" for p in range(8)}
    assert not set(data.train.groups) & set(data.val.groups)
    assert len(data.val) == 16
    whole = load_task("folder", root=pictures, groups=r"p\d+", val_fraction=0.25)
    assert whole.fingerprint == data.fingerprint
    with pytest.raises(UserError, match=r"it finds nothing in cat/p00_0.png, .* and 59 more \(train\)"):
        load_task("folder", root=pictures, groups=r"patient(\d+)")
    with pytest.raises(UserError, match="is no regular expression"):
        load_task("folder", root=pictures, groups=r"p(\d+")
    with pytest.raises(UserError, match=r"0, 1, 2, 3 have rows in train and in test"):
        load_task("folder", root=pictures, groups=r"_(\d)")


def test_groups_follow_pictures_that_are_left_out(pictures):
    (pictures / "train" / "cat" / "p00_0.png").write_text("x")
    data = load_task("folder", root=pictures, groups=r"p\d+", skip_broken=True)
    counts = dict(zip(*np.unique([*data.train.groups, *data.val.groups], return_counts=True), strict=True))
    assert counts == {f"p{p:02d}": 8 - (p == 0) for p in range(8)}


def test_a_validation_folder_from_elsewhere(pictures):
    val = pictures.parent / "elsewhere" / "val"
    data = load_task("folder", root=pictures, val=val, groups=r"p\d+")
    assert (len(data.train), len(data.val), len(data.test)) == (64, 16, 16)
    assert set(data.val.groups) == {"p10", "p11"}
    with pytest.raises(UserError, match="validation split of its own"):
        load_task("folder", root=pictures, val=val, val_fraction=0.1)
    with pytest.raises(UserError, match=r"data.val = /nowhere: a folder"):
        load_task("folder", root=pictures, val=Path("/nowhere"))
    (val / "cat" / "bad.png").write_text("x")
    with pytest.raises(UserError, match=r"elsewhere/val/cat/bad.png: not an image"):
        load_task("folder", root=pictures, val=val)
    (val / "cat" / "bad.png").unlink()
    (pictures / "valid").symlink_to(val)
    with pytest.raises(UserError, match=r"data.val = .*, but .*/valid is there too: leave one of them out"):
        load_task("folder", root=pictures, val=val)
    with pytest.raises(UserError, match=r"data.val = .*: data set 'digits' has no use for it"):
        load_task("digits", val=val)


def test_a_validation_archive_from_elsewhere(tmp_path):
    (tmp_path / "val").mkdir()
    images, labels = RNG.integers(0, 256, (12, 6, 6), dtype=np.uint8), np.arange(12) % 3
    root = write(tmp_path, **arrays())
    for names in ({"images": images, "labels": labels}, {"val_images": images, "val_labels": labels}):
        data = load_task("npz", root=root, val=write(tmp_path / "val", **names))
        np.testing.assert_array_equal(data.val.images[:, 0], images)
    with pytest.raises(UserError, match="no array 'labels' or 'val_labels'"):
        load_task("npz", root=root, val=write(tmp_path / "val", images=images))
    val = write(tmp_path / "val", images=images, labels=labels)
    with pytest.raises(UserError, match=r"but .* has valid_labels: leave one of them out"):
        load_task("npz", root=write(tmp_path, **arrays(valid_labels=labels)), val=val)


def test_classes_that_splits_lack(tmp_path):
    content = arrays(classes=4)
    content["test_labels"] %= 3
    assert load_task("npz", root=write(tmp_path, **content)).notes == ("no test row is of class 3",)
    content["class_names"] = np.array(["a", "b", "c", "d"])
    content["train_labels"] %= 2
    with pytest.raises(UserError, match="test has rows of class c, but train has none"):
        load_task("npz", root=write(tmp_path, **content))


def test_a_pool_whose_test_split_lacks_a_class(tmp_path, capsys):
    """From training to the report and back to its data: a note, no crash."""
    content = arrays(classes=4, train_patient=np.arange(120) // 4)
    content["test_labels"] %= 3
    config = tmp_path / "c.yaml"
    config.write_text(
        f"data: {{name: npz, root: {write(tmp_path, **content)}, groups: patient}}\nmodel: {{name: mlp, hidden: [4]}}\n"
        "training: {epochs: 1, batch_size: 8}\npolicies: 'FIX(k0=[0.01, 0.1])'\ncontrol: true\n"
    )
    pool = str(tmp_path / "pool")
    assert main(["train", str(config), "--pool", pool, "--workers", "1", "--device", "cpu"]) == 0
    assert "no test row is of class 3" in capsys.readouterr().err
    for command in (
        ["select", pool, "--selector", "all"],
        ["evaluate", pool],
        ["report", pool],
        ["diversity", pool],
        ["robustness", pool],
    ):
        assert main(command) == 0, command
    written = next((tmp_path / "pool" / "evaluations").glob("*.json")).read_text()
    json.loads(written, parse_constant=pytest.fail)  # no NaN
    data = load_data(Pool.open(pool))
    assert not set(data.train.groups) & set(data.val.groups)
