"""Names of one's own: by decorator, and by a tiny distribution that lies in a folder of ``sys.path``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lrensemble
from lrensemble import Pool, UserError, evaluate, load_config, select_teams, train_pool
from lrensemble.diversity import METRICS, Counts, all_teams, diversity, pairwise, team_diversity
from lrensemble.models import build_model
from lrensemble.plugins import REGISTRIES
from lrensemble.selection import SELECTORS, BestSingle, make_selector
from tests.conftest import tiny_config

LABELS = np.array([0, 1, 1, 0, 2, 2])
PREDICTED = np.array([[0, 1, 0, 0, 2, 1], [0, 1, 1, 1, 2, 1], [1, 1, 1, 0, 2, 0]])

SOURCE = """
import numpy as np
from torch import nn
from lrensemble import ArrayTask, Parameter, Selector, register_diversity, register_policy


class Last(Selector):
    def __init__(self, objective="nll"):
        self.objective = objective

    def _choose(self, ballots):
        weights = np.zeros(len(ballots.predictions))
        weights[-1] = 1.0
        return weights, 1


@register_diversity("HALF", "half of the disagreement", higher_is_diverse=True, low=0, high=0.5)
def half(counts):
    return counts.disagree / counts.rows / 2


def net(*, input_shape, num_classes, width=4):
    return nn.Sequential(nn.Flatten(), nn.Linear(input_shape[0], width), nn.ReLU(), nn.Linear(width, num_classes))


class Rows(ArrayTask):
    def __init__(self, rows=60):
        rng = np.random.default_rng(0)
        splits = [(rng.normal(size=(rows, 3)).astype(np.float32), np.arange(rows) % 2) for _ in range(3)]
        super().__init__(*splits)


@register_policy("EIGHTH", "LR = k0 / 8", "a plug-in", Parameter("k0", "LR"))
def eighth(t, k0):
    return np.full(t.shape, k0 / 8)
