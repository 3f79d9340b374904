"""Every number on the page equals an independent recomputation from the pool's files."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from importlib import resources
from math import comb
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from lrensemble import Pool, evaluate, select_teams
from lrensemble.report.page import page, report_info
from tests.report.html_checks import Page, check


class Files:
    """The files of a pool, read with nothing of ours."""

    def __init__(self, path: Path) -> None:
        self.path = path
        folders = sorted((path / "members").iterdir())
        self.records = [json.loads((f / "record.json").read_text()) for f in folders]
        self.records = [r for r in self.records if r["status"] == "complete"]
        self.records.sort(key=lambda r: (-r["metrics"]["val"]["accuracy"], r["metrics"]["val"]["nll"], r["id"]))
        self.ids = [r["id"] for r in self.records]
        self.y = {split: np.load(path / "labels" / f"{split}.npy") for split in ("val", "test")}
        self.p = {
            split: np.stack([np.load(path / "members" / i / "predictions" / f"{split}.npy") for i in self.ids]).astype(
                float
            )
            for split in self.y
        }
        self.teams = {f.stem: json.loads(f.read_text()) for f in (path / "teams").glob("*.json")}
        self.history = {
            i: [json.loads(line) for line in (path / "members" / i / "history.jsonl").read_text().splitlines()]
            for i in self.ids
        }

    def vote(self, split: str, weights: dict[str, float]) -> np.ndarray:
        total = sum(w * self.p[split][self.ids.index(i)] for i, w in weights.items())
        return total / sum(weights.values())

    def accuracy(self, split: str, p: np.ndarray) -> float:
        return accuracy_score(self.y[split], p.argmax(1))

    def nll(self, split: str, p: np.ndarray) -> float:
        return log_loss(self.y[split], p / p.sum(1, keepdims=True), labels=range(p.shape[1]))

    def right(self, split: str, p: np.ndarray) -> np.ndarray:
        return p.argmax(1) == self.y[split]


def bins_of(p: np.ndarray, y: np.ndarray) -> list[tuple[int, float, float]]:
    """Rows, mean confidence and accuracy of 15 bins, by a loop."""
    confidence, right = p.max(1), p.argmax(1) == y
    found = []
    for i in range(15):
        inside = (confidence > i / 15) & (confidence <= (i + 1) / 15)
        if inside.any():
            found.append((int(inside.sum()), confidence[inside].mean(), right[inside].mean()))
    return found


def risks_of(p: np.ndarray, y: np.ndarray) -> list[float]:
    """Share of errors among the k surest rows, by a loop; rows of one confidence are wrong by equal shares."""
    rows = sorted(zip(p.max(1), p.argmax(1) != y, strict=True), key=lambda row: -row[0])
    shared = []
    for _, same in itertools.groupby(rows, key=lambda row: row[0]):
        wrong = [row[1] for row in same]
        shared += [np.mean(wrong)] * len(wrong)
    return [np.mean(shared[:k]) for k in range(1, len(shared) + 1)]


@pytest.fixture(scope="module")
def reported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Files, Page, dict]:
    path = shutil.copytree(trained, tmp_path_factory.mktemp("report") / "tiny")
    pool = Pool.open(path)
    select_teams(pool, ["best-single", "all", "greedy", "top-k"], size=2)
    select_teams(pool.control, ["greedy", "top-k"], size=2)
    control = Files(pool.control.path)
    shutil.rmtree(pool.control.path / "teams")
    report = report_info(pool, "top-k-2")
    return Files(path), check(page(report)), {"control": control, "evaluation": evaluate(pool, save=False)}


def expected_scores(files: Files, control: Files, own: str) -> dict[str, float]:
    """Accuracies, gains and probabilities' scores of the answer and of both tables of teams."""
    number = {i: n for n, i in enumerate(files.ids)}
    p, y, n = files.p["test"], files.y["test"], len(files.y["test"])
    best = {files.ids[0]: 1.0}
    weights = {name: team["members"] for name, team in files.teams.items()}
    found = {}
    single = files.vote("test", best)
    controls = {}
    for name, team in control.teams.items():
        controls[name] = control.vote("test", team["members"])
    controls["all"] = control.p["test"].mean(0)
    for name, w in weights.items():
        key, vote = f"score.{name}", files.vote("test", w)
        onehot = np.eye(vote.shape[1])[y]
        low, high = proportion_confint(files.right("test", vote).sum(), n, method="wilson")
        found |= {
            f"{key}.members": len(w),
            f"{key}.accuracy": files.accuracy("test", vote),
            f"{key}.accuracy.low": low,
            f"{key}.accuracy.high": high,
            f"{key}.nll": files.nll("test", vote),
            f"{key}.brier": ((vote - onehot) ** 2).sum(1).mean(),
            f"{key}.ece": sum(k * abs(a - c) for k, c, a in bins_of(vote, y)) / n,
            f"{key}.oracle": np.any([p[number[i]].argmax(1) == y for i in w], axis=0).mean(),
            f"{key}.promised": files.accuracy("val", files.vote("val", w)),
        }
        if w != best:
            found[f"{key}.gain.value"] = 100 * (files.accuracy("test", vote) - files.accuracy("test", single))
        if name in controls:
            gain = files.accuracy("test", vote) - control.accuracy("test", controls[name])
            found[f"{key}.control.value"] = 100 * gain
    # The best single member's selector makes a single member of the control too.
    best_control = control.p["test"][0]
    found["score.best-single.control.value"] = 100 * (
        files.accuracy("test", single) - control.accuracy("test", best_control)
    )
    vote = files.vote("test", weights[own])
    rank = np.argsort([files.nll("val", q) for q in files.p["val"]], kind="stable")
    pairs = [p[[i, j]].mean(0) for i, j in itertools.combinations(range(len(p)), 2)]
    rivals = {"best single": [single], "all-average": [p.mean(0)], "random": pairs, "seeds-only": [controls[own]]}
    trained, again = (sum(r["costs"]["seconds"] for r in of.records) for of in (files, control))
    bills = dict.fromkeys([*(f"score.{name}" for name in weights), *(f"vs.{name}" for name in rivals)], (4, trained))
    bills["vs.seeds-only"] = (8, trained + again)  # the pool was needed to know the control's policy
    for key, (trainings, seconds) in bills.items():
        found |= {f"{key}.trainings": trainings, f"{key}.seconds": seconds}
    assert set(rank[:2]) == {number[i] for i in weights[own]}  # so that top-k is no rival: it is the team
    sizes = {"best single": 1, "all-average": len(p), "random": 2, "seeds-only": 2}
    for baseline, votes in rivals.items():
        key = f"vs.{baseline}"
        accuracies = [files.accuracy("test", v) for v in votes]
        found |= {
            f"{key}.members": sizes[baseline],
            f"{key}.accuracy": np.mean(accuracies),
            f"{key}.gain.value": 100 * (files.accuracy("test", vote) - np.mean(accuracies)),
            f"{key}.nll.value": np.mean([files.nll("test", v) for v in votes]) - files.nll("test", vote),
        }
        if baseline == "random":
            found[f"{key}.sd"] = np.std(accuracies, ddof=1)
        else:
            ours, theirs = files.right("test", vote), files.right("test", votes[0])
            only = [(ours & ~theirs).sum(), (theirs & ~ours).sum()]
            exact = mcnemar([[0, only[0]], [only[1], 0]], exact=True).pvalue if sum(only) else 1.0
            tie = comb(int(sum(only)), int(min(only))) / 2 ** int(sum(only))
            found[f"{key}.p"] = 1.0 if only[0] == only[1] else exact - tie  # mid-p
    found |= {
        "answer.accuracy": found[f"score.{own}.accuracy"],
        "answer.accuracy.low": found[f"score.{own}.accuracy.low"],
        "answer.accuracy.high": found[f"score.{own}.accuracy.high"],
        "answer.gain": found["vs.best single.gain.value"],
        "answer.nll": found["vs.best single.nll.value"],
        "answer.single.accuracy": files.accuracy("test", single),
        "answer.control.gain": found["vs.seeds-only.gain.value"],
        "answer.control.accuracy": control.accuracy("test", controls[own]),
    }
    return found


