"""The command as people use it: real processes for what needs one, in-process for the rest."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lrensemble import Pool
from lrensemble.cli.main import COMMANDS, main
from lrensemble.selection import SELECTORS

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
        [sys.executable, "-m", "lrensemble", *arguments], capture_output=True, text=True, timeout=120, **options
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
    assert "test split (n = 450)" in out
    assert "over seeds-only" in out
    assert main(["ls", "checkpoints/tiny"]) == 0
    assert "greedy-2 (" in capsys.readouterr().out
    member = Pool.open("checkpoints/tiny").members[0].id
    assert main(["show", "checkpoints/tiny", member[:7]]) == 0
    assert "val_accuracy" in capsys.readouterr().out


def test_json_is_alone_on_stdout(pool: Pool, config_file):
    for arguments, key in (
        (["select", str(pool.path)], "teams"),
        (["evaluate", str(pool.path)], "scores"),
        (["ls", str(pool.path)], "members"),
        (["show", str(pool.path), pool.members[0].id], "history"),
        (["train", config_file, "--dry-run", "--pool", str(pool.path / "x")], "members"),
        (["train", config_file, "--pool", str(pool.path.parent / "new"), "--workers", "1"], "members"),
    ):
        done = command(*arguments, "--format", "json")
        assert done.returncode == 0, done.stderr
        assert key in json.loads(done.stdout)


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "did you mean 'train'"),
        ([], "required: COMMAND"),
        (["train"], "required: CONFIG"),
        (["train", "{config}", "--worker", "2"], "did you mean '--workers'"),
        (["train", "{config}", "--workers", "two"], "--workers: invalid int value: 'two'"),
        (["train", "{config}", "--workers", "0"], "workers = 0"),
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
        (["select", "{pool}", "--objective", "acc"], "invalid choice: 'acc'"),
        (["select", "{nowhere}"], "is not a pool"),
        (["evaluate", "{pool}", "--team", "greedy"], "has no team 'greedy'"),
        (["evaluate", "{pool}"], "has no teams yet"),
        (["ls", "{nowhere}"], "is not a pool"),
        (["show", "{pool}", "zzz"], "is not in the pool"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, config_file, pool: Pool, capsys):
    names = {"config": config_file, "pool": str(pool.path), "nowhere": str(pool.path.parent / "nowhere")}
    code = main([argument.format(**names) if "{" in argument else argument for argument in arguments])
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


def test_ls_shows_damaged_members(pool: Pool, capsys):
    (pool.members[0].path / "record.json").write_text("{")
    assert main(["ls", str(pool.path)]) == 0
    assert "damaged" in capsys.readouterr().out
    assert main(["select", str(pool.path)]) == 2
    assert "delete the folder" in capsys.readouterr().err


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_stops_at_once_and_goes_on_later(config_file, tmp_path, workers):
    pool = tmp_path / "p"
    arguments = [
        "train",
        config_file,
        "--pool",
        str(pool),
        "--workers",
        workers,
        "--threads",
        "1",
        "training.epochs=400",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "lrensemble", *arguments], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while not list(pool.rglob("history.jsonl")):
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the parent and the workers
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "the same command goes on from here" in err
    assert "Traceback" not in err
    done = command(*arguments)
    assert done.returncode == 0, done.stderr
    assert len(Pool.open(pool).complete) == 3


def test_dry_run_writes_nothing(config_file, tmp_path, capsys):
    assert main(["train", config_file, "--dry-run", "--pool", str(tmp_path / "p"), "seeds=2"]) == 0
    out = capsys.readouterr().out
    assert "6 members, 6 to train" in out
    assert "of disk" in out
    assert not (tmp_path / "p").exists()


def test_a_closed_pipe_is_no_error(pool: Pool):
    shell = shutil.which("bash")
    done = subprocess.run(
        [shell, "-c", f"{sys.executable} -m lrensemble ls {pool.path} | head -1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr


def test_training_that_only_diverges_says_so(config_file, tmp_path, capsys):
    code = main(["train", config_file, "policies=FIX(1e30)", "--pool", str(tmp_path / "p")])
    captured = capsys.readouterr()
    assert code == 2
    assert "no complete member (1 diverged: lower the learning rates)" in captured.err
