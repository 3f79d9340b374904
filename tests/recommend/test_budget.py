"""B trainings: the ladder, what follows it, and the command, killed and resumed."""

from __future__ import annotations

import itertools
import json
import random
import signal
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lrensemble import Pool, load_config
from lrensemble.cli.main import main
from lrensemble.recommend.budget import decades, first_runs, half_decades, ladder, more_seeds, next_runs
from lrensemble.recommend.propose import Known
from lrensemble.recommend.rounds import read_rounds
from tests.commands import OPERATIONS, Commands
from tests.conftest import tiny_config

BASE = load_config(tiny_config(policies=["FIX(0.1)"], seeds=[0])).specs()[0]
ROWS = 200


def known(losses: dict[str, float | None], base=BASE) -> Known:
    """Runs by policy with these NLLs; None: diverged."""
    rng = np.random.default_rng(0)
    complete = np.array([loss is not None for loss in losses.values()])
    spread = rng.normal(0, 0.05, (int(complete.sum()), ROWS))
    spread -= spread.mean(1, keepdims=True)
    true = np.exp(-(np.array([loss for loss in losses.values() if loss is not None]).reshape(-1, 1) + spread))
    return Known(
        specs=[base.model_copy(update={"policy": policy}) for policy in losses],
        complete=complete,
        seconds=np.where(complete, 1.0, np.nan),
        true=true.reshape(-1, ROWS),
        right=true.reshape(-1, ROWS) > 0.5,
        others=np.empty((0, ROWS)),
        chance=0.1,
        train_rows=1010,
    )


def cos(*peaks: str) -> list[str]:
    return [f"COS(k0={peak}, l=100%)" for peak in peaks]


def test_the_ladder_is_of_the_optimizer():
    assert set(ladder("SGD")) == set(cos("0.01", "0.1", "1"))
    for name in ("Adam", "AdamW", "torch_optimizer.RAdam", "RMSprop", "lion_pytorch.Lion"):
        assert sorted(decades(name)) == [1e-4, 1e-3, 1e-2]
    assert [spec.policy for spec in first_runs([BASE])] == list(ladder("SGD"))


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ((0.5, 0.3, 0.9), ("0.0316", "0.316")),
        ((0.2, 0.3, 0.9), ("0.00316", "0.0316")),
        ((0.5, 0.3, 0.1), ("0.316", "3.16")),
        ((0.5, None, None), ("0.00316", "0.0316")),
        ((None, None, None), ()),
    ],
)
def test_half_decades_are_around_the_best_decade(losses, expected):
    so_far = dict(zip(cos("0.01", "0.1", "1"), losses, strict=True))
    assert [spec.policy for spec in half_decades(known(so_far), BASE)] == cos(*expected)
    half = dict.fromkeys(cos(*expected[:1]), 0.4)
    assert [spec.policy for spec in half_decades(known(so_far | half), BASE)] == cos(*expected[1:])


def test_then_seeds_of_the_best_of_the_ladder_come():
    losses = dict(zip(cos("0.01", "0.1", "1", "0.0316", "0.316"), (0.5, 0.3, 0.9, 0.25, None), strict=True))
    more = more_seeds(known(losses | {"FIX(k0=0.1)": 0.1}), BASE)
    assert [(spec.policy, spec.seed) for spec in more] == [(cos("0.0316")[0], i) for i in (1, 2, 3)]
    assert [p.spec for p in next_runs(known(losses), [BASE], 2, 0)] == more[:2]
    so_far = known(losses)
    # Its second seed is worse than another policy: the next one is of that.
    twice = replace(
        so_far,
        specs=[*so_far.specs, more[0]],
        complete=np.r_[so_far.complete, True],
        seconds=np.r_[so_far.seconds, 1.0],
        true=np.vstack([so_far.true, np.full(ROWS, np.exp(-0.45))]),
        right=np.vstack([so_far.right, so_far.right[:1]]),
    )
    assert [(spec.policy, spec.seed) for spec in more_seeds(twice, BASE)] == [(cos("0.1")[0], i) for i in (2, 3)]
    assert not more_seeds(known(dict.fromkeys(losses)), BASE)


