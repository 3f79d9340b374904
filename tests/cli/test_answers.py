"""What a person sees at a terminal: the answer first, and no number or name that is cut."""

from __future__ import annotations

import contextlib
import csv
import functools
import html
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrensemble import Pool
from lrensemble.cli import output
from lrensemble.cli.main import COMMANDS as COMMANDS_OF_MAIN
from lrensemble.cli.main import build_parser, main
from lrensemble.cli.table import blocks_of, columns_of, split_constant

NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?![\w.])")
DEMO = "checkpoints/demo"
TINY = {"data": "digits", "model": "mlp", "training": {"epochs": 2}, "policies": ["FIX([0.02, 0.1])"], "control": False}
# Command -> what its first two lines say, and the most lines of its default output at 80 columns, on the pool of
# `lrensemble demo` (with fewer epochs) and beside it. In this order: some need what those above them wrote.
COMMANDS = {
    "init tabular": ("tabular.yaml: a configuration", 3),
    "demo training.epochs=2 --workers 1": ("Yours:", 3),  # below what these four of its commands say
    f"train {DEMO}": ("14 complete. Best:", 4),
    f"select {DEMO}": ("Team", 20),
    f"evaluate {DEMO}": ("orth it", 45),  # with the bills of other ways to train beside each other
    f"report {DEMO}": ("orth it", 14),
    "ls": ("1 pool in", 4),
    f"ls {DEMO}": ("14 members", 32),
    f"show {DEMO} {{member}}": ("complete, validation accuracy", 50),
    f"diversity {DEMO}": ("of all 14 members", 35),
    f"forms {DEMO}": ("won on validation", 32),
    f"energy {DEMO}": ("training of 14 runs took", 25),
    f"tensorboard {DEMO}": ("28 runs", 2),
    f"robustness {DEMO} --team greedy": ("of test right, the best single member", 60),
    f"export {DEMO} -o team": ("members, team.pt2", 10),
    "predict team rows.npy": ("n = 12: ", 16),
    f"gc {DEMO} --max-size 1MB": ("Nothing was deleted yet", 24),
    f"gc {DEMO}": ("nothing to delete", 2),
    f"propose {DEMO}": ("Train", 24),
    "train tiny.yaml --dry-run": ("2 members, 2 to train", 12),
    "propose tiny.yaml --train --rounds 1 -n 1 --workers 1": ("members joined the team", 14),
    "soup checkpoints/tiny": ("soup", 20),
    "run tiny.yaml policies=[] --members 3 --workers 1 --pool checkpoints/run": ("Use ", 16),
    "lr-find tiny.yaml --steps 40 --repeats 2": ("peak LR", 16),
    "verify FIX(0.1) tiny.yaml --target 0.5 --workers 1": ("FIX(k0=0.1)", 14),
    "recommend tiny.yaml -n 2 --finalists 1 --seeds 2 --workers 1 --storage p.db": ("Use ", 16),
    "fastest tiny.yaml training.epochs=10 --lrs 0.3 --seeds 2 --finalists 1 --workers 1": ("10 epochs", 32),
    f"policies sync {DEMO} --storage p.db": ("28 runs added", 3),
    "policies tasks --storage p.db": ("2 tasks", 20),
    "policies top --storage p.db": ("policies by accuracy", 60),
    "policies list": ("44 policies", 90),
    "policies show TRI2": ("TRI2: g = TRI", 14),
    "policies plot COS(k0=0.1,l=100%)": ("learning rate over 100 epochs", 3),
    "import checkpoints/own a.npz b.npz --labels labels.npz": ("2 imported", 9),
    "adopt checkpoints/adopted checkpoints/tiny/members --model mlp --config tiny.yaml": ("You have", 20),
    "events show events.npy": ("events", 30),
}
# One that does not end (tests/export), fastest for spiking networks, and a script for the shell.
NOT_HERE = {"serve", "fastspiker", "completion"}


