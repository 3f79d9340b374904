"""Pixels in another unit than a team was trained on: they give wrong classes without an error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from lrensemble.export.card import Preprocessing

SMALL = 2.0  # a mean or a highest value above it is none of pixels from 0 to 1


@dataclass(frozen=True)
class Unit:
    """The unit of the training images.

    Attributes
    ----------
    low, high : of all their values, or where these are not known three deviations about the mean
    whole : they were whole numbers, as image files have them
    known : `low` and `high` are recorded, not computed from mean and deviation
    """

    low: float
    high: float
    whole: bool
    known: bool

    @classmethod
    def of(cls, preprocessing: Preprocessing) -> Self | None:
        if preprocessing.range is None:
            return cls.about(preprocessing.mean, preprocessing.std)
        return cls(*preprocessing.range, whole="int" in (preprocessing.dtype or ""), known=True)

    @classmethod
    def about(cls, mean: Sequence[float], std: Sequence[float]) -> Self | None:
        """From the normalisation, by channel, if there is one: a mean above `SMALL` is that of whole numbers."""
        if not any(mean):
            return None
        low, high = (np.add(mean, sign * 3 * np.array(std)) for sign in (-1, 1))
        whole = max(mean) > SMALL
        return cls(0.0 if whole else float(low.min()), float(high.max()), whole, known=False)

    def mistake(self, least: float, most: float, is_float: bool) -> str:
        """What images with these values were surely done to: ``"scaled"``, ``"shifted"``, or ``""``."""
        width = self.high - self.low
        below = least < self.low - width / (10 if self.whole else 4)  # resizing may leave it by less
        near = most <= max(self.high + width, 20)
        if self.low >= 0 and near and (below or (self.whole and least < 0 and most < self.high / 8)):
            return "shifted"
        if least < self.low - width or most > self.high + width:
            return "scaled"
        dark = 1.0 if self.whole and self.high > SMALL else self.high / 100
        return "scaled" if is_float and self.low >= 0 and least >= 0 and 0 < most <= dark else ""

    def factor(self, most: float) -> tuple[int, float]:
        """What is white in images up to `most`, most likely, and what brings them to this unit."""
        white = 255 if most > 1 else 1
        high = self.high if self.known else 255 if self.whole else 1
        return white, high / white

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}" if self.known else f"about {self.low:.3g} to {self.high:.3g}"

    def warning(self, least: float, most: float, is_float: bool) -> str:
        """One line for who gives arrays from Python; empty where nothing is wrong."""
        mistake = self.mistake(least, most, is_float)
        if not mistake:
            return ""
        fix = "give them as training had them: the team normalises by itself"
        if mistake == "scaled":
            fix = f"multiply by {self.factor(most)[1]:.6g}"
        values = f"pixels from {least:.4g} to {most:.4g}"
        return f"{values}, but the team was trained on {self}: its classes will be wrong; {fix}"