def test_half_decades_come_first_and_others_fill_the_workers():
    so_far = known(dict(zip(cos("0.01", "0.1", "1"), (0.5, 0.3, 0.9), strict=True)))
    [one] = next_runs(so_far, [BASE], 1, 0)
    four = next_runs(so_far, [BASE], 4, 0)
    assert one.spec.policy == cos("0.0316")[0]
    assert [p.spec.policy for p in four[:2]] == cos("0.0316", "0.316")
    assert len({p.spec.model_dump_json() for p in four}) == 4
    assert four == next_runs(so_far, [BASE], 4, 0)
    assert all(p.gain is not None and p.seconds == pytest.approx(1) for p in four)
    without = next_runs(so_far, [BASE], 2, 0, ladder=False)
    assert not {p.spec.policy for p in without} & set(cos("0.0316", "0.316"))
    failed = next_runs(known(dict.fromkeys(cos("0.01", "0.1", "1"))), [BASE], 2, 0)
    assert len(failed) == 2


def test_other_configurations_do_not_count_for_the_ladder():
    other = BASE.model_copy(update={"training": BASE.training.model_copy(update={"epochs": 99})})
    assert half_decades(known({cos("0.1")[0]: 0.3}, other), BASE) == []


def test_fresh_seeds_of_the_best_are_among_what_may_come():
    """Where the best policy's members are noisy, all that is random is far behind: another seed of it is taken."""
    from lrensemble.recommend.candidates import candidate_specs

    specs = [BASE.model_copy(update={"policy": policy}) for policy in cos("0.1", "0.1", "0.01", "1", "3")]
    seeds = [spec.model_copy(update={"seed": i}) for i, spec in enumerate(specs)]
    found = candidate_specs([BASE], seeds, seeds, 0.01, 1, 0)
    assert [spec.policy for spec in found if spec.seed == 5] == cos("0.1", "0.01", "1")  # each once


def config(folder: Path, **changes) -> str:
    text = {key: value for key, value in tiny_config(control=False).items() if key not in ("policies", "seeds")}
    path = folder / "config.yaml"
    path.write_text(json.dumps(text | changes))
    return str(path)


def words(file: str, pool: Path, *more: str) -> list[str]:
    return ["run", file, "--pool", str(pool), "--workers", "1", "--threads", "1", *more]


def outcome(pool: Path) -> tuple[list[list[str]], dict[str, float]]:
    team = json.loads((pool / "teams" / "greedy.json").read_text())
    return [[s.model_dump_json() for s in r.specs] for r in read_rounds(Pool.open(pool))], team["members"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("budget")
    assert main(words(config(folder), folder / "pool", "--members", "7", "--format", "json")) == 0
    return folder / "pool"


def test_it_trains_exactly_so_many_and_says_what_to_use(whole, tmp_path, capsys):
    pool = Pool.open(whole)
    rounds = read_rounds(pool)
    assert len(pool.members) == 7 and [len(r.proposals) for r in rounds] == [3, 1, 1, 1, 1]
    assert {s.policy for r in rounds[:1] for s in r.specs} == set(ladder("SGD"))
    best = min(
        pool.members[:], key=lambda m: m.record.val.get("nll") or 9 if m.record.spec.policy in ladder("SGD") else 9
    )
    near = [s.policy for r in rounds[1:3] for s in r.specs]
    peak = float(best.record.spec.policy.split("k0=")[1].split(",")[0])
    assert near == cos(*(f"{peak * f:.3g}" for f in (10**-0.5, 10**0.5)))
    before = {p: p.stat().st_mtime_ns for p in whole.rglob("record.json")}
    assert main(words(config(tmp_path), whole, "--members", "7")) == 0
    out = capsys.readouterr().out
    assert out.startswith("Use ") and "7 trainings (7 members)" in out
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())


