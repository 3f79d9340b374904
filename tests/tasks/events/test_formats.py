"""Readers of event files against files written bit by bit, other packages, and what a stranger may send."""

from __future__ import annotations

import os
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrensemble import UserError
from lrensemble.tasks.events import READERS, read_events, write_events
from lrensemble.tasks.events.recording import recording
from tests.tasks.events import files
from tests.tasks.events.files import is_read, some_events

EVENTS = some_events()


@pytest.mark.parametrize(("version", "header"), [(2, True), (1, True), (None, True), (1, False)])
def test_dat(tmp_path, version, header):
    read = read_events(files.dat(tmp_path / "a.dat", EVENTS, version, header))
    assert is_read(read, EVENTS) and not read.counts and read.sensor is None


def test_dat_of_a_header_with_a_sensor_and_type_0(tmp_path):
    path = files.dat(tmp_path / "a.dat", EVENTS, kind=0)
    path.write_bytes(b"% Height 240\n% Width 304\n" + path.read_bytes())
    assert read_events(path).sensor == (304, 240)
    assert read_events(path, sensor=(120, 100)).sensor == (120, 100)


@pytest.mark.parametrize(("suffix", "write", "period"), [(".dat", files.dat, 1 << 32), (".bin", files.atis, 1 << 23)])
def test_clocks_that_begin_anew(tmp_path, suffix, write, period):
    t, *rest = EVENTS
    late = (t + period - int(t[100]), *rest)  # over the end of the clock in the middle
    read = read_events(write(tmp_path / f"a{suffix}", late))
    assert is_read(read, late) and read.counts == {"wraps": 1}


def test_overflow_markers_of_bin(tmp_path):
    read = read_events(files.atis(tmp_path / "a.bs2", EVENTS, markers=True))
    assert is_read(read, EVENTS) and read.counts == {"overflow": int(EVENTS[0][-1]) >> 13}


def test_evt2(tmp_path):
    read = read_events(files.evt2(tmp_path / "a.raw", EVENTS))
    assert is_read(read, EVENTS) and read.sensor == (120, 100)
    t, *rest = EVENTS
    late = (t + (1 << 34) - int(t[100]), *rest)
    read = read_events(files.evt2(tmp_path / "a.raw", late))
    assert is_read(read, late) and read.counts == {"wraps": 1}


def test_events_before_the_first_time_word(tmp_path):
    path = files.evt2(tmp_path / "a.raw", EVENTS, header=b"")
    words = path.read_bytes()
    path.write_bytes(b"% evt 2.0\n" + struct.pack("<2I", 1 << 28, 0) + words)
    read = read_events(path)
    assert is_read(read, EVENTS) and read.counts == {"untimed": 2}
    read = read_events(files.evt3(path, [3, 0x2005, 0x3001, 0x4007, 0x8000, 0x6009, 0x2006]))
    assert read.counts == {"untimed": 4} and is_read(read, ([9], [6], [3], [0]))


@pytest.mark.parametrize(("groups", "wraps"), [(2000, 0), (12000, 1)])
def test_evt3_as_the_package_evt3(tmp_path, groups, wraps):
    evt3 = pytest.importorskip("evt3")
    path = files.evt3(tmp_path / "a.raw", files.evt3_words(groups))
    theirs = evt3.decode_file(str(path))
    read = read_events(path)
    assert is_read(read, (theirs.timestamp, theirs.x, theirs.y, theirs.polarity))
    assert read.sensor == (1280, 720) and read.counts.get("wraps", 0) == wraps and len(read) > 10 * groups


def test_the_low_time_of_evt3_begins_anew_with_another_high_one(tmp_path):
    words = [0x8001, 0x6005, 3, 0x2001, 0x8001, 0x2002, 0x8002, 0x2003]
    assert read_events(files.evt3(tmp_path / "a.raw", words)).t.tolist() == [4096 + 5, 4096 + 5, 8192]


@pytest.mark.parametrize("davis", [False, True])
def test_aedat2(tmp_path, davis):
    read = read_events(files.aedat2(tmp_path / "a.aedat", EVENTS, davis))
    assert is_read(read, EVENTS) and read.sensor == ((346, 260) if davis else (128, 128))


def test_aedat3(tmp_path):
    read = read_events(files.aedat3(tmp_path / "a.aedat", EVENTS, overflow=2))
    t, *rest = EVENTS
    assert is_read(read, (t + (2 << 31), *rest)) and read.counts == {"invalid": 3} and read.sensor == (128, 128)


def test_aedat4(tmp_path):
    aedat = pytest.importorskip("aedat")
    t, *rest = EVENTS
    path = files.aedat4(tmp_path / "a.aedat4", (t + 1_700_000_000_000_000, *rest))
    theirs = np.concatenate([packet["events"] for packet in aedat.Decoder(path)])
    assert theirs["t"][0] == t[0] + 1_700_000_000_000_000 and np.array_equal(theirs["x"], rest[0])
    read = read_events(path)
    assert is_read(read, (t - t[0], *rest)) and read.sensor == (346, 260)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="cut off or damaged"):
        read_events(path)


