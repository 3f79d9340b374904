"""An ONNX file, read without following what it points to.

onnxruntime reads tensors from other files that a model names, has operators of its own beside ONNX's, and takes a file
for another format by four bytes in it. What is given to it is a model of ONNX's own operators with all its tensors in
it, parsed and written anew: fields that are not known here are not in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lrensemble.errors import UserError

_DOMAINS = ("", "ai.onnx")


def checked_model(path: Path) -> bytes:
    """The model in a file, as bytes.

    Raises
    ------
    UserError
        It is damaged, reads other files, or holds anything but operators of ONNX.
    """
    import onnx

    model: Any = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except Exception as error:  # protobuf's DecodeError; its package has no types
        raise UserError(f"{path}: cut off, or no ONNX model ({error})") from None
    model.DiscardUnknownFields()
    model.ClearField("metadata_props")  # onnxruntime can be told to take its options from there
    if not model.HasField("graph"):
        raise UserError(f"{path}: cut off, or no ONNX model (there is no graph in it)")
    if reason := next(_suspicions(onnx, model), None):
        raise UserError(f"{path} is not loaded: {reason}; a team's file holds operators of ONNX and all its weights")
    return bytes(model.SerializeToString())


def _suspicions(onnx: Any, model: Any) -> Iterator[str]:
    if model.functions or model.training_info:
        yield "it holds functions or training of its own"
    for imported in model.opset_import:
        if imported.domain not in _DOMAINS:
            yield f"it needs operators of {imported.domain[:80]!r}"
    for message in _messages(model):
        if isinstance(message, onnx.TensorProto) and (message.data_location or message.external_data):
            yield f"its weights are in other files ({[entry.value[:80] for entry in message.external_data][:1]})"
        if isinstance(message, onnx.NodeProto) and message.domain not in _DOMAINS:
            yield f"one of its operators is {message.domain[:80]}.{message.op_type[:80]}"


def _messages(message: Any) -> Iterator[Any]:
    """All messages in a message, however deep (protobuf reads no deeper than 100)."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in [value] if hasattr(value, "ListFields") else value:
                yield from _messages(inner)
