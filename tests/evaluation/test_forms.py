"""The table of forms by values, beside what the files of a pool say."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lrensemble import Pool
from lrensemble.cli.main import main
from lrensemble.evaluation.forms import form_table


def test_the_table_of_a_pool(pool: Pool):
    table = form_table(pool)
    labels = {split: pool.labels(split) for split in ("val", "test")}
    assert [(s.form, s.value) for s in sorted(table.scores, key=lambda s: (s.form, s.value))] == [
        ("COS(l=100%)", 0.2), ("FIX", 0.02), ("FIX", 0.1), ("STEP(gamma=0.3, l=1e)", 0.1),
    ]  # fmt: skip
    assert table.rows == {split: len(y) for split, y in labels.items()} and table.unit == "rows"
    assert table.scores[0].members == (pool.best_run().id,)
    for score in table.scores:
        [member] = (pool.find(i) for i in score.members)
        for split, found in (("val", score.val), ("test", score.test)):
            p = np.load(member.path / f"predictions/{split}.npy").astype(np.float64)
            right = p.argmax(1) == labels[split]
            n = len(right)
            assert found.accuracy == pytest.approx(right.mean())
            margin = 1.96 * (right.mean() * (1 - right.mean()) / n) ** 0.5
            assert found.interval == pytest.approx((right.mean() - margin, min(1, right.mean() + margin)), abs=1e-4)
            assert found.nll == pytest.approx(-np.log(p[np.arange(n), labels[split]]).mean(), rel=1e-5)
        history = member.history()
        goal = 0.95 * max(line["val_accuracy"] for line in history)
        assert score.steps == min(line["step"] for line in history if line["val_accuracy"] >= goal)
        assert score.tokens == pytest.approx(member.record.costs["samples_per_second"])
    assert table.by_value[0.1].val.accuracy == max(s.val.accuracy for s in table.scores if s.value == 0.1)


def test_the_winner_is_said_first(pool: Pool, capsys):
    assert main(["forms", str(pool.path)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    best = form_table(pool).scores[0]
    assert said.startswith(f"{pool.path}: {best.form} at {best.value:g} won on validation") and "chance" in said
    assert main(["forms", str(pool.path), "--format", "json"]) == 0
    [found] = json.loads(capsys.readouterr().out)["pools"]
    assert [score["value"] for score in found["scores"]] == [s.value for s in form_table(pool).scores]
    assert main(["forms", str(pool.path.parent / "none")]) == 2
