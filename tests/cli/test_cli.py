"""The command as people use it: real processes for what needs one, in-process for the rest."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn

from lrensemble import Pool
from lrensemble.cli.main import COMMANDS, build_parser, main, parse
from lrensemble.selection import SELECTORS
from lrensemble.training.progress import how_far
from tests.conftest import PATIENCE

CONFIG = """
name: tiny
data: {name: digits, val_fraction: 0.25}
model: {name: mlp, hidden: [16]}
optimizer: {name: SGD, momentum: 0.9}
training: {epochs: 3, batch_size: 64}
policies:
  - FIX(k0=[0.02, 0.1])
  - COS(k0=0.2, l=100%)
"""


@pytest.fixture
def config_file(tmp_path: Path) -> str:
    path = tmp_path / "tiny.yaml"
    path.write_text(CONFIG)
    return str(path)


def command(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lrensemble", *arguments], capture_output=True, text=True, timeout=PATIENCE, **options
    )


def test_the_whole_way(config_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", config_file, "--workers", "1", "control=true", "--threads", "1", "training.epochs=2"]) == 0
    captured = capsys.readouterr()
    assert "checkpoints/tiny: 3 complete" in captured.out
    assert "[3/3]" in captured.err
    assert main(["select", "checkpoints/tiny", "--selector", "greedy", "all,top-k", "--size", "2"]) == 0
    out = capsys.readouterr().out
    assert "greedy-2" in out
    assert "n = 337" in out
    assert main(["evaluate", "checkpoints/tiny", "--team", "greedy-2"]) == 0
    out = capsys.readouterr().out
    assert "test split (n = 450), chance 10.00 %" in out
    assert "over seeds-only" in out and "over other ways to train" in out
    assert main(["ls", "checkpoints/tiny"]) == 0
    assert "greedy-2 (" in capsys.readouterr().out
    member = Pool.open("checkpoints/tiny").members[0].id
    assert main(["show", "checkpoints/tiny", member[:7]]) == 0
    assert "val_accuracy" in capsys.readouterr().out


def test_json_is_alone_on_stdout(pool: Pool, config_file, capfd):
    """Of the process's own stdout, so that nothing slips past by way of a library."""
    for arguments, key in (
        (["select", str(pool.path)], "teams"),
        (["evaluate", str(pool.path)], "scores"),
        (["ls", str(pool.path)], "members"),
        (["show", str(pool.path), pool.members[0].id], "history"),
        (["train", config_file, "--dry-run", "--pool", str(pool.path / "x")], "members"),
        (["train", config_file, "--pool", str(pool.path.parent / "new"), "--workers", "1"], "members"),
    ):
        code = main([*arguments, "--format", "json"])
        captured = capfd.readouterr()
        assert code == 0, captured.err
        assert key in json.loads(captured.out)


