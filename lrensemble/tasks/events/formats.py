"""Reading one recording, whatever its format."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from lrensemble.errors import UserError, did_you_mean
from lrensemble.opening import open_regular
from lrensemble.tasks.events.aedat import read_aedat, read_aedat4
from lrensemble.tasks.events.atis import read_bin, write_bin
from lrensemble.tasks.events.prophesee import read_dat, read_raw, write_dat
from lrensemble.tasks.events.recording import Recording, Sensor, check_sensor
from lrensemble.tasks.events.tables import UNITS, read_arrays, read_hdf5

READERS: dict[str, Callable[..., Recording]] = {
    ".dat": read_dat,
    ".bin": read_bin,
    ".bs2": read_bin,
    ".raw": read_raw,
    ".aedat": read_aedat,
    ".aedat4": read_aedat4,
    ".npy": read_arrays,
    ".npz": read_arrays,
    ".h5": read_hdf5,
    ".hdf5": read_hdf5,
}
WITH_UNIT = (read_arrays, read_hdf5)
WRITERS: dict[str, Callable[[Path, Recording], None]] = {".dat": write_dat, ".bin": write_bin}


def read_events(path: Path | str, sensor: Sensor | int | None = None, unit: str | None = None) -> Recording:
    """Read one recording.

    Parameters
    ----------
    path : Path
        Its suffix says the format, see `READERS`.
    sensor : (width, height) or int, optional
        Events outside of it are dropped and counted. Default: what the file says, else whatever the events need.
    unit : str, optional
        Of the times of arrays: ``us`` (the default where they are whole), ``ms`` or ``s``.

    Raises
    ------
    UserError
        No such format, a file that is damaged or holds no events, a sensor or unit that cannot be.
    """
    path = Path(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path}: {path.suffix or 'no suffix'} is no format of events: "
                        f"{did_you_mean(path.suffix, READERS)}")  # fmt: skip
    if unit is not None and unit not in UNITS:
        raise UserError(f"unit {unit}: {did_you_mean(unit, UNITS)}")
    size = None if sensor is None else check_sensor(sensor, path)
    with open_regular(path) as file:
        return (functools.partial(reader, unit=unit) if reader in WITH_UNIT else reader)(file, path, size)


def write_events(path: Path | str, events: Recording) -> None:
    """Write one recording as .dat (version 2) or .bin; `UserError` where the format cannot hold it."""
    path = Path(path)
    if path.suffix.lower() not in WRITERS:
        raise UserError(f"{path}: events are written as {' or '.join(WRITERS)}")
    WRITERS[path.suffix.lower()](path, events)
