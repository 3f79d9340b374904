"""Export a team: write it beside its place, check every row there, and only then let the folder appear."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lrensemble.array import Array
from lrensemble.errors import UserError, did_you_mean
from lrensemble.evaluation.network import load_data, model_of, row_key, rows_by_rounding
from lrensemble.evaluation.stored import read_evaluation
from lrensemble.export.card import NAME, Card, Check, Frames, MemberCard, Preprocessing
from lrensemble.export.ensemble import Ensemble
from lrensemble.export.formats import FILES, TEXTS, write_module
from lrensemble.export.latency import text_timings, timings
from lrensemble.export.module import TeamModule
from lrensemble.export.nir_file import NIR, check_spiking, read_members, write_members
from lrensemble.export.readme import readme
from lrensemble.export.swap import new_folder
from lrensemble.export.team import team_module, voters
from lrensemble.export.texts import TextTeam, team_of_pool
from lrensemble.pool import Member, Pool, Team
from lrensemble.pool.files import clear_disk_errors, now, write_atomic, write_json
from lrensemble.pool.given import given_pool
from lrensemble.pool.links import refuse_links
from lrensemble.pool.record import FileInfo
from lrensemble.pool.timings import write_timings
from lrensemble.renamed import renamed
from lrensemble.selection import team_vote
from lrensemble.tasks import Images, Task
from lrensemble.tasks.events import EventTask
from lrensemble.tasks.row_arrays import CHUNK, pieces
from lrensemble.tasks.rows import raw_batches
from lrensemble.tasks.text import TEXTS as TASKS_OF_TEXTS
from lrensemble.tasks.text import TextForm, TextTask
from lrensemble.version import __version__

TOLERANCE = 1e-5
THRESHOLDS = (0.5, 0.8, 0.9, 0.95, 0.99)
JUMPING = ("plurality", "majority", "borda")  # votes in which rounding can turn a tie, and with it a whole ballot
UNDECIDED = 1e-4  # relative difference of two probabilities that rounding may turn round ...
FEW = 0.01  # ... on so small a share of the rows


@renamed(say="tell")
def export_team(
    pool: Pool | str | Path,
    team: Team | str,
    out: str | Path,
    *,
    formats: Sequence[str] = ("torch",),
    force: bool = False,
    check: bool = True,
    benchmark: bool = True,
    tolerance: float = TOLERANCE,
    trust: bool = False,
    tell: Callable[[str], object] = lambda text: None,
) -> Card:
    """Write a team as a folder that predicts by itself, and return its card.

    Every file is read back and run on all test rows; the probabilities must be those that the pool's stored test
    predictions give under the team's vote, on every row (labels are not looked at). Else nothing is left behind.

    Parameters
    ----------
    formats : names in `FILES`, and ``nir``: a graph of every member, of spiking networks
    force : replace an exported team that is there
    check : False leaves the comparison with the stored predictions out. Where the data set is not at hand it is left
        out, too. Either is said in the card, and the files are compared with the module in memory on random rows.
    benchmark : measure milliseconds per batch, beside the best single member
    tolerance : largest difference of a probability
    trust : models ``package.module:callable`` that the pool's records name may be imported and called
    tell : is told what is going on, a line at a time

    Raises
    ------
    UserError
        Unknown team or format, members gone or without weights, the folder is taken, a model that cannot be
        exported, or outputs that differ.
    """
    pool = given_pool(pool)
    if pool.task.data["name"] == "documents":
        raise UserError("a team of documents gives probabilities of tokens that are written already: nothing to export")
    known = (TEXTS,) if (texts := pool.task.data["name"] in TASKS_OF_TEXTS) else (*FILES, NIR)
    formats = (TEXTS,) if texts and tuple(formats) == ("torch",) else formats  # what is written if nothing is said
    for format in formats:
        if format not in known:
            raise UserError(f"unknown format {format!r}: {did_you_mean(format, known)}")
    formats = [format for format in known if format in formats]
    team = pool.team(team) if isinstance(team, str) else team
    members = voters(pool, team)
    out = Path(out)
    _check_place(out, force)
    data, note = _data(pool, trust)
    module = _text_team(pool, team, members, trust) if texts else team_module(pool, team, trust=trust, task=data)
    if note:
        tell(note)
    test, why_none = read_evaluation(pool, team)
    if why_none:
        tell(f"no test numbers: {why_none}")
    if "safetensors" in formats and not pool.task.normalisation:
        raise UserError(
            f"rows become scores by methods of {pool.task.data['name']}: --as torch or onnx holds these too"
        )
    if NIR in formats and isinstance(module, TeamModule):
        check_spiking(module, members)
    card = _card(pool, team, members, _preprocessing(pool, module, data), test)
    with clear_disk_errors(out), new_folder(out) as temporary:
        if isinstance(module, TextTeam):
            names = module.write(temporary)
        else:
            names = _write_files(module, formats, card, temporary, tell)
        card = card.model_copy(update={"files": {name: FileInfo.of(temporary / name) for name in names}})
        write_json(temporary / NAME, card.model_dump(mode="json"))  # what reading it back for the checks needs
        checks = {}
        for format in formats:
            tell(f"checking {format}")
            if format == NIR and isinstance(module, TeamModule):
                exported = Ensemble(read_members(module, members, temporary), card.class_names, module.shape)
            else:
                exported = Ensemble.load(temporary, format=format, trust=trust)
            if data is not None and check:
                checks[format] = _check_rows(pool, team, members, data, exported, tolerance)
            elif isinstance(module, TextTeam):
                checks[format] = Check(what=f"read back ({note or '--no-check'})", rows=0, largest_difference=0.0)
            else:
                checks[format] = _check_random(module, exported, card, note or "--no-check", tolerance)
        card = card.model_copy(update={"checks": checks})
        if benchmark and formats[0] != NIR:
            tell("measuring")
            if not isinstance(module, TextTeam):
                found = timings(pool, temporary, next(iter(checks)), trust, data)
            else:
                single = _single_text(pool, module, trust)
                found = text_timings(module, single, data) if isinstance(data, TextTask) else ()
            card = card.model_copy(update={"timings": found})
        write_json(temporary / NAME, card.model_dump(mode="json"))
        text = readme(card).encode()
        write_atomic(temporary / "README.md", lambda file: file.write(text))
    if card.timings:
        try:
            write_timings(pool, team, card.timings)
        except (UserError, OSError) as error:  # a pool to read only: the card has them
            tell(f"the report of {pool.path} will not show the times: {error}")
    return card


def _write_files(
    module: TeamModule, formats: Sequence[str], card: Card, folder: Path, tell: Callable[[str], object]
) -> list[str]:
    names = []
    for format in formats:
        tell(f"writing {format}")
        if format == NIR:
            names += write_members(module, card, folder)
        else:
            names.append(FILES[format])
            write_module(module, format, folder / FILES[format])
    return names


def _check_place(out: Path, force: bool) -> None:
    if not out.name:
        raise UserError(f"{out} is no name for a new folder: -o team, for example")
    refuse_links(out)
    if out.is_file():
        raise UserError(f"{out} is a file: choose another folder for the team")
    if out.is_dir() and any(out.iterdir()):
        if not (out / NAME).is_file():
            raise UserError(f"{out} exists and is no exported team: choose another folder")
        if not force:
            raise UserError(f"{out} holds an exported team already: --force replaces it")


def _data(pool: Pool, trust: bool) -> tuple[Task | None, str]:
    try:
        return load_data(pool, trust=trust), ""
    except UserError as error:
        return None, f"not checked against the stored predictions: {error}"


# The card


def _card(
    pool: Pool, team: Team, members: dict[str, Member], preprocessing: Preprocessing, test: dict[str, Any] | None
) -> Card:
    task, total = pool.task, sum(team.members[i] for i in members)
    return Card(
        name=team.name,
        pool=pool.path.name,
        task=task.name,
        data=task.data,
        data_fingerprint=task.data_fingerprint,
        class_names=task.class_names,
        preprocessing=preprocessing,
        vote=team.vote,
        choices=pool.choices("test") is not None,
        chance={split: pool.chance(split) for split in ("val", "test")},
        members=tuple(
            _member(member, team.members[i] / total, team.temperatures.get(i, 1.0)) for i, member in members.items()
        ),
        selector=team.selector,
        teams_tried=team.teams_tried,
        validation=team.validation,
        validation_rows=team.validation_rows,
        abstention=_abstention(pool, team, members),
        test=test and {key: test[key] for key in ("rows", "score", "verdict")},
        single=_member(pool.best_single(), 1.0, 1.0),
        created=now(),
        version=__version__,
        torch=metadata.version("torch"),
    )


def _member(member: Member, weight: float, temperature: float) -> MemberCard:
    record = member.record
    return MemberCard(
        id=member.id,
        label=record.spec.label,
        model=model_of(record.spec),
        seed=record.spec.seed,
        weight=weight,
        temperature=temperature,
        metrics=record.val,
        parameters=record.costs.get("parameters"),
        flops=record.costs.get("flops"),
    )


def _text_team(pool: Pool, team: Team, members: dict[str, Member], trust: bool) -> TextTeam:
    form, names = TextForm.of(pool.task.data), pool.task.class_names
    weights, temperatures = zip(*((team.members[i], team.temperatures.get(i, 1.0)) for i in members), strict=True)
    return team_of_pool(form, form.task(names), members, weights, team.vote, temperatures, trust)


def _single_text(pool: Pool, team: TextTeam, trust: bool) -> TextTeam:
    best = pool.best_single()
    return team_of_pool(team.form, team.task, {best.id: best}, [1.0], "soft", [1.0], trust)


def _preprocessing(pool: Pool, module: TeamModule | TextTeam, data: Task | None) -> Preprocessing:
    task = pool.task
    if isinstance(module, TextTeam):
        return Preprocessing(input_shape=(), mean=(0.0,), std=(1.0,), text=module.form)
    folder = task.data["name"] == "folder"  # tasks/folder.py reads its images so
    values: dict[str, Any] = {}
    if isinstance(data, Images):
        images = data.train.images
        low = min(float(piece.min()) for piece in pieces(images))
        values = {"dtype": str(images.dtype), "range": (low, max(float(piece.max()) for piece in pieces(images)))}
    elif isinstance(data, EventTask):
        values = {"frames": Frames.model_validate(data.frames)}
    return Preprocessing(
        input_shape=module.shape,
        convert=folder,
        resize=folder and task.data.get("size") is not None,
        columns=task.columns,
        mean=tuple(task.normalisation.get("mean", module.mean.flatten().tolist())),
        std=tuple(task.normalisation.get("std", module.std.flatten().tolist())),
        **values,
    )


def _abstention(pool: Pool, team: Team, members: dict[str, Member]) -> tuple[tuple[float, float, float | None], ...]:
    vote = _stored(pool, team, members, "val")
    confidence, right = vote.max(1), vote.argmax(1) == pool.labels("val")
    answered = [(threshold, confidence >= threshold) for threshold in THRESHOLDS]
    return tuple(
        (threshold, float(rows.mean()), float(right[rows].mean()) if rows.any() else None)
        for threshold, rows in answered
    )


# The checks


def _stored(pool: Pool, team: Team, members: dict[str, Member], split: str) -> Array:
    """The team's vote from the pool's stored predictions: (N, C)."""
    temperatures = np.array([team.temperatures.get(i, 1.0) for i in members]) if team.temperatures else None
    predictions = pool.predictions(split, list(members.values()))
    return team_vote(predictions, np.array([team.members[i] for i in members]), team.vote, temperatures)


def _check_rows(
    pool: Pool, team: Team, members: dict[str, Member], data: Task, exported: Ensemble, tolerance: float
) -> Check:
    parts = [exported.predict_proba(rows) for rows in _test_rows(data)]
    rows = np.abs(np.concatenate(parts) - _stored(pool, team, members, "test")).max(1)
    wrong = ~(rows <= tolerance)  # NaN is wrong
    undecided = np.zeros_like(wrong)
    most = 0.0
    if wrong.any() and isinstance(data, EventTask):
        undecided, most = wrong & ~np.isnan(rows), rows_by_rounding(data, len(rows))
    elif wrong.any() and team.vote in JUMPING:
        undecided = wrong & _undecided(pool.predictions("test", list(members.values())))
        most = FEW * len(rows)
    if undecided.sum() > most:
        undecided[:] = False
    if (wrong & ~undecided).any():
        devices = sorted({str(member.record.environment.get("device")) for member in members.values()})
        raise UserError(
            f"the exported team's outputs differ from the stored predictions by up to {rows.max():.1e} on "
            f"{int(wrong.sum()):,} of {len(rows):,} test rows, more than {tolerance:g}. They were computed on "
            f"{', '.join(devices)}, the check on this CPU: --tolerance allows more; nothing was written"
        )
    rest = rows[~undecided]
    return Check(
        what="compared with the pool's stored predictions of the test split",
        rows=len(rows),
        largest_difference=float(rest.max(initial=0.0)),
        undecided=int(undecided.sum()),
    )


def _test_rows(data: Task) -> Iterator[Any]:
    """The raw rows of the test split, as a team takes them, some at a time."""
    count = data.rows("test")
    for start in range(0, count, CHUNK):
        chunk = np.arange(start, min(start + CHUNK, count))
        if isinstance(data, TextTask):
            yield [data.rows_of["test"][int(i)] for i in chunk]
        else:
            yield raw_batches(data, "test")[chunk][row_key(data)]


def _undecided(predictions: Any) -> NDArray[np.bool_]:
    """Rows on which a member gives two classes the same probability up to rounding: (N,)."""
    found = np.zeros(predictions.shape[1], dtype=bool)
    for prediction in predictions:
        exists = np.where(np.signbit(prediction), np.nan, prediction)  # sorted to the end, and close to nothing
        ordered = np.sort(exists.astype(np.float64), axis=1)
        close = np.diff(ordered, axis=1) <= UNDECIDED * ordered[:, 1:] + 1e-37  # below: no precision left in float32
        found |= close.any(1)
    return found


def _check_random(module: TeamModule, exported: Ensemble, card: Card, why: str, tolerance: float) -> Check:
    p = card.preprocessing
    noise = np.random.default_rng(0).standard_normal((100, *p.input_shape))
    mean, std = (np.array(values).reshape(-1, *[1] * (len(p.input_shape) - 1)) for values in (p.mean, p.std))
    rows = (noise * std + mean).astype(np.float32)
    with torch.inference_mode():
        expected = module(torch.from_numpy(rows)).numpy()
        found = exported.module(torch.from_numpy(rows)).numpy()
    largest = float(np.abs(found - expected).max())
    if not largest <= tolerance:
        raise UserError(f"the exported team's outputs differ from the module's by {largest:.1e}; nothing was written")
    return Check(what=f"random rows, compared with the module in memory ({why})", rows=100, largest_difference=largest)
