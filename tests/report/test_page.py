"""The page is well-formed, needs nothing else, and is sensible for every pool that can be opened."""

from __future__ import annotations

import base64
import io
import json
import re
import shlex
import shutil
from importlib import resources
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from lrensemble import Pool, load_task, select_teams
from lrensemble.cli.main import main
from lrensemble.pool import best_team
from lrensemble.pool.files import json_text
from lrensemble.pool.record import FileInfo
from lrensemble.pool.timings import Timing, read_timings, write_timings
from lrensemble.pool.writing import write_end
from lrensemble.report.page import charts, page, report_info, svg
from lrensemble.report.page.costs import costs_of
from lrensemble.report.page.examples import examples_of, pictures_of
from lrensemble.report.page.teams import sample_teams
from lrensemble.report.page.why import leave_one_out
from tests.conftest import as_another
from tests.report.html_checks import Page, check
from tests.report.pools import synthetic_pool
from tests.text.tiny import write_tokenizer


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda file: None)


def text_of(page) -> str:
    return " ".join(" ".join(page.words).split())


def files_of(path: Path) -> dict[str, bytes]:
    return {str(f.relative_to(path)): f.read_bytes() for f in path.rglob("*") if f.is_file()}


def test_the_answer_comes_first_and_nothing_else_is_written(pool: Pool, capsys):
    select_teams(pool, ["greedy", "all", "best-single"])
    before = files_of(pool.path)
    assert main(["report", str(pool.path)]) == 0
    after = files_of(pool.path)
    assert {name for name in after if after[name] != before.get(name)} == {"report.html"}
    captured = capsys.readouterr()
    heading = captured.out.splitlines()[0].removesuffix(".")
    assert re.search("orth it", heading)
    assert "report.html" in captured.err
    found = check((pool.path / "report.html").read_text())
    words = text_of(found)
    assert heading in words
    order = ["orth it", "Teams and controls", "Learning-rate policies", "Calibration", "How to reproduce"]
    main_words = words[words.index("Pool tiny") :]
    assert [main_words.index(part) for part in order] == sorted(main_words.index(part) for part in order)
    assert "n = 450" in words
    assert "seeds-only control: 4 members" in words.lower()


def test_times_of_a_prediction_are_those_of_this_team(pool: Pool):
    [team] = select_teams(pool, ["top-k"], size=2)
    assert "How long a prediction takes was not measured" in page(report_info(pool))
    spread = {"team_spread": (1.5, 9.0), "single_spread": (0.6, 2.5)}
    write_timings(
        pool, team, [Timing(format="torch", device="Some CPU", batch=8, team_ms=1.25, single_ms=0.5, calls=9, **spread)]
    )
    text = page(report_info(pool))
    words = text_of(check(text)).replace("( ", "(").replace(" )", ")")
    assert "8 rows 0.5 (0.6 to 2.5) 1.25 (1.5 to 9) 2.50" in words and "on Some CPU" in words
    # Of another team of that name, and of a file that is cut off, nothing is shown.
    path = pool.path / "timings" / f"{team.name}.json"
    weights = dict(zip(team.members, (0.25, 0.75), strict=True))
    pool.save_team(team.model_copy(update={"members": weights}))
    assert "was not measured" in page(report_info(pool))
    pool.save_team(team)
    assert read_timings(pool, team)
    path.write_bytes(path.read_bytes()[:90])
    assert "was not measured" in page(report_info(pool))


def test_the_same_pool_gives_the_same_page(pool: Pool):
    select_teams(pool, ["greedy"])
    report = report_info(pool)
    assert page(report) == page(report)


@pytest.mark.parametrize("selector", ["greedy", "top-k", "all"])
@pytest.mark.parametrize("vote", ["soft", "plurality", "borda"])
def test_other_votes_and_temperatures(pool: Pool, selector, vote):
    [team] = select_teams(pool, [selector], vote=vote, temperature=True)
    report = report_info(pool)
    check(page(report))
    assert report.seats[0].temperature == team.temperatures[report.members[report.seats[0].member - 1].id]
    score = report.evaluation.score(team.name)
    team_curve = next((curve for curve in report.calibration if curve.name == team.name), None)
    if len(team.members) > 1:
        assert team_curve.ece == pytest.approx(score.ece)


