"""Speed of training pools, each number beside a peer measured in the same run.

- tutorial: members x samples per second of a pool on two one-thread workers, against PyTorch's tutorial loop
  (torchvision transforms, DataLoader, torch.optim) at its best thread and loader setting: the same model, data, batch
  size, epochs, LR; final accuracies of both on the same rows;
- stack: a pool of small networks as stacks, against one after the other, one thread;
- workers: a pool of 8 LeNets with 1 worker x 1 thread, 1 x 2, 2 x 1;
- overhead: a step of the engine against one of a bare loop over the same tensors, in CPU seconds;
- gpu: (only with one) ResNet-20 and fastcnn at 1, 2, 4, 8 runs at a time, eager and compiled, against the tutorial.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import math
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset
from torchvision import transforms

from lrensemble import load_config, load_task, train_pool
from lrensemble.models import build_model
from lrensemble.pool import Pool
from lrensemble.tasks import Images
from lrensemble.tasks.rows import DeviceData, Rows
from lrensemble.tasks.sources import DEBIAN_FASHION_MNIST
from lrensemble.training.engine import Engine
from lrensemble.training.loop import Run, fit
from lrensemble.training.stack import fit_stack
from lrensemble.training.totals import Totals

SMALL = {"channels": [6, 16], "hidden": 120}
LR, BATCH, EPOCHS = 0.05, 128, 3
WARM_UP = 20  # steps that do not count
Row = dict[str, Any]


def config(policies: list[str], model: dict[str, Any] | str, epochs: int = 1, **more: Any) -> Any:
    return load_config(
        {
            "name": "bench",
            "data": {"name": "fashion_mnist", "val_fraction": 0.1},
            "model": model,
            "optimizer": {"name": "SGD", "momentum": 0.9},
            "training": {"epochs": epochs, "batch_size": BATCH},
            "policies": policies,
            **more,
        }
    )


# The tutorial's loop (pytorch.org, "Training a classifier" / "Quickstart"), on the same rows.


def tutorial_data(folder: Path, rows: int, val: int) -> tuple[Any, Any]:
    """torchvision's FashionMNIST with the usual transforms; the first `rows` rows train, the last `val` validate."""
    raw = folder / "FashionMNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for path in DEBIAN_FASHION_MNIST.glob("*.gz"):
        with gzip.open(path) as source, (raw / path.stem).open("wb") as target:
            shutil.copyfileobj(source, target)
    change = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.2860,), (0.3530,))])
    everything = torchvision.datasets.FashionMNIST(str(folder), train=True, transform=change)
    return Subset(everything, range(rows)), Subset(everything, range(len(everything) - val, len(everything)))


def tutorial_epochs(model: nn.Module, train: Any, epochs: int, loader_workers: int, device: str = "cpu") -> float:
    """Train as the tutorial does; seconds."""
    loader = DataLoader(train, batch_size=BATCH, shuffle=True, num_workers=loader_workers, drop_last=True)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9)
    model.to(device).train()
    start = time.perf_counter()
    for _ in range(epochs):
        running_loss = 0.0
        for inputs, labels in loader:
            inputs, labels = inputs.to(device), labels.to(device)
            optimizer.zero_grad()
            loss = criterion(model(inputs), labels)
            loss.backward()
            optimizer.step()
            running_loss += loss.item()
    return time.perf_counter() - start


def accuracy_of(model: nn.Module, rows: Any, device: str = "cpu") -> float:
    model.eval()
    right = 0
    with torch.no_grad():
        for inputs, labels in DataLoader(rows, batch_size=1000):
            right += int((model(inputs.to(device)).argmax(1).cpu() == labels).sum())
    return right / len(rows)


