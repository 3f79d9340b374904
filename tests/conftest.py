"""Shared pools: trained once, copied by the tests that change them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from lrensemble import Config, Pool, load_config, train_pool
from lrensemble.plugins import REGISTRIES
from lrensemble.policies import CONTROLS, FUNCTIONS
from lrensemble.pool import Member, MemberSpec

# The time of one example says nothing on a busy machine.
settings.register_profile("lrensemble", deadline=None)
settings.load_profile("lrensemble")
# Seconds after which a process hangs, by any machine's measure: a test that passes never comes near.
PATIENCE = 900


@pytest.fixture
def own_names() -> Iterator[None]:
    """What a test registers by name is gone after it."""
    tables = [table for one in REGISTRIES.values() for table in (one._values, one._homes)] + [FUNCTIONS, CONTROLS]
    before = [dict(table) for table in tables]
    yield
    for table, old in zip(tables, before, strict=True):
        table.clear()
        table.update(old)
    for one in REGISTRIES.values():
        one._imported.clear()
        one.broken.clear()


def tiny_config(**changes: Any) -> dict[str, Any]:
    """Four members on digits that train in a second."""
    return {
        "name": "tiny",
        "data": {"name": "digits", "val_fraction": 0.25},
        "model": {"name": "mlp", "hidden": [16], "dropout": 0.1},
        "optimizer": {"name": "SGD", "momentum": 0.9},
        "training": {"epochs": 4, "batch_size": 64},
        "policies": ["FIX(k0=[0.02, 0.1])", "COS(k0=0.2, l=100%)", "STEP(k0=0.1, gamma=0.3, l=1e)"],
        "control": True,
        **changes,
    }


@pytest.fixture(scope="session")
def config() -> Config:
    return load_config(tiny_config())


@pytest.fixture(scope="session")
def trained(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished pool with its control. Read only."""
    path = tmp_path_factory.mktemp("pools") / "tiny"
    train_pool(config, path, workers=1, threads=1, devices="cpu")
    return path


@pytest.fixture
def pool(trained: Path, tmp_path: Path) -> Pool:
    """A copy of the finished pool, to do anything with."""
    return Pool.open(shutil.copytree(trained, tmp_path / "tiny"))


def as_another(pool: Pool, member: Member, spec: MemberSpec) -> Member:
    """The same member with another spec, and so with another id."""
    other = pool.member_of(spec)
    member.path.rename(other.path)
    other.write_record(member.record.model_copy(update={"spec": spec, "id": other.id}))
    return other
