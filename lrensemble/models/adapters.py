"""Adapters of LoRA (Hu et al. 2022): put into a model by peft, and its own names and files for them."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lrensemble.errors import UserError, did_you_mean
from lrensemble.installing import needed
from lrensemble.patterns import find_pattern

LORA = {"rank": 8, "alpha": 16.0, "dropout": 0.0, "targets": None, "rslora": False, "dora": False}
ADAPTER = "default"  # peft's name of an only one
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
TASKS = {"classes": "SEQ_CLS", "tokens": "CAUSAL_LM"}


def inject(inner: Any, lora: Mapping[str, Any], upper: list[str]) -> Any:
    """Put adapters at the linear layers within the layers `upper` whose names match; return their configuration."""
    options = _options(lora)
    linear = [
        name
        for name, module in inner.named_modules()
        if isinstance(module, nn.Linear) and any(name.startswith(f"{layer}.") for layer in upper)
    ]
    targets = linear
    if (pattern := options["targets"]) is not None:
        found = find_pattern(pattern, tuple(linear), "model hf: lora.targets")
        targets = [name for name, match in zip(linear, found, strict=True) if match is not None]
    if not targets:
        first = f"{upper[0]}."
        kinds = dict.fromkeys(name.removeprefix(first) for name in linear if name.startswith(first))
        raise UserError(f"model hf: lora.targets = {pattern!r} matches no linear layer: there are {', '.join(kinds)}")
    peft = library("peft")
    config = peft.LoraConfig(
        r=options["rank"],
        lora_alpha=options["alpha"],
        lora_dropout=options["dropout"],
        target_modules=targets,
        use_rslora=options["rslora"],
        use_dora=options["dora"],
    )
    peft.inject_adapter_in_model(config, inner)
    return config


def _options(lora: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(lora, Mapping):
        raise UserError(f"model hf: lora = {lora!r}: options by name are needed: {', '.join(LORA)}")
    for key in lora:
        if key not in LORA:
            raise UserError(f"model hf: lora: unknown option {key!r}: {did_you_mean(key, LORA)}")
    options = {**LORA, **lora}
    for key, least, most in (("rank", 1, 4096), ("alpha", 1e-6, 1e6), ("dropout", 0, 0.99)):
        value = options[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise UserError(f"model hf: lora: {key} = {value!r} is not possible: from {least:g} to {most:g}")
    if type(options["rank"]) is not int:
        raise UserError(f"model hf: lora: rank = {options['rank']} is not possible: a whole number is needed")
    for key in ("rslora", "dora"):
        if type(options[key]) is not bool:
            raise UserError(f"model hf: lora: {key} = {options[key]!r} is not possible: true or false")
    if (pattern := options["targets"]) is not None and not isinstance(pattern, str):
        raise UserError(f"model hf: lora: targets = {pattern!r}: one pattern is needed, as in 'q_proj|v_proj'")
    return options


def souped(parameters: Mapping[str, Any], size: int) -> dict[str, Any]:
    """The parameters of a model whose adapters hold the average of `size` others exactly.

    The mean of B_i A_i is one product again, of all A_i on top of each other and all B_i / size beside each other: its
    rank is the sum of theirs. The mean of the A_i times that of the B_i is another thing.

    Raises
    ------
    UserError
        DoRA, whose updates are no such products.
    """
    if not (lora := parameters.get("lora")):
        return dict(parameters)
    options = _options(lora)
    if options["dora"]:
        raise UserError("model hf: adapters of DoRA cannot be averaged exactly: they rescale what they are added to")
    grown = size**0.5 if options["rslora"] else size  # so that alpha / rank, or alpha / root of rank, stays
    return {**parameters, "lora": {**lora, "rank": options["rank"] * size, "alpha": options["alpha"] * grown}}


def joined(name: str, first: Tensor, second: Tensor) -> Tensor:
    """The sum of tensors of one name: of adapters the two beside each other."""
    if ".lora_A." in name or ".lora_B." in name:
        return torch.cat([first, second], 0 if ".lora_A." in name else 1)
    return first + second


def peft_names(inner: Any) -> dict[str, str]:
    """The trained parameters of a model with adapters: their names there, and in peft's files."""
    peft = library("peft")
    trained = {name: value for name, value in inner.named_parameters() if value.requires_grad}
    renamed = peft.get_peft_model_state_dict(inner, state_dict={k: v for k, v in trained.items() if "lora_" in k})
    known = {id(value): name for name, value in renamed.items()}
    return {name: f"base_model.model.{known.get(id(value), name)}" for name, value in trained.items()}


def write_adapter(inner: Any, config: Any, head: str, base: str, tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Write a member's trained tensors, by their names in `inner`, as a folder that peft loads on the `base`."""
    from safetensors.torch import save_file

    names = peft_names(inner)
    folder.mkdir(parents=True)
    kept = {names[name]: value.contiguous() for name, value in tensors.items() if name in names}  # no buffers
    save_file(kept, folder / WEIGHTS)
    written = copy.deepcopy(config)
    written.task_type, written.base_model_name_or_path, written.inference_mode = TASKS[head], base, True
    heads = dict.fromkeys(name.rpartition(".")[0] for name in names if "lora_" not in name)
    written.modules_to_save = [*heads] or None
    written.save_pretrained(folder)


def read_adapter(inner: Any, folder: Path) -> dict[str, Tensor]:
    """What `write_adapter` wrote, by the names in `inner`; `UserError` for another model's."""
    from safetensors.torch import load_file

    tensors, names = load_file(folder / WEIGHTS), peft_names(inner)
    if tensors.keys() != set(names.values()):
        raise UserError(f"{folder / WEIGHTS}: the adapter is of another model or other targets")
    return {name: tensors[known] for name, known in names.items()}


def library(name: str) -> Any:
    """An optional library of the extra ``llm``."""
    with needed(f"model hf needs {name}", "llm"):
        return importlib.import_module(name)
