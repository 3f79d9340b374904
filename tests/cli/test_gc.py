"""`lrensemble gc` says first, and does it with --yes."""

from __future__ import annotations

import json

import pytest

from lrensemble import Pool
from lrensemble.cli.main import main
from lrensemble.pool.select import select_teams


def test_says_first_and_deletes_with_yes(pool: Pool, capsys):
    select_teams(pool, ["top-k"], size=1)
    path = str(pool.path)
    before = sorted(pool.path.rglob("*"))
    assert main(["gc", path, "--max-size", "0"]) == 1  # teams and predictions stay, so it is more than 0
    captured = capsys.readouterr()
    assert captured.out.startswith(f"{path}: ")
    assert "Nothing was deleted yet: the same with --yes does it" in captured.out
    assert "that is more than 0 B: the rest is kept" in captured.err
    assert sorted(pool.path.rglob("*")) == before
    assert main(["gc", path, "--max-size", "0", "--format", "json"]) == 1
    planned = json.loads(capsys.readouterr().out)
    assert planned["deleted"] is False
    assert sorted(pool.path.rglob("*")) == before
    assert main(["gc", path, "--max-size", "0", "--yes", "--format", "json"]) == 1
    done = json.loads(capsys.readouterr().out)
    assert done == {**planned, "deleted": True}
    assert not [item for item in done["items"] if item["path"] in map(str, pool.path.rglob("*"))]
    assert main(["gc", path, "--max-size", "1TB", "--yes"]) == 0
    assert "nothing to delete" in capsys.readouterr().out
    assert main(["evaluate", path]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-size", "2"], "size '2' is not possible: write for example 2GB"),
        (["--max-size", "lots"], "size 'lots' is not possible"),
        (["--max-size", "0", "--keep-best", "-3"], "--keep-best: -3 is not possible"),
        (["--keep-best", "two"], "two is not possible: a whole number"),
        (["--dry-run"], "does not know '--dry-run'"),
        (["--max-sise", "2GB"], "did you mean '--max-size'"),
    ],
)
def test_bad_input(pool: Pool, capsys, arguments, message):
    before = sorted(pool.path.rglob("*"))
    assert main(["gc", str(pool.path), *arguments, "--yes"]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert captured.out == ""
    assert sorted(pool.path.rglob("*")) == before


def test_no_pool(tmp_path, capsys):
    assert main(["gc", str(tmp_path), "--yes"]) == 2
    assert "is not a pool" in capsys.readouterr().err
