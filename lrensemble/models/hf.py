"""Models of transformers, from a folder with config.json and safetensors: whole, by LoRA, or their top layers.

No code of the folder runs, and nothing is fetched.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lrensemble.errors import UserError, first_line
from lrensemble.lengths import alike
from lrensemble.model_folder import CONFIG, TOKENIZER, find_folder, tokenizer_hash, weights_hash
from lrensemble.models.adapters import inject, library
from lrensemble.models.lower import LowerLayers

HEADS = {"classes": "AutoModelForSequenceClassification", "tokens": "AutoModelForCausalLM"}


class TextModel(nn.Module):
    """Sequences of tokens to scores: ids and mask (n, T) -> (n, C), or (kept, V) of the next tokens.

    Attributes
    ----------
    inner : the model of transformers
    lora : peft's configuration of its adapters, or None
    """

    def __init__(self, inner: Any, lower: int, lora: Any) -> None:
        super().__init__()
        self.inner, self.lora, self.pad = inner, lora, inner.config.get_text_config().pad_token_id or 0
        self.below = LowerLayers(layers_of(inner), lower) if lower else None

    def forward(self, ids: Tensor, mask: Tensor, *, keep: Tensor | None = None, lower: Tensor | None = None) -> Tensor:
        """Scores of sequences; `keep` (n, T) says at which places next tokens are wanted, `lower` what `lower` gave."""
        with (
            contextlib.nullcontext() if keep is None else _only(keep, self.inner.get_output_embeddings()),
            contextlib.nullcontext() if lower is None or self.below is None else self.below.known(lower),
        ):
            logits: Tensor = self.inner(input_ids=ids.masked_fill(~mask, self.pad), attention_mask=mask).logits
        return logits

    @torch.no_grad()
    def lower(self, ids: Tensor, mask: Tensor) -> Tensor:
        """What the frozen lower layers make of sequences: ids and mask (..., T) -> (..., T, H), 0 for empty ones."""
        assert self.below is not None
        lengths = mask.sum(-1)
        lower = torch.zeros(*mask.shape, self.inner.config.get_text_config().hidden_size, device=ids.device)
        for piece in alike(lengths[present := lengths > 0].tolist()):
            rows = tuple(at[piece] for at in present.nonzero(as_tuple=True))
            short: tuple[Tensor | slice, ...] = (*rows, slice(int(lengths[rows].max())))
            lower[short] = self.below.output(functools.partial(self, ids[short], mask[short]))
        return lower

    def train(self, mode: bool = True) -> TextModel:
        """What is frozen below the layers that are trained is as in evaluation: it has no dropout."""
        super().train(mode)
        if self.below is not None:
            upper = {module for layer in self.below.upper for module in layer.modules()}
            for module in self.inner.base_model.modules():
                if module not in upper and not any(p.requires_grad for p in module.parameters()):
                    module.training = False
        return self


@contextlib.contextmanager
def _only(keep: Tensor, output: nn.Module) -> Iterator[None]:
    """Within, the output layer sees the hidden states of the kept places alone (kept, H), one row after the other."""
    hook = output.register_forward_pre_hook(lambda _, given: (given[0][keep], *given[1:]))
    try:
        yield
    finally:
        hook.remove()


def hf(
    *,
    weights: str | None = None,
    weights_hash: str | None = None,
    lora: Mapping[str, Any] | None = None,
    layers: str | None = None,
    pretrained: bool = True,
    head: str | None = None,
    num_classes: int = 0,
    vocabulary: int = 0,
    tokenizer: str = "",
    longest: int = 0,
) -> nn.Module:
    """A model of transformers for a task of texts.

    Parameters
    ----------
    weights : folder with config.json and safetensors, or ``package:NAME``
    lora : ``{rank: 8, alpha: 16, dropout: 0, targets: PATTERN, rslora: false, dora: false}``: adapters at the linear
        layers whose names match (default: all within the layers); they and a new head are all that is trained
    layers : ``last:K``: what is below the last K layers is frozen
    pretrained : False: weights are loaded afterwards

    Raises
    ------
    UserError
        No such model, other weights or another tokenizer than it had, options that are not possible, targets that
        match nothing (with those that there are).
    """
    if head is None:
        raise UserError("model hf is for tasks of texts: data.name text, choices or documents")
    if weights is None:
        raise UserError("model hf needs weights: a folder with config.json and safetensors, or package:NAME")
    folder = find_folder(weights, "model hf: weights")
    _check_folder(folder, weights_hash, tokenizer)
    inner, new = _load(folder, head, num_classes, pretrained)
    _check_sizes(inner, vocabulary, longest, head)
    stack = layers_of(inner)
    lower = len(stack) - _count(layers, len(stack)) if layers is not None else 0
    upper = [name for name, module in inner.named_modules() if any(module is layer for layer in stack[lower:])]
    adapters = None if lora is None else inject(inner, lora, upper)
    if lora is not None or lower:
        below = {id(p) for p in inner.base_model.parameters()} - {
            id(p) for module in [*stack[lower:], *_above(inner, stack)] for p in module.parameters()
        }
        for name, parameter in inner.named_parameters():
            trained = "lora_" in name if lora is not None else id(parameter) not in below
            parameter.requires_grad_(trained or name in new)
    return TextModel(inner, lower, adapters)


def _check_folder(folder: Path, expected: str | None, tokenizer: str) -> None:
    if expected is not None and (found := weights_hash(folder)) != expected:
        raise UserError(
            f"model hf: {folder} is not the base that the member was trained on (its hash is {found}, not {expected}): "
            "put that one back"
        )
    if (folder / TOKENIZER).is_file() and tokenizer and tokenizer_hash(folder) != tokenizer:
        raise UserError(f"model hf: the tokenizer of {folder} is another than data.tokenizer's: take the model's own")


def _load(folder: Path, head: str, num_classes: int, pretrained: bool) -> tuple[Any, set[str]]:
    """The model in float32, and the names of its parameters that are new: random, or a head of the file's classes."""
    transformers = library("transformers")
    kind = getattr(transformers, HEADS[head])
    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        with _quiet(transformers):
            config = transformers.AutoConfig.from_pretrained(folder, **options)
            if head == "classes":
                config.num_labels = num_classes
            config.use_cache = False
            if not pretrained:
                model = kind.from_config(config, trust_remote_code=False).float()
                return model, _own_head(model, head)
            options |= {"ignore_mismatched_sizes": head == "classes", "output_loading_info": True}
            model, info = kind.from_pretrained(
                folder, config=config, use_safetensors=True, dtype=torch.float32, **options
            )
    except Exception as error:  # whatever transformers and its readers make of a file
        raise UserError(f"model hf: {folder} cannot be loaded for {head}: {first_line(error)}") from None
    missing = {*info["missing_keys"], *(name for name, *_ in info["mismatched_keys"])}
    if any(name.startswith(f"{model.base_model_prefix}.") and ".pooler" not in name for name in missing):
        lacking = ", ".join(sorted(missing)[:3])
        raise UserError(f"model hf: the weights in {folder} are of another model than its {CONFIG} says: no {lacking}")
    return model, missing | _own_head(model, head)


