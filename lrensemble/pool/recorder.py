"""A member that the user's own loop trains: any PyTorch, Lightning or Hugging Face loop fills a pool."""

from __future__ import annotations

import contextlib
import math
import time
import traceback
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from lrensemble.errors import UserError
from lrensemble.policies import Policy
from lrensemble.pool.convert import convert
from lrensemble.pool.member import Member
from lrensemble.pool.record import FINISHED, MemberSpec
from lrensemble.pool.writing import environment, write_complete, write_end, write_history

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from lrensemble.policies.scheduler import PolicyLR
    from lrensemble.pool.pool import Pool

SHOW_SECONDS = 1.0  # between two writes of a history that is still growing


class Recorder:
    """What `Pool.member` gives to the body of its ``with``.

    Attributes
    ----------
    id : str
    finished : bool
        True when an earlier run has finished this member: skip the training, nothing will be written.
    """

    def __init__(self, pool: Pool, member: Member) -> None:
        self._pool, self._member = pool, member
        self.id = member.id
        self.finished = member.record.status in FINISHED
        self._history: list[dict[str, Any]] = []
        self._given: dict[str, tuple[Any, str]] = {}
        self._probabilities: dict[str, Any] = {}
        self._weights: dict[str, Any] | None = None
        self._costs: dict[str, int | float] = {}
        self._controlled: dict[str, Any] = {}
        self._start = time.perf_counter()
        self._shown = self._start

    @property
    def policy(self) -> Policy:
        """The member's policy, for a trainer that makes the scheduler itself (`lrensemble.integrations`)."""
        text = self._member.record.spec.policy
        if text is None:
            raise UserError("this member has no policy: give one to pool.member(policy=...)")
        return Policy.parse(text)

    def scheduler(self, optimizer: Optimizer, **options: Any) -> PolicyLR:
        """The member's policy for this optimizer: call ``step()`` after every optimizer step.

        `options` as of `Policy.scheduler`: total_steps for shares of the budget (``l=50%``), steps_per_epoch for ``e``.
        """
        return self.policy.scheduler(optimizer, **options)

    def log(self, **values: float) -> None:
        """Add a line to the history; use step, epoch, lr, train_loss, train_accuracy, val_loss, val_accuracy."""
        seconds = time.perf_counter() - self._start
        line = {name: _number(name, value) for name, value in values.items()}
        self._history.append({**line, "seconds": round(seconds, 3)})
        if not self.finished and time.perf_counter() - self._shown > SHOW_SECONDS:
            self._show()

    def rewind(self, step: int) -> None:
        """Training goes on from a checkpoint of this step: lines of later ones were of what is trained again."""
        self._history = [line for line in self._history if line.get("step", 0) <= step]

    def predict(self, *, kind: str = "auto", **splits: Any) -> None:
        """Take predictions of splits: ``predict(val=..., test=...)``, tensors or arrays in the pool's row order.

        (N, C) probabilities or logits, or (N,) labels; `kind` as in `convert`. Without test predictions there would be
        nothing to evaluate: both splits are needed by the end. What they are is decided for both together.
        """
        for split, values in splits.items():
            self._pool.labels(split)
            array = values.detach().float().cpu().numpy() if hasattr(values, "detach") else values
            self._given[split] = array, kind
        converted = convert(
            {split: array for split, (array, _) in self._given.items()},
            {split: self._pool.task.rows[split] for split in self._given},
            len(self._pool.task.class_names),
            {split: kind for split, (_, kind) in self._given.items()},
            {split: f"predictions of {split}" for split in self._given},
            self._pool.choices,
        )
        self._probabilities = converted.probabilities

    def weights(self, model: nn.Module | Mapping[str, Any]) -> None:
        """Keep the weights of a module, or a state dict, as ``weights.safetensors``."""
        state = model if isinstance(model, Mapping) else model.state_dict()
        for name, value in state.items():
            if not hasattr(value, "detach"):
                raise UserError(f"weights: {name!r} is of type {type(value).__name__}, a state dict holds tensors")
        self._weights = {name: value.detach().cpu().clone().contiguous() for name, value in state.items()}

    def costs(self, **values: int | float) -> None:
        """Add costs: steps, parameters, flops (forward, per sample), ... The seconds are measured."""
        for name, value in values.items():
            number = _number(name, value)
            if not math.isfinite(number):
                raise UserError(f"{name} = {number} is no cost: a finite number is needed")
            self._costs[name] = number

    def tuned(self, trace: str | None, report: Mapping[str, Any]) -> None:
        """Record what a controller chose and measured: ``tuned(lr.trace, lr.report)`` of a `TunedLR`."""
        control = {key: value for key, value in report.items() if key != "seconds"}
        self._controlled = {"trace": trace, "control": control or None}
        if "seconds" in report:
            self.costs(probe_seconds=round(report["seconds"], 3))

    def _show(self) -> None:
        if self._history:
            write_history(self._member, self._history, sync=False)
        self._shown = time.perf_counter()

    def _finish(self) -> None:
        missing = [split for split in ("val", "test") if split not in self._probabilities]
        if missing:
            raise UserError(
                f"member {self.id} ended without predictions of {' and '.join(missing)}: "
                "call member.predict(val=..., test=...) before the end of the with block"
            )
        seconds = round(time.perf_counter() - self._start, 3)
        write_complete(
            self._member,
            labels=self._pool.labels("val"),
            history=self._history,
            probabilities=self._probabilities,
            weights=self._weights,
            costs={"seconds": seconds, **self._costs},
            environment=environment(),
            **self._controlled,
        )

    def _fail(self, error: Exception) -> None:
        write_end(
            self._member,
            history=self._history,
            status="failed",
            reason=f"{type(error).__name__}: {error}",
            traceback=traceback.format_exc(),
            environment=environment(),
        )


@contextlib.contextmanager
def record_member(pool: Pool, spec: MemberSpec) -> Iterator[Recorder]:
    """Plan the member, hold it while the body runs, and finish it at the end (see `Pool.member`)."""
    [member] = pool.plan([spec])
    finished = member.record.status in FINISHED  # nothing will be written: it may be behind a link
    with contextlib.nullcontext() if finished else member.hold():
        recorder = Recorder(pool, Member(member.path))
        try:
            yield recorder
        except Exception as error:
            if not recorder.finished:
                recorder._fail(error)
            raise
        except BaseException:  # Ctrl-C: the member stays planned, and its history is there to look at
            if not recorder.finished:
                recorder._show()
            raise
        if not recorder.finished:
            recorder._finish()


def _number(name: str, value: Any) -> float:
    """A plain number of a NumPy scalar or a tensor of one; at once, or the training would be lost at its end."""
    try:
        number = value.item() if hasattr(value, "item") else value
    except (ValueError, RuntimeError):  # of more than one element
        number = value
    if not isinstance(number, int | float):
        shape = f" of shape {tuple(value.shape)}" if hasattr(value, "shape") else ""
        raise UserError(f"{name}: one number is needed, not {type(value).__name__}{shape}")
    return number
