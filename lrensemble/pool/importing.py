"""Add members of which only predictions are known: of any framework, as files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lrensemble.array import Array
from lrensemble.errors import UserError
from lrensemble.pool.convert import Converted, convert
from lrensemble.pool.files import array_bytes
from lrensemble.pool.labels import PREDICTED, class_numbers, number_names, whole_numbers
from lrensemble.pool.layout import Layout, Pick, decide, view
from lrensemble.pool.member import Member
from lrensemble.pool.pool import Pool
from lrensemble.pool.reading import Table, read_table
from lrensemble.pool.record import FINISHED, MemberSpec, Record, loop_spec
from lrensemble.pool.sources import Source
from lrensemble.pool.writing import is_finite, write_complete
from lrensemble.renamed import renamed
from lrensemble.version import __version__

KEPT = 2**30  # bytes of files that are read once


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


class _Tables:
    """Tables of files, read once as long as all that were read fit into `KEPT` bytes."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Path, str], Table] = {}
        self._bytes = 0

    def read(self, path: Path, split: str) -> Table:
        key = (path, split if path.suffix.lower() == ".npz" else "")
        if key in self._kept:
            return self._kept[key]
        table = read_table(path, split)
        self._bytes += table.values.nbytes
        if self._bytes <= KEPT:
            self._kept[key] = table
        return table


@renamed(note="tell")
def import_members(
    path: str | Path,
    sources: Sequence[Source],
    *,
    labels: dict[str, Path] | None = None,
    class_names: Sequence[str] | int | None = None,
    policy: str | None = None,
    seed: int = 0,
    kind: str = "auto",
    header: bool | None = None,
    tell: Callable[[str], object] = lambda text: None,
) -> tuple[Pool, list[Imported]]:
    """Add one member for each source, and make the pool if there is none. All of them are checked before any is added.

    A member that is there already with the same predictions stays: a killed import goes on when it is run again.

    Parameters
    ----------
    labels : dict of str to path
        Of ``val`` and ``test``, to make the pool; of an old one they must be the same.
    class_names : names, or their number, optional
        Of a new pool. Default: what headers and columns say, or as many classes as the labels have.
    policy, seed
        Of all members: with the model's name, what tells them apart from others.
    kind : {"auto", "probabilities", "logits", "labels"}
        As in `convert`.
    header : bool, optional
        Whether a first line of text files that can be column numbers as well as numbers is a header. Default: found
        out, where only one is possible.
    tell : callable
        Is given a line about what was left out, put in order or divided.

    Raises
    ------
    UserError
        Whatever is wrong with a file or has two readings, a name that is there twice, a member that is there with
        other predictions.
    """
    path, tables = Path(path), _Tables()
    specs = [loop_spec("import", model=s.model, policy=policy, seed=seed, notes={}) for s in sources]
    check_names(sources)
    pool = Pool.open(path) if (path / "pool.json").exists() or (not labels and path.exists()) else None
    if pool is None and not labels:
        raise UserError(
            f"{path} does not exist: to make a pool the labels are needed, --labels-val FILE and --labels-test FILE"
        )
    files: list[tuple[int | None, str, Path]] = [(None, split, file) for split, file in (labels or {}).items()]
    files += [(i, split, file) for i, source in enumerate(sources) for split, file in source.files.items()]
    known = {split: pool.task.rows[split] for split in PREDICTED} if pool else None
    if pool and class_names is not None:
        names = tuple(map(str, range(class_names))) if isinstance(class_names, int) else tuple(class_names)
        if names != pool.task.class_names and class_names != len(pool.task.class_names):
            raise UserError(f"{path} has {len(pool.task.class_names)} classes: {', '.join(pool.task.class_names)}")
    layout = decide(
        [view(tables.read(file, split), split, owner is None) for owner, split, file in files],
        rows=known,
        class_names=pool.task.class_names if pool else class_names,
        header=header,
    )
    picks = {(owner, split): pick for (owner, split, _), pick in zip(files, layout.picks, strict=True)}
    true = _labels(tables, labels or {}, picks, layout)
    if pool:
        for split, array in true.items():
            if not np.array_equal(array, pool.labels(split)):
                raise UserError(f"{(labels or {})[split]}: these are not the labels of {split} in {path}")
        true = {split: pool.labels(split) for split in PREDICTED}
    notes = dict.fromkeys(layout.notes)

    def read(i: int) -> Converted:
        picked = {s: picks[i, s] for s in sources[i].files}
        return _convert(tables, sources[i], picked, true, layout, kind, pool.choices if pool else None)

    # Every file is read more than once where together they may be more than the memory.
    for i, (source, spec) in enumerate(zip(sources, specs, strict=True)):
        converted = read(i)
        notes.update(dict.fromkeys(converted.notes))
        if pool is not None:
            check_new(pool, spec, converted.probabilities, source)
    pool = pool or Pool.create(path, labels=true, class_names=layout.class_names)
    for text in notes:
        tell(text)
    return pool, write_members(pool, sources, specs, read)


