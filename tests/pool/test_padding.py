"""Choices that no row has change nothing: a pool of 3 classes, and the same with 2 more columns that do not exist."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import softmax

from lrensemble import Pool, evaluate, select_teams
from lrensemble.cli.main import main
from lrensemble.evaluation import repeat
from lrensemble.selection import SELECTORS, VOTES, make_selector

MEMBERS, ROWS = 6, 50


def made(seed: int):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, ROWS)
    p = softmax(3 * rng.normal(size=(MEMBERS, ROWS, 3)) + 2 * np.eye(3)[labels], axis=-1)
    return p.astype(np.float32), labels


def padded(p: np.ndarray) -> np.ndarray:
    return np.concatenate([p, np.full((*p.shape[:-1], 2), -0.0, p.dtype)], axis=-1)


def known(name: str) -> list[tuple[str, bool]]:
    """Votes and temperatures that a selector can be asked for."""
    parameters = make_selector(name).get_params()
    votes = sorted(VOTES) if "vote" in parameters else ["soft"]
    return [(vote, scale) for vote in votes for scale in ((False, True) if "temperature" in parameters else (False,))]


@pytest.mark.parametrize(("name", "vote", "temperature"), [(n, *case) for n in sorted(SELECTORS) for case in known(n)])
def test_every_selector_finds_the_same_team(name, vote, temperature):
    p, labels = made(0)
    options = {"vote": vote, "temperature": temperature, "size": 3, "budget": 200, "seed": 0}
    options = {key: value for key, value in options.items() if key in make_selector(name).get_params()}
    for objective in ("nll", "accuracy"):
        if name == "convex" and (objective == "accuracy" or vote == "majority"):
            continue
        plain, wide = (make_selector(name, objective=objective, **options).fit(x, labels) for x in (p, padded(p)))
        np.testing.assert_allclose(wide.weights_, plain.weights_, rtol=1e-5, atol=1e-8)
        found, expected = wide.predict_proba(padded(p)), plain.predict_proba(p)
        np.testing.assert_allclose(found[:, :3], expected, rtol=1e-5)
        assert (found[:, 3:] == 0).all()


@pytest.fixture(scope="module")
def pools(tmp_path_factory) -> tuple[Pool, Pool]:
    folder, splits = tmp_path_factory.mktemp("padding"), {"val": made(1), "test": made(2)}
    found = []
    for name, change, classes in (("plain", np.asarray, "abc"), ("wide", padded, "abcde")):
        exists = np.broadcast_to(np.arange(len(classes)) < 3, (ROWS, len(classes)))
        pool = Pool.create(
            folder / name,
            labels={split: labels for split, (_, labels) in splits.items()},
            class_names=list(classes),
            choices=None if name == "plain" else dict.fromkeys(splits, exists),
        )
        for seed in range(MEMBERS):
            with pool.member(model="m", seed=seed) as member:
                member.predict(kind="probabilities", **{s: np.abs(change(p[seed])) for s, (p, _) in splits.items()})
        select_teams(pool, ["best-single", "all", "greedy", "top-k"], temperature=True)
        select_teams(pool, ["greedy", "top-k"], vote="borda")  # random teams go by ids, which differ
        found.append(pool)
    return found[0], found[1]


def values(found, skip=("name", "pool", "best_single", "verdicts")):
    """All numbers in nested values, in order."""
    if isinstance(found, dict):
        return [x for key, value in found.items() if key not in skip for x in values(value)]
    if isinstance(found, list | tuple):
        return [x for value in found for x in values(value)]
    return [found] if isinstance(found, int | float) else []


def test_the_evaluation_is_the_same(pools):
    plain, wide = (evaluate(pool) for pool in pools)
    assert plain.chance == pytest.approx(wide.chance) == pytest.approx(1 / 3)
    assert [score.name for score in plain.scores] == [score.name for score in wide.scores]
    np.testing.assert_allclose(values(wide.to_dict()), values(plain.to_dict()), rtol=1e-4, atol=1e-6)


def test_chance_is_beside_what_is_selected_again_and_in_json(pools, capsys):
    _, pool = pools
    assert repeat(pool, "all-calibrated", 3)[0].repeats == 3
    for words in (["evaluate", "--repeats", "2"], ["evaluate"], ["select", "--selector", "all"], ["ls"]):
        assert main([words[0], str(pool.path), *words[1:], "--format", "json"]) == 0
        assert json.loads(capsys.readouterr().out)["chance"] == pytest.approx(1 / 3)
    assert main(["evaluate", str(pool.path), "--repeats", "2"]) == 0
    assert "chance 33.33 %" in " ".join(capsys.readouterr().out.split())


def test_places_of_right_choices_are_no_classes(tmp_path):
    """Of a place that is right once, no row can be in both parts of a division; of a class it is an error."""
    labels, exists = np.zeros(30, dtype=int), np.ones((30, 3), dtype=bool)
    labels[0], labels[1:15] = 2, 1
    exists[5:, 2] = False
    p = np.where(exists, 0.5, 0) / np.where(exists, 0.5, 0).sum(1, keepdims=True)
    pool = Pool.create(tmp_path / "p", labels={"val": labels, "test": labels}, choices={"val": exists, "test": exists})
    for seed in range(2):
        with pool.member(model="m", seed=seed) as member:
            member.predict(val=p, test=p)
    select_teams(pool, ["all"])
    assert repeat(pool, repeats=4)[0].score_rows == 30
