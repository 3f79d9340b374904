"""Speed of diversity and selection, each job beside its peers on the same predictions, measured in the same run.

A benchmark is a function of no arguments that returns or yields rows; add one to `BENCHMARKS` to have it run. Times are
the best of three after a warm-up; peers that would take minutes do a random sample of the teams, and their time is
scaled up (the row says so). Machine code of numba is cached, and what compiling it costs is a row of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.metrics import accuracy_score, cohen_kappa_score, log_loss

from lrensemble import diversity as d
from lrensemble.selection import BruteForce, DiverseGreedy, Focal, Greedy, Hierarchical, running, screens

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
import bench_scale  # noqa: E402

from tests.selection.oracles import plain_greedy  # noqa: E402

Row = dict[str, Any]
NINE = ["CK", "QS", "BD", "FK", "KW", "GD", "rho", "DF", "E"]
PEERS = True
QUICK = False
AUTOGLUON = ""  # a Python that has it


@functools.cache
def pool(members: int, rows: int, classes: int, strength: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Softmax probabilities (M, N, C) float32 with errors that members share in part; strength 3: 57 to 83 % right."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, classes, rows)
    p = np.empty((members, rows, classes), np.float32)
    shared = rng.normal(size=(rows, classes))
    for m in range(members):
        logits = shared + rng.normal(size=(rows, classes))
        logits[np.arange(rows), y] += strength + 0.3 * rng.normal()
        logits = np.exp(logits - logits.max(-1, keepdims=True))
        p[m] = logits / logits.sum(-1, keepdims=True)
    return p, y


def seconds(job: Callable[[], Any], repeat: int = 3) -> float:
    """Best of `repeat` after a warm-up of one."""
    times = []
    for _ in range(repeat + 1):
        start = time.perf_counter()
        job()
        times.append(time.perf_counter() - start)
    return min(times[1:] or times)


def once(job: Callable[[], Any]) -> float:
    return seconds(job, repeat=0)


def row(job: str, size: str, ours: float, peer: str = "", theirs: float | None = None, limit: float | None = None,
        note: str = "") -> Row:  # fmt: skip
    ratio = None if theirs is None else theirs / ours
    return {"job": job, "size": size, "seconds": ours, "limit": limit, "peer": peer, "peer_seconds": theirs,
            "ratio": ratio, "note": note}  # fmt: skip


def drain(*args: Any, **options: Any) -> None:
    for _ in d.all_teams(*args, **options):
        pass


# --- diversity of 1,013 teams ---------------------------------------------------------------------------------------


@functools.cache
def ensemblebench() -> Any:
    """EnsembleBench's groupMetrics from PyPI in a throw-away folder, or None. It imports as if that were the path."""
    folder = tempfile.mkdtemp(prefix="ensemblebench-")
    command = [".venv/bin/uv", "pip", "install", "--quiet", "--no-deps", "--target", folder, "EnsembleBench"]
    if not PEERS or subprocess.run(command, capture_output=True).returncode:
        return None
    sys.path.insert(0, f"{folder}/EnsembleBench")
    import groupMetrics

    return groupMetrics


