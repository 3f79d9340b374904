"""What a person sees at a terminal: the answer first, and no number or name that is cut."""

from __future__ import annotations

import csv
import html
import io
import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrensemble import Pool
from lrensemble.cli import output
from lrensemble.cli.main import main
from lrensemble.cli.table import blocks_of, columns_of, split_constant

NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?![\w.])")
# Command -> what its first two lines say, and the most lines of its default output on the small pool at 80 columns.
COMMANDS = {
    "ls {pool}": ("4 members", 16),
    "ls {folder}": ("1 pool in", 6),
    "select {pool}": ("Team", 20),
    "evaluate {pool}": ("orth it", 40),  # with the bills of other ways to train beside each other
    "report {pool}": ("orth it", 14),
    "diversity {pool}": ("of all 4 members", 25),
    "propose {pool} -n 3": ("Train", 16),
    "train {pool}/config.json --pool {pool} --workers 1": ("4 complete. Best:", 4),
    "policies sync {pool} --storage {folder}/p.db": ("8 runs added", 3),
    "policies tasks --storage {folder}/p.db": ("1 tasks", 10),
    "policies top --storage {folder}/p.db": ("4 policies by accuracy", 16),
    "show {pool} {member}": ("member", 50),
}


@pytest.fixture(scope="module")
def screens(trained: Path, tmp_path_factory) -> dict[tuple[str, int | None], str]:
    """Every command's stdout at 80 and 120 columns and in a pipe."""
    folder = tmp_path_factory.mktemp("answers")
    pool = Pool.open(shutil.copytree(trained, folder / "tiny"))
    names = {"pool": str(pool.path), "folder": str(folder), "member": pool.members[0].id}
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        for command in COMMANDS:
            for width in (80, 120, None) if command != "policies sync {pool} --storage {folder}/p.db" else (80,):
                text = io.StringIO()
                patch.setattr("sys.stdout", text)
                patch.setattr(output, "terminal_width", lambda width=width: width)
                assert main(command.format(**names).split()) == 0
                found[command, width] = text.getvalue()
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_the_answer_comes_first_and_nothing_is_cut(screens, command):
    answer, most = COMMANDS[command]
    widths = [width for name, width in screens if name == command]
    for width in widths:
        lines = screens[command, width].splitlines()
        assert answer in " ".join(" ".join(lines[:2]).split())
        assert "…" not in screens[command, width]
        if width:
            assert len(lines) <= most
            for line in lines:  # a line that is longer is one word, such as a path, or a command to copy
                assert len(line) <= width or line.startswith("Next: ") or max(map(len, line.split())) > width // 3, line
    if None in widths:
        known = set(NUMBER.findall(screens[command, None]))
        for width in (80, 120):
            assert set(NUMBER.findall(screens[command, width])) <= known | {str(width)}


def test_rows_are_aligned_and_what_is_equal_is_said_once(screens):
    lines = screens["ls {pool}", 80].splitlines()
    assert any(line.startswith("In every row: status complete") for line in lines)
    head = next(i for i, line in enumerate(lines) if line.startswith("id"))
    rows = [line for line in lines[head:] if re.match(r"[0-9a-f]{10} ", line)]
    assert len(rows) == 4
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
