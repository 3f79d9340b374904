"""Sets of recordings: an archive of many, folders of classes, or simulated ones; and their splits."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from lrensemble.array import Array
from lrensemble.errors import MachineError, UserError
from lrensemble.tasks.dataset import cut_rows
from lrensemble.tasks.events.formats import READERS, read_events
from lrensemble.tasks.events.recording import Recording, Sensor, check_memory, check_sensor, recording
from lrensemble.tasks.events.tables import event_columns, microseconds
from lrensemble.tasks.groups import as_groups, check_groups, groups_of_paths
from lrensemble.tasks.labels import few
from lrensemble.tasks.sources import read_npz
from lrensemble.tasks.splits import find_splits

MOST_EMPTY = 0.05  # share of recordings without events above which a set is refused
NUMBERS = {0: "train", 1: "test", 2: "val"}  # of an array `split`


@dataclass(frozen=True)
class EventSet:
    """Recordings with their classes.

    Attributes
    ----------
    labels : (N,) int64
    splits : (N,) of ``train``, ``val`` and ``test``, None: not divided yet
    groups : (N,), recordings of one group (a subject, a scene) stay together; None: each for itself
    notes : what the user should know
    """

    recordings: list[Recording]
    labels: Array
    class_names: tuple[str, ...]
    splits: Array | None = None
    groups: Array | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def sensor(self) -> Sensor:
        """The one that all have, or as much as their events need together."""
        sizes = np.array([one.size for one in self.recordings])
        width, height = sizes.max(0)
        return int(width), int(height)


def read_set(
    root: Path,
    *,
    sensor: Sensor | int | None = None,
    unit: str | None = None,
    groups: str | None = None,
    skip_broken: bool = False,
) -> EventSet:
    """An .npz with t, x, y, p, offsets and labels, or ROOT/train/CLASS/FILE and ROOT/test/..., or ROOT/CLASS/FILE.

    Parameters
    ----------
    sensor, unit : as for `read_events`
    groups : regular expression; what it finds in CLASS/FILE, or its first group in brackets, is the file's group
    skip_broken : leave out files that cannot be read

    Raises
    ------
    UserError
        Nothing there, damaged files, classes or splits that do not fit, too many empty recordings.
    """
    if root.is_dir():
        found = _folder(root, sensor, unit, groups, skip_broken)
    elif root.suffix.lower() == ".npz":
        if groups is not None:
            raise UserError(f"data.groups = {groups!r}: it is of files; in {root} an array 'groups' says it")
        found = _archive(root, sensor, unit)
    else:
        what = "a folder of recordings or an .npz is needed" if root.exists() else "it does not exist"
        raise UserError(f"data.root = {root}: {what}")
    empty = sum(not len(one) for one in found.recordings)
    if empty > MOST_EMPTY * len(found.recordings):
        raise UserError(f"{root}: {empty:,} of {len(found.recordings):,} recordings are empty, more than "
                        f"{MOST_EMPTY:.0%}: is the sensor or the format another?")  # fmt: skip
    notes = [f"{root}: {empty:,} recordings are empty: rows of zeros"] if empty else []
    return replace(found, notes=[*found.notes, *notes])


def _archive(path: Path, sensor: Sensor | int | None, unit: str | None) -> EventSet:
    arrays = read_npz(path)
    for key in ("offsets", "labels"):
        if key not in arrays:
            raise UserError(f"{path}: no array {key!r}: a set of recordings has t, x, y, p, offsets and labels")
    columns = event_columns({k: a for k, a in arrays.items() if k not in ("offsets", "labels")}, path)
    labels, offsets = arrays["labels"], arrays["offsets"]
    rows, events = len(labels), len(columns["t"])
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not rows or labels.min() < 0:
        raise UserError(f"{path}: labels must be one whole number from 0 a recording, not {labels.dtype} of "
                        f"{labels.shape}")  # fmt: skip
    ends = offsets.astype(np.int64) if offsets.dtype.kind in "iu" else np.zeros(0, np.int64)
    if ends.shape != (rows + 1,) or ends[0] != 0 or ends[-1] != events or (np.diff(ends) < 0).any():
        raise UserError(f"{path}: offsets must be {rows + 1:,} numbers that rise from 0 to {events:,}, the events")
    check_memory(path, events)
    t = microseconds(np.asarray(columns["t"]), path, unit)
    size = arrays.get("sensor", sensor) if sensor is None else sensor
    size = None if size is None else check_sensor(size.tolist() if isinstance(size, np.ndarray) else size, path)
    recordings = [
        recording(t[a:b], columns["x"][a:b], columns["y"][a:b], columns["p"][a:b],
                  where=f"{path}, recording {i}", sensor=size)
        for i, (a, b) in enumerate(itertools.pairwise(ends))
    ]  # fmt: skip
    names = tuple(map(str, arrays["class_names"])) if "class_names" in arrays else ()
    highest = int(labels.max())
    if names and highest >= len(names):
        raise UserError(f"{path}: a label is {highest}, but there are {len(names)} class names")
    if highest >= rows:
        raise UserError(f"{path}: a label is {highest}, but there are {rows} recordings: labels must be 0, 1, 2, ...")
    groups = as_groups(arrays["groups"], str(path)) if "groups" in arrays else None
    for key, values in (("split", arrays.get("split")), ("groups", groups)):
        if values is not None and values.shape != (rows,):
            raise UserError(f"{path}: {key} must be one value a recording, not of shape {values.shape}")
    splits = _named_splits(arrays["split"], path) if "split" in arrays else None
    names = names or tuple(map(str, range(highest + 1)))
    return EventSet(recordings, labels.astype(np.int64), names, splits, groups)


def _named_splits(values: Array, path: Path) -> Array:
    names = [NUMBERS.get(value, str(value)) for value in values.tolist()]
    if unknown := sorted(set(names) - set(NUMBERS.values())):
        raise UserError(f"{path}: split {few(unknown)}: 0 or train, 1 or test, 2 or val are known")
    return np.array(names)


def _folder(
    root: Path, sensor: Sensor | int | None, unit: str | None, groups: str | None, skip_broken: bool
) -> EventSet:
    tops = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    splits, rest = find_splits(tops, str(root))
    divided = "train" in splits and "test" in splits
    if splits and not divided:
        raise UserError(f"{root}: a folder {next(iter(splits.values()))!r}, but not train and test: are its folders "
                        "splits or classes?")  # fmt: skip
    parts = {split: root / name for split, name in splits.items()} if divided else {"": root}
    classes = sorted({path.name for part in parts.values() for path in part.iterdir()
                      if path.is_dir() and not path.name.startswith(".")})  # fmt: skip
    recordings, labels, of_split, paths = [], [], [], []
    others, broken = Counter[str](), list[str]()
    events = 0
    for split, part in parts.items():
        for label, name in enumerate(classes):
            for path in sorted((part / name).rglob("*")):
                if path.suffix.lower() not in READERS:
                    others[path.suffix or "without suffix"] += path.is_file()
                    continue
                try:
                    one = read_events(path, sensor, unit)
                except MachineError:
                    raise
                except UserError as error:
                    if not skip_broken:
                        raise UserError(f"{error} (data.skip_broken=true leaves such files out)") from None
                    broken.append(str(path.relative_to(root)))
                    continue
                events += len(one)
                check_memory(root, events)
                recordings.append(one)
                labels.append(label)
                of_split.append(split)
                paths.append(str(path.relative_to(part)))
    if not recordings:
        raise UserError(f"{root}: no recordings ({', '.join(READERS)}) in CLASS/FILE or train/CLASS/FILE")
    notes = [f"{root}: not read: {few(rest)}"] if divided and rest else []
    notes += [f"{root}: not read: {n:,} files {kind}" for kind, n in sorted(others.items()) if n]
    notes += [f"{root}: {len(broken)} files left out (skip_broken): {few(broken)}"] if broken else []
    together = None if groups is None else groups_of_paths(paths, groups, str(root))
    in_splits = np.array(of_split) if divided else None
    return EventSet(recordings, np.array(labels), tuple(classes), in_splits, together, notes)


def divided(found: EventSet, test_fraction: float | None, val_fraction: float | None, seed: int) -> dict[str, Array]:
    """Rows of train, val and test, stratified by class; a group is on one side.

    Parameters
    ----------
    test_fraction : share of all recordings that are tested on, in place of a test split that the set has; default: that
        one, or 0.2
    val_fraction : share of the others for validation; default: the set's own validation split, or 0.1
    """
    own = found.splits
    rows = np.arange(len(found.labels))
    if own is not None and test_fraction is None:
        rest, test = rows[own != "test"], rows[own == "test"]
    else:
        rest, test = _cut(found, rows, 0.2 if test_fraction is None else test_fraction, seed, "data.test_fraction")
    if own is not None and test_fraction is None and val_fraction is None and (own == "val").any():
        train, val = rest[own[rest] == "train"], rest[own[rest] == "val"]
    else:
        train, val = _cut(found, rest, 0.1 if val_fraction is None else val_fraction, seed, "data.val_fraction")
    parts = {"train": train, "val": val, "test": test}
    for name, part in parts.items():
        if not len(part):
            raise UserError(f"the {name} split has no recordings")
    if found.groups is not None:
        check_groups({name: found.groups[part] for name, part in parts.items()})
    return parts


def _cut(found: EventSet, rows: Array, fraction: float, seed: int, what: str) -> tuple[Array, Array]:
    if not 0 < fraction < 1:
        raise UserError(f"{what} = {fraction} is not possible: a share between 0 and 1")
    groups = None if found.groups is None else found.groups[rows]
    rest, off = cut_rows(found.labels[rows], fraction, seed, what, groups)
    return rows[rest], rows[off]
