"""What frozen lower layers make of the rows of a task, computed once a process for all runs that share them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psutil
import torch
from torch import Tensor

from lrensemble.tasks.rows import FILLED, AnyRows, DeviceData
from lrensemble.tasks.task import SPLITS, Batch

CHUNK = 128  # rows that are computed together: always the same ones, so that every process has the same bits
_kept: dict[str, DeviceData] = {}  # the last one alone: it may be large


class CachedRows:
    """Rows whose batches have ``lower`` too (B, ..., T, H): what lies under the layers that are trained.

    Parameters
    ----------
    outputs : (tokens, H), those of all rows one behind the other
    starts : (N + 1,), where each row begins
    """

    def __init__(self, rows: AnyRows, outputs: Tensor, starts: Tensor) -> None:
        self.rows, self.outputs, self.starts = rows, outputs, starts

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labels(self) -> Tensor:
        return self.rows.labels

    def _with_lower(self, batch: Batch, index: Tensor) -> Batch:
        mask = batch["mask"]
        begin, end = self.starts[index].tolist(), self.starts[index + 1].tolist()
        lower = self.outputs.new_zeros(*mask.shape, self.outputs.shape[1])
        lower[mask] = torch.cat([self.outputs[a:b] for a, b in zip(begin, end, strict=True)])
        return {**batch, "lower": lower}

    def batches(self, order: Tensor, batch_size: int, steps: int) -> Iterator[Batch]:
        for step, batch in enumerate(self.rows.batches(order, batch_size, steps)):
            yield self._with_lower(batch, order[step * batch_size : (step + 1) * batch_size])

    def pick(self, index: Tensor) -> Batch:
        return self._with_lower(self.rows.pick(index), index)

    def chunks(self, rows: int) -> Iterator[Batch]:
        return self.batches(torch.arange(len(self)), rows, -(-len(self) // rows))


def with_lower(data: DeviceData, model: Any, base: str | None) -> DeviceData:
    """The rows with what the frozen lower layers of `model` make of them; as they are where it has none.

    Also where `base`, the hash of its frozen parameters, is None: other members may have others. And where the
    outputs would fill the memory.
    """
    if base is None or getattr(model, "below", None) is None or not getattr(data.task, "caches", False):
        return data
    config = model.inner.config.to_json_string()  # equal weights, other positions or epsilons: other outputs
    threads = torch.get_num_threads()  # other threads: other bits
    key = f"{base} {len(model.below.upper)} {data.task.fingerprint} {data.device} {threads} {config}"
    if key not in _kept:
        _kept.clear()
        _kept[key] = _computed(data, model)
    return _kept[key]


@torch.no_grad()
def _computed(data: DeviceData, model: Any) -> DeviceData:
    model.eval()
    splits: dict[str, Any] = {}
    for name in SPLITS:
        rows: AnyRows = getattr(data, name)
        counts: list[Tensor] = []
        outputs: list[Tensor] = []
        for batch in rows.chunks(CHUNK):
            mask = batch["mask"]
            found = model.lower(batch["ids"], mask)
            if not outputs and not _fits(data, mask, found):
                return data
            counts.append(mask.flatten(1).sum(1))
            outputs.append(found[mask])
        ends = torch.cat(counts).cumsum(0).cpu()
        splits[name] = CachedRows(rows, torch.cat(outputs), torch.cat([ends.new_zeros(1), ends]))
    return replace(data, **splits)


def _fits(data: DeviceData, mask: Tensor, found: Tensor) -> bool:
    """Whether the outputs of all splits take no more memory than data may, by those of the first rows."""
    per_row = int(mask.sum()) / len(mask) * found.shape[-1] * found.element_size()
    total = per_row * sum(len(getattr(data, name)) for name in SPLITS)
    on_gpu = data.device.type == "cuda"
    free = torch.cuda.mem_get_info(data.device)[0] if on_gpu else psutil.virtual_memory().available
    return total < FILLED * free
