"""A process that trains members: jobs come as lines of JSON on its stdin, answers go as lines to its stdout.

Started as a program of its own rather than forked or spawned by a library: nothing of the caller's ``__main__`` is
run again, and when the parent is gone stdin ends and so does the worker.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any

from lrensemble import terminal
from lrensemble.errors import UserError

if TYPE_CHECKING:
    from lrensemble.training.member import Job


class WorkerDied(Exception):
    """The process was killed or crashed in the middle of a job; the text says how."""


class Worker:
    """The parent's side of one worker process."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)}  # noqa: PTH109
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", "from lrensemble.training.worker import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def train(self, job: str) -> list[str]:
        """Train a job (JSON) and return the members that were busy.

        Raises `UserError` or RuntimeError (with the worker's traceback) as the job did, `WorkerDied` if it was killed.
        """
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(job + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except (OSError, ValueError):
            line = ""
        if not line.endswith("\n"):  # nothing, or killed in the middle of its answer
            raise WorkerDied(_how(self.process.wait()))
        return busy_of(json.loads(line))

    def close(self) -> None:
        """End it at once, whatever it is doing: what is half-written has a temporary name."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError, ValueError):
                pipe.close()  # type: ignore[union-attr]


def _how(code: int) -> str:
    if code >= 0:
        return f"its worker process ended with exit code {code}"
    name = signal.Signals(-code).name
    return f"its worker process was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


def main() -> None:
    """Answer jobs until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    terminal.install()
    # Whatever a user's model prints must not get between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    jobs: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(sys.stdin, jobs), daemon=True).start()
    from lrensemble.training.member import Job

    while True:
        print(json.dumps(answer(Job.model_validate_json(jobs.get()))), file=answers, flush=True)


def answer(job: Job) -> dict[str, Any]:
    """Train a job; what came of it as plain values, also where it raised."""
    from lrensemble.training.member import train_members

    try:
        return {"busy": train_members(job)}
    except UserError as error:
        return {"user_error": str(error)}
    except Exception:
        return {"error": traceback.format_exc()}


def busy_of(answered: Mapping[str, Any]) -> list[str]:
    """The members that another process was at; raises what the job raised."""
    if "user_error" in answered:
        raise UserError(answered["user_error"])
    if "error" in answered:
        raise RuntimeError(f"in a worker process:\n{answered['error']}")
    busy: list[str] = answered["busy"]
    return busy


def _read(lines: IO[str], jobs: queue.SimpleQueue[str]) -> None:
    for line in lines:
        jobs.put(line)
    os._exit(1)  # the parent is gone
