"""Members from files: all or none, once, and never what does not belong to the pool."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from lrensemble import Pool, UserError
from lrensemble.pool import importing
from lrensemble.pool.importing import import_members
from lrensemble.pool.select import select_teams
from lrensemble.pool.sources import Source, gather_labels, gather_sources, parse_classes
from tests.pool.test_convert import as_probabilities

ROWS = {"val": 30, "test": 20}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Labels, two archives and a folder with one file a split."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    labels = {split: random.integers(0, 3, n) for split, n in ROWS.items()}
    np.savez("labels.npz", **labels)
    Path("runs/pair").mkdir(parents=True)

    def logits(split: str) -> np.ndarray:
        return np.eye(3)[labels[split]] * 2 + random.normal(size=(ROWS[split], 3))

    for name in "ab":
        np.savez(f"runs/{name}.npz", val=logits("val"), test=logits("test"))
    np.savetxt("runs/pair/val.csv", logits("val"), delimiter=",")
    np.save("runs/pair/test.npy", logits("test"))
    return tmp_path


LABELS = {"val": Path("labels.npz"), "test": Path("labels.npz")}


def snapshot(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_new_pool(files: Path):
    pool, members = import_members("p", gather_sources([Path("runs")]), labels=LABELS)
    assert [m.source.model for m in members] == ["a", "b", "pair"]
    assert all(m.new and m.kinds == {"val": "logits", "test": "logits"} for m in members)
    assert {m.record.spec.source for m in pool.complete} == {"import"}
    with np.load("runs/a.npz") as archive:
        for split in ROWS:
            expected = as_probabilities(archive[split], ROWS[split], 3)
            np.testing.assert_array_equal(pool.predictions(split, [pool.find(members[0].record.id)])[0], expected)
    assert "seconds" not in members[0].record.costs  # nobody knows what it took
    assert members[2].record.environment["imported from"] == "runs/pair/val.csv and runs/pair/test.npy"
    assert len(select_teams(pool, ["all"])[0].members) == 3


def test_the_same_again_changes_nothing(files: Path):
    import_members("p", gather_sources([Path("runs")]), labels=LABELS)
    before = snapshot(Path("p"))
    _, members = import_members("p", gather_sources([Path("runs")]))
    assert [m.new for m in members] == [False, False, False]
    assert snapshot(Path("p")) == before


def test_a_killed_import_goes_on(files: Path, monkeypatch):
    write = importing.write_complete
    calls = []

    def killed(member, **values):
        calls.append(member)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return write(member, **values)

    monkeypatch.setattr(importing, "write_complete", killed)
    with pytest.raises(KeyboardInterrupt):
        import_members("p", gather_sources([Path("runs")]), labels=LABELS)
    assert [m.status for m in Pool.open("p").members].count("complete") == 1
    _, members = import_members("p", gather_sources([Path("runs")]), labels=LABELS)
    assert [m.new for m in members] == [False, True, True]
    assert len(Pool.open("p").complete) == 3


def test_one_bad_file_and_none_is_imported(files: Path):
    np.savez("runs/z.npz", val=-np.ones((30, 3)), test=-np.ones((19, 3)))
    with pytest.raises(UserError, match=r"z.npz \(test\): 19 rows \(3 columns\), but labels.npz \(test\) has 20"):
        import_members("p", gather_sources([Path("runs")]), labels=LABELS)
    assert not Path("p").exists()
    import_members("p", gather_sources([Path("runs/a.npz")]), labels=LABELS)
    before = snapshot(Path("p"))
    with pytest.raises(UserError, match=r"z.npz"):
        import_members("p", gather_sources([Path("runs")]))
    assert snapshot(Path("p")) == before


def test_other_predictions_under_the_same_name(files: Path):
    import_members("p", gather_sources([Path("runs/a.npz")]), labels=LABELS)
    with pytest.raises(UserError, match=r"b.npz: p has a member a with seed 0 already.*give another --model or --seed"):
        import_members("p", gather_sources([Path("runs/b.npz")], model="a"))
    pool, [member] = import_members("p", gather_sources([Path("runs/b.npz")], model="a"), seed=1, policy="FIX(0.1)")
    assert member.record.spec.policy == "FIX(k0=0.1)"
    assert len(pool.complete) == 2


def test_diverged_predictions(files: Path):
    val = -np.ones((30, 3))
    val[7] = np.nan
    np.savez("bad.npz", val=val, test=-np.ones((20, 3)))
    for new in (True, False):
        pool, [member] = import_members("p", gather_sources([Path("bad.npz")]), labels=LABELS)
        assert (member.record.status, member.new) == ("diverged", new)
    assert pool.complete == []
    np.savez("bad.npz", val=-np.ones((30, 3)), test=-np.ones((20, 3)))
    with pytest.raises(UserError, match="has a member bad with seed 0 already"):
        import_members("p", gather_sources([Path("bad.npz")]))


def test_into_a_pool_that_was_trained(pool: Pool, tmp_path: Path):
    labels = {split: pool.labels(split) for split in ROWS}
    np.savez(tmp_path / "labels.npz", **labels)
    np.savez(tmp_path / "svm.npz", **{split: np.eye(10)[y] for split, y in labels.items()})
    path = tmp_path / "labels.npz"
    import_members(pool.path, [Source.archive(tmp_path / "svm.npz")], labels={"val": path, "test": path})
    assert len(pool.complete) == 5
    assert pool.best_single().record.spec.label == "svm"
    teams = select_teams(pool)  # the new member gives labels
    assert [team.vote for team in teams] == ["plurality"] * 6


def test_labels_of_another_task(files: Path):
    import_members("p", gather_sources([Path("runs/a.npz")]), labels=LABELS)
    other = {"val": np.zeros(30, dtype=int), "test": np.zeros(20, dtype=int)}
    np.savez("other.npz", **other)
    with pytest.raises(UserError, match=r"other.npz: these are not the labels of val in p"):
        import_members("p", gather_sources([Path("runs")]), labels=dict.fromkeys(ROWS, Path("other.npz")))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([[0, 1], [1, 2]], "labels are one number .or name. a row, which one of columns 1, 2 is it"),
        ([0.5, 1], "labels are whole numbers, this has 0.5"),
        ([0, -1], "a label of -1 .unlabelled.. is no class"),
        ([], r"shape .0, 1. does not fit"),
        ([np.nan, 1], "labels are whole numbers, this has nan"),
        ([0, 2**32 - 1], "a label is 4294967295 .-1 as an unsigned number of 32 bits"),
    ],
)
def test_labels_that_are_none(files: Path, labels, message):
    np.savez("bad.npz", val=np.array(labels), test=np.array([0, 1]))
    np.savez("two.npz", val=[[0.7, 0.3], [0.2, 0.8]], test=[[0.7, 0.3], [0.2, 0.8]])
    with pytest.raises(UserError, match=rf"bad.npz \(val\).*: .*{message}"):
        import_members("p", gather_sources([Path("two.npz")]), labels=dict.fromkeys(ROWS, Path("bad.npz")))
    assert not Path("p").exists()


def test_classes(files: Path):
    """The columns of the predictions are classes too, when the labels do not have the last one."""
    wide = {split: np.eye(5)[np.zeros(n, dtype=int)] for split, n in ROWS.items()}
    np.savez("wide.npz", **wide)
    pool, _ = import_members("p", gather_sources([Path("wide.npz")]), labels=LABELS)
    assert pool.task.class_names == ("0", "1", "2", "3", "4")
    named, _ = import_members("q", gather_sources([Path("runs")]), labels=LABELS, class_names=["x", "y", "z"])
    assert named.task.class_names == ("x", "y", "z")
    with pytest.raises(UserError, match="q has 3 classes: x, y, z"):
        import_members("q", gather_sources([Path("runs")]), class_names=4)
    with pytest.raises(UserError, match=r"columns 1, 2, 3 \(3\), but there are 2 classes"):
        import_members("r", gather_sources([Path("runs")]), labels=LABELS, class_names=2)
    assert parse_classes("10") == 10
    assert parse_classes("1-3") == ["1", "2", "3"]
    assert parse_classes("cat, dog") == ["cat", "dog"]
    for text in ("", "cat", "cat,cat", "cat,,dog", "0"):
        with pytest.raises(UserError, match="names that differ"):
            parse_classes(text)


def test_what_a_user_names(files: Path):
    a, b = Path("runs/a.npz"), Path("runs/b.npz")
    assert gather_sources([a], model="x") == [Source("x", {"val": a, "test": a})]
    assert [s.model for s in gather_sources([Path("runs/pair")])] == ["pair"]
    assert gather_sources([], val=a, test=b, model="x") == [Source("x", {"val": a, "test": b})]
    for arguments, message in (
        ({"paths": []}, "no predictions are named"),
        ({"paths": [], "val": a}, "--test is missing"),
        ({"paths": [], "val": a, "test": b}, "--model is missing"),
        ({"paths": [a, b], "model": "x"}, "--model x is the name of one member, but there are 2"),
        ({"paths": [Path("runs/pair/val.csv")]}, "a member needs predictions of val and test"),
    ):
        with pytest.raises(UserError, match=message):
            gather_sources(**arguments)
    Path("empty").mkdir()
    with pytest.raises(UserError, match=r"empty: no .npz in it"):
        gather_sources([Path("empty")])
    shutil.copy("runs/pair/val.csv", "runs/pair/val.txt")
    with pytest.raises(UserError, match=r"pair has val.csv and val.txt"):
        gather_sources([Path("runs")])
    shutil.copy(a, "a.npz")
    with pytest.raises(UserError, match=r"runs/a.npz and a.npz would both be called 'a'"):
        import_members("p", gather_sources([a, Path("a.npz")]), labels=LABELS)
    with pytest.raises(UserError, match="--labels-val is missing"):
        gather_labels(None, None, a)
    with pytest.raises(UserError, match="--labels has both splits"):
        gather_labels(a, a, None)


def test_a_pool_needs_labels_and_no_other_folder_becomes_one(files: Path):
    with pytest.raises(UserError, match="p does not exist: to make a pool the labels are needed"):
        import_members("p", gather_sources([Path("runs")]))
    with pytest.raises(UserError, match="runs is not a pool"):
        import_members("runs", gather_sources([Path("runs")]))
    before = snapshot(files)
    with pytest.raises(UserError, match="runs exists and is not a pool"):
        import_members("runs", gather_sources([Path("runs")]), labels=LABELS)
    assert snapshot(files) == before