"""
POINTS = """
[lrensemble.selectors]
last = tinyplug:Last
[lrensemble.diversity]
HALF = tinyplug:half
[lrensemble.models]
net = tinyplug:net
[lrensemble.tasks]
rows = tinyplug:Rows
[lrensemble.policies]
any = tinyplug
"""


def install(folder: Path, points: str = POINTS, source: str = SOURCE, name: str = "tinyplug") -> None:
    (folder / f"{name}.py").write_text(source)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(points)


@pytest.fixture
def path(tmp_path, monkeypatch, own_names):
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    for module in ("tinyplug", "broken"):
        sys.modules.pop(module, None)


def test_a_distribution_gives_all_kinds_of_names_also_in_workers(path, tmp_path):
    install(path)
    config = {
        "name": "own",
        "data": {"name": "rows", "rows": 40},
        "model": {"name": "net", "width": 5},
        "training": {"epochs": 1, "batch_size": 20},
        "policies": ["eighth(k0=[0.4, 0.8])"],
    }
    pool = train_pool(load_config(config), tmp_path / "pool", workers=2, threads=1, devices="cpu")
    assert [member.record.status for member in pool.members] == ["complete"] * 2
    assert pool.members[0].history()[-1]["lr"] in (0.05, 0.1)
    assert pool.task.rows["train"] == 40
    [team] = select_teams(pool, ["last"])
    assert list(team.members) == [pool.usable("val")[-1].id]
    assert evaluate(pool, ["last"]).score("last").members == 1
    assert diversity(PREDICTED, LABELS, metric="half") == diversity(PREDICTED, LABELS, metric="BD") / 2


def test_an_unknown_name_has_a_nearest_one(path):
    install(path)
    with pytest.raises(UserError, match="unknown selector 'lsat': did you mean 'last'"):
        make_selector("lsat")
    with pytest.raises(UserError, match="unknown model 'nett': did you mean 'net'"):
        build_model("nett", input_shape=(3,), num_classes=2)
    with pytest.raises(UserError, match="unknown data set 'rowss': did you mean 'rows'"):
        load_config(tiny_config(data="rowss"))
    with pytest.raises(UserError, match="unknown diversity metric 'HALV': did you mean 'HALF'"):
        diversity(PREDICTED, LABELS, metric="HALV")
    assert "tinyplug" not in sys.modules  # but for policies, nothing was imported to say so


def test_a_broken_package_is_one_line_and_the_others_work(path):
    points = POINTS.replace("tinyplug", "broken").replace("any = broken", "any = broken\n")
    install(path, points, "import nothing_of_that_name\n", "broken")
    line = r"entry point last = broken:Last of broken cannot be loaded: ModuleNotFoundError: No module"
    with pytest.raises(UserError, match=f"^selector: {line}"):
        make_selector("last")
    with pytest.warns(UserWarning, match=line):
        assert "greedy" in list(SELECTORS)
    assert isinstance(make_selector("best-single"), BestSingle)
    assert diversity(PREDICTED, LABELS, metric="BD") > 0
    with pytest.raises(UserError, match=r"unknown LR policy 'UNHEARD': .*; LR policy: entry point any = broken"):
        lrensemble.Policy.parse("UNHEARD(0.1)")
    command = [sys.executable, "-m", "lrensemble", "policies", "list", "--format", "json"]
    done = subprocess.run(
        command, env={"PYTHONPATH": ":".join([str(path), *sys.path])}, capture_output=True, check=True
    )
    assert done.stderr.decode().count("\n") == 1 and "entry point any = broken of broken" in done.stderr.decode()


def test_names_that_clash_are_an_error(path):
    install(path, "[lrensemble.selectors]\ngreedy = tinyplug:Last\n[lrensemble.tasks]\ndigits = tinyplug:Rows\n")
    with pytest.raises(
        UserError, match=r"selector 'greedy' is offered by two packages, lrensemble and .*tinyplug:Last"
    ):
        make_selector("greedy")
    with pytest.raises(UserError, match=r"'digits' is offered by two packages, lrensemble and .*tinyplug:Rows"):
        load_config(tiny_config())
    assert isinstance(make_selector("best-single"), BestSingle)


class Mine(lrensemble.Selector):
    def _choose(self, ballots):
        return np.ones(len(ballots.predictions)), 1


@pytest.mark.parametrize(
    ("register", "words"),
    [
        (lambda: lrensemble.register_selector("greedy")(Mine), "selector greedy is defined twice: by lrensemble and"),
        (lambda: lrensemble.register_selector("mine")(len), "no subclass of lrensemble.Selector"),
        (lambda: lrensemble.register_model("mlp")(len), "model mlp is defined twice"),
        (lambda: lrensemble.register_model("mine")(3), "3 is no class or function"),
        (lambda: lrensemble.register_task("digits")(len), "task digits is defined twice"),
        (
            lambda: lrensemble.register_diversity("CK", "", higher_is_diverse=True, low=0, high=1)(len),
            "diversity metric CK is defined twice",
        ),
        (lambda: METRICS.add("X", 3, "here:x"), "3 is no metric"),
    ],
)
def test_what_cannot_be_registered_is_one_line(register, words, own_names):
    with pytest.raises(UserError, match=words):
        register()


def test_a_metric_of_groups_is_like_ours(own_names):
    """The double fault again, as somebody else would write it, over every way that teams are scored."""

    @lrensemble.register_diversity("MY", "double fault", kind="group", higher_is_diverse=False, low=0, high=1)
    def mine(sums, counts: Counts):
        with np.errstate(invalid="ignore"):  # a team of one has no pairs
            return sums.pairs(counts.both_wrong) / (sums.sizes * (sums.sizes - 1) / 2) / counts.rows

    [chunk] = all_teams(PREDICTED, LABELS, ["DF", "MY"])
    np.testing.assert_allclose(chunk.scores["MY"], chunk.scores["DF"])
    scores = team_diversity(PREDICTED, LABELS, [3, 7], ["DF", "MY"], oriented=True)
    np.testing.assert_allclose(scores["MY"], scores["DF"])
    assert "MY" in METRICS and "MY" in list(METRICS)
    with pytest.raises(UserError, match="has no matrix of pairs"):
        pairwise(PREDICTED, LABELS, "MY")


def test_a_stored_team_of_a_selector_that_is_gone_is_evaluated(pool: Pool, own_names):
    lrensemble.register_selector("mine")(Mine)
    select_teams(pool, ["mine"])
    for table in (REGISTRIES["selectors"]._values, REGISTRIES["selectors"]._homes):
        del table["mine"]
    found = evaluate(Pool.open(pool.path), ["mine"])
    assert found.score("mine").members == 4
    assert "not compared with seeds-only: unknown selector 'mine'" in str(found)


def test_what_a_program_registers_itself_trains_in_one_process(tmp_path, own_names):
    @lrensemble.register_model("local")
    def local(*, input_shape, num_classes):
        return build_model("mlp", input_shape=input_shape, num_classes=num_classes, parameters={"hidden": [4]})

    config = load_config(tiny_config(model="local", control=False, policies=["FIX(k0=[0.1, 0.2])"]))
    with pytest.raises(UserError, match="model local known to this process alone: leave workers"):
        train_pool(config, tmp_path / "pool", workers=2, devices="cpu")
    assert len(train_pool(config, tmp_path / "pool", threads=1, devices="cpu").complete) == 2


def test_what_an_imported_module_registers_is_known_to_workers(path, tmp_path):
    source = SOURCE + "\nfrom lrensemble import register_model\nregister_model('decorated')(net)\n"
    (path / "tinyplug.py").write_text(source)
    __import__("tinyplug")
    data = {"name": "tinyplug:Rows"}
    config = load_config(tiny_config(data=data, model="decorated", control=False, policies=["EIGHTH(k0=[0.1, 0.2])"]))
    assert len(train_pool(config, tmp_path / "pool", workers=2, threads=1, devices="cpu").complete) == 2
