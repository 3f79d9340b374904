"""Weights that a model starts from: a file, or what torchvision and timm have in their caches (or fetch, if asked).

Nothing in a file is executed: safetensors, or ``torch.load(weights_only=True)``.
"""

from __future__ import annotations

import hashlib
import importlib
import re
import socket
import sys
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lrensemble.errors import UserError, did_you_mean, first_line
from lrensemble.installing import needed
from lrensemble.model_folder import PACKAGE, find_folder
from lrensemble.model_folder import weights_hash as folder_hash
from lrensemble.models.checkpoints import Groups, listed, misfits, places, read_checkpoint, tensor_groups
from lrensemble.models.objects import is_users_own
from lrensemble.opening import known_hash

FOLDERS = ("hf",)  # models whose weights are folders, which they load themselves
KEYS = ("weights", "weights_hash")  # of a model, beside the parameters of its builder
SECONDS = 10.0  # for a server to answer


def identified(name: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a model, and beside ``weights`` their hash; those of a library are fetched if need be.

    A member is known by the hash, so the file may move. What has a hash already stays as it is: nothing is fetched for
    a pool that exists. timm's ``pretrained`` is another word for ``weights``. Models ``package.module:callable`` see to
    their weights themselves.

    Raises
    ------
    UserError
        There is no such file, or no such weights of the library; they are not in its cache, and cannot be fetched.
    """
    found = dict(parameters)
    if is_users_own(name):
        return found
    if name.startswith("timm:") and isinstance(given := found.get("pretrained"), bool | str):
        if "weights" in found:
            raise UserError(f"model {name}: weights and pretrained say the same thing twice: give one of them")
        del found["pretrained"]
        found["weights"] = ("DEFAULT" if given else None) if isinstance(given, bool) else given
    weights = found.pop("weights", None)
    if weights is None:
        return found
    if not isinstance(weights, str) or not weights:
        raise UserError(f"model {name}: weights = {weights!r} is not possible: a file, or DEFAULT, is needed")
    if "weights_hash" in found:
        return {**found, "weights": weights}
    if name in FOLDERS:
        folder = find_folder(weights, f"model {name}: weights")
        place = weights if weights.startswith(PACKAGE) else str(folder.absolute())
        return {**found, "weights": place, "weights_hash": folder_hash(folder)}
    path = weights_file(name, weights, fetch=True)
    known = weights if _is_word(name, weights) else str(path.absolute())
    return {**found, "weights": known, "weights_hash": known_hash(path)[:16]}


def weights_file(name: str, weights: str, *, fetch: bool = False) -> Path:
    """Where the weights of a model are: the file, or the one in the cache of its library."""
    if _is_word(name, weights):
        return _FILES[name.partition(":")[0]](name.partition(":")[2], weights, fetch)
    if "://" in weights or weights.startswith(("//", "\\\\")):
        raise UserError(f"model {name}: weights {weights} are on another machine: give a file that is here")
    path = Path(weights)
    if not path.is_file():
        library = name.partition(":")[0] in _FILES
        word = "DEFAULT, or a file" if library else f"{name} has none of its own: a file"
        raise UserError(f"model {name}: there is no file {path} with weights: {word} (.safetensors, .pt) is needed")
    return path


def read_weights(name: str, weights: str, expected: str | None) -> Groups:
    """The tensors of a file; `UserError` unless it has the hash `expected` and holds nothing but plain values."""
    path = weights_file(name, weights)
    if expected is not None and (found := known_hash(path)[:16]) != expected:
        raise UserError(
            f"model {name}: {path} is not the file that the model started from (its hash is {found}, not {expected}): "
            "put that one back"
        )
    return tensor_groups(path, read_checkpoint(path))


def start_from(model: nn.Module, groups: Groups, head: Callable[[], set[str]], what: str) -> list[str]:
    """Load weights into a model; return the names of its head's where these are of other classes, and stay random.

    Parameters
    ----------
    head : gives the names of the tensors whose shape follows from the number of classes
    what : the weights and the model, for errors

    Raises
    ------
    UserError
        They are of another model: other names or shapes, but for the head.
    """
    own = model.state_dict()
    placed = places(own, groups)[0]
    placed = replace(placed, tensors=_renamed(model, own, placed.tensors))
    tensors, wrong = placed.tensors, misfits(own, placed)
    replaced = set().union(*wrong.values()) & own.keys() & head() if wrong else set()
    if rest := {label: names - replaced for label, names in wrong.items() if names - replaced}:
        found = listed(rest, own, tensors)
        raise UserError(f"{what}: they are of another model, or of another size of it ({found})")
    model.load_state_dict({**own, **{name: value for name, value in tensors.items() if name not in replaced}})
    return [name for name in own if name in replaced]


def _renamed(model: nn.Module, own: Mapping[str, Tensor], tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of timm's as its model has them now: names have changed, positions are resized to the images."""
    convert = getattr(sys.modules.get(type(model).__module__), "checkpoint_filter_fn", None)
    fits = own.keys() == tensors.keys() and all(own[name].shape == tensors[name].shape for name in own)
    if fits or convert is None or not type(model).__module__.startswith("timm."):
        return tensors
    try:
        converted: dict[str, Tensor] = convert(tensors, model)
    except Exception:  # they are of another model, which is said with the names
        return tensors
    return converted


# The libraries


def _is_word(name: str, weights: str) -> bool:
    """Whether the weights are a library's, by a name such as DEFAULT or IMAGENET1K_V1."""
    return name.partition(":")[0] in _FILES and re.fullmatch("[A-Z][A-Z0-9_]*", weights) is not None


def _torchvision(model: str, weights: str, fetch: bool) -> Path:
    from torchvision import models

    try:
        known = models.get_model_weights(model)
    except ValueError:
        names = models.list_models(module=models)
        raise UserError(f"unknown torchvision model {model!r}: {did_you_mean(model, names)}") from None
    if weights not in known.__members__:
        hint = did_you_mean(weights, known.__members__)
        raise UserError(f"model torchvision:{model} has no weights {weights!r}: {hint}, or a file")
    return _hub(f"model torchvision:{model}", known[weights].url, fetch)


def _timm(model: str, weights: str, fetch: bool) -> Path:
    with needed(f"model timm:{model} needs timm", "timm"):
        hub = importlib.import_module("huggingface_hub")
        timm = importlib.import_module("timm")
    if weights != "DEFAULT":
        raise UserError(f"model timm:{model} has no weights {weights!r}: DEFAULT, or a file")
    config = timm.models.get_pretrained_cfg(model) if timm.is_model(model) else None
    if config is None or not (config.hf_hub_id or config.url):
        raise UserError(f"model timm:{model}: timm has no weights of it: give a file")
    what = f"model timm:{model}"
    if not config.hf_hub_id:
        return _hub(what, config.url, fetch)
    for filename in dict.fromkeys([config.hf_hub_filename or "model.safetensors", "pytorch_model.bin"]):
        try:
            return Path(hub.hf_hub_download(config.hf_hub_id, filename, local_files_only=True))
        except OSError:  # it is not there
            continue
    address = f"https://huggingface.co/{config.hf_hub_id}"
    _check_fetch(what, address, Path(hub.constants.HF_HUB_CACHE), fetch)
    try:
        return Path(hub.hf_hub_download(config.hf_hub_id, config.hf_hub_filename or "model.safetensors"))
    except Exception as error:
        raise _not_fetched(what, address, error) from None


_FILES: dict[str, Callable[[str, str, bool], Path]] = {"torchvision": _torchvision, "timm": _timm}


def _hub(what: str, url: str, fetch: bool) -> Path:
    """The file of an address in torch's cache."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if path.is_file():
        return path
    _check_fetch(what, url, path.parent, fetch)
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = re.search(r"-([a-f0-9]{6,})\.", path.name)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SECONDS)
    try:
        torch.hub.download_url_to_file(url, str(path), digest and digest[1])
    except (OSError, RuntimeError) as error:
        raise _not_fetched(what, url, error) from None
    finally:
        socket.setdefaulttimeout(before)
    return path


def _check_fetch(what: str, address: str, cache: Path, fetch: bool) -> None:
    """Raise `UserError` where a file must not be fetched, or the server does not answer."""
    if not fetch:
        raise UserError(f"{what}: its weights are not in {cache}, and nothing is fetched here: they are at {address}")
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=SECONDS):
            pass
    except OSError as error:
        raise _not_fetched(what, address, error) from None


def _not_fetched(what: str, address: str, error: Exception) -> UserError:
    reason = first_line(getattr(error, "reason", None) or error)
    return UserError(f"{what}: its weights cannot be fetched from {address} ({reason}): give a file, weights=FILE")


def hash_of_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Hash of names, types, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)};".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