def expected_members(files: Files, own: str) -> dict[str, float]:
    """The tables of members, of the team's members, of training curves."""
    weights = files.teams[own]["members"]
    found = {}
    for number, record in enumerate(files.records, 1):
        i, key = record["id"], f"member.{record['id']}"
        val, test = files.p["val"][number - 1], files.p["test"][number - 1]
        accuracy = files.accuracy("val", val)
        found |= {
            key: number,
            f"{key}.val.accuracy": accuracy,
            f"{key}.val.se": np.sqrt(accuracy * (1 - accuracy) / len(files.y["val"])),
            f"{key}.val.nll": files.nll("val", val),
            f"{key}.test.accuracy": files.accuracy("test", test),
            f"{key}.test.nll": files.nll("test", test),
            f"{key}.seconds": record["costs"]["seconds"],
            f"{key}.steps": record["costs"]["steps"],
            f"{key}.peak": float(re.search(r"k0=([\d.]+)", record["spec"]["policy"])[1]),  # FIX, COS and STEP fall
        }
        lines = files.history[i]
        found |= {
            f"history.{number}": number,
            f"history.{number}.length": lines[-1]["epoch"],
            f"history.{number}.best": max(line["val_accuracy"] for line in lines),
            f"history.{number}.accuracy": lines[-1]["val_accuracy"],
            f"history.{number}.loss": lines[-1]["val_loss"],
            f"history.{number}.train_loss": lines[-1]["train_loss"],
        }
        if i in weights:
            found |= {f"{key}.weight": weights[i], f"seat.{number}": number, f"seat.{number}.weight": weights[i]}
            rest = {k: w for k, w in weights.items() if k != i}
            for split in ("val", "test"):
                whole, without = files.vote(split, weights), files.vote(split, rest)
                found |= {
                    f"seat.{number}.{split}.nll": files.nll(split, without) - files.nll(split, whole),
                    f"seat.{number}.{split}.accuracy": 100
                    * (files.accuracy(split, whole) - files.accuracy(split, without)),
                }
    return found


