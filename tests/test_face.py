"""The public face: what can be imported from the top, whatever was imported before, and names that have changed."""

from __future__ import annotations

import subprocess
import sys

import pytest

import lrensemble
from lrensemble.renamed import renamed

WANTED = """
    train_pool select_teams evaluate propose recommend_policies verify write_report export_team Pool Policy Task
    Ensemble PolicyLR record_member import_members load_config register_policy register_selector register_metric
    register_model register_task Parameter Selector ArrayTask
"""
FUNCTIONS = "from lrensemble import recommend_policies, write_report, verify, propose, evaluate"
PACKAGES = "import lrensemble.recommend.recommend, lrensemble.report.page, lrensemble.evaluation"


def test_everything_that_a_program_needs_is_there():
    assert set(WANTED.split()) <= set(lrensemble.__all__) == {*lrensemble._HOMES, "__version__"}
    assert set(lrensemble.__all__) <= set(dir(lrensemble))


@pytest.mark.parametrize(
    "order", [(FUNCTIONS, PACKAGES), (PACKAGES, FUNCTIONS)], ids=["functions first", "packages first"]
)
def test_functions_and_packages_do_not_hide_each_other(order):
    program = "\n".join(
        [
            *order,
            "import types, lrensemble",
            "assert type(lrensemble.recommend) is type(lrensemble.report) is types.ModuleType",
            "for name in lrensemble.__all__:",
            "    assert not isinstance(getattr(lrensemble, name), types.ModuleType), name",
        ]
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_old_names_of_parameters_work_with_a_note():
    @renamed(say="tell")
    def work(x: int, tell=None):
        return x, tell

    assert work(1, tell=2) == (1, 2)
    with pytest.warns(FutureWarning, match="work: say is called tell now"):
        assert work(1, say=2) == (1, 2)
    with pytest.raises(TypeError, match="both are given"):
        work(1, say=2, tell=3)