def _own_head(model: Any, head: str) -> set[str]:
    """The parameters beside the base, where they make scores of classes: a task has classes of its own."""
    names = {name for name, _ in model.named_parameters() if not name.startswith(f"{model.base_model_prefix}.")}
    return names if head == "classes" else set()


def _check_sizes(inner: Any, vocabulary: int, longest: int, head: str) -> None:
    config = inner.config.get_text_config()
    if vocabulary > config.vocab_size:
        raise UserError(f"model hf: the tokenizer has {vocabulary:,} tokens, the model {config.vocab_size:,}")
    if longest > (most := getattr(config, "max_position_embeddings", longest) or longest):
        raise UserError(f"data.max_length = {longest}: the model takes {most} tokens")
    if head == "classes" and config.pad_token_id is None:
        raise UserError(
            f"model hf: {inner.config.model_type} has no pad token, by which its classifier finds the last token: add "
            f"pad_token_id to its {CONFIG}"
        )


def layers_of(inner: Any) -> nn.ModuleList:
    """The transformer's layers, from the lowest."""
    count = inner.config.get_text_config().num_hidden_layers
    for module in inner.base_model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise UserError(f"model hf: {inner.config.model_type} has no list of {count} layers: layers is not possible")


def _above(inner: Any, stack: nn.ModuleList) -> list[nn.Module]:
    """Modules of the base that come after the layers: a last norm, a pooler."""
    modules = list(inner.base_model.modules())
    inside = {id(module) for module in stack.modules()}
    last = max(i for i, module in enumerate(modules) if id(module) in inside)
    return modules[last + 1 :]


def _count(layers: Any, most: int) -> int:
    kind, _, number = str(layers).partition(":")
    if kind != "last" or not number.isdecimal() or not 1 <= int(number[:9]) <= most:
        raise UserError(f"model hf: layers = {layers!r}: last:1 to last:{most}")
    return int(number)


@contextlib.contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Without remarks about weights that the head does not have, and without bars."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
