"""Searches of the top k that other tasks recommend against random ones: the closed form of both, and whole pools."""

from __future__ import annotations

import itertools
import json
import shutil
from math import comb

import numpy as np
import pytest

from lrensemble import Pool, load_config
from lrensemble.metrics import summary
from lrensemble.pool.writing import write_complete
from scripts.replay.replay import scores
from scripts.replay.topk import Task, as_in, best_so_far, compare, main, mean_places, recommended
from tests.recommend.pools import synthetic


def task_of(seed, name="here", **options):
    bench = synthetic(seed, members=12, rows=80, **options)
    accuracy = bench.right.mean(1)
    return Task(name, name, bench, [bench.policies[i] for i in np.argsort(-accuracy, kind="stable")], 100)


def random_search_in_closed_form(values, keys, n):
    """Mean of `values` of the best of `n` of them, of all draws without replacement: sorted by key, best first."""
    order = sorted(range(len(values)), key=keys.__getitem__)
    chances = [comb(len(values) - 1 - place, n - 1) / comb(len(values), n) for place in range(len(values))]
    return sum(c * values[i] for c, i in zip(chances, order, strict=True))


@pytest.mark.parametrize("by", ["accuracy", "nll"])
def test_searches_over_all_orders_have_the_means_of_their_closed_form(by):
    bench = synthetic(0, members=6, rows=80)
    every = [summary(p, bench.val_labels) for p in bench.val]
    keys = [(-e["accuracy"], e["nll"]) if by == "accuracy" else (e["nll"], -e["accuracy"]) for e in every]
    tested = np.array([summary(p, bench.test_labels)["nll"] for p in bench.test])
    orders = np.array([*itertools.permutations(range(6))])
    top = recommended(np.array([3, 0, 1, 2, 4, 5]), orders)[:, :3]
    for search, among in ((orders, range(6)), (as_in(orders, top), (1, 2, 3))):
        found = tested[best_so_far(bench, search, by)].mean(0)
        values, own = [tested[i] for i in among], [keys[i] for i in among]
        expected = [random_search_in_closed_form(values, own, n + 1) for n in range(len(values))]
        np.testing.assert_allclose(found, expected)


def test_what_is_compared():
    here, other = task_of(0), task_of(1, "there")
    result = compare(here, [other], [4], 60, "accuracy")
    assert result["recommended"] == other.ranking[:4]
    every = [summary(p, here.bench.val_labels)["accuracy"] for p in here.bench.val]
    firsts = [every[here.bench.policies.index(policy)] for policy in other.ranking]
    exact = result["searches"]["best first"]["best"]["val_accuracy"]["mean"]  # no luck in it
    assert exact[2] == pytest.approx(max(firsts[:3]))
    for search, last in (("random", max(every)), ("top 4", max(firsts[:4]))):
        curve = result["searches"][search]["best"]["val_accuracy"]
        assert curve["mean"][-1] == pytest.approx(last)  # whatever the order, all are trained in the end
        half = 1.96 * np.sqrt(last * (1 - last) / 80)
        assert curve["high"][-1] - curve["low"][-1] == pytest.approx(2 * half, rel=0.25)  # so rows alone are left
    over = result["searches"]["top 4"]["best"]["test_nll"]["over_random"]
    first, random = (result["searches"][s]["best"]["test_nll"]["mean"] for s in ("top 4", "random"))
    assert over["mean"] == pytest.approx([a - b for a, b in zip(first, random, strict=False)])
    assert all(low <= mean <= high for low, mean, high in zip(*(over[k] for k in ("low", "mean", "high")), strict=True))


def test_teams_are_those_of_the_runs():
    here = task_of(0)
    result = compare(here, [task_of(1, "there")], [3], 20, "accuracy")
    order = [here.bench.policies.index(policy) for policy in task_of(1).ranking]
    expected = scores(order, here.bench, [1, 3, 12])
    found = result["searches"]["best first"]["team"]
    for score, at in zip(expected, (0, 2, -1), strict=True):
        assert found["test_nll"]["mean"][at] == pytest.approx(score.test_nll)
        assert found["val_accuracy"]["mean"][at] == pytest.approx(score.val_accuracy)


