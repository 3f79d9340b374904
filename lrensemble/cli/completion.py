"""Completion of commands, options and files in the shell: prints what a shell must read.

lrensemble completion bash > ~/.local/share/bash-completion/completions/lrensemble
lrensemble completion zsh > DIR/_lrensemble     # DIR is in $fpath
lrensemble completion fish > ~/.config/fish/completions/lrensemble.fish
"""

from __future__ import annotations

import argparse

from lrensemble.cli import output
from lrensemble.cli.options import OldName

HELP = "completion of commands and options in bash, zsh or fish"
SHELLS = ("bash", "zsh", "fish")
FOLDERS = {"POOL", "FOLDER", "DIR"}  # metavars
FILES = {"CONFIG", "FILE", "POOL|CONFIG", "FILE|FOLDER"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help="bash, zsh or fish")


def run(args: argparse.Namespace) -> int:
    import shtab

    _prepare(args.root)
    output.print_text(shtab.complete(args.root, args.shell))
    return 0


def _prepare(parser: argparse.ArgumentParser) -> None:
    """Say of all arguments whether they are files, and leave out old names."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in {id(command): command for command in action.choices.values()}.values():
                _prepare(command)
        elif action.metavar in FOLDERS | FILES:
            import shtab

            action.complete = shtab.DIRECTORY if action.metavar in FOLDERS else shtab.FILE  # type: ignore[attr-defined]
    parser._actions[:] = [action for action in parser._actions if not isinstance(action, OldName)]