def six_metrics_and_focal() -> list[Row]:
    p, y = pool(10, 10_000, 10)
    masks = np.array([mask for mask in d.all_masks(10) if mask.bit_count() > 1], dtype=np.uint32)
    predicted = p.argmax(-1)

    def metrics() -> Any:
        return d.team_diversity(p, y, masks, d.SIX)

    def focal() -> Any:
        return {name: d.fq_scores(v, np.bitwise_count(masks)) for name, v in d.focal_scores(p, y, masks).items()}

    ours = {"six metrics": seconds(metrics), "focal, exact": seconds(focal)}
    theirs: dict[str, float | None] = dict.fromkeys(ours)
    sample = 40
    if (bench := ensemblebench()) is not None:
        rng = np.random.default_rng(0)
        teams = [d.members_of(mask) for mask in rng.choice(masks, sample, replace=False)]
        six = list(d.SIX)

        def six_metrics_theirs() -> None:
            for team in teams:
                bench.calAllDiversityMetrics(predicted[team].T, y, six)

        def focal_theirs() -> None:
            for team in teams:
                negatives = np.flatnonzero(predicted[team[0]] != y)
                for _ in range(3):
                    rows = rng.choice(negatives, 100)
                    bench.calAllDiversityMetrics(predicted[team][:, rows].T, y[rows], six)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pairs = int(np.bitwise_count(masks).sum())  # (focal member, team)
            theirs["six metrics"] = once(six_metrics_theirs) * len(masks) / sample
            theirs["focal, exact"] = once(focal_theirs) * pairs / sample
    rows = [
        row(name, "1,013 teams of 10 x 10,000 x 10", ours[name], "EnsembleBench", theirs[name], None,
            f"peer: {sample} teams, scaled" + ("; it samples 3 x 100 negatives" if "focal" in name else ""))
        for name in ours
    ]  # fmt: skip
    known = [t for t in theirs.values() if t is not None]
    both = row("six metrics and focal", rows[0]["size"], sum(ours.values()), "EnsembleBench",
               sum(known) if known else None, 0.1, "the two above")  # fmt: skip
    return [*rows, both]


def kappa_of_pairs() -> list[Row]:
    p, y = pool(20, 5_000, 10)
    predicted = p.argmax(-1)

    def theirs() -> None:
        for i in range(20):
            for j in range(i):
                cohen_kappa_score(predicted[i], predicted[j])

    peer = once(theirs) if PEERS else None
    return [row("CK of all pairs", "20 x 5,000", seconds(lambda: d.pairwise(predicted, y, "CK")), "cohen_kappa_score",
                peer)]  # fmt: skip


# --- all 2^20 teams -------------------------------------------------------------------------------------------------


def naive_votes(p: np.ndarray, y: np.ndarray, name: str, sample: int = 200) -> float:
    """Seconds that a loop over all teams with scikit-learn's metric would take, from a sample."""
    teams = [d.members_of(t) for t in np.random.default_rng(0).integers(1, 1 << len(p), sample)]

    def loop() -> None:
        for team in teams:
            if name == "plurality":
                votes = np.apply_along_axis(np.bincount, 0, p[team].argmax(-1), minlength=p.shape[2])
                accuracy_score(y, votes.argmax(0))
                continue
            vote = p[team].mean(0)
            if name == "accuracy":
                accuracy_score(y, vote.argmax(1))
            else:
                log_loss(y, vote, labels=range(p.shape[2]))

    return once(loop) / sample * (1 << len(p))


def votes_of_all_teams() -> Iterator[Row]:
    titles = {"accuracy": "soft vote accuracy", "plurality": "plurality accuracy", "nll": "soft vote NLL"}
    p, y = pool(20, 5_000, 10)
    for name, title in titles.items():
        peer = naive_votes(p, y, name, 200 if name == "accuracy" else 30) if PEERS else None
        ours = seconds(lambda: drain(p, y, [name], backend="numba"))  # noqa: B023
        yield row(title, "2^20 x 5,000 x 10", ours, "scikit-learn loop", peer, 2.0 if name == "accuracy" else None,
                  "peer: a sample of teams, scaled")  # fmt: skip
    easy = pool(20, 5_000, 10, 5.0)
    yield row("soft vote accuracy", "2^20 x 5,000 x 10, 90 % right", seconds(lambda: drain(*easy, backend="numba")))
    p, y = pool(16, 5_000, 10)
    for name, title in titles.items():
        compiled = seconds(lambda: drain(p, y, [name], backend="numba"))  # noqa: B023
        for backend in ("numpy", "torch"):
            slow = once(lambda: drain(p, y, [name], backend=backend))  # noqa: B023
            yield row(title, "2^16 x 5,000 x 10", compiled, f"our {backend}", slow)


def metrics_of_all_teams() -> list[Row]:
    p, y = pool(20, 5_000, 10)
    predicted = p.argmax(-1)
    rows = [
        row("nine metrics", "2^20 x 5,000", seconds(lambda: drain(p, y, NINE)), limit=3.0, note="NumPy alone"),
        row("all but the entropy", "2^20 x 5,000", seconds(lambda: drain(predicted, y, NINE[:-1]))),
    ]
    top = seconds(lambda: d.top_teams(d.all_teams(p, y, ["accuracy", *NINE], backend="numba"), "accuracy", 100))
    rows.append(row("accuracy, nine metrics, top 100", "2^20 x 5,000 x 10", top))
    return rows