def test_recommendations_and_their_ties():
    places = mean_places(["a", "b", "c", "d"], [["b", "z", "a"], ["a", "c", "b"]])
    np.testing.assert_allclose(places, [0.5, 0.5, 0.5, np.inf])
    every = np.array([*itertools.permutations(range(4))])
    ordered = recommended(np.array([0.2, 0.2, 0.1, np.inf]), every)
    assert (ordered[:, 0] == 2).all() and (ordered != 3).all()
    assert (ordered[:, 1] == 0).mean() == 0.5  # a tie is drawn
    first = as_in(every, ordered[:, :2])
    assert (np.sort(first) == np.sort(ordered[:, :2])).all()
    assert all(list(order).index(a) < list(order).index(b) for order, (a, b) in zip(every, first, strict=True))


def test_a_diverged_run_is_a_run_and_a_guess():
    bench = synthetic(0, members=12, rows=80, diverged=2)
    runs = np.array([[11, 10, 0]])
    assert not bench.complete[best_so_far(bench, runs, "accuracy")[0, 1]]
    assert best_so_far(bench, runs, "accuracy")[0, 2] == 0
    alone = Task("x", "x", bench, [], 10)
    ranked_last_first = Task("y", "y", bench, [*bench.policies][::-1], 10)
    cells = compare(alone, [ranked_last_first], [2], 5, "accuracy")["searches"]["best first"]
    for answer in ("best", "team"):
        assert cells[answer]["test_accuracy"]["mean"][0] == pytest.approx(0.25)


def write_pool(folder, name, seed):
    """Two seeds of six policies, the first the best by far, as a pool of our own trainer."""
    rng = np.random.default_rng(seed)
    labels = {split: rng.integers(0, 3, n) for split, n in (("val", 60), ("test", 90))}
    pool = Pool.create(folder, labels=labels, name=name, data={"name": name}, train_rows=640)
    config = load_config({
        "name": name, "data": {"name": "digits"}, "model": {"name": "mlp", "hidden": [4]}, "optimizer": "SGD",
        "training": {"epochs": 2, "batch_size": 64}, "seeds": 2,
        "policies": [f"FIX(k0={k})" for k in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)],
    })  # fmt: skip
    specs = config.specs()
    for spec, member in zip(specs, pool.plan(specs), strict=True):
        strength = 4 if "0.1" in spec.policy else 1
        logits = {s: rng.normal(size=(len(y), 3)) + strength * np.eye(3)[y] for s, y in labels.items()}
        probabilities = {s: np.exp(z) / np.exp(z).sum(1, keepdims=True) for s, z in logits.items()}
        write_complete(
            member, labels=labels["val"], history=[], probabilities=probabilities, weights=None,
            costs={"steps": 20, "seconds": 1.0},
        )  # fmt: skip
    return folder


def test_command(tmp_path, capsys):
    pools = [str(write_pool(tmp_path / name, name, seed)) for seed, name in enumerate(("one", "two"))]
    assert main([*pools, "--top", "2", "--orders", "50", "--json", str(tmp_path / "found.json")]) == 0
    text = capsys.readouterr().out
    assert "one: ranked by two, which cost 240 updates; a run here costs 20" in text and "minus random" in text
    for result in json.loads((tmp_path / "found.json").read_text()):
        assert result["recommended"][0] == "FIX(k0=0.1)" and result["policies"] == 6
        assert result["searches"]["best first"]["best"]["test_accuracy"]["over_random"]["low"][0] > 0.1
    assert main([pools[0]]) == 2
    assert "recommended by others" in capsys.readouterr().err
    assert main([pools[0], str(shutil.copytree(pools[0], tmp_path / "copy"))]) == 2
    assert "the same task" in capsys.readouterr().err
