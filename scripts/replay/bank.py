"""Banks for ``scripts/bench_budget``: small tasks cut from real data, and every run that a strategy may ask for.

A bank is an ordinary pool. Its configuration lists policies with a few seeds each; the fixed defaults and the best of
the others are trained with more, for strategies that repeat them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrensemble import Policy, Pool, load_config, train_pool
from lrensemble.errors import UserError
from lrensemble.pool import RunSpec
from lrensemble.pool.files import write_atomic
from lrensemble.tasks.idx import find_idx, read_idx
from lrensemble.training import make_plan
from lrensemble.training.config import Config

Array = NDArray[Any]
# What people train with when nobody chooses.
DEFAULTS = ("ONECYCLE(k0=0.1)", "COS(k0=0.1, l=100%)", "COS(k0=0.01, l=100%)", "STEP(k0=0.1, gamma=0.1, l=33.3%)")
DEFAULTS += ("FIX(k0=0.001)", "ONECYCLE(k0=0.01)")  # with Adam
# So many of the best are repeated: half of a budget may be seeds of random policies, nearly all of it of a cosine.
BEST_DRAWN, BEST_WRITTEN = 6, 2


def digits() -> dict[str, Array]:
    """scikit-learn's 8x8 digits: 300 rows to train, 300 to validate, 1,197 to test."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return _cut("images", (found.images * 15).astype(np.uint8), found.target, (300, 300))


def tabular() -> dict[str, Array]:
    """A made table: 8 classes of two clusters each in 24 features, 8 of them informative, 5 % of labels wrong."""
    from sklearn.datasets import make_classification

    x, y = make_classification(
        6000, 24, n_informative=8, n_redundant=6, n_classes=8, n_clusters_per_class=2, flip_y=0.05, random_state=0
    )
    return _cut("x", x.astype(np.float32), y, (800, 800))


def fashion(root: Path) -> dict[str, Array]:
    """Fashion-MNIST at 16x16 (means of pixels): 2,000 of train's rows, 1,500 others to validate, 5,000 of test."""
    files = find_idx(root)
    if len(files) < 4:
        raise UserError(f"{root} does not have the four IDX files of Fashion-MNIST")
    arrays = {key: read_idx(path) for key, path in files.items()}
    train = _cut("images", _halved(arrays["train_images"]), arrays["train_labels"], (2000, 1500))
    kept = {key: array for key, array in train.items() if not key.startswith("test")}
    return {**kept, "test_images": _halved(arrays["test_images"][:5000]), "test_labels": arrays["test_labels"][:5000]}


def _halved(images: Array) -> Array:
    """(N, 28, 28) -> (N, 16, 16): 14x14 means of 2x2 pixels with a black border, the least that a LeNet takes."""
    small = images.reshape(-1, 14, 2, 14, 2).mean((2, 4)).round().astype(np.uint8)
    return np.pad(small, ((0, 0), (1, 1), (1, 1)))


def tiny_fashion(root: Path) -> dict[str, Array]:
    """Other rows of Fashion-MNIST at 7x7: 1,000 of train's, 1,000 others to validate, the other 5,000 of test."""
    arrays = {key: read_idx(path) for key, path in find_idx(root).items()}
    small = {
        split: arrays[f"{split}_images"].reshape(-1, 7, 4, 7, 4).mean((2, 4)).round().astype(np.uint8)
        for split in ("train", "test")
    }
    sizes = {"train": slice(-2000, -1000), "val": slice(-1000, None), "test": slice(5000, None)}
    return {
        f"{split}_{kind}": rows["test" if split == "test" else "train"][part]
        for split, part in sizes.items()
        for kind, rows in (("images", small), ("labels", {s: arrays[f"{s}_labels"] for s in small}))
    }


def cifar(path: Path, classes: int = 20) -> dict[str, Array]:
    """The first classes of CIFAR-100 at 16x16: 2,500 rows to train, 2,000 to validate, 5,000 to test."""
    with np.load(path) as file:
        images = np.concatenate([file["train_images"], file["test_images"]])
        labels = np.concatenate([file["train_labels"], file["test_labels"]]).ravel()
    chosen = labels < classes
    small = images[chosen].reshape(-1, 16, 2, 16, 2, 3).mean((2, 4)).round().astype(np.uint8)
    return _cut("images", small, labels[chosen], (2500, 2000), 5000)


