"""Multiple choice: rows with choices of their own, and what does not exist gets exactly nothing."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy.special import softmax

from lrensemble import Pool, UserError, evaluate, import_members, select_teams
from lrensemble.cli.main import main
from lrensemble.pool.sources import gather_sources
from lrensemble.selection import VOTES, Ballots, fit_temperature, make_selector, team_vote
from lrensemble.selection.votes import scaled

ROWS, MOST = 60, 5


def made(seed: int, members: int = 3):
    """Probabilities (M, N, C) with -0.0 where a row has no such choice, the mask, and labels among the choices."""
    rng = np.random.default_rng(seed)
    mask = np.arange(MOST) < rng.integers(2, MOST + 1, ROWS)[:, None]
    labels = np.array([rng.integers(row.sum()) for row in mask])
    logits = 4 * rng.normal(size=(members, ROWS, MOST)) + 5 * np.eye(MOST)[labels]
    return np.where(mask, softmax(np.where(mask, logits, -np.inf), axis=-1), -0.0), mask, labels


def alone(p, mask, row):
    """What the members say of one row, its choices alone."""
    return p[:, row : row + 1, mask[row]]


@pytest.mark.parametrize("temperature", [0.05, 0.5, 1.0, 3.0, 20.0])
@pytest.mark.parametrize("vote", VOTES)
def test_every_row_votes_as_if_it_had_its_choices_alone(vote, temperature):
    p, mask, _ = made(0)
    weights, temperatures = np.array([0.5, 0.3, 0.2]), np.full(3, temperature)
    found = team_vote(p, weights, vote, temperatures)
    assert (found[~mask] == 0).all()
    for row in range(ROWS):
        expected = team_vote(alone(p, mask, row), weights, vote, temperatures)[0]
        np.testing.assert_allclose(found[row, mask[row]], expected, rtol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_temperature_keeps_what_does_not_exist_at_nothing(dtype):
    """With a floor under zeros T = 20 gave more than a tenth to choices that do not exist."""
    p, mask, _ = made(1)
    plain = scaled(np.abs(p).astype(dtype), 20.0)
    assert plain[:, ~mask].mean() > 0.01
    found = scaled(p.astype(dtype), 20.0)
    assert (found[:, ~mask] == 0).all()
    twice = scaled(scaled(p.astype(dtype), 4.0), 5.0)
    assert (twice[:, ~mask] == 0).all()
    np.testing.assert_allclose(twice, found, rtol=1e-4)


def test_the_fitted_temperature_is_that_of_the_choices():
    p, mask, labels = made(2, members=1)
    grid = np.geomspace(0.2, 10, 400)
    nll = [-np.mean([np.log(scaled(alone(p, mask, row)[0], t)[0, labels[row]]) for row in range(ROWS)]) for t in grid]
    assert fit_temperature(p[0], labels) == pytest.approx(grid[int(np.argmin(nll))], rel=0.02)


@pytest.mark.parametrize("vote", VOTES)
def test_scores_of_many_teams_are_those_of_their_votes(vote):
    p, _, labels = made(3)
    weights = np.array([[1, 0, 0], [0.5, 0.5, 0], [0.2, 0.3, 0.5]])
    for objective in ("nll", "accuracy"):
        ballots = Ballots(p, labels, vote=vote)
        expected = [ballots.score(ballots.cast(w), objective) for w in weights]
        np.testing.assert_allclose(Ballots(p, labels, vote=vote).scores(weights, objective), expected, rtol=1e-9)


@pytest.fixture
def pool(tmp_path):
    made_of = {"val": made(4), "test": made(5)}
    pool = Pool.create(
        tmp_path / "choices",
        labels={split: labels for split, (_, _, labels) in made_of.items()},
        class_names=list("abcde"),
        choices={split: mask for split, (_, mask, _) in made_of.items()},
    )
    for i in range(3):
        with pool.member(model="lm", seed=i) as member, np.errstate(divide="ignore"):
            member.predict(kind="logits", **{split: np.log(np.abs(p[i])) for split, (p, _, _) in made_of.items()})
    return pool


def test_a_pool_from_members_to_the_evaluation(pool, capsys):
    p, mask, labels = made(4)
    assert np.array_equal(pool.choices("val"), mask)
    assert pool.chance("val") == pytest.approx(np.mean(1 / mask.sum(1)))
    order = [member.record.spec.seed for member in pool.complete]
    found = np.asarray(pool.predictions("val"))
    np.testing.assert_allclose(found, p[order], rtol=1e-5)
    assert np.signbit(found[:, ~mask]).all()
    [team] = select_teams(pool, ["greedy"], temperature=True)
    selector = make_selector("greedy", temperature=True).fit(p[order].astype(np.float32), labels)
    np.testing.assert_allclose(sorted(team.temperatures.values()), sorted(selector.temperatures_[selector.members_]))
    assert evaluate(pool).chance == pool.chance("test") != pool.chance("val")
    assert main(["show", str(pool.path), pool.complete[0].id]) == 0
    assert f"test {100 * pool.chance('test'):.2f} %" in capsys.readouterr().out
    for command, split in (("ls", "val"), ("select", "val"), ("evaluate", "test"), ("report", "test")):
        more = ["-o", str(pool.path / "page.html")] if command == "report" else []
        assert main([command, str(pool.path), *more]) == 0
        text = (pool.path / "page.html").read_text() if more else capsys.readouterr().out
        plain = " ".join(re.sub("<[^>]*>", "", text).split())
        assert f"chance {100 * pool.chance(split):.2f} %" in plain


def test_a_constant_scorer_scores_chance():
    """Where the choices are shuffled, as they must be."""
    rng = np.random.default_rng(0)
    mask = np.arange(MOST) < rng.integers(2, MOST + 1, 20_000)[:, None]
    labels = np.floor(rng.random(20_000) * mask.sum(1)).astype(int)
    accuracy = (team_vote(np.where(mask, 1 / mask.sum(1)[:, None], -0.0)[None], [1.0]).argmax(1) == labels).mean()
    assert accuracy == pytest.approx((1 / mask.sum(1)).mean(), abs=0.01)


def test_predictions_of_choices_that_do_not_exist(pool, tmp_path):
    mask = pool.choices("val")
    row, choice = np.argwhere(~mask)[0]
    flat = {split: np.full((ROWS, MOST), 0.2) for split in ("val", "test")}
    message = f"row {row} gives 0.2 to choice {choice}, which it does not have"
    with pytest.raises(UserError, match=message), pool.member(model="flat") as member:
        member.predict(**flat)
    np.savez(tmp_path / "flat.npz", **flat)
    with pytest.raises(UserError, match=message):
        import_members(pool.path, gather_sources([tmp_path / "flat.npz"]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, y: None, "choices of val: nothing; truth values of shape"),
        (lambda m, y: m.astype(int), "choices of val: int64 of shape"),
        (lambda m, y: m[:, :4], r"choices of val: bool of shape \(60, 4\)"),
        (lambda m, y: np.eye(MOST)[y] > 0, "row 0 has 1; at least 2"),
        (lambda m, y: np.eye(MOST)[y] == 0, "row 0 does not have its label"),
    ],
)
def test_impossible_choices(tmp_path, change, message):
    _, mask, labels = made(4)
    changed = change(mask, labels)
    choices = {"test": mask} | ({} if changed is None else {"val": changed})
    with pytest.raises(UserError, match=message):
        Pool.create(tmp_path / "p", labels={"val": labels, "test": labels}, class_names=list("abcde"), choices=choices)
    assert not (tmp_path / "p").exists()
    whole = Pool.create(tmp_path / "p", labels={"val": labels, "test": labels}, class_names=list("abcde"))
    assert whole.choices("val") is None
    assert whole.chance("val") == 1 / MOST
    with pytest.raises(UserError, match="is a pool for other data"):  # the choices are a part of what the data is
        Pool.create(
            whole.path,
            labels={"val": labels, "test": labels},
            class_names=list("abcde"),
            choices={"val": mask, "test": mask},
        )
