"""Finish a member: write its files, the record last. The trainer, a user's own loop and imports all end here."""

from __future__ import annotations

import functools
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrensemble.metrics import is_one_hot, summary
from lrensemble.pool.files import json_text, now, write_array, write_atomic, write_bytes
from lrensemble.pool.links import delete
from lrensemble.pool.member import HISTORY, Member
from lrensemble.pool.record import FileInfo, Record
from lrensemble.version import __version__

History = Sequence[Mapping[str, Any]]


def write_history(member: Member, history: History, *, sync: bool = True) -> None:
    """One line of JSON for every entry."""
    text = "".join(json_text(line, indent=None) + "\n" for line in history)
    write_atomic(member.path / HISTORY, lambda file: file.write(text.encode()), sync=sync)


def write_complete(
    member: Member,
    *,
    labels: NDArray[np.int64],
    history: History,
    probabilities: Mapping[str, NDArray[Any]],
    weights: Mapping[str, Any] | None,
    **values: Any,
) -> Record:
    """Write a member that is complete; it is so exactly when its record says it.

    With predictions that are not finite it is diverged instead, and none are kept.

    Parameters
    ----------
    labels : (N,) array
        Of the validation split, for the metrics in the record.
    probabilities : dict
        Of ``val`` and ``test``: (N, C).
    weights : dict of str to tensor, optional
        State dict on the CPU; imports have none.
    values : other fields of the record
    """
    from safetensors.torch import save

    if not is_finite(probabilities):
        reason = "the predictions are not finite"
        return write_end(member, history=history, status="diverged", reason=reason, **values)
    names = []
    for split, array in probabilities.items():
        names.append(f"predictions/{split}.npy")
        write_array(member.path / names[-1], array)
    if weights is not None:
        names.append("weights.safetensors")
        write_bytes(member.path / names[-1], save(dict(weights)))
    val: dict[str, float | None] = dict(summary(probabilities["val"], labels))
    hard = not member.record.spec.is_ours and all(is_one_hot(array) for array in probabilities.values())
    if hard:
        val = {key: value if key == "accuracy" else None for key, value in val.items()}
    values |= {
        "metrics": {"val": val, **values.pop("metrics", {})},
        "outputs": "labels" if hard else "probabilities",
    }
    return write_end(member, history=history, files=names, status="complete", **values)


def is_finite(probabilities: Mapping[str, NDArray[Any]]) -> bool:
    return all(bool(np.isfinite(array).all()) for array in probabilities.values())


def write_end(member: Member, *, history: History, files: Iterable[str] = (), **values: Any) -> Record:
    """Write the history and the final record (whatever the status)."""
    names = list(files)
    if history:
        write_history(member, history)
        names.append(HISTORY)
    infos = {name: FileInfo.of(member.path / name) for name in names}
    # What an earlier attempt left (a reason, a traceback) goes; what is known of the member stays.
    record = member.record.model_copy(
        update={"finished": now(), "reason": None, "traceback": None, "files": infos, **values}
    )
    member.write_record(record)
    delete(member.path / "state.pt")
    return record


def reached(history: History, targets: Iterable[float]) -> dict[str, dict[str, float] | None]:
    """First step and seconds at which the validation accuracy reached each target; None where it never did.

    Wu et al. 2019, the cost metrics of LRBench. As fine as the history is: once an epoch.
    """

    def first(target: float) -> dict[str, float] | None:
        for line in history:
            accuracy = line.get("val_accuracy")
            if accuracy is not None and accuracy >= target:
                return {key: line[key] for key in ("step", "seconds") if key in line}
        return None

    return {f"{target:g}": first(target) for target in targets}


def environment(**values: Any) -> dict[str, Any]:
    """Versions, platform and git revision, after `values` (device, threads, ...)."""
    return {
        **values,
        "lrensemble": __version__,
        "torch": metadata.version("torch"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "git": git_revision(),
    }


@functools.cache
def git_revision() -> str | None:
    """Commit of the current folder, with ``-dirty`` when files differ from it; None where there is no git.

    The folder may be a stranger's, and to compare files git runs programs that a repository's configuration names
    (filters, monitors, transports): where that says more than `_HARMLESS`, it ends with ``-unchecked``.
    """
    commit = _git("rev-parse", "--verify", "HEAD")  # reads a name, nothing else
    if not commit:
        return None
    settings = (_git("config", "--local", "--includes", "--name-only", "--list") or "").splitlines()
    changed = None
    if all(re.fullmatch(_HARMLESS, name) for name in settings):
        changed = _git("--no-optional-locks", "diff", "--name-only", "--ignore-submodules", "--no-ext-diff", "HEAD")
    return f"{commit}-unchecked" if changed is None else f"{commit}-dirty" if changed else commit


_HARMLESS = (
    r"core\.(repositoryformatversion|filemode|bare|logallrefupdates|symlinks|ignorecase|precomposeunicode|autocrlf|eol)"
    r"|user\.(name|email|signingkey)|commit\.gpgsign|branch\..*\.(remote|merge|rebase)|remote\..*\.(url|fetch|pushurl)"
)


def _git(*words: str) -> str | None:
    """What git says in the current folder; None where it fails, or is not there."""
    try:
        found = subprocess.run(["git", *words], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return found.stdout.strip()
