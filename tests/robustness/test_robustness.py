"""Corruptions against SciPy and loops, votes of networks against stored predictions, LR scales against records."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy import ndimage
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss, roc_auc_score

from lrensemble import Pool, UserError
from lrensemble.cli.main import main
from lrensemble.pool.select import select_teams
from lrensemble.robustness import corruption, loss_difference, lr_robustness, out_of_distribution, train_scaled
from lrensemble.robustness.corruption import CORRUPTIONS, Scale, corrupting
from lrensemble.robustness.networks import networks
from lrensemble.selection import team_vote

CPU = torch.device("cpu")


def scale(channels: int = 3) -> Scale:
    return Scale(torch.full((channels, 1, 1), 60.0), 0.0, 255.0)


def images(rows: int = 200, channels: int = 3, side: int = 32) -> torch.Tensor:
    return torch.randint(0, 256, (rows, channels, side, side), generator=torch.Generator().manual_seed(0)).float()


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruptions_are_seeded_keep_range_and_get_worse(name):
    x = images()
    once, again = (corrupting(name, 2, scale(), CPU)(x, 0) for _ in range(2))
    torch.testing.assert_close(once, again, rtol=0, atol=0)
    assert once.shape == x.shape
    assert once.min() >= 0
    assert once.max() <= 255 + 1e-3
    if name != "blur":  # nothing random in it
        assert not torch.equal(once, corrupting(name, 2, scale(), CPU)(x, 1000))
    smooth = torch.nn.functional.avg_pool2d(x, 9, 1, 4)
    far = [float((corrupting(name, level, scale(), CPU)(smooth, 0) - smooth).square().mean()) for level in (1, 2, 3)]
    assert 0 < far[0] < far[1] < far[2]


def test_noise_has_its_size():
    x = torch.full((100, 3, 16, 16), 127.0)
    for level, size in ((1, 12.0), (2, 24.0)):
        found = corrupting("noise", level, scale(), CPU)(x, 0) - x
        assert float(found.std()) == pytest.approx(size, rel=0.02)
        assert abs(float(found.mean())) < 0.2


@pytest.mark.parametrize(("side", "level", "sigma"), [(32, 1, 0.5), (32, 3, 2.0), (28, 2, 0.875)])
def test_blur_equals_scipy(side, level, sigma):
    x = images(4, 1, side)
    found = corrupting("blur", level, scale(1), CPU)(x, 0).numpy()
    radius = int(np.ceil(3 * sigma))
    oracle = ndimage.gaussian_filter(x.numpy(), sigma, axes=(2, 3), mode="mirror", radius=radius)
    np.testing.assert_allclose(found, oracle, atol=0.01)


def test_shift_moves_in_one_of_four_directions():
    x = images(40, 2, 16)
    found = corrupting("shift", 2, scale(2), CPU)(x, 0)
    seen = set()
    for before, after in zip(x.numpy(), found.numpy(), strict=True):
        padded = np.pad(before, ((0, 0), (2, 2), (2, 2)), mode="edge")
        matches = [
            (dy, dx)
            for dy in (-2, 2)
            for dx in (-2, 2)
            if np.array_equal(padded[:, 2 + dy : 18 + dy, 2 + dx : 18 + dx], after)
        ]
        assert len(matches) == 1
        seen.update(matches)
    assert len(seen) == 4


@pytest.mark.parametrize("side", [1, 2, 3])
def test_tiny_images_can_be_corrupted(side):
    for name in CORRUPTIONS:
        assert corrupting(name, 3, scale(1), CPU)(images(5, 1, side), 0).shape == (5, 1, side, side)


@pytest.mark.parametrize("vote", ["soft", "logit", "plurality", "majority", "borda"])
def test_votes_of_the_networks_are_the_stored_votes(pool: Pool, vote):
    select_teams(pool, ["greedy", "all"], vote=vote, temperature=True, objective="accuracy")
    team = pool.teams[-1]
    found = networks(pool, device="cpu").clean_votes()[team.name]
    P = np.stack([np.load(pool.path / "members" / i / "predictions" / "test.npy") for i in team.members])
    expected = team_vote(P, np.array(list(team.members.values())), vote, np.array(list(team.temperatures.values())))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_corruption_equals_a_plain_loop(pool: Pool):
    (team,) = select_teams(pool, ["top-k"], size=2)
    rows = corruption(networks(pool, device="cpu"))
    assert len(rows) == 2 * (1 + 3 * 3)
    from lrensemble.evaluation.network import load_data, load_network

    data = load_data(pool)
    x, y = torch.from_numpy(np.asarray(data.test.images)).float(), np.asarray(data.test.labels)
    std = torch.tensor(data.normalisation[1], dtype=torch.float32)[:, None, None]
    change = corrupting("noise", 3, Scale(std, 0.0, 16.0), CPU)
    with torch.no_grad():
        p = sum(w * load_network(pool, pool.find(i))(change(x, 0)).softmax(1) for i, w in team.members.items())
    row = next(row for row in rows if (row.name, row.corruption, row.level) == (team.name, "noise", 3))
    assert row.accuracy == pytest.approx((p.numpy().argmax(1) == y).mean())
    assert row.nll == pytest.approx(log_loss(y, p.numpy().astype(float)), rel=1e-4)
    clean = next(row for row in rows if (row.name, row.corruption) == ("(best single)", "clean"))
    assert clean.accuracy_gain is None
    assert row.accuracy < clean.accuracy


def test_a_network_that_gives_other_predictions_is_found(pool: Pool):
    from safetensors.torch import load_file, save_file

    from lrensemble.pool.record import FileInfo

    member = pool.best_single()
    path = member.path / "weights.safetensors"
    save_file({k: v + 0.05 for k, v in load_file(path).items()}, path)
    files = {**member.record.files, path.name: FileInfo.of(path)}
    member.write_record(member.record.model_copy(update={"files": files}))
    with pytest.raises(UserError, match="gives other predictions than the pool has"):
        corruption(networks(pool, device="cpu"))


def test_loss_difference_equals_the_networks(pool: Pool):
    from lrensemble.evaluation.network import load_data, load_network

    select_teams(pool, ["all"])
    rows = {row.name: row for row in loss_difference(networks(pool, device="cpu", everyone=True))}
    assert set(rows) == {"all", *(member.id for member in pool.complete)}
    data = load_data(pool)
    member = pool.complete[1]
    with torch.no_grad():
        train, test = (
            load_network(pool, member)(torch.from_numpy(np.asarray(split.images))).softmax(1).numpy().astype(float)
            for split in (data.train, data.test)
        )
    row = rows[member.id]
    assert row.train_nll == pytest.approx(log_loss(data.train.labels, train), rel=1e-4)
    assert row.loss_difference == pytest.approx(log_loss(data.test.labels, test) - row.train_nll, rel=1e-3)
    assert row.train_rows == 1010
    assert row.policy == member.record.spec.policy
    stored = np.mean([np.load(m.path / "predictions" / "test.npy") for m in pool.complete], 0).astype(float)
    assert rows["all"].test_nll == pytest.approx(log_loss(pool.labels("test"), stored), rel=1e-4)


def other_data(path, images: np.ndarray) -> str:
    labels = np.arange(len(images)) % 3
    np.savez(path, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    return f"npz:{path}"


def test_out_of_distribution(pool: Pool, tmp_path):
    """Own test images in another archive cannot be told apart; noise can; sizes, channels and ranges are fitted."""
    (team,) = select_teams(pool, ["all"])
    digits = load_digits().images.astype(np.uint8)
    teams = networks(pool, device="cpu")
    same = {row.name: row for row in out_of_distribution(teams, other_data(tmp_path / "same.npz", digits))}
    found = same[team.name].max_probability
    assert found.low < found.value < found.high
    assert found.value < 0.6
    rng = np.random.default_rng(0)
    noise = other_data(tmp_path / "noise.npz", rng.integers(0, 256, (500, 20, 24, 3), dtype=np.uint8))
    rows = {row.name: row for row in out_of_distribution(teams, noise)}
    row = rows[team.name]
    assert row.foreign_rows == 500
    assert row.entropy.value > 0.9
    bright = other_data(tmp_path / "bright.npz", digits * 15)  # 0 to 240 instead of 0 to 16
    again = {row.name: row for row in out_of_distribution(teams, bright)}
    assert again[team.name].entropy.value == pytest.approx(same[team.name].entropy.value, abs=1e-3)
    p = np.mean([np.load(m.path / "predictions" / "test.npy") for m in pool.complete], 0)
    inside = -p.max(1)
    outside = -teams.votes(digits[:, None])[team.name].max(1)
    kinds = np.repeat([0, 1], [len(inside), len(outside)])
    expected = roc_auc_score(kinds, np.concatenate([inside, outside]))
    assert same[team.name].max_probability.value == pytest.approx(expected, abs=1e-4)


def test_out_of_distribution_errors(pool: Pool, tmp_path, capsys):
    select_teams(pool, ["all"])
    for text, words in [
        ("digits", "is the pool's own data set"),
        ("digit", "did you mean 'digits'"),
        ("npz", "needs data.root"),
        (f"npz:{tmp_path}/none.npz", "does not exist"),
    ]:
        assert main(["robustness", str(pool.path), "--ood", text, "--device", "cpu"]) == 2
        assert words in capsys.readouterr().err


def test_lr_scales(pool: Pool):
    members = [pool.best_single(), next(m for m in pool.complete if m.id != pool.best_single().id)]
    runs = train_scaled(pool, members, (0.5, 1.0, 1e6), devices="cpu", workers=1, threads=1)
    assert len(runs.members) == 4
    rows = {row.member: row for row in lr_robustness(pool, members, (0.5, 1.0, 1e6))}
    row = rows[members[0].id]
    half = next(r for r in runs.complete if r.record.spec.policy == f"SCALE(of={row.policy}, by=0.5)")
    assert row.accuracies["0.5"] == half.record.metrics["val"]["accuracy"]
    assert row.accuracies["1"] == members[0].record.metrics["val"]["accuracy"]
    assert half.record.spec.model_copy(update={"policy": row.policy}) == members[0].record.spec
    assert half.history()[0]["lr"] == pytest.approx(members[0].history()[0]["lr"] / 2)
    assert row.statuses["1e+06"] == "diverged"
    assert row.spread is None
    assert row.worst == min(row.accuracies["0.5"], row.accuracies["1"])
    whole = lr_robustness(pool, members, (0.5, 1.0))[0]
    assert whole.spread == pytest.approx(100 * abs(row.accuracies["1"] - row.accuracies["0.5"]))
    before = {run.id: run.record for run in runs.members}
    train_scaled(pool, members, (0.5, 1.0, 1e6), devices="cpu", workers=1)
    assert {run.id: run.record for run in runs.members} == before
    assert {row.member for row in lr_robustness(pool, factors=(0.5, 1.0))} == {member.id for member in members}
    assert len(pool.members) == 4  # the pool itself has no more members than before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--lr-scales", "--factors", "a"], "with commas, for example 0.1,0.5"),
        (["--lr-scales", "--factors", "0,1"], "0 is not possible: a number from 1e-06"),
        (["--lr-scales", "--member", "zz"], "is not in the pool"),
        (["--factors", "1"], "--factors is for --lr-scales"),
        (["--team", "gredy"], "has no team 'gredy'"),
        (["--device", "tpu"], "unknown device 'tpu'"),
    ],
)
def test_bad_input(pool: Pool, capsys, arguments, words):
    assert main(["robustness", str(pool.path), *arguments]) == 2
    assert words in capsys.readouterr().err
    assert not (pool.path / "robustness").exists()
    assert not (pool.path / "lr_scales").exists()


def test_the_command_writes_and_prints(pool: Pool, capsys):
    select_teams(pool, ["greedy"], size=2)
    assert main(["robustness", str(pool.path), "--device", "cpu", "--format", "json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert set(printed) == {"pool", "corruption", "loss"}
    for name in ("corruption", "loss"):
        assert json.loads((pool.path / "robustness" / f"{name}.json").read_text())["rows"] == printed[name]
    assert main(["robustness", str(pool.path), "--corruption", "--device", "cpu"]) == 0
    assert "blur 3" in capsys.readouterr().out


def test_a_pool_without_weights_says_so(pool: Pool, capsys):
    main(["gc", str(pool.path), "--max-size", "1KB", "--yes"])
    capsys.readouterr()
    assert main(["robustness", str(pool.path), "--corruption"]) == 2
    assert "weights.safetensors was deleted by lrensemble gc" in capsys.readouterr().err