class Recorder:
    """Takes the place of the functions that print, and prints again what they were given, at any width."""

    def __init__(self, command: str, patch: pytest.MonkeyPatch) -> None:
        self.command = self.now = command
        self.calls: dict[str, list[Callable[[], None]]] = {command: []}
        for name in ("say", "say_next", "print_table", "print_text"):
            patch.setattr(output, name, functools.partial(self._take, getattr(output, name)))

    def _take(self, function: Callable[..., None], *args) -> None:
        if step := re.match(r"\$ lrensemble (\w+)", str(args[0])):  # of the demo, which ends it with an empty line
            self.now = f"{step[1]} {DEMO}"
            return
        self.calls.setdefault(self.now, []).append(
            functools.partial(function, *([*arg] if isinstance(arg, Iterator) else arg for arg in args))
        )
        if args == ("",):
            self.now = self.command

    def lines(self, width: int | None) -> dict[str, list[str]]:
        """Of every command at so many columns; None: in a pipe."""
        found = {}
        for command, calls in self.calls.items():
            with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as text:
                patch.setattr(output, "view", output.Printing())
                patch.setattr(output, "terminal_width", lambda: width)
                for call in calls:
                    call()
            found[command] = text.getvalue().splitlines()
        return found


def write_files(pool: Pool) -> None:
    """What the commands read beside the demo's pool."""
    Path("tiny.yaml").write_text(json.dumps({**TINY, "name": "tiny", "training": {"epochs": 2, "shared_init": True}}))
    rng = np.random.default_rng(0)
    rows = {split: pool.task.rows[split] for split in ("val", "test")}
    for name in ("a", "b"):
        np.savez(f"{name}.npz", **{split: rng.dirichlet(np.ones(10), n) for split, n in rows.items()})
    np.savez("labels.npz", **{split: pool.labels(split) for split in rows})
    np.save("rows.npy", rng.integers(0, 17, (12, 8, 8)).astype(np.float32))
    events = np.zeros(50, [("p", "?"), ("y", "<i2"), ("x", "<i2"), ("t", "<i8")])
    events["t"], events["x"] = range(50), rng.integers(0, 9, 50)
    np.save("events.npy", events)


@pytest.fixture(scope="module")
def screens(tmp_path_factory) -> Iterator[dict[tuple[str, int | None], list[str]]]:
    """Every command's lines on stdout at 80 and 120 columns and in a pipe; each runs once."""
    found: dict[tuple[str, int | None], list[str]] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("answers"))
        patch.setenv("COLUMNS", "80")
        for command in COMMANDS:
            if (command, 80) in found:
                continue
            words = command.split()
            member = Pool.open(DEMO).members[0].id if "{member}" in words else ""
            with patch.context() as printing:
                recorder = Recorder(command, printing)
                assert main([word.format(member=member) for word in words]) in (0, 1), command
            if words[0] == "demo":
                write_files(Pool.open(DEMO))
            for width in (80, 120, None):
                found.update({(name, width): lines for name, lines in recorder.lines(width).items()})
        yield found


@pytest.mark.parametrize("command", COMMANDS)
def test_the_answer_comes_first_and_nothing_is_cut(screens, command):
    answer, most = COMMANDS[command]
    known = set(NUMBER.findall("\n".join(screens[command, None])))
    for width in (80, 120):
        lines = screens[command, width]
        assert answer in " ".join(" ".join(lines[:2]).split())
        assert len(lines) <= most
        assert "…" not in "".join(lines)
        assert set(NUMBER.findall("\n".join(lines))) <= known
        for line in lines:  # a line that is longer is one word, such as a path, or a command to copy
            assert len(line) <= width or line.startswith("Next: ") or max(map(len, line.split())) > width // 3, line


def test_what_is_printed_again_is_what_a_command_prints(screens, capsys, monkeypatch):
    monkeypatch.setattr(output, "terminal_width", lambda: 80)
    for command in (f"diversity {DEMO}", "policies list", f"propose {DEMO}"):
        assert main(command.split()) == 0
        assert capsys.readouterr().out.splitlines() == screens[command, 80]


def test_the_page_of_the_demo_is_small(screens):
    assert Path(DEMO, "report.html").stat().st_size <= 300_000


def test_no_command_is_left_out():
    assert {command.split()[0] for command in COMMANDS} | NOT_HERE == set(COMMANDS_OF_MAIN)


