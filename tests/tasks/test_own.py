"""A task of the user's own by its name: in a pool, on workers, resumed; and what is wrong with one in one line."""

from __future__ import annotations

import importlib.util
import sys
import types

import pytest

from lrensemble import UserError, evaluate, load_config, select_teams, train_pool
from lrensemble.own import is_importable
from lrensemble.tasks import load_task
from tests.tasks import own_task

CONFIG = {
    "name": "moons",
    "data": {"name": "tests.tasks.own_task:Moons", "noise": 0.1},
    "model": {"name": "tests.tasks.own_task:Net", "width": 8},
    "optimizer": {"name": "SGD", "momentum": 0.9},
    "training": {"epochs": 3, "batch_size": 32},
    "policies": ["FIX(k0=[0.05, 0.2])"],
}


@pytest.mark.parametrize("workers", [1, 2])
def test_from_training_to_evaluation(tmp_path, workers):
    pool = train_pool(load_config(CONFIG), tmp_path / "pool", workers=workers, threads=1, devices="cpu")
    assert [m.status for m in pool.members] == ["complete"] * 2
    assert pool.task.class_names == ("upper", "lower")
    select_teams(pool, ["top-k"])
    assert evaluate(pool).scores[0].accuracy > 0.8
    again = train_pool(load_config(CONFIG), tmp_path / "pool", workers=1, threads=1, devices="cpu")
    assert [m.id for m in again.members] == [m.id for m in pool.members]


def test_its_parameters_are_part_of_the_data():
    near, far = (load_task("tests.tasks.own_task:Moons", noise=noise).fingerprint for noise in (0.1, 0.3))
    assert near != far == load_task("tests.tasks.own_task:Moons", noise=0.3, split_seed=0, root=None).fingerprint


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("tests.tasks.own_task:Mooons", "task tests.tasks.own_task:Mooons: did you mean 'Moons'"),
        ("no.such.module:Moons", "there is no module 'no.such.module'"),
        ({"name": "tests.tasks.own_task:Moons", "noize": 1}, "noize"),
        ("tests.tasks.own_task:NoTask", "is NoTask, a lrensemble.Task is needed"),
        ("tests.tasks.own_task:Short", "300 rows of place, but 299 labels"),
        ("tests.tasks.own_task:Column", r"labels of shape \(300, 1\): \(N,\) is needed"),
        ("tests.tasks.own_task:Unlearnt", "val has rows of class lower, but train has none"),
        ("tests.tasks.own_task:WideScores", r"gives \(2, 4\) for 2 rows, a tensor of shape \(2, 2\) is needed"),
        ("tests.tasks.own_task:Dropping", "train, augmented: a batch of 2 rows has 1 of place, 1 of y"),
        ("tests.tasks.own_task:Raising", r"task .*:Raising raises ValueError: no rows in x \(own_task.py, line \d+\)"),
        ({"name": "tests.tasks.own_task:Raising", "at": "split"}, "Raising raises KeyError: 'split'"),
        ({"name": "tests.tasks.own_task:Raising", "at": "inputs"}, r"the task's inputs\(\) raises KeyError: 'inputs'"),
        ({"name": "tests.tasks.own_task:Raising", "at": "augment"}, r"the task's augment\(\) raises KeyError"),
        ({"name": "tests.tasks.own_task:Raising", "at": "scores"}, r"cannot take rows .*KeyError: 'scores' \(own_task"),
        ({"name": "tests.tasks.own_task:Raising", "at": "loss"}, r"the loss raises KeyError: 'loss' \(own_task.py"),
        ({"name": "tests.tasks.own_task:Raising", "at": "initialise"}, r"the task's initialise\(\) raises KeyError"),
        ({"name": "tests.tasks.own_task:Raising", "at": "measure"}, r"the task's measure\(\) raises KeyError"),
        ({"name": "tests.tasks.own_task:Giving", "what": "class_names"}, "class_names = None: a tuple of names is"),
        ({"name": "tests.tasks.own_task:Giving", "what": "facts"}, "facts = None: a dict of what models ask for is"),
        ({"name": "tests.tasks.own_task:Giving", "what": "split"}, "train: place is list: a NumPy array of numbers is"),
        ({"name": "tests.tasks.own_task:Giving", "what": "augment"}, "train, augmented: a batch is NoneType"),
        ({"name": "tests.tasks.own_task:Giving", "what": "loss"}, r"the loss is NoneType: \(losses of the rows, their"),
        ({"name": "tests.tasks.own_task:Giving", "what": "measure"}, r"measure\(\) gives NoneType: a dict of tensors"),
        ("digit", "unknown data set 'digit': did you mean 'digits'"),
        ({"name": "digits", "noise": 1}, "unknown key 'data.noise'"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, data, words):
    with pytest.raises(UserError, match=words) as caught:
        train_pool(load_config({**CONFIG, "data": data}), tmp_path / "pool", workers=1)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "pool").exists()


def test_a_class_that_no_worker_can_import_is_said_before_anything_is_written(tmp_path, monkeypatch):
    """Of a notebook or a script (__main__), or of a module that a program made."""
    made = types.ModuleType("made_here")
    made.Moons, made.Net = own_task.Moons, own_task.Net
    monkeypatch.setitem(sys.modules, "made_here", made)
    for changes, who in (
        ({"data": "made_here:Moons"}, "task made_here:Moons"),
        ({"model": "made_here:Net"}, "model made_here:Net"),
    ):
        config = load_config({**CONFIG, **changes})
        with pytest.raises(UserError, match=f"{who} known to this process alone: leave workers"):
            train_pool(config, tmp_path / "pool", workers=2)
        assert not (tmp_path / "pool").exists()
    assert len(train_pool(config, tmp_path / "pool", threads=1, devices="cpu").complete) == 2  # in this process


def test_a_task_without_labels_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no labels"):
        train_pool(load_config({**CONFIG, "data": "tests.tasks.own_task:NoLabels"}), tmp_path / "pool", workers=1)


def test_what_the_program_itself_defines_is_of_this_process(monkeypatch):
    """Started by `python -m program`, ``__main__`` has a spec that can be found, and is another module in a worker."""
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", importlib.util.find_spec("json.tool"), raising=False)
    assert not is_importable("__main__:Rows")
    assert is_importable("tests.tasks.own_task:Own") and not is_importable("tests.tasks.own_task:f.<locals>.Own")
