"""Files of lm-evaluation-harness (``lm-eval run --log_samples``): the log-likelihood of every choice of every document.

A line is one document, as written by ``EvaluationTracker.save_results_samples`` (0.4.0 to 0.4.13): what was asked, how
likely each choice was, which is right, and lm-eval's own metrics. These are computed again: a file is read only as
lm-eval itself has read it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrensemble.array import Array
from lrensemble.errors import UserError
from lrensemble.opening import MOST_JSON, clear_read_errors, open_regular

MOST_CHOICES = 1000
# What a choice's score is -> lm-eval's accuracy of it: the log-likelihood, that by length, that minus the one without
# the question.
METRICS = {"sum": "acc", "chars": "acc_norm", "bytes": "acc_bytes", "pmi": "acc_mutual_info"}


@dataclass(frozen=True)
class Samples:
    """What a file says, by the number of the document.

    Attributes
    ----------
    documents : (N, 3) int64; number of the document, the first bytes of its hash, the right choice
    counts : (N,) choices of each
    scores : (N, C) of the choices, in the order of the file; minus infinity beyond `counts`
    """

    path: Path
    documents: NDArray[np.int64]
    counts: NDArray[np.int64]
    scores: Array


class _Line(NamedTuple):
    document: int
    hash: int
    as_number: int  # the right choice, if the target is its number; -1 if it cannot be
    as_text: int  # if it is its text
    target: str
    likelihoods: list[float]
    without: list[float]  # the question, for pmi
    texts: list[str]  # of the choices, with what is in front of each; [] where they are in the prompts
    recorded: dict[str, Any]  # lm-eval's metrics


def read_samples(path: Path, normalise: str) -> Samples:
    """The documents in a file, with the scores that `METRICS` names.

    Raises
    ------
    UserError
        Missing or damaged; not multiple choice, fewer than two choices or equal ones, a right answer that is none of
        them, or several; a document twice; metrics of lm-eval that its own numbers do not give.
    """
    lines = list(_lines(path, normalise))
    if not lines:
        raise UserError(f"{path} is empty")
    lines.sort(key=lambda line: line.document)
    for one, other in itertools.pairwise(lines):
        if one.document == other.document:
            raise UserError(f"{path}: doc {one.document} is there twice (two runs, or filters, in one file): keep one")
    counts = np.array([len(line.likelihoods) for line in lines])
    answers = _answers(path, lines)
    # lm-eval puts a space in front of every choice (target_delimiter), which is no part of its length.
    spaced = all(text.startswith(" ") for line in lines for text in line.texts)
    for space in (1, 0) if spaced and normalise in ("chars", "bytes") else (0,):
        rows = [_scores(line, normalise, space) for line in lines]
        wrong = _contradicted(lines, rows, answers, METRICS[normalise])
        if wrong is None:
            break
    else:
        raise UserError(
            f"{path}: the log-likelihoods of doc {wrong} do not give its {METRICS[normalise]}: another normalisation "
            "(--normalise)?"
        )
    scores = np.full((len(lines), counts.max()), -np.inf)
    for i, row in enumerate(rows):
        scores[i, : len(row)] = row
    documents = np.array([(line.document, line.hash, a) for line, a in zip(lines, answers, strict=True)], np.int64)
    return Samples(path, documents, counts, scores)


def _lines(path: Path, normalise: str) -> Iterator[_Line]:
    with open_regular(path) as file, clear_read_errors(path):
        number = 0
        while text := file.readline(MOST_JSON + 1):
            number += 1
            where = f"{path}, line {number}"
            if len(text) > MOST_JSON:
                raise UserError(f"{where}: more than {MOST_JSON:,} bytes are no sample of lm-eval")
            if not text.strip():
                continue
            try:
                line = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise UserError(f"{where}: no JSON ({error}): a file samples_TASK_DATE.jsonl is needed") from None
            try:
                yield _line(line, normalise, where)
            except (KeyError, TypeError, IndexError, ValueError, AttributeError, OverflowError) as error:
                raise UserError(
                    f"{where}: no sample of multiple choice ({type(error).__name__}: {error}): lm-eval run "
                    "--log_samples writes such files"
                ) from None


def _line(line: dict[str, Any], normalise: str, where: str) -> _Line:
    document = int(line["doc_id"])
    if not -(2**63) <= document < 2**63:
        raise ValueError(f"doc_id {document}")
    arguments = line["arguments"]
    if isinstance(arguments, dict):  # since 0.4.2; before, a list of lists
        numbered = sorted(arguments.items(), key=lambda item: int(item[0].rpartition("_")[2]))
        arguments = [[one["arg_0"], one["arg_1"]] for _, one in numbered]
    requests = [(str(prompt), str(choice)) for prompt, choice, *_ in arguments]
    responses = [float(response[0]) for response in line["filtered_resps"]]
    if len(requests) != len(responses):
        raise ValueError(f"{len(requests)} requests, {len(responses)} responses")
    half = len(requests) // 2
    without: list[float] = []
    if half and not any(prompt for prompt, _ in requests[half:]) and any(prompt for prompt, _ in requests[:half]):
        requests, responses, without = requests[:half], responses[:half], responses[half:]
    where += f" (doc {document})"
    if not 2 <= len(requests) <= MOST_CHOICES:
        raise UserError(
            f"{where}: {len(requests):,} choices, 2 to {MOST_CHOICES:,} are needed: only multiple choice is read"
        )
    if len(set(requests)) < len(requests):
        twice = next(text for i, (_, text) in enumerate(requests) if requests[i] in requests[:i])
        raise UserError(f"{where}: two choices are {twice!r:.60}: leave this document out of every file")
    target, texts = str(line["target"]), [choice for _, choice in requests]
    if in_prompts := len(set(texts)) == 1:
        texts = []
    if in_prompts and normalise in ("chars", "bytes"):
        raise UserError(f"{where}: its choices are in the prompts, their length is not in the file: --normalise sum")
    if normalise == "pmi" and not without:
        raise UserError(f"{where}: no likelihoods without the question, which acc_mutual_info has: --normalise sum")
    recorded = {name: line[name] for name in METRICS.values() if name in line}
    if in_prompts:  # the target is what follows: with two choices the accuracy says which is right
        best = int(np.argmax(responses))
        known = len(requests) == 2 and recorded.get("acc") in (0, 1)
        as_number = (best if recorded["acc"] else 1 - best) if known else -1
        as_text = -1
    else:
        as_number = int(target) if re.fullmatch(r"\d{1,9}", target) and int(target) < len(requests) else -1
        equal = [i for i, text in enumerate(texts) if text.strip() == target.strip()]
        as_text = equal[0] if len(equal) == 1 else -1
    digest = line.get("doc_hash")
    if not (isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest)):  # before 0.4.3
        digest = hashlib.sha256(json.dumps(line["doc"], indent=2, ensure_ascii=False).encode()).hexdigest()
    key = int.from_bytes(bytes.fromhex(digest[:16]), "big", signed=True)
    return _Line(document, key, as_number, as_text, target, responses, without, texts, recorded)


def _answers(path: Path, lines: list[_Line]) -> NDArray[np.int64]:
    """The right choice of every document: targets are numbers, or texts, and what lm-eval counted as right decides."""
    readings = np.array([[line.as_number for line in lines], [line.as_text for line in lines]])
    outside = [int((answers < 0).argmax()) for answers in readings if (answers < 0).any()]
    if len(outside) == 2:
        line = lines[max(outside)]
        few = "their texts" if line.texts else "in the prompts: which is right is not in the file"
        raise UserError(
            f"{path}: the target of doc {line.document}, {line.target!r:.60}, is none of its {len(line.likelihoods)} "
            f"choices (0 to {len(line.likelihoods) - 1}, or {few}); several right ones are not read"
        )
    rows = [_scores(line, "sum", 0) for line in lines]
    whole = [answers for answers in readings if (answers >= 0).all()]
    wrong = [_contradicted(lines, rows, answers, "acc") for answers in whole]
    agreed = [answers for answers, found in zip(whole, wrong, strict=True) if found is None]
    if not agreed:
        raise UserError(f"{path}: the log-likelihoods of doc {wrong[0]} do not give its acc: no plain multiple choice")
    if len(agreed) == 2 and (differ := agreed[0] != agreed[1]).any():
        line = lines[int(differ.argmax())]
        raise UserError(
            f"{path}: the target of doc {line.document}, {line.target!r}, can be the number of a choice or the text of "
            "one: with the metric acc in the file it would be known"
        )
    return np.asarray(agreed[0], dtype=np.int64)


def _scores(line: _Line, normalise: str, space: int) -> Array:
    likelihoods = np.array(line.likelihoods)
    if normalise == "sum":
        return likelihoods
    if normalise == "pmi":
        return np.asarray(likelihoods - np.array(line.without))
    lengths = [len(text) if normalise == "chars" else len(text.encode(errors="surrogatepass")) for text in line.texts]
    return np.asarray(likelihoods / np.maximum(np.array(lengths, dtype=np.float64) - space, 1))


def _contradicted(lines: list[_Line], rows: list[Array], answers: Array, metric: str) -> int | None:
    """The first document whose metric in the file is not what its scores give."""
    for line, scores, answer in zip(lines, rows, answers, strict=True):
        if metric in line.recorded and line.recorded[metric] != float(np.argmax(scores) == answer):
            return line.document
    return None
