"""What trackers and trainers call what lrensemble calls val_accuracy, lr, seed, ...: one table for all of them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from lrensemble.terminal import PASSWORD

History = list[dict[str, Any]]
Facts = dict[str, Any]  # hyperparameters by dotted name: plain values

_SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "eval": "val"}
_METRICS = {"loss": "loss", "acc": "accuracy", "accuracy": "accuracy", "top1": "accuracy", "acc1": "accuracy"}
_POSITIONS = {
    "step": ("step", "global_step", "_step", "iteration", "iter"),
    "epoch": ("epoch", "epochs", "training_iteration"),
    "seconds": ("time_total_s", "elapsed", "_runtime", "seconds"),
}
_NAMES = {name: ours for ours, names in _POSITIONS.items() for name in names}
LR = ("lr", "learning_rate", "base_lr", "init_lr")
MOST_FACTS = 200
LONGEST = 200  # characters of a fact
# Texts that are nobody's business, by their names (hub_token, wandb_api_key) or as part of a URL: pools are shared.
_SECRET = re.compile(
    r"(^|[._-])(token|\w*secret|pass\w*|pwd|credentials?|(api|access|private|auth|secret)_?key)$", re.IGNORECASE
)
_MARKS = ("pad", "unk", "bos", "eos", "cls", "sep", "mask")  # tokens of tokenizers, which are no secrets
MOST_LINES = 100_000


def history_of(lines: Iterable[Mapping[str, Any]]) -> History:
    """Lines of a history out of whatever a log has, one for each step (else epoch), in order.

    Of the test split nothing is kept: selection reads histories. Accuracies in per cent become shares.
    """
    merged: dict[tuple[str, float], dict[str, Any]] = {}
    for number, line in enumerate(lines, 1):
        values = {ours: value for key, value in line.items() if (ours := _ours(key)) and _is_number(value)}
        values = {key: value for key, value in values.items() if key not in _POSITIONS or 0 <= value < 2**53}
        if values.keys() <= {*_POSITIONS}:
            continue
        key = next((name for name in ("step", "epoch") if name in values), "line")
        merged.setdefault((key, values.get(key, number)), {}).update(values)
        if len(merged) >= MOST_LINES:
            break
    history = sorted(merged.values(), key=lambda line: (line.get("step", 0), line.get("epoch", 0)))
    for name in ("train_accuracy", "val_accuracy"):
        if max((line[name] for line in history if name in line), default=0) > 1:
            for line in history:
                if name in line:
                    line[name] /= 100
    for line in history:
        for name in ("step", "epoch"):
            if name in line and float(line[name]).is_integer():
                line[name] = int(line[name])
    return history


def _ours(key: object) -> str | None:
    name = re.sub(r"[/\-. ]+", "_", str(key).strip().lower())
    if name in _NAMES:
        return _NAMES[name]
    if name in LR or re.match(r"lr_(?!scheduler)\w+$", name):  # Lightning's lr-SGD, lr-Adam/pg1
        return "lr"
    if name == "loss":
        return "train_loss"
    first, _, rest = name.removesuffix("_epoch").partition("_")
    for split, metric in ((first, rest), (rest, first)):  # val_loss, and loss/val as our own trackers have it
        if split in _SPLITS and metric in _METRICS:
            return f"{_SPLITS[split]}_{_METRICS[metric]}"
    return None


def _is_number(value: object) -> bool:
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < 2**63
    return isinstance(value, float) and math.isfinite(value)


def facts_of(values: Any, inside: str = "") -> Facts:
    """Hyperparameters by dotted name: what is plain, short and no secret; at most `MOST_FACTS`."""
    if hasattr(values, "__dict__") and not isinstance(values, Mapping):
        values = vars(values)  # timm's argparse.Namespace
    found: Facts = {}
    for key, value in values.items() if isinstance(values, Mapping) else ():
        name = f"{inside}{key}"
        if isinstance(value, Mapping) and name.count(".") < 4:
            found |= facts_of(value, f"{name}.")
        elif isinstance(value, str):
            found |= {name: value} if 0 < len(value) <= LONGEST and not _is_secret(name, value) else {}
        elif isinstance(value, bool) or _is_number(value):
            found[name] = value
        elif isinstance(value, list | tuple) and 0 < len(value) <= 20 and all(map(_is_number, value)):
            found[name] = list(value)
    return dict([*found.items()][:MOST_FACTS])


def _is_secret(name: str, value: str) -> bool:
    word = name.lower().removesuffix("_token").rpartition(".")[2].rpartition("_")[2]
    return PASSWORD.search(value) is not None or (_SECRET.search(name) is not None and word not in _MARKS)


def fact(facts: Facts, *names: str) -> Any:
    """The value of the first of `names` that is there, as it is or as the only one that ends so; else None."""
    for name in names:
        if name in facts:
            return facts[name]
        ends = [value for key, value in facts.items() if key.rpartition(".")[2] == name]
        if len(ends) == 1:
            return ends[0]
    return None
