"""A team for texts: one base by reference, and of every member what it has learnt.

Lower layers that no member changes run once for all of them. Above them adapters of one base are computed as one batch,
whose rows are those of every member: of a few rows a layer's weights are read once, not once a member. Of more, and
where a model's code takes no such batch, what members have learnt is swapped in one after the other.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, vmap

from lrensemble.errors import UserError
from lrensemble.evaluation.network import load_model, model_of
from lrensemble.lengths import TOKENS, alike
from lrensemble.models import build_model
from lrensemble.models.adapters import read_adapter, write_adapter
from lrensemble.models.hf import TextModel
from lrensemble.pool import Member, Named
from lrensemble.selection import team_vote
from lrensemble.tasks.task import Batch
from lrensemble.tasks.text import TextForm, TextTask
from lrensemble.tasks.text.reading import SUFFIXES, TextRow, read_rows
from lrensemble.tasks.text.task import TokenRow

FOLDER = "members"
WHOLE = "weights.safetensors"  # of a member without adapters
INNER = "inner."  # of the names of a `TextModel`'s tensors


@dataclass(frozen=True)
class Learnt:
    """What one member has learnt, and the model that it belongs to; members of equal models share that."""

    id: str
    name: Named
    model: nn.Module
    tensors: Mapping[str, Tensor]


class TextTeam(nn.Module):
    """Batches of a task of texts to probabilities (B, C); by `predict` also texts, and rows of files.

    Parameters
    ----------
    task : without its rows
    learnt : one per member
    weights, temperatures, vote : as in `TeamModule`
    """

    def __init__(
        self,
        form: TextForm,
        task: TextTask,
        learnt: Sequence[Learnt],
        weights: Sequence[float],
        vote: str,
        temperatures: Sequence[float],
    ) -> None:
        super().__init__()
        self.form, self.task, self.learnt, self.vote = form, task, list(learnt), vote
        self.counts, self.temperatures = np.array(weights), np.array(temperatures)
        self.models = nn.ModuleList({id(one.model): one.model for one in learnt}.values())
        self.apart: set[nn.Module] = set()  # models whose members are computed one after the other
        self.eval()

    @torch.inference_mode()
    def forward(self, batch: Batch) -> Tensor:
        scores: dict[int, Tensor] = {}
        for model in self.models:
            own = [i for i, one in enumerate(self.learnt) if one.model is model]
            scores |= zip(own, self._scores(model, [self.learnt[i].tensors for i in own], batch), strict=True)
        p = torch.stack([scores[i] for i in range(len(self.learnt))]).float().softmax(2)
        p = p if "choices" not in batch else torch.where(batch["choices"], p, -0.0)
        return torch.from_numpy(np.asarray(team_vote(p.cpu().numpy(), self.counts, self.vote, self.temperatures)))

    def _scores(self, model: nn.Module, learnt: Sequence[Mapping[str, Tensor]], batch: Batch) -> Tensor:
        """Of members that share a model: (members, B, C)."""
        batch = _with_lower(model, batch)

        def scores(tensors: dict[str, Tensor]) -> Tensor:
            return self.task.scores(lambda **given: functional_call(model, tensors, (), given), batch)

        at_once = min(len(learnt), TOKENS // batch["mask"].numel())  # members: more tokens gain nothing
        if at_once > 1 and isinstance(model, TextModel) and model.lora is not None and model not in self.apart:
            stacked = {name: torch.stack([tensors[name] for tensors in learnt]) for name in learnt[0]}
            with warnings.catch_warnings():  # attention takes members one after the other
                warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
                try:
                    return vmap(scores, chunk_size=at_once)(stacked)
                except RuntimeError:  # what the model does depends on values: experts that are chosen, for example
                    self.apart.add(model)
        return torch.stack([scores(dict(tensors)) for tensors in learnt])

    def predict(self, rows: Sequence[Any]) -> NDArray[np.float32]:
        """Probabilities (N, C) of texts, of questions ``{"question": ..., "choices": [...]}``, or of rows of files."""
        tokens = [row for row in rows if isinstance(row, TokenRow)]
        tokens = self.tokens(rows) if len(tokens) < len(rows) else tokens
        found = np.zeros((len(rows), self.task.num_classes), dtype=np.float32)
        for index in alike([len(row.sequences) * max(map(len, row.sequences)) for row in tokens]):
            found[index] = self(self.task.collate([tokens[i] for i in index])).numpy()
        return found

    def tokens(self, rows: Sequence[Any]) -> list[TokenRow]:
        """Texts or questions as tokens; `UserError` for what is none."""
        named = [row if isinstance(row, Mapping) else {self.form.text: row} for row in rows]
        return self.form.rows([TextRow(row, f"row {i}") for i, row in enumerate(named)], self.task)

    # Files

    def write(self, folder: Path) -> list[str]:
        """Write every member; the names of the files in `folder`. With adapters: as peft writes them."""
        from safetensors.torch import save_file

        for one in self.learnt:
            place = folder / FOLDER / one.id
            if isinstance(one.model, TextModel) and one.model.lora is not None:
                tensors = {name.removeprefix(INNER): value for name, value in one.tensors.items()}
                base = str(one.name.parameters["weights"])
                write_adapter(one.model.inner, one.model.lora, self.task.facts["head"], base, tensors, place)
            else:
                place.mkdir(parents=True)
                save_file({name: value.contiguous() for name, value in one.tensors.items()}, place / WHOLE)
        return sorted(str(path.relative_to(folder)) for path in (folder / FOLDER).rglob("*") if path.is_file())


def team_of_pool(
    form: TextForm,
    task: TextTask,
    members: Mapping[str, Member],
    weights: Sequence[float],
    vote: str,
    temperatures: Sequence[float],
    trust: bool,
) -> TextTeam:
    """The team of some members of a pool."""
    learnt: list[Learnt] = []
    for member in members.values():
        name, trained = model_of(member.record.spec), member.weights()
        shared = next((one.model for one in learnt if one.name == name and member.record.base is not None), None)
        loaded = load_model(member, task.facts, trust=trust)  # checked that they fit
        learnt.append(Learnt(member.id, name, loaded if shared is None else shared, trained))
    return TextTeam(form, task, learnt, weights, vote, temperatures)


def read_team(
    form: TextForm,
    folder: Path,
    class_names: Sequence[str],
    members: Sequence[tuple[str, Named, float, float]],
    vote: str,
    trust: bool,
) -> TextTeam:
    """An exported team: members are (id, model, weight, temperature).

    Raises
    ------
    UserError
        The base or the tokenizer is not at hand, or another one; files are damaged or of other models.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    task = form.task(class_names)
    models: dict[str, nn.Module] = {}
    learnt = []
    for member_id, name, _, _ in members:
        place = folder / FOLDER / member_id
        adapted = not (place / WHOLE).is_file()
        if (key := name.model_dump_json()) not in models:
            with torch.random.fork_rng(devices=[]):
                models[key] = build_model(**name.build, **task.facts, trust=trust)
        model = models[key]
        try:
            if adapted and isinstance(model, TextModel):
                tensors = {INNER + key: value for key, value in read_adapter(model.inner, place).items()}
            else:
                tensors = load_file(place / WHOLE)
        except (OSError, SafetensorError) as error:
            raise UserError(f"{place}: cut off or damaged ({error}): export again") from None
        wanted = {key: value.shape for key, value in model.state_dict().items() if key in tensors}
        if wanted != {key: value.shape for key, value in tensors.items()}:
            raise UserError(f"{place}: its weights do not fit the model {name} as it is built now")
        learnt.append(Learnt(member_id, name, model, tensors))
    return TextTeam(form, task, learnt, [m[2] for m in members], vote, [m[3] for m in members])


def _with_lower(model: nn.Module, batch: Batch) -> Batch:
    """A batch with what the lower layers of a model make of it, where they are frozen."""
    if not isinstance(model, TextModel) or model.below is None:
        return batch
    return {**batch, "lower": model.lower(batch["ids"], batch["mask"])}


@dataclass(frozen=True)
class TextReader:
    """How files become rows of tokens."""

    team: TextTeam

    def find(self, folder: Path) -> list[Path]:
        """The files in a folder that can be read."""
        return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)

    def read(self, path: Path) -> list[TokenRow]:
        """All rows of a file; `UserError` for what is wrong."""
        return self.team.form.rows(read_rows(path), self.team.task)

    def rows(self, found: Sequence[Any]) -> list[TokenRow]:
        """The same of texts, or of objects with the columns' names."""
        return self.team.tokens(found)