def bench_tutorial(folder: Path, data: Images) -> list[Row]:
    rows_out = []
    train, val = tutorial_data(folder, len(data.train), len(data.val))
    probe = Subset(train, range(100 * BATCH))
    shape: Any = {"input_shape": (1, 28, 28), "num_classes": 10}
    for name, parameters in (("LeNet 6-16", SMALL), ("LeNet 20-50-500", {})):
        settings = {}
        for threads, loader_workers in itertools.product((1, 2), (0, 1, 2)):
            torch.set_num_threads(threads)
            model = build_model("lenet", parameters=parameters, **shape)
            tutorial_epochs(model, Subset(train, range(20 * BATCH)), 1, loader_workers)  # warm up
            settings[threads, loader_workers] = tutorial_epochs(model, probe, 1, loader_workers)
        threads, loader_workers = min(settings, key=lambda key: settings[key])
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        model = build_model("lenet", parameters=parameters, **shape)
        seconds = tutorial_epochs(model, train, EPOCHS, loader_workers)
        samples = EPOCHS * (len(train) // BATCH) * BATCH

        wanted = config([f"FIX(k0={LR})"], {"name": "lenet", **parameters}, EPOCHS, seeds=4)
        start = time.perf_counter()
        pool = train_pool(wanted, folder / f"tutorial-{name}", workers=2, threads=1, devices="cpu")
        wall = time.perf_counter() - start
        rate = len(pool.complete) * samples / busy_seconds(pool, workers=2)
        accuracies = [m.record.metrics["val"]["accuracy"] or 0.0 for m in pool.complete]
        rows_out.append(
            {
                "what": f"{name}, {len(pool.complete)} members x {EPOCHS} epochs, 2 workers x 1 thread",
                "ours": rate,
                "peer": samples / seconds,
                "unit": "samples/s",
                "ratio": rate / (samples / seconds),
                "note": f"tutorial best at {threads} threads, {loader_workers} loader workers; val accuracy (n = "
                f"{len(val):,}) ours {statistics.mean(accuracies):.4f} ± {statistics.stdev(accuracies):.4f} (sd of 4), "
                f"tutorial {accuracy_of(model, val):.4f}; with start-up and evaluation "
                f"{len(pool.complete) * samples / wall:,.0f} samples/s",
                "settings": {f"{t} threads, {w} loader workers": s for (t, w), s in settings.items()},
            }
        )
    return rows_out


def busy_seconds(pool: Pool, workers: int) -> float:
    """Seconds of training steps, per worker."""
    return sum(float(m.record.costs["seconds"]) for m in pool.complete) / workers


def best_of(times: int, *functions: Callable[[], object]) -> list[float]:
    """Fastest time of each function, taken in turns so that a busy moment hits all."""
    best = [math.inf] * len(functions)
    for _ in range(times):
        for i, function in enumerate(functions):
            start = time.perf_counter()
            function()
            best[i] = min(best[i], time.perf_counter() - start)
    return best


def bench_stack(folder: Path, data: Images) -> list[Row]:
    return [
        stack_row("MLP 64, digits, batch 32", "digits", {"name": "mlp", "hidden": [64]}, 20, 16),
        stack_row("MLP 128-128, digits, batch 32", "digits", {"name": "mlp", "hidden": [128, 128]}, 10, 16),
        stack_row("MLP 256, Fashion-MNIST, batch 128", "fashion_mnist", {"name": "mlp", "hidden": [256]}, 1, 8),
        stack_row("LeNet 6-16, Fashion-MNIST, batch 128", "fashion_mnist", {"name": "lenet", **SMALL}, 1, 4),
    ]


def stack_row(name: str, source: str, model: dict[str, Any], epochs: int, count: int) -> Row:
    torch.set_num_threads(1)
    policies = ["FIX(k0=[0.01, 0.02, 0.03, 0.05, 0.06, 0.07, 0.08, 0.1])", "COS(k0=[0.05, 0.1], l=100%)"]
    policies.append("TRI(k0=[0.02, 0.05, 0.1], k1=0.001, l=[10%, 20%])")
    batch = 32 if source == "digits" else BATCH
    training = {"epochs": epochs, "batch_size": batch}
    wanted = config(policies, model, data={"name": source, "val_fraction": 0.1}, training=training)
    rows = DeviceData.of(load_task(source, val_fraction=0.1), torch.device("cpu"))

    def runs() -> list[Run]:
        return [Run(spec, f"id{i}", rows, Engine()) for i, spec in enumerate(wanted.specs()[:count])]

    def one_by_one() -> None:
        for run in runs():
            fit(run)

    def stacked() -> None:
        fit_stack(runs(), ended=lambda run, outcome: None)

    alone, together = best_of(3 if source == "digits" else 1, one_by_one, stacked)
    samples = count * epochs * (len(rows.train) // batch) * batch
    return {
        "what": f"{name}, stack of {count}, 1 thread",
        "ours": samples / together,
        "peer": samples / alone,
        "unit": "samples/s",
        "ratio": alone / together,
        "note": "peer: one after the other",
    }


def bench_workers(folder: Path, data: Images) -> list[Row]:
    wanted = config([f"FIX(k0={LR})"], {"name": "lenet", **SMALL}, EPOCHS, seeds=8)
    samples = 8 * EPOCHS * (len(data.train) // BATCH) * BATCH
    rates, walls = {}, {}
    for workers, threads in ((1, 1), (1, 2), (2, 1)):
        start = time.perf_counter()
        pool = train_pool(wanted, folder / f"workers-{workers}-{threads}", workers=workers, threads=threads)
        walls[workers, threads] = time.perf_counter() - start
        rates[workers, threads] = samples / busy_seconds(pool, workers)
    return [
        {
            "what": "8 LeNets 6-16: 2 workers x 1 thread",
            "ours": rates[2, 1],
            "peer": rates[peer],
            "unit": "samples/s",
            "ratio": rates[2, 1] / rates[peer],
            "note": f"peer: {peer[0]} worker x {peer[1]} thread; whole commands {walls[2, 1]:.1f} s against "
            f"{walls[peer]:.1f} s ({walls[peer] / walls[2, 1]:.2f}x)",
        }
        for peer in ((1, 1), (1, 2))
    ]


def bench_overhead(folder: Path, data: Images) -> list[Row]:
    rows = DeviceData.of(data, torch.device("cpu"), memory_format=torch.channels_last)
    return [overhead_row("LeNet 6-16", SMALL, 1, rows), overhead_row("LeNet 20-50-500", {}, 2, rows)]


def overhead_row(name: str, parameters: dict[str, Any], threads: int, rows: DeviceData) -> Row:
    """Steps of the engine and of a bare loop, in turns, in CPU seconds: other work on the machine hits both."""
    torch.set_num_threads(threads)
    spec = config([f"FIX(k0={LR})"], {"name": "lenet", **parameters}, 100).specs()[0]
    run, bare = (Run(spec, "id", rows) for _ in range(2))
    assert isinstance(rows.train, Rows)
    images, labels = rows.train.arrays["x"], rows.train.labels
    order, totals, batches = torch.randperm(len(labels)), Totals(run), run.batches()
    bare.model.train()

    def engine_step(step: int) -> None:
        totals.add(*run.step(next(batches)))

    def bare_step(step: int) -> None:
        index = order[step * BATCH : (step + 1) * BATCH]
        bare.optimizer.zero_grad()
        F.cross_entropy(bare.model(images[index]), labels[index]).backward()
        bare.optimizer.step()

    seconds: list[list[float]] = [[], []]
    for step in range(run.steps_per_epoch):
        for times, make in zip(seconds, (engine_step, bare_step), strict=True):
            start = time.process_time()
            make(step)
            times.append(time.process_time() - start)
    ours, peer = (np.quantile(times[WARM_UP:], 0.25) for times in seconds)
    return {
        "what": f"{name}, {threads} thread: a step of the engine",
        "ours": BATCH / ours,
        "peer": BATCH / peer,
        "unit": "samples/CPU-s",
        "ratio": peer / ours,
        "note": f"peer: bare step, same tensors; overhead {ours / peer - 1:+.1%} (lower quartiles of {len(seconds[0])} "
        f"steps in turns; medians {np.median(seconds[0]) / np.median(seconds[1]) - 1:+.1%})",
    }


def bench_gpu(folder: Path, data: Images) -> list[Row]:
    if not torch.cuda.is_available():
        return []
    rng = np.random.default_rng(0)  # CIFAR-size noise: speed does not depend on what is in the images
    file = folder / "noise.npz"
    images, labels = rng.integers(0, 255, (60_000, 32, 32, 3), dtype=np.uint8), rng.integers(0, 10, 60_000)
    np.savez(
        file, train_images=images[:50_000], train_labels=labels[:50_000], test_images=images[50_000:],
        test_labels=labels[50_000:],
    )  # fmt: skip
    change = transforms.Compose(
        [transforms.ToPILImage(), transforms.RandomCrop(32, 4), transforms.RandomHorizontalFlip(),
         transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.25,) * 3)]
    )  # fmt: skip

    class Pictures(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 45_000

        def __getitem__(self, i: int) -> Any:
            return change(images[i]), int(labels[i])

    rows_out = []
    for model in ("resnet20", "fastcnn"):
        net = build_model(model, input_shape=(3, 32, 32), num_classes=10)
        seconds = tutorial_epochs(net, Pictures(), 1, len(os.sched_getaffinity(0)) - 1, "cuda")
        for at_a_time, mode in itertools.product((1, 2, 4, 8), ("no", "default", "reduce-overhead")):
            epochs = 8
            wanted = config(
                ["FIX(k0=0.05)"], model, epochs, seeds=at_a_time, data={"name": "npz", "root": str(file)},
                engine={"compile": mode},
                training={"epochs": epochs, "batch_size": BATCH, "augment": ["crop", "flip"]},
            )  # fmt: skip
            start = time.perf_counter()
            pool = train_pool(wanted, folder / f"gpu-{model}-{mode}-{at_a_time}", workers=at_a_time, devices="cuda:0")
            wall = time.perf_counter() - start
            rate = at_a_time * epochs * 45_000 / busy_seconds(pool, at_a_time)
            rows_out.append(
                {
                    "what": f"{model}, {at_a_time} at a time, compile {mode}",
                    "ours": rate,
                    "peer": 45_000 / seconds,
                    "unit": "samples/s",
                    "ratio": rate * seconds / 45_000,
                    "note": f"peer: tutorial; {3600 * at_a_time / wall:.0f} members of {epochs} epochs per GPU-hour",
                }
            )
    return rows_out


BENCHES = {
    "tutorial": bench_tutorial,
    "stack": bench_stack,
    "workers": bench_workers,
    "overhead": bench_overhead,
    "gpu": bench_gpu,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", type=Path)
    parser.add_argument("--only", metavar="A,B", default=",".join(BENCHES), help=f"some of {', '.join(BENCHES)}")
    args = parser.parse_args()
    chosen = args.only.split(",")
    if unknown := set(chosen) - set(BENCHES):
        parser.error(f"unknown benchmark {', '.join(unknown)}: known are {', '.join(BENCHES)}")
    if not list(DEBIAN_FASHION_MNIST.glob("*.gz")):
        parser.error("Fashion-MNIST is not here: apt-get install dataset-fashion-mnist")
    data = load_task("fashion_mnist", val_fraction=0.1)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen:
            rows += BENCHES[name](Path(folder), data)
    table = Table(title=f"Training, torch {torch.__version__}, {len(os.sched_getaffinity(0))} cores")
    for column in ("what", "ours", "peer", "ratio", "note"):
        table.add_column(column, justify="left" if column in ("what", "note") else "right")
    for row in rows:
        table.add_row(row["what"], f"{row['ours']:,.0f}", f"{row['peer']:,.0f}", f"{row['ratio']:.2f}", row["note"])
    Console(width=160).print(table)
    if args.json:
        args.json.write_text(json.dumps({"torch": torch.__version__, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
