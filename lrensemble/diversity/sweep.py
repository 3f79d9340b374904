"""Every team of a pool: its votes and its diversity, streamed in chunks of bounded size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lrensemble.array import Array
from lrensemble.diversity.counts import checked, count, error_patterns
from lrensemble.diversity.formulas import evaluator
from lrensemble.diversity.lattice import Lattice
from lrensemble.diversity.lattice_votes import kernels
from lrensemble.diversity.lists import TeamList
from lrensemble.diversity.registry import METRICS, get_metric, per_row
from lrensemble.diversity.teams import check_sizes, indicators_of, mask_type, masks_of_sizes, to_indicators
from lrensemble.diversity.top import TeamScores
from lrensemble.diversity.votes import SOFT, VOTES, Backend, block_scorers, list_scorers
from lrensemble.errors import UserError, did_you_mean
from lrensemble.installing import install

_FEW = 11  # up to so many members one matrix product takes less time than the calls of a loop over rows
BACKENDS = ("auto", "numba", "numpy", "torch")


def all_teams(
    predictions: Any,
    labels: ArrayLike,
    metrics: Iterable[str] = ("accuracy",),
    *,
    sizes: Sequence[int] | None = None,
    oriented: bool = False,
    backend: Backend = "auto",
    device: str | None = None,
    chunk: int = 1 << 18,
    threads: int | None = None,
) -> Iterator[TeamScores]:
    """Score every team, or every team of the given sizes, with equal weights; yield chunks of them.

    Parameters
    ----------
    predictions : (M, N, C) probabilities or (M, N) predicted classes
        Float16, float32 or float64; array or torch tensor.
    labels : (N,) true classes
    metrics : names
        "accuracy" (soft vote), "plurality" (accuracy of the plurality vote), "nll" (mean negative log-likelihood of
        the soft vote in nats, clipped as `metrics.nll_of`), and any of `METRICS`. Predicted classes have no soft vote.
    sizes : sequence of int, optional
        All 2^M - 1 teams (M <= 24) when not given, in the order of their masks; else size by size (M <= 64), within one
        by ascending mask.
    oriented : bool
        Diversity as lower = more diverse.
    backend : {"auto", "numba", "numpy", "torch"}
        Who votes. Auto: torch for tensors on a GPU, numba where it is installed and the work is large, else NumPy.
    device : str, optional
        For torch: "cuda", "cpu".
    chunk : int
        At most so many teams in a chunk (rounded down to a power of two for all teams). Memory is bounded by it.
    threads : int, optional
        For "numba" and "numpy"; all cores when not given.

    Notes
    -----
    Ties: the arg max takes the lowest class, in both votes. Plurality votes are counted in integers and exact. A soft
    vote adds margins in float64: means of probabilities within 1e-12 are a tie, so that rounding decides none.
    """
    names = [_name(name) for name in metrics]
    on_gpu = hasattr(predictions, "device") and getattr(predictions.device, "type", "cpu") != "cpu"
    if device is None and (on_gpu or backend == "torch"):
        device = str(predictions.device) if on_gpu else "cpu"
    if backend not in BACKENDS:
        raise UserError(f"unknown backend {backend!r}: {did_you_mean(backend, ('auto', 'numba', 'numpy', 'torch'))}")
    if backend == "numba" and kernels() is None:
        raise UserError(f"backend 'numba' is not installed: {install('fast')}, or use backend numpy")
    predicted, y = checked(predictions, labels)
    members, rows = predicted.shape
    sizes = check_sizes(members, sizes)
    if rows == 0:
        raise UserError("there are no rows to vote on")
    soft = [name for name in names if name in SOFT]
    probabilities = _probabilities(predictions, labels, soft[0]) if soft else None
    by_list = sizes is not None or device is not None or (backend == "auto" and members <= _FEW)
    lists = {} if not by_list else list_scorers(names, probabilities, predicted, y, device)
    diverse = [name for name in names if name in METRICS]
    patterns = error_patterns(predicted, y) if per_row(diverse) else None
    evaluate = evaluator(diverse, count(predicted, y))

    def finish(masks: Array, scores: dict[str, Array]) -> TeamScores:
        if oriented:
            scores = {name: METRICS[name].orient(v) if name in METRICS else v for name, v in scores.items()}
        return TeamScores(masks, {name: scores[name] for name in names})

    def of_sizes() -> Iterator[TeamScores]:
        for masks in masks_of_sizes(members, sizes or (), chunk):
            x = to_indicators(masks, members)
            scores = {name: score(x) for name, score in lists.items()}
            yield finish(masks, scores | evaluate(TeamList(x, patterns)))

    def of_all() -> Iterator[TeamScores]:
        step = 1 << min(members, max(2, chunk).bit_length() - 1)
        lattice = Lattice(members, patterns, bits=min(12, step.bit_length() - 1))
        blocks = {} if by_list else block_scorers(names, probabilities, predicted, y, backend, threads)
        for first in range(0, 1 << members, step):
            masks = np.arange(first, first + step, dtype=mask_type(members))
            scores = {name: score(first, step) for name, score in blocks.items()}
            if lists:
                x = to_indicators(masks, members)
                x[0, 0] |= first == 0  # the empty team, dropped below, must not divide by 0
                scores = {name: score(x) for name, score in lists.items()}
            scores |= _diversity(lattice, evaluate, diverse, first, step)
            drop = int(first == 0)  # the empty team
            yield finish(masks[drop:], {name: values[drop:] for name, values in scores.items()})

    return of_all() if sizes is None else of_sizes()


def team_votes(
    predictions: Any,
    labels: ArrayLike,
    teams: ArrayLike,
    metrics: Iterable[str] = ("accuracy",),
    *,
    device: str | None = None,
) -> dict[str, Array]:
    """Score the votes of any teams with equal weights: name -> (T,) float64. Names and ties as in `all_teams`.

    `teams` are (T,) bit masks or (T, M) bool. With `device` the products run there, on torch.
    """
    names = [_name(name) for name in metrics]
    if not set(names) <= set(VOTES):
        raise UserError(f"votes are scored by {', '.join(VOTES)}, not {', '.join(set(names) - set(VOTES))}")
    predicted, y = checked(predictions, labels)
    soft = [name for name in names if name in SOFT]
    probabilities = _probabilities(predictions, labels, soft[0]) if soft else None
    x = indicators_of(teams, len(predicted))
    return {name: score(x) for name, score in list_scorers(names, probabilities, predicted, y, device).items()}


def _name(name: str) -> str:
    if str(name).lower() in VOTES:
        return str(name).lower()
    try:
        return get_metric(name).name
    except UserError:
        raise UserError(f"unknown score {name!r}: {did_you_mean(name, [*VOTES, *METRICS])}") from None


def _probabilities(predictions: Any, labels: ArrayLike, name: str) -> tuple[Array, Array]:
    """Probabilities as an array, and labels as they index its classes."""
    p = predictions.detach().cpu().numpy() if hasattr(predictions, "detach") else np.asarray(predictions)
    if p.ndim != 3:
        raise UserError(f"{name!r} needs probabilities (members, rows, classes): predicted classes have no soft vote")
    y = np.asarray(labels.cpu() if hasattr(labels, "cpu") else labels)
    if not 0 <= int(y.min()) <= int(y.max()) < p.shape[2]:
        raise UserError(f"labels must be 0 to {p.shape[2] - 1}, not {y.min()} to {y.max()}")
    return p, y


def _diversity(
    lattice: Lattice, evaluate: Callable[[Any], dict[str, Array]], names: list[str], first: int, teams: int
) -> dict[str, Array]:
    if not names:
        return {}
    size = 1 << lattice.bits
    scores = {name: np.empty(teams) for name in names}
    for start in range(0, teams, size):
        lattice.move((first + start) // size)
        for name, values in evaluate(lattice).items():
            scores[name][start : start + size] = values
    return scores