def trec(root: Path) -> dict[str, Array]:
    """Six kinds of questions (TREC): 1,500 rows to train, 1,000 to validate, 3,452 to test; 100 latent topics each.

    Topics are of TF-IDF (latent semantic analysis), made of all texts without their labels.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    lines = [json.loads(line) for part in ("train", "test") for line in (root / f"trec_{part}.jsonl").open()]
    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2).fit_transform([line["text"] for line in lines])
    topics = TruncatedSVD(100, random_state=0).fit_transform(words).astype(np.float32)
    return _cut("x", topics, np.array([line["label"] for line in lines]), (1500, 1000))


def _cut(key: str, x: Array, y: Array, sizes: tuple[int, int], test: int | None = None) -> dict[str, Array]:
    """Three splits in a fixed random order, the rest is test; named as npz and table files name them."""
    order = np.random.default_rng(0).permutation(len(x))
    parts = dict(
        zip(("train", "val", "test"), np.split(order[: test and sum(sizes) + test], np.cumsum(sizes)), strict=True)
    )
    labels = "labels" if key == "images" else "y"
    return {f"{split}_{name}": rows[part] for split, part in parts.items() for name, rows in ((key, x), (labels, y))}


def write_data(folder: Path, fashion_root: Path, cifar_path: Path, text_root: Path) -> list[Path]:
    """Write ``folder/<bank>.npz``, those whose source is there; return the files."""
    sources: dict[str, tuple[Path | None, Callable[[], dict[str, Array]]]] = {
        "digits": (None, digits),
        "tabular": (None, tabular),
        "fashion": (fashion_root, lambda: fashion(fashion_root)),
        "cifar": (cifar_path, lambda: cifar(cifar_path)),
        "tiny": (fashion_root, lambda: tiny_fashion(fashion_root)),
        "trec": (text_root, lambda: trec(text_root)),
    }
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, (source, make) in sources.items():
        if source is None or source.exists():
            arrays = make()
            write_atomic(folder / f"{name}.npz", lambda file, arrays=arrays: np.savez(file, **arrays))
            written.append(folder / f"{name}.npz")
    return written


def fixed() -> set[str]:
    """`DEFAULTS` as members call them."""
    return {str(Policy.parse(policy)) for policy in DEFAULTS}


def bank_specs(config: Config, more: Mapping[str, int]) -> list[RunSpec]:
    """All runs of a bank, one seed of every policy first: a bank that is not finished is a smaller bank.

    `more` are the seeds of policies that have others than the configuration says.
    """
    specs = config.specs()
    counts = {spec.policy: more.get(spec.policy, len(config.seeds)) for spec in specs}
    return [
        specs[0].model_copy(update={"policy": policy, "seed": seed})
        for seed in range(max(counts.values()))
        for policy, count in counts.items()
        if seed < count
    ]


def drawn(config: Config) -> list[str]:
    """The random policies of a bank's configuration."""
    samples = tuple(entry for entry in config.policies if not isinstance(entry, str))
    return list(dict.fromkeys(spec.policy for spec in config.model_copy(update={"policies": samples}).specs()))


def more_seeds(config: Config, pool: Pool, most: int) -> dict[str, int]:
    """Seeds of the policies that strategies may repeat in `most` trainings: the defaults and the best of each kind."""
    losses: dict[str, list[float]] = {}
    for member in pool.complete:
        losses.setdefault(str(member.record.spec.policy), []).append(float(member.record.val["nll"]))
    ranked = sorted(losses, key=lambda policy: float(np.mean(losses[policy])))
    random = drawn(config)
    written = [policy for policy in ranked if policy.startswith("COS(") and policy not in random]
    found = dict.fromkeys([policy for policy in ranked if policy in random][:BEST_DRAWN], most // 2 + 1)
    return found | dict.fromkeys(written[:BEST_WRITTEN], most - 4) | dict.fromkeys(fixed() & losses.keys(), most)


def train_bank(path: Path, overrides: Sequence[str], pool: Path, most: int = 24) -> Pool:
    """Train a bank for budgets up to `most` in this process, one thread; what is finished stays."""
    config = load_config(path, overrides)
    plan = make_plan(config, pool)

    def train(more: Mapping[str, int]) -> Pool:
        return train_pool(plan.of(bank_specs(config, more)), workers=1, threads=1, devices="cpu", control=False)

    return train(more_seeds(config, train({}), most))
