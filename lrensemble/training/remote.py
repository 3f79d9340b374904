"""A job on another machine: in the pool where its folder is shared, else in a scratch pool whose members are sent back.

Nothing here knows what carries the requests and the answers.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import Timeout

from lrensemble.errors import UserError
from lrensemble.pool import Member, Record
from lrensemble.pool.files import write_bytes
from lrensemble.pool.lease import LeaseLost
from lrensemble.pool.links import POOL, delete
from lrensemble.pool.locks import FORCED
from lrensemble.pool.record import FINISHED, Strict
from lrensemble.pool.writing import environment
from lrensemble.training.member import Job
from lrensemble.training.state import STATE
from lrensemble.training.worker import answer

Files = dict[str, bytes]  # path inside a folder -> contents
KINDS = ("lrensemble", "torch")  # versions that must agree: results and files depend on them


class RemoteJob(Strict):
    """A job for another machine.

    Attributes
    ----------
    mark : name of a file in the pool, made for this training: who sees it sees the pool, not a copy of it
    versions : of the sender
    leases : whether its environment asks for leases: a pool is locked in one way alone
    """

    job: Job
    mark: str
    versions: dict[str, str]
    leases: bool = False


def versions() -> dict[str, str]:
    """Of this process, by the names in `KINDS`."""
    found = environment()
    return {name: str(found[name]) for name in KINDS}


@contextlib.contextmanager
def marked(pool: Path, name: str) -> Iterator[Callable[[], None]]:
    """The mark of `RemoteJob`, as long as the training takes; what is given makes it anew."""
    mark = functools.partial(write_bytes, pool / name, b"")
    mark()
    try:
        yield mark
    finally:
        delete(pool / name)


def files_of_all(pool: Path) -> Files:
    """What every scratch pool needs: the header and the labels."""
    return _read(pool, [pool / POOL, *(pool / "labels").glob("*.npy")])


def files_of(pool: Path, members: Sequence[Member]) -> Files:
    """What that of some planned members needs beside them: their records."""
    return _read(pool, [member.record_path for member in members])


def _read(folder: Path, paths: Iterable[Path]) -> Files:
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def train_remotely(request: str, *files: Mapping[str, bytes]) -> dict[str, Any]:
    """Do what a `RemoteJob` (JSON) asks for, in a scratch pool of these `files` where the pool is not seen.

    Returns
    -------
    dict
        What `worker.answer` gives; with ``host``, and with ``sent``, the members' files, where the pool is not seen.
    """
    host = socket.gethostname()
    asked = RemoteJob.model_validate_json(request)
    if asked.leases:
        os.environ.setdefault(FORCED, "1")
    mine = versions()
    if differ := [name for name in KINDS if mine[name] != asked.versions[name]]:
        what = " and ".join(f"{name} {mine[name]} instead of {asked.versions[name]}" for name in differ)
        return {"host": host, "user_error": f"worker {host} has {what}: install the same there"}
    if (asked.job.pool / asked.mark).exists():
        return {"host": host, **answer(asked.job)}
    with tempfile.TemporaryDirectory(prefix="lrensemble-") as folder:
        pool = Path(folder) / "pool"
        for name, data in ((name, data) for part in files for name, data in part.items()):
            path = pool / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        job = asked.job.model_copy(update={"pool": pool})
        answered = answer(job)
        ended = [member for member_id in job.members for member in job.all_of(member_id)]
        sent = {
            m.id: _read(m.path, [m.record_path, *(m.path / name for name in m.record.files)])
            for m in ended
            if m.record.status != "planned"
        }
        return {"host": host, **answered, "sent": sent}


def receive(job: Job, sent: Mapping[str, Files]) -> list[str]:
    """Write members that were sent into their pool, the record last; return the ids of those that others are at."""
    busy = []
    for member_id in job.members:
        for member in job.all_of(member_id):
            if member.id in sent:
                try:
                    with member.hold(wait=job.wait):
                        _write(member, sent[member.id])
                except (Timeout, LeaseLost):
                    busy.append(member_id)
    return busy


def _write(member: Member, files: Files) -> None:
    if Member(member.path).record.status in FINISHED:
        return
    record = Record.model_validate_json(files["record.json"])
    for name, info in record.files.items():
        path = member.path / name
        if path.parent not in (member.path, member.path / "predictions") or len(files[name]) != info.bytes:
            raise UserError(f"member {member.id} arrived damaged ({name}): run the same command again")
        write_bytes(path, files[name])
    write_bytes(member.record_path, files["record.json"])
    delete(member.path / STATE)
