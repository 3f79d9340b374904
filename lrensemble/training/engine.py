"""How members are computed: memory format, precision, compilation, stacking. What they become is in their spec.

Every choice changes results by rounding at most, so none of it is part of a member's identity; what was used stands
in the member's record.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from lrensemble.pool.record import Strict
from lrensemble.tasks import Task
from lrensemble.tasks.rows import DeviceData, must_stream

STACK = 16  # members of a stack by default (docs/training.md has the table)
STACK_PARAMETERS = 100_000  # of each at most: with 200,000 a stack was 1.1 and 0.9 times as fast on two processors


class Engine(Strict):
    """Choices of speed; ``auto`` is what docs/training.md measured to be best.

    Attributes
    ----------
    precision : ``auto`` is bfloat16 autocast on a GPU that has it (float16 with a loss scaler on an older one) and
        float32 elsewhere. Evaluation always runs in float32.
    channels_last : memory format of images and convolutions; ``auto`` is yes for networks with convolutions.
    compile : ``torch.compile`` of the model, once a process for all members of one architecture. The modes are
        torch's; ``reduce-overhead`` uses CUDA graphs.
    fused : fused optimizer kernels where the optimizer has them; ``auto`` is yes on a CPU and a GPU.
    stack : so many members of one architecture train in one process as one batched model, each with its own LR.
        ``auto`` stacks 16 where that was measured to be faster, small fully connected networks on a CPU, and not to
        become another run than alone: all optimizers but RMSprop with momentum.
    data : ``device`` keeps all splits on the device as float32; ``stream`` reads batches through a DataLoader;
        ``auto`` streams what does not fit. The results are the same bit for bit.
    loader_workers : processes of that DataLoader.
    eval_rows : rows of one forward pass without gradients; of texts at most 128, in pieces of a few thousand tokens.
    micro_batches : pieces that each batch is computed in, their gradients summed (gradient accumulation): less memory.
    cache_lower : what the frozen lower layers of a model make of the rows is computed once (models ``hf`` with layers).
    """

    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    channels_last: bool | Literal["auto"] = "auto"
    compile: Literal["no", "default", "reduce-overhead", "max-autotune"] = "no"
    fused: bool | Literal["auto"] = "auto"
    stack: Annotated[int, Field(ge=1, le=10_000)] | Literal["auto"] = "auto"
    data: Literal["auto", "device", "stream"] = "auto"
    loader_workers: int = Field(default=0, ge=0, le=256)
    eval_rows: int = Field(default=2000, ge=1)
    micro_batches: int = Field(default=1, ge=1)
    cache_lower: bool = True

    def dtype(self, device: torch.device) -> torch.dtype:
        """The type that matrix products and convolutions are trained in."""
        if self.precision != "auto":
            dtype: torch.dtype = getattr(torch, self.precision)
            return dtype
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16

    def autocast(self, device: torch.device) -> Callable[[], AbstractContextManager[object]]:
        """A context for forward and loss."""
        dtype = self.dtype(device)
        if dtype is torch.float32:
            return contextlib.nullcontext
        if device.type == "cpu":
            warnings.warn(f"engine.precision = {self.precision} on a CPU is slower than float32 on most", stacklevel=2)
        return lambda: torch.autocast(device.type, dtype=dtype)

    def memory_format(self, model: nn.Module) -> torch.memory_format:
        wanted = self.channels_last
        if wanted == "auto":
            wanted = any(isinstance(module, nn.Conv2d) for module in model.modules())
        return torch.channels_last if wanted else torch.contiguous_format

    def rows(self, task: Task, device: torch.device, sharers: int = 1) -> DeviceData:
        """A task's rows for a process that shares the device with `sharers` - 1 others."""
        return DeviceData.of(
            task,
            device,
            stream=must_stream(task, device, sharers) if self.data == "auto" else self.data == "stream",
            loader_workers=self.loader_workers,
            memory_format=torch.contiguous_format if self.channels_last is False else torch.channels_last,
        )

    def is_fused(self, device: torch.device) -> bool:
        return device.type in ("cpu", "cuda") if self.fused == "auto" else self.fused
