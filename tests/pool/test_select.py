"""Selection from a pool: what a team records, and that it can be run again."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lrensemble import Pool, UserError
from lrensemble.metrics import summary
from lrensemble.pool import Predictions
from lrensemble.pool.costs import inference_costs
from lrensemble.pool.files import write_array
from lrensemble.pool.record import FileInfo
from lrensemble.pool.select import select_teams
from lrensemble.selection import make_selector, team_vote


def val(pool: Pool, team, split="val"):
    """The team's own vote, from its file alone."""
    P = np.stack([np.load(pool.path / "members" / i / "predictions" / f"{split}.npy") for i in team.members])
    temperatures = np.array([team.temperatures[i] for i in team.members]) if team.temperatures else None
    return team_vote(P, np.array(list(team.members.values())), team.vote, temperatures)


@pytest.mark.parametrize("vote", ["soft", "logit", "plurality", "majority", "borda"])
@pytest.mark.parametrize("temperature", [False, True])
def test_the_file_is_enough_to_vote_again(pool: Pool, vote, temperature):
    names = ["greedy", "top-k", "all"]
    for team in select_teams(pool, names, vote=vote, temperature=temperature):
        read = pool.team(team.name)
        assert read == team
        assert read.vote == vote
        assert set(read.temperatures) == (set(read.members) if temperature else set())
        assert read.validation == pytest.approx(summary(val(pool, read), pool.labels("val")))
        assert (vote == "soft") == (vote not in team.name)
        again = make_selector(team.selector, **team.parameters).fit(
            np.asarray(pool.predictions("val")), pool.labels("val"), costs=inference_costs(pool.complete)[0]
        )
        assert [pool.complete[i].id for i in again.members_] == list(team.members)


def test_costs_are_flops_where_they_are_known(pool: Pool):
    for member in pool.complete:  # as an earlier version wrote them
        costs = {key: value for key, value in member.record.costs.items() if key != "flops"}
        member.write_record(member.record.model_copy(update={"costs": costs}))
    team = select_teams(pool, ["pareto"])[0]
    assert team.cost_unit == "parameters"
    known = {m.id: m.record.costs["parameters"] for m in pool.complete}
    assert team.cost == sum(known[i] for i in team.members)
    assert [p.cost for p in team.trajectory] == sorted(p.cost for p in team.trajectory)
    for i, member in enumerate(pool.complete):
        costs = {**member.record.costs, "flops": 100 + i}
        member.write_record(member.record.model_copy(update={"costs": costs}))
    team = select_teams(pool, ["pareto"], options={"budget": 102})[0]
    assert team.cost_unit == "FLOPs per sample"
    assert len(team.members) == 1
    assert team.cost <= 102
    first = pool.complete[0]
    first.write_record(first.record.model_copy(update={"costs": {}}))
    assert inference_costs(pool.complete)[1] == "members"


def test_names_tell_teams_apart(pool: Pool):
    select_teams(pool, ["greedy"])
    select_teams(pool, ["greedy"], size=2, objective="accuracy", vote="borda", temperature=True, one_se=True)
    select_teams(pool, ["greedy"], options={"bags": 3, "replacement": False, "steps": 40})
    names = {"greedy", "greedy-2-accuracy-borda-calibrated-1se", "greedy-bags-3-replacement-False"}
    assert {team.name for team in pool.teams} == names


def test_stability_and_trajectory_are_kept(pool: Pool):
    team = select_teams(pool, ["greedy"], stability_repeats=4)[0]
    read = pool.team("greedy")
    assert read.stability.repeats == 4
    assert set(read.stability.frequency) <= {m.id for m in pool.complete}
    assert all(0 < share <= 1 for share in read.stability.frequency.values())
    assert len(read.trajectory) == 40
    assert max(p.score for p in read.trajectory) == pytest.approx(-team.validation["nll"])


def test_a_time_limit_is_said(pool: Pool):
    assert "time limit of 1e-09 s after 1 of 40 steps" in select_teams(pool, ["greedy"], time_limit=1e-9)[0].stopped


def test_a_pool_that_does_not_fit_stays_on_disk(pool: Pool, monkeypatch):
    expected = select_teams(pool, ["greedy", "top-k", "convex"])
    monkeypatch.setattr(Predictions, "__array__", None)
    found = select_teams(pool, ["greedy", "top-k", "convex"], memory=20_000)
    for one, other in zip(expected, found, strict=True):
        assert one.members == pytest.approx(other.members)


def test_the_damaged_member_is_named(pool: Pool):
    member = pool.members[2]
    path = member.path / "predictions" / "val.npy"
    array = np.load(path)
    array[5, 1] = np.nan
    write_array(path, array)
    files = {**member.record.files, "predictions/val.npy": FileInfo.of(path)}
    member.write_record(member.record.model_copy(update={"files": files}))
    with pytest.raises(UserError, match=f"predictions of member {member.path}, row 5: .*are not probabilities"):
        select_teams(pool)


def test_unknown_options(pool: Pool):
    with pytest.raises(UserError, match="unknown vote 'sfot': did you mean 'soft'"):
        select_teams(pool, vote="sfot")
    with pytest.raises(UserError, match="no selector here has an option 'bag': did you mean 'bags'"):
        select_teams(pool, ["greedy"], options={"bag": 3})


def test_the_default_leaves_out_who_cannot_vote_so(pool: Pool):
    votes = {team.selector: team.vote for team in select_teams(pool, vote="borda")}
    assert votes["greedy"] == votes["all"] == "borda"
    assert set(votes.values()) == {"borda"}


def test_teams_of_an_older_version_are_read(pool: Pool):
    select_teams(pool, ["all"])
    path = pool.path / "teams" / "all.json"
    old = json.loads(path.read_text())
    for key in ("vote", "temperatures", "cost", "cost_unit", "trajectory", "stopped", "stability", "sha256"):
        del old[key]
    path.write_text(json.dumps(old))
    team = pool.team("all")
    assert team.is_plain
    assert team.cost is None