def expected_teams(files: Files) -> dict[str, float]:
    """Diversity of pairs, all teams, team sizes."""
    count = len(files.ids)
    right = {split: np.array([files.right(split, q) for q in files.p[split]]) for split in files.p}
    pair = {(i, j): (right["val"][i] != right["val"][j]).mean() for i in range(count) for j in range(count) if i != j}
    values = list(pair.values())
    found = {"pairs.low": min(values), "pairs.high": max(values), "pairs.mean": np.mean(values)}
    for i in range(count):
        found[f"pairs.{i + 1}.mean"] = np.mean([pair[i, j] for j in range(count) if j != i])
    found |= {f"pair.{i + 1}.{j + 1}": value for (i, j), value in pair.items()}
    for size in range(1, count + 1):
        votes = [files.p["test"][list(team)].mean(0) for team in itertools.combinations(range(count), size)]
        accuracies, nlls = ([f("test", v) for v in votes] for f in (files.accuracy, files.nll))
        key = f"size.{size}"
        found[f"{key}.teams"] = len(votes)
        for name, scores in (("accuracy", accuracies), ("nll", nlls)):
            found |= {
                f"{key}.{name}": np.mean(scores),
                f"{key}.{name}.low": np.quantile(scores, 0.05),
                f"{key}.{name}.high": np.quantile(scores, 0.95),
            }
    return found


