"""Text from files and from a stranger's pool is shown, never obeyed, by the terminal."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from lrensemble import Pool, terminal
from lrensemble.cli import output
from lrensemble.cli.main import main
from lrensemble.cli.progress import progress
from tests.conftest import as_another

# Screen cleared, a title set, the clipboard written (OSC 52), C1's CSI, a bell, a line overwritten, an override of
# direction, an isolate, a separator of lines, half of a surrogate pair.
ATTACK = "\x1b[2J\x1b]0;title\x07\x1b]52;c;ZXZpbA==\x07\x9b31m\r\x08\u202egnp.exe\u2066\u2028\x7f[red]x[/red]:bomb:"
OBEYED = set("\x1b\x07\x9b\r\x08\u202e\u2066\u2028\x7f")


def attack(pool: Pool) -> str:
    """Put the text everywhere in a pool that somebody else may have written; the id of one member."""
    first, second = pool.members[:2]
    record = first.record
    spec = record.spec.model_copy(
        update={
            "notes": {ATTACK: ATTACK},
            "model": record.spec.model.model_copy(update={"name": ATTACK}),
        }
    )
    first = as_another(pool, first, spec)
    first.write_record(
        first.record.model_copy(
            update={
                "status": "failed",
                "reason": ATTACK,
                "traceback": f"Traceback\n  {ATTACK}\nError",
                "environment": {"git": ATTACK, "device": ATTACK},
                "created": ATTACK,
            }
        )
    )
    second.record_path.write_text(ATTACK)
    header = json.loads((pool.path / "pool.json").read_text())
    header["class_names"] = [f"{name}{ATTACK}" for name in header["class_names"]]
    header["data"]["name"] = ATTACK
    del header["sha256"]
    (pool.path / "pool.json").write_text(json.dumps(header))
    return first.id


def check(text: str) -> None:
    assert not OBEYED & set(text), sorted(OBEYED & set(text))


@pytest.mark.parametrize("format", ["table", "json"])
def test_no_name_of_a_pool_reaches_the_terminal_as_a_command(pool: Pool, capsys, format):
    member = attack(pool)
    path = str(pool.path)
    for words in (
        ["ls", path],
        ["show", path, member],
        ["select", path, "--selector", "greedy", "all"],
        ["evaluate", path, "--classes"],
        ["diversity", path],
        ["gc", path],
        ["report", path, "-o", f"{path}/r.html"],
    ):
        assert main([*words, *(["--format", "json"] if format == "json" else [])]) == 0, words
        out, err = capsys.readouterr()
        check(out), check(err)
        if format == "json":
            json.loads(out)
        if words[0] == "show":
            assert "\\x1b[2J" in out or (format == "json" and json.loads(out)["reason"] == ATTACK)
            assert "[red]x[/red]:bomb:" in out  # neither markup nor emoji


def test_errors_and_warnings_show_what_they_name(tmp_path, capsys):
    assert main(["ls", str(tmp_path / f"no{ATTACK}\nerror: all is well")]) == 2
    out, err = capsys.readouterr()
    check(out + err)
    assert "\\x1b" in err
    assert not any(line.startswith("error: all") for line in err.splitlines())
    terminal.warn(UserWarning(ATTACK), UserWarning)
    try:
        raise ValueError(ATTACK)
    except ValueError as error:
        terminal.crash(type(error), error, error.__traceback__)
    err = capsys.readouterr().err
    check(err)
    assert err.count("\n") > 3  # a traceback keeps its lines
    with output.working(ATTACK) as tell:
        tell(ATTACK)
    check(capsys.readouterr().err)


def test_the_console_script_installs_the_hooks():
    code = (
        "import sys, lrensemble.cli.main as m, lrensemble.cli.ls as ls\n"
        "def run(args): import warnings; warnings.warn('w\\x1b'); raise ValueError('x\\x1b')\n"
        "ls.run = run; sys.argv = ['lrensemble', 'ls', 'p']; m.run()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "warning: w\\x1b" in done.stderr and "ValueError: x\\x1b" in done.stderr
    check(done.stderr)


def test_what_a_worker_process_writes_is_shown_too():
    """Its stderr is the command's; a warning, an error of a thread and one in __del__ go through no command."""
    code = (
        "import threading, warnings, lrensemble.training.worker as w, lrensemble.training.member as m\n"
        "class Gone:\n  def __del__(self): raise ValueError('d\\x1b')\n"
        "def train(job):\n"
        "  warnings.warn('w\\x1b]52;c;x\\x07'); Gone()\n"
        "  thread = threading.Thread(target=lambda: int('t\\x1b')); thread.start(); thread.join()\n"
        "  raise SystemExit(3)\n"
        "m.train_members = train; m.Job.model_validate_json = lambda text: text; w.main()"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as worker:
        worker.stdin.write("x\n")
        worker.stdin.flush()  # and not closed: that is how a worker learns that its parent is gone
        err = worker.stderr.read()
    assert "warning: w\\x1b" in err
    assert "ValueError: d\\x1b" in err
    assert "'t\\x1b'" in err
    check(err)


def test_an_error_of_many_characters_ends(capsys):
    assert main(["ls", "x" * 100_000]) == 2
    assert len(capsys.readouterr().err) < 11_000


def test_progress_shows_reasons(pool: Pool, capsys):
    watcher = progress()
    member = pool.members[0]
    watcher.start(pool, [member], 0)
    watcher.member_done(member.record.model_copy(update={"status": "failed", "reason": ATTACK}))
    watcher.stop()
    err = capsys.readouterr().err
    check(err)
    assert "[red]x[/red]:bomb:" in err


def test_a_folder_with_markup_in_its_name(pool: Pool, tmp_path, capsys):
    odd = tmp_path / "[link=http_evil]x[red]"
    pool.path.rename(odd)
    assert main(["ls", str(odd)]) == 0
    assert "[link=http_evil]x[red]" in capsys.readouterr().out
    watcher = progress()
    watcher.start(Pool.open(odd), [], 4)
    watcher.stop()
    assert "[link=http_evil]x[red]: 4 members" in capsys.readouterr().err


def test_letters_stay_letters():
    for text in ("Größe", "猫", "👩\u200d🔬", "a\tb\nc"):
        assert output.shown(text) == text
    assert output.shown("\ud800") == "\\ud800"
