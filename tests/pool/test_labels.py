"""Members that give labels alone: the pool knows it, and nothing is said of probabilities that they do not have."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lrensemble import Pool, UserError, evaluate, select_teams
from lrensemble.cli.main import main
from lrensemble.evaluation import over_pools, repeat

ROWS, CLASSES = 120, 7


def fill(path, hard=12, soft=0, seed=0):
    """A pool of `hard` members that give labels, each right on 70 % of the rows, and `soft` ones with probabilities."""
    rng = np.random.default_rng(seed)
    labels = {split: rng.permuted(np.arange(ROWS) % CLASSES) for split in ("val", "test")}
    pool = Pool.create(path, labels=labels, class_names=[f"c{i}" for i in range(CLASSES)])
    for i in range(hard + soft):
        with pool.member(model=f"m{i}", seed=seed) as member:
            given = {}
            for split, y in labels.items():
                classes = np.where(rng.random(ROWS) < 0.7, y, rng.integers(0, CLASSES, ROWS))
                given[split] = classes if i < hard else 0.8 * np.eye(CLASSES)[classes] + 0.2 / CLASSES
            member.predict(**given)
    return pool


def as_an_earlier_version(pool):
    """Records that do not say what the outputs are, with all metrics of one-hot rows."""
    y = pool.labels("val")
    for member in pool.members:
        record = json.loads(member.record_path.read_text())
        record.pop("sha256", None)
        p = np.load(member.path / "predictions/val.npy").astype(float)
        wrong = p[np.arange(len(y)), y] == 0
        if record.pop("outputs") == "labels":
            nll = 36.04365338911715 * wrong.mean()
            record["metrics"]["val"] |= {"nll": nll, "brier": 2 * wrong.mean(), "ece": wrong.mean()}
        member.record_path.write_text(json.dumps(record))
    return Pool.open(pool.path)


def numbers_of(data, key):
    """All values under a key, anywhere in JSON."""
    if isinstance(data, dict):
        return [value for name, value in data.items() if name == key] + [
            x for value in data.values() for x in numbers_of(value, key)
        ]
    return [x for value in data for x in numbers_of(value, key)] if isinstance(data, list) else []


@pytest.mark.parametrize("old", [False, True])
def test_from_ls_to_the_report(tmp_path, capsys, old):
    pool = fill(tmp_path / "pool")
    ids = [member.id for member in pool.members]
    if old:
        pool = as_an_earlier_version(pool)
    assert [member.id for member in pool.members] == ids
    assert all(member.record.is_labels for member in pool.members)
    assert main(["ls", str(pool.path), "--format", "json"]) == 0
    listed = json.loads(capsys.readouterr().out)["members"]
    assert {member["outputs"] for member in listed} == {"labels"}
    assert {member["val"]["nll"] for member in listed} == {None}

    assert main(["select", str(pool.path)]) == 0
    out, err = capsys.readouterr()
    words = " ".join((out + err).split())
    assert "12 of 12 members give labels alone: selected for accuracy, plurality vote" in words
    teams = {team.selector: team for team in pool.teams}
    assert {(team.vote, team.parameters.get("objective", "accuracy")) for team in teams.values()} == {
        ("plurality", "accuracy")
    }
    assert all(set(team.validation) == {"accuracy"} and not team.temperatures for team in teams.values())
    assert len(teams["greedy"].members) > 2
    assert teams["greedy"].validation["accuracy"] >= teams["top-k"].validation["accuracy"]
    assert teams["greedy"].validation["accuracy"] > teams["best-single"].validation["accuracy"] + 0.05

    result = evaluate(pool)
    for score in result.scores:
        assert 0.5 < score.accuracy <= 1
        for name in ("nll", "brier", "ece", "adaptive_ece", "top5_accuracy", "ac", "cv", "cvac", "nll_gain"):
            assert getattr(score, name) is None, name
    assert all((row.nll, row.baseline_nll, row.nll_gain) == (None, None, None) for row in result.comparisons)
    assert {row.baseline for row in result.comparisons} >= {"top-k", "random", "all-average"}
    for command in (["evaluate"], ["evaluate", "--repeats", "2"]):
        assert main([command[0], str(pool.path), *command[1:]]) == 0
        words = capsys.readouterr().out
        assert "nan" not in words
        assert "inf" not in words.split()
        assert main([command[0], str(pool.path), *command[1:], "--format", "json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert {value for value in numbers_of(found, "nll") if not isinstance(value, dict)} == {None}
    assert {row.nll for row in repeat(pool, teams["greedy"], repeats=2)} == {None}
    assert main(["report", str(pool.path), "-o", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert "have no NLL" in page
    assert ".nll" not in "".join(part.split('"')[0] for part in page.split('data-key="')[1:])


def test_what_labels_do_not_have_is_refused(tmp_path):
    pool = fill(tmp_path / "pool", hard=3, soft=2)
    for options, message in (
        ({"objective": "nll"}, "objective nll is not possible: 3 of 5 members give labels alone"),
        ({"temperature": True}, "a temperature is not possible: 3 of 5 members"),
        ({"selectors": ["convex"]}, "convex, which minimises the NLL, is not possible"),
    ):
        with pytest.raises(UserError, match=message):
            select_teams(pool, **options)
    assert not pool.teams
    [team] = select_teams(pool, ["all"], vote="soft")  # asked for, it is the mean of ones, zeros and probabilities
    assert team.vote == "soft"


def test_labels_and_probabilities_together(tmp_path):
    pool = fill(tmp_path / "pool", hard=3, soft=3)
    soft = [member for member in pool.complete if not member.record.is_labels]
    assert len(soft) == 3
    assert all(member.record.val["nll"] > 0 for member in soft)
    [team] = select_teams(pool, ["greedy"])
    assert (team.vote, team.parameters["objective"]) == ("plurality", "accuracy")
    own = team.model_copy(update={"name": "own", "members": {m.id: 1 / 3 for m in soft}, "vote": "soft"})
    result = evaluate(pool, [own])
    assert result.score("own").nll > 0  # a team of probabilities alone keeps its NLL
    assert result.score("own").ece is not None
    assert result.score("(all-average)").nll is None


def test_probabilities_keep_everything(tmp_path):
    first = fill(tmp_path / "soft", hard=0, soft=4)
    assert not any(member.record.is_labels for member in as_an_earlier_version(first).members)
    [team] = select_teams(first, ["greedy"])
    assert (team.vote, team.parameters["objective"]) == ("soft", "nll")
    assert set(team.validation) == {"accuracy", "nll", "brier", "ece"}
    assert evaluate(first, ["greedy"]).comparisons[0].nll_gain is not None
    hard = [fill(tmp_path / f"hard{seed}", hard=4, seed=seed) for seed in range(2)]
    for pool in hard:
        select_teams(pool, ["greedy"])
    assert {row.nll for row in over_pools([evaluate(pool) for pool in hard])} == {None}
