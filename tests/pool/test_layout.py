"""Whatever pandas writes is read as the numbers that went in, or refused: never as other numbers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrensemble import UserError
from lrensemble.pool.importing import import_members
from lrensemble.pool.sources import Source

EXAMPLES = int(os.environ.get("LRENSEMBLE_EXAMPLES", "60"))  # 1,500 were tried
WORDS = ["cat", "dog", "owl", "emu"]


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


@st.composite
def frames(draw: Any) -> dict[str, Any]:
    """How a frame of predictions is written, and with which numbers."""
    classes = draw(st.integers(2, 12))
    kind = draw(st.sampled_from(["probabilities", "logits", "labels"]))
    named = draw(st.booleans()) and classes <= 4
    return {
        "random": np.random.default_rng(draw(st.integers(0, 2**32 - 1))),
        "classes": classes,
        "kind": kind,
        "named": named,
        "rows": {"val": draw(st.integers(1, 14)), "test": draw(st.integers(1, 14))},
        "temperature": draw(st.sampled_from([0.1, 1.0, 5.0, 40.0])),
        "unit": draw(st.sampled_from([1.0, 1.0, 100.0, 16.0, 0.5])) if kind == "probabilities" else 1.0,
        "noise": draw(st.sampled_from([0.0, 1e-9])),
        "digits": draw(st.sampled_from([None, None, 3])) if kind == "logits" else None,
        "prefix": draw(st.sampled_from(["", "", "p_", "class_", "logit "])),
        "suffix": draw(st.sampled_from(["", "", "_prob"])),
        "say_classes": draw(st.booleans()),
        "say_kind": draw(st.booleans()),
        "dtype": draw(st.sampled_from(["float64", "float32"])),
        "labels": draw(st.sampled_from(["numbers", "names"])) if named else "numbers",
        "files": [
            {
                "header": draw(st.sampled_from(["names", "numbers", "numbers", None])),
                "permute": draw(st.booleans()),
                "index": draw(st.sampled_from([None, "range", "from 1", "shuffled", "text", "two levels"])),
                "index_name": draw(st.sampled_from([None, None, "id", "zzz"])),
                "sep": draw(st.sampled_from([",", ";", "\t", " "])),
                "decimal": draw(st.sampled_from([".", ".", ","])),
                "extra": draw(st.sampled_from([None, None, None, "fold", "pred", "label", "loss", "zzz"])),
                "quoting": draw(st.sampled_from([0, 0, 1])),
            }
            for _ in range(2)
        ],
        "label_index": draw(st.sampled_from([None, "range", "from 1"])),
        "label_header": draw(st.sampled_from(["label", "0", None])),
    }


def index_of(kind: str | None, n: int, name: str | None, random: np.random.Generator) -> pd.Index | None:
    values: Any = {
        "range": range(n),
        "from 1": range(1, n + 1),
        "shuffled": random.permutation(10 * n)[:n],
        "text": [f"img{i}.png" for i in range(n)],
    }.get(kind or "range")
    if kind == "two levels":
        return pd.MultiIndex.from_arrays([np.arange(n) % 2, np.arange(n)], names=["fold" if name else None, name])
    return pd.Index(values, name=name)


def write(path: Path, table: np.ndarray, names: list[Any], how: dict[str, Any], random: np.random.Generator) -> None:
    order = random.permutation(len(names)) if how["permute"] and how["header"] else np.arange(len(names))
    columns = [names[j] for j in order] if how["header"] == "names" else [*order]
    frame = pd.DataFrame(table[:, order], columns=columns)
    n = len(table)
    if how["extra"] and how["header"]:
        values = {"fold": np.arange(n) % 3, "pred": table.argmax(1), "label": np.arange(n) % len(names)}
        frame.insert(
            int(random.integers(len(names) + 1)), how["extra"], values.get(how["extra"], random.normal(size=n))
        )
    frame.index = index_of(how["index"], n, how["index_name"], random)
    frame.to_csv(
        path,
        sep=how["sep"],
        decimal=how["decimal"],
        index=how["index"] is not None,
        header=how["header"] is not None,
        quoting=how["quoting"],
    )


def expected_of(f: dict[str, Any], labels: dict[str, np.ndarray]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The numbers that are written, and the probabilities that they mean."""
    written, meant = {}, {}
    for split, n in f["rows"].items():
        logits = f["random"].normal(size=(n, f["classes"])) * f["temperature"] + np.eye(f["classes"])[labels[split]]
        if f["digits"]:
            logits = logits.round(f["digits"])
        if f["kind"] == "logits":
            written[split], meant[split] = logits.astype(f["dtype"]), softmax(logits)
        elif f["kind"] == "probabilities":
            meant[split] = softmax(logits)
            noise = f["noise"] * f["random"].normal(size=logits.shape)
            written[split] = ((meant[split] + noise) * f["unit"]).astype(f["dtype"])
        else:
            written[split] = logits.argmax(1)
            meant[split] = np.eye(f["classes"])[written[split]]
    return written, meant