def killed(folder: Path, whole: Path, kills: int, rng: random.Random) -> Counter[str]:
    """Kill it so often, on as many pools as that takes; each ends as `whole`. What it was at when it was killed.

    First at an operation on files, in the n-th tenth of them all on the n-th pool, then, going on, at some moment.
    """
    file, hits = config(folder), Counter[str]()
    marks = folder / "marks"
    before = OPERATIONS.replace("MARKS", repr(str(marks)))
    with Commands(folder) as commands:

        def run(pool: Path, last: int = 0, after: float | None = None) -> int:
            command = words(file, pool, "--members", "7", "--format", "json")
            commands.start(command, folder, before=before.replace("LAST", str(last)))
            if after is not None:
                time.sleep(after)
                commands.kill()
            done = commands.wait()
            assert done.code in (0, -signal.SIGKILL), done.err
            return done.code

        begin = time.monotonic()
        assert run(folder / "quiet") == 0
        operations, seconds = marks.stat().st_size, time.monotonic() - begin
        pools = itertools.count()
        while hits.total() < kills:
            n = next(pools)
            pool = folder / f"pool{n}"
            code = run(pool, last=1 + int((n % 10 + rng.random()) / 10 * operations))
            hits[_stage(pool)] += code != 0
            if code and hits.total() < kills:
                code = run(pool, after=rng.uniform(0, seconds / 2))
                hits[_stage(pool)] += code != 0
            assert not code or run(pool) == 0
            assert outcome(pool) == outcome(whole)
    return hits


def _stage(pool: Path) -> str:
    if not (pool / "rounds").exists():
        return "begin"
    planned = sum(len(json.loads(path.read_text())["proposals"]) for path in (pool / "rounds").glob("?.json"))
    done = len(Pool.open(pool).complete)
    return "choosing the team" if done == 7 else "training" if done < planned else "proposing"


def test_killed_it_goes_on_to_the_same_team(whole, tmp_path):
    assert killed(tmp_path, whole, 1, random.Random(0)).total() == 1


@pytest.mark.slow
def test_killed_at_20_random_moments_it_has_the_same_team(whole, tmp_path):
    hits = killed(tmp_path, whole, 20, random.Random(1))
    print(hits)
    assert hits["training"] and hits["proposing"] and hits["choosing the team"]


def test_policies_of_the_configuration_are_the_start_and_other_members_are_not_counted(tmp_path, capsys):
    file, pool = config(tmp_path, policies=["FIX(k0=[0.02, 0.05, 0.2])"]), tmp_path / "pool"
    other = config(tmp_path / "..", policies=["FIX(0.3)"])
    assert main(["train", other, "--pool", str(pool), "--workers", "1"]) == 0
    capsys.readouterr()
    assert main(words(file, pool, "--members", "4")) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "4 trainings" in out and "1 other members of the pool are not counted" in out
    assert [len(r.proposals) for r in read_rounds(Pool.open(pool))] == [3, 1]


def test_policies_of_the_configuration_can_be_left_out(tmp_path, capsys):
    file, pool = config(tmp_path, policies=["FIX(k0=[0.02, 0.05, 0.2])"]), tmp_path / "pool"
    assert main(words(file, pool, "--members", "3")) == 2
    assert "the configuration's own policies are 3 runs" in capsys.readouterr().err
    assert main([*words(file, pool, "--members", "3"), "policies=[]"]) == 0
    assert {m.record.spec.policy.split("(")[0] for m in Pool.open(pool).complete} == {"COS"}


def test_a_config_without_policies_is_for_run_alone(tmp_path, capsys):
    assert main(["train", config(tmp_path), "--pool", str(tmp_path / "x")]) == 2
    assert "policies is missing (lrensemble run CONFIG --members N finds its own)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "how much may be spent?"),
        (["--members", "2"], "--members 2: a team is chosen from 3 runs or more"),
        (["--members", "0"], "--members: 0 is not possible"),
        (["--time", "0.01s"], " a team is chosen from 3 or more; give more time than 3 runs take"),
    ],
)
def test_what_buys_no_team(tmp_path, capsys, options, message):
    assert main(words(config(tmp_path), tmp_path / "pool", *options)) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert sum(line.startswith("error:") for line in errors.splitlines()) == 1


def test_no_gain_is_said_and_the_best_single_run_returned(tmp_path, capsys, monkeypatch):
    """All runs but one know nothing: the team is one member."""
    file = config(tmp_path, policies=["FIX(k0=[0.1, 1e-9, 2e-9])"])
    assert main(words(file, tmp_path / "pool", "--members", "4")) == 0
    team = json.loads((tmp_path / "pool" / "teams" / "greedy.json").read_text())
    out = capsys.readouterr().out
    assert ("Use the best single run" in out) == (len(team["members"]) == 1)
