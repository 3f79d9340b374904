"""Every option that takes a number has bounds, and says them in one line."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from lrensemble import Pool
from lrensemble.cli.main import build_parser, main

IMPOSSIBLE = ("1e23", "nan", "inf", "-1", "-inf", "x", "9" * 5000, "", "1e400", "99999999999999999999999")


def numeric() -> list[tuple[list[str], argparse.Action]]:
    """Every option with a type other than text and paths, of every command and the commands below."""
    found: list[tuple[list[str], argparse.Action]] = []

    def walk(parser: argparse.ArgumentParser, words: list[str]) -> None:
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for name, sub in action.choices.items():
                    walk(sub, [*words, name])
            elif action.type is not None and action.type is not Path:
                found.append((words, action))

    for name, parser in build_parser()[1].items():
        walk(parser, [name])
    return found


def test_no_option_takes_any_number():
    unbounded = [(words, action.dest) for words, action in numeric() if action.type in (int, float)]
    assert {name for _, name in unbounded} <= {"target"}  # an accuracy: `check_target` knows more of it
    assert len(numeric()) > 30


@pytest.mark.parametrize("value", IMPOSSIBLE, ids=lambda value: value[:9])
def test_what_is_impossible_is_one_line(value, capsys):
    for _, action in numeric():
        if action.type in (int, float):
            continue
        if value == "-1" and action.dest == "scale":  # images can be turned over
            continue
        with pytest.raises(argparse.ArgumentTypeError, match="is not possible") as caught:
            action.type(value)
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "{pool}", "--repeats", "1e23"],
        ["evaluate", "{pool}", "--repeats", "1"],
        ["export", "{pool}", "greedy", "-o", "{pool}/x", "--tolerance", "1e9"],
        ["export", "{pool}", "greedy", "-o", "{pool}/x", "--tolerance", "nan"],
        ["robustness", "{pool}", "--lr-scales", "--factors", "nan,1"],
        ["robustness", "{pool}", "--lr-scales", "--workers", "1e9"],
        ["robustness", "{pool}", "--devices", "nonsense"],
        ["soup", "{pool}", "--device", "nonsense"],
        ["propose", "{pool}", "--train", "--time", "9" * 400 + "d"],
        ["gc", "{pool}", "--max-size", "9" * 400 + "GB"],
        ["verify", "FIX(0.1)", "{pool}", "--target", "nan"],
        ["verify", "FIX(0.1)", "{pool}", "--target", "1e23"],
        ["policies", "top", "--target", "inf"],
        ["train", "{config}", "--dry-run", "--devices", "nonsense"],
        ["train", "{config}", "--dry-run", "--devices", "cpu,"],
        ["select", "{pool}", "--option", "bags=1e23"],
        ["select", "{pool}", "--memory", "1e23"],
    ],
    ids=lambda words: " ".join(words)[:40],
)
def test_commands_refuse_it(words, pool: Pool, tmp_path, capsys):
    config = tmp_path / "c.yaml"
    config.write_text("{data: digits, model: lenet, training: {epochs: 1}, policies: [FIX(0.1)]}")
    assert main([word.format(pool=pool.path, config=config) for word in words]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and len(err) < 2000