@settings(max_examples=EXAMPLES)
@given(frames())
def test_whatever_pandas_writes(tmp_path_factory: pytest.TempPathFactory, f: dict[str, Any]):
    folder, random, classes = tmp_path_factory.mktemp("frames"), f["random"], f["classes"]
    class_names = WORDS[:classes] if f["named"] else [str(i) for i in range(classes)]
    labels = {split: random.integers(0, classes, n) for split, n in f["rows"].items()}
    labels["val"][0] = classes - 1  # the labels have the last class
    written, meant = expected_of(f, labels)
    # The names of columns without names of classes say an order only if they are numbers: pandas cannot permute them.
    names: list[Any] = [f"{f['prefix']}{name}{f['suffix']}" for name in class_names]
    knows = f["say_classes"] or f["labels"] == "names"
    files = {}
    for (split, values), how in zip(written.items(), f["files"], strict=True):
        files[split] = folder / f"{split}.csv"
        if f["kind"] == "labels":
            column = pd.Series(
                values, index=index_of(how["index"], len(values), how["index_name"], random), name="pred"
            )
            column.to_csv(
                files[split], index=how["index"] is not None, header=how["header"] is not None, sep=how["sep"]
            )
        else:
            permute = how["permute"] and (knows or not f["named"] or how["header"] == "numbers")
            write(files[split], values, names, {**how, "permute": permute}, random)
    label_files = {}
    for split, y in labels.items():
        label_files[split] = folder / f"labels_{split}.csv"
        shown = [class_names[i] for i in y] if f["labels"] == "names" else y
        column = pd.Series(shown, index=index_of(f["label_index"], len(y), None, random), name=f["label_header"])
        column.to_csv(label_files[split], index=f["label_index"] is not None, header=f["label_header"] is not None)
    said = (class_names if f["named"] else classes) if knows else None
    kind = f["kind"] if f["say_kind"] else "auto"
    try:
        pool, [member] = import_members(
            folder / "pool", [Source("m", files)], labels=label_files, class_names=said, kind=kind
        )
    except UserError as error:
        assert "\n" not in str(error)
        return
    assert len(pool.task.class_names) == classes
    assert member.record.status == "complete"
    for split in labels:
        np.testing.assert_array_equal(pool.labels(split), labels[split])
        found = pool.predictions(split, [pool.find(member.record.id)])[0]
        np.testing.assert_allclose(found, meant[split], atol=2e-6)


P = np.array(
    [[70, 20, 10], [10, 80, 10], [20, 10, 70], [60, 30, 10], [50, 30, 20], [10, 30, 60], [90, 5, 5], [20, 60, 20]]
)
P = P / 100
Y = np.array([0, 1, 2, 0, 1, 2, 0, 1])
LOGITS = np.log(P) + np.sin(np.arange(8))[:, None]
NLL = float(-np.log(P[np.arange(8), Y]).mean())


def text(values: Any, header: str = "", index: Any = None, sep: str = ",") -> str:
    """Rows of a text file, below a header when there is one."""
    rows = [[*([] if index is None else [index[i]]), *np.atleast_1d(row)] for i, row in enumerate(values)]
    return "\n".join(([header] if header else []) + [sep.join(map(str, row)) for row in rows]) + "\n"


LABELS = text(Y, "y")


def read(
    folder: Path, val: str, labels: str = LABELS, test: str | None = None, **options: Any
) -> tuple[Any, list[str]]:
    """The pool that an import of one member makes, and what was said."""
    for name, content in {"val": val, "test": val if test is None else test, "labels": labels}.items():
        (folder / f"{name}.csv").write_text(content)
    said: list[str] = []
    files = {split: folder / f"{split}.csv" for split in ("val", "test")}
    pool, _ = import_members(
        folder / "pool",
        [Source("m", files)],
        labels=dict.fromkeys(files, folder / "labels.csv"),
        tell=said.append,
        **options,
    )
    return pool, said