def compiling() -> list[Row]:
    """First use with an empty cache, and with a full one, each in a fresh process."""
    code = (
        "import time, numpy as np; from lrensemble import diversity as d;"
        "p = np.random.default_rng(0).dirichlet(np.ones(3), (4, 50)); y = np.zeros(50, int); t = time.perf_counter();"
        "[c for n in ('accuracy', 'nll') for c in d.all_teams(p, y, [n], backend='numba')];"
        "print(time.perf_counter() - t)"
    )
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for state in ("empty", "full"):
            env = {**os.environ, "NUMBA_CACHE_DIR": folder}
            out = subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True)
            note = "import of numba and " + ("compilation, once per machine" if state == "empty" else "cached code")
            rows.append(row(f"first use, {state} cache", "accuracy and NLL", float(out.stdout), note=note))
    return rows


# --- growth ---------------------------------------------------------------------------------------------------------


def growth() -> Iterator[Row]:
    settings = [(m, 5_000, 10) for m in (12, 14, 16, 18, 20, 22)]
    settings += [(16, n, 10) for n in (1_000, 10_000, 50_000)] + [(16, 5_000, c) for c in (2, 100)]
    for members, n, classes in settings:
        p, y = pool(members, n, classes)
        size = f"2^{members} x {n:,} x {classes}"
        for name, scores in (("accuracy", ["accuracy"]), ("NLL", ["nll"]), ("nine metrics", NINE)):
            job = functools.partial(drain, p, y, scores, backend="numba")
            yield row(f"growth: {name}", size, seconds(job, 1))
    pool.cache_clear()
    for members in (50, 200):
        predicted = np.random.default_rng(0).integers(0, 10, (members, 10_000))
        y = predicted[0]
        took = seconds(lambda: d.count(predicted, y), 1)  # noqa: B023
        yield row("growth: counts of pairs", f"{members} x 10,000", took)


def peak_memory() -> list[Row]:
    """Growth of the peak resident memory of a fresh process over that after loading the input, in MiB (Linux)."""
    # VmHWM, unlike ru_maxrss, does not begin with the peak of the process that started this one.
    code = (
        "import re, sys, numpy as np; from pathlib import Path; from lrensemble import diversity as d;"
        "p, y = np.load(sys.argv[1]), np.load(sys.argv[2]); names = sys.argv[3].split(',');"
        "list(d.all_teams(p[:4, :50], y[:50], names, backend='numba'));"
        "size = lambda key: int(re.search(key + r':\\s*(\\d+)', Path('/proc/self/status').read_text())[1]) / 1024;"
        "Path('/proc/self/clear_refs').write_text('5'); before = size('VmRSS');"
        "[None for _ in d.all_teams(p, y, names, backend='numba')]; print(size('VmHWM') - before)"
    )
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for members, n, classes in (
            (16, 5_000, 10),
            (20, 5_000, 10),
            (22, 5_000, 10),
            (16, 50_000, 10),
            (16, 5_000, 100),
        ):
            p, y = pool(members, n, classes)
            np.save(f"{folder}/p.npy", p)
            np.save(f"{folder}/y.npy", y)
            for scores in ("accuracy", "nll", ",".join(NINE)):
                out = subprocess.run([sys.executable, "-c", code, f"{folder}/p.npy", f"{folder}/y.npy", scores],
                                     check=True, capture_output=True, text=True)  # fmt: skip
                rows.append({**row(f"peak memory: {scores if len(scores) < 9 else 'nine metrics'}",
                                   f"2^{members} x {n:,} x {classes}", float("nan")),
                             "mib": float(out.stdout), "input_mib": p.nbytes / 2**20})  # fmt: skip
    pool.cache_clear()
    return rows


# --- selectors ------------------------------------------------------------------------------------------------------


