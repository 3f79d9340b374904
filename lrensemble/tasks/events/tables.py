"""Events as arrays: .npy and .npz, and HDF5 (package h5py)."""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lrensemble.array import Array
from lrensemble.errors import UserError, did_you_mean
from lrensemble.installing import needed
from lrensemble.opening import check_array, check_packed, clear_read_errors
from lrensemble.tasks.events.recording import Recording, Sensor, check_memory, recording
from lrensemble.tasks.sources import read_npz

NAMES = {
    "t": ("t", "ts", "time", "times", "timestamp", "timestamps"),
    "x": ("x", "xs"),
    "y": ("y", "ys"),
    "p": ("p", "ps", "pol", "polarity", "polarities", "on"),
}
UNITS = {"us": 1, "ms": 1_000, "s": 1_000_000}  # microseconds
WRONG = (ValueError, EOFError, NotImplementedError, RuntimeError, LookupError)


def read_arrays(file: io.BufferedReader, path: Path, sensor: Sensor | None, unit: str | None = None) -> Recording:
    """One recording in a .npy with fields, or in a .npz of four arrays (or of one with fields)."""
    if path.suffix.lower() == ".npz":
        arrays: Mapping[str, Array] = read_npz(path)
        if "offsets" in arrays:
            raise UserError(f"{path}: a data set of {len(arrays['offsets']) - 1} recordings, not one")
    else:
        try:
            with clear_read_errors(path):
                check_array(file, os.fstat(file.fileno()).st_size)
                arrays = {"": np.lib.format.read_array(file, allow_pickle=False)}
        except WRONG as error:
            raise UserError(f"{path}: not a readable .npy array ({error})") from None
    return from_arrays(arrays, path, sensor, unit)


def from_arrays(
    arrays: Mapping[str, Any], where: object, sensor: Sensor | None = None, unit: str | None = None
) -> Recording:
    """A recording of t, x, y and p under any of their usual names, as arrays or as fields of one."""
    columns = event_columns(arrays, where)
    check_memory(where, max(math.prod(column.shape) for column in columns.values()))
    t = microseconds(np.asarray(columns["t"]), where, unit)
    return recording(t, columns["x"], columns["y"], columns["p"], where=where, sensor=sensor or _declared(arrays))


def event_columns(arrays: Mapping[str, Any], where: object) -> dict[str, Any]:
    """t, x, y and p, by these names."""
    with_fields = [a for a in arrays.values() if a.dtype.names]
    if len(with_fields) == 1:
        arrays = {name: with_fields[0][name] for name in with_fields[0].dtype.names}
    columns = {}
    for key, names in NAMES.items():
        present = [name for name in arrays if name.lower() in names]
        if len(present) != 1:
            some = ", ".join(name or "an array without fields" for name in arrays) or "nothing"
            raise UserError(f"{where}: {' and '.join(present)} could all be {key}" if present else
                            f"{where}: no {key} (under the names {', '.join(names)}): there is {some}")  # fmt: skip
        columns[key] = arrays[present[0]]
    return columns


def microseconds(t: Array, where: object, unit: str | None) -> Array:
    """Times in microseconds; whole ones are, others need a unit that is declared."""
    if unit not in (None, *UNITS):
        raise UserError(f"data.unit = {unit}: {did_you_mean(unit, UNITS)}")
    if t.dtype.kind == "f" and not np.isfinite(t).all():
        raise UserError(f"{where}: t holds numbers that are not finite")
    if unit is None and t.dtype.kind == "f" and (t != np.floor(t)).any():
        raise UserError(f"{where}: t holds fractions (up to {t.max():g}): data.unit=s or data.unit=ms says what "
                        "they are (--unit)")  # fmt: skip
    if unit in (None, "us") or not len(t):
        return t
    if abs(float(t[0])) + abs(float(t[-1])) > 1e18 / UNITS[unit]:
        raise UserError(f"{where}: t goes to {t[-1]:g} {unit}, which no recording lasts: is the unit right?")
    return np.rint(t.astype(np.float64) * UNITS[unit]).astype(np.int64)


def _declared(arrays: Mapping[str, Any]) -> Sensor | None:
    """An array ``sensor`` of width and height beside the events."""
    size = arrays.get("sensor")
    return None if size is None or size.shape != (2,) or size.dtype.kind not in "iu" else (int(size[0]), int(size[1]))


def read_hdf5(file: io.BufferedReader, path: Path, sensor: Sensor | None, unit: str | None = None) -> Recording:
    """The events of an HDF5 file: four data sets of a group (``events/t``, ...), or one with fields (``CD/events``)."""
    with needed(f"{path}: HDF5 needs the package h5py", "events"):
        import h5py
    try:
        with h5py.File(file, "r") as archive:
            groups = [archive, *(group for group in _own(archive).values() if isinstance(group, h5py.Group))]
            sets = [found for group in groups if (found := _events_in(_own(group), h5py.Dataset))]
            if not sets:
                raise UserError(f"{path}: no events in it: t, x, y, p in one group, or one data set with these fields")
            columns = sets[0].values()
            check_packed(path, sum(one.size * one.dtype.itemsize for one in columns), path.stat().st_size)
            check_memory(path, max(one.size for one in columns))
            arrays = {name: one[()] for name, one in sets[0].items()}
    except (OSError, *WRONG) as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        codec = (
            ": it is compressed by a plugin that is not installed (Prophesee's ECF?)"
            if re.search("filter|plugin", text)
            else ""
        )
        raise UserError(f"{path}: not a readable HDF5 file ({text}){codec}") from None
    return from_arrays(arrays, path, sensor, unit)


def _own(group: Any) -> dict[str, Any]:
    """What lies in a group itself: a link may lead to any other file."""
    names = [name for name in group if type(group.get(name, getlink=True)).__name__ == "HardLink"]
    return {name: group[name] for name in names}


def _events_in(group: Mapping[str, Any], kind: Any) -> dict[str, Any] | None:
    """The data sets of a group that are events, and are in this file."""
    sets = {name: value for name, value in group.items() if isinstance(value, kind) and value.shape}
    sets = {name: value for name, value in sets.items() if value.external is None and not value.is_virtual}
    with_fields = {name: value for name, value in sets.items() if value.dtype.names}
    names = {name.lower() for name in sets}
    if len(with_fields) == 1:
        return with_fields
    return sets if all(names & set(synonyms) for synonyms in NAMES.values()) else None