CLASSES = {"class_names": ["cat", "dog", "owl"]}
NAMED_LABELS = text(np.array(CLASSES["class_names"])[Y], "y")
LEXICOGRAPHIC = sorted(range(12), key=str)
TWELVE = np.c_[P * 0.5, np.full((8, 9), 0.5 / 9)]


@pytest.mark.parametrize(
    ("val", "labels", "options", "note"),
    [
        (text(P, "0,1,2"), text(Y, "0"), {}, ""),
        (text(LOGITS, "0,1,2"), text(Y, "0"), {}, ""),
        (text(P, "0.0,1.0,2.0"), text(Y, "0"), {}, ""),
        (text(P[:, [2, 0, 1]], "2,0,1"), LABELS, {}, "into the order of the classes"),
        (text(P), text(Y), {}, ""),
        (text(P, "id,a,b,c", range(8)), LABELS, {}, "column 'id' left out"),
        (text(LOGITS, "id,a,b,c", range(8)), LABELS, {}, "column 'id' left out"),
        (text(LOGITS, "id,a,b,c", range(50, 58)), LABELS, {"class_names": 3}, "column 'id' left out"),
        (text(P, "", range(8)), LABELS, {}, "column 1 left out"),
        (text(P, ",a,b,c", [3, 1, 2, 0, 4, 5, 6, 7]), LABELS, {}, "rows are taken as they stand, not in the order of"),
        (text(P, "", [f"{i}.png" for i in range(8)]), LABELS, {}, "column 1 left out"),
        (text(np.c_[P, Y], "a,b,c,label"), LABELS, {}, "column 'label' left out"),
        (text(LOGITS, ",,a,b,c", [f"1,{i}" for i in range(8)]), LABELS, {}, "left out"),
        (text(100 * P, "a,b,c"), LABELS, {}, "rows sum to 100: divided"),
        (text(16 * P, "a,b,c"), LABELS, {}, "rows sum to 16: divided"),
        (text(P[:, [2, 0, 1]], "p_owl,p_cat,p_dog"), LABELS, CLASSES, "into the order of the classes"),
        (text(P[:, [2, 0, 1]], "Owl,Cat,Dog"), LABELS, CLASSES, "into the order of the classes"),
        (text(P, "a,b,c"), LABELS, CLASSES, ""),
        (text(P, "a,b,c"), NAMED_LABELS, CLASSES, ""),
        (text(P), text(np.array(CLASSES["class_names"])[Y]), CLASSES, ""),
        (text(P[:, [2, 0, 1]], "p_owl,p_cat,p_dog"), NAMED_LABELS, {}, ""),
        (text(P, "a,b,c"), text(Y + 1, "y"), {"class_names": ["1", "2", "3"]}, ""),
        (text(P, "a,b,c"), text(2 * Y + 3, "y"), {"class_names": ["3", "5", "7"]}, ""),
        (text(P, "1,2,3"), text(Y + 1, "y"), {}, ""),
        (text(P, "a,b,c"), text(Y.astype(float), "y"), {}, ""),
        (text(P, "a,b,c"), text(Y, "id,y", range(8)), {}, "column 'id' left out"),
        (text(P, "a,b,c"), text(np.eye(3)[Y], "a,b,c"), {}, ""),
        (text(P, "a b c", sep=" "), LABELS, {}, ""),
        (text(P, "a;b;c", sep=";").replace(".", ","), LABELS, {}, ""),
    ],
)
def test_one_reading(tmp_path: Path, val, labels, options, note):
    pool, said = read(tmp_path, val, labels, **options)
    [member] = pool.complete
    for split in ("val", "test"):
        found, true = pool.predictions(split)[0], pool.labels(split)
        assert found.shape == (8, 3)
        assert -np.log(found[np.arange(8), true]).mean() == pytest.approx(NLL, abs=1e-6)
        assert (found.argmax(1) == true).mean() == 0.875
    assert member.record.metrics["val"]["accuracy"] == 0.875
    assert any(note in line for line in said) if note else not said


