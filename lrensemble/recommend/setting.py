"""What two runs must have in common for their policies to be comparable."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Self

from pydantic import Field

from lrensemble.pool import MemberSpec, Named
from lrensemble.pool.record import Strict

FROM_FILES = ("idx", "npz", "npy", "folder", "text", "choices", "documents")  # of the user: a file says which
MOST_TEXT = 400  # characters of a study's name; Optuna's tables take 512


class Setting(Strict):
    """Data, model, optimizer (without its LR), batch size and budget; everything but policy and seed.

    Attributes
    ----------
    data : name of the data set; of the file, for data of your own
    fingerprint : of data, row order and validation split: only runs with the same one are comparable
    batch_size, epochs : None where they are not known (a user's own loop)
    setting : the other options of training that are not at their defaults (augmentation, label smoothing, ...), or
        what a user's own loop noted
    """

    data: str
    fingerprint: str
    model: Named
    optimizer: Named | None = None
    batch_size: int | None = None
    epochs: int | None = None
    setting: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def of(cls, data: dict[str, Any], fingerprint: str, spec: MemberSpec) -> Self:
        """The task of a run; `data` is ``pool.task.data`` (or ``config.data.model_dump()``)."""
        name = str(data["name"])
        if name in FROM_FILES and data.get("root"):
            name = f"{name}:{Path(data['root']).stem}"
        training = spec.training
        if training is None:
            setting = spec.notes
        else:
            # When a run may end early is no part of what it is compared on.
            setting = training.model_dump(
                mode="json", exclude_defaults=True, exclude={"epochs", "batch_size", "stop", "until"}
            )
        return cls(
            data=name,
            fingerprint=fingerprint,
            model=spec.model,
            optimizer=spec.optimizer,
            batch_size=training.batch_size if training else None,
            epochs=training.epochs if training else None,
            setting=setting,
        )

    @property
    def key(self) -> str:
        """Short hash of everything above."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    @property
    def study(self) -> str:
        """Name of its Optuna study: the text for people, then the key."""
        text = str(self)
        return f"{text if len(text) <= MOST_TEXT else text[:MOST_TEXT] + '...'} [{self.key}]"

    def __str__(self) -> str:
        parts = [
            self.data,
            str(self.model),
            str(self.optimizer) if self.optimizer else "",
            f"batch {self.batch_size}" if self.batch_size else "",
            f"{self.epochs} epochs" if self.epochs else "",
            ", ".join(f"{name}={value}" for name, value in self.setting.items()),
        ]
        return " | ".join(part for part in parts if part)
