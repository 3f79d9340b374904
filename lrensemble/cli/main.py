"""The ``lrensemble`` command: parse, hand over to one module per command, turn errors into one line.

Heavy libraries are imported by the commands when they run: ``lrensemble --help`` answers at once.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from lrensemble import terminal
from lrensemble.cli import (
    adopt,
    database,
    diversity,
    energy,
    evaluate,
    events,
    export,
    fastest,
    fastspiker,
    gc,
    import_,
    lr_find,
    ls,
    output,
    policies,
    predict,
    propose,
    recommend,
    report,
    robustness,
    select,
    show,
    soup,
    tensorboard,
    train,
    verify,
)
from lrensemble.cli import run as run_
from lrensemble.errors import UserError, did_you_mean
from lrensemble.version import __version__

COMMANDS = {
    "train": train,
    "import": import_,
    "adopt": adopt,
    "verify": verify,
    "diversity": diversity,
    "select": select,
    "propose": propose,
    "run": run_,
    "evaluate": evaluate,
    "robustness": robustness,
    "report": report,
    "soup": soup,
    "export": export,
    "predict": predict,
    "ls": ls,
    "energy": energy,
    "show": show,
    "tensorboard": tensorboard,
    "gc": gc,
    "database": database,
    "recommend": recommend,
    "lr-find": lr_find,
    "fastest": fastest,
    "fastspiker": fastspiker,
    "policies": policies,
    "events": events,
}
DESCRIPTION = "Turn learning-rate tuning into ensembles: train a pool, select a team, evaluate it honestly."


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, like every other error."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


def build_parser() -> tuple[Parser, dict[str, Parser]]:
    """The parser, and the parser of every command by name."""
    parser = Parser(prog="lrensemble", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"lrensemble {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    commands = {}
    for name, module in COMMANDS.items():
        command: Parser = subparsers.add_parser(
            name,
            help=module.HELP,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(command)
        commands[name] = command
    return parser, commands


def option_names(parser: argparse.ArgumentParser) -> list[str]:
    """Every option of a command and of the commands below it."""
    names: list[str] = []
    for action in parser._actions:
        names += action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            names += [name for sub in action.choices.values() for name in option_names(sub)]
    return names


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse a command line; raise `UserError` with the nearest command or option."""
    parser, commands = build_parser()
    if argv and not argv[0].startswith("-") and argv[0] not in commands:
        raise UserError(f"unknown command {argv[0]!r}: {did_you_mean(argv[0], commands)}")
    args, rest = parser.parse_known_args(argv)
    # argparse gives up on positionals that come after options; overrides and policies may stand anywhere.
    if hasattr(args, "overrides"):
        args.overrides += [word for word in rest if "=" in word and not word.startswith("-")]
        rest = [word for word in rest if word not in args.overrides]
    for words in (getattr(args, name, None) for name in ("policies", "predictions", "files")):
        if words is not None:
            words += [word for word in rest if not word.startswith("-")]
            rest = [word for word in rest if word.startswith("-")]
    if rest:
        options = option_names(commands[args.command])
        raise UserError(f"lrensemble {args.command} does not know {rest[0]!r}: {did_you_mean(rest[0], options)}")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 1 (members failed, or verify's no), 2 (bad input), 130 (Ctrl-C)."""
    try:
        args = parse(sys.argv[1:] if argv is None else argv)
        output.configure(args)
        code: int = COMMANDS[args.command].run(args)
        return code
    except UserError as error:
        terminal.note(f"error: {error}")
        return 2
    except RecursionError:
        terminal.note("error: the input is nested too deeply to be read")
        return 2
    except MemoryError as error:
        terminal.note(f"error: too little memory ({error or 'none is left'}): nothing is damaged")
        return 2
    except KeyboardInterrupt:
        terminal.note("stopped: everything finished is kept; the same command goes on from here")
        return 130
    except BrokenPipeError:  # `lrensemble ls POOL | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:  # of the machine, not of the program: a name too long, a folder that cannot be read
        terminal.note(f"error: {error.filename or 'input or output'}: {error.strerror or error}")
        return 2


def run() -> NoReturn:
    """Entry point of the console script. A job scheduler's SIGTERM stops it as cleanly as Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    terminal.install()
    sys.exit(main())
