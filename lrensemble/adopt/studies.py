"""Optuna's studies: which trial a checkpoint comes of, and what that tried."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lrensemble.adopt.beside import RunFacts
from lrensemble.adopt.files import Checkpoint
from lrensemble.adopt.names import facts_of, history_of
from lrensemble.errors import UserError, did_you_mean
from lrensemble.recommend.store import load_optuna, open_store

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

_TRIAL = r"(?:trial|run)[^a-z\d]{0,2}(\d{1,9})"  # run: Hugging Face's folders


def read_trials(url: str, name: str | None = None) -> list[FrozenTrial]:
    """The trials of a study in a storage; nothing is written.

    Raises
    ------
    UserError
        The storage cannot be opened, has no study, several and no `name`, or the study has no trials.
    """
    optuna, store = load_optuna(), open_store(url)
    names = optuna.get_all_study_names(store.storage)
    if not names:
        raise UserError(f"{store.url} has no study")
    if name is None and len(names) > 1:
        raise UserError(
            f"{store.url} has {len(names)} studies, --study-name says which: {', '.join(sorted(names)[:10])}"
        )
    name = names[0] if name is None else name
    if name not in names:
        raise UserError(f"{store.url} has no study {name!r}: {did_you_mean(name, names)}")
    trials: list[FrozenTrial] = optuna.load_study(study_name=name, storage=store.storage).trials
    if not trials:
        raise UserError(f"study {name!r} in {store.url} is empty: it has no trials")
    return trials


def trial_of(checkpoint: Checkpoint, trials: Sequence[FrozenTrial]) -> FrozenTrial:
    """The trial that names the checkpoint in a user attribute, else the one whose number is in its name.

    The number is the one behind ``trial`` or ``run`` in the name of the file or of its folder, else the only one that a
    trial has: ``trial_7_epoch_3.pt``, ``run-7/checkpoint-10``, ``7.pt``. `UserError` where it may be two trials'.
    """
    here = checkpoint.path.resolve()
    named = [trial for trial in trials if here in _paths(trial)]
    if len(named) == 1:
        return named[0]
    if len(named) > 1:
        numbers = " and ".join(str(trial.number) for trial in named[:2])
        raise UserError(f"{checkpoint.path}: two trials name this file in their attributes, {numbers}")
    known = {trial.number: trial for trial in trials}
    names = checkpoint.path.name.lower(), checkpoint.path.absolute().parent.name.lower()
    ways = [re.findall(pattern, name) for pattern in (_TRIAL, r"\d{1,9}") for name in names]
    written = dict.fromkeys(map(int, next(filter(None, ways), ())))
    possible = [known[number] for number in written if number in known]
    if len(possible) == 1:
        return possible[0]
    if possible:
        raise UserError(
            f"{checkpoint.path}: trial {possible[0].number} or trial {possible[1].number}? Call it trial_N.pt, or "
            "trial.set_user_attr('checkpoint', path)"
        )
    raise UserError(
        f"{checkpoint.path}: which of the {len(trials)} trials is it? No user attribute of one names the file, and no "
        "number in its name is a trial's: call it trial_7.pt, or trial.set_user_attr('checkpoint', path)"
    )


def _paths(trial: FrozenTrial) -> set[Path]:
    found = set()
    for value in trial.user_attrs.values():
        if isinstance(value, str) and 0 < len(value) < 4096:
            with contextlib.suppress(OSError, ValueError):
                found.add(Path(value).resolve())
    return found


def add_trial(run: RunFacts, trial: FrozenTrial) -> None:
    """What a trial tried and reported; what it reports on the way has no name, so it is no history."""
    run.facts |= facts_of(trial.params) | {"trial": trial.number}
    attributes = {key: value for key, value in trial.user_attrs.items() if isinstance(value, int | float)}
    if lines := history_of([attributes]):
        run.history = run.history or lines