def write_members(
    pool: Pool, sources: Sequence[Source], specs: Sequence[MemberSpec], read: Callable[[int], Converted]
) -> list[Imported]:
    """Write a member of every source that is not there yet; `read` gives the predictions of the i-th."""
    labels = pool.labels("val")
    done = []
    for i, (source, spec) in enumerate(zip(sources, specs, strict=True)):
        converted = read(i)
        [planned] = pool.plan([spec])
        with planned.hold():
            new = check_new(pool, spec, converted.probabilities, source)
            member = Member(planned.path)  # another process may have written it since
            record = _write(member, converted.probabilities, labels, source) if new else member.record
        done.append(Imported(record, source, converted.kinds, new))
    return done


def _column(table: Table, pick: Pick, layout: Layout) -> Array:
    """What a table has in the picked columns: (N, C) numbers, or (N,) class numbers or other numbers."""
    table = table.headed() if pick.headed and table.first is not None else table
    if len(pick.columns) > 1:
        whole = pick.columns == (*range(table.values.shape[1]),)
        return table.values if whole else table.values[:, list(pick.columns)]
    [column] = pick.columns
    if column in table.texts:
        return class_numbers(table.texts[column], layout.class_names, table.where)
    values = table.values[:, column]
    if number_names(layout.class_names) is None or not np.isfinite(values).all() or np.mod(values, 1).any():
        return values  # not all are labels
    return class_numbers(values, layout.class_names, table.where, layout.named)


def _labels(
    tables: _Tables, labels: dict[str, Path], picks: dict[tuple[int | None, str], Pick], layout: Layout
) -> dict[str, Array]:
    true = {}
    for split, file in labels.items():
        table = tables.read(file, split)
        values = _column(table, picks[None, split], layout)
        true[split] = whole_numbers(values, table.where) if values.ndim == 1 else values.argmax(1)
    return true


def _convert(
    tables: _Tables,
    source: Source,
    picks: dict[str, Pick],
    true: dict[str, Array],
    layout: Layout,
    kind: str,
    choices: Callable[[str], Array | None] | None,
) -> Converted:
    """The predictions of a source as probabilities."""
    read = {split: tables.read(file, split) for split, file in source.files.items()}
    return convert(
        {split: _column(table, picks[split], layout) for split, table in read.items()},
        {split: len(true[split]) for split in read},
        len(layout.class_names),
        dict.fromkeys(read, kind),
        {split: table.where for split, table in read.items()},
        choices,
    )


def check_names(sources: Sequence[Source]) -> None:
    """`UserError` where two would have one name."""
    seen: dict[str, Source] = {}
    for source in sources:
        other = seen.setdefault(source.model, source)
        if other is not source:
            where = " and ".join(str(s.files["val"]) for s in (other, source))
            raise UserError(f"{where} would both be called {source.model!r}: rename one")


def check_new(pool: Pool, spec: MemberSpec, predictions: dict[str, Array], source: Source) -> bool:
    """True when the pool has no finished member of this spec, False when it has one with these predictions."""
    member = pool.member_of(spec)
    if not member.record_path.exists() or member.record.status not in FINISHED:
        return True
    record = member.record
    if record.status == "diverged" and not is_finite(predictions):
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


def _write(member: Member, predictions: dict[str, Array], labels: NDArray[np.int64], source: Source) -> Record:
    files = {split: str(path) for split, path in source.files.items()}
    environment = {"imported from": " and ".join(dict.fromkeys(files.values())), "lrensemble": __version__}
    return write_complete(
        member,
        labels=labels,
        history=[],
        probabilities=predictions,
        weights=None,
        environment=environment,
    )
