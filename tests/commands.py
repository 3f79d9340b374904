"""Commands of lrensemble in processes that cost no start of Python, with limits, and free to be killed.

A server imports everything, computes nothing, and forks a process for every command: what a command does to its
interpreter, memory or clock ends with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

SERVER = """
import contextlib, gc, importlib, json, os, pkgutil, resource, sys, traceback, warnings
import sklearn.datasets, torch, torch._dynamo
import lrensemble
from lrensemble import terminal
from lrensemble.cli.main import main
ours = [module.name for module in pkgutil.walk_packages(lrensemble.__path__, "lrensemble.")]
for name in ("onnxruntime", *ours):
    if not name.endswith("__main__"):
        with contextlib.suppress(ImportError):  # of an extra that is not installed
            importlib.import_module(name)
torch.set_num_threads(1)
warnings.resetwarnings()  # from here on as in a process of its own
for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
    warnings.simplefilter("ignore", category)
warnings.showwarning = terminal.warn
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
gc.collect()
gc.freeze()  # else every process would touch, and so copy, all objects
print("ready", flush=True)
for line in sys.stdin:
    job = json.loads(line)
    if (pid := os.fork()) == 0:
        code = 1
        try:
            os.setsid()
            os.chdir(job["folder"])
            for number, name, mode in ((0, os.devnull, os.O_RDONLY), (1, job["out"], 65), (2, job["err"], 65)):
                os.dup2(os.open(name, mode, 0o600), number)
            if job["cpu"]:
                resource.setrlimit(resource.RLIMIT_CPU, (job["cpu"], job["cpu"] + 5))
                resource.setrlimit(resource.RLIMIT_AS, (size + job["memory"],) * 2)
            exec(job["before"])
            code = main(job["words"])
        except SystemExit as end:
            code = end.code
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    print(pid, flush=True)
    sys.stdin.readline()  # nothing follows the number before it was read: `select` sees no buffer
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    print("ended", flush=True)
    sys.stdin.readline()  # until then nobody else gets its number
    _, status, usage = os.wait4(pid, 0)
    print(json.dumps([status, usage.ru_utime + usage.ru_stime]), flush=True)
"""


# Counts the operations that change files of the folder it is in, for `before`; at operation number LAST it is the end.
OPERATIONS = """
import os, signal, sys
count, last, names = 0, LAST, {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.link", "os.symlink"}
marks = os.open(MARKS, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
def hook(event, args):
    global count
    if event in names or (event == "open" and isinstance(args[0], str) and args[2] & (os.O_WRONLY | os.O_RDWR)):
        if os.path.abspath(args[0]).startswith(os.getcwd()):
            count += 1
            os.write(marks, b".")
            if count == last:
                os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
from lrensemble.training import member
member.CHECKPOINT_SECONDS, member.CHECKPOINT_SHARE = 0.0, 1e9
"""
ASLEEP = 15  # looks, a second apart, that find a process asleep and no tick older


class Done(NamedTuple):
    """How a command ended: exit code (negative: the signal), its two outputs, seconds of CPU."""

    code: int
    out: str
    err: str
    cpu: float


class Commands:
    """Runs commands, one at a time."""

    def __init__(self, scratch: Path) -> None:
        self.out, self.err = scratch / "out.txt", scratch / "err.txt"
        self.pid = 0
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)}  # noqa: PTH109
        self.server = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self.server.stdout.readline() == "ready\n"

    def start(self, words: Sequence[str], folder: Path, *, before: str = "", cpu: int = 0, memory: int = 2**31) -> int:
        """Start ``lrensemble WORDS`` in `folder`; return its process id, which is its group's too.

        `before` is Python that runs first. `cpu` limits the seconds of CPU (and with it the memory, in bytes); 0: not.
        """
        for path in (self.out, self.err):
            path.unlink(missing_ok=True)
        job = {"words": list(words), "folder": str(folder), "before": before, "cpu": cpu, "memory": memory}
        self.server.stdin.write(json.dumps({**job, "out": str(self.out), "err": str(self.err)}) + "\n")
        self.server.stdin.flush()
        self.pid = int(self.server.stdout.readline())
        self._go_on()
        return self.pid

    def wait(self) -> Done:
        """Wait for the end of the command that was started last; one that sleeps for ever is killed."""
        looks: list[tuple[str, ...]] = []
        while not select.select([self.server.stdout], [], [], 1.0)[0]:
            looks.append(self._look())
            if len(looks) > ASLEEP and looks[-1][0] == "S" and len(set(looks[-ASLEEP:])) == 1:
                self.kill()
        assert self.server.stdout.readline() == "ended\n"
        self._go_on()
        status, cpu = json.loads(self.server.stdout.readline())
        out, err = (path.read_text(errors="replace") if path.exists() else "" for path in (self.out, self.err))
        return Done(os.waitstatus_to_exitcode(status), out, err, cpu)

    def wait_until(self, cpu: float) -> None:
        """Until the command has used so many seconds of CPU, or has ended: no clock, for slow machines."""
        ticks = cpu * os.sysconf("SC_CLK_TCK")
        while (look := self._look())[0] not in ("Z", "gone") and int(look[1]) + int(look[2]) < ticks:
            time.sleep(0.005)

    def _go_on(self) -> None:
        self.server.stdin.write("\n")
        self.server.stdin.flush()

    def kill(self, alone: bool = False) -> None:
        """kill -9 of the command (`alone`: not of its workers, which end soon); nothing where it has ended."""
        with contextlib.suppress(ProcessLookupError):  # ended, or without a group yet
            (os.kill if alone else os.killpg)(self.pid, signal.SIGKILL)

    def _look(self) -> tuple[str, ...]:
        """State, user and system ticks of the command: no clock, so that a slow machine is no hang."""
        try:
            words = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return ("gone",)
        return words[0], words[11], words[12]

    def close(self) -> None:
        self.server.kill()
        self.server.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