def expected_rest(files: Files, control: Files, own: str) -> dict[str, float]:
    """Calibration and costs."""
    weights, found = files.teams[own]["members"], {}
    for name, w in (("best single", {files.ids[0]: 1.0}), (own, weights)):
        vote = files.vote("test", w)
        bins = bins_of(vote, files.y["test"])
        for k, (rows, confidence, accuracy) in enumerate(bins, 1):
            key = f"bin.{k}.{name}"
            found |= {f"{key}.rows": rows, f"{key}.confidence": confidence, f"{key}.accuracy": accuracy}
        found[f"ece.{name}"] = sum(k * abs(a - c) for k, c, a in bins) / len(vote)
        risks = risks_of(vote, files.y["test"])
        found[f"aurc.{name}"] = np.mean(risks)
        for share in (50, 70, 80, 90, 95, 100):
            found[f"risk.{share}.{name}"] = risks[round(share * len(vote) / 100) - 1]
    single, team = (files.vote("test", w).argmax(1) for w in ({files.ids[0]: 1.0}, weights))
    y = files.y["test"]
    found |= {
        "rows.fixed": ((team == y) & (single != y)).sum(),
        "rows.broken": ((team != y) & (single == y)).sum(),
        "rows.both": ((team == y) & (single == y)).sum(),
        "rows.neither": ((team != y) & (single != y)).sum(),
    }
    matrix = confusion_matrix(y, team)
    found |= {f"confusion.{i}.{j}": count for (i, j), count in np.ndenumerate(matrix) if count}
    errors = sorted((matrix - np.diag(np.diag(matrix))).ravel(), reverse=True)[:10]
    found |= {f"confused.{k}": count for k, count in enumerate(errors, 1) if count}
    costs = {r["id"]: r["costs"] for r in files.records}
    for key in ("flops", "parameters"):
        single, team = costs[files.ids[0]][key], sum(costs[i][key] for i in weights)
        found |= {f"cost.{key}.single": single, f"cost.{key}.team": team, f"cost.{key}.ratio": team / single}
    seconds = {i: c["seconds"] for i, c in costs.items()}
    # What the processor counted, else 4 W of a busy thread.
    joules = {i: c.get("cpu_joules", 4.0 * c["cpu_seconds"]) for i, c in costs.items()}
    [world] = re.findall(
        r"(?m)^world,.*?([\d.]+)$", (resources.files("lrensemble.pool") / "carbon_intensity.csv").read_text()
    )
    return found | {
        **{f"member.{i}.joules": value for i, value in joules.items()},
        "cost.joules.single": joules[files.ids[0]],
        "cost.joules.team": sum(joules[i] for i in weights),
        "cost.joules.pool": sum(joules.values()),
        "cost.grams.pool": sum(joules.values()) / 3.6e6 * float(world) * 1000,
        "cost.seconds.single": seconds[files.ids[0]],
        "cost.seconds.team": sum(seconds[i] for i in weights),
        "cost.seconds.pool": sum(seconds.values()),
        "cost.seconds.control": sum(r["costs"]["seconds"] for r in control.records),
        "answer.cost.ratio": found["cost.flops.ratio"],
        "answer.cost.team": found["cost.flops.team"],
        "answer.cost.single": found["cost.flops.single"],
    }


def test_every_number_equals_an_independent_one(reported):
    files, found, other = reported
    own, control = "top-k-2", other["control"]
    expected = expected_scores(files, control, own) | expected_members(files, own) | expected_teams(files)
    expected |= expected_rest(files, control, own)
    # Bootstrap intervals have no second source here: they are those of `evaluate`, whose own tests check them; so are
    # the means over halves of the pool.
    (half,) = [row for row in other["evaluation"].against("half and half") if row.name == own]
    assert half.bill.trainings == half.baseline_bill.trainings == 4
    intervals = {
        "over_runs.accuracy": other["evaluation"].score(own).over_runs.accuracy,
        "vs.half and half.members": half.baseline_members,
        "vs.half and half.trainings": 4,
        "vs.half and half.seconds": half.baseline_bill.seconds,
        "vs.half and half.accuracy": half.baseline_accuracy,
        "vs.half and half.sd": half.baseline_accuracy_sd,
        "vs.half and half.gain.value": half.accuracy_gain.value,
        "vs.half and half.nll.value": half.nll_gain.value,
    }
    for row in other["evaluation"].comparisons:
        keys = {"best single": f"score.{row.name}.gain", "seeds-only": f"score.{row.name}.control"}
        for key in [keys.get(row.baseline)] + ([f"vs.{row.baseline}.gain"] if row.name == own else []):
            intervals |= {f"{key}.low": row.accuracy_gain.low, f"{key}.high": row.accuracy_gain.high} if key else {}
        if row.name == own:
            key = f"vs.{row.baseline}.nll"
            intervals |= {f"{key}.low": row.nll_gain.low, f"{key}.high": row.nll_gain.high}
    for key, source in (("answer.gain", "vs.best single.gain"), ("answer.control.gain", "vs.seeds-only.gain")):
        intervals |= {f"{key}.low": intervals[f"{source}.low"], f"{key}.high": intervals[f"{source}.high"]}
    expected |= intervals | {f"chance.{split}": 1 / files.p[split].shape[2] for split in files.p}
    points = {key for key in found.numbers if key.startswith("point.")}  # the next test's
    assert set(found.numbers) - points == set(expected)
    for key, value in expected.items():
        for exact, _ in found.numbers[key]:
            assert exact == pytest.approx(value, rel=2e-6, abs=2e-7), key