@pytest.mark.parametrize("command", COMMANDS_OF_MAIN)
def test_help_fits_into_80_columns(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    parser = build_parser()[1][command]
    actions = [action.choices.values() for action in parser._actions if action.dest == "action"]
    for one in (parser, *(sub for choices in actions for sub in choices)):
        for line in one.format_help().splitlines():
            assert len(line) <= 80, line


def test_rows_are_aligned_and_what_is_equal_is_said_once(screens):
    lines = screens[f"ls {DEMO}", 80]
    assert any(line.startswith("In every row: status complete") for line in lines)
    head = next(i for i, line in enumerate(lines) if line.startswith("id"))
    rows = [line for line in lines[head:] if re.match(r"[0-9a-f]{10} ", line)]
    assert len(rows) == 14
    assert len({len(row) for row in rows}) == 1  # the last column is a number


def test_the_verdict_is_the_same_everywhere(pool: Pool, capsys):
    from lrensemble import evaluate, select_teams

    select_teams(pool, ["all", "best-single"])
    words = evaluate(pool).verdicts["all"].split("\n")
    for command in (["evaluate"], ["report", "-v"]):
        assert main([*command, str(pool.path)]) == 0
        out = capsys.readouterr().out
        assert all(f"{line}." in out for line in words)
    page = html.unescape((pool.path / "report.html").read_text()).replace("\u2212", "-")
    assert all(line in page for line in words)


def test_a_random_team_is_never_the_one_to_use(pool: Pool, capsys, tmp_path):
    """Also where chance makes it the best on validation, or nothing else was selected."""
    from lrensemble import evaluate, select_teams
    from lrensemble.pool import best_team

    [drawn] = select_teams(pool, ["random"], size=2)
    assert best_team(pool.teams) is None
    for command in ("select", "evaluate", "report"):
        assert main([command, str(pool.path), *(["--selector", "random"] if command == "select" else [])]) == 0
        assert capsys.readouterr().out.startswith("No team ")
    assert main(["export", str(pool.path), "-o", str(tmp_path / "x")]) == 2
    assert "has no team to use: lrensemble select" in capsys.readouterr().err
    for path in (pool.path / "teams").glob("random*"):
        path.unlink()
    [every] = select_teams(pool, ["all"])
    pool.save_team(drawn.model_copy(update={"validation": every.validation | {"nll": 0.0}}))
    assert best_team(pool.teams).name == "all"
    assert main(["evaluate", str(pool.path)]) == 0
    assert "team all" in capsys.readouterr().out.split(".")[0]
    assert evaluate(pool).verdicts[drawn.name].startswith(f"Team {drawn.name} is random: a control")
    assert main(["export", str(pool.path), "-o", str(tmp_path / "x"), "--no-benchmark"]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'x'}: all, 4 members")


def test_quiet_verbose_and_csv(pool: Pool, capsys):
    words = ["select", str(pool.path), "--selector", "all", "greedy"]
    assert main([*words, "-q"]) == 0
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 1 and captured.out.startswith("Team ") and captured.err == ""
    assert main([*words, "-v"]) == 0
    assert "Members and weights" in capsys.readouterr().out
    assert main([*words, "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {row["team"] for row in rows} == {"all", "greedy"}
    assert all(float(row["NLL"]) > 0 for row in rows)


texts = st.text("ab 1.-,é漢", max_size=12)


@given(st.lists(st.lists(texts, min_size=3, max_size=3), min_size=1, max_size=4), st.integers(8, 60))
def test_every_cell_is_whole_in_the_blocks_of_a_table(rows, width):
    columns = columns_of(["<name", "number", "<text"], rows)
    blocks = blocks_of(columns, width)
    assert {column.name for block in blocks for column in block.columns} == {"name", "number", "text"}
    drawn = "\n".join(line for block in blocks for line in block.lines)
    assert all(cell[1].strip() in drawn for cell in rows)  # a number is never wrapped
    assert all(word in drawn for cell in rows for word in cell[2].split())


def test_columns_that_are_equal_in_every_row_are_named_once():
    columns = columns_of(["<name", "seed", "value"], [["a", "0", "1"], ["b", "0", "2"]])
    left, said = split_constant(columns)
    assert [column.name for column in left] == ["name", "value"]
    assert said == ["seed 0"]
    assert split_constant(columns_of(["<name", "seed"], [["a", "0"]]))[1] == []
