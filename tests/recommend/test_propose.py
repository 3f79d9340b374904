"""Proposals from pools on disk."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from lrensemble import Policy, Pool, UserError
from lrensemble.pool import Named, RunSpec
from lrensemble.recommend.candidates import PROPOSED, candidate_specs, peak_range
from lrensemble.recommend.propose import propose
from lrensemble.recommend.runs import expected_seconds, followed, read_runs, took
from scripts.replay.bench import read_bench


def test_proposals(pool: Pool):
    proposals = propose(pool, 4)
    assert proposals == propose(pool, 4)
    assert [p.spec for p in proposals] != [p.spec for p in propose(pool, 4, seed=1)]
    taken = {RunSpec.of(m.record.spec).model_dump_json() for m in pool.members}
    assert not taken & {p.spec.model_dump_json() for p in proposals}
    assert len({p.spec.model_dump_json() for p in proposals}) == 4
    for p in proposals:
        assert p.spec.training == pool.members[0].record.spec.training
        assert p.seconds > 0
        assert p.gain >= 0


def test_the_test_split_is_not_read(pool: Pool):
    expected = propose(pool, 2)
    for path in pool.path.rglob("test.npy"):
        path.unlink()
    assert propose(pool, 2) == expected


def test_foreign_members_are_in_the_team(pool: Pool):
    """A member that knows every validation label leaves nothing to gain."""
    labels = {split: pool.labels(split) for split in ("val", "test")}
    with pool.member(model="oracle") as member:
        member.predict(**{split: np.eye(10)[y] * 0.999 + 0.0001 for split, y in labels.items()})
    assert propose(pool, 1)[0].gain < 1e-3


def test_a_member_that_gives_labels_is_as_sure_as_its_accuracy(trained: Path, tmp_path: Path):
    gains = {}
    for what in ("labels", "probabilities"):
        pool = Pool.open(shutil.copytree(trained, tmp_path / what))
        tables = {}
        for split in ("val", "test"):
            y = pool.labels(split)
            guess = np.where(np.arange(len(y)) % 5 == 0, (y + 1) % 10, y)
            tables[split] = np.eye(10)[guess]
            if what == "probabilities":
                share = ((guess == y).sum() + 1) / (len(y) + 2)
                tables[split] = np.where(tables[split] == 1, share, (1 - share) / 9)
        with pool.member(model="theirs") as member:
            member.predict(**tables)
        gains[what] = [p.gain for p in propose(pool, 2)]
    assert gains["labels"] == pytest.approx(gains["probabilities"], rel=1e-4)


@pytest.mark.parametrize("what", ["empty", "imported"])
def test_nothing_to_learn_from(what, tmp_path: Path):
    labels = {"val": [0, 1, 1], "test": [1, 0, 1]}
    pool = Pool.create(tmp_path / "p", labels=labels)
    if what == "imported":
        with pool.member(model="theirs") as member:
            member.predict(val=np.full((3, 2), 0.5), test=np.full((3, 2), 0.5))
    with pytest.raises(UserError, match=r"nothing to learn from: (it is empty|none of its 1 members)"):
        propose(pool)


def test_too_few_to_replay(pool: Pool):
    with pytest.raises(UserError, match="4 finished runs, 4 of them complete, are too few"):
        read_bench(pool)


def test_candidates_are_of_all_functions_around_what_worked(pool: Pool):
    runs = read_runs(pool)
    specs = followed(runs)
    low, high = peak_range([0.01, 0.1, 1.0], [0.5, 0.4, 2.3], [])
    assert (low, high) == pytest.approx((0.01 / 3, 0.3), rel=1e-2)
    assert peak_range([], [], [0.5, 2.0]) == (0.005, 0.25)
    assert peak_range([0.01, 0.1, 1, 3], [4, 1, 2, 3], [], share=0.25) == pytest.approx((0.1 / 3, 0.3), rel=1e-2)
    found = candidate_specs(specs[:1], specs[:2], specs, low, high, 0)
    functions = {spec.policy.split("(")[0] for spec in found}
    assert functions >= {space.split("(")[0] for space in PROPOSED}
    fresh = [spec for spec in found if spec.seed]
    assert [spec.policy for spec in fresh] == [spec.policy for spec in specs[:2]]
    for spec in found:
        bound = Policy.parse(spec.policy).bind(steps_per_epoch=10, total_steps=100)
        if not spec.seed:
            assert low * 0.3 <= bound(np.arange(100)).max() <= high


def test_seconds_follow_the_budget(pool: Pool):
    runs = read_runs(pool)
    specs = followed(runs)
    spec = specs[0]
    longer = spec.model_copy(update={"training": spec.training.model_copy(update={"epochs": 8})})
    once, twice = expected(runs, [spec, longer], 1010)
    assert twice == pytest.approx(2 * once)
    assert once == pytest.approx(np.median([m.record.costs["seconds"] for m in runs]), rel=1e-6)


def test_the_pace_is_that_of_the_most_similar_runs(pool: Pool):
    """The median of the same configuration, else of the same model, else of all."""
    runs = read_runs(pool)
    spec = RunSpec.of(runs[0].record.spec)
    wide = spec.model_copy(update={"training": spec.training.model_copy(update={"batch_size": 32})})
    other = spec.model_copy(update={"model": Named(name="mlp", hidden=[3])})
    paces = [1.0, 2.0, 6.0, 100.0]  # seconds a sample
    for member, one, pace in zip(runs, (spec, spec, wide, other), paces, strict=True):
        costs = {**member.record.costs, "seconds": pace * expected_samples(one)}
        changed = {"spec": one.model_copy(update={"seed": 1}), "costs": costs}
        member.write_record(member.record.model_copy(update=changed))
    third = spec.model_copy(update={"model": Named(name="mlp", hidden=[5])})
    nesterov = spec.model_copy(update={"optimizer": Named(name="Adam")})
    found = expected(runs, [spec, wide, other, nesterov, third], 1010)
    sizes = [expected_samples(one) for one in (spec, wide, other, nesterov, third)]
    np.testing.assert_allclose(found / sizes, [1.5, 6, 100, 2, 4])


def test_the_pace_is_that_of_complete_runs(pool: Pool):
    """One that was stopped tells no pace; where nothing does, all runs cost alike."""
    runs = read_runs(pool)
    specs = followed(runs)
    known = expected(runs[1:], specs, 1010)
    record = runs[0].record
    slow = {**record.costs, "seconds": 1e6}
    for changed in ({"status": "stopped", "costs": slow}, {"costs": {"steps": 1}}):
        runs[0].write_record(record.model_copy(update=changed))
        np.testing.assert_array_equal(expected(runs, specs, 1010), known)
        np.testing.assert_array_equal(expected(runs[:1], specs, 1010), np.ones(len(specs)))


def expected(runs, specs, rows):
    return expected_seconds(followed(runs), took(runs), specs, rows)


def expected_samples(spec: RunSpec) -> int:
    return spec.training.epochs * (1010 // spec.training.batch_size) * spec.training.batch_size  # whole batches


def test_a_damaged_record_is_named(pool: Pool):
    record = pool.members[0].record_path
    record.write_text(record.read_text()[:40])
    with pytest.warns(UserWarning, match="cut off or damaged"):
        assert propose(pool, 1)
    shutil.rmtree(record.parent)
    assert propose(pool, 1)
