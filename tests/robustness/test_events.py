"""Changes of recordings, by their numbers; and teams on changed recordings against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lrensemble import UserError, load_config, select_teams, train_pool
from lrensemble.evaluation.network import load_data, load_network
from lrensemble.export import export_team
from lrensemble.pool import Pool
from lrensemble.robustness import corruption, loss_difference, out_of_distribution
from lrensemble.robustness.corruption import changing
from lrensemble.robustness.events import EVENT_CHANGES
from lrensemble.robustness.networks import networks
from lrensemble.tasks.events import Recording
from lrensemble.tasks.events.binning import BinnedEvents
from tests.tasks.events.files import bars_file

BIN = 10_000


def long_recording(events=40_000) -> Recording:
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(5, 1_000_000, events))
    x, y, p = (rng.integers(0, most, events).astype(kind) for most, kind in ((40, "u2"), (30, "u2"), (2, "u1")))
    return Recording(t, x, y, p, (40, 30))


@pytest.mark.parametrize("name", EVENT_CHANGES)
@pytest.mark.parametrize("level", [1, 2, 3])
def test_changes_have_their_size(name, level):
    one = long_recording()
    found, again, other = (changing(name, level, BIN)(one, row) for row in (0, 0, 1))
    assert np.array_equal(found.t, again.t) and not np.array_equal(found.t, other.t)
    assert (np.diff(found.t) >= 0).all() and found.t[0] >= one.t[0] and found.t[-1] <= one.t[-1]
    assert (found.x.dtype, found.y.dtype, found.p.dtype) == (one.x.dtype, one.y.dtype, one.p.dtype)
    before, after = (set(zip(r.t, r.x, r.y, r.p, strict=True)) for r in (one, found))
    if name == "drop":
        assert len(found) / len(one) == pytest.approx(1 - level / 4, abs=0.01) and after <= before
    elif name == "noise":
        assert len(found) / len(one) == pytest.approx(1 + 2.0 ** (level - 3), abs=0.02) and before <= after
        assert found.x.max() == 39 and found.y.max() == 29
    else:
        assert sorted(zip(found.x, found.y, found.p, strict=True)) == sorted(zip(one.x, one.y, one.p, strict=True))
        pixel = 17 + 40 * 11  # of events far from the ends, matched by their pixel: their spread
        at = [r.t[(r.x + 40 * r.y.astype(int)) == pixel] for r in (one, found)]
        assert len(at[0]) == len(at[1]) and not np.array_equal(*at)
    empty = Recording(*(np.zeros(0, kind) for kind in (np.int64, np.uint16, np.uint16, np.uint8)))
    assert len(changing(name, level, BIN)(empty, 0)) == 0


@pytest.mark.parametrize(("level", "deviation"), [(1, 0.5), (3, 2.0)])
def test_jitter_has_its_deviation(level, deviation):
    one = Recording(np.r_[0, np.full(20_000, 500_000), 1_000_000], *(np.zeros(20_002, k) for k in ("u2", "u2", "u1")))
    found = changing("jitter", level, BIN)(one, 0)
    assert np.std(found.t[1:-1]) == pytest.approx(deviation * BIN, rel=0.03)


def test_teams_on_changed_recordings(tmp_path, monkeypatch):
    data = {"name": "events", "root": str(bars_file(tmp_path / "bars.npz")), "val_fraction": 0.2}
    config = {"name": "bars", "model": {"name": "carsnn"}, "optimizer": {"name": "Adam"}, "data": data}
    config |= {"training": {"epochs": 1, "batch_size": 20}, "policies": ["FIX(k0=3e-3)"], "seeds": [0, 1]}
    pool = train_pool(load_config(config), tmp_path / "pool", workers=1, threads=1, devices="cpu")
    (team,) = select_teams(pool, ["all"])
    teams = networks(pool, device="cpu")
    found = {(row.name, row.corruption, row.level): row for row in corruption(teams)}
    assert len(found) == 2 * (1 + 3 * 3)
    task = load_data(pool)
    change = changing("drop", 2, task.frames["bin_us"])
    changed = [change(one, row) for row, one in enumerate(task._tested)]
    x = torch.from_numpy(BinnedEvents(changed, (0, 0, *task.frames["window"][2:]), 10_000).fixed(10, 1)).float()
    with torch.no_grad():
        p = sum(w * load_network(pool, pool.find(i), task=task)(x).softmax(1) for i, w in team.members.items())
    right = p.argmax(1).numpy() == pool.labels("test")
    assert found["all", "drop", 2].accuracy == pytest.approx(right.mean())
    losses = loss_difference(teams)
    assert losses[0].train_rows == task.rows("train") and np.isfinite(losses[0].train_nll)
    with pytest.raises(UserError, match="--ood digits: foreign rows are images"):
        out_of_distribution(teams, "digits")

    # A spike more or less, by rounding, is no other network; three rows are.
    stored = Pool.predictions
    for rows, accepted in ((1, True), (3, False)):

        def predictions(self, split, members, rows=rows):
            found = [np.array(p) for p in stored(self, split, members)]
            for p in found:
                p[:rows] = (p[:rows] + np.array([0.1, 0.3])) / 1.4
            return found

        monkeypatch.setattr(Pool, "predictions", predictions)
        if accepted:
            teams.clean_votes()
            card = export_team(pool, "all", tmp_path / "team", benchmark=False)
            assert card.checks["torch"].undecided == 1 and card.checks["torch"].largest_difference < 1e-5
        else:
            with pytest.raises(UserError, match="gives other predictions than the pool has"):
                teams.clean_votes()
            with pytest.raises(UserError, match="differ from the stored predictions"):
                export_team(pool, "all", tmp_path / "other", benchmark=False)