def test_the_team_is_chosen_by_validation(pool: Pool):
    teams = select_teams(pool, ["all", "top-k", "random"])
    several = [team for team in teams if len(team.members) > 1]
    best = min(several, key=lambda team: team.validation["nll"])
    assert report_info(pool).team.name == best.name
    assert report_info(pool, "all").team.name == "all"


def test_what_is_shown_to_be_worse_is_said_first(tmp_path):
    """Of eight members that are equally good two are not enough."""
    pool = synthetic_pool(tmp_path / "p", 8, rows=1000)
    select_teams(pool, ["best-single", "all"])
    team = pool.team("all")
    pair = dict.fromkeys([row.id for row in report_info(pool).members[:2]], 0.5)
    changes = {"name": "pair", "selector": "top-k", "members": pair, "parameters": {"objective": "accuracy"}}
    pool.save_team(team.model_copy(update=changes))
    report = report_info(pool, "pair")
    row = report.answer.against["all-average"]
    assert row.accuracy_gain.direction == -1
    assert report.answer.heading.startswith("Worth it")
    assert "The search does not pay: " in report.answer.lines[-1]
    assert "worse than the average of all (" in report.answer.lines[-1]
    assert report_info(pool, "all").answer.lines[-1].endswith("It is the average of all: nothing was searched for")


def test_without_a_control(pool: Pool):
    shutil.rmtree(pool.path / "control")
    select_teams(pool, ["greedy", "all"])
    words = text_of(check(page(report_info(pool))))
    assert "no seeds-only control was trained" in words.lower()
    assert "whether LR diversity is the reason is open" in words


def test_without_teams(pool: Pool, capsys):
    assert main(["report", str(pool.path)]) == 0
    assert "lrensemble select" in capsys.readouterr().out
    found = check((pool.path / "report.html").read_text())
    assert "No team yet" in text_of(found)
    assert len([key for key in found.numbers if key.endswith(".test.nll")]) == 4


@pytest.mark.parametrize("members", [1, 2, 3])
def test_few_members(tmp_path, members):
    pool = synthetic_pool(tmp_path / "p", members)
    check(page(report_info(pool)))
    select_teams(pool)
    report = report_info(pool)
    words = text_of(check(page(report)))
    assert (report.teams is None) == (members == 1)
    assert ("one complete member" in words) == (members == 1)


def test_imported_members_have_no_curves(tmp_path):
    pool = synthetic_pool(tmp_path / "p", 4, histories=False, policies=False)
    select_teams(pool, ["greedy", "all"])
    report = report_info(pool)
    assert report.lr == report.histories == []
    assert report.costs.use[0].ratio is None
    assert pool.control is report.costs.control.seconds is None  # and not 0
    words = text_of(check(page(report)))
    assert "4 of 4 members have no training history" in words
    assert "their costs are not known" in words


def test_diverged_failed_and_unfinished_members_are_listed(pool: Pool):
    select_teams(pool, ["all"])
    ends = [("diverged", "loss 1e+30"), ("failed", "RuntimeError: <b>bug</b>")]
    for member, (status, reason) in zip(pool.members, ends, strict=False):
        member.write_record(member.record.model_copy(update={"status": status, "reason": reason, "costs": {}}))
    report = report_info(pool)
    assert [row.status for row in report.others] == ["diverged", "failed"]
    words = text_of(check(page(report)))
    assert "2 of 4 members are not complete (1 diverged, 1 failed)" in words
    assert "RuntimeError: <b>bug</b>" in words  # as text
    assert "Team all is left out" in words


def test_missing_and_damaged_histories(pool: Pool):
    select_teams(pool, ["all"])
    first, second, third, _ = pool.members
    (first.path / "history.jsonl").unlink()
    (second.path / "history.jsonl").write_text("{cut off")
    files = [name for name in third.record.files if name != "history.jsonl"]
    write_end(third, history=[{"epoch": 1, "step": 16, "lr": 0.1, "val_loss": None}], files=files)
    report = report_info(pool)
    assert len(report.histories) == 2
    text = text_of(check(page(report)))
    assert "2 of 4 members have no training history" in text
    assert all(f"{member.path}/history.jsonl: cut off or damaged" in text for member in (first, second))


