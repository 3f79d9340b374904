"""LR schedules that need no tuning (LRTUNER, SWITCH, AUTOLRS, schedule-free, Prodigy) against tuned policies.

Every pair of a task and an optimizer has one budget. A policy is tuned over 8 peaks, each trained once and judged on
validation; what that cost is counted apart. Then everything is trained from fresh seeds. One line of JSON a run goes to
OUT, where it is found again: the script can be stopped and repeated, and several processes share a file (--shard).
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from scipy.special import stdtrit
from torch import Tensor, nn

from lrensemble import load_config
from lrensemble.policies.control import parse_schedules
from lrensemble.tasks import load_task
from lrensemble.tasks.rows import DeviceData
from lrensemble.training.loop import Outcome, Run, fit

FRESH = 100  # the first seed of a comparison; those below are for tuning
OPTIMIZERS = {"SGD": {"name": "SGD", "momentum": 0.9}, "Adam": {"name": "Adam"}}
PEAKS = {"SGD": [0.005 * 2**i for i in range(8)], "Adam": [0.000125 * 2**i for i in range(8)]}
TUNED = {
    "KNEE": "KNEE(k0={k:g}, warmup=0)",
    "COS": "COS(k0={k:g}, l=100%)",
    "STEP": "STEP(k0={k:g}, gamma=0.1, l=40%)",
    "ONECYCLE": "ONECYCLE(k0={k:g}, l=100%)",
}
LIST = {"SGD": "FIX(0.32), FIX(0.08), FIX(0.02), FIX(0.005)", "Adam": "FIX(8e-3), FIX(2e-3), FIX(5e-4), FIX(1.25e-4)"}
RANGES = {"SGD": "low=1e-3, high=1", "Adam": "low=1e-5, high=0.03"}
FREE = {"SGD": ("schedulefree.SGDScheduleFree", 1.0), "Adam": ("schedulefree.AdamWScheduleFree", 0.0025)}


class ConvNormNet(nn.Sequential):
    """Three 3x3 convolutions with batch norm, and the mean over the image."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int, width: int = 16) -> None:
        def block(before: int, after: int) -> list[nn.Module]:
            return [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]

        super().__init__(
            *block(input_shape[0], width),
            *block(width, width),
            nn.MaxPool2d(2),
            *block(width, 2 * width),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(2 * width, num_classes),
        )


class ConvNet(nn.Sequential):
    """Two 3x3 convolutions and two layers, without norm."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int, width: int = 8) -> None:
        channels, high, wide = input_shape
        super().__init__(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * width * (high // 4) * (wide // 4), 32),
            nn.ReLU(),
            nn.Linear(32, num_classes),
        )


class RowFormer(nn.Module):
    """A transformer of two layers whose tokens are an image's rows."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int, width: int = 32) -> None:
        super().__init__()
        channels, high, wide = input_shape
        self.embed = nn.Linear(channels * wide, width)
        self.place = nn.Parameter(0.02 * torch.randn(high, width))
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x.permute(0, 2, 1, 3).flatten(2)) + self.place
        return self.head(self.norm(self.body(tokens)).mean(1))


class Setting(NamedTuple):
    data: str
    model: dict[str, Any] | Callable[..., nn.Module]
    epochs: int
    batch_size: int = 128


SETTINGS = {
    "digits-mlp": Setting("digits", {"name": "mlp", "hidden": [64]}, 60, 64),
    "digits-conv": Setting("digits", ConvNet, 60, 64),
    "digits-norm": Setting("digits", ConvNormNet, 40, 64),
    "digits-former": Setting("digits", RowFormer, 40, 64),
    "fashion-mlp": Setting("fashion_mnist", {"name": "mlp", "hidden": [64]}, 12),
    "fashion-lenet": Setting("fashion_mnist", {"name": "lenet", "channels": [6, 16], "hidden": 120}, 12),
    "cifar100-lenet": Setting("cifar100", {"name": "lenet", "channels": [16, 32], "hidden": 120}, 12),
    "cifar100-resnet20": Setting("cifar100", {"name": "resnet20"}, 12),
}
Row = dict[str, Any]


class Way(NamedTuple):
    """One way to set the LR: its name in the table, its policy and what it changes about the optimizer."""

    name: str
    policy: str
    optimizer: dict[str, Any]


def untuned(pair: str, names: list[str]) -> list[Way]:
    optimizer = pair.split("/")[1]
    base = OPTIMIZERS[optimizer]
    package, lr = FREE[optimizer]
    ways = {
        "SWITCH": Way("SWITCH", f"SWITCH([{LIST[optimizer]}])", base),
        "AUTOLRS": Way("AUTOLRS", f"AUTOLRS({RANGES[optimizer]})", base),
        "schedulefree": Way("schedulefree", f"FIX({lr:g})", {"name": package}),
        "prodigy": Way("prodigy", "COS(1, l=100%)", {"name": "prodigyopt.Prodigy"}),
    }
    texts = [text for name in names for text in ([name] if name in ways else map(str, parse_schedules(name)))]
    return [ways.get(text) or Way(text, text, base) for text in texts]