@pytest.mark.parametrize(
    ("val", "labels", "options", "message"),
    [
        (text(Y), text(Y), {}, r"is the first line .0. a header above 7 rows, or the first of 8 rows. --header yes"),
        (
            text(P[:7], "0,1,2"),
            LABELS,
            {},
            r"first line .0,1,2. looks like a header .* leaves 7 rows, and 8 are needed",
        ),
        (
            text(LOGITS, "id,a,b,c", range(50, 58)),
            LABELS,
            {},
            "column 'id': classes, or not. --classes 4 or --classes 3",
        ),
        (text(LOGITS, "id,a,b,c", range(8)), LABELS, {"class_names": 4}, r"but there are 4 classes .column 'id' not"),
        (text(np.c_[LOGITS, Y], "a,b,c,label"), LABELS, {}, "column 'label': classes, or not"),
        (text(np.c_[P, 0 * Y], "a,b,c,fold"), LABELS, {}, "column 'fold': classes, or not"),
        (
            text(np.c_[P, np.sin(Y) + 2], "a,b,c,zzz"),
            LABELS,
            {},
            "column 'zzz' is no class. All others sum to the same",
        ),
        (text(np.c_[LOGITS, LOGITS[:, 0]], "x_0,x_1,x_2,zzz"), LABELS, {}, "column 'zzz': classes, or not"),
        (text(P, "cat,dog,fox"), LABELS, CLASSES, "its columns are cat, dog, fox, the classes cat, dog, owl"),
        (text(P, "chat,chien,hibou"), LABELS, CLASSES, "call the columns like the classes"),
        (text(P, "3,5,7"), LABELS, {}, "its columns are 3, 5, 7: class numbers that labels from 0 do not have"),
        (text(P, "a,a,b"), LABELS, {}, "column 'a' is there twice"),
        (text(P, "a,b,c"), text(Y + 1, "y"), {}, "labels run from 1 to 3, but there are 3 columns: .* --classes 1-3"),
        (text(P, "a,b,c"), text(2 * Y + 3, "y"), {}, "labels have numbers up to 7, .* --classes 3,5,7"),
        (
            text(P, "a,b,c"),
            text(np.where(Y == 2, 2**32 - 1, Y), "y"),
            {},
            "label is 4294967295 .-1 .* 8 rows and 3 col",
        ),
        (text(P, "a,b,c"), LABELS, {"class_names": 99_999_999}, r"'c' .3., but there are 99,999,999 classes"),
        (
            LABELS,
            LABELS,
            {"class_names": 99_999_999},
            "no file has as many columns, and more than 100,000 are not made",
        ),
        (text(Y + 1, "p"), LABELS, {}, "labels from 1 to 3, but the pool has classes 0 to 2"),
        (LABELS, text(Y + 1, "y"), {}, "labels run from 1 to 3, predictions from 0"),
        (
            text(P, "id,a,b,c", [1, 0, *range(2, 8)]),
            text(Y, "id,y", range(8)),
            {},
            "rows are others, or in another order",
        ),
        (
            text(np.c_[np.tile(P, 3), range(8)][::-1], "a,b,c,d,e,f,g,h,i,id"),
            text(Y, "id,y", range(8)),
            {},
            "in another order, .*'id'",
        ),
        (
            text(P[::-1], ",id,a,b,c", [f"{i},{7 - i}" for i in range(8)]),
            text(Y, ",id,y", [f"{i},{i}" for i in range(8)]),
            {},
            "in another order, .*'id'",
        ),
        (text(P[::-1], "id,a,b,c", range(8, 0, -1)), text(Y, "id,y", range(8)), {}, "in another order, .*'id'"),
        (
            LABELS,
            text(np.where(Y == 2, 255, Y), "y"),
            {},
            "a label is 255 .-1 as an unsigned number of 8 bits.., but there are only 3",
        ),
        (
            text(P, "a,b,c"),
            LABELS.replace("2", str(2**63)),
            {},
            "a label is 9223372036854775808, but there are 8 rows",
        ),
        (LABELS, text(2 * (Y % 2) - 1, "y"), {}, "labels from -1 to 1: write 0 and 1"),
        (text(P.T), LABELS, {}, "3 rows .8 columns., but .* has 8 .transposed"),
        (text(P, "cat,dog,owl"), NAMED_LABELS.replace("cat", "Cat"), {}, "label 'Cat' is no class: did you mean 'cat'"),
        (text(P).replace(".", ","), LABELS, {}, "decimal commas. Write points"),
        (text(P), NAMED_LABELS, {}, "label 'cat' is no class: .*--classes A,B,C names them"),
        (text(np.where(Y > 0, 0.3, 0.8), "p_0"), text(Y % 2, "y"), {}, "of which class is column 'p_0'"),
    ],
)
def test_two_readings(tmp_path: Path, val, labels, options, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, val, labels, **options)
    assert not (tmp_path / "pool").exists()


