"""Jobs as tasks of Ray: a cluster's scheduler, its retries when a worker or a node dies, its fractions of GPUs.

A Ray that is started here listens on the loopback device alone, with a token; a cluster is what its owner made of it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import joblib

from lrensemble.errors import UserError, first_line
from lrensemble.installing import needed
from lrensemble.pool.locks import FORCED
from lrensemble.training.executor import Site
from lrensemble.training.member import Job, fail
from lrensemble.training.remote import RemoteJob, files_of, files_of_all, marked, receive, train_remotely, versions
from lrensemble.training.worker import busy_of

RETRIES = 3  # of a task whose worker or node dies, by Ray
CONNECT_SECONDS = 10
CONNECTS = 3
MARK_SECONDS = 600.0  # without news; gc takes what is an hour old for what a killed process left
# Of a Ray that is started here, where the user has not said otherwise. The first one is Ray's switch for machines that
# are no cluster: everything listens on the loopback device.
_LOCAL = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_raylet_start_wait_time_s": "60",  # a busy machine needs more than its 30
}


@dataclass(frozen=True)
class Ray:
    """Where `train_pool` trains: ``train_pool(config, on=Ray())``.

    Attributes
    ----------
    address : ``ray://HOST:PORT`` of a cluster's client server, or another address that ``ray.init`` takes; None: a Ray
        of this machine, started when it is first needed and ended with the program. One that the program has connected
        to already is used.
    resources : beside CPUs (the threads of a run) and GPUs, what every run needs: ``{"bigmem": 1}``
    runtime_env : of Ray, for what workers need of yours: ``{"working_dir": "."}``
    """

    address: str | None = None
    resources: Mapping[str, float] = field(default_factory=dict)
    runtime_env: Mapping[str, Any] | None = None

    @classmethod
    def parse(cls, text: str, resources: Iterable[str] = ()) -> Ray:
        """Read ``ray`` or ``ray://HOST:PORT``, and ``NAME=AMOUNT`` of resources."""
        if text != "ray":
            parts = urlsplit(text)
            with contextlib.suppress(ValueError):
                if (
                    parts.scheme == "ray"
                    and parts.hostname
                    and parts.port
                    and not parts.path
                    and "@" not in parts.netloc
                ):
                    return cls(text, _amounts(resources))
            raise UserError("--on is ray (this machine) or ray://HOST:PORT (a cluster's client server, port 10001)")
        return cls(None, _amounts(resources))

    def site(
        self, runs: int, *, devices: str, workers: int | None, per_device: int | None, threads: int | None
    ) -> Site:
        """As many slots as the cluster has room for now; tasks wait for theirs, also on nodes that join later."""
        if devices not in ("auto", "cpu", "cuda"):
            raise UserError(f"devices = {devices!r} is not possible with Ray, which chooses: auto, cpu or cuda")
        ray = self._connected()
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        cuda = devices == "cuda" or (devices == "auto" and any(node.get("GPU") for node in nodes))
        if per_device is not None and not cuda:
            raise UserError("per_device is of GPUs, and this cluster has none: give threads, and workers")
        threads, each = threads or 1, per_device or 1
        needs = {"CPU": float(threads), **({"GPU": 1 / each} if cuda else {}), **self.resources}
        room = [int(min(node.get(name, 0.0) / amount for name, amount in needs.items()) + 1e-6) for node in nodes]
        if not any(room):
            wanted = ", ".join(f"{name}={amount:g}" for name, amount in needs.items())
            raise UserError(f"{self}: no node has {wanted}, which a run needs: fewer threads, or other resources")
        count = min(workers or sum(room), max(1, runs))

        def execute(jobs: Iterable[Job]) -> Iterator[tuple[Job, list[str]]]:
            return _execute(ray, list(jobs), needs, workers, str(self))

        return Site(("cuda" if cuda else "cpu",) * count, threads, each if cuda else max(room), execute)

    def __str__(self) -> str:
        return self.address or "Ray of this machine"

    def _connected(self) -> Any:
        """The module ray, connected."""
        read = "ray" in sys.modules and not _LOCAL.keys() <= os.environ.keys()  # it reads them when it is imported
        if self.address is None and not read:
            for name, value in _LOCAL.items():
                os.environ.setdefault(name, value)
        with needed("training on Ray needs it", "ray"):
            import ray
        if ray.is_initialized():
            return ray
        if self.address is None and read:
            raise UserError(
                "Ray was imported before it could be told to listen on this machine alone, with a token: call ray.init "
                "yourself before this, or import ray after it"
            )
        options: dict[str, Any] = {"runtime_env": dict(self.runtime_env)} if self.runtime_env else {}
        if self.address is None:
            options |= {"address": "local", "num_cpus": joblib.cpu_count(), "include_dashboard": False}
        else:
            options |= {"address": self.address}
            _check_reachable(self.address)
        before = signal.getsignal(signal.SIGTERM)  # Ray sets its own
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of Ray, about its next versions
                _init(ray, CONNECTS if self.address else 1, options)
        except Exception as error:  # Ray raises of all kinds, and plain ones
            raise UserError(f"{self} cannot be used: {_reason(error)}") from None
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, before)
        return ray


