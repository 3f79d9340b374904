"""Samples of lm-evaluation-harness as members. The fixtures are files that lm-eval 0.4.13 has written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lrensemble import Pool, UserError, evaluate, import_lm_eval, select_teams
from lrensemble.cli.main import main
from lrensemble.pool.samples import METRICS, read_samples
from lrensemble.pool.sources import Source

FOLDER = Path(__file__).parent.parent / "fixtures" / "lm_eval" / "tiny-0"
PLAIN, PMI = FOLDER / "samples_quiz_2026-11-26T08-07-16.237158.jsonl", next(FOLDER.glob("samples_quiz_pmi*"))


def sample(document: int, likelihoods: list[float], answer: int, **values) -> dict:
    """A line as lm-eval writes it."""
    n = len(likelihoods)
    return {
        "doc_id": document,
        "doc": {"question": f"Q{document}", "choices": [f"c{i}" for i in range(n)], "answer": answer},
        "target": str(answer),
        "arguments": {f"gen_args_{i}": {"arg_0": f"Q{document}", "arg_1": f" c{i}"} for i in range(n)},
        "filtered_resps": [[str(x), "False"] for x in likelihoods],
        "filter": "none",
        "acc": float(np.argmax(likelihoods) == answer),
    } | values


def made(seed: int, rows: int = 24, answer: int | None = None) -> list[dict]:
    """Samples of 2 to 5 choices; questions are the same for all seeds."""
    truth, rng = np.random.default_rng(0), np.random.default_rng(seed)
    lines = []
    for i in range(rows):
        n = 2 + i % 4
        right = int(truth.integers(n))
        lines.append(sample(i, (5 * rng.normal(size=n)).tolist(), right if answer is None else answer))
    return lines


def write(folder: Path, lines: list[dict], name: str = "samples_quiz_2026.jsonl") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / name


def by_document(pool: Pool, member: int = 0) -> dict[int, bool]:
    right = {}
    for split in ("val", "test"):
        found = np.asarray(pool.predictions(split))[member].argmax(1) == pool.labels(split)
        right |= dict(zip(pool.documents(split)[:, 0].tolist(), found.tolist(), strict=True))
    return right


@pytest.mark.parametrize(("file", "normalise"), [(PLAIN, "sum"), (PLAIN, "chars"), (PLAIN, "bytes"), (PMI, "pmi")])
def test_rows_are_right_where_lm_eval_says_so(tmp_path, file, normalise):
    pool, [member] = import_lm_eval(tmp_path / "p", [file], normalise=normalise)
    assert member.record.spec.model.name == "tiny-0"
    recorded = {line["doc_id"]: line for line in map(json.loads, file.read_text().splitlines())}
    assert by_document(pool) == {i: line[METRICS[normalise]] == 1 for i, line in recorded.items()}
    for split in ("val", "test"):
        counts = [len(recorded[i]["doc"]["choices"]) for i in pool.documents(split)[:, 0]]
        assert pool.choices(split).sum(1).tolist() == counts
        assert pool.chance(split) == pytest.approx(np.mean(1 / np.array(counts)))


def test_probabilities_are_the_softmax_of_the_likelihoods(tmp_path):
    lines = made(1)
    pool, _ = import_lm_eval(tmp_path / "p", [write(tmp_path / "a", lines)])
    seen = 0
    for split in ("val", "test"):
        p, mask = np.asarray(pool.predictions(split))[0], pool.choices(split)
        assert (p[~mask] == 0).all()
        for row, (document, _, answer) in enumerate(pool.documents(split)):
            q = np.exp([float(x) for x, _ in lines[document]["filtered_resps"]])
            np.testing.assert_allclose(np.sort(p[row, mask[row]]), np.sort(q / q.sum()), rtol=1e-5)
            assert p[row, pool.labels(split)[row]] == pytest.approx(q[answer] / q.sum(), rel=1e-5)
            seen += 1
    assert seen == len(lines)


def test_members_are_aligned_and_the_same_file_is_one_member(tmp_path):
    """Choices of a row are in one order for all members, whenever they came and whatever the order of the lines."""
    one, two = made(1), made(2)
    sharp = [{**line, "filtered_resps": [[str(2 * float(x)), "0"] for x, _ in line["filtered_resps"]]} for line in one]
    together, _ = import_lm_eval(
        tmp_path / "t", [write(tmp_path / name, lines) for name, lines in (("a", one), ("b", two), ("c", sharp))]
    )
    pool, _ = import_lm_eval(tmp_path / "p", [write(tmp_path / "b", two)])
    shuffled = [sharp[i] for i in np.random.default_rng(0).permutation(len(sharp))]
    for folder, lines in (("c", shuffled), ("a", one[::-1])):
        _, [new] = import_lm_eval(pool.path, [write(tmp_path / folder, lines)])
        _, [again] = import_lm_eval(pool.path, [write(tmp_path / folder, lines)])
        assert (new.new, again.new) == (True, False)
    pool = Pool.open(pool.path)
    for split in ("val", "test"):
        found, expected = (
            {m.record.spec.model.name: p for m, p in zip(of.complete, of.predictions(split), strict=True)}
            for of in (pool, together)
        )
        assert found.keys() == {"a", "b", "c"}
        assert all(np.array_equal(found[name], expected[name]) for name in found)
        np.testing.assert_array_equal(np.argsort(found["a"], 1), np.argsort(found["c"], 1))
    with pytest.raises(UserError, match="whose predictions of val are others"):
        import_lm_eval(pool.path, [write(tmp_path / "a", two)])
    select_teams(pool, ["greedy"], temperature=True)
    assert evaluate(pool).chance == pool.chance("test")


def test_older_files_say_the_same(tmp_path):
    """Arguments in lists, numbers that are no texts, and no hash: computed as lm-eval does."""
    lines = [json.loads(line) for line in PLAIN.read_text().splitlines()]
    for line in lines:
        line["arguments"] = [[one["arg_0"], one["arg_1"]] for one in line["arguments"].values()]
        line["filtered_resps"] = [[float(x), False] for x, _ in line["filtered_resps"]]
        del line["doc_hash"]
    found, expected = (read_samples(file, "chars") for file in (write(tmp_path / "old", lines), PLAIN))
    assert np.array_equal(found.documents, expected.documents)
    assert np.array_equal(found.scores, expected.scores)


def test_targets_that_are_texts_or_follow_the_choices(tmp_path):
    texts = [{**line, "target": f"c{line['target']}"} for line in made(1)]
    found = [read_samples(write(tmp_path / str(i), lines), "sum") for i, lines in enumerate((made(1), texts))]
    assert np.array_equal(found[0].documents, found[1].documents)
    digits = []  # the choices are 2, 1, 0, ...: only acc says whether target 1 is the second or that text
    for line in made(1):
        n = len(line["filtered_resps"])
        arguments = {f"gen_args_{i}": {"arg_0": "Q", "arg_1": f" {n - 1 - i}"} for i in range(n)}
        digits.append(line | {"arguments": arguments, "target": str(n - 1 - int(line["target"]))})
    assert np.array_equal(read_samples(write(tmp_path / "d", digits), "sum").documents, found[0].documents)
    for line in digits:
        del line["acc"]
    with pytest.raises(UserError, match="can be the number of a choice or the text of one"):
        read_samples(write(tmp_path / "d", digits), "sum")
    blanks = []  # as winogrande: two prompts, one continuation
    for line in made(1):
        line = sample(line["doc_id"], [float(x) for x, _ in line["filtered_resps"]][:2], int(line["target"]) % 2)
        arguments = {f"gen_args_{i}": {"arg_0": f"Q {i}", "arg_1": " was late"} for i in range(2)}
        blanks.append(line | {"arguments": arguments, "target": "was late"})
    answers = read_samples(write(tmp_path / "w", blanks), "sum").documents[:, 2]
    assert answers.tolist() == [line["doc"]["answer"] for line in blanks]


def test_a_constant_scorer_scores_exactly_chance(tmp_path):
    """Also where the first choice is always right, as in TruthfulQA; ties go to the lower class, here as everywhere."""
    lines = [sample(i, [-3.0] * (2 + i % 4), 0) for i in range(480)]
    pool, _ = import_lm_eval(tmp_path / "p", [write(tmp_path / "flat", lines)], val_share=0.5)
    hits = {
        split: int((np.asarray(pool.predictions(split))[0].argmax(1) == pool.labels(split)).sum())
        for split in ("val", "test")
    }
    for split, found in hits.items():  # exactly: of n rows with C choices n / C, up to whole rows
        counts = np.bincount(pool.choices(split).sum(1))
        assert found == sum(-(-n // c) for c, n in enumerate(counts) if n)
    whole, _ = import_lm_eval(
        tmp_path / "q",
        [Source("flat", {"val": write(tmp_path / "v", lines), "test": write(tmp_path / "w", lines[:240])})],
    )
    for split in ("val", "test"):
        right = np.asarray(whole.predictions(split))[0].argmax(1) == whole.labels(split)
        assert right.mean() == pytest.approx(whole.chance(split), abs=1e-12)
    [team] = select_teams(whole, ["all"], vote="logit")
    [score] = [score for score in evaluate(whole).scores if score.name == team.name]
    assert score.accuracy == pytest.approx(whole.chance("test"), abs=1e-12)


def changed(**values):
    return lambda lines: [*lines[:5], lines[5] | values, *lines[6:]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [], "is empty"),
        (lambda lines: lines[:5] + lines, "doc 0 is there twice"),
        (lambda lines: [{"a": 1}], r"line 1: no sample of multiple choice \(KeyError: 'doc_id'\)"),
        (lambda lines: [3], "line 1: no sample of multiple choice"),
        (changed(filtered_resps=["text"]), "line 6: no sample of multiple choice"),
        (lambda lines: [sample(0, [-1.0], 0)], r"\(doc 0\): 1 choices, 2 to 1,000 are needed"),
        (lambda lines: [sample(0, [-1.0] * 2000, 0)], "2,000 choices, 2 to 1,000 are needed"),
        (changed(doc_id=10**30), "line 6: no sample of multiple choice"),
        (changed(doc_hash=None, doc="\ud800"), "line 6: no sample of multiple choice"),
        (changed(arguments=[["Q", " x"], ["Q", " y"], ["Q", " x"]]), r"line 6 \(doc 5\): two choices are ' x'"),
        (changed(target="7"), r"the target of doc 5, '7', is none of its 3 choices \(0 to 2, or their texts\)"),
        (changed(target="[0, 1]"), "several right ones are not read"),
        (changed(acc=0.5), "the log-likelihoods of doc 5 do not give its acc"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, capsys, change, message):
    lines = made(1)
    file = write(tmp_path / "bad", change(lines))
    with pytest.raises(UserError, match=message):
        read_samples(file, "sum")
    good = write(tmp_path / "good", lines)
    assert main(["import", str(tmp_path / "p"), "--lm-eval", str(good), str(file)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda lines: lines[:-4],
            "of the 12 documents of (val|test) in the pool .* are not in it, the first is doc",
        ),
        (lambda lines: [*lines, sample(99, [1.0, 2.0], 0)], "it has 25 documents, the pool .* has 24 of them"),
        (changed(doc={"other": 1}), "doc 5 is another document than in the pool"),
        (lambda lines: [sample(i, [1.0, 2.0], 0) for i in range(24)], "doc .* is another document than in the pool"),
        (
            lambda lines: [
                {**sample(i, [1.0] * 6, int(line["target"])), "doc": line["doc"]} for i, line in enumerate(lines)
            ],
            "has another number of choices than in the pool",
        ),
        (
            lambda lines: [
                *lines[:5],
                sample(5, [1.0, 2.0, 3.0], (int(lines[5]["target"]) + 1) % 3, doc=lines[5]["doc"]),
                *lines[6:],
            ],
            "doc 5 has its right choice in another place",
        ),
    ],
)
def test_documents_of_another_task(tmp_path, change, message):
    lines = made(1)
    pool, _ = import_lm_eval(tmp_path / "p", [write(tmp_path / "a", lines)])
    with pytest.raises(UserError, match=message):
        import_lm_eval(pool.path, [write(tmp_path / "b", change(lines))])
    with pytest.raises(UserError, match="doc"):
        import_lm_eval(tmp_path / "q", sorted(tmp_path.glob("[ab]/*.jsonl")))
    assert len(Pool.open(pool.path).members) == 1
    assert not (tmp_path / "q").exists()


def test_a_pool_of_other_rows(tmp_path):
    pool = Pool.create(tmp_path / "p", labels={"val": [0, 1], "test": [1, 0]})
    with pytest.raises(UserError, match="does not know its rows as documents of lm-eval"):
        import_lm_eval(pool.path, [PLAIN])


def test_likelihoods_that_are_not_finite_are_a_diverged_member(tmp_path):
    lines = made(1)
    for line in lines:
        line["filtered_resps"] = [["nan", "False"]] * len(line["filtered_resps"])
        line["acc"] = float(int(line["target"]) == 0)
    files = [write(tmp_path / "good", made(2)), write(tmp_path / "bad", lines)]
    _, members = import_lm_eval(tmp_path / "p", files)
    assert [member.record.status for member in members] == ["complete", "diverged"]


def test_the_command(tmp_path, capsys):
    files = [str(write(tmp_path / name, made(i))) for i, name in enumerate(("a", "b"))]
    pool = str(tmp_path / "p")
    assert main(["import", pool, "--lm-eval", *files, "--format", "json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [member["model"] for member in answer["members"]] == ["a", "b"]
    assert answer["chance"]["val"] == Pool.open(pool).chance("val")
    split = ["--model", "c", "--val", files[0], "--test", files[1]]
    assert main(["import", str(tmp_path / "q"), "--lm-eval", *split]) == 0
    assert Pool.open(tmp_path / "q").task.rows["val"] == 24
    capsys.readouterr()
    for words, message in (
        (["--lm-eval"], "no samples are named"),
        (["--lm-eval", *files, "--labels", files[0]], "--labels is not for --lm-eval"),
        (["--lm-eval", *files, "--model", "x"], "--model x is the name of one member, but there are 2"),
        (["--lm-eval", *files, "--normalise", "pmi"], "no likelihoods without the question"),
        (["--lm-eval", files[0], files[0]], "would both be called 'a'"),
        (["--lm-eval", files[0], "--val-share", "0"], "leaves val without"),
        (["--normalise", "sum", files[0]], "--normalise is for --lm-eval"),
    ):
        assert main(["import", str(tmp_path / "r"), *words]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_the_page(tmp_path, monkeypatch, capsys):
    text = (Path(__file__).parents[2] / "docs" / "choices.md").read_text()
    monkeypatch.chdir(tmp_path)
    samples = [write(tmp_path / "out" / name, made(i), "samples_arc_easy_1.jsonl") for i, name in enumerate("ab")]
    exec(compile(text.split("```python")[1].split("```")[0], "choices.md", "exec"), {"samples": samples})
    assert capsys.readouterr().out.startswith("chance ")
    for line in text.splitlines():
        if line.startswith("    lrensemble "):
            words = line.split()[1:]
            files = [str(path) for word in words if "*" in word for path in sorted(tmp_path.glob(word))]
            assert main([word for word in words if "*" not in word] + files) == 0
    assert len(Pool.open("checkpoints/arc").teams) > 3
