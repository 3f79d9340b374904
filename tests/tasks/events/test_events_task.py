"""From recordings to batches: windows, bins, crops, splits; simulated events; and what is wrong with a set."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from lrensemble import UserError
from lrensemble.cli.main import main
from lrensemble.tasks import load_task
from lrensemble.tasks.events import Recording, simulate, write_events
from lrensemble.tasks.events.binning import BinnedEvents, window_of
from lrensemble.tasks.events.recording import recording
from lrensemble.tasks.rows import raw_batches
from tests.tasks.events import files


def random_recordings(n: int = 6, seed: int = 0) -> list[Recording]:
    rng = np.random.default_rng(seed)
    made = []
    for i in range(n):
        t = np.sort(rng.integers(5_000, 5_000 + 30_000 * (i + 1), 400))
        x, y, p = (rng.integers(0, most, 400) for most in (40, 30, 2))
        made.append(recording(t, x, y, p, where=i, sensor=(40, 30)))
    return made


def by_hand(one: Recording, window, bin_us: int, start: int, bins: int) -> np.ndarray:
    """Event by event."""
    left, top, width, height = window
    counts = np.zeros((bins, 2, height, width), np.uint8)
    for t, x, y, p in zip(one.t.tolist(), one.x.tolist(), one.y.tolist(), one.p.tolist(), strict=True):
        b = (t - int(one.t[0])) // bin_us - start
        if 0 <= b < bins and left <= x < left + width and top <= y < top + height:
            counts[b, p, y - top, x - left] += 1
    return counts


@pytest.mark.parametrize("wanted", [None, 16, [20, 24], [3, 4, 30, 20]])
def test_crops_hold_the_events_that_are_in_them(wanted):
    recordings = random_recordings()
    window = window_of((40, 30), wanted)
    events = BinnedEvents(recordings, window, 10_000)
    rows, starts = np.array([5, 0, 3, 3]), np.array([7, 0, 2, 11])  # the last one goes beyond the end
    crops = events.crops(rows, starts, 4)
    assert crops.dtype == np.uint8 and crops.sum() > 0
    for crop, row, start in zip(crops, rows, starts, strict=True):
        assert np.array_equal(crop, by_hand(recordings[row], window, 10_000, start, 4))


def test_fixed_crops_are_spread_evenly():
    recordings = random_recordings()
    events = BinnedEvents(recordings, (0, 0, 40, 30), 10_000)
    fixed = events.fixed(4, 3)
    for row, one in enumerate(recordings):
        free = max(0, int(events.lengths[row]) - 4)
        for k, start in enumerate((0, free // 2, free)):
            assert np.array_equal(fixed[row, 4 * k : 4 * k + 4], by_hand(one, (0, 0, 40, 30), 10_000, start, 4))


def test_more_than_255_events_of_a_pixel_are_255():
    n = 1000
    crowded = recording(np.arange(n), np.zeros(n, int), np.zeros(n, int), np.ones(n, int), where="", sensor=(2, 2))
    assert BinnedEvents([crowded], (0, 0, 2, 2), 10_000).crops(np.array([0]), np.array([0]), 1).max() == 255


@pytest.mark.parametrize("wanted", [0, 41, [40, 31], [1, 0, 40, 30], [1, 2, 3], "all", [-1, 0, 4, 4]])
def test_windows_that_are_not_on_the_sensor(wanted):
    with pytest.raises(UserError, match=r"data\.window"):
        window_of((40, 30), wanted)


def test_recordings_that_are_too_long_or_too_many(monkeypatch):
    ever = recording(np.array([0, 2**59]), np.zeros(2, int), np.zeros(2, int), np.ones(2, int), where="", sensor=(2, 2))
    with pytest.raises(UserError, match="a recording lasts 576,460,752,303 s"):
        BinnedEvents([ever], (0, 0, 2, 2), 10_000)
    events = BinnedEvents(random_recordings(), (0, 0, 40, 30), 10_000)
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 1000}))
    with pytest.raises(UserError, match="GiB of memory"):
        events.fixed(4, 3)


def test_simulated_events_are_three_saccades():
    images = np.zeros((3, 28, 28), np.float32)
    images[:, 8:20, 10:18] = 0.9
    recordings = simulate(images, seed=1)
    for one, again, other in zip(recordings, simulate(images, seed=1), simulate(images, seed=2), strict=True):
        assert one.sensor == (34, 34) and 250_000 < one.duration < 300_000 and (np.diff(one.t) >= 0).all()
        assert np.array_equal(one.t, again.t) and not np.array_equal(one.t[:50], other.t[:50])
        bells = np.histogram(one.t, 30, (0, 300_000))[0].reshape(3, 10)
        assert (bells[:, 3:7].sum(1) > 3 * bells[:, [0, 1, 8, 9]].sum(1)).all()  # fast in the middle of each
        assert 0.4 < one.p.mean() < 0.6
        seen = np.zeros((34, 34), bool)
        seen[one.y, one.x] = True
        assert seen[8:26, 10:24].mean() > 2 * seen[:6].mean()  # at the edges of the square
    assert not np.array_equal(recordings[0].t[:50], recordings[1].t[:50])


def test_as_many_events_as_brightness_changes():
    """Without noise every event is one threshold of the logarithm, so the sums of a cycle cancel."""
    image = np.random.default_rng(0).random((1, 10, 10)).astype(np.float32)
    one = simulate(image)[0]
    balance = np.zeros((16, 16), int)
    np.add.at(balance, (one.y, one.x), 2 * one.p.astype(int) - 1)
    assert np.abs(balance).max() <= 2 and len(one) > 1000  # the third saccade ends where the first began


def archive(path, n=60, classes=3, **more):
    rng = np.random.default_rng(0)
    parts = [files.some_events(100, 34, 34, seed=i) for i in range(n)]
    t, x, y, p = (np.concatenate([part[k] for part in parts]) for k in range(4))
    labels = rng.permutation(np.arange(n) % classes).astype(np.uint8)
    small = {"x": x.astype(np.uint8), "y": y.astype(np.uint8), "p": p.astype(np.uint8), "labels": labels}
    np.savez(path, **{"t": t.astype(np.uint32), "offsets": np.arange(n + 1) * 100, **small, **more})
    return path


OPTIONS = {"crop_ms": 20, "bins": 4, "window": 16}


def test_an_archive_becomes_a_task(tmp_path):
    task = load_task("events", root=archive(tmp_path / "a.npz"), crops=2, val_fraction=0.25, **OPTIONS)
    assert task.facts == {"input_shape": (4, 2, 16, 16), "num_classes": 3}
    assert [task.rows(name) for name in ("train", "val", "test")] == [36, 12, 12]
    assert sorted(task.labels("test").tolist()) == [0] * 4 + [1] * 4 + [2] * 4
    val = task.split("val")
    assert val["x"].shape == (12, 8, 2, 16, 16) and val["x"].dtype == np.uint8
    batches = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        batches.append(raw_batches(task, "train")[np.array([5, 1, 30])])
    assert batches[0]["x"].shape == (3, 4, 2, 16, 16)
    assert torch.equal(batches[0]["x"], batches[1]["x"]) and not torch.equal(batches[0]["x"], batches[2]["x"])
    assert batches[0]["y"].tolist() == task.labels("train")[[5, 1, 30]].tolist()


def test_the_fingerprint_tells_how_events_become_inputs(tmp_path):
    root = archive(tmp_path / "a.npz")
    prints = [
        load_task("events", root=root, **{**OPTIONS, **more}).fingerprint
        for more in ({}, {"bins": 5}, {"crop_ms": 24}, {"crops": 2}, {"window": 18}, {"protocol": "carsnn"},
                     {"protocol": "carsnn", "steps": 4}, {"loss": "training"}, {"split_seed": 1})
    ]  # fmt: skip
    assert len(set(prints)) == len(prints)
    assert load_task("events", root=root, **OPTIONS).fingerprint == prints[0]


def test_groups_stay_on_one_side(tmp_path):
    groups = np.random.default_rng(0).permutation(np.arange(60) % 12)
    root = archive(tmp_path / "a.npz", groups=groups, split=np.arange(60) % 3 == 0)
    with pytest.raises(UserError, match="have rows in train and in test"):
        load_task("events", root=root, **OPTIONS)
    task = load_task("events", root=root, test_fraction=0.25, val_fraction=0.25, **OPTIONS)
    assert sum(task.rows(name) for name in ("train", "val", "test")) == 60
    folder = tmp_path / "set"
    for name in ("car", "none"):
        (folder / name).mkdir(parents=True)
        for scene in range(8):
            for take in range(3):
                events = files.some_events(100, 34, 34, seed=100 * scene + take)
                write_events(folder / name / f"scene{scene}_{take}.dat", recording(*events, where=""))
    task = load_task("events", root=folder, groups=r"scene(\d+)", test_fraction=0.25, val_fraction=0.25, **OPTIONS)
    # A scene has six recordings, three of each class; their first events tell them.
    counts = [task.rows(name) for name in ("train", "val", "test")]
    assert all(count and count % 6 == 0 for count in counts) and sum(counts) == 48


def test_folders_with_and_without_splits(tmp_path):
    for split in ("train", "test"):
        for name in ("cars", "background"):
            (tmp_path / "a" / split / name).mkdir(parents=True)
            for i in range(10):
                files.dat(tmp_path / "a" / split / name / f"{i}.dat", files.some_events(seed=i), None)
    (tmp_path / "a" / "train" / "cars" / "notes.txt").write_text("x")
    task = load_task("events", root=tmp_path / "a", sensor=(120, 100), val_fraction=0.2, crop_ms=100, bins=10)
    assert task.class_names == ("background", "cars") and task.rows("test") == 20 and task.rows("val") == 4
    assert task.facts["input_shape"] == (10, 2, 100, 120)
    assert any("1 files .txt" in note for note in task.notes)
    task = load_task("events", root=tmp_path / "a" / "train", sensor=(60, 100), val_fraction=0.25)
    assert task.rows("test") == 4
    assert any("outside of the sensor" in note and "is the sensor right?" in note for note in task.notes)
    broken = tmp_path / "a" / "train" / "cars" / "3.dat"
    broken.write_bytes(b"% Version 9\n\x0c\x08")
    with pytest.raises(UserError, match=r"3\.dat: version 9.*skip_broken"):
        load_task("events", root=tmp_path / "a")
    task = load_task("events", root=tmp_path / "a", skip_broken=True, val_fraction=0.25)
    assert task.rows("train") + task.rows("val") == 19 and any("1 files left out" in note for note in task.notes)
    (tmp_path / "a" / "test").rename(tmp_path / "a" / "other")
    with pytest.raises(UserError, match="splits or classes"):
        load_task("events", root=tmp_path / "a")


def test_empty_and_short_recordings_are_said(tmp_path):
    offsets = np.arange(61) * 100
    root = archive(tmp_path / "a.npz", offsets=np.where(offsets == 100, 0, offsets))  # the first one is empty
    task = load_task("events", root=root, crop_ms=60, bins=4)
    assert any("1 recordings are empty" in note for note in task.notes)
    assert any("recordings are shorter than a crop of 60 ms" in note for note in task.notes)
    offsets[1:5] = 0
    with pytest.raises(UserError, match="4 of 60 recordings are empty, more than 5%"):
        load_task("events", root=archive(tmp_path / "b.npz", offsets=offsets), **OPTIONS)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bins": 0}, r"data\.bins = 0"),
        ({"protocol": "carsnn", "steps": 0}, r"data\.steps = 0"),
        ({"steps": 5}, "with protocol sequence the bins are the time steps"),
        ({"protocol": "carsn"}, "did you mean 'carsnn'"),
        ({"loss": "mae"}, "data.loss = mae"),
        ({"crops": 0}, r"data\.crops = 0"),
        ({"crop_ms": 0}, r"data\.crop_ms = 0"),
        ({"crop_ms": 0.001, "bins": 3}, "a bin must be whole microseconds"),
        ({"crop_ms": 1, "bins": 3}, "a bin must be whole microseconds"),
        ({"window": 35}, "not on a sensor of 34x34"),
        ({"unit": "ns"}, "data.unit = ns"),
        ({"test_fraction": 1.5}, r"data\.test_fraction = 1\.5"),
        ({"groups": "x"}, "an array 'groups' says it"),
        ({"root": None}, "needs data.root"),
        ({"root": "/no/such"}, "it does not exist"),
    ],
)
def test_options_that_cannot_be(tmp_path, options, words):
    given = {"root": archive(tmp_path / "a.npz"), **options}
    with pytest.raises(UserError, match=words) as error:
        load_task("events", **given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"labels": np.zeros(59, int)}, "offsets must be 60 numbers"),
        ({"labels": np.zeros(60)}, "labels must be one whole number"),
        ({"labels": np.full(60, 900)}, "a label is 900"),
        ({"offsets": np.arange(61)[::-1]}, "that rise from 0"),
        ({"split": np.full(60, 7)}, "split 7"),
        ({"split": np.zeros(3)}, "split must be one value a recording"),
        ({"class_names": np.array(["a"])}, "there are 1 class names"),
    ],
)
def test_archives_that_do_not_fit(tmp_path, arrays, words):
    with pytest.raises(UserError, match=words):
        load_task("events", root=archive(tmp_path / "a.npz", **arrays), **OPTIONS)


def test_show(tmp_path, capsys):
    write_events(tmp_path / "a.bin", recording(*files.some_events(500, 34, 34), where=""))
    t, x, y, p = files.some_events(500, 34, 34)
    assert main(["events", "show", str(tmp_path / "a.bin"), "--format", "json", "-o", str(tmp_path / "a.png")]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["events"] == 500 and facts["sensor"] == [34, 34] and facts["on_share"] == p.mean()
    assert facts["seconds"] == pytest.approx((t[-1] - t[0]) / 1e6) and facts["rate"] == 500 / facts["seconds"]
    from PIL import Image

    pixels = np.asarray(Image.open(tmp_path / "a.png"))
    on = np.zeros((34, 34), int)
    np.add.at(on, (y, x), p)
    assert ((pixels[..., 0] > 0) == (on > 0)).all()
    (tmp_path / "b.dat").write_bytes(b"% Version 9\n\x0c\x08")
    assert main(["events", "show", str(tmp_path), "--sensor", "20", "34"]) == 0
    out = capsys.readouterr().out
    assert f"{(x >= 20).sum():,} events outside of the sensor" in out and "version 9" in out
    assert main(["events", "show", str(tmp_path / "b.dat")]) == 2
    assert "version 9" in capsys.readouterr().err
    assert main(["events", "show", str(archive(tmp_path / "c.npz")), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["classes"] == {"0": 20, "1": 20, "2": 20}
