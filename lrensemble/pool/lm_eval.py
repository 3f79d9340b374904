"""Add members that lm-evaluation-harness has run: its samples of multiple choice are their predictions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from lrensemble.array import Array
from lrensemble.choices import balanced_places, place_names
from lrensemble.errors import UserError, did_you_mean
from lrensemble.pool.convert import Converted
from lrensemble.pool.importing import Imported, check_names, check_new, write_members
from lrensemble.pool.labels import PREDICTED
from lrensemble.pool.pool import Pool
from lrensemble.pool.record import loop_spec
from lrensemble.pool.samples import METRICS, Samples, read_samples
from lrensemble.pool.sources import Source


class _Aligned(NamedTuple):
    """The rows of a split.

    Attributes
    ----------
    documents : (N, 3) as in `Samples`
    labels : (N,) where the right choice is in the pool
    counts : (N,) choices
    """

    documents: NDArray[np.int64]
    labels: NDArray[np.int64]
    counts: NDArray[np.int64]


def import_lm_eval(
    path: str | Path,
    sources: Sequence[Source | str | Path],
    *,
    normalise: str = "sum",
    val_share: float = 0.5,
    policy: str | None = None,
    seed: int = 0,
) -> tuple[Pool, list[Imported]]:
    """Add one member for each file of samples, and make the pool if there is none. All are checked before any is added.

    A file is one split of a task; documents are divided by their hashes, so that every file is divided alike. Of a
    `Source` with two files each is one split of the pool. Where a choice is in a row is drawn anew, and every place is
    right equally often: a constant scorer scores chance (in TruthfulQA the first choice is always right).

    Parameters
    ----------
    sources : files, each called like the folder that lm-eval has named after the model; or sources with a name
    normalise : {"sum", "chars", "bytes", "pmi"}
        The score whose softmax the probabilities are: that of lm-eval's acc, acc_norm, acc_bytes, acc_mutual_info.
    val_share : float
        Of the documents, for validation; of a new pool.
    policy, seed : as in `import_members`

    Raises
    ------
    UserError
        As `read_samples`; documents that are not those of the pool; a name that is there twice; a member that is there
        with other predictions; a pool that does not know its documents.
    """
    if normalise not in METRICS:
        raise UserError(f"unknown normalisation {normalise!r}: {did_you_mean(normalise, METRICS)}")
    path, named = Path(path), [s if isinstance(s, Source) else samples_source(Path(s)) for s in sources]
    specs = [
        loop_spec("import", model=s.model, policy=policy, seed=seed, notes={"normalise": normalise}) for s in named
    ]
    check_names(named)
    pool = Pool.open(path) if (path / "pool.json").exists() else None
    found = [{file: read_samples(file, normalise) for file in set(source.files.values())} for source in named]
    rows = _rows_of(pool) if pool else _divided(named[0], found[0], val_share)
    whose = f"the pool {path}" if pool else str(named[0].files["val"])
    width = max(int(split.counts.max()) for split in rows.values())
    if pool:
        width = len(pool.task.class_names)
    given = [_probabilities(s, files, rows, whose, width) for s, files in zip(named, found, strict=True)]
    if pool is None:
        exists = {split: np.arange(width) < of.counts[:, None] for split, of in rows.items()}
        pool = Pool.create(
            path,
            labels={split: of.labels for split, of in rows.items()},
            class_names=place_names(width),
            choices=None if all(mask.all() for mask in exists.values()) else exists,
            documents={split: of.documents for split, of in rows.items()},
        )
    else:
        for spec, predictions, source in zip(specs, given, named, strict=True):
            check_new(pool, spec, predictions, source)
    kinds = dict.fromkeys(PREDICTED, f"log-likelihoods ({METRICS[normalise]})")
    return pool, write_members(pool, named, specs, lambda i: Converted(given[i], kinds, ()))


def samples_source(path: Path, model: str | None = None) -> Source:
    """The member of one file, called like its folder where lm-eval has named both."""
    named = re.fullmatch(r"samples_.+\.jsonl", path.name) and path.resolve().parent.name
    return Source.archive(path, model or named or None)


def _rows_of(pool: Pool) -> dict[str, _Aligned]:
    rows = {}
    for split in PREDICTED:
        documents, choices = pool.documents(split), pool.choices(split)
        if documents is None:
            raise UserError(
                f"{pool.path} does not know its rows as documents of lm-eval: import into a pool of its own"
            )
        everywhere = np.full(len(documents), len(pool.task.class_names))
        rows[split] = _Aligned(documents, pool.labels(split), everywhere if choices is None else choices.sum(1))
    return rows


def _divided(source: Source, found: Mapping[Path, Samples], share: float) -> dict[str, _Aligned]:
    """Splits of a new pool: a file each, or one that is divided by the order of the hashes."""
    parts = {split: np.arange(len(found[file].counts)) for split, file in source.files.items()}
    if source.files["val"] == source.files["test"]:
        order = np.argsort(found[source.files["val"]].documents[:, 1], kind="stable")
        cut = round(share * len(order))
        parts = {"val": np.sort(order[:cut]), "test": np.sort(order[cut:])}
    for split, part in parts.items():
        if not len(part):
            raise UserError(f"{source.files[split]}: {share:g} of the documents for validation leaves {split} without")
    rows = {}
    for split, part in parts.items():
        samples = found[source.files[split]]
        documents, counts = samples.documents[part], samples.counts[part]
        order = np.argsort(documents[:, 1], kind="stable")  # of the hashes: every file has the same
        rows[split] = _Aligned(documents, balanced_places(counts, order), counts)
    return rows


def _probabilities(
    source: Source, found: Mapping[Path, Samples], rows: Mapping[str, _Aligned], whose: str, width: int
) -> dict[str, Array]:
    """Probabilities (N, `width`) of every split, float32, of the documents that the pool has, in its order."""
    used: dict[Path, int] = dict.fromkeys(found, 0)
    tables = {}
    for split, of in rows.items():
        samples = found[source.files[split]]
        order = np.argsort(samples.documents[:, 0])
        at = np.searchsorted(samples.documents[order, 0], of.documents[:, 0])
        index = order[np.minimum(at, len(order) - 1)]
        missing = samples.documents[index, 0] != of.documents[:, 0]
        if missing.any():
            raise UserError(
                f"{samples.path}: {missing.sum():,} of the {len(missing):,} documents of {split} in {whose} are not in "
                f"it, the first is doc {of.documents[missing.argmax(), 0]}: run lm-eval on all of them (--limit?)"
            )
        _check_same(samples, index, of, whose)
        used[samples.path] += len(index)
        tables[split] = _placed(samples.scores[index], of, width)
    for file, count in used.items():
        if count < len(found[file].counts):
            raise UserError(
                f"{file}: it has {len(found[file].counts):,} documents, {whose} has {count:,} of them: run lm-eval on "
                "the same ones (--limit?)"
            )
    return tables


def _check_same(samples: Samples, index: NDArray[np.intp], of: _Aligned, whose: str) -> None:
    """The documents are those of the pool: their content, their number of choices, the right one."""
    theirs, counts = samples.documents[index], samples.counts[index]
    for differ, what in (
        (theirs[:, 1] != of.documents[:, 1], "is another document than in {}: another task, or other data of it"),
        (counts != of.counts, "has another number of choices than in {}: another version of the task"),
        (
            theirs[:, 2] != of.documents[:, 2],
            "has its right choice in another place than in {}: choices in other order",
        ),
    ):
        if differ.any():
            raise UserError(
                f"{samples.path}: doc {theirs[differ.argmax(), 0]} {what.format(whose)} ({differ.sum():,} of "
                f"{len(differ):,})"
            )


def _placed(scores: Array, of: _Aligned, width: int) -> Array:
    """Probabilities of scores in the file's order of the choices: the right ones at their places, the others drawn."""
    table = np.full((len(scores), width), -np.inf)
    for row, (document, label, count) in enumerate(zip(of.documents, of.labels, of.counts, strict=True)):
        others = np.delete(np.arange(count), document[2])
        others = np.random.default_rng(abs(int(document[1]))).permutation(others)
        table[row, :count] = scores[row, np.insert(others, label, document[2])]
    with np.errstate(invalid="ignore"):  # rows of NaN: a diverged member
        return np.asarray(softmax(table, axis=1), dtype=np.float32)
