"""Options that several commands have: one name and one meaning everywhere."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import Any

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LONGEST = 1e8  # three years of seconds


class OldName(argparse.Action):
    """An option that is called `const` now: it works, and `main` says so."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        setattr(namespace, self.dest, values)
        note_renamed(namespace, str(option), str(self.const))


def note_renamed(args: argparse.Namespace, old: str, new: str) -> None:
    args.renamed = [*getattr(args, "renamed", []), f"note: {old} is called {new} now"]


def add_old_name(
    parser: argparse._ActionsContainer, old: str, new: str, type: Callable[[str], Any] | None = None
) -> None:
    """Take `old` for the option `new`; `type` where its values were others."""
    action = parser._option_string_actions[new]
    parser.add_argument(
        old,
        action=OldName,
        const=new,
        dest=action.dest,
        nargs=action.nargs,
        type=type or action.type or str,
        default=argparse.SUPPRESS,
        help=argparse.SUPPRESS,
    )


def add_devices(parser: argparse._ActionsContainer, meaning: str = "cpu, mps, cuda or a list: cuda:0,cuda:1") -> None:
    """``--devices``; ``--device`` is the same, as everybody writes it at first."""
    parser.add_argument(
        "--devices", metavar="NAMES", default="auto", help=f"{meaning} (default: all of CUDA, else MPS, else CPU)"
    )
    parser.add_argument("--device", dest="devices", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def add_time(parser: argparse._ActionsContainer, meaning: str) -> None:
    """``--time``: seconds of a text such as 30m, as ``args.time``."""
    parser.add_argument("--time", metavar="T", type=seconds, help=f"{meaning}: 90s, 30m, 2h")


def seconds(text: str) -> float:
    """Seconds of ``90``, ``90s``, ``30m``, ``2h``, ``1d``."""
    match = re.fullmatch(r"(\d*\.?\d+|\d+\.)([smhd]?)", text.strip())
    if match is None or not 0 < float(match[1]) <= LONGEST:
        raise argparse.ArgumentTypeError(f"{text[:100]} is not possible: give a time such as 90s, 30m or 2h")
    return float(match[1]) * UNITS[match[2] or "s"]
