"""Files damaged in every way: no traceback, no hang, no other number without a word.

A failure names its seed: ``python -m tests.fuzz SEED`` replays it and shows what every command says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

from tests.commands import Commands
from tests.fuzz.world import KINDS, Fuzzer

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzer]:
    folder = tmp_path_factory.mktemp("fuzz")
    with Commands(folder) as commands:
        yield Fuzzer(folder, commands)


def check(fuzzer: Fuzzer, seeds: Iterable[int], share: int = 1) -> None:
    wrong = {what: lines for what, _, lines in (fuzzer.run(seed, share) for seed in seeds) if lines}
    assert not wrong, "\n".join(f"{what}\n    " + "\n    ".join(lines) for what, lines in wrong.items())


def test_some_mutations(fuzzer: Fuzzer):
    """Two of every kind of file, each before a third of the commands."""
    check(fuzzer, range(2 * len(KINDS)), share=3)


@pytest.mark.slow
def test_600_mutations(fuzzer: Fuzzer):
    check(fuzzer, range(1000, 1600))
