"""Policies of one's own: by decorator, by entry point (also in workers), and what is wrong with a definition."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lrensemble import Policy, UserError
from lrensemble.policies import FUNCTIONS, Parameter, find_definition
from lrensemble.policies.registry import register

K0 = Parameter("k0", "LR at the start")
L = Parameter("l", "time scale", kind="length", low_open=True)


def define(name="SQRT", parameters=(K0, L)):
    @register(name, "LR = k0 / sqrt(1 + t / l)", "a test", *parameters)
    def sqrt(t, k0, l):  # noqa: E741
        return k0 / np.sqrt(1 + t / l)

    return sqrt


def test_an_own_policy_is_like_the_others(own_names):
    define()
    policy = Policy.parse("WARMUP(sqrt(k0=0.1, l=2e), l=1e)").bind(steps_per_epoch=10, total_steps=100)
    assert policy(10) == pytest.approx(0.1)
    assert policy(30) == pytest.approx(0.1 / np.sqrt(2)) == policy(np.array([30]))[0]
    assert Policy.parse(str(policy)) == policy == Policy.from_dict(policy.to_dict())
    assert find_definition("sqrt").example == "SQRT(k0=0.1, l=10e)"
    with pytest.raises(UserError, match="SQRT: l = 0 is not possible"):
        Policy.parse("SQRT(0.1, 0)")
    with pytest.raises(UserError, match="did you mean 'SQRT'"):
        Policy.parse("SQRTT(0.1, 1)")
    assert define() is not None  # a notebook's cell, run again


def constant(t, k0):
    return k0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: register("COS", "", "", K0)(constant), "COS is defined twice: by .*lrbench.* and by .*constant"),
        (lambda: register("COSINE", "", "", K0)(constant), "COSINE is defined twice"),
        (lambda: register("mine", "", "", K0)(constant), "'mine' .* capital letters"),
        (lambda: register("MINE", "", "", L)(constant), r"constant does not take \(t, l\)"),
        (lambda: register("MINE", "", "", K0, L)(constant), r"constant does not take \(t, k0, l\)"),
        (lambda: register("MINE", "", "")(constant), "missing a required argument: 'k0'"),
        (lambda: Parameter("k0", "", kind="lenght"), "did you mean 'length'"),
        (lambda: Parameter("K 0", ""), "parameter name 'K 0'"),
        (lambda: Parameter("policy", ""), "parameter name 'policy'"),
        (lambda: Parameter("k0", "", default=-1.0), "k0 = -1.0 is not possible"),
        (lambda: Parameter("shape", "", kind="word"), "shape: a word needs its words"),
    ],
)
def test_bad_definitions_are_one_line(own_names, make, message):
    with pytest.raises(UserError, match=message) as error:
        make()
    assert "\n" not in str(error.value)
    assert "MINE" not in FUNCTIONS
    with pytest.raises(UserError, match="unknown LR policy 'MINE'"):
        find_definition("MINE")


def test_bad_values_are_one_line(own_names):
    register("ONE", "", "", K0)(constant)
    for step in (0, np.arange(3)):
        with pytest.raises(UserError, match=r"ONE: \d+ steps gave LRs of shape \(\)"):
            Policy.parse("ONE(0.1)")(step)
    register("FALLING", "", "", K0)(falling)
    with pytest.raises(UserError, match=r"FALLING\(k0=0.1\): LRs from -510.9 to 0.1 in the steps from 0 on"):
        Policy.parse("FALLING(0.1)")(0)


def falling(t, k0):
    return k0 - t


PLUGIN = """
import numpy as np
from lrensemble.policies import Parameter, register

@register("HALVED", "LR = k0 / 2", "a plugin", Parameter("k0", "LR"))
def halved(t, k0):
    return np.full(t.shape, k0 / 2)
"""
PROGRAM = """
import multiprocessing, pickle, sys
from lrensemble.policies import FUNCTIONS, Policy

def lr(policy):
    return policy(3)

if __name__ == "__main__":
    assert "HALVED" not in FUNCTIONS and "plugin" not in sys.modules
    Policy.parse("COS(0.1, l=3)")
    assert "plugin" not in sys.modules  # known names import nothing
    policy = Policy.parse("halved(0.1)")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(lr, [policy, policy]))
"""


def installed(folder: Path, source: str) -> dict[str, str]:
    (folder / "plugin.py").write_text(source)
    info = folder / "plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[lrensemble.policies]\nmine = plugin\n")
    return {"PYTHONPATH": ":".join([str(folder), *filter(None, sys.path)])}


def test_entry_points_are_found_in_workers_too(tmp_path):
    environment = installed(tmp_path, PLUGIN)
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout == "[0.05, 0.05]\n", done.stderr


def test_a_package_that_fails_is_named(tmp_path, monkeypatch, own_names):
    installed(tmp_path, "import nothing_of_that_name")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(
        UserError, match=r"entry point mine = plugin of plugin cannot .*: ModuleNotFoundError: .*nothing_of"
    ):
        Policy.parse("UNHEARD(0.1)")
    assert Policy.parse("FIX(0.1)")(0) == 0.1
