"""The diversity of a pool: its numbers against naive recomputation, its picture, its command."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from scipy.stats import spearmanr

from lrensemble import Pool, UserError, select_teams
from lrensemble.cli.main import main
from lrensemble.diversity import members_of, top_teams
from lrensemble.report import diversity_info
from lrensemble.report.diversity_info import pool_diversity
from lrensemble.report.diversity_plot import draw_diversity


def naive(pool: Pool, ids: list[str]) -> tuple[np.ndarray, np.ndarray]:
    return np.stack([np.asarray(pool.predictions("val", [pool.find(i)]))[0] for i in ids]), pool.labels("val")


def test_every_number_equals_a_naive_one(pool: Pool):
    select_teams(pool, ["greedy", "top-k"])
    info = pool_diversity(pool, "BD")
    P, y = naive(pool, info.ids)
    right = P.argmax(-1) == y
    assert list(info.accuracies) == sorted(info.accuracies, reverse=True)
    np.testing.assert_allclose(info.accuracies, right.mean(1))
    for i, j in itertools.permutations(range(4), 2):
        assert info.pairs[i, j] == pytest.approx((right[i] != right[j]).mean())
    teams = [t for size in (2, 3, 4) for t in itertools.combinations(range(4), size)]
    assert info.total == len(info.teams.masks) == len(teams) == 11
    assert {tuple(members_of(mask)) for mask in info.teams.masks} == set(teams)
    for k, mask in enumerate(info.teams.masks):
        team = members_of(mask)
        accuracy = (P[team].astype(np.float64).mean(0).argmax(-1) == y).mean()
        disagreement = np.mean([(right[i] != right[j]).mean() for i, j in itertools.combinations(team, 2)])
        assert info.teams.scores["accuracy"][k] == pytest.approx(accuracy)
        assert info.teams.scores["BD"][k] == pytest.approx(disagreement)
    assert set(info.named) == {"(all members)", "greedy", "top-k"}
    best = top_teams([info.teams], "accuracy", 3)
    assert best.scores["accuracy"][0] == info.teams.scores["accuracy"].max()


def test_correlation_is_within_one_size_and_positive_means_diversity_helps(pool: Pool, monkeypatch):
    masks = np.arange(1, 2**6, dtype=np.uint32)
    scores = {"accuracy": np.random.default_rng(0).random(63), "CK": np.random.default_rng(1).random(63)}
    found = diversity_info.rank_correlations(np.bitwise_count(masks), scores["accuracy"], scores["CK"])
    sizes = np.bitwise_count(masks)
    assert set(found) == {2, 3, 4}  # the sizes of which there are ten teams or more
    for size, value in found.items():
        here = sizes == size
        assert value == pytest.approx(spearmanr(scores["accuracy"][here], -scores["CK"][here]).statistic)


def test_many_members_are_sampled(pool: Pool, monkeypatch):
    monkeypatch.setattr(diversity_info, "EVERY", 3)
    monkeypatch.setattr(diversity_info, "SAMPLE", 200)
    info = pool_diversity(pool, "GD")
    assert info.pairs is None
    assert len(info.teams.masks) == 11  # of so few teams a sample finds all
    assert not info.is_sample


def test_ctrl_c_keeps_what_was_found(pool: Pool, monkeypatch):
    real = diversity_info.all_teams

    def interrupted(*args, **kwargs):
        yield next(real(*args, **{**kwargs, "chunk": 8}))
        raise KeyboardInterrupt

    monkeypatch.setattr(diversity_info, "all_teams", interrupted)
    info = pool_diversity(pool)
    assert info.interrupted
    assert 0 < len(info.teams.masks) < info.total


@pytest.mark.parametrize("suffix", ["png", "svg", "html"])
def test_the_picture(pool: Pool, tmp_path, suffix):
    select_teams(pool, ["greedy"])
    for metric in ("BD", "GD", "CK"):
        path = tmp_path / f"{metric}.{suffix}"
        draw_diversity(pool_diversity(pool, metric), path)
        assert path.stat().st_size > 2500


def test_the_command(pool: Pool, tmp_path, capsys):
    assert main(["diversity", str(pool.path), "--pairs", "-o", str(tmp_path / "d.svg")]) == 0
    out = capsys.readouterr().out
    assert "all 11 teams of two or more" in out
    assert (tmp_path / "d.svg").exists()
    assert main(["diversity", str(pool.path), "--metric", "gd", "--format", "json", "-n", "2"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["metric"], data["pairs"], len(data["best"]), data["scored"]) == ("GD", None, 2, 11)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metric", "QZ"], "unknown diversity metric 'QZ'"),
        (["--metric", "GD", "--pairs"], "defined on teams, not on pairs"),
        (["--top", "0"], "--top: 0 is not possible"),
        (["-o", "x.pdf"], "use .png, .svg or .html"),
    ],
)
def test_bad_input(pool: Pool, capsys, arguments, message):
    assert main(["diversity", str(pool.path), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_one_member_has_no_diversity(pool: Pool):
    for member in pool.members[1:]:
        member.write_record(member.record.model_copy(update={"status": "diverged"}))
    with pytest.raises(UserError, match="has 1 complete members: diversity needs 2 or more"):
        pool_diversity(pool)


def test_the_best_of_too_many_members(pool: Pool, monkeypatch, capsys):
    monkeypatch.setattr(diversity_info, "MOST_MEMBERS", 3)
    assert main(["diversity", str(pool.path)]) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert "has 4 complete members, and a team is a mask of 3 bits: --best 3 takes the best 3" in message
    assert main(["diversity", str(pool.path), "--best", "3", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    everyone = sorted(pool.usable(), key=lambda m: (-m.record.metrics["val"]["accuracy"], m.id))
    assert [member["id"] for member in found["members"]] == [m.id for m in everyone[:3]]
    assert found["all"] == 4
    for wrong in ("1", "4"):
        assert main(["diversity", str(pool.path), "--best", wrong]) == 2
        assert f"{wrong} is not possible" in capsys.readouterr().err