def selectors() -> list[Row]:
    rows = []
    for members in (10, 16):
        p, y = pool(members, 5_000, 10)
        for selector in (BruteForce(), BruteForce(objective="accuracy"), Focal(), Focal(metric="EQ"), Hierarchical(),
                         DiverseGreedy()):  # fmt: skip
            took = seconds(lambda s=selector, p=p, y=y: s.fit(p, y), 1)
            rows.append(row(f"select: {selector}", f"{members} x 5,000 x 10", took))
    return rows


# --- greedy selection -----------------------------------------------------------------------------------------------


def uneven_pool(members: int, rows: int, classes: int, signal: float) -> tuple[np.ndarray, np.ndarray]:
    """Members that share most of their errors, of uneven quality: with signal 6 accuracies of 0.65 to 0.87."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, classes, rows)
    common = rng.normal(size=(rows, classes)) * 1.5
    common[np.arange(rows), y] += signal * rng.uniform(0.3, 2, rows)
    p = np.empty((members, rows, classes), dtype=np.float32)
    for m, quality in enumerate(rng.uniform(0.5, 1.5, members)):
        z = common * quality + rng.normal(size=(rows, classes)) * 1.5
        z = np.exp(z - z.max(-1, keepdims=True))
        p[m] = z / z.sum(-1, keepdims=True)
    return p, y


def sklearn_step(p: np.ndarray, y: np.ndarray, objective: str) -> None:
    """The first step of the loop with scikit-learn's metrics."""
    for member in p:
        if objective == "accuracy":
            accuracy_score(y, member.argmax(1))
        else:
            log_loss(y, member, labels=range(p.shape[2]))


AUTOGLUON_CODE = """
import sys, time, warnings
import numpy as np
warnings.filterwarnings("ignore")
from autogluon.core.models.greedy_ensemble.ensemble_selection import EnsembleSelection
from autogluon.core.metrics import get_metric
folder, metric, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
P, y = np.load(folder + "/P.npy"), np.load(folder + "/y.npy")
selection = EnsembleSelection(ensemble_size=steps, problem_type="multiclass", metric=get_metric(metric, "multiclass"))
start = time.perf_counter()
selection.fit(list(P), y)
print(time.perf_counter() - start)
"""