def _init(ray: Any, attempts: int, options: dict[str, Any]) -> None:
    """Connect; a busy cluster needs more than the half minute that Ray gives it to start a server for a client."""
    for attempt in range(1, attempts + 1):
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR, configure_logging=False, **options)
            return
        except ConnectionError:
            if attempt == attempts:
                raise


def _amounts(entries: Iterable[str]) -> dict[str, float]:
    found = {}
    for entry in entries:
        match = re.fullmatch(r"([^=\s]{1,100})=(\d{1,9}(?:\.\d{1,4})?)", entry, re.ASCII)
        if match is None or not float(match[2]) or match[1] in ("CPU", "GPU"):
            raise UserError(
                f"resource {entry!r:.100} is not possible: NAME=AMOUNT, above 0, of the cluster's own (CPUs are "
                "--threads, GPUs --per-device)"
            )
        found[match[1]] = float(match[2])
    return found


def _check_reachable(address: str) -> None:
    """`UserError` at once where nothing listens: Ray tries for half a minute, and says it in twenty lines."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    if not parts.hostname or not parts.port:
        return  # auto
    try:
        socket.create_connection((parts.hostname, parts.port), CONNECT_SECONDS).close()
    except OSError as error:
        raise UserError(f"{address} cannot be reached: {error.strerror or error}") from None


def _reason(error: BaseException) -> str:
    """The line of Ray's words that says what is wrong: of a remote traceback the last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in reversed(lines) if "Error: " in line), lines[0] if lines else first_line(error))


def _execute(
    ray: Any, jobs: list[Job], needs: dict[str, float], most: int | None, where: str
) -> Iterator[tuple[Job, list[str]]]:
    """The jobs as tasks, `most` at a time."""
    if not jobs:
        return
    pool, mark = jobs[0].pool, f".on-{secrets.token_hex(8)}.tmp"
    own = {name: amount for name, amount in needs.items() if name not in ("CPU", "GPU")}
    task = ray.remote(train_remotely).options(
        num_cpus=needs["CPU"], num_gpus=needs.get("GPU", 0), resources=own, max_retries=RETRIES, retry_exceptions=False
    )
    todo, going, told = jobs[::-1], dict[Any, Job](), set[str]()
    asked = {"mark": mark, "versions": versions(), "leases": bool(os.environ.get(FORCED))}
    common = ray.put(files_of_all(pool))  # once for all of them: labels are large
    with marked(pool, mark) as mark_again:
        try:
            while todo or going:
                mark_again()
                while todo and (most is None or len(going) < most):
                    job = todo.pop()
                    request = RemoteJob.model_validate({"job": job, **asked}).model_dump_json()
                    members = [member for member_id in job.members for member in job.all_of(member_id)]
                    going[task.remote(request, common, files_of(pool, members))] = job
                ended, _ = ray.wait(list(going), num_returns=1, timeout=MARK_SECONDS)
                if not ended:
                    continue
                job = going.pop(ended[0])
                try:
                    answered = ray.get(ended[0])
                except ray.exceptions.RayTaskError as error:  # before our own code: it is not there
                    raise UserError(f"a worker of {where} cannot train: {_reason(error)}") from None
                except ray.exceptions.RayError as error:
                    if len(job.members) > 1:  # each alone: what killed the workers may be one of them
                        todo += [job.model_copy(update={"members": (member_id,)}) for member_id in job.members]
                        continue
                    fail(job, f"its worker died {RETRIES + 1} times ({_reason(error)})")
                    yield job, []
                    continue
                if "sent" in answered and answered["host"] not in told:
                    told.add(answered["host"])
                    warnings.warn(f"{answered['host']} does not see {pool}: its members are sent", stacklevel=2)
                received = receive(job, answered.get("sent", {}))  # also of a job that raised: what it had finished
                yield job, busy_of(answered) + received
        finally:  # also on Ctrl-C: nothing goes on alone
            for reference in going:
                with contextlib.suppress(Exception):  # the cluster may be gone
                    ray.cancel(reference, force=True)
