"""Add members of which only predictions are known: of any framework, as files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrensemble import __version__
from lrensemble.errors import UserError
from lrensemble.pool.convert import as_probabilities, find_kind
from lrensemble.pool.files import array_bytes
from lrensemble.pool.member import Member
from lrensemble.pool.pool import PREDICTED, Pool
from lrensemble.pool.reading import read_numbers
from lrensemble.pool.record import FINISHED, MemberSpec, Record, loop_spec
from lrensemble.pool.sources import Source
from lrensemble.pool.writing import write_complete, write_end

Array = NDArray[Any]


@dataclass(frozen=True)
class Imported:
    """What became of one source.

    Attributes
    ----------
    kinds : what the numbers of each split were taken for
    new : False for a member that was there already, with the same predictions
    """

    record: Record
    source: Source
    kinds: dict[str, str]
    new: bool


def _open(
    path: Path,
    labels: dict[str, Path] | None,
    class_names: Sequence[str] | int | None,
    sources: Sequence[Source],
) -> tuple[Pool | None, dict[str, Array], tuple[str, ...]]:
    """The pool at `path` (None when it has yet to be made), its labels and its class names. Nothing is written.

    Parameters
    ----------
    labels : dict of str to path, optional
        Needed for a new pool; of an old one they must be the same.
    class_names : names, or their number, optional
        Of a new pool. Default: as many classes as the labels and the first source's columns have.
    """
    labels = labels or {}
    read = {split: _labels(file, split) for split, file in labels.items()}
    names = tuple(map(str, range(class_names))) if isinstance(class_names, int) else class_names
    if (path / "pool.json").exists() or (not read and path.exists()):
        pool = Pool.open(path)
        for split, array in read.items():
            if not np.array_equal(array, pool.labels(split)):
                raise UserError(f"{labels[split]}: these are not the labels of {split} in {path}")
        if names is not None and tuple(names) != pool.task.class_names:
            raise UserError(f"{path} has {len(pool.task.class_names)} classes: {', '.join(pool.task.class_names)}")
        return pool, {split: pool.labels(split) for split in PREDICTED}, pool.task.class_names
    if not read:
        raise UserError(
            f"{path} does not exist: to make a pool the labels are needed, --labels-val FILE and --labels-test FILE"
        )
    if names is None:
        count = 1 + max(int(array.max()) for array in read.values())
        for source in sources[:1]:
            array = read_numbers(source.files["val"], "val", rows=len(read["val"]))
            count = max(count, array.shape[1] if array.ndim == 2 else 0)
        names = tuple(map(str, range(count)))
    for split, array in read.items():
        if array.max() >= len(names):
            raise UserError(f"labels of {split}: class {array.max()}, but there are {len(names)} classes")
    return None, read, tuple(names)


def _labels(path: Path, split: str) -> NDArray[np.int64]:
    array = read_numbers(path, split)
    if array.ndim == 2 and 1 in array.shape:
        array = array.ravel()
    numbers = array.dtype.kind in "fiub"
    whole = array.astype(np.int64) if numbers and array.size and np.isfinite(array).all() else np.empty(0, np.int64)
    if array.ndim != 1 or not len(whole) or (whole != array).any() or whole.min() < 0:
        raise UserError(f"{path}: labels are whole numbers from 0, one a row; this is {array.dtype} of {array.shape}")
    return whole


def import_members(
    path: str | Path,
    sources: Sequence[Source],
    *,
    labels: dict[str, Path] | None = None,
    class_names: Sequence[str] | int | None = None,
    policy: str | None = None,
    seed: int = 0,
    kind: str = "auto",
) -> tuple[Pool, list[Imported]]:
    """Add one member for each source, and make the pool if there is none. All of them are checked before any is added.

    A member that is there already with the same predictions stays: a killed import goes on when it is run again.

    Parameters
    ----------
    labels : dict of str to path
        Of ``val`` and ``test``, to make the pool.
    policy, seed
        Of all members: with the model's name, what tells them apart from others.
    kind : {"auto", "probabilities", "logits", "labels"}
        As in `as_probabilities`.

    Raises
    ------
    UserError
        Whatever is wrong with a file, a name that is there twice, a member that is there with other predictions.
    """
    path = Path(path)
    specs = [loop_spec("import", model=s.model, policy=policy, seed=seed, notes={}) for s in sources]
    _check_names(sources)
    existing, true, names = _open(path, labels, class_names, sources)
    # Every file is read twice: together they may be more than the memory.
    for source, spec in zip(sources, specs, strict=True):
        predictions, _ = _read(source, true, names, kind)
        if existing is not None:
            _check_new(existing, spec, predictions, source)
    pool = existing or Pool.create(path, labels=true, class_names=names)
    done = []
    for source, spec in zip(sources, specs, strict=True):
        predictions, kinds = _read(source, true, names, kind)
        [planned] = pool.plan([spec])
        with planned.hold():
            new = _check_new(pool, spec, predictions, source)
            member = Member(planned.path)  # another process may have written it since
            record = _write(member, predictions, true, source) if new else member.record
        done.append(Imported(record, source, kinds, new))
    return pool, done


def _check_names(sources: Sequence[Source]) -> None:
    seen: dict[str, Source] = {}
    for source in sources:
        other = seen.setdefault(source.model, source)
        if other is not source:
            where = " and ".join(str(s.files["val"]) for s in (other, source))
            raise UserError(f"{where} would both be called {source.model!r}: rename one")


def _read(
    source: Source, labels: dict[str, Array], names: tuple[str, ...], kind: str
) -> tuple[dict[str, Array], dict[str, str]]:
    """Probabilities of every split, and what they were in the file."""
    probabilities, kinds = {}, {}
    for split, file in source.files.items():
        where = f"{file} ({split})" if file.suffix.lower() == ".npz" else str(file)
        array = read_numbers(file, split, rows=len(labels[split]), class_names=names)
        probabilities[split] = as_probabilities(array, len(labels[split]), len(names), kind, where)
        column = array.ndim == 2 and array.shape[1] == 1 and len(names) > 1
        kinds[split] = find_kind(array[:, 0] if column else array, kind, where)
    return probabilities, kinds


def _check_new(pool: Pool, spec: MemberSpec, predictions: dict[str, Array], source: Source) -> bool:
    """True when the pool has no finished member of this spec, False when it has one with these predictions."""
    member = pool.member_of(spec)
    if not member.record_path.exists() or member.record.status not in FINISHED:
        return True
    record = member.record
    if record.status == "diverged" and not _finite(predictions):
        return False
    for split, array in predictions.items():
        info = record.files.get(f"predictions/{split}.npy")
        if info is None or info.sha256 != hashlib.sha256(array_bytes(array)).hexdigest():
            raise UserError(
                f"{source.files[split]}: {pool.path} has a member {record.spec.model} with seed {record.spec.seed} "
                f"already, whose predictions of {split} are others: give another --model or --seed, or delete the "
                f"folder {member.path}"
            )
    return False


def _finite(predictions: dict[str, Array]) -> bool:
    return all(bool(np.isfinite(array).all()) for array in predictions.values())


def _write(member: Member, predictions: dict[str, Array], labels: dict[str, Array], source: Source) -> Record:
    files = {split: str(path) for split, path in source.files.items()}
    environment = {"imported from": " and ".join(dict.fromkeys(files.values())), "lrensemble": __version__}
    if not _finite(predictions):
        reason = "the predictions are not finite"
        return write_end(member, history=[], status="diverged", reason=reason, environment=environment)
    return write_complete(
        member,
        labels=labels["val"],
        history=[],
        probabilities=predictions,
        weights=None,
        environment=environment,
    )