def test_columns_of_the_splits_in_another_order(tmp_path: Path):
    """Without names of classes nobody knows which of both orders is right."""
    val, test = text(P, "p_cat,p_dog,p_owl"), text(P[:, ::-1], "p_owl,p_dog,p_cat")
    with pytest.raises(
        UserError, match=r"test.csv: its columns are p_owl, p_dog, p_cat, another file has cat, dog, owl"
    ):
        read(tmp_path, val, test=test)
    pool, said = read(tmp_path, val, test=test, **CLASSES)
    np.testing.assert_allclose(pool.predictions("test")[0], P, atol=1e-7)
    assert said == [f"{tmp_path / 'test.csv'}: columns put into the order of the classes, by their names"]
    # The pool knows the names: a later member in another order is put into theirs.
    files = {"val": tmp_path / "test.csv", "test": tmp_path / "test.csv"}
    import_members(pool.path, [Source("n", files)])
    np.testing.assert_allclose(pool.predictions("val"), [P, P], atol=1e-7)


def test_numbers_of_classes_are_no_words(tmp_path: Path):
    header = ",".join(f"class_{i}" for i in LEXICOGRAPHIC)
    pool, said = read(tmp_path, text(TWELVE[:, LEXICOGRAPHIC], header))
    np.testing.assert_allclose(pool.predictions("val")[0], TWELVE, atol=1e-7)
    assert "into the order of the classes" in said[-1]
    assert pool.task.class_names == tuple(map(str, range(12)))


def test_members_say_it_for_each_other(tmp_path: Path):
    """Three columns of an array say that a fourth in a text file is none."""
    np.savez(tmp_path / "net.npz", val=LOGITS, test=LOGITS)
    (tmp_path / "x.csv").write_text(text(LOGITS, "nr,a,b,c", range(50, 58)))
    (tmp_path / "labels.csv").write_text(LABELS)
    labels = dict.fromkeys(("val", "test"), tmp_path / "labels.csv")
    sources = [Source("x", dict.fromkeys(labels, tmp_path / "x.csv")), Source.archive(tmp_path / "net.npz")]
    pool, _ = import_members(tmp_path / "pool", sources, labels=labels)
    np.testing.assert_allclose(pool.predictions("val"), [softmax(LOGITS)] * 2, atol=1e-6)


def test_hard_labels_from_1(tmp_path: Path):
    pool, [said] = read(tmp_path, text(Y + 1, "p"), text(Y + 1, "y"))
    assert "no row of class 0, labels run from 1 to 3 (--classes 1-3 if from 1)" in said
    assert pool.best_single().record.metrics["val"]["accuracy"] == 1


def test_files_that_do_not_fit_into_memory_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lrensemble.pool.importing.KEPT", 0)
    pool, _ = read(tmp_path, text(P, "a,b,c"))
    np.testing.assert_allclose(pool.predictions("val")[0], P, atol=1e-7)


def test_one_column_of_class_1(tmp_path: Path):
    p = np.array([0.2, 0.8, 0.1, 0.3, 0.3, 0.3, 0.05, 0.6])
    y = np.array([0, 1, 0, 0, 1, 0, 0, 1])
    pool, [said] = read(tmp_path, text(p, "p"), text(y, "y"))
    np.testing.assert_allclose(pool.predictions("val")[0], np.stack([1 - p, p], 1), atol=1e-7)
    assert "one column, taken for probabilities of class 1" in said


def test_two_classes_called_false_and_true(tmp_path: Path):
    p = np.c_[1 - P[:, 0], P[:, 0]]
    pool, _ = read(tmp_path, text(p, "False,True"), text([str(y == 0) for y in Y], "y"))
    assert pool.task.class_names == ("False", "True")
    np.testing.assert_allclose(pool.predictions("val")[0], p, atol=1e-6)
    np.testing.assert_array_equal(pool.labels("val"), Y == 0)


def test_truth_and_guesses_are_no_one_hot_rows(tmp_path: Path):
    """Of two classes, when every guess is wrong."""
    pool, _ = read(tmp_path, text(np.c_[P[:, 0], 1 - P[:, 0]]), text(np.c_[Y % 2, 1 - Y % 2], "true,pred"))
    np.testing.assert_array_equal(pool.labels("val"), Y % 2)


def test_guessed_names(tmp_path: Path):
    """Where all that is known are names, their order means nothing."""
    guesses = [2, 1, 2, 0, 1, 1, 0, 1]
    pool, _ = read(tmp_path, text(np.array(["owl", "cat", "dog"])[guesses], "pred"), NAMED_LABELS)
    assert pool.task.class_names == ("cat", "dog", "owl")
    np.testing.assert_array_equal(pool.labels("val"), Y)
    np.testing.assert_array_equal(pool.predictions("val")[0].argmax(1), [1, 0, 1, 2, 0, 0, 2, 0])