def test_arrays(tmp_path):
    t, x, y, p = EVENTS
    fields = np.zeros(len(t), [("p", "?"), ("y", "<i2"), ("x", "<i2"), ("timestamp", "<i8")])
    fields["timestamp"], fields["x"], fields["y"], fields["p"] = EVENTS
    np.save(tmp_path / "a.npy", fields)
    np.savez(tmp_path / "a.npz", x=x, Polarity=np.where(p, 1, -1), ts=t.astype(float), y=y, sensor=[120, 100])
    np.savez(tmp_path / "s.npz", x=x, y=y, p=p.astype(float), t=t / 1e6)
    for path, unit in (("a.npy", None), ("a.npz", None), ("s.npz", "s")):
        read = read_events(tmp_path / path, unit=unit)
        assert is_read(read, EVENTS) and read.p.dtype == np.uint8 and read.t.dtype == np.int64
    with pytest.raises(UserError, match=r"t holds fractions .* data\.unit=s or data\.unit=ms"):
        read_events(tmp_path / "s.npz")


def test_hdf5(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, values in zip("txyp", EVENTS, strict=True):
            file.create_dataset(f"events/{name}", data=values, compression="gzip")
    fields = np.zeros(len(EVENTS[0]), [("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")])
    fields["t"], fields["x"], fields["y"], fields["p"] = EVENTS
    with h5py.File(tmp_path / "b.hdf5", "w") as file:
        file.create_dataset("CD/events", data=fields)
        file.create_dataset("CD/indexes", data=np.zeros(3))
    for name in ("a.h5", "b.hdf5"):
        assert is_read(read_events(tmp_path / name), EVENTS)
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file.create_dataset("other", data=np.zeros(3))
        # Prophesee's codec, which is a plugin: 0x8ECF
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((10,))
        plist.set_filter(0x8ECF, h5py.h5z.FLAG_OPTIONAL)
        h5py.h5d.create(file.id, b"events", h5py.h5t.py_create(fields.dtype), h5py.h5s.create_simple((10,)), plist)
        file["events"].id.write_direct_chunk((0,), b"abc")
    with pytest.raises(UserError, match="a plugin that is not installed"):
        read_events(tmp_path / "c.h5")
    with h5py.File(tmp_path / "d.h5", "w") as file:  # a stranger's file that leads to others
        file["events"] = h5py.ExternalLink(str(tmp_path / "a.h5"), "events")
        for name in "txyp":
            file.create_dataset(f"raw/{name}", (10,), "<u8", external=[(str(tmp_path / "b.hdf5"), 0, 80)])
    with pytest.raises(UserError, match="no events in it"):
        read_events(tmp_path / "d.h5")


@pytest.mark.parametrize("suffix", [".dat", ".bin"])
@given(
    st.lists(st.tuples(st.integers(0, 4_000_000), st.integers(0, 255), st.integers(0, 239), st.integers(0, 1))),
    st.integers(0, 8_000_000),
)
@settings(max_examples=40)
def test_what_is_written_is_read(tmp_path_factory, suffix, events, start):
    pauses, x, y, p = np.array(events, np.int64).reshape(-1, 4).T
    events = (np.cumsum(pauses) + start - (pauses[0] if len(pauses) else 0), x, y, p)
    path = tmp_path_factory.mktemp("round") / f"a{suffix}"
    write_events(path, recording(*events, where="a"))
    assert is_read(read_events(path), events)


def test_what_a_format_cannot_hold_is_not_written(tmp_path):
    for events, suffix, words in (
        (([0], [0], [240], [1]), ".bin", "no y of 240"),
        (([0], [256], [0], [1]), ".bin", "up to 255"),
        (([0, 5_000_000], [0, 0], [0, 0], [1, 1]), ".bin", "pauses up to 4.19 s"),
        (([0], [20_000], [0], [1]), ".dat", "pixels below 16,384"),
        (([1 << 33], [0], [0], [1]), ".dat", "begins within the first 72 minutes"),
        (([0], [0], [0], [1]), ".raw", "written as .dat or .bin"),
    ):
        with pytest.raises(UserError, match=words):
            write_events(tmp_path / f"a{suffix}", recording(*map(np.array, events), where="a"))
    assert not list(tmp_path.iterdir())


def test_events_outside_of_the_sensor_and_out_of_order(tmp_path):
    t, x, y, p = EVENTS
    order = np.random.default_rng(0).permutation(len(t))
    np.savez(tmp_path / "a.npz", t=t[order], x=x[order], y=y[order], p=p[order])
    read = read_events(tmp_path / "a.npz", sensor=100)
    inside = x < 100
    assert read.counts == {"outside": int((~inside).sum()), "unsorted": 1} and read.sensor == (100, 100)
    assert (np.diff(read.t) >= 0).all() and sorted(read.t) == sorted(t[inside])
    path = files.dat(tmp_path / "a.dat", EVENTS)
    path.write_bytes(path.read_bytes()[:-3])
    assert read_events(path).counts == {"cut_bytes": 5} and len(read_events(path)) == len(t) - 1


def test_empty_files(tmp_path):
    for path in (files.dat(tmp_path / "a.dat", some_events(0)), files.atis(tmp_path / "a.bin", some_events(0)),
                 files.evt3(tmp_path / "a.raw", [])):  # fmt: skip
        assert len(read_events(path)) == 0 and read_events(path).duration == 0


ARRAYS = dict(zip("txyp", EVENTS, strict=True))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.dat", b"% Version 2\n\x0e\x08", "trigger events"),
        ("a.dat", b"% Version 2\n\x07\x08", "events of type 7 and 8 bytes"),
        ("a.dat", b"% Version 2\n", "cut off or damaged"),
        ("a.dat", b"% Version 3\n\x0c\x08", "version 3 of .dat: 1 and 2 are known"),
        ("a.dat", b"%" * 2_000_000, "a header of more than"),
        ("a.raw", b"% evt 2.1\n% end\n", "encoded as EVT 2.1"),
        ("a.raw", b"% date\n", "names no encoding"),
        ("a.aedat", b"#!AER-DAT1.0\r\n", "AEDAT 1.0: 2.0, 3.1 and 4.0"),
        ("a.aedat", b"hello", "does not begin with"),
        ("a.aedat", b"#!AER-DAT3.1\r\n#!END-HEADER\r\n" + b"\xff" * 60, "damaged .*at byte 0"),
        ("a.aedat", b"#!AER-DAT3.1\r\n#!END-HEADER\r\n", "no packets of polarity events"),
        ("a.npz", {**ARRAYS, "p": EVENTS[3] + 1}, r"polarities from 1 to 2 \(event 0\)|polarities from 1 to 2"),
        ("a.npz", {**ARRAYS, "p": np.where(EVENTS[3], 1, -2)}, "-1 and 1 only"),
        ("a.npz", {**ARRAYS, "x": EVENTS[1] + 0.5}, "x holds numbers that are not whole"),
        ("a.npz", {**ARRAYS, "x": EVENTS[1] - 1000}, "no sensor has that pixel"),
        ("a.npz", {**ARRAYS, "x": EVENTS[1] + 20_000, "y": EVENTS[2] + 20_000}, "no sensor is so large"),
        ("a.npz", {**ARRAYS, "sensor": np.array([30_000, 30_000])}, "a sensor of"),
        ("a.npz", {**ARRAYS, "t": EVENTS[0] + 2**61}, "which is too large"),
        ("a.npz", {**ARRAYS, "x": EVENTS[1][1:]}, "arrays of one length"),
        ("a.npz", {**ARRAYS, "t": np.where(EVENTS[0] > 9, np.nan, 1.0)}, "t holds numbers that are not finite"),
        ("a.npz", {**ARRAYS, "time": EVENTS[0]}, "t and time could all be t"),
        ("a.npz", {"t": EVENTS[0], "x": EVENTS[1], "y": EVENTS[2]}, "no p .*: there is t, x, y"),
        ("a.npz", {**ARRAYS, "t": np.array([{}] * 200)}, "not a readable .npz"),
        ("a.npy", b"\x93NUMPY\x01\x00\x10\x00", "not a readable .npy"),
        ("a.mat", b"", "no format of events"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(tmp_path, name, content, words):
    if isinstance(content, dict):
        np.savez(tmp_path / name, **content)
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words) as error:
        read_events(tmp_path / name)
    assert "\n" not in str(error.value) and str(tmp_path / name) in str(error.value)


def valid_files(folder):
    """One whole file of every format that can be written here."""
    t, x, y, p = EVENTS
    np.savez(folder / "a.npz", t=t, x=x, y=y, p=p)
    return [files.dat(folder / "a.dat", EVENTS), files.atis(folder / "a.bin", EVENTS), folder / "a.npz",
            files.evt2(folder / "b.raw", EVENTS), files.evt3(folder / "c.raw", files.evt3_words(50)),
            files.aedat2(folder / "a.aedat", EVENTS), files.aedat3(folder / "b.aedat", EVENTS)]  # fmt: skip


@pytest.mark.parametrize("number", range(7))
def test_damaged_files_are_read_or_one_line(tmp_path, number):
    """No traceback, whatever is cut off or changed."""
    path = valid_files(tmp_path)[number]
    whole = path.read_bytes()
    rng = np.random.default_rng(number)
    for _ in range(60):
        data = bytearray(whole[: rng.integers(0, len(whole))] if rng.random() < 0.3 else whole)
        for place in rng.integers(0, max(len(data), 1), rng.integers(0, 4)) if data else ():
            data[place] = rng.integers(0, 256)
        path.write_bytes(data)
        try:
            assert len(read_events(path)) >= 0
        except UserError as error:
            assert "\n" not in str(error)


def test_only_regular_files_are_opened(tmp_path):
    for suffix in READERS:
        os.mkfifo(tmp_path / f"a{suffix}")
        with pytest.raises(UserError, match="named pipe"):
            read_events(tmp_path / f"a{suffix}")
