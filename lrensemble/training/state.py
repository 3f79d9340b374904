"""``state.pt``: where a run was, to go on from. Nothing but a whole one of this very run is taken."""

from __future__ import annotations

import hashlib
import io
import pickle
import warnings
import zipfile
from typing import IO

import torch

from lrensemble.errors import MachineError, UserError
from lrensemble.opening import clear_read_errors, open_regular
from lrensemble.pool import Member
from lrensemble.pool.files import write_atomic
from lrensemble.training.loop import State

STATE = "state.pt"
_MARK = b"\nsha256 "  # after torch's archive, whose readers look for its end from behind
_SIZE = len(_MARK) + 64
_PIECE = 1 << 20


def write_state(member: Member, state: State) -> None:
    """torch's archive, and after it a hash of the member's id and the archive."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getbuffer()
    digest = hashlib.sha256(member.id.encode())
    digest.update(data)

    def write(file: IO[bytes]) -> None:
        file.write(data)
        file.write(_MARK + digest.hexdigest().encode())

    write_atomic(member.path / STATE, write)


def read_state(member: Member, device: str) -> State | None:
    """The state of a member's run; None where there is none, or with a warning none of use.

    It only saves time: without it the member starts again.
    """
    path = member.path / STATE
    if not path.exists():
        return None
    try:
        with open_regular(path) as file, clear_read_errors(path):
            if _is_whole(file, member.id):
                state = torch.load(file, map_location=device, weights_only=True)
                if isinstance(state, dict) and isinstance(state.get("epoch"), int):
                    return state
    except MachineError:  # it may be whole: nothing is trained again because of a busy machine
        raise
    except (UserError, RuntimeError, EOFError, ValueError, LookupError, pickle.UnpicklingError, zipfile.BadZipFile):
        pass
    warnings.warn(f"{path} is damaged or of another run: member {member.id} starts again", stacklevel=2)
    return None


def _is_whole(file: IO[bytes], member_id: str) -> bool:
    """Whether it is as it was written; one of an older version, without a hash, by the checksums of its archive.

    The file is at its start afterwards.
    """
    size = file.seek(0, io.SEEK_END) - _SIZE
    digest = hashlib.sha256(member_id.encode())
    file.seek(max(0, size))
    mark = file.read()
    file.seek(0)
    if not mark.startswith(_MARK):
        with zipfile.ZipFile(file) as archive:
            whole = archive.testzip() is None
        file.seek(0)
        return whole
    while size > 0:
        piece = file.read(min(_PIECE, size))
        digest.update(piece)
        size -= len(piece)
    file.seek(0)
    return mark == _MARK + digest.hexdigest().encode()