@cache
def data_of(name: str, cifar100: str) -> tuple[dict[str, Any], DeviceData]:
    options: dict[str, Any] = {"name": name, "val_fraction": 0.25 if name == "digits" else 0.1}
    if name == "cifar100":
        options |= {"name": "npz", "root": Path(cifar100)}
    return options, DeviceData.of(load_task(**options), torch.device(DEVICE))


def outcome_of(pair: str, way: Way, seed: int, args: argparse.Namespace) -> tuple[Outcome, DeviceData]:
    """Train one run."""
    setting = SETTINGS[pair.split("/")[0]]
    options, data = data_of(setting.data, args.cifar100)
    own = {} if isinstance(setting.model, dict) else {"model": setting.model}
    epochs = max(1, round(setting.epochs * args.budget))
    config = load_config(
        {
            "name": "bench",
            "data": options,
            **({} if own else {"model": setting.model}),
            "optimizer": way.optimizer,
            "training": {"epochs": epochs, "batch_size": setting.batch_size},
            "policies": [way.policy],
            "seeds": [seed],
        },
        **own,
    )
    [spec] = config.specs()
    return fit(Run(spec, spec.id(data.task.fingerprint), data)), data


def train(pair: str, way: Way, seed: int, args: argparse.Namespace) -> Row:
    """One run: what it was, its accuracies, history and cost."""
    start = time.process_time()
    outcome, data = outcome_of(pair, way, seed, args)
    row = {
        "pair": pair,
        "way": way.name,
        "policy": way.policy,
        "seed": seed,
        "budget": args.budget,
        "status": outcome.status,
        "costs": outcome.costs,
        "cpu_seconds": round(time.process_time() - start, 2),
        "control": outcome.control,
        "val": [line["val_accuracy"] for line in outcome.history],
        "val_loss": [line["val_loss"] for line in outcome.history],
        "steps": [line["step"] for line in outcome.history],
        "test": 1 / data.task.num_classes,  # of a run that diverged: a guess
    }
    if outcome.status == "complete":
        labels = data.test.labels.cpu().numpy()
        row["test"] = float((outcome.probabilities["test"].argmax(1) == labels).mean())
    return row


def key(row: Row) -> tuple[Any, ...]:
    return row["pair"], row["way"], row["policy"], row["seed"], row["budget"]


def read(path: Path) -> dict[tuple[Any, ...], Row]:
    lines = path.read_text().splitlines() if path.exists() else []
    return {key(row): row for row in map(json.loads, lines)}


def best_peak(rows: list[Row]) -> Row:
    """Of the tuning runs of one policy: by the validation accuracy at the end, then by its loss."""
    done = [row for row in rows if row["status"] == "complete"]
    return max(done, key=lambda row: (row["val"][-1], -row["val_loss"][-1]))


def jobs(pair: str, args: argparse.Namespace, rows: dict[tuple[Any, ...], Row]) -> Iterator[tuple[Way, int]]:
    """Ways and seeds, the tuning first; a tuned policy appears once its tuning is done."""
    base = OPTIMIZERS[pair.split("/")[1]]
    fresh = range(FRESH, FRESH + args.seeds)
    yield from ((way, seed) for way in untuned(pair, args.ways) for seed in fresh)
    for name in args.tuned:
        for peak in PEAKS[pair.split("/")[1]]:
            yield Way(name, TUNED[name].format(k=peak), base), 0
    for name in args.tuned:
        tuning = [row for row in rows.values() if (row["pair"], row["way"], row["seed"]) == (pair, name, 0)]
        tuning = [row for row in tuning if row["budget"] == args.budget]
        if len(tuning) == len(PEAKS[pair.split("/")[1]]):
            policy = best_peak(tuning)["policy"]
            yield from ((Way(name, policy, base), seed) for seed in fresh)


def work(args: argparse.Namespace) -> None:
    index, shards = map(int, args.shard.split("/"))
    while True:
        rows = read(args.out)
        todo = [
            (pair, way, seed)
            for pair in args.pairs
            for way, seed in jobs(pair, args, rows)
            if (pair, way.name, way.policy, seed, args.budget) not in rows
        ]
        mine = [job for job in todo if zlib.crc32(repr(job).encode()) % shards == index]
        if not mine:
            return
        for number, (pair, way, seed) in enumerate(mine, 1):
            row = train(pair, way, seed, args)
            with args.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(f"{number}/{len(mine)} {pair} {way.policy} seed {seed}: test {row['test']:.4f}", flush=True)