def autogluon(p: np.ndarray, y: np.ndarray, objective: str, steps: int) -> float:
    """Seconds of AutoGluon's EnsembleSelection, run by a Python that has it."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/P.npy", p)
        np.save(f"{folder}/y.npy", y)
        metric = {"nll": "log_loss", "accuracy": "accuracy"}[objective]
        command = [AUTOGLUON, "-c", AUTOGLUON_CODE, folder, metric, str(steps)]
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def greedy() -> Iterator[Row]:
    """The target size, two pools, both objectives; NLL with either screen."""
    shape, steps = (200, 10_000, 10), 50
    size = "200 x 10,000 x 10, 50 steps"
    for signal in (6.0, 3.0):
        p, y = uneven_pool(*shape, signal)
        accuracy = (p.argmax(-1) == y).mean(1)
        right = f"members {accuracy.min():.2f} to {accuracy.max():.2f}"
        for objective, limit, kinds in (
            ("accuracy", 0.5, {"": screens.Bounds}),
            ("nll", 0.1, {" with numba": screens.Products, " with NumPy": screens.Bounds}),
        ):
            start = time.perf_counter()
            picks = plain_greedy(p, y, objective, steps=steps)
            plain = time.perf_counter() - start
            for name, screen in kinds.items():
                with patch.object(running, "make_screen", screen):
                    selector = Greedy(objective=objective, steps=steps)
                    ours = seconds(lambda: selector.fit(p, y), 5)  # noqa: B023
                same = [step.member for step in selector.trajectory_] == picks
                note = f"{right}; picks {'identical' if same else 'DIFFER'}"
                yield row(f"greedy, {objective}{name}", size, ours, "plain NumPy loop", plain, limit, note)
            if PEERS and not QUICK:
                theirs = once(lambda: sklearn_step(p, y, objective)) * steps  # noqa: B023
                yield row(f"greedy, {objective}", size, ours, "scikit-learn loop", theirs, None, "peer: a step, scaled")
            if AUTOGLUON:
                yield row(f"greedy, {objective}", size, ours, "AutoGluon", autogluon(p, y, objective, steps))


def greedy_growth() -> Iterator[Row]:
    """Over members, rows and classes; what Python allocates beside the input."""
    for shape in [(50, 10_000, 10), (200, 2_500, 10), (200, 40_000, 10), (800, 10_000, 10), (200, 10_000, 100)]:
        p, y = uneven_pool(*shape, 6.0)
        for objective in ("accuracy", "nll"):
            selector = Greedy(objective=objective, steps=50)
            took = seconds(lambda: selector.fit(p, y), 1)  # noqa: B023
            tracemalloc.start()
            selector.fit(p, y)
            peak = tracemalloc.get_traced_memory()[1] / 2**20
            tracemalloc.stop()
            size = " x ".join(f"{n:,}" for n in shape)
            note = f"{peak:.0f} MiB beside {p.nbytes / 2**20:.0f} of input"
            yield row(f"growth: greedy, {objective}", size, took, note=note)


def scale() -> Iterator[Row]:
    """1,000 members x 50,000 rows x 100 classes on disk: minutes, 10 GB in the folder for temporary files."""
    for found in bench_scale.measure(QUICK):
        note = f"{found['mib']:.0f} MiB beside {found['input_mib']:,.0f} on disk; {found['note']}"
        yield row(f"scale: {found['job']}", found["size"], found["seconds"], note=note)


BENCHMARKS: list[Callable[[], Iterable[Row]]] = [
    six_metrics_and_focal,
    kappa_of_pairs,
    votes_of_all_teams,
    metrics_of_all_teams,
    compiling,
    greedy,
    selectors,
    growth,
    greedy_growth,
    peak_memory,
    scale,
]
ON_DEMAND = {"scale"}
LONG = {"growth", "greedy_growth", "peak_memory"}


def show(rows: list[Row]) -> None:
    table = Table(title=f"diversity and selection on {os.cpu_count()} cores")
    for name in ("job", "size", "seconds", "limit", "peer", "peer, s", "ratio", "note"):
        table.add_column(name, justify="right" if name in ("seconds", "limit", "peer, s", "ratio") else "left")
    for r in rows:
        time_ = f"{r['mib']:.0f} MiB (input {r['input_mib']:.0f})" if "mib" in r else f"{r['seconds']:.4f}"
        limit = "" if r["limit"] is None else f"{r['limit']:g} {'ok' if r['seconds'] <= r['limit'] else 'MISSED'}"
        peer = ("", "") if r["ratio"] is None else (f"{r['peer_seconds']:,.1f}", f"{r['ratio']:,.0f}x")
        table.add_row(r["job"], r["size"], time_, limit, r["peer"], *peer, r["note"])
    Console(width=170).print(table)


def main() -> None:
    global PEERS, QUICK, AUTOGLUON
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [benchmark.__name__ for benchmark in BENCHMARKS]
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME",
                        help=f"{', '.join(names)}; without: all but {', '.join(ON_DEMAND)}")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="no growth, fewer peers, a small scale")
    parser.add_argument("--autogluon", default="", metavar="PYTHON", help="a Python that has autogluon.core")
    parser.add_argument("--no-peers", action="store_true", help="leave out what takes long")
    parser.add_argument("--json", metavar="FILE", type=Path)
    args = parser.parse_args()
    PEERS, QUICK, AUTOGLUON = not args.no_peers, args.quick, args.autogluon
    chosen = set(args.only) if args.only else set(names) - ON_DEMAND - (LONG if QUICK else set())
    rows: list[Row] = []
    with contextlib.suppress(KeyboardInterrupt):  # what is measured is shown
        for benchmark in BENCHMARKS:
            if benchmark.__name__ in chosen:
                for r in benchmark():
                    rows.append({"benchmark": benchmark.__name__, **r})
    show(rows)
    if args.json:
        machine = {"cores": os.cpu_count(), "machine": platform.processor() or platform.machine(),
                   "python": platform.python_version(), "numpy": np.__version__}  # fmt: skip
        args.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
