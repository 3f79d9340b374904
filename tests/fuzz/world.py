"""Everything that lrensemble reads from a disk, made once by lrensemble itself, and the commands that read it."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from lrensemble import Pool, evaluate, export_team, load_config, load_task, select_teams, train_pool
from lrensemble.pool import Named
from lrensemble.training import member as member_module
from tests.commands import Commands, Done
from tests.conftest import tiny_config
from tests.fuzz.mutations import WORLD, mutate

CPU = 20  # seconds of CPU that a command may take: a tenth is usual
CONFIG = tiny_config(
    model={"name": "mlp", "hidden": [6]},
    policies=["FIX(k0=0.1)", "FIX(k0=0.105)"],  # near enough to each other for a soup
    training={"epochs": 3, "batch_size": 64, "shared_init": True},
)
JSON = ["--format", "json"]
TRAIN = ["--workers", "1", "--threads", "1", "--devices", "cpu"]


@dataclass(frozen=True)
class Kind:
    """Files by patterns, and the commands that read them.

    `sealed`: lrensemble wrote them, so that it can know when a number is not the one it wrote.
    """

    files: tuple[str, ...]
    commands: tuple[tuple[str, ...], ...]
    sealed: bool = True


POOL = (
    ("ls", "pool", *JSON),
    ("show", "pool", "MEMBER", *JSON),
    ("diversity", "pool", *JSON),
    ("propose", "pool", "-n", "1", *JSON),
    ("gc", "pool", "--max-size", "0", *JSON),
    ("report", "pool", *JSON),
    ("export", "pool", "all", "-o", "exported", "--as", "safetensors", "--no-benchmark", *JSON),
    ("predict", "exported", "images", *JSON),
    ("select", "pool", "--selector", "greedy", *JSON),
    ("evaluate", "pool", *JSON),
    ("train", "pool.yaml", "--pool", "pool", *TRAIN, *JSON),
    ("soup", "pool", *JSON),  # last: a member more
)
PREDICT = tuple(("predict", "team", "images", "--as", name, *JSON) for name in ("torch", "onnx", "safetensors"))
IMPORT = (
    ("import", "new", "runs", "--labels", "labels.npz", *JSON),
    ("import", "new", "--model", "m", "--val", "val.csv", "--test", "test.csv", "--labels", "labels.npz", *JSON),
    ("ls", "new", *JSON),
    ("select", "new", "--selector", "all", *JSON),
    ("evaluate", "new", *JSON),
)
ADOPT = (("adopt", "adopted", "checkpoints", "--config", "adopt.yaml", *JSON), ("ls", "adopted", *JSON))
DRY = ("train", "config.yaml", "--dry-run", *JSON)
KINDS = {
    "header": Kind(("pool/pool.json", "pool/control/pool.json"), POOL),
    "record": Kind(("pool/members/*/record.json", "pool/control/members/*/record.json"), POOL),
    "history": Kind(("pool/members/*/history.jsonl",), POOL),
    "predictions": Kind(("pool/members/*/predictions/*.npy",), POOL),
    "labels": Kind(("pool/labels/*.npy",), POOL),
    "weights": Kind(("pool/members/*/weights.safetensors",), POOL),
    "state": Kind(("pool/members/*/state.pt",), POOL),
    "team": Kind(("pool/teams/*.json",), POOL),
    "evaluation": Kind(("pool/evaluations/*.json",), POOL),
    "card": Kind(("team/team.json",), PREDICT),
    "graph": Kind(("team/team.pt2", "team/team.onnx", "team/*.safetensors"), PREDICT),
    "import": Kind(("runs/*", "val.csv", "test.csv", "labels.npz"), IMPORT, sealed=False),
    "checkpoint": Kind(("checkpoints/*",), ADOPT, sealed=False),
    "config": Kind(("config.yaml",), (DRY, ("verify", "FIX(0.1)", "config.yaml", "--target", "2")), sealed=False),
    "policy": Kind(("policy.txt",), (("policies", "plot", "@policy.txt"), ("policies", "show", "@policy.txt")), False),
    "images": Kind(("images/*", "set/train/*/*", "set/test/*/*"), (*PREDICT[:1], DRY), sealed=False),
}


def interrupt(spec: Any, history: Any) -> None:
    """A judge that is Ctrl-C after the second epoch."""
    if len(history) == 2:
        raise KeyboardInterrupt


def build(folder: Path) -> Path:
    """A pool with its control, teams, an evaluation and a run in the middle; an exported team; files to import."""
    world = folder / WORLD
    world.mkdir()
    train_pool(load_config(CONFIG), world / "pool", workers=1, threads=1, devices="cpu")
    third = {**CONFIG, "policies": [*CONFIG["policies"], "COS(k0=0.2, l=100%)"], "control": False}
    (world / "pool.yaml").write_text(json.dumps(third))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("CHECKPOINT_SECONDS", 0.0), ("CHECKPOINT_SHARE", 1e9)):
            patch.setattr(member_module, name, value)
        with pytest.raises(KeyboardInterrupt):
            judges = [Named(name="tests.fuzz.world:interrupt")]
            train_pool(load_config(third), world / "pool", workers=1, threads=1, devices="cpu", judges=judges)
    pool = Pool.open(world / "pool")
    assert len(list(world.rglob("state.pt"))) == 1
    select_teams(pool, ["all", "greedy"])
    evaluate(pool)
    export_team(pool, "all", world / "team", formats=["torch", "onnx", "safetensors"], benchmark=False)

    digits = load_task("digits", val_fraction=0.25)
    (world / "images").mkdir()
    for i in range(3):
        image = Image.fromarray((digits.test.images[i, 0] * 15).astype(np.uint8))
        image.save(world / "images" / f"{i}.png")
        for split in ("train", "test"):
            for name in "ab":
                (world / "set" / split / name).mkdir(parents=True, exist_ok=True)
                image.save(world / "set" / split / name / f"{i}{name}.png")
    random = np.random.default_rng(0)
    labels = {split: random.permutation(np.arange(24) % 3) for split in ("val", "test")}
    np.savez(world / "labels.npz", **labels)
    scores = {split: np.eye(3)[values] + random.normal(size=(24, 3)) for split, values in labels.items()}
    (world / "runs").mkdir()
    np.savez(world / "runs" / "a.npz", **scores)
    for split, values in scores.items():
        np.savetxt(world / f"{split}.csv", values, delimiter=",", header="a,b,c", comments="")
    adoptable(world, pool)
    (world / "config.yaml").write_text(
        "name: small\ndata:\n  name: folder\n  root: set\n  val_fraction: 0.5\nmodel: {name: mlp, hidden: [4]}\n"
        "optimizer:\n  name: SGD\n  momentum: 0.9\ntraining:\n  epochs: 2\n  batch_size: 2\nseeds: 2\n"
        "policies:\n  - FIX(k0=[0.1, 0.2])\n  - COS(k0=0.1, l=50%)\n"
        "  - {sample: 'STEP(k0=log(1e-3, 1), gamma=0.5, l=1e)', n: 3}\n"
        "control: true\n"
    )
    (world / "policy.txt").write_text(
        "WARMUP(SEQ([COS(k0=[0.1, 0.2], l=50%), TRI(0.1, 0.001, l=10e)], at=[50%]), l=5%)"
    )
    return world


def adoptable(world: Path, pool: Pool) -> None:
    """Checkpoints with what lies beside them."""
    folder = world / "checkpoints"
    folder.mkdir()
    first, second = (member.weights() for member in pool.complete)
    state = {f"model.{name}": value for name, value in first.items()}
    torch.save({"state_dict": state, "hyper_parameters": {"lr": 0.1}, "global_step": 48}, folder / "a.ckpt")
    save_file(second, folder / "b.safetensors")
    (folder / "b.csv").write_text("step,lr,val_acc\n" + "".join(f"{i},{1 / i},0.{i}\n" for i in range(1, 7)))
    (folder / "b.yaml").write_text("lr: 1.0\nseed: 3\nopt: sgd\nbetas: [0.9, 0.99]\n")
    (folder / "trainer_state.json").write_text(
        json.dumps(
            {"global_step": 48, "log_history": [{"step": i, "learning_rate": 0.1, "loss": 2.0} for i in (1, 24)]}
        )
    )
    shutil.copy(Path(__file__).parents[1] / "fixtures" / "offline.wandb", folder / "run-abc.wandb")
    (world / "adopt.yaml").write_text("data: {name: digits, val_fraction: 0.25}\nmodel: {name: mlp, hidden: [6]}\n")


# Numbers of this run of the machine, not of the pool
PASSING = re.compile(r"seconds|created|finished|_at$|per_second|bytes|date|time|pool_hours|hours")
DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:")
WORDS = re.compile(r"damaged|cut off|cannot be read|is missing|left out|other content")


def numbers(value: Any) -> Any:
    """A document without what may change between two runs."""
    if isinstance(value, dict):
        return {key: numbers(inner) for key, inner in value.items() if not PASSING.search(key)}
    if isinstance(value, list):
        return [numbers(inner) for inner in value]
    if isinstance(value, str):  # explanations of proposals say how long a run will take
        return "a date" if DATE.match(value) else re.sub(r"about [\d.e+-]+ s\b", "about some s", value)
    return value


@dataclass(frozen=True)
class Answer:
    """What a command did: how it ended, the document on stdout, the lines on stderr."""

    words: tuple[str, ...]
    done: Done
    document: Any

    @property
    def lines(self) -> set[str]:
        return set(self.done.err.splitlines())


def answers(commands: Commands, world: Path, lines: Iterable[tuple[str, ...]]) -> Iterator[Answer]:
    """Run commands one after the other."""
    before = digests(world / "pool").keys()
    for line in lines:
        words = tuple(_word(word, world) for word in line)
        commands.start(words, world, cpu=CPU)
        done = commands.wait()
        try:
            document = numbers(json.loads(done.out))
        except ValueError:
            document = done.out
        if line[0] == "train" and done.code in (0, 1) and "--dry-run" not in line:
            made = digests(world / "pool")
            document = [document, {name: made[name] for name in made.keys() - before}]
        yield Answer(line, done, document)


def _word(word: str, world: Path) -> str:
    """What a word stands for: ``@FILE`` for the text in a file, as a command line can hold it."""
    if not word.startswith("@"):
        return word
    path = world / word[1:]
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() and not path.is_symlink() else ""
    return text.replace("\0", "")[:100_000]


def digests(pool: Path) -> dict[str, str]:
    """Of all predictions and weights that can be read."""
    return {
        str(path.relative_to(pool)): hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        for path in sorted((*pool.rglob("*.npy"), *pool.rglob("*.safetensors")))
        if path.is_file()
    }


def choose(world: Path, seed: int) -> tuple[Kind, Path, str]:
    """The kind, a file of it and the member that a seed is about."""
    random = Random(seed)
    kind = list(KINDS.values())[seed % len(KINDS)]
    pattern = random.choice([p for p in kind.files if list(world.glob(p))])
    path = random.choice(sorted(world.glob(pattern)))
    members = sorted(p.name for p in (world / "pool" / "members").iterdir())
    inside = re.search(r"pool/members/(\w+)/", str(path))
    return kind, path.relative_to(world), inside[1] if inside else members[0]


def faults(quiet: list[Answer], found: list[Answer], kind: Kind, mutation: str) -> list[str]:
    """What no mutation may do: a traceback, a strange exit, a hang, another number without a word."""
    lines = []
    for before, after in zip(quiet, found, strict=True):
        what, done = " ".join(after.words)[:100], after.done
        if "Traceback" in done.err or "Traceback" in done.out:
            lines.append(f"traceback: {what}: {done.err.strip().splitlines()[-1][:300]}")
        elif done.code < 0:
            lines.append(f"ended by signal {-done.code} after {done.cpu:.0f} s of CPU: {what}")
        elif done.code not in (0, 2) and not (done.code == 1 and done.err) and done.code != before.done.code:
            lines.append(f"exit code {done.code}: {what}: {done.err[:300]}")
        elif done.code == 2 and not re.match(r"(.*\n)*error: .", done.err):
            lines.append(f"exit code 2 without an error line: {what}: {done.err[:300]}")
        elif kind.sealed and mutation != "missing" and after.document != before.document:
            said = after.lines - before.lines or len(WORDS.findall(done.out)) > len(WORDS.findall(before.done.out))
            if done.code != 2 and not said:
                lines.append(f"another number without a word: {what}: {difference(before.document, after.document)}")
    return lines


def difference(a: Any, b: Any, way: str = "") -> str:
    """Where two documents differ first."""
    if type(a) is type(b) and isinstance(a, dict | list) and len(a) == len(b):
        pairs = ((k, a[k], b.get(k)) for k in a) if isinstance(a, dict) else zip(range(len(a)), a, b, strict=True)
        for key, x, y in pairs:
            if x != y:
                return difference(x, y, f"{way}.{key}")
    return f"{way}: {str(a)[:80]} became {str(b)[:80]}"


class Fuzzer:
    """A world, its commands, and what they say of it while nothing is wrong."""

    def __init__(self, scratch: Path, commands: Commands) -> None:
        self.scratch, self.commands = scratch, commands
        self.world = build(scratch)
        self.quiet: dict[tuple[tuple[str, ...], ...], list[Answer]] = {}

    def copy(self) -> Path:
        shutil.rmtree(self.scratch / "copy", ignore_errors=True)
        return Path(shutil.copytree(self.world, self.scratch / "copy" / WORLD))

    def run(self, seed: int, share: int = 1) -> tuple[str, list[Answer], list[str]]:
        """What the seed does, in words; what the commands (one in `share`) answer; what is wrong with that."""
        kind, path, member = choose(self.world, seed)
        lines = [tuple(member if word == "MEMBER" else word for word in line) for line in kind.commands]
        chosen = tuple(lines[seed % share :: share])
        if chosen not in self.quiet:
            self.quiet[chosen] = list(answers(self.commands, self.copy(), chosen))
        world = self.copy()
        mutation = mutate(world / path, Random(seed))
        found = list(answers(self.commands, world, chosen))
        wrong = faults(self.quiet[chosen], found, kind, mutation)
        return f"seed {seed}: {mutation} of {path}", found, wrong
