"""Do members whose LR is found while training help a team, at equal total budget?

The pools of one seed: 12 runs of pure policies (4 shapes, 3 peaks each), and, for the cost of 12 runs, some of those at
random and LRTUNER, SWITCH, schedule-free and AUTOLRS (which costs two). Teams are greedy selection for NLL, and the
mean of all; the rest is what the others' mean over DRAWS random choices adds to them, with Student's interval over
seeds. Predictions stay in the folder OUT: the script can be stopped and repeated.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import bench_tuner as bench
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from lrensemble.selection import make_selector

PEAKS = {"SGD": (0.02, 0.06, 0.2), "Adam": (0.0007, 0.002, 0.006)}
ADAPTIVE = {"LRTUNER()": 1, "SWITCH": 1, "schedulefree": 1, "AUTOLRS": 2}  # what each costs
MIXED = [["LRTUNER()"], ["SWITCH"], ["schedulefree"], ["AUTOLRS"], ["LRTUNER()", "SWITCH", "schedulefree"], [*ADAPTIVE]]
DRAWS = 30
Rows = dict[str, NDArray[np.float32]]


def members(pair: str, seed: int, args: argparse.Namespace) -> tuple[dict[str, Rows], Rows]:
    """Probabilities of validation and test rows, by policy, and the labels; trained where they are not there yet."""
    name = pair.split("/")[1]
    pure = [bench.Way(text.format(k=k), text.format(k=k), bench.OPTIMIZERS[name]) for text in bench.TUNED.values()
            for k in PEAKS[name]]  # fmt: skip
    found: dict[str, Rows] = {}
    for way in [*pure, *bench.untuned(pair, [*ADAPTIVE])]:
        path = args.out / pair.replace("/", "-") / str(seed) / f"{way.name}.npz"
        if not path.exists():
            outcome, _ = bench.outcome_of(pair, way, seed, args)
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path, **outcome.probabilities)  # none of a run that diverged
        with np.load(path) as file:
            found[way.name] = dict(file)
    _, data = bench.data_of(bench.SETTINGS[pair.split("/")[0]].data, args.cifar100)
    return found, {"val": data.val.labels.numpy(), "test": data.test.labels.numpy()}


def score(chosen: list[Rows], labels: Rows, selector: str) -> NDArray[np.float64]:
    """Accuracy and NLL of the team on test rows."""
    there = [rows for rows in chosen if rows]
    weights = make_selector(selector).fit(np.stack([rows["val"] for rows in there]), labels["val"]).weights_
    vote = np.tensordot(weights, np.stack([rows["test"] for rows in there]), 1)
    right = vote[np.arange(len(vote)), labels["test"]]
    return np.array([100 * (vote.argmax(1) == labels["test"]).mean(), -np.log(np.maximum(right, 1e-12)).mean()])


def gains(pair: str, args: argparse.Namespace, selector: str) -> tuple[NDArray[np.float64], dict[str, list[NDArray[np.float64]]]]:  # fmt: skip  # noqa: E501
    base, out = [], {" + ".join(names): [] for names in MIXED}
    for seed in range(args.first, args.first + args.seeds):
        found, labels = members(pair, seed, args)
        pure = [found[name] for name in found if name not in ADAPTIVE]
        base.append(score(pure, labels, selector))
        rng = np.random.default_rng(seed)
        for names in MIXED:
            keep = len(pure) - sum(ADAPTIVE[name] for name in names)
            picks = [rng.choice(len(pure), keep, replace=False) for _ in range(DRAWS)]
            own = [found[name] for name in names]
            mean = np.mean([score([*own, *(pure[i] for i in pick)], labels, selector) for pick in picks], axis=0)
            out[" + ".join(names)].append(mean - base[-1])
    return np.array(base), out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names: Callable[[str], list[str]] = lambda text: text.split(",")  # noqa: E731
    parser.add_argument("out", type=Path)
    parser.add_argument("--pairs", type=names, default=["digits-mlp/SGD", "digits-mlp/Adam"])
    parser.add_argument("--first", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--budget", type=float, default=1.0)
    parser.add_argument("--cifar100", default="/tmp/cifar100.npz")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for pair in args.pairs:
        for selector in ("greedy", "all"):
            base, found = gains(pair, args, selector)
            pure = f"{base[:, 0].mean():.2f} %, NLL {base[:, 1].mean():.4f}"
            title = f"{pair}, {args.seeds} seeds, {selector}: 12 pure {pure}"
            table = Table("instead of pure ones", "points of test accuracy", "100 NLL", title=title)
            for name, values in found.items():
                accuracy, nll = np.array(values).T
                table.add_row(name, bench.interval(list(accuracy / 100)), bench.interval(list(nll)))
            Console(width=120).print(table)


if __name__ == "__main__":
    main()
