"""Replay mutations: ``python -m tests.fuzz SEED ...`` shows what every command answers; ``A-B`` is a range of seeds."""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.commands import Commands
from tests.fuzz.world import Fuzzer


def main() -> None:
    seeds: list[int] = []
    for word in sys.argv[1:]:
        first, _, last = word.partition("-")
        seeds += range(int(first), int(last or first) + 1)
    with tempfile.TemporaryDirectory() as folder, Commands(Path(folder)) as commands:
        fuzzer = Fuzzer(Path(folder), commands)
        cpu: Counter[str] = Counter()
        for seed in seeds:
            what, found, wrong = fuzzer.run(seed)
            for answer in found:
                cpu[answer.words[0]] += answer.done.cpu
            print(what, *wrong, sep="\n    ", flush=True)
            for answer in found if len(seeds) == 1 else []:
                print(
                    f"  $ lrensemble {' '.join(answer.words)[:200]}: {answer.done.code}, {answer.done.cpu:.2f} s of CPU"
                )
                print(f"{answer.done.out[-1000:]}\n{answer.done.err[-2000:]}")
        print("seconds of CPU:", ", ".join(f"{name} {seconds:.1f}" for name, seconds in cpu.most_common()))


if __name__ == "__main__":
    main()
