"""Shares of a pool: together they are the pool, each once, whatever starts them."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrensemble import Pool, UserError, load_config, train_pool
from lrensemble.cli.main import main
from lrensemble.training.shard import Shard
from tests.conftest import tiny_config
from tests.training.test_runner import contents

DOCS = Path(__file__).parents[2] / "docs" / "cluster.md"


@given(st.integers(0, 40), st.integers(1, 20))
def test_shares_are_a_partition_of_equal_sizes(runs, count):
    shares = [Shard(i, count).of(range(runs)) for i in range(1, count + 1)]
    assert sorted(run for share in shares for run in share) == list(range(runs))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(
    "text", ["0/4", "5/4", "1/0", "1/100001", "1", "a/b", "1/2/3", "-1/4", "", "1 /2", "1.5/4", "³/4"]
)
def test_what_is_no_shard(text, tmp_path, capsys):
    with pytest.raises(UserError, match=r"shard .* is not possible"):
        Shard.parse(text)
    assert main(["train", str(tmp_path / "c.yaml"), "--pool", str(tmp_path / "p"), f"--shard={text}"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "is not possible" in err
    assert not list(tmp_path.iterdir())


def slurm(tmp_path: Path, task: int, count: int) -> list[str]:
    """What docs/cluster.md's script calls lrensemble with, as task number `task` of an array of `count`."""
    script = re.search(r"```bash\n(#!/bin/bash.*?)```", DOCS.read_text(), re.DOTALL)[1]
    (tmp_path / "array.sh").write_text(script)
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True, exist_ok=True)
    (programs / "activate").write_text(f'PATH="{programs}:$PATH"\n')
    (programs / "lrensemble").write_text("#!/bin/bash\nprintf '%s\\n' \"$@\"\n")
    (programs / "lrensemble").chmod(0o755)
    numbers = {"SLURM_ARRAY_TASK_ID": task, "SLURM_ARRAY_TASK_COUNT": count, "SLURM_CPUS_PER_TASK": 1}
    environment = {**os.environ, **{k: str(v) for k, v in numbers.items()}, "SLURM_SUBMIT_DIR": str(tmp_path)}
    done = subprocess.run(
        ["bash", "array.sh"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_the_script_of_the_docs_fills_a_pool(config, trained, tmp_path, monkeypatch, capsys):
    """Three jobs, then the array once more: the same files as one process makes, the control included."""
    (tmp_path / "config.yaml").write_text(config.model_dump_json())
    monkeypatch.chdir(tmp_path)
    for task in (2, 3, 1):
        words = slurm(tmp_path, task, 3)
        assert words[0] == "train" and f"{task}/3" in words
        assert main([*words, "--devices", "cpu"]) == 0
        out = capsys.readouterr().out
        assert out.startswith(f"shard {task}/3 of checkpoints/pool: ")
    assert len(Pool.open("checkpoints/pool").control.members) == 2  # the last one's share: the runs were finished
    finished = {m.id: m.record.finished for m in Pool.open("checkpoints/pool").members}
    for task in (1, 2, 3):
        assert main([*slurm(tmp_path, task, 3), "--devices", "cpu"]) == 0
    assert {m.id: m.record.finished for m in Pool.open("checkpoints/pool").members} == finished
    assert contents(tmp_path / "checkpoints" / "pool") == contents(trained)


def test_a_share_says_what_is_left(tmp_path, capsys):
    config = load_config(tiny_config(control=False, training={"epochs": 1, "batch_size": 64}))
    (tmp_path / "c.yaml").write_text(config.model_dump_json())
    words = ["train", str(tmp_path / "c.yaml"), "--pool", str(tmp_path / "p"), "--workers", "1"]
    assert main([*words, "--shard", "3/3"]) == 0
    out = capsys.readouterr().out
    assert "1 complete, 3 new" in out and "Next: the other shards\n" in out
    assert main([*words, "--shard", "9/9"]) == 0  # more shares than runs: nothing to do
    assert len(Pool.open(tmp_path / "p").members) == 1
    pool = train_pool(config, tmp_path / "p", workers=1, shard=Shard(1, 2))
    assert [m.status for m in pool.members] == ["complete"] * 2  # run 3 is in both shares
