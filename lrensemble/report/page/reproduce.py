"""How to make the pool, the team and the page again: commands, configuration, versions."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from lrensemble.pool import Pool, Team
from lrensemble.pool.gc import WEIGHTS
from lrensemble.selection import SELECTORS

SHOWN = 4  # different values of one fact
# Parameters of selectors that `lrensemble select` has options of its own for.
OPTIONS = {"best": "--best", "objective": "--objective", "size": "--size", "vote": "--vote", "metric": "--metric"}
FLAGS = {"temperature": "--temperature", "one_se": "--one-se"}


@dataclass(frozen=True)
class Recipe:
    """Commands in their order, and facts as (name, value)."""

    commands: list[str]
    facts: list[tuple[str, str]]


def recipe(pool: Pool, team: Team | None) -> Recipe:
    """What the files of the pool say about how it was made."""
    path = shlex.quote(str(pool.path))
    commands = []
    if (pool.path / "config.json").is_file():
        commands.append(f"lrensemble train {shlex.quote(str(pool.path / 'config.json'))} --pool {path}")
    commands.append(select_command(path, team) if team else f"lrensemble select {path}")
    if team:
        commands.append(f"lrensemble evaluate {path} --team {shlex.quote(team.name)}")
    commands.append(f"lrensemble report {path}" + (f" --team {shlex.quote(team.name)}" if team else ""))
    if team and all(m.record.spec.is_ours and WEIGHTS in m.record.files for m in pool.members_of(team).values()):
        commands.append(f"lrensemble export {path} --team {shlex.quote(team.name)} -o {shlex.quote(team.name)}")
    return Recipe(commands, _facts(pool, team))


def select_command(path: str, team: Team) -> str:
    """The command that selects this team again, from what the team's file says."""
    defaults = SELECTORS[team.selector]().get_params() if team.selector in SELECTORS else {}
    words = [f"lrensemble select {path} --selector {team.selector}"]
    for key, value in team.parameters.items():
        if key in defaults and value == defaults[key]:
            continue
        if key in FLAGS:
            words.append(FLAGS[key])
        elif key in OPTIONS:
            words.append(f"{OPTIONS[key]} {shlex.quote(str(value))}")
        elif key == "time_limit":
            words.append(f"--time {value}")
        else:
            words.append(f"--option {shlex.quote(f'{key}={value}')}")
    return " ".join(words)


def _facts(pool: Pool, team: Team | None) -> list[tuple[str, str]]:
    task = pool.task
    members = [m for m in pool.members if m.status != "damaged"]
    specs = [m.record.spec for m in members]
    split = {key: value for key, value in task.data.items() if value is not None and value is not False}
    facts = [
        ("data", ", ".join(f"{key} {value}" for key, value in split.items())),
        ("fingerprint of data and row order", task.data_fingerprint),
        ("model", _distinct(str(spec.model) for spec in specs)),
        ("optimizer", _distinct(str(spec.optimizer) for spec in specs if spec.optimizer)),
        ("epochs", _distinct(str(spec.training.epochs) for spec in specs if spec.training)),
        ("batch size", _distinct(str(spec.training.batch_size) for spec in specs if spec.training)),
        ("seeds", _distinct(str(seed) for seed in sorted({spec.seed for spec in specs}))),
    ]
    for key in ("device", "precision", "lrensemble", "torch", "python", "platform", "git"):
        values = (m.record.environment.get(key) for m in members)
        facts.append((key if key != "git" else "git revision", _distinct(str(v) for v in values if v is not None)))
    if team:
        facts.append(("team selected", f"{team.created}, {team.teams_tried:,} teams tried"))
    return [(name, value) for name, value in facts if value]


def _distinct(values: Iterable[str]) -> str:
    """Every different value once, in their order."""
    found = list(dict.fromkeys(values))
    more = f" and {len(found) - SHOWN:,} more" if len(found) > SHOWN else ""
    return ", ".join(found[:SHOWN]) + more