def interval(values: list[float]) -> str:
    """Mean and half width of its 95 % interval (Student's t), in points."""
    n = len(values)
    half = stdtrit(n - 1, 0.975) * statistics.stdev(values) / math.sqrt(n) if n > 1 else math.nan
    return f"{100 * statistics.mean(values):.2f} ± {100 * half:.2f}"


def steps_to(row: Row, accuracy: float) -> float:
    """Optimizer steps until the validation accuracy is reached, probes counted by their time; inf: never."""
    reached = [step for step, value in zip(row["steps"], row["val"], strict=True) if value >= accuracy]
    probes = row["costs"].get("probe_seconds", 0) / row["costs"]["seconds"]
    return reached[0] + probes * row["steps"][-1] / max(1e-9, 1 - probes) if reached else math.inf


def report(args: argparse.Namespace) -> None:
    console = Console(width=140)
    score = {"test": lambda row: row["test"], "val": lambda row: row["val"][-1]}[args.split]
    differences: dict[str, list[float]] = {}  # of every way: a pair's mean
    for pair in args.pairs:
        rows = [r for r in read(args.out).values() if r["pair"] == pair and r["budget"] == args.budget]
        ways: dict[str, dict[int, Row]] = {}
        for row in rows:
            if row["seed"] >= FRESH:
                ways.setdefault(row["way"], {})[row["seed"]] = row
        hand = [name for name in args.tuned if name in ways]
        mean = {name: statistics.mean(map(score, ways[name].values())) for name in ways}
        best = args.against or max(hand, key=lambda name: mean[name], default="")
        if best not in ways:
            continue
        goal = statistics.mean(row["val"][-1] for row in ways["STEP" if "STEP" in hand else best].values())
        step = {name: statistics.median(steps_to(row, goal) for row in ways[name].values()) for name in ways}
        total = max(row["steps"][-1] for row in rows)
        table = Table(title=f"{pair}: {total:,} steps; goal {goal:.4f} (tuned STEP, else {best}; validation)")
        columns = ("way", "policy", "seeds", f"{args.split}, %", f"minus {best}", "steps to goal", "probes, % of time")
        for column in columns:
            table.add_column(column, overflow="fold")
        for name in sorted(ways, key=lambda name: -mean[name]):
            own = list(ways[name].values())
            paired = [score(ways[name][s]) - score(ways[best][s]) for s in ways[name] if s in ways[best]]
            if name != best and paired:
                differences.setdefault(name, []).append(100 * statistics.mean(paired))
            probes = [100 * r["costs"].get("probe_seconds", 0) / r["costs"]["seconds"] for r in own]
            table.add_row(
                name,
                own[0]["policy"],
                str(len(own)),
                interval([*map(score, own)]),
                interval(paired) if paired and name != best else "",
                f"{step[name] / total:.2f}" if math.isfinite(step[name]) else "never",
                f"{statistics.mean(probes):.1f}",
            )
        console.print(table)
    for name, values in differences.items():
        error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        mean_of_all = f"{statistics.mean(values):+.2f} ± {error:.2f} (standard error)"
        console.print(f"{name} minus {args.against or 'the best tuned'}, over {len(values)} pairs: {mean_of_all}")
    spent = sum(row["cpu_seconds"] for row in read(args.out).values())
    console.print(f"{len(read(args.out))} runs, {spent / 3600:.2f} CPU hours")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    every = [f"{setting}/{optimizer}" for setting in SETTINGS for optimizer in OPTIMIZERS]
    names = lambda text: text.split(",") if text else []  # noqa: E731
    parser.add_argument("--pairs", type=names, default=every[:12] + every[12:14], help=f"of {', '.join(every)}")
    ways = ["LRTUNER()", "SWITCH", "AUTOLRS", "schedulefree", "prodigy"]
    parser.add_argument("--ways", nargs="*", default=ways, help="untuned; also any policy, or grid of them")
    parser.add_argument("--tuned", type=names, default=list(TUNED))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--budget", type=float, default=1.0, help="times the usual number of epochs")
    parser.add_argument("--cifar100", default="/tmp/cifar100.npz", help="of shared/data/unpack.py")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--shard", default="0/1", help="I/N: this process does its N-th of the runs")
    parser.add_argument("--split", choices=("test", "val"), default="test", help="whose accuracy is reported")
    parser.add_argument("--against", help="the way that the others are compared with, for the best tuned policy")
    parser.add_argument("--report", action="store_true", help="only print what OUT holds")
    args = parser.parse_args()
    global DEVICE
    DEVICE = args.device
    torch.set_num_threads(1)
    if not args.report:
        work(args)
    report(args)


DEVICE = "cpu"

if __name__ == "__main__":
    main()