def test_a_damaged_team_is_a_note(pool: Pool):
    select_teams(pool, ["all", "greedy"])
    (pool.path / "teams" / "greedy.json").write_text("{")
    report = report_info(pool)
    assert report.team.name == "all"
    assert "greedy.json" in text_of(check(page(report)))


def test_names_are_text_never_markup(tmp_path, capsys):
    evil = '</script><script>alert("1")</script>'
    pool = synthetic_pool(tmp_path / "<i>p", 3, names=[f"{evil}{i}" for i in range(10)])
    for member in pool.members:
        spec = member.record.spec.model_copy(update={"policy": None})
        spec = spec.model_copy(update={"model": spec.model.model_copy(update={"name": evil})})
        as_another(pool, member, spec)
    select_teams(pool, ["all"])
    text = page(report_info(Pool.open(pool.path)))
    found = check(text)
    assert len(found.all("script")) == 1  # ours
    assert evil in text_of(found)


def test_more_members_and_classes_than_a_bit_mask_holds(tmp_path, monkeypatch):
    monkeypatch.setattr("lrensemble.report.page.teams.WORK", 1e8)
    pool = synthetic_pool(tmp_path / "p", 70, classes=120, rows=30)
    select_teams(pool, ["greedy", "top-k", "all"])
    report = report_info(pool, "all")
    text = page(report)
    check(text)
    assert len(text) < 600_000
    assert report.teams.is_sample
    assert report.teams.sizes[-1].size == 70
    assert report.teams.sizes[0].teams == 70
    assert sum(cell.teams for cell in report.teams.cells) == report.teams.scored
    # What is said of a sampled team is true of it.
    point = report.teams.points[0]
    P = np.asarray(pool.predictions("val", [pool.find(report.members[m - 1].id) for m in point.members]))
    assert point.accuracy == pytest.approx((P.astype(float).mean(0).argmax(1) == pool.labels("val")).mean())


@pytest.mark.slow
def test_a_page_of_300_members_is_at_most_1_MB(tmp_path, monkeypatch):
    monkeypatch.setattr("lrensemble.report.page.teams.WORK", 1e8)
    pool = synthetic_pool(tmp_path / "p", 300, classes=20, rows=200)
    select_teams(pool, ["all"])
    assert len(page(report_info(pool)).encode()) <= 1_000_000


def test_a_page_of_14_members_is_at_most_300_kB(tmp_path):
    pool = synthetic_pool(tmp_path / "p", 14, rows=150)
    select_teams(pool, ["greedy", "all", "top-k"])
    assert len(page(report_info(pool)).encode()) <= 300_000


def test_votes_by_rows_equal_votes_at_once(tmp_path, monkeypatch):
    pool = synthetic_pool(tmp_path / "p", 5, rows=50)
    monkeypatch.setattr("lrensemble.report.page.teams.EVERY", 3)
    whole = report_info(pool).teams
    monkeypatch.setattr("lrensemble.report.page.teams.ROWS", 5 * 10 * 8 * 7)
    parts = report_info(pool).teams
    for a, b in zip(parts.sizes, whole.sizes, strict=True):
        assert (a.size, a.teams) == (b.size, b.teams)
        np.testing.assert_allclose([a.accuracy, a.nll], [b.accuracy, b.nll])
    assert parts.points == whole.points


def test_a_sample_has_every_single_member_and_the_whole(tmp_path):
    teams = sample_teams(40, 1000, np.random.default_rng(0))
    sizes = teams.sum(1)
    assert len(np.unique(teams, axis=0)) == len(teams)
    assert (sizes == 1).sum() == 40
    assert (sizes == 40).sum() == 1
    assert 500 < len(teams) <= 1040


