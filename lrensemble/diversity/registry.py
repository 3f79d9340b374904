"""The diversity metrics: what each one means, which way it points, where it is undefined, and who defined it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from lrensemble.array import Array
from lrensemble.errors import UserError
from lrensemble.plugins import Registry, home_of


@dataclass(frozen=True)
class Metric:
    """One diversity metric of a team of L models on N rows.

    Attributes
    ----------
    name, title : str
        Short name as in EnsembleBench where it has one, and the name in words.
    kind : {"pairwise", "group"}
        Pairwise: the team's value is the mean over its L (L - 1) / 2 pairs. Group: defined on the team itself.
    higher_is_diverse : bool
        Direction of the raw value.
    low, high : float
        Range of the raw value over all teams and data.
    undefined : tuple of str
        When it is NaN, beside teams of one model and zero rows.
    reference : str
        Where the definition stands.
    formula : callable, optional
        Of a metric that is not ours (see `register_diversity`).
    """

    name: str
    title: str
    kind: Literal["pairwise", "group"]
    higher_is_diverse: bool
    low: float
    high: float
    undefined: tuple[str, ...]
    reference: str
    formula: Callable[..., Array] | None = None

    def orient(self, values: Array) -> Array:
        """Turn raw values so that lower = more diverse: 1 - value where higher is more diverse, else unchanged.

        As EnsembleBench reports BD, KW and GD beside CK, QS and FK (Wu et al. 2020).
        """
        return 1.0 - values if self.higher_is_diverse else values


# Where eight of them stand side by side, in one notation.
_KUNCHEVA = "Kuncheva & Whitaker 2003, Measures of Diversity in Classifier Ensembles, "
_ZERO = "for some pair both the numerator and the denominator are 0"
_OURS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "CK",
            "Cohen's kappa of the predicted classes",
            "pairwise",
            False,
            -1.0,
            1.0,
            ("two members predict one and the same class on every row",),
            "Cohen 1960; for ensembles McHugh 2012 and Wu et al. 2020 (EnsembleBench)",
        ),
        Metric(
            "QS",
            "Yule's Q statistic",
            "pairwise",
            False,
            -1.0,
            1.0,
            (f"{_ZERO}, e.g. a member without errors",),
            f"Yule 1900; {_KUNCHEVA}the Q statistics",
        ),
        Metric(
            "BD",
            "binary disagreement",
            "pairwise",
            True,
            0.0,
            1.0,
            (),
            f"Skalak 1996; {_KUNCHEVA}the disagreement measure",
        ),
        Metric(
            "FK",
            "Fleiss' kappa of the predicted classes",
            "group",
            False,
            -1.0,
            1.0,
            ("all members predict one and the same class on every row",),
            "Fleiss 1971, Measuring nominal scale agreement among many raters",
        ),
        Metric(
            "KW",
            "Kohavi-Wolpert variance",
            "group",
            True,
            0.0,
            0.25,
            (),
            f"Kohavi & Wolpert 1996; {_KUNCHEVA}KW, equal to BD (L - 1) / (2 L)",
        ),
        Metric(
            "GD",
            "generalised diversity",
            "group",
            True,
            0.0,
            1.0,
            ("no member makes an error",),
            f"Partridge & Krzanowski 1997; {_KUNCHEVA}GD",
        ),
        Metric(
            "rho",
            "correlation of the errors",
            "pairwise",
            False,
            -1.0,
            1.0,
            ("a member is always right or always wrong",),
            f"Sneath & Sokal 1973; {_KUNCHEVA}the correlation coefficient",
        ),
        Metric(
            "DF",
            "double fault",
            "pairwise",
            False,
            0.0,
            1.0,
            (),
            f"Giacinto & Roli 2001; {_KUNCHEVA}the double-fault measure",
        ),
        Metric(
            "E",
            "entropy of the votes right and wrong",
            "group",
            True,
            0.0,
            1.0,
            (),
            f"{_KUNCHEVA}the entropy measure E (without logarithms)",
        ),
        Metric(
            "CF",
            "coincident failure diversity",
            "group",
            True,
            0.0,
            1.0,
            (),  # without errors it is 0 by definition, not undefined
            f"Partridge & Krzanowski 1997, Software diversity; {_KUNCHEVA}CFD",
        ),
    )
}
# The six of EnsembleBench and the focal-diversity papers.
SIX = ("CK", "QS", "BD", "FK", "KW", "GD")


PER_ROW = ("E", "CF")  # need the error patterns, not only counts over pairs


def _check(name: str, metric: Any) -> None:
    if not isinstance(metric, Metric):
        raise UserError(
            f"diversity metric {name}: {metric!r:.60} is no metric: lrensemble.register_diversity makes one"
        )


METRICS: Registry[Metric] = Registry("diversity", "diversity metric", _OURS, _check)


def register_diversity(
    name: str,
    title: str,
    *,
    kind: Literal["pairwise", "group"] = "pairwise",
    higher_is_diverse: bool,
    low: float,
    high: float,
    undefined: tuple[str, ...] = ("it is not a number",),
    reference: str = "",
) -> Callable[[Callable[..., Array]], Callable[..., Array]]:
    """Decorator: the function is the diversity metric `name`, with the facts of a `Metric`.

    A pairwise one takes `Counts` and gives the values of all pairs (M, M), symmetric. One of groups takes `Sums` of T
    teams and `Counts`, and gives (T,), as the closed forms of `lrensemble.diversity.formulas` do. NaN: undefined.
    """

    def add(formula: Callable[..., Array]) -> Callable[..., Array]:
        metric = Metric(name, title, kind, higher_is_diverse, low, high, undefined, reference, formula)
        METRICS.add(name, metric, home_of(formula))
        return formula

    return add


def per_row(names: Iterable[str]) -> bool:
    """Whether one of these metrics may need the error patterns."""
    return any(name in PER_ROW or (METRICS[name].formula and METRICS[name].kind == "group") for name in names)


def get_metric(name: str) -> Metric:
    """Look a metric up, in any case ("gd" is "GD"); `UserError` when there is none."""
    return METRICS.find(METRICS.spelled(str(name)))
