"""Runs of plain torch, trained once: state dicts, logs and logits."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.adopt import nets

MODEL = "tests.adopt.nets:net"
CONFIG = {"data": nets.DATA}


@dataclass
class PlainRun:
    name: str
    lr: float
    seed: int
    hidden: int
    model: nn.Module
    log: list[dict]


def cosine(share: float) -> float:
    return (1 + math.cos(math.pi * share)) / 2


@pytest.fixture(scope="session")
def data():
    return nets.rows()


@pytest.fixture(scope="session")
def plain(data) -> list[PlainRun]:
    found = []
    for i, (lr, hidden) in enumerate([(0.02, 12), (0.1, 12), (0.05, 20), (0.2, 8)]):
        torch.manual_seed(i)
        model = nets.net((1, 8, 8), 10, hidden)
        log = nets.train(model, data, lr, seed=i, factor=cosine if i < 2 else lambda share: 1.0)
        found.append(PlainRun(f"run{i}", lr, i, hidden, model, log))
    return found


def write_csv(path: Path, lines: list[dict]) -> None:
    names = list(dict.fromkeys(name for line in lines for name in line))
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, names)
        table.writeheader()
        table.writerows(lines)


@pytest.fixture
def folder(plain, tmp_path, monkeypatch) -> Path:
    """A folder of state dicts, each with its log and hyperparameters beside it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for run in plain:
        torch.save(run.model.state_dict(), tmp_path / "runs" / f"{run.name}.pt")
        write_csv(tmp_path / "runs" / f"{run.name}.csv", run.log)
        text = f"lr: {run.lr}\nseed: {run.seed}\nhidden: {run.hidden}\nopt: sgd\n"
        (tmp_path / "runs" / f"{run.name}.yaml").write_text(text)
    return tmp_path
