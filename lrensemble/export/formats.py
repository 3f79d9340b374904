"""A team's module as a file, and back: torch.export, ONNX, or weights alone."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lrensemble.errors import UserError
from lrensemble.export.module import TeamModule
from lrensemble.export.onnx_file import checked_model
from lrensemble.export.trusted import copy_archive, load_program
from lrensemble.installing import install

TEXTS = "adapters"  # the format of teams for texts: a folder of members
FILES = {"torch": "team.pt2", "onnx": "team.onnx", "safetensors": "team.safetensors"}  # the first there is, is run
_FROM_HERE = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node")  # paths of this machine


def input_name(shape: Sequence[int]) -> str:
    """What the input of a graph is called."""
    return "images" if len(shape) == 3 else "rows"


def write_module(module: TeamModule, format: str, path: Path) -> None:
    """Write a team in one of the `FILES` formats; any number of rows at once.

    Raises
    ------
    UserError
        A model that cannot be written in this format; libraries of the extra ``onnx`` are missing.
    """
    if format == "safetensors":
        from safetensors.torch import save

        path.write_bytes(
            save({name: value.detach().clone().contiguous() for name, value in module.state_dict().items()})
        )
        return
    if format == "onnx":
        _need_onnx("export --as onnx")
    try:
        with _quiet():
            program = torch.export.export(
                module, (torch.zeros(3, *module.shape),), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},)
            )
            if format == "onnx":
                torch.onnx.export(
                    program,
                    (),
                    str(path),
                    input_names=[input_name(module.shape)],
                    output_names=["probabilities"],
                    external_data=False,
                    dynamo=True,
                    verbose=False,
                )
                return
            for node in program.graph.nodes:
                for key in _FROM_HERE:
                    node.meta.pop(key, None)
            program._example_inputs = None  # they would be pickled
            buffer = io.BytesIO()
            torch.export.save(program, buffer)
            copy_archive(buffer)  # what is written can be read
    except OSError:  # a full disk
        raise
    except Exception as error:  # whatever tracing a user's model raises
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        other = "torch or safetensors" if format == "onnx" else "safetensors"
        raise UserError(f"a model of the team cannot be exported as {format} ({first}): try --as {other}") from None
    path.write_bytes(buffer.getbuffer())


def read_module(format: str, path: Path, empty: TeamModule | None = None) -> nn.Module:
    """The module in a file; for ``safetensors`` its weights go into `empty`. Nothing in a file is executed."""
    if format == "torch":
        with _quiet():
            return load_program(path)
    if format == "onnx":
        return OnnxModule(path)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    assert empty is not None
    try:
        empty.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError(f"{path}: damaged, or the models are built differently now ({reason})") from None
    return empty


class OnnxModule(nn.Module):
    """An ONNX file as a module, computed on the CPU by onnxruntime; without gradients."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        _need_onnx(f"{path}")
        import onnxruntime

        model = checked_model(path)
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.load_model_format", "ONNX")  # whatever its bytes look like
        options.log_severity_level = 3  # errors
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has a class of its own for every kind
            raise UserError(f"{path}: cut off, or no ONNX model ({str(error).splitlines()[0]})") from None

    def forward(self, rows: Tensor) -> Tensor:
        (given,) = self.session.get_inputs()
        (probabilities,) = self.session.run(None, {given.name: rows.detach().cpu().float().numpy()})
        return torch.from_numpy(probabilities)


def _need_onnx(what: str) -> None:
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f"{what} needs {error.name}: {install('onnx')}") from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' remarks about themselves."""
    loggers: list[Any] = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
