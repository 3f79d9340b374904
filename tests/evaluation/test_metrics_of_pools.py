"""Metrics that a configuration, a task, a team or the caller names: selected for, evaluated, reported, and trusted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from lrensemble import Pool, UserError, evaluate, load_config, select_teams, train_pool
from lrensemble.cli.main import main
from lrensemble.evaluation import repeat
from lrensemble.metrics import METRICS, resampled
from lrensemble.pool.files import write_atomic
from lrensemble.report.page import info, page, report_info
from lrensemble.tasks import ArrayTask
from tests.tasks.own_task import Moons, g_mean

OWN = "tests.tasks.own_task:g_mean"
CONFIG = {
    "name": "moons",
    "data": {"name": "tests.tasks.own_task:Moons"},
    "model": "tests.tasks.own_task:Net",
    "training": {"epochs": 1, "batch_size": 50},
    "policies": ["FIX(k0=[0.03, 0.1, 0.3])"],
    "metrics": "auroc",
}


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that a test has imported are forgotten after it."""
    monkeypatch.setattr(METRICS, "_values", {k: v for k, v in METRICS.items() if ":" not in k})


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a new process."""
    ours = {k: v for k, v in METRICS.items() if k not in ("g_mean", "hits", OWN)}
    monkeypatch.setattr(METRICS, "_values", ours)


@pytest.fixture(scope="module")
def moons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("moons") / "pool"
    train_pool(load_config(CONFIG), path, workers=1, threads=1, devices="cpu")
    return path


def test_a_task_and_a_configuration_bring_metrics(moons: Path, monkeypatch, capsys):
    assert json.loads((moons / "config.json").read_text())["metrics"] == ["auroc", OWN]
    forget(monkeypatch)
    pool = Pool.open(moons)
    team = select_teams(pool, ["greedy"], objective=OWN)[0]
    assert team.name == "greedy-g_mean"
    y = {split: pool.labels(split) for split in ("val", "test")}
    votes = {
        split: np.tensordot(list(team.members.values()), np.asarray(pool.predictions(split), float)[mine], axes=1)
        for mine in [[[m.id for m in pool.complete].index(i) for i in team.members]]
        for split in y
    }
    assert team.validation[OWN] == pytest.approx(g_mean(votes["val"], y["val"]))
    result = evaluate(pool, metrics=["macro_f1"])
    score, single = result.score("greedy-g_mean"), result.scores[0]
    p = votes["test"]
    expected = {
        "macro_f1": f1_score(y["test"], p.argmax(1), average="macro"),
        "auroc": roc_auc_score(y["test"], p[:, 1]),
        OWN: g_mean(p, y["test"]),
    }
    assert score.metrics == pytest.approx(expected)
    for name, gain in score.metric_gains.items():
        assert gain.value == pytest.approx(score.metrics[name] - single.metrics[name])
        assert gain.low <= gain.value <= gain.high
    [row] = [row for row in result.against("all-average") if row.name == team.name]
    assert row.metric_gains[OWN].value == pytest.approx(score.metrics[OWN] - result.score("(all-average)").metrics[OWN])
    # The report takes over what was found, and shows it.
    monkeypatch.setattr(info, "evaluate", lambda *a, **k: pytest.fail("evaluated again"))
    shown = page(report_info(Pool.open(moons)))
    assert f'data-key="score.greedy-g_mean.{OWN}" value="{score.metrics[OWN]:.9g}"' in shown
    assert main(["evaluate", str(moons), "--metric", "macro_f1"]) == 0
    table = capsys.readouterr().out
    assert all(word in table for word in ("macro_f1", "auroc", "g_mean", f"{score.metrics['macro_f1']:.4f}"))


def test_the_interval_is_that_of_the_paired_bootstrap(moons: Path):
    pool = Pool.open(moons)
    select_teams(pool, ["all"])
    score = evaluate(pool, "all", metrics=["brier"], save=False).score("all")
    p, y = np.asarray(pool.predictions("test"), dtype=float), pool.labels("test")
    best = [m.id for m in pool.complete].index(pool.best_single().id)
    brier = METRICS["brier"]
    spread = (resampled(brier, p[best], y) - resampled(brier, p.mean(0), y)).std(ddof=1)
    gain = score.metric_gains["brier"]
    assert gain.value == pytest.approx(brier(p[best], y) - brier(p.mean(0), y))  # lower is better
    assert (gain.high - gain.low) / 2 == pytest.approx(1.959964 * spread, rel=1e-6)


def test_what_a_pool_names_runs_with_trust_alone(moons: Path, monkeypatch):
    """A pool from elsewhere: its configuration and its teams name a function of the user's own."""
    pool = Pool.open(moons)
    select_teams(pool, ["top-k"], objective=OWN, size=2)
    for trust in (False, True):
        forget(monkeypatch)
        pool = Pool.open(moons)
        result = evaluate(pool, "top-k-2-g_mean", trust=trust)
        assert (OWN in result.scores[0].metrics) == trust == (OWN not in result.metrics_left_out)
        assert ("top-k-2-g_mean" in {row.name for row in result.against("random")}) is True
        if trust:
            assert repeat(pool, "top-k-2-g_mean", 2, trust=True)
        else:
            assert f"metric {OWN} is not computed" in result.metrics_left_out[OWN]
            assert "own_task.py" in result.metrics_left_out[OWN] and "--trust" in result.metrics_left_out[OWN]
            with pytest.raises(UserError, match="add --trust"):
                repeat(pool, "top-k-2-g_mean", 2)


