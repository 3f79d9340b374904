"""The options of `lrensemble select`: votes, temperatures, stability, options of single selectors, interruption."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lrensemble import Pool
from lrensemble.cli.main import main
from lrensemble.diversity import all_teams
from lrensemble.pool.select import select_teams
from lrensemble.selection import BruteForce, brute_force


def test_votes_and_options_reach_the_team(pool: Pool, capsys):
    arguments = ["--selector", "greedy", "--vote", "plurality", "--temperature", "--option", "steps=7", "--one-se"]
    assert main(["select", str(pool.path), *arguments, "--format", "json"]) == 0
    [team] = json.loads(capsys.readouterr().out)["teams"]
    assert (team["vote"], team["parameters"]["steps"], team["parameters"]["one_se"]) == ("plurality", 7, True)
    assert set(team["temperatures"]) == set(team["members"])
    assert main(["evaluate", str(pool.path)]) == 0


def test_stability_is_shown(pool: Pool, capsys):
    assert main(["select", str(pool.path), "--selector", "greedy,top-k", "--stability", "5"]) == 0
    assert "Selected again on 5 random halves" in capsys.readouterr().out


def test_metric_goes_to_the_selectors_that_have_one(pool: Pool, capsys):
    assert main(["select", str(pool.path), "--selector", "focal,diverse,greedy", "--metric", "CK"]) == 0
    assert Pool.open(pool.path).team("focal-metric-CK").parameters["metric"] == "CK"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--vote", "sofft"], "did you mean 'soft'"),
        (["--selector", "greedy", "--option", "bagz=3"], "did you mean 'bags'"),
        (["--option", "bags"], "is not KEY=VALUE"),
        (["--stability", "-1"], "--stability: -1 is not possible"),
        (["--memory", "lots"], "size 'lots' is not possible"),
        (["--selector", "focal", "--vote", "borda"], "not possible with focal"),
    ],
)
def test_bad_options(pool: Pool, capsys, arguments, message):
    assert main(["select", str(pool.path), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not pool.teams


def test_ctrl_c_in_brute_force_returns_the_best_so_far(monkeypatch):
    rng = np.random.default_rng(0)
    P = rng.dirichlet(np.ones(3), (8, 50))
    y = rng.integers(0, 3, 50)

    def interrupted(*args, **kwargs):
        for i, chunk in enumerate(all_teams(*args, **{**kwargs, "chunk": 64})):
            if i == 2:
                raise KeyboardInterrupt
            yield chunk

    monkeypatch.setattr(brute_force, "all_teams", interrupted)
    selector = BruteForce().fit(P, y)
    assert "interrupted: " in selector.stopped_
    assert 0 < selector.teams_tried_ < 255
    monkeypatch.undo()
    whole = BruteForce().fit(P, y)
    assert (whole.stopped_, whole.teams_tried_) == ("", 255)
    limited = BruteForce(time_limit=1e-9).fit(P, y)  # one portion holds all teams here, so there is nothing to cut
    np.testing.assert_array_equal(limited.weights_, whole.weights_)


def test_an_objective_by_its_name(pool: Pool, capsys):
    words = ["select", str(pool.path), "--selector", "greedy,top-k", "--objective"]
    assert main([*words, "macro_f1"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "by validation macro_f1" in shown and "greedy-macro_f1" in shown
    value = pool.team("greedy-macro_f1").validation["macro_f1"]
    assert f"{value:.4f}" in shown
    assert main([*words, "macro-f1"]) == 2
    assert "unknown objective 'macro-f1': did you mean 'macro_f1'?" in capsys.readouterr().err
    assert main(["select", str(pool.path), "--selector", "convex", "--objective", "auroc"]) == 2
    assert "objective auroc is not possible with convex" in capsys.readouterr().err


@pytest.mark.parametrize("objective", ["accuracy", "macro_f1"])
def test_convex_never_pretends_to_another_objective(pool: Pool, capsys, objective: str):
    assert main(["select", str(pool.path), "--selector", "convex", "--objective", objective]) == 2
    assert f"objective {objective} is not possible with convex" in capsys.readouterr().err
    with pytest.warns(UserWarning, match=f"convex minimises the NLL, and nothing else: not {objective}"):
        convex, greedy = select_teams(pool, ["convex", "greedy"], objective=objective)
    assert convex.members == select_teams(pool, ["convex"])[0].members
    assert greedy.name == f"greedy-{objective}"
