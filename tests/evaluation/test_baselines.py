"""Every number of an evaluation against plain recomputation: metrics, and the baselines of the same size."""

from __future__ import annotations

import itertools
import json
import shutil

import numpy as np
import pytest
from sklearn import metrics as sk
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from lrensemble import Pool, UserError, evaluate
from lrensemble.evaluation import details, over_pools, repeat
from lrensemble.evaluation.pools import Spread, check_alike
from lrensemble.evaluation.same_size import draw_teams, random_teams
from lrensemble.pool.select import select_teams
from lrensemble.selection import Ballots, make_selector


def arrays(pool: Pool, split: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    ids = [member.id for member in pool.complete]
    P = np.stack([np.load(pool.path / "members" / i / "predictions" / f"{split}.npy") for i in ids])
    return ids, P.astype(float), np.load(pool.path / "labels" / f"{split}.npy")


def test_scores_equal_recomputation(pool: Pool):
    (team,) = select_teams(pool, ["greedy"], size=3)
    score = evaluate(pool).score(team.name)
    ids, P, y = arrays(pool, "test")
    weights = np.array([team.members.get(i, 0.0) for i in ids])
    vote = np.tensordot(weights, P, 1)
    right = vote.argmax(1) == y
    inside = P[weights > 0].argmax(-1)
    assert score.top5_accuracy == sk.top_k_accuracy_score(y, vote, k=5)
    assert score.brier == pytest.approx(((vote - np.eye(10)[y]) ** 2).sum(1).mean(), rel=1e-5)
    assert score.ac == pytest.approx(vote.max(1)[right].mean())
    assert score.cv == pytest.approx(vote.max(1)[right].std())
    assert score.cvac == pytest.approx(np.std([vote.max(1)[right & (y == c)].mean() for c in range(10)]))
    assert score.accuracy_interval == pytest.approx(proportion_confint(right.sum(), 450, method="wilson"))
    assert score.oracle_accuracy == (inside == y).any(0).mean()
    assert score.gain_over_mean_member == pytest.approx(100 * (right.mean() - (inside == y).mean()))
    assert score.gain_over_best_member == pytest.approx(100 * (right.mean() - (inside == y).mean(1).max()))
    pairs = itertools.combinations(range(len(inside)), 2)
    assert score.disagreement == pytest.approx(np.mean([(inside[a] != inside[b]).mean() for a, b in pairs]))


def test_baselines_equal_recomputation(pool: Pool):
    """A team that is not top-k: given members 1 and 2 of the ranking by validation NLL."""
    ids, P_val, y_val = arrays(pool, "val")
    _, P, y = arrays(pool, "test")
    ranked = np.argsort([sk.log_loss(y_val, p) for p in P_val])
    (team,) = select_teams(pool, ["random"], size=2)
    team = team.model_copy(update={"members": {ids[i]: 0.5 for i in sorted(ranked[1:3])}})
    pool.save_team(team)
    result = evaluate(pool, team.name)
    rows = {row.baseline: row for row in result.comparisons if row.name == team.name}
    assert set(rows) == {"best single", "all-average", "top-k", "random", "seeds-only", "half and half"}

    correct = P[ranked[1:3]].mean(0).argmax(1) == y
    accuracies = [sk.accuracy_score(y_val, p.argmax(1)) for p in P_val]
    assert accuracies[ids.index(result.best_single)] == max(accuracies)
    rivals = {
        "best single": P[ids.index(result.best_single)],
        "all-average": P.mean(0),
        "top-k": P[ranked[:2]].mean(0),
    }
    for name, vote in rivals.items():
        other = vote.argmax(1) == y
        row = rows[name]
        assert row.baseline_accuracy == pytest.approx(other.mean())
        assert row.baseline_nll == pytest.approx(sk.log_loss(y, vote / vote.sum(1, keepdims=True)), rel=1e-5)
        assert row.accuracy_gain.value == pytest.approx(100 * (correct.mean() - other.mean()))
        assert (row.only_team, row.only_baseline) == ((correct & ~other).sum(), (other & ~correct).sum())
        oracle = mcnemar([[0, row.only_team], [row.only_baseline, 0]], exact=True).pvalue
        assert row.accuracy_gain.p_value <= oracle  # mid-p takes something off
        assert row.p_holm == row.accuracy_gain.p_value  # one team
    every = [sk.accuracy_score(y, P[list(pair)].mean(0).argmax(1)) for pair in itertools.combinations(range(4), 2)]
    assert rows["random"].draws == 6
    assert rows["random"].baseline_accuracy == pytest.approx(np.mean(every))
    assert rows["random"].baseline_accuracy_sd == pytest.approx(np.std(every, ddof=1))
    assert rows["random"].accuracy_gain.p_value is None
    assert all(name in result.verdicts[team.name] for name in ("top-k of its size", "random teams of its size"))


def test_random_teams_in_pieces(monkeypatch):
    from lrensemble.evaluation import same_size

    rng = np.random.default_rng(0)
    P, y = rng.dirichlet(np.ones(4), (6, 50)), rng.integers(0, 4, 50)
    teams = draw_teams(6, 3, draws=7)
    assert teams.shape == (7, 6)
    np.testing.assert_array_equal(np.sort(teams, 1), np.repeat([[0, 1]], 3, axis=1).repeat(7, axis=0))
    whole = random_teams(Ballots(P, y), teams)
    monkeypatch.setattr(same_size, "_BYTES", 1)
    pieces = random_teams(Ballots(P, y, memory=4000), teams)
    np.testing.assert_allclose(whole.mean.nll, pieces.mean.nll)
    np.testing.assert_allclose(whole.accuracies, pieces.accuracies)
    assert whole.mean.correct.mean() == pytest.approx(whole.accuracies.mean())
    assert len(draw_teams(5, 2)) == 10  # all of them
    assert not np.array_equal(draw_teams(30, 5, seed=0), draw_teams(30, 5, seed=1))


def test_a_team_that_is_the_baseline_is_not_compared_with_it(pool: Pool):
    select_teams(pool, ["top-k"], size=2)
    select_teams(pool, ["all", "best-single"], objective="accuracy")
    result = evaluate(pool)
    met = {(row.name, row.baseline) for row in result.comparisons}
    assert ("top-k-2", "top-k") not in met
    assert ("top-k-2", "random") in met
    assert not {("all", "all-average"), ("all", "random"), ("best-single-accuracy", "best single")} & met
    assert "3 teams met the same test rows" in result.caution
    single = evaluate(pool, "top-k-2")
    assert single.caution == ""


def test_holm_counts_the_teams(pool: Pool):
    select_teams(pool, ["greedy", "top-k", "random"], size=2)
    rows = [row for row in evaluate(pool).against("best single") if row.name != "(all-average)"]
    assert len(rows) == 3
    smallest = min(rows, key=lambda row: row.accuracy_gain.p_value)
    assert smallest.p_holm == pytest.approx(min(1.0, 3 * smallest.accuracy_gain.p_value))


def test_evaluating_changes_no_team_and_selection_reads_no_evaluation(pool: Pool):
    before = select_teams(pool, ["greedy", "top-k"], size=2)
    evaluate(pool)
    repeat(pool, repeats=2)
    assert pool.teams == before
    after = select_teams(pool, ["greedy", "top-k"], size=2)
    assert [team.members for team in after] == [team.members for team in before]


def test_a_broken_team_is_left_out_unless_it_is_asked_for(pool: Pool):
    best = pool.best_single().id
    gone = next(member for member in pool.complete if member.id != best)
    all_team, good = select_teams(pool, ["all", "best-single"], objective="accuracy")
    shutil.rmtree(gone.path)
    result = evaluate(pool)
    assert list(result.left_out) == [all_team.name]
    assert f"member {gone.id} of team all is not in" in result.left_out["all"]
    assert good.name in result.verdicts
    with pytest.raises(UserError, match="select again"):
        evaluate(pool, all_team.name)
    with pytest.raises(UserError, match="no team is named"):
        evaluate(pool, [])


def test_a_pool_without_test_predictions_says_what_can_be_done(pool: Pool):
    select_teams(pool, ["greedy"])
    for member in pool.complete:
        (member.path / "predictions" / "test.npy").unlink()
    with pytest.raises(UserError, match=r"has no test predictions.*copy members.*--stability 20"):
        evaluate(pool)


def own_pool(path, labels: dict[str, np.ndarray], classes: int, members: int = 3) -> Pool:
    pool = Pool.create(path, labels=labels, class_names=[str(c) for c in range(classes)])
    rng = np.random.default_rng(0)
    for seed in range(members):
        with pool.member(model="own", seed=seed) as member:
            member.predict(**{k: rng.dirichlet(np.ones(classes), len(v)) for k, v in labels.items()})
    return pool


@pytest.mark.parametrize(("rows", "classes"), [(5, 1), (1, 3), (40, 1000)])
def test_odd_pools(tmp_path, rows, classes):
    """One class, one row, a thousand classes."""
    rng = np.random.default_rng(1)
    labels = {"val": rng.integers(0, classes, 30), "test": rng.integers(0, classes, rows)}
    pool = own_pool(tmp_path / "p", labels, classes)
    (team, *_) = select_teams(pool, ["random"], size=2)
    result = evaluate(pool)
    score = result.score(team.name)
    assert score.accuracy_interval[0] < score.accuracy_interval[1]  # never certain
    assert f"n = {rows}" in result.verdicts[team.name]
    assert (score.top5_accuracy is None) == (classes <= 5)
    json.dumps(result.to_dict(), allow_nan=False)
    (found,) = details(pool)
    assert sum(found.support) == rows
    assert (found.confusion is None) == (classes > 100)


def test_details_equal_scikit_learn(pool: Pool):
    (team,) = select_teams(pool, ["all"])
    (found,) = details(pool)
    _, P, y = arrays(pool, "test")
    choice = P.mean(0).argmax(1)
    report = sk.classification_report(y, choice, output_dict=True)
    for c, name in enumerate(found.class_names):
        assert found.support[c] == report[name]["support"]
        for key, value in (("recall", found.recall), ("precision", found.precision), ("f1-score", found.f1)):
            assert value[c] == pytest.approx(report[name][key])
    np.testing.assert_array_equal(found.confusion, sk.confusion_matrix(y, choice))
    assert sum(found.equal_width.counts) == sum(found.equal_mass.counts) == 450
    gap = np.abs(np.subtract(found.equal_width.accuracy, found.equal_width.confidence)) @ found.equal_width.counts / 450
    assert evaluate(pool).score(team.name).ece == pytest.approx(gap)


def test_repeats_equal_a_plain_loop(pool: Pool):
    from sklearn.model_selection import train_test_split

    (team,) = select_teams(pool, ["greedy"], size=2)
    found = {row.name: row for row in repeat(pool, repeats=3)}
    P = np.concatenate([arrays(pool, "val")[1], arrays(pool, "test")[1]], axis=1)
    y = np.concatenate([pool.labels("val"), pool.labels("test")])
    accuracies, gains = [], []
    for seed in range(3):
        a, b = train_test_split(np.arange(len(y)), train_size=pool.task.rows["val"], random_state=seed, stratify=y)
        selector = make_selector("greedy", size=2).fit(P[:, a].astype(np.float32), y[a])
        vote = np.tensordot(selector.weights_, P[:, b], 1)
        single = max(range(len(P)), key=lambda m: (P[m][a].argmax(1) == y[a]).mean())
        accuracies.append((vote.argmax(1) == y[b]).mean())
        gains.append(100 * (accuracies[-1] - (P[single][b].argmax(1) == y[b]).mean()))
    row = found[team.name]
    assert (row.accuracy, row.accuracy_sd) == pytest.approx((np.mean(accuracies), np.std(accuracies, ddof=1)))
    assert (row.gain, row.gain_sd) == pytest.approx((np.mean(gains), np.std(gains, ddof=1)), abs=1e-9)
    assert row.better == np.mean(np.array(gains) > 0)
    assert found["(best single)"].gain == found["(best single)"].gain_sd == 0
    assert found["(all-average)"].gain_over_all == 0


def test_repeats_that_are_not_possible(tmp_path, pool: Pool):
    select_teams(pool, ["greedy"])
    with pytest.raises(UserError, match="at least 2"):
        repeat(pool, repeats=1)
    odd = own_pool(tmp_path / "odd", {"val": np.array([0, 1]), "test": np.array([2])}, 3)
    select_teams(odd, ["all"])
    with pytest.raises(UserError, match="cannot be divided anew"):
        repeat(odd, repeats=2)


def test_over_pools(pool: Pool, tmp_path):
    select_teams(pool, ["greedy", "all"])
    first = evaluate(pool)
    labels = {split: pool.labels(split) for split in ("val", "test")}
    other = own_pool(tmp_path / "other", labels, 10)
    select_teams(other, ["all"])
    second = evaluate(other)
    found = {row.name: row for row in over_pools([first, second])}
    assert "greedy" not in found  # not in both
    values = [result.score("all").accuracy for result in (first, second)]
    assert found["all"].accuracy.mean == pytest.approx(np.mean(values))
    assert found["all"].accuracy.sd == pytest.approx(np.std(values, ddof=1))
    assert set(found["all"].gains) == {"best single"}  # the other pool has no control
    gain = found["all"].gains["best single"]
    values = [result.score("all").accuracy_gain.value for result in (first, second)]
    assert gain.high - gain.mean == pytest.approx(12.7062 * np.std(values, ddof=1) / np.sqrt(2), rel=1e-4)  # t, 1 df
    assert Spread(2, -0.2, 0.0, -0.2, -0.2).direction == Spread(5, 0.2, 0.0, 0.2, 0.2).direction == 0
    assert Spread(3, -0.2, 0.01, -0.23, -0.17).direction == -1
    check_alike([pool, other])
    with pytest.raises(UserError, match="named twice"):
        check_alike([pool, pool])
    copied = Pool.open(shutil.copytree(pool.path, tmp_path / "copy"))
    with pytest.raises(UserError, match=r"share 4 members.*seeds=\[1\]"):
        check_alike([pool, copied])
    with pytest.raises(UserError, match="other test rows"):
        check_alike([pool, own_pool(tmp_path / "odd", {"val": np.array([0, 1]), "test": np.array([2])}, 3)])
    with pytest.raises(UserError, match="at least 2"):
        over_pools([first])