def test_nothing_of_a_pool_is_imported(moons: Path, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text("raise SystemExit('it ran')")
    config = json.loads((moons / "config.json").read_text())
    pool = Pool.open(moons)
    team = select_teams(pool, ["top-k"], size=2)[0]
    pool.save_team(team.model_copy(update={"name": "evil", "parameters": {**team.parameters, "objective": "evil:f"}}))
    try:
        text = json.dumps({**config, "metrics": ["evil:f"]}).encode()
        write_atomic(moons / "config.json", lambda file: file.write(text))
        for words in (["evaluate", str(moons)], ["report", str(moons)], ["ls", str(moons)]):
            assert main(words) == 0
        with pytest.raises(SystemExit, match="it ran"):
            main(["evaluate", str(moons), "--trust"])
    finally:
        write_atomic(moons / "config.json", lambda file: file.write(json.dumps(config).encode()))
        (moons / "teams" / "evil.json").unlink()


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"metrics": 3}', b"\xff\xfe", b""])
def test_a_damaged_configuration_is_a_note(moons: Path, capsys, content: bytes):
    config = (moons / "config.json").read_bytes()
    select_teams(Pool.open(moons), ["all"])
    assert main(["evaluate", str(moons)]) == 0  # so that there is an evaluation whose numbers hold
    try:
        (moons / "config.json").write_bytes(content)
        assert "config.json" in info.stored_evaluation(Pool.open(moons), Pool.open(moons).teams).metrics_left_out
        capsys.readouterr()
        assert main(["evaluate", str(moons)]) == 0
        assert "left out: config.json: " in capsys.readouterr().out
        assert any("Left out: config.json: " in note for note in report_info(Pool.open(moons)).notes)
    finally:
        (moons / "config.json").write_bytes(config)


def boom(p, y):
    raise RuntimeError("no luck")


def test_a_metric_that_fails(moons: Path, capsys):
    name = f"{__name__}:boom"
    pool = Pool.open(moons)
    before = sorted((moons / "teams").iterdir())
    with pytest.raises(UserError, match=f"metric {name} raises RuntimeError: no luck"):
        select_teams(pool, ["top-k"], objective=name)
    assert sorted((moons / "teams").iterdir()) == before
    select_teams(pool, ["all"])
    with pytest.raises(UserError, match=f"metric {name} raises RuntimeError: no luck"):
        evaluate(pool, "all", metrics=[name])
    assert main(["evaluate", str(moons), "--metric", "nope"]) == 2
    assert "unknown metric 'nope'" in capsys.readouterr().err
    with pytest.raises(UserError, match="there is no module 'no_such'"):
        train_pool(load_config({**CONFIG, "metrics": ["no_such:f"]}), moons, workers=1)


def test_metrics_of_a_program(tmp_path: Path, monkeypatch):
    """Known in this process; another one says that it does not know it."""
    task = Moons()
    rows = [(task.split(name)["place"], task.split(name)["y"]) for name in ("train", "val", "test")]
    arrays = ArrayTask(*rows, metrics={"hits": lambda p, y: float((p.argmax(1) == y).sum())})
    config = load_config({**CONFIG, "data": None, "model": {"name": "mlp"}}, task=arrays)
    pool = train_pool(config, tmp_path / "pool", threads=1, devices="cpu")
    select_teams(pool, ["top-k"], objective="hits", size=1)
    score = evaluate(pool).scores[0]
    assert score.metrics["hits"] == round(score.accuracy * 300)
    forget(monkeypatch)
    found = evaluate(pool)
    assert "unknown metric 'hits'" in found.metrics_left_out["hits"]
    assert list(found.scores[0].metrics) == ["auroc"]


def test_labels_have_metrics_of_classes_alone(tmp_path: Path):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 40)
    pool = Pool.create(tmp_path / "pool", labels={"val": y, "test": y})
    for k in range(3):
        with pool.member(model=f"m{k}") as member:
            guess = np.where(rng.random(40) < 0.8, y, 0)
            member.predict(val=np.eye(3)[guess], test=np.eye(3)[guess])
    assert select_teams(pool, ["greedy"], objective="macro_f1")[0].vote == "plurality"
    with pytest.raises(UserError, match=r"objective brier is not possible: .* which have no probabilities"):
        select_teams(pool, ["greedy"], objective="brier")
    score = evaluate(pool, metrics=["macro_f1", "auroc"]).scores[-1]
    assert score.metrics["auroc"] is None and score.metrics["macro_f1"] > 0.5