def test_help_loads_nothing_heavy():
    program = (
        "import sys; from lrensemble.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'sklearn', 'pydantic', 'rich', 'joblib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in COMMANDS)


def test_ls_loads_no_torch(pool: Pool):
    program = (
        "import sys; from lrensemble.cli.main import main\n"
        "code = main(['ls', sys.argv[1]])\n"
        "heavy = {'torch', 'sklearn', 'scipy', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy and code == 0, heavy"
    )
    done = subprocess.run([sys.executable, "-c", program, str(pool.path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_first_words(capsys):
    """What people type before they have read anything."""
    for words, answer in (([], "The job, in this order"), (["help"], "The job"), (["version"], "lrensemble ")):
        with contextlib.suppress(SystemExit):  # argparse leaves after help
            main(words)
        assert answer in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["help", "database", "sync"])  # by its old name
    assert "policies sync" in capsys.readouterr().out
    for words in (["help", "policies", "plot"], ["policies", "plot", "--help"]):
        with pytest.raises(SystemExit) as left:
            main(words)
        assert left.value.code == 0
        assert "--steps-per-epoch" in capsys.readouterr().out


def subparsers(parser) -> list:
    below = [action.choices.values() for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return [leaf for choices in below for command in choices for leaf in subparsers(command)] or [parser]


def test_options_have_one_name_everywhere():
    """Every command prints for programs, too; and what is the same is called the same."""
    leaves = subparsers(build_parser()[0])
    assert len(leaves) > 25
    for parser in leaves:
        shown = {
            name for action in parser._actions if action.help != argparse.SUPPRESS for name in action.option_strings
        }
        assert not shown & {"--device", "--minutes", "--time-limit", "--n", "--top", "--count"}, parser.prog
        others = ("completion", "demo", "serve")  # a script, several commands, and one that answers over HTTP
        assert "--format" in shown or parser.prog.endswith(others), parser.prog
        assert {"-v", "-q"} <= shown or "--format" not in shown


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("run c.yaml --rounds 2 --n 3", "propose c.yaml --train --rounds 2 -n 3"),
        ("database ls --data digits", "policies tasks --data digits"),
        ("database top -n 3", "policies top -n 3"),
        ("database sync pools", "policies sync pools"),
        ("propose p --n 3", "propose p -n 3"),
        ("diversity p --top 3", "diversity p -n 3"),
        ("select p --time-limit 5", "select p --time 5"),
        ("recommend c.yaml --minutes 2", "recommend c.yaml --time 120s"),
    ],
)
def test_old_names_go_on_with_a_note(old, new):
    before, now = (vars(parse(text.split())) for text in (old, new))
    assert all(" is called " in note for note in before.pop("renamed")) and "renamed" not in now
    assert {**before, "root": None} == {**now, "root": None}


@pytest.mark.parametrize("option", ["--on ray", "--track tensorboard:x", "--resource a=1", "--devices cuda"])
def test_options_of_training_are_not_passed_over_without_it(option, capsys):
    assert main(["propose", "pool", *option.split()]) == 2
    assert f"{option.split()[0]} is for --train" in capsys.readouterr().err


def test_completion_is_a_script_that_the_shell_takes(tmp_path):
    done = command("completion", "bash")
    (tmp_path / "completion").write_text(done.stdout)
    words = 'source completion; COMP_WORDS=(lrensemble sel); COMP_CWORD=1; _shtab_lrensemble; echo "${COMPREPLY[@]}"'
    found = subprocess.run(["bash", "-c", words], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert found.stdout.split() == ["select"]
    assert "--time-limit" not in done.stdout


def test_ls_finds_the_pools_below(pool: Pool, tmp_path, monkeypatch, capsys):
    deep = tmp_path / "work" / "checkpoints" / "mine"
    deep.parent.mkdir(parents=True)
    pool.path.rename(deep)  # has a control, which is no pool of its own
    for folder in (tmp_path / "work", deep.parent):
        monkeypatch.chdir(folder)
        assert main(["ls", "--format", "json"]) == 0
        [one] = json.loads(capsys.readouterr().out)["pools"]
        assert one["pool"].endswith("mine")
    monkeypatch.chdir(deep)
    assert main(["ls"]) == 0
    assert "4 members" in capsys.readouterr().out
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert main(["ls"]) == 2
    assert "lrensemble demo" in capsys.readouterr().err


def test_help_names_every_selector(capsys):
    with pytest.raises(SystemExit):
        main(["select", "--help"])
    out = capsys.readouterr().out
    assert all(name in out for name in SELECTORS)


def test_select_opens_no_file_of_the_test_split(pool: Pool):
    """Every file that the process opens, by Python's own audit events."""
    program = (
        "import sys\n"
        "opened = []\n"
        "sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == 'open' else None)\n"
        "from lrensemble.cli.main import main\n"
        "code = main(['select', sys.argv[1]])\n"
        "print('\\n'.join(path for path in opened if sys.argv[1] in path), file=sys.stderr)\n"
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(pool.path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    opened = done.stderr.splitlines()
    assert sum(path.endswith("predictions/val.npy") for path in opened) >= 4
    assert any(path.endswith("labels/val.npy") for path in opened)
    assert not [path for path in opened if "test" in path.removeprefix(str(pool.path))]


def one_error_line(done: subprocess.CompletedProcess[str] | None = None, code=None, err="") -> str:
    if done is not None:
        code, err = done.returncode, done.stderr
    assert code == 2
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    return lines[0]


def _fill(argument: str, names: dict[str, str]) -> str:
    for name, value in names.items():
        argument = argument.replace(f"{{{name}}}", value)
    return argument


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "did you mean 'train'"),
        (["help", "trian"], "did you mean 'train'"),
        (["policies", "plto"], "did you mean 'plot'"),
        (["select", "{pool}", "--formt=json"], "did you mean '--format'"),
        (["select", "{pool}", "--format", "jsn"], "did you mean 'json'"),
        (["train"], "required: CONFIG"),
        (["train", "{config}", "--worker", "2"], "did you mean '--workers'"),
        (["train", "{config}", "--workers", "two"], "--workers: two is not possible"),
        (["train", "{config}", "--workers", "0"], "--workers: 0 is not possible"),
        (["train", "{config}", "stray"], "'stray' is not an override"),
        (["train", "{config}", "training.epoch=1"], "did you mean 'epochs'"),
        (["train", "{config}", "policies=COSS(0.1)"], "did you mean 'COS'"),
        (["train", "{config}", "model=lenett"], "did you mean 'lenet'"),
        (["train", "{config}", "model=lenet"], "cannot take inputs"),
        (["train", "{config}", "data.name=idx", "data.root=/nowhere"], "/nowhere: it does not exist"),
        (["train", "{config}", "data.val_fraction=1.2"], "data.val_fraction = 1.2"),
        (["train", "{config}", "--device", "cuda:77"], "cuda:77"),
        (["train", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["select", "{pool}", "--selector", "gredy"], "did you mean 'greedy'"),
        (["select", "{pool}", "--size", "99"], "size 99"),
        (["select", "{pool}", "--objective", "acc"], "unknown objective 'acc'"),
        (["select", "{nowhere}"], "is not a pool"),
        (["evaluate", "{pool}", "--team", "greedy"], "has no team 'greedy'"),
        (["evaluate", "{pool}"], "has no teams yet"),
        (["ls", "{nowhere}"], "is not a pool"),
        (["show", "{pool}", "zzz"], "is not in the pool"),
        (["select", "{pool}", "--selector", ""], "no selector is named"),
        (["train", "{config}", "model.hidden=[-5]"], "hidden = [-5] is not possible"),
        (["train", "{config}", "model.hidden=[a]"], "hidden = ['a'] is not possible"),
        (["train", "{config}", "model.dropout=2"], "model mlp(hidden=[16], dropout=2) cannot be built"),
        (["train", "{config}", "model={name: resnet20, depth: a}"], "cannot be built"),
        (["train", "{config}", "model={name: torchvision:resnet18, groups: 3}"], "cannot be built"),
        (["train", "{config}", "model=builtins:dict"], "model 'builtins:dict'"),
        (["train", "{config}", "model=':x'"], "is not the name of a module"),
        (["train", "{config}", "model=tests.training.test_runner:returns_tuple"], "gives tuple for 2 rows"),
        (["train", "{config}", "optimizer={name: Adam, fused: true, foreach: true}"], "optimizer Adam"),
        (["train", "{config}", "optimizer={name: Adam, betas: [0.9]}"], "optimizer Adam"),
        (["train", "{config}", "optimizer=SparseAdam"], "optimizer SparseAdam cannot train"),
        (["train", "{config}", "optimizer.weight_decay=.nan"], "weight_decay = nan is not possible"),
        (["train", "{config}", "data.root=/nowhere"], "data.root = /nowhere: data set 'digits' has no use for it"),
        (["train", "{config}", "data.size=32"], "data.size = 32: data set 'digits' has no use for it"),
        (["train", "{config}", "seeds=200000000"], "seeds = 200000000"),
        (["train", "{config}", "seeds=[-1]"], "seeds.0 = -1"),
        (["train", "{config}", "seeds=2024-13-45"], "not YAML"),
        (["train", "{config}", "training.epochs=1" + 400 * "0"], "training.epochs = 1"),
        (["train", "{config}", "name=.."], "name = '..'"),
        (["train", "{config}", "--threads", "99999999999"], "--threads: 99999999999 is not possible"),
        (["train", "{config}", "--device", "hpu"], "unknown device 'hpu'"),
        (["train", "{config}", "--device", "meta"], "unknown device 'meta'"),
        (["train", "{config}", "--pool", 300 * "x"], "File name too long"),
        (["train", "{config}", "--pool", "{config}/x"], "Not a directory"),
        (["ls", 300 * "x"], "File name too long"),
        (["evaluate", "{pool}", "--team", 300 * "x"], "has no team 'xxx"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, config_file, pool: Pool, capsys):
    names = {"config": config_file, "pool": str(pool.path), "nowhere": str(pool.path.parent / "nowhere")}
    code = main([_fill(argument, names) for argument in arguments])
    captured = capsys.readouterr()
    assert message in one_error_line(code=code, err=captured.err)
    assert captured.out == ""
    assert not Path("checkpoints/tiny").exists()


def test_failed_members_give_exit_code_1(config_file, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    code = main(
        [
            "train",
            config_file,
            "model=tests.training.test_runner:fails_in_training",
            "--pool",
            str(tmp_path / "p"),
            "--workers",
            "1",
        ]
    )
    assert code == 1
    captured = capsys.readouterr()
    assert "3 failed" in captured.out
    assert "FAILED: RuntimeError: a bug in the user's model" in captured.err


def test_ls_shows_damaged_members_and_teams(pool: Pool, capsys):
    (pool.members[0].path / "record.json").write_text("{")
    (pool.path / "teams").mkdir()
    (pool.path / "teams" / "mine.json").write_text("{")
    assert main(["ls", str(pool.path)]) == 0
    captured = capsys.readouterr()
    assert "damaged" in captured.out
    assert "team mine is left out: " in captured.err
    (pool.path / "teams" / "mine.json").unlink()
    with pytest.warns(UserWarning, match="delete the folder"):
        assert main(["select", str(pool.path), "--selector", "all"]) == 0
    assert "Team all: 3 of 3 members" in capsys.readouterr().out.replace("\n", "")


def interrupts(*, input_shape, num_classes, mark: str, number: int):
    """A network that sends a signal in its second epoch, once: to the trainer and its workers, as a terminal does."""

    class Interrupting(nn.Sequential):
        calls = 0

        def forward(self, x):
            self.calls += 1
            if self.calls == 20:
                with contextlib.suppress(FileExistsError):
                    Path(mark).touch(exist_ok=False)
                    if number == signal.SIGTERM:
                        os.kill(os.getppid(), number)  # this is a worker
                    else:
                        os.killpg(os.getpgid(0), number)
            return super().forward(x)

    return Interrupting(nn.Flatten(), nn.Linear(64, num_classes))


def interrupted(words: list[str]) -> subprocess.CompletedProcess[str]:
    """Run the command as a terminal would."""
    # Tests that run in the background of a shell inherit an ignored SIGINT; a terminal's programs do not.
    return command(*words, start_new_session=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_ctrl_c_stops_at_once_and_goes_on_later(config_file, tmp_path, workers):
    model = f"model={{name: 'tests.cli.test_cli:interrupts', mark: {tmp_path / 'mark'}, number: {signal.SIGINT:d}}}"
    arguments = ["train", config_file, model, "--pool", str(tmp_path / "p"), "--workers", workers, "--threads", "1"]
    done = interrupted(arguments)
    assert done.returncode == 130, done.stderr
    assert "the same command goes on from here" in done.stderr
    assert "Traceback" not in done.stderr
    done = command(*arguments)
    assert done.returncode == 0, done.stderr
    assert len(Pool.open(tmp_path / "p").complete) == 3


@pytest.mark.parametrize(
    ("words", "kept"),
    [("select POOL", False), ("propose POOL", False), ("propose c.yaml --train", True), ("train c.yaml", True)],
)
def test_saved_state_is_spoken_of_where_there_is_some(words, kept, capsys, monkeypatch):
    def press(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(COMMANDS[words.split()[0]], "run", press)
    assert main(words.split()) == 130
    assert ("goes on from here" in capsys.readouterr().err) == kept


def test_how_far_a_long_training_is():
    assert how_far(30, 90, 10, 60.0) == "30 of 90 epochs, about 0:06:00 left"
    assert how_far(20, 90, 0, 60.0) == "20 of 90 epochs"  # trained before: of the speed nothing is known


def test_dry_run_writes_nothing(config_file, tmp_path, capsys):
    assert main(["train", config_file, "--dry-run", "--pool", str(tmp_path / "p"), "seeds=2"]) == 0
    out = capsys.readouterr().out
    assert "6 members, 6 to train" in out
    assert "of disk" in out
    assert not (tmp_path / "p").exists()


def test_a_closed_pipe_is_no_error(pool: Pool):
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m lrensemble ls {pool.path} --format json | true; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == 128 + signal.SIGPIPE


def test_training_that_only_diverges_says_so(config_file, tmp_path, capsys):
    code = main(["train", config_file, "policies=FIX(1e30)", "--pool", str(tmp_path / "p")])
    captured = capsys.readouterr()
    assert code == 2
    assert "no complete member (1 diverged: lower the learning rates)" in captured.err


def test_failures_in_the_control_are_counted(config_file, tmp_path, capsys):
    """The member trains, its copies with other seeds break: that is a failure too."""
    model = "model=tests.training.test_runner:fails_for_other_seeds"
    code = main(["train", config_file, model, "policies=FIX(0.1)", "control=true", "--pool", str(tmp_path / "p")])
    captured = capsys.readouterr()
    assert code == 1
    assert "1 complete" in captured.out
    assert "1 member failed (with the control)" in captured.err


def test_sigterm_stops_like_ctrl_c(config_file, tmp_path):
    """Sent to the trainer alone; its workers end with it."""
    model = f"model={{name: 'tests.cli.test_cli:interrupts', mark: {tmp_path / 'mark'}, number: {signal.SIGTERM:d}}}"
    done = interrupted(["train", config_file, model, "--pool", str(tmp_path / "p"), "--workers", "2"])
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
