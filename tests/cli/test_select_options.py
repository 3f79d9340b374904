"""The options of `lrensemble select`: votes, temperatures, stability, options of single selectors, interruption."""

from __future__ import annotations

import json
import signal
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import train_test_split

from lrensemble import Pool
from lrensemble.cli import output
from lrensemble.cli.main import main
from lrensemble.diversity import all_teams
from lrensemble.evaluation.repeats import repeat
from lrensemble.pool.select import select_teams
from lrensemble.report.page.reproduce import select_command
from lrensemble.selection import SELECTORS, BruteForce, brute_force


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
        (["--selector", "focal", "diverse", "--vote", "borda"], "not possible with focal"),
        (["--selector", "convex", "--size", "2"], "convex cannot have a size: "),
        (["--selector", "all", "--time", "5"], "all cannot have a time limit: "),
        (["--selector", "all", "--one-se"], "all cannot have a one se: "),
        (["--best", "0"], "--best: 0 is not possible"),
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
    assert "interrupted after " in selector.stopped_
    assert 0 < selector.teams_tried_ < 255
    monkeypatch.undo()
    whole = BruteForce().fit(P, y)
    assert (whole.stopped_, whole.teams_tried_) == ("", 255)
    limited = BruteForce(time_limit=1e-9).fit(P, y)  # one portion holds all teams here, so there is nothing to cut
    np.testing.assert_array_equal(limited.weights_, whole.weights_)


def test_selectors_that_cannot_are_left_out_and_the_others_choose(pool: Pool, capsys):
    words = ["select", str(pool.path), "--selector", "greedy,convex,focal", "--vote", "majority", "--size", "2"]
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always")
        assert main([*words, "--format", "json"]) == 0
    assert [team["selector"] for team in json.loads(capsys.readouterr().out)["teams"]] == ["greedy"]
    said = " ".join(str(warning.message) for warning in noted)
    assert "focal is left out: vote majority is not possible" in said and "convex is left out: the NLL of the" in said


def test_the_best_members_alone(pool: Pool, capsys):
    assert main(["select", str(pool.path), "--selector", "all", "--best", "2"]) == 0
    team = pool.team("all-best-2")
    ranked = sorted(pool.complete, key=lambda member: -member.record.val["accuracy"])
    assert set(team.members) == set(team.candidates) == {member.id for member in ranked[:2]}
    assert select_command("POOL", team) == "lrensemble select POOL --selector all --best 2"
    # On other divisions of the rows it is again the best two of these, and not all.
    [repeated] = [one for one in repeat(pool, ["all-best-2"], 3) if one.name == "all-best-2"]
    members = pool.usable("val", "test")
    votes = np.concatenate([np.asarray(pool.predictions(s, members)) for s in ("val", "test")], 1)
    labels = np.concatenate([pool.labels("val"), pool.labels("test")])
    expected = []
    for seed in range(3):
        size = len(pool.labels("val"))
        val, test = train_test_split(np.arange(len(labels)), train_size=size, random_state=seed, stratify=labels)
        order = np.argsort(-(votes[:, val].argmax(2) == labels[val]).mean(1), kind="stable")[:2]
        expected.append((votes[order][:, test].mean(0).argmax(1) == labels[test]).mean())
    assert repeated.members == 2 and repeated.accuracy == pytest.approx(np.mean(expected))


@pytest.mark.parametrize("name", [name for name in SELECTORS if "time_limit" in SELECTORS[name]().get_params()])
def test_a_search_says_what_it_tries_and_ends_with_the_best_so_far(name):
    """At its first look it is told to stop: what it returns is a team, scored as such."""
    rng = np.random.default_rng(0)
    P, y = rng.dirichlet(np.ones(3), (12, 60)), rng.integers(0, 3, 60)
    selector = SELECTORS[name](**({"size": 6} if name == "brute-force" else {}))
    heard: list[str] = []
    whole = clone(selector).fit(P, y, watch=lambda done: heard.append(done) is not None)
    assert whole.stopped_ == "" and (heard or name == "brute-force")  # one portion holds all of its teams
    if not heard:
        return
    cut = clone(selector).fit(P, y, watch=lambda done: True)
    assert cut.stopped_ == f"interrupted after {heard[0]}"
    assert cut.weights_.sum() == pytest.approx(1) and (cut.weights_ >= 0).all()
    late = clone(selector).set_params(time_limit=1e-9).fit(P, y)
    assert late.stopped_ == f"time limit of 1e-09 s after {heard[0]}"
    np.testing.assert_array_equal(late.weights_, cut.weights_)


def test_ctrl_c_during_a_selection(pool: Pool, monkeypatch):
    """Pressed while a search runs: its best is kept, the searches after it do not begin."""
    begun: list[str] = []

    def watch(done: str) -> bool:
        begun.append(done)
        return "of 40 steps" in done

    with pytest.warns(UserWarning, match="interrupted before all: it has chosen no team"):
        [team] = select_teams(pool, ["greedy", "all"], watch=watch)
    assert team.stopped == "interrupted after 1 of 40 steps"
    assert begun == ["greedy, 1 of 2: begun", "greedy, 1 of 2: 1 of 40 steps", "all, 2 of 2: begun"]
    # What runs in the background of a shell inherits an ignored SIGINT; a terminal's programs do not.
    monkeypatch.setattr(signal, "getsignal", lambda _: signal.default_int_handler)
    with output.stopping() as stopped:
        assert not stopped()
        signal.raise_signal(signal.SIGINT)
        assert stopped()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


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