def test_of_a_huge_team_only_the_heaviest_are_taken_out(monkeypatch):
    rng = np.random.default_rng(0)
    P, y, weights = rng.dirichlet(np.ones(4), (6, 30)), rng.integers(0, 4, 30), np.array([1, 6, 2, 5, 3, 4]) / 21
    everyone = leave_one_out(P, weights, y, "soft", None)
    monkeypatch.setattr("lrensemble.report.page.why.WORK", 2 * 6 * 30 * 4)
    assert leave_one_out(P, weights, y, "soft", None) == {1: everyone[1], 3: everyone[3]}
    rest = np.delete(P, 1, 0), np.delete(weights, 1)
    without = np.tensordot(rest[1] / rest[1].sum(), rest[0], 1)
    whole = np.tensordot(weights, P, 1)
    assert everyone[1].accuracy == pytest.approx(
        100 * ((whole.argmax(1) == y).mean() - (without.argmax(1) == y).mean())
    )
    rows = np.arange(30)
    assert everyone[1].nll == pytest.approx(np.log(whole[rows, y]).mean() - np.log(without[rows, y]).mean())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{pool}", "--team", "greddy"], "did you mean 'greedy'"),
        (["{pool}", "-o", "report.pdf"], "name it .html"),
        (["{pool}", "--output", "report"], "name it .html"),
        (["{pool}/nowhere"], "is not a pool"),
        (["{pool}", "-o", "{pool}/pool.json/x.html"], "pool.json: File exists"),
    ],
)
def test_bad_input(pool: Pool, capsys, arguments, message):
    select_teams(pool, ["greedy"])
    assert main(["report", *(argument.format(pool=pool.path) for argument in arguments)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_a_pool_without_a_complete_member(pool: Pool, capsys):
    for member in pool.members:
        member.write_record(member.record.model_copy(update={"status": "diverged"}))
    assert main(["report", str(pool.path)]) == 2
    assert "no complete member (4 diverged" in capsys.readouterr().err
    assert not (pool.path / "report.html").exists()


@pytest.mark.parametrize("split", ["val", "test"])
def test_damaged_predictions(pool: Pool, capsys, split):
    select_teams(pool, ["all"])
    file = pool.members[0].path / "predictions" / f"{split}.npy"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="left out of .*cut off or damaged"):
        assert main(["report", str(pool.path)]) == 0  # the rest of the pool works
    said = capsys.readouterr().out
    assert "Team all is left out" in said and "1 of 4 members are not complete (1 damaged)" in said


@pytest.mark.parametrize("split", ["val", "test"])
def test_predictions_that_are_not_finite(pool: Pool, capsys, split):
    member = pool.members[0]
    file = member.path / "predictions" / f"{split}.npy"
    array = np.load(file)
    array[3, 0] = np.nan
    np.save(file, array)
    info = FileInfo.of(file)
    files = {**member.record.files, f"predictions/{split}.npy": info}
    member.write_record(member.record.model_copy(update={"files": files}))
    assert main(["report", str(pool.path)]) == 2
    assert f"{split} predictions of member {member.id} are not finite: row 3" in capsys.readouterr().err


def test_without_test_predictions(pool: Pool, capsys):
    for member in pool.members:
        (member.path / "predictions" / "test.npy").unlink()
    assert main(["report", str(pool.path)]) == 2
    assert "has no test predictions" in capsys.readouterr().err


@pytest.mark.parametrize(("classes", "rows"), [(1, 20), (1, 0), (2, 20), (1000, 1)])
def test_one_class_one_row_very_many_classes(tmp_path, classes, rows):
    pool = synthetic_pool(tmp_path / "p", 3, classes=classes, rows=rows)
    select_teams(pool, ["greedy", "all"])
    check(page(report_info(pool)))


def test_snapshots_of_a_run_are_paid_once(pool: Pool):
    first, second, *_ = pool.members
    second.write_record(second.record.model_copy(update={"parent": first.id}))
    costs = report_info(pool).costs
    assert costs.runs == 3
    assert costs.pool.seconds == pytest.approx(
        sum(m.record.costs["seconds"] for m in pool.members if m.id != second.id)
    )


def test_the_commands_select_the_same_team_again(pool: Pool):
    options = {"steps": 7}
    [team] = select_teams(pool, ["greedy"], objective="accuracy", size=2, vote="borda", one_se=True, options=options)
    report = report_info(pool)
    command = next(c for c in report.recipe.commands if c.startswith("lrensemble select"))
    (pool.path / "teams" / f"{team.name}.json").unlink()
    assert main(shlex.split(command)[1:]) == 0
    again = pool.team(team.name)
    assert (again.members, again.parameters) == (team.members, team.parameters)


def test_axes_have_round_ticks_inside():
    for low, high in ((0.0, 1.0), (-3.2, 17.5), (0.9712, 0.9733), (0.0, 0.0), (1e-7, 3e-7), (5.0, 5.0)):
        axis = svg.axis(low, high, factor=100)
        assert 1 <= len(axis.ticks) <= 12
        assert all(min(axis.low, axis.high) <= tick <= max(axis.low, axis.high) + 1e-12 for tick in axis.ticks)
        texts = [float(axis.text(tick).replace(",", "").replace("\u2212", "-")) for tick in axis.ticks]
        assert texts == pytest.approx([100 * tick for tick in axis.ticks], rel=1e-6, abs=1e-12)


def test_marks_stand_where_their_values_are():
    chart = svg.Chart("x", svg.axis(0, 10), svg.axis(0, 4))
    chart.dot(2.5, 3, "own", "a < b")
    chart.line([0, 5, 10], [0, None, 4], "team")
    chart.line([0, 5, 10], [0, 1, 4], "team", "line", 7)
    text = chart.__html__()
    assert 'cx="25.00%" cy="25.00%"' in text
    assert "a &lt; b" in text
    assert 'd="M0 1000 M1000 0"' in text  # a gap where nothing is known
    assert 'data-m="7" data-tip="line" d="M0 1000 L500 750 1000 0"' in text


def test_pictures_of_changed_rows_are_those_of_the_data(pool: Pool):
    select_teams(pool, ["all"])
    report = report_info(pool)
    rows = [*report.changes.fixed_rows, *report.changes.broken_rows]
    assert rows and not report.changes.why_numbers
    digits = load_task("digits", val_fraction=0.25).test
    for row in rows:
        address = row.example.picture.removeprefix("data:image/png;base64,")
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(address))).convert("L"), float)
        real = np.asarray(digits.images[row.row][0], float)
        assert shown.shape == real.shape == (8, 8)
        assert np.corrcoef(shown.ravel(), real.ravel())[0, 1] > 0.999
        assert row.label == digits.labels[row.row]
        assert (row.team == row.label) != (row.single == row.label)
    text = page(report)
    assert all(row.example.picture in text for row in rows)
    assert "base64" not in json_text(report.to_dict())


