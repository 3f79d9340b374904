"""A pool on disk: members, their predictions on the same rows, and the teams chosen from them."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrensemble.choices import guessing
from lrensemble.errors import MachineError, UserError, did_you_mean
from lrensemble.pool.files import Once, clear_disk_errors, now, read_model, write_array, write_sealed
from lrensemble.pool.labels import PREDICTED, checked_choices, checked_labels, is_unfinished, labels_hash, read_labels
from lrensemble.pool.links import POOL, folder_at, no_pool
from lrensemble.pool.member import Member, count_statuses
from lrensemble.pool.predictions import Predictions
from lrensemble.pool.record import FINISHED, Header, MemberSpec, Record, loop_spec
from lrensemble.pool.shown import members_frame, pool_html
from lrensemble.pool.team import LONGEST_NAME, Team, is_name
from lrensemble.version import __version__

if TYPE_CHECKING:
    from lrensemble.policies import Policy
    from lrensemble.pool.recorder import Recorder

FORMAT = 1
CONTROL = "control"  # folder of the seeds-only pool inside the pool


def by_accuracy(member: Member) -> tuple[float, float, str]:
    """Where a member stands: by validation accuracy (diverged: none), of equals by the lower NLL, then the id."""
    val = member.record.metrics.get("val", {})
    return -(val.get("accuracy", -1.0) or 0.0), val.get("nll") or 0.0, member.id


class Pool:
    """All members of one task.

    Open an existing pool with ``Pool.open(path)``. Opening reads ``pool.json`` alone: it works however many members
    are unfinished or damaged. A member that is damaged is named in a warning, and the others are used.

    Attributes
    ----------
    left_out : id of every member that was found damaged until now -> why
    """

    def __init__(self, path: Path, task: Header) -> None:
        self.path = path
        self.task = task
        self.left_out: dict[str, str] = {}
        self._once = Once()

    _repr_html_, to_pandas = pool_html, members_frame

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open the pool in the folder `path`; raise `UserError` when there is none."""
        path = Path(path)
        if not (path / POOL).is_file():
            raise no_pool(path)
        task = read_model(Header, path / POOL, "copy it from where the pool was made")
        if task.format > FORMAT:
            raise UserError(f"{path} was written by a newer lrensemble (format {task.format}; this one knows {FORMAT})")
        return cls(path, task)

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        labels: Mapping[str, ArrayLike],
        name: str | None = None,
        class_names: Sequence[str] | None = None,
        data: dict[str, Any] | None = None,
        data_fingerprint: str | None = None,
        input_shape: Sequence[int] = (),
        train_rows: int = 0,
        normalisation: dict[str, list[float]] | None = None,
        columns: Sequence[Any] = (),
        choices: Mapping[str, ArrayLike] | None = None,
        documents: Mapping[str, NDArray[np.int64]] | None = None,
    ) -> Self:
        """Create a pool, or open the one that is there; raise `UserError` if that holds other data.

        Parameters
        ----------
        labels : dict
            All that a pool for your own loops or imports needs: of ``val`` and ``test`` (N,) integers from 0, or names
            of classes, in the row order of all predictions to come.
        class_names : sequence of str, optional
            Default: as many classes as the labels have, by their numbers.
        data : dict, optional
            Where the data came from, for people and for later commands; ``name`` at least.
        data_fingerprint : str, optional
            Equal only for the same rows in the same order: predictions of one fingerprint can be compared. Default:
            of the labels.
        choices : dict, optional
            Multiple choice: of ``val`` and ``test`` (N, C) truth values, which choices a row has; others are given 0.
        documents : dict, optional
            Of ``val`` and ``test`` (N, 3) what rows are to lm-evaluation-harness (`lrensemble.pool.samples.Samples`).
        """
        path = Path(path)
        arrays, class_names = checked_labels(labels, class_names)
        arrays |= checked_choices(choices, arrays, len(class_names)) if choices else {}
        arrays |= {f"{split}.documents": array for split, array in (documents or {}).items()}
        hashes = {split: labels_hash(array) for split, array in arrays.items()}
        if data_fingerprint is None:
            data_fingerprint = hashlib.sha256(repr((hashes, tuple(class_names))).encode()).hexdigest()[:32]
        if (path / POOL).exists():
            pool = cls.open(path)
            if pool.task.data_fingerprint != data_fingerprint:
                raise UserError(
                    f"{path} is a pool for other data or another validation split (fingerprint "
                    f"{pool.task.data_fingerprint[:8]}, this is {data_fingerprint[:8]}): choose another folder for it"
                )
            return pool
        if path.exists() and not is_unfinished(path):
            raise UserError(f"{path} exists and is not a pool: choose another folder for it")
        with clear_disk_errors(path):
            path.mkdir(parents=True, exist_ok=True)
        for file, array in arrays.items():
            write_array(path / "labels" / f"{file}.npy", array)
        task = Header(
            name=name or path.name,
            data=data or {"name": name or path.name},
            data_fingerprint=data_fingerprint,
            class_names=tuple(class_names),
            input_shape=tuple(input_shape),
            rows={"train": train_rows, **{split: len(arrays[split]) for split in PREDICTED}},
            normalisation=normalisation or {},
            columns=tuple(columns),
            labels_sha256=hashes,
            created=now(),
            version=__version__,
        )
        write_sealed(path / POOL, task.model_dump(mode="json"))
        return cls(path, task)

    # Members

    @property
    def members(self) -> list[Member]:
        """By id: with a record, whatever its status, or a link that leads to none (a disk not mounted), damaged."""
        folder = folder_at(self.path / "members")
        return [
            self._member(path)
            for path in (sorted(folder.iterdir()) if folder else ())
            if path.is_symlink() or os.path.lexists(path / "record.json")
        ]

    def _member(self, path: Path) -> Member:
        """The one that was asked for before, so that its files are read once; another where its record has changed."""
        return self._once(path / "record.json", lambda: Member(path))

    def find(self, member_id: str) -> Member:
        """The member whose id is, or starts with, `member_id`."""
        members = self.members
        found = [member for member in members if member.id.startswith(member_id)]
        if len(found) == 1:
            return found[0]
        why = "is ambiguous" if found else "is not in the pool"
        raise UserError(f"member {member_id!r} {why}: {did_you_mean(member_id, [m.id for m in found or members])}")

    def member_of(self, spec: MemberSpec) -> Member:
        """The member of a spec, whether it exists yet or not."""
        return self._member(self.path / "members" / spec.id(self.task.data_fingerprint))

    @property
    def readable(self) -> list[Member]:
        """Every member whose record can be read and is of the pool's data; the others are left out with a warning."""

        def check(member: Member) -> None:
            if member.record.data_fingerprint != self.task.data_fingerprint:
                raise UserError(
                    f"{member.path}: its predictions are for other data or another order of rows (fingerprint "
                    f"{member.record.data_fingerprint[:8]}, the pool's is {self.task.data_fingerprint[:8]}): "
                    "move the folder out of the pool"
                )

        return self.without_damaged(self.members, check)

    @property
    def complete(self) -> list[Member]:
        """The `readable` members that can be in a team, in the order of the ids."""
        return [member for member in self.readable if member.record.status == "complete"]

    def without_damaged(self, members: Sequence[Member], check: Callable[[Member], object]) -> list[Member]:
        """Those that `check` raises no `UserError` for; the others are named once, in one warning."""
        left_out = {}
        for member in members:
            try:
                check(member)
            except MachineError:
                raise
            except UserError as error:
                left_out[member.id] = str(error)
        if new := {member_id: why for member_id, why in left_out.items() if member_id not in self.left_out}:
            self.left_out |= new
            warnings.warn(f"left out of {self.path}: {'; '.join(new.values())}", stacklevel=1)
        return [member for member in members if member.id not in left_out]

    def whole(self, members: Sequence[Member], *splits: str) -> list[Member]:
        """Those of `members` whose predictions of `splits` are whole; members that are not complete have none."""
        names = [f"predictions/{split}.npy" for split in splits]
        return self.without_damaged(
            members, lambda m: m.record.status == "complete" and [m.check_file(name) for name in names]
        )

    def usable(self, *splits: str) -> list[Member]:
        """The `complete` members whose predictions of `splits` are `whole`, or a `UserError` that says why none is."""
        if members := self.whole(self.complete, *splits):
            return members
        what = count_statuses(self.members, self.left_out) or "it is empty"
        if {member.status for member in self.members} == {"diverged"}:
            what += ": lower the learning rates"
        raise UserError(f"{self.path} has no complete member ({what})")

    def best_single(self, members: Sequence[Member] | None = None) -> Member:
        """The one to beat: of `members` (default: `usable`) the highest validation accuracy (ties: the lower NLL).

        Accuracy, because that is how people choose the run they keep; it makes the baseline as strong as it can be.
        """
        return min(self.usable() if members is None else members, key=by_accuracy)

    @property
    def runs(self) -> list[Member]:
        """Finished runs of our trainer: no snapshots or averages of a run, nothing that a user trained or imported."""
        return [
            member
            for member in self.readable
            if (it := member.record).status in FINISHED and it.parent is None and it.spec.source == "training"
        ]

    def best_run(self) -> Member | None:
        """The best single model among the complete `runs`, if there is one."""
        return min((m for m in self.runs if m.record.status == "complete"), key=by_accuracy, default=None)

    @property
    def control(self) -> Pool | None:
        """The seeds-only pool that was trained beside this one, if there is one; with a warning where it is damaged."""
        path = folder_at(self.path / CONTROL)
        if path is None or not os.path.lexists(path / POOL):
            return None
        try:
            return self._once(path / POOL, lambda: Pool.open(path))
        except MachineError:
            raise
        except UserError as error:
            warnings.warn(f"the seeds-only control is left out: {error}", stacklevel=1)
            return None

    def plan(self, specs: Iterable[MemberSpec]) -> list[Member]:
        """Add members that are to be trained; those that are there stay as they are.

        Raises `UserError` for one that is there under the same id and is another: nobody asked for its spec.
        """
        members, data = [], self.task.data_fingerprint
        for spec in specs:
            member = self.member_of(spec)
            if not member.record_path.exists():
                # Another process may be planning, even training, the same member.
                with member.hold():
                    if not member.record_path.exists():
                        member.write_record(Record.planned(spec, data))
            if member.record.spec.identity(member.record.data_fingerprint) != spec.identity(data):
                raise UserError(f"{member.path} is another member under the same id: move it out of the pool")
            members.append(member)
        return members

    def member(
        self,
        *,
        model: str | dict[str, Any],
        policy: str | Policy | None = None,
        seed: int = 0,
        optimizer: str | dict[str, Any] | None = None,
        **notes: Any,
    ) -> AbstractContextManager[Recorder]:
        """Train a member in your own loop: ``with pool.member(policy=..., seed=..., model="my net") as member:``.

        The body trains whatever it likes, takes ``member.scheduler(optimizer, ...)``, calls ``member.log(...)`` as it
        goes, and gives ``member.weights(model)`` and ``member.predict(val=..., test=...)`` at the end. An exception
        makes the member failed with its traceback (and goes on to the caller); predictions that are not finite make
        it diverged. What identifies the member is all of the arguments: the same again finds it
        ``member.finished``, and the body should skip the work.

        Parameters
        ----------
        model, optimizer : str or dict
            For people: a name, or ``{"name": ..., parameters}``.
        policy : str or Policy, optional
        notes : JSON values
            Whatever else distinguishes this member: batch size, augmentation, ...

        Raises
        ------
        UserError
            At the end: no predictions. At once: a policy that cannot be read.
        """
        from lrensemble.pool.recorder import record_member

        spec = loop_spec("loop", model=model, policy=policy, seed=seed, optimizer=optimizer, notes=notes)
        return record_member(self, spec)

    # Arrays

    def labels(self, split: str) -> NDArray[np.int64]:
        """Labels of the rows that the predictions are for: (N,)."""
        self._check_split(split)
        return cast("NDArray[np.int64]", self._labels(split, self.task.rows[split]))

    def choices(self, split: str) -> NDArray[np.bool] | None:
        """Which classes each row has: (N, C) truth values; None where all rows have all."""
        self._check_split(split)
        return self._labels(f"{split}.choices", self.task.rows[split], len(self.task.class_names))

    def documents(self, split: str) -> NDArray[np.int64] | None:
        """What lm-evaluation-harness knows rows by, (N, 3) as `create` has it; None for rows of others."""
        return self._labels(f"{split}.documents", self.task.rows[split], 3)

    def chance(self, split: str) -> float:
        """Accuracy of guessing among the classes that each row has."""
        return guessing(len(self.task.class_names), self.choices(split))

    def _labels(self, name: str, *shape: int) -> NDArray[Any] | None:
        if name not in self.task.labels_sha256:
            return None
        path = self.path / "labels" / f"{name}.npy"
        return self._once(path, lambda: read_labels(path, shape, self.task.labels_sha256[name]))

    def predictions(self, split: str, members: Sequence[Member] | None = None) -> Predictions:
        """Probabilities of `members` (default: all complete ones): (M, N, C), memory-mapped.

        Every file is checked against its record first. ``np.asarray`` brings them into memory.
        """
        self._check_split(split)
        shape = (self.task.rows[split], len(self.task.class_names))
        name = f"predictions/{split}.npy"
        members = self.complete if members is None else members
        return Predictions((member.check_file(name) for member in members), shape, self.choices(split))

    def _check_split(self, split: str) -> None:
        if split not in PREDICTED:
            raise UserError(f"there are no predictions for split {split!r}: {did_you_mean(split, PREDICTED)}")

    # Teams

    @property
    def teams(self) -> list[Team]:
        """The teams that were selected, by name."""
        return [self.team(name) for name in self.team_names]

    @property
    def team_names(self) -> list[str]:
        folder = folder_at(self.path / "teams")
        return sorted(path.stem for path in folder.glob("*.json")) if folder else []

    def team(self, name: str) -> Team:
        """The team called `name`; raise `UserError` with the nearest name."""
        if name not in self.team_names:
            raise UserError(f"{self.path} has no team {name!r}: {did_you_mean(name, self.team_names)}")
        return Team.read(self.path / "teams" / f"{name}.json")

    def members_of(self, team: Team, *splits: str) -> dict[str, Member]:
        """A team's members by their ids, with whole predictions of `splits`.

        `UserError` where it was selected on other data, or a member is damaged or gone.
        """
        if team.data_fingerprint != self.task.data_fingerprint:
            raise UserError(f"team {team.name} was selected on other data than {self.path} holds: select again")
        known = {member.id: member for member in self.usable(*splits)}
        for missing in (member_id for member_id in team.members if member_id not in known):
            if missing in self.left_out:
                raise UserError(f"team {team.name} needs member {missing}: {self.left_out[missing]}")
            raise UserError(
                f"member {missing} of team {team.name} is not in {self.path} any more: select again. "
                f"{did_you_mean(missing, known)}"
            )
        return {member_id: known[member_id] for member_id in team.members}

    def save_team(self, team: Team) -> None:
        """Write a team under its name; `UserError` for what is no name."""
        write_sealed(self.file_of_team("teams", team.name), team.model_dump(mode="json"))

    def file_of_team(self, folder: str, name: str) -> Path:
        """Where something about a team is kept; `UserError` for what is no name of a team."""
        if not is_name(name):
            raise UserError(
                f"{name!r} is no name for a team: a letter or a digit first, then anything that prints but / \\ and :, "
                f"at most {LONGEST_NAME} characters"
            )
        return self.path / folder / f"{name}.json"
