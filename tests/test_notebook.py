"""Objects in a notebook: HTML that a stranger's names cannot break, tables of pandas, one line for an error."""

from __future__ import annotations

import ast
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas
import pytest

from lrensemble import Policy, Pool, UserError, evaluate, load_config, select_teams, train_pool, write_report
from lrensemble.training import runner
from lrensemble.training.progress import Progress
from tests.conftest import as_another, tiny_config

EVIL = '<script>alert("1")</script>'


class Elements(HTMLParser):
    """Names of the elements, each closed in its order, and the words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names, self.open, self.words = [], [], ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        self.open.append(tag)
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_startendtag(self, tag, attrs):
        self.names.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data


def test_a_pool_with_its_members_and_teams(pool: Pool):
    select_teams(pool, ["greedy", "all"])
    found = Elements(pool._repr_html_())
    assert found.names.count("tr") == 1 + len(pool.members)
    best = pool.best_single().record
    assert found.words.index(best.id) < min(found.words.index(m.id) for m in pool.members if m.id != best.id)
    assert f"{100 * best.val['accuracy']:.2f} ±" in found.words and "all, greedy" in found.words
    team = pool.team("all")
    shown = Elements(team._repr_html_())
    assert shown.words.count("0.250") == 4 and all(i in shown.words for i in team.members)


def test_what_a_file_says_is_text(pool: Pool):
    member = pool.members[0]
    spec = member.record.spec
    model = spec.model.model_copy(update={"name": EVIL})
    member = as_another(pool, member, spec.model_copy(update={"policy": None, "model": model}))
    select_teams(pool, ["all"])
    evaluation = evaluate(pool, save=False)
    team = pool.team("all").model_copy(update={"selector": EVIL})
    evaluation.verdicts[EVIL] = EVIL
    for shown in (pool, member, team, evaluation):
        found = Elements(shown._repr_html_())
        assert "script" not in found.names and EVIL in found.words


def test_a_member_with_its_curve_and_without_a_history(pool: Pool):
    member = pool.members[0]
    found = Elements(member._repr_html_())
    assert "polyline" in found.names and f"{member.record.val['nll']:.4f}" in found.words
    (member.path / "history.jsonl").unlink()
    assert "polyline" not in Elements(Pool.open(pool.path).find(member.id)._repr_html_()).names
    member.record_path.write_text("{")
    assert "damaged" in Pool.open(pool.path).find(member.id)._repr_html_()


@pytest.mark.parametrize("text", ["COS(k0=0.2, l=100%)", "STEP(k0=0.1, gamma=0.3, l=2e)", "FIX(k0=0.1)"])
def test_a_policy_with_the_curve_that_it_has(text):
    policy = Policy.parse(text)
    html = policy._repr_html_()
    points = np.array([list(map(float, p.split(","))) for p in re.search(r'points="([^"]+)"', html)[1].split()])
    lr = policy.bind(steps_per_epoch=100, total_steps=2000)(np.linspace(0, 1999, len(points)).astype(int))
    height = points[:, 1].max() if lr.min() < 1e-9 else 110
    np.testing.assert_allclose(1 - points[:, 1] / height, lr / lr.max(), atol=2e-3)
    assert text in Elements(html).words


def test_frames_have_the_numbers_of_the_objects(pool: Pool):
    select_teams(pool, ["all"])
    first, *rest = pool.members
    first.write_record(first.record.model_copy(update={"status": "diverged", "reason": "loss 1e+30", "metrics": {}}))
    frame = pool.to_pandas().set_index("id")
    assert frame.loc[first.id, ["status", "reason"]].tolist() == ["diverged", "loss 1e+30"]
    for member in rest:
        assert frame.loc[member.id, "val_nll"] == member.record.val["nll"]
        assert frame.loc[member.id, "seconds"] == member.record.costs["seconds"]
    select_teams(pool, ["all"])
    evaluation = evaluate(pool, save=False)
    scores = evaluation.to_pandas()
    assert isinstance(scores, pandas.DataFrame) and scores["name"].tolist() == [s.name for s in evaluation.scores]
    for (_, row), score in zip(scores.iterrows(), evaluation.scores, strict=True):
        assert (row["accuracy"], row["accuracy_low"]) == (score.accuracy, score.accuracy_interval[0])
        assert (row["nll_gain"], row["nll_gain_high"]) == (score.nll_gain.value, score.nll_gain.high)
    assert all(f"{100 * s.accuracy:.2f} [" in Elements(evaluation._repr_html_()).words for s in evaluation.scores)


def test_without_pandas_one_line_says_how_to_install_it(pool: Pool, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match=r"to_pandas needs pandas: .*install.*pandas"):
        pool.to_pandas()


def test_errors_are_one_line_in_ipython(pool: Pool):
    with pytest.raises(UserError) as caught:
        pool.team("greddy")
    [line] = caught.value._render_traceback_()  # what IPython prints in place of a traceback
    assert line.startswith("UserError: ") and "has no team 'greddy'" in line


@pytest.mark.parametrize(
    ("interactive", "progress", "lines"), [(True, None, 5), (True, False, 0), (False, None, 0), (False, True, 5)]
)
def test_training_at_a_prompt_shows_how_far_it_is(
    config, trained, pool, monkeypatch, capsys, interactive, progress, lines
):
    """A line for every member that finishes; of a finished pool that it is finished."""
    monkeypatch.setattr(runner, "_is_interactive", lambda: interactive)
    member = pool.members[0]
    member.record_path.unlink()  # to be trained again
    train_pool(config, pool.path, workers=1, threads=1, devices="cpu", progress=progress, control=False)
    said = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert len(said) == (2 if lines else 0), said
    assert not lines or (member.id in said[1] and "validation accuracy" in said[1])


def test_progress_in_a_notebook_needs_no_widgets():
    assert not Progress().console.is_jupyter


def test_pools_and_policies_may_be_given_as_people_have_them(pool: Pool, tmp_path):
    """A pool's folder for the pool, a policy's object for its text, one selector for a list; else one line."""
    [team] = select_teams(str(pool.path), "all")
    assert evaluate(pool.path, "all", save=False).score("all").members == len(team.members)
    assert write_report(pool.path, tmp_path / "page.html").team.name == "all"
    policy = Policy.parse("COS(k0=0.2, l=100%)")
    config = load_config(tiny_config(policies=[policy, "FIX(k0=0.1)"]))
    assert config == load_config(tiny_config(policies=[str(policy), "FIX(k0=0.1)"]))
    assert load_config(tiny_config(policies=policy)).policies == (str(policy),)
    for wrong in (lambda: evaluate(5), lambda: select_teams(None), lambda: write_report(5, tmp_path / "x.html")):
        with pytest.raises(UserError, match=r"a Pool or its folder is needed, not (int|NoneType)"):
            wrong()
    with pytest.raises(UserError, match="config = 5: a configuration or its file is needed, not int"):
        train_pool(5)
    with pytest.raises(UserError, match="not a pool"):
        evaluate(tmp_path / "nowhere")


EXAMPLE = Path(__file__).parents[1] / "docs" / "example.ipynb"


def cells() -> list[dict]:
    return [cell for cell in json.loads(EXAMPLE.read_text())["cells"] if cell["cell_type"] == "code"]


def test_the_example_was_executed():
    """As it is shown: outputs, in the order of the cells, and no error among them."""
    assert [cell["execution_count"] for cell in cells()] == list(range(1, len(cells()) + 1))
    outputs = [output for cell in cells() for output in cell["outputs"]]
    assert all(cell["outputs"] for cell in cells()) and "error" not in {output["output_type"] for output in outputs}
    assert "text/html" in cells()[0]["outputs"][0]["data"]


@pytest.mark.slow
def test_the_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for cell in cells():
        *statements, last = ast.parse("".join(cell["source"])).body
        exec(compile(ast.Module(statements, []), "example", "exec"), names)
        shown = (
            eval(compile(ast.Expression(last.value), "example", "eval"), names) if isinstance(last, ast.Expr) else None
        )
        kinds = {kind for output in cell["outputs"] for kind in output.get("data", {})}
        assert ("text/html" in kinds) == hasattr(shown, "_repr_html_")
    assert (tmp_path / "checkpoints/example/report.html").is_file()
    assert "NLL" in capsys.readouterr().out