def test_the_teams_in_the_table_are_what_they_say(reported):
    files, found, _ = reported
    table = found.text[found.text.index("The best teams on validation") :]
    teams = re.findall(r'<td class="text policy">([\d, ]+)</td>', table[: table.index("</table>")])
    assert len(teams) == 11  # of four members: all
    best = []
    for k, members in enumerate(teams, 1):
        inside = [int(m) - 1 for m in members.split(", ")]
        right = np.array([files.right("val", files.p["val"][m]) for m in inside])
        disagreement = np.mean([(a != b).mean() for a, b in itertools.combinations(right, 2)])
        [(accuracy, _)] = found.numbers[f"point.{k}.accuracy"]
        best.append(accuracy)
        assert accuracy == pytest.approx(files.accuracy("val", files.p["val"][inside].mean(0)))
        assert found.numbers[f"point.{k}.diversity"][0][0] == pytest.approx(disagreement)
        test = files.accuracy("test", files.p["test"][inside].mean(0))
        assert found.numbers[f"point.{k}.test_accuracy"][0][0] == pytest.approx(test)
    assert best == sorted(best, reverse=True)


def test_the_text_of_a_number_is_its_rounded_value(reported):
    _, found, _ = reported
    units = {"": 1, "\u00d7": 1, "s": 1, "min": 60, "h": 3600, "k": 1e3, "M": 1e6}
    checked = 0
    for key, pairs in found.numbers.items():
        for value, text in pairs:
            if text == "< 0.001":
                assert key.endswith(".p") and value < 0.0005
                continue
            match = re.fullmatch(r"([+\u2212]?)([\d,]+(?:\.(\d+))?) ?([a-zA-Z\u00d7]*) ?", text)
            assert match, text
            sign = -1 if match[1] == "\u2212" else 1
            shown, step = sign * float(match[2].replace(",", "")), 10.0 ** -len(match[3] or "")
            if match[4] in ("k", "M"):
                step = 10.0 ** (np.floor(np.log10(shown)) - 2)
            scale = units[match[4]]
            assert min(abs(shown * scale - factor * value) for factor in (1, 100)) <= 0.501 * step * scale, (key, text)
            checked += 1
    assert checked > 200


def test_percent_and_points_are_not_mixed_up(reported):
    files, found, _ = reported
    accuracy = files.accuracy("test", files.vote("test", files.teams["top-k-2"]["members"]))
    assert found.numbers["answer.accuracy"][0][1] == f"{100 * accuracy:.2f}"


def test_numbers_in_json_are_those_of_the_page(reported, capsys):
    from lrensemble.cli.main import main

    files, found, _ = reported
    assert main(["report", str(files.path), "--team", "top-k-2", "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert not (files.path / "report.html").exists()
    assert found.numbers["answer.accuracy"][0][0] == pytest.approx(data["answer"]["score"]["accuracy"], rel=1e-8)
    for row in data["members"]:
        assert found.numbers[f"member.{row['id']}.test.nll"][0][0] == pytest.approx(row["test"]["nll"], rel=1e-8)
    assert (data["split"], data["rows"]["test"]) == ("test", len(files.y["test"]))


def test_rank_correlation_of_a_larger_pool(tmp_path):
    from tests.report.pools import synthetic_pool

    pool = synthetic_pool(tmp_path / "p", 6, rows=60)
    report = report_info(pool)
    files = Files(pool.path)
    for size in (2, 3, 4):
        accuracy, disagreement = [], []
        for team in itertools.combinations(range(6), size):
            right = [files.right("val", files.p["val"][m]) for m in team]
            accuracy.append(files.accuracy("val", files.p["val"][list(team)].mean(0)))
            disagreement.append(np.mean([(a != b).mean() for a, b in itertools.combinations(right, 2)]))
        expected = spearmanr(np.round(accuracy, 10), np.round(disagreement, 10)).statistic
        assert report.teams.correlation[size] == pytest.approx(expected)
    assert sum(cell.teams for cell in report.teams.cells) == report.teams.scored == 2**6 - 7


def test_intervals_of_nll_are_those_of_a_plain_bootstrap(reported):
    """Other resamples than ours: the ends agree up to their own noise."""
    files, found, _ = reported
    y = files.y["test"]
    rows = np.arange(len(y))
    losses = {
        name: -np.log(files.vote("test", weights)[rows, y])
        for name, weights in (("team", files.teams["top-k-2"]["members"]), ("single", {files.ids[0]: 1.0}))
    }
    saved = losses["single"] - losses["team"]
    rng = np.random.default_rng(7)
    means = saved[rng.integers(0, len(y), (4000, len(y)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    for name, end in (("low", low), ("high", high)):
        [(value, _)] = found.numbers[f"vs.best single.nll.{name}"]
        assert value == pytest.approx(end, abs=0.08 * (high - low))
