"""What lies beside a checkpoint says how it was trained: hyperparameters and a history."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lrensemble.adopt.files import Checkpoint
from lrensemble.adopt.names import MOST_LINES, Facts, History, fact, facts_of, history_of
from lrensemble.adopt.wandb_log import read_log
from lrensemble.errors import UserError
from lrensemble.opening import MOST_HISTORY, read_text
from lrensemble.pool.files import read_json
from lrensemble.training.explain import read_yaml

_FIX = "keep a shorter one beside the checkpoint"


@dataclass
class RunFacts:
    """What is known of the run that a checkpoint comes of.

    Attributes
    ----------
    name : for people
    facts : hyperparameters
    history : lines as a member's
    steps : optimizer steps until the checkpoint, if that is known
    files : beside the checkpoint that say this
    """

    name: str
    facts: Facts = field(default_factory=dict)
    history: History = field(default_factory=list)
    steps: int | None = None
    files: list[Path] = field(default_factory=list)

    @property
    def seed(self) -> int:
        seed = fact(self.facts, "seed", "random_seed", "manual_seed")
        return seed if isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed < 2**63 else 0

    @property
    def optimizer(self) -> str | None:
        name = fact(self.facts, "optimizer", "optim", "opt", "optimizer_name")
        return name if isinstance(name, str) else None


def read_beside(checkpoint: Checkpoint, content: Any, tell: Callable[[str], object]) -> RunFacts:
    """What a checkpoint holds of its run, and the files in its folder and in the one above.

    Known are ``hparams.yaml`` and ``metrics.csv`` (Lightning), ``trainer_state.json`` (Hugging Face), ``args.yaml``
    and ``summary.csv`` (timm), ``params.json``, ``result.json`` and ``progress.csv`` (Ray Tune), ``run-*.wandb``,
    ``config.yaml`` and ``wandb-summary.json`` (W&B), and files of the checkpoint's name: ``run3.csv``,
    ``run3.yaml``, ``run3.json`` beside ``run3.pt``. What is nearer holds. What cannot be read is named and left out.
    """
    folders = [checkpoint.folder.parent, checkpoint.folder]
    run = RunFacts("/".join(checkpoint.path.absolute().parts[-3:]))  # its folder's name may say which run it is
    for key in ("hyper_parameters", "hparams", "config", "args"):
        run.facts |= facts_of(content.get(key)) if isinstance(content, Mapping) else {}
    lines: History = []
    for folder in folders:
        for log in sorted(folder.glob("run-*.wandb"))[:1]:
            _take(log, _wandb_log, run, lines, tell)
        for name, read in _KNOWN.items():
            _take(folder / name, read, run, lines, tell)
    if checkpoint.path not in folders:
        for suffix, read in _STEM.items():
            _take(checkpoint.path.with_suffix(suffix), read, run, lines, tell)
    run.steps = _steps(content)
    run.history = history_of(lines)
    if run.steps is not None:  # the checkpoint may be of the middle of the run
        run.history = [line for line in run.history if line.get("step", 0) <= run.steps]
    elif run.history:
        run.steps = max((int(line["step"]) for line in run.history if "step" in line), default=None)
    return run


def _steps(content: Any) -> int | None:
    """Where Lightning and many loops keep how far the training was."""
    for key in ("global_step", "step", "steps"):
        value = content.get(key) if isinstance(content, Mapping) else None
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


Reader = Callable[[Path, RunFacts, History], None]


def _take(path: Path, read: Reader, run: RunFacts, lines: History, tell: Callable[[str], object]) -> None:
    if not path.exists():
        return
    try:
        read(path, run, lines)
        run.files.append(path)
    except UserError as error:
        tell(f"left out: {error}")


def _yaml(path: Path, run: RunFacts, lines: History) -> None:
    run.facts |= facts_of(read_yaml(read_text(path, _FIX), str(path)))


def _wandb(path: Path, run: RunFacts, lines: History) -> None:
    """W&B's ``config.yaml``: every value in a mapping of its own; another file of that name says nothing."""
    data = read_yaml(read_text(path, _FIX), str(path))
    if isinstance(data, dict) and "_wandb" in data:
        values = {key: value["value"] for key, value in data.items() if isinstance(value, dict) and "value" in value}
        run.facts |= facts_of({key: value for key, value in values.items() if key != "_wandb"})


def _wandb_log(path: Path, run: RunFacts, lines: History) -> None:
    config, found = read_log(path)
    run.facts |= facts_of(config)
    lines += found[:MOST_LINES]


def _json(path: Path, run: RunFacts, lines: History) -> None:
    run.facts |= facts_of(read_json(path))


def _summary(path: Path, run: RunFacts, lines: History) -> None:
    """W&B's last values: the last line of a history."""
    lines.append(read_json(path))


def _trainer_state(path: Path, run: RunFacts, lines: History) -> None:
    """Of Hugging Face's Trainer: its log, and how far it was."""
    state = read_json(path)
    log = state.get("log_history")
    # What a step logs is of the update before it; the LR of a line is the one that made it.
    lines += [line for line in log if isinstance(line, dict)][:MOST_LINES] if isinstance(log, list) else []
    kept = ("num_train_epochs", "max_steps", "train_batch_size", "trial_params")
    run.facts |= facts_of({key: state.get(key) for key in kept if state.get(key) is not None})


def _lines(path: Path, run: RunFacts, lines: History) -> None:
    """Ray Tune's ``result.json``: an object a line; the hyperparameters are in each."""
    for number, text in enumerate(read_text(path, _FIX)[:MOST_HISTORY].splitlines()):
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue  # of a run that was killed
        if isinstance(line, dict) and number < MOST_LINES:
            run.facts |= facts_of(line.get("config"))
            lines.append(line)


def _csv(path: Path, run: RunFacts, lines: History) -> None:
    """A table with a header; cells that are no numbers are left out."""
    rows = csv.DictReader(read_text(path, _FIX)[:MOST_HISTORY].splitlines())
    try:
        lines += [dict(_cells(row)) for _, row in zip(range(MOST_LINES), rows, strict=False)]
    except csv.Error as error:
        raise UserError(f"{path}: no table of comma-separated values ({error})") from None


def _cells(row: Mapping[str, Any]) -> Iterable[tuple[str, float]]:
    for key, text in row.items():
        try:
            value = float(text)
        except (TypeError, ValueError):  # an empty cell, a word; more cells than the header has
            continue
        if math.isfinite(value):
            yield str(key), int(value) if value.is_integer() else value


_KNOWN: dict[str, Reader] = {
    "config.yaml": _wandb,
    "args.yaml": _yaml,
    "hparams.yaml": _yaml,
    "params.json": _json,
    "progress.csv": _csv,
    "result.json": _lines,
    "summary.csv": _csv,
    "metrics.csv": _csv,
    "wandb-summary.json": _summary,
    "trainer_state.json": _trainer_state,
}
_STEM: dict[str, Reader] = {".yaml": _yaml, ".json": _json, ".csv": _csv}
