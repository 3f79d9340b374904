"""Texts and choices from files, and their scores beside a loop over every choice."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch

from lrensemble import UserError
from lrensemble.tasks import load_task
from lrensemble.tasks.rows import DeviceData
from tests.text.tiny import questions, texts, write_lines


def test_jsonl_csv_and_tsv_are_the_same_rows(tmp_path, llama):
    rows = [{**row, "text": row["text"] + ', "quoted"'} for row in texts(40)]
    paths = [write_lines(tmp_path / "a.jsonl", rows)]
    for name, delimiter in (("b.csv", ","), ("c.tsv", "\t")):
        with (tmp_path / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, ["text", "label"], delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
        paths.append(tmp_path / name)
    tasks = [load_task("text", root=path, tokenizer=str(llama)) for path in paths]
    assert len({task.fingerprint for task in tasks}) == 1
    assert tasks[0].class_names == ("cold", "warm")
    assert {name: tasks[0].rows(name) for name in ("train", "val", "test")} == {"train": 27, "val": 3, "test": 10}
    given = {row["text"]: row["label"] for row in rows}
    for row in tasks[0].split("val"):
        [text] = [text for text in given if encode(text) == row.sequences[0].tolist()]
        assert given[text] == tasks[0].class_names[row.y]


def test_rows_that_are_there_twice_are_counted(tmp_path, llama):
    train = write_lines(tmp_path / "train.jsonl", [*texts(40), *texts(3)])
    test = write_lines(tmp_path / "test.jsonl", [{**texts(1)[0], "text": "RED  number 0"}, *texts(5, 100)])
    given = {"root": train, "test": test, "tokenizer": str(llama)}
    with pytest.raises(UserError, match=r"1 of 6 test rows are in train too: data.overlap=drop"):
        load_task("text", **given)
    dropped, allowed = (load_task("text", **given, overlap=how) for how in ("drop", "allow"))
    assert (dropped.rows("train") + dropped.rows("val"), allowed.rows("train") + allowed.rows("val")) == (39, 40)
    assert dropped.rows("test") == allowed.rows("test") == 6
    assert any("3 rows of train are there before" in note for note in dropped.notes)
    assert any("1 of 6 test rows are in train too" in note for note in allowed.notes)


def test_no_row_of_test_chooses_a_team(tmp_path, llama):
    train, given = write_lines(tmp_path / "train.jsonl", texts(40)), {"root": tmp_path, "tokenizer": str(llama)}
    write_lines(tmp_path / "val.jsonl", texts(6, 100))
    write_lines(tmp_path / "test.jsonl", [*texts(2, 104), *texts(5, 200)])
    with pytest.raises(UserError, match=r"2 of 6 val rows are in test too, and val chooses the teams"):
        load_task("text", **given)
    dropped, allowed = (load_task("text", **given, overlap=how) for how in ("drop", "allow"))
    assert [task.rows("val") for task in (dropped, allowed)] == [4, 6]
    assert dropped.rows("test") == allowed.rows("test") == 7
    assert any("2 of 6 val rows are in test too" in note for note in allowed.notes)
    write_lines(tmp_path / "val.jsonl", texts(2, 104))
    with pytest.raises(UserError, match=r"none is left to choose teams by"):
        load_task("text", **given, overlap="drop")
    (tmp_path / "train.csv").write_text("text,label\na,b\n")
    with pytest.raises(UserError, match=r"train.csv and train.jsonl could both be the train split"):
        load_task("text", **given)
    train.unlink()
    (tmp_path / "train.csv").write_text("text,label,text\na,b,c\n")
    with pytest.raises(UserError, match=r"train.csv: two columns are called 'text'"):
        load_task("text", **given)


def test_texts_are_cut_and_counted(files, llama):
    task = load_task("text", root=files / "texts", tokenizer=str(llama), max_length=20)
    assert max(len(row.sequences[0]) for row in task.split("train")) == 20
    long = sum(len(row["text"]) > 20 for row in texts(12, 100))
    assert f"test: {long} of 12 texts are cut to 20 tokens" in task.notes


def rows_of(task, name):
    dataset = task.split(name)
    return task.collate([dataset[i] for i in range(len(dataset))])


def by_hand(model, row: dict, order, normalise: str) -> list[float]:
    """The score of every choice, from all logits of one sequence at a time."""
    scores = []
    for i in order:
        choice = row["choices"][i]

        def likelihood(context: str, choice: str = choice) -> float:
            ids = torch.tensor([encode(f"{context} {choice}")])
            with torch.no_grad():
                logs = model(ids).logits[0].log_softmax(-1)
            first = len(encode(context))
            return sum(float(logs[t - 1, ids[0, t]]) for t in range(first, ids.shape[1]))

        score = likelihood(f"Question: {row['question']}\nAnswer:")
        score -= likelihood("Answer:") if normalise == "pmi" else 0
        scores.append(score / {"chars": len(choice), "bytes": len(choice), "tokens": len(choice) + 1}.get(normalise, 1))
    return scores


def encode(text: str) -> list[int]:
    from tokenizers import pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    [(mapped, _)] = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
    return [alphabet.index(letter) for letter in mapped]


@pytest.mark.parametrize("normalise", ["sum", "chars", "bytes", "tokens", "pmi"])
def test_scores_of_choices_are_those_of_a_loop(files, llama, normalise):
    import transformers

    task = load_task("choices", root=files / "sums", tokenizer=str(llama), normalise=normalise)
    model = transformers.AutoModelForCausalLM.from_pretrained(llama).eval()

    def scored(ids, mask, keep):
        return model(input_ids=ids, attention_mask=mask.long()).logits[keep]

    with torch.no_grad():
        found = task.scores(scored, rows_of(task, "test")).numpy()
    rows, mask = questions(12, 100), task.choices("test")
    assert mask.sum(1).tolist() == [len(row["choices"]) for row in rows]
    moved = 0
    for row, given, exists, y in zip(rows, found, mask, task.labels("test"), strict=True):
        count = len(row["choices"])
        by_choice = by_hand(model, row, range(count), normalise)
        np.testing.assert_allclose(sorted(given[exists]), sorted(by_choice), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(given[y], by_choice[0], rtol=1e-4, atol=1e-4)  # the right one, wherever it went
        moved += int(y != 0)
    assert 0 < moved < 12
    p = torch.tensor(found).softmax(1).numpy()
    assert (p[~mask] == 0).all()
    for temperature in (1.0, 20.0):
        assert (torch.tensor(found / temperature).softmax(1).numpy()[~mask] == 0).all()


def test_a_scorer_that_knows_nothing_has_chance(tmp_path, llama):
    train = write_lines(tmp_path / "train.jsonl", questions(900))
    task = load_task("choices", root=train, tokenizer=str(llama), normalise="tokens", val_fraction=0.5)

    def constant(ids, mask, keep):
        return torch.zeros(int(keep.sum()), 300)

    with torch.no_grad():
        scores = DeviceData.of(task, torch.device("cpu")).scores(Scorer(constant), _rows(task, "val"))
    y, counts = torch.tensor(task.labels("val")), torch.tensor(task.choices("val").sum(1))
    nll = torch.nn.functional.cross_entropy(scores, y, reduction="none")
    torch.testing.assert_close(nll, counts.float().log())
    right = float((scores.argmax(1) == y).sum())  # ties go to the first
    assert abs(right - float((1 / counts).sum())) < len(set(counts.tolist()))
    again = load_task("choices", root=train, tokenizer=str(llama), normalise="tokens", val_fraction=0.5)
    other = load_task("choices", root=train, tokenizer=str(llama), val_fraction=0.5, normalise="tokens", shuffle_seed=1)
    assert again.fingerprint == task.fingerprint != other.fingerprint


class Scorer(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, ids, mask, keep):
        return self.function(ids, mask, keep)


def _rows(task, name):
    return getattr(DeviceData.of(task, torch.device("cpu")), name)


def test_a_question_is_cut_at_its_beginning_and_a_choice_never(files, llama):
    task = load_task("choices", root=files / "sums", tokenizer=str(llama), max_length=12)
    assert any("the beginning of 12 of 12 questions is cut: 12 tokens" in note for note in task.notes)
    assert all(len(s) <= 12 for row in task.split("test") for s in row.sequences)
    with pytest.raises(UserError, match=r"the choice '1?\d\d?' has \d tokens and would be cut: data.max_length="):
        load_task("choices", root=files / "sums", tokenizer=str(llama), max_length=2)


def test_documents_are_predicted_token_by_token(tmp_path, llama):
    import transformers

    rows = [{"text": f"the {word} sat on the {word} mat"} for word in ("cat", "dog", "small mouse", "x", "yy", "zzz")]
    path = write_lines(tmp_path / "train.jsonl", rows * 2)
    task = load_task("documents", root=path, tokenizer=str(llama), max_length=10, val_fraction=0.3, test_fraction=0.3)
    model = transformers.AutoModelForCausalLM.from_pretrained(llama).eval()

    def logits(ids, mask, keep):
        return model(input_ids=ids, attention_mask=mask.long()).logits[keep]

    data = DeviceData.of(task, torch.device("cpu"))
    with torch.no_grad():
        scores = data.scores(Scorer(logits), data.test)
        expected = []
        for row in task.rows_of["test"]:
            ids = torch.tensor(row.sequences[0])[None]
            logs = model(ids).logits[0, :-1].log_softmax(-1)
            expected += logs[range(len(logs)), ids[0, 1:]].tolist()
        window = next(iter(data.train.chunks(3)))
        losses, none = task.loss(logits, window, training_options())
    assert none is None and task.labels("test").tolist() == [0] * len(expected)
    lengths = [len(encode(row["text"])) - 1 for row in rows]  # every token but a document's first, once
    assert sum(len(task.labels(split)) for split in ("val", "test")) + sum(
        len(row.sequences[0]) - 1 for row in task.rows_of["train"]
    ) == sum(lengths)
    np.testing.assert_allclose(scores.log_softmax(1)[:, 0], expected, rtol=1e-4, atol=1e-5)
    ids, mask = window["ids"][0], window["mask"][0]
    alone = model(ids[mask][None]).logits[0, :-1].detach().log_softmax(-1)
    assert float(losses[0]) == pytest.approx(-float(alone[range(len(alone)), ids[mask][1:]].mean()), rel=1e-4)


def training_options():
    from lrensemble.pool.record import Training

    return Training(epochs=1)


GOOD = questions(20)
BAD = {
    "1 choices, at least 2": {**GOOD[0], "choices": ["1"]},
    "answer is 7: a number from 0 to 1": {**GOOD[0], "answer": 7},
    "answer is 'Z'": {**GOOD[0], "answer": "Z"},
    "two choices are '5'": {**GOOD[0], "choices": ["5", "5"]},
    "two choices are '6'": {**GOOD[0], "choices": ["6", "6 "]},
    "choices is 3: a list of texts": {**GOOD[0], "choices": 3},
    "no 'question': did you mean 'questions'": {"questions": "?", "choices": ["1", "2"], "answer": 0},
    "2 right answers: rows with one": {**GOOD[0], "labels": [1, 1]},
    "question is '  ': a text is needed": {**GOOD[0], "question": "  "},
}


@pytest.mark.parametrize("message", BAD)
def test_rows_that_are_no_questions(tmp_path, llama, message):
    path = write_lines(tmp_path / "train.jsonl", [*GOOD, BAD[message]])
    with pytest.raises(UserError, match=f"train.jsonl, line 21: {message}"):
        load_task("choices", root=path, tokenizer=str(llama))
    task = load_task("choices", root=path, tokenizer=str(llama), skip_broken=True)
    assert any("1 of 21 rows are left out" in note for note in task.notes)


@pytest.mark.parametrize("fewer", ["val", "test"])
def test_rows_of_fewer_choices_may_be_in_one_split_alone(tmp_path, llama, fewer):
    for name in ("train", "val", "test"):
        choices = ["a", "b", "c"] if name != fewer else ["a", "b"]
        rows = [{"question": f"{name} {j}", "choices": choices, "answer": j % 2} for j in range(6)]
        rows[0]["choices"] = ["a", "b", "c"]
        write_lines(tmp_path / f"{name}.jsonl", rows)
    task = load_task("choices", root=tmp_path, tokenizer=str(llama))
    counts = {name: task.choices(name).sum(1).tolist() for name in ("val", "test")}
    assert counts == {name: [3] + [2 if name == fewer else 3] * 5 for name in ("val", "test")}


def test_what_is_wrong_with_texts(tmp_path, files, llama, bert):
    good = texts(20)
    for row, message in (
        ({"text": "", "label": "warm"}, "line 21: text is '': a text is needed"),
        ({"text": "a", "label": None}, "line 21: label is None"),
        ({"text": "a", "label": 0.5}, "line 21: label is 0.5"),
        ({"text": "a", "label": "hot"}, "line 21: no other row of train has the label 'hot'"),
    ):
        path = write_lines(tmp_path / "train.jsonl", [*good, row])
        with pytest.raises(UserError, match=message):
            load_task("text", root=path, tokenizer=str(llama))
    path.write_text("[1]\n")
    with pytest.raises(UserError, match=r"line 1: '\[1\]': an object with names is needed"):
        load_task("text", root=path, tokenizer=str(llama))
    with pytest.raises(UserError, match=r"data.shuffle_seed.*greater than or equal to 0"):
        load_task("choices", root=files / "sums", tokenizer=str(llama), shuffle_seed=-1)
    test = write_lines(tmp_path / "test.jsonl", [{"text": "b", "label": "hot"}])
    root = files / "texts" / "train.jsonl"
    with pytest.raises(UserError, match=r"test.jsonl, line 1: label is 'hot', classes are cold, warm"):
        load_task("text", root=root, test=test, tokenizer=str(llama))
    for options, message in (
        ({}, "data.tokenizer is needed"),
        ({"tokenizer": str(tmp_path)}, "holds no model: there is no config.json"),
        ({"tokenizer": "package:no-such-package"}, "no package 'no-such-package' is installed"),
        ({"tokenizer": "package:../x"}, "package:../x is no name of a package"),
        ({"tokenizer": str(llama), "max_length": 1}, "data.max_length = 1 is not possible"),
        ({"tokenizer": str(llama), "rows": [1000, 5, 5]}, "data.rows: 1,000 of train, but there are 36"),
        ({"tokenizer": str(llama), "overlap": "keep"}, "data.overlap"),
    ):
        with pytest.raises(UserError, match=message):
            load_task("text", root=files / "texts", **options)
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(UserError, match=r"texts are read from .jsonl, .csv, .tsv"):
        load_task("text", root=tmp_path / "a.txt", tokenizer=str(llama))
    (tmp_path / "b.jsonl").write_text('{"text": "a"\n')
    with pytest.raises(UserError, match=r"b.jsonl, line 1: no JSON"):
        load_task("text", root=tmp_path / "b.jsonl", tokenizer=str(llama))
    (tmp_path / "c.csv").write_text("text,label\na\n")
    with pytest.raises(UserError, match=r"c.csv, line 2: 1 columns, the first line has 2"):
        load_task("text", root=tmp_path / "c.csv", tokenizer=str(llama))