def test_large_and_coloured_pictures_are_small_on_the_page():
    rng = np.random.default_rng(0)
    [example] = pictures_of({3: rng.random((3, 500, 300))}).values()
    picture = Image.open(io.BytesIO(base64.b64decode(example.picture.partition(",")[2])))
    assert picture.size == (29, 48) and len(example.picture) < 4000


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ({"name": "own_task_of_a_stranger:Task"}, "neither pictures nor texts"),
        ({"name": "digits", "val_fraction": 0.3, "split_seed": 0}, "not those of"),
        ({"name": "npz", "root": "nowhere.npz"}, "nowhere.npz"),
        ({"name": "npz", "root": "//machine/share.npz"}, "another machine"),
    ],
)
def test_data_that_cannot_be_shown_leave_the_numbers(pool: Pool, tmp_path, monkeypatch, data, why):
    """Nothing of a stranger's is imported, and nothing but the pool's own rows is shown."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_task_of_a_stranger.py").write_text("raise SystemExit('it ran')")
    select_teams(pool, ["all"])
    pool.task = pool.task.model_copy(update={"data": data})
    report = report_info(pool)
    assert why in report.changes.why_numbers
    words = text_of(check(page(report)))
    assert f"row {report.changes.fixed_rows[0].row}" in words and why in words


def test_texts_of_changed_rows(tmp_path):
    texts = tmp_path / "texts"
    texts.mkdir()
    write_tokenizer(texts)
    (texts / "config.json").write_text("{}")
    (texts / "model.safetensors").touch()
    lines = [f"{'good' if i % 2 else 'bad'} thing number{i} <b>bold</b>" for i in range(40)]
    for split, part in (("train", lines[:20]), ("val", lines[20:30]), ("test", lines[30:])):
        (texts / f"{split}.jsonl").write_text(
            "".join(json.dumps({"text": t, "label": t.split()[0]}) + "\n" for t in part)
        )
    task = load_task("text", root=texts, tokenizer=str(texts))
    labels = {split: task.labels(split) for split in ("val", "test")}
    pool = Pool.create(
        tmp_path / "p", labels=labels, class_names=task.class_names, data_fingerprint=task.fingerprint,
        data={"name": "text", "root": str(texts), "tokenizer": str(texts)}, train_rows=20,
    )  # fmt: skip
    examples, why = examples_of(pool, [4])
    assert (examples[4].text, why) == (lines[34], "")


def test_rows_stay_away_where_that_is_asked_for(pool: Pool, monkeypatch):
    select_teams(pool, ["all"])
    monkeypatch.setattr("lrensemble.evaluation.network.load_data", lambda *_: pytest.fail("the data were opened"))
    assert main(["report", str(pool.path), "--no-data", "-q"]) == 0
    text = (pool.path / "report.html").read_text()
    assert "asked for without the data" in text
    assert "image/png" not in text[text.index('id="rows"') : text.index('id="lr"')]


def test_peaks_of_what_diverged_are_where_they_are(pool: Pool):
    select_teams(pool, ["all"])
    first, second, *_ = sorted(pool.members, key=lambda member: member.id)
    for member in (first, second):
        member.write_record(member.record.model_copy(update={"status": "diverged", "reason": "loss 1e+30"}))
    (second.path / "history.jsonl").unlink()  # in its first epoch
    report = report_info(pool, None)
    peaks = {member.id: float(re.search(r"k0=([\d.]+)", member.record.spec.policy)[1]) for member in pool.members}
    assert {row.id: row.peak_lr for row in [*report.members, *report.others]} == pytest.approx(peaks)
    assert {row.family for row in [*report.members, *report.others]} == {"FIX", "COS", "STEP"}
    chart, families = charts.peak_chart(report)
    assert families == list(dict.fromkeys(row.family for row in report.members))
    lost = [mark for mark in chart.marks if 'class="lost"' in mark]
    places = {round(100 * chart.x.share(np.log10(peaks[member.id])), 2) for member in (first, second)}
    assert {float(re.search(r'cx="([\d.]+)%"', mark)[1]) for mark in lost} == places
    check(page(report))


@pytest.mark.parametrize(("low", "high"), [(1e-5, 3.0), (0.02, 0.2), (0.1, 0.1), (1, 300), (3e-9, 4e-9)])
def test_logarithmic_axes(low, high):
    axis = svg.log_axis(low, high)
    values = [float(name) for name in axis.names]
    assert values == pytest.approx([10**tick for tick in axis.ticks]) and 1 <= len(values) <= 10
    assert all(axis.low <= tick <= axis.high for tick in axis.ticks)
    assert 0 <= axis.share(np.log10(low)) <= axis.share(np.log10(high)) <= 1


def test_several_pools_on_one_page(pool: Pool, tmp_path, capsys):
    """Links to their reports; teams of the same rows are compared pair by pair, those of others are not."""
    select_teams(pool, ["all"])
    pools = tmp_path / "pools"
    first = Pool.open(shutil.copytree(pool.path, pools / "javascript:first"))
    second = Pool.open(shutil.copytree(pool.path, pools / "b" / "second"))
    select_teams(second, ["best-single", "top-k"], size=2)
    (second.path / "teams" / "all.json").unlink()
    synthetic_pool(pools / "c", 3)  # other data, no team
    assert main(["report", str(pools)]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1] == f"Next: open {pools / 'index.html'} in a browser"
    text = (pools / "index.html").read_text()
    page = Page(text)
    links = [attributes["href"] for attributes in page.all("a")]
    assert links == ["b/second/report.html", "c/report.html", "javascript%3Afirst/report.html"]
    assert all((pools / unquote(link)).is_file() for link in links)
    labels = first.labels("test")

    def right(of: Pool, team: str) -> np.ndarray:
        votes = [
            w * np.asarray(of.predictions("test", [of.find(i)])[0], float) for i, w in of.team(team).members.items()
        ]
        return sum(votes).argmax(1) == labels

    ours, other = right(first, "all"), right(second, best_team(second.teams).name)
    gain = 100 * (ours.mean() - other.mean())
    assert page.numbers["pool.3.over.value"][0][0] == pytest.approx(gain, abs=1e-6)
    assert page.numbers["pool.3.accuracy"][0][0] == pytest.approx(ours.mean())
    assert not any(key.startswith(("pool.1.over", "pool.2.over")) for key in page.numbers)
    assert "No team yet" in " ".join(page.words)
    assert "default-src 'none'" in text and len(text) < 60_000
    assert main(["report", str(first.path), str(second.path), "--team", "all"]) == 2
    assert "--team all is of one pool, but there are 2" in capsys.readouterr().err


FAMILIES = [f"f{i}" for i in range(charts.FAMILIES - 1)]


def luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = "".join(2 * c for c in digits) if len(digits) == 3 else digits
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    r, g, b = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def test_contrast_in_light_and_dark():
    """WCAG 2.2 AA: 4.5 for text, 3 for marks."""
    css = resources.files("lrensemble.report.page").joinpath("web", "page.css").read_text()
    light, dark = (
        dict(re.findall(r"--(\w+): (#\w+)", block)) for block in re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    )
    for theme in (light, dark):
        for background in ("paper", "panel"):
            for name in ("ink", "soft", "blue", "orange", "good", "bad", "grey", "strong", *FAMILIES):
                if background == "panel" and name in ("grey", "strong", *FAMILIES):
                    continue  # lines of charts, which are on paper
                least = 4.5 if name in ("ink", "soft", "blue", "orange") else 3
                a, b = sorted((luminance(theme[name]), luminance(theme[background])), reverse=True)
                assert (a + 0.05) / (b + 0.05) >= least, (name, background, theme)


def test_costs_are_sums_over_what_is_known(pool: Pool):
    """Seconds: of the runs that have them. FLOPs of a team: not known where one member's are not."""
    first, second, third, *rest = pool.members
    seconds = dict(zip([first.id, second.id, third.id], (1.0, 20.0, 300.0), strict=True))
    for member in pool.members:
        own = {"seconds": seconds[member.id]} if member.id in seconds else {}
        kept = {"flops": 7, "parameters": 5} if member.id != first.id else {"parameters": 4}
        member.write_record(member.record.model_copy(update={"costs": {**kept, **own}}))
    third.write_record(third.record.model_copy(update={"parent": second.id}))  # a snapshot: its run is paid once
    pool = Pool.open(pool.path)
    team = select_teams(pool, ["all"])[0]
    costs = costs_of(pool, team, pool.find(third.id))
    assert (costs.pool.seconds, costs.timed, costs.runs) == (21, 2, len(rest) + 2)
    assert costs.team.seconds == 21  # the snapshot's run is in the team anyway
    assert costs.single.seconds == 20  # that of its run
    assert (costs.pool.joules, costs.single.joules) == (4 * 21, 4 * 20)  # an estimate: 4 W of one thread
    assert costs.pool.grams == pytest.approx(4 * 21 / 3.6e6 * 481, rel=0.01)  # the world's grams of a kWh
    assert costs.pool.sources == ("estimate: 4 W x seconds x 1 threads",)
    assert pool.control
    assert costs.control.seconds == pytest.approx(sum(m.record.costs["seconds"] for m in pool.control.members))
    use = {one.measure: (one.single, one.team) for one in costs.use}
    assert use == {"flops": (7, None), "parameters": (5, 4 + 5 * (len(rest) + 2))}
    assert [one.ratio for one in costs.use] == [None, (4 + 5 * (len(rest) + 2)) / 5]
    # Of a snapshot's team its run is paid, and records that cannot be read cost nothing.
    control = [member.record.costs["seconds"] for member in pool.control.members]
    for damaged in (pool.find(first.id), pool.control.members[0]):
        damaged.record_path.write_text("{")
    pool = Pool.open(pool.path)
    with pytest.warns(UserWarning, match="cut off or damaged"):
        costs = costs_of(pool, team.model_copy(update={"members": {third.id: 1.0}}), pool.find(third.id))
    assert (costs.team.seconds, costs.pool.seconds, costs.runs) == (20, 20, len(rest) + 1)
    assert pool.control and costs.control.seconds == pytest.approx(sum(control[1:]))
