"""The ``lrensemble`` command: parse, hand over to one module per command, turn errors into one line.

Heavy libraries are imported by the commands when they run: ``lrensemble --help`` answers at once.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from lrensemble import terminal
from lrensemble.cli import (
    adopt,
    completion,
    demo,
    diversity,
    energy,
    evaluate,
    events,
    export,
    fastest,
    fastspiker,
    forms,
    gc,
    import_,
    init,
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
    serve,
    show,
    soup,
    tensorboard,
    train,
    verify,
)
from lrensemble.cli import (
    run as run_command,
)
from lrensemble.cli.options import OldName, note_renamed
from lrensemble.errors import UserError, did_you_mean
from lrensemble.version import __version__

GROUPS: dict[str, dict[str, Any]] = {
    "The job, in this order": {
        "init": init,
        "run": run_command,
        "train": train,
        "select": select,
        "evaluate": evaluate,
        "report": report,
        "export": export,
        "predict": predict,
    },
    "Look at a pool": {
        "ls": ls,
        "show": show,
        "diversity": diversity,
        "forms": forms,
        "robustness": robustness,
        "energy": energy,
        "tensorboard": tensorboard,
    },
    "Find learning-rate policies": {
        "policies": policies,
        "lr-find": lr_find,
        "propose": propose,
        "recommend": recommend,
        "fastest": fastest,
        "fastspiker": fastspiker,
        "verify": verify,
    },
    "A team in use": {
        "serve": serve,
        "soup": soup,
    },
    "Members from elsewhere, and disk space": {
        "adopt": adopt,
        "import": import_,
        "gc": gc,
        "events": events,
    },
    "To begin with": {
        "demo": demo,
        "completion": completion,
    },
}
COMMANDS = {name: module for group in GROUPS.values() for name, module in group.items()}
# The beginning of a command line -> what it is called now. Old names go on, with a note.
RENAMED = {
    ("database", "ls"): ("policies", "tasks"),
    ("database",): ("policies",),
    ("run",): ("propose", "--train"),
}
ROUNDS = {"--rounds", "-n", "--n"}  # with one of these `run` is what it was
# Commands that go on where they were interrupted -> the option without which they only read.
RESUMED = dict.fromkeys(("train", "run", "demo", "recommend", "verify", "fastest", "fastspiker"), "")
RESUMED |= {"propose": "train", "robustness": "lr_scales"}
DESCRIPTION = "Turn learning-rate tuning into ensembles: train a pool, select a team, evaluate it honestly."
WIDTH = 80  # cells of the help's lines


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, like every other error."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(action, f"{value!r} is not possible: {did_you_mean(value, action.choices)}")


class Help(argparse.RawDescriptionHelpFormatter):
    """Paragraphs as wide as the terminal; indented lines stay as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines: list[str] = []
        for block in re.findall(r"(?:^(?! ).+\n?)+|^.*\n?", text, re.MULTILINE):
            lines += textwrap.wrap(block, width, break_on_hyphens=False) if block[:1].strip() else [block.rstrip("\n")]
        return "\n".join(lines)


class MainParser(Parser):
    """Its help is the commands in groups, the job first."""

    def format_help(self) -> str:
        lines = ["usage: lrensemble COMMAND ...", "", *textwrap.wrap(DESCRIPTION, WIDTH)]
        wide = max(map(len, COMMANDS))
        for title, group in GROUPS.items():
            lines += ["", f"{title}:"]
            for name, module in group.items():
                lines += textwrap.wrap(f"  {name:{wide}}  {module.HELP}", WIDTH, subsequent_indent=" " * (wide + 4))
        return "\n".join(
            [*lines, "", "lrensemble help COMMAND says more of one, lrensemble version which this is.", ""]
        )


def build_parser() -> tuple[Parser, dict[str, Parser]]:
    """The parser, and the parser of every command by name."""
    parser = MainParser(prog="lrensemble", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"lrensemble {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    commands = {}
    for name, module in COMMANDS.items():
        command: Parser = subparsers.add_parser(
            name,
            help=module.HELP,
            description=module.__doc__,
            formatter_class=Help,
            allow_abbrev=False,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
        commands[name] = command
    parser.set_defaults(root=parser)  # for what runs other commands, or is about all
    return parser, commands


def option_names(parser: argparse.ArgumentParser, words: Iterable[str]) -> list[str]:
    """Every option of a command, or of that below it which `words` name; old names are none."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word in words:
                if word in action.choices:
                    return option_names(action.choices[word], ())
    actions = (action for action in parser._actions if not isinstance(action, OldName))
    return [name for action in actions for name in action.option_strings]


def present_names(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """A command line with the names that commands have now, and what was changed: the old words, and the new ones."""
    if not argv:
        return ["--help"], []
    if argv[0] == "help":
        present, renamed = present_names(argv[1:])
        return [*present, "--help"], renamed
    if argv[0] == "version":
        return ["--version"], []
    for old, new in RENAMED.items():
        is_old = old != ("run",) or ROUNDS & {word.partition("=")[0] for word in argv}
        if is_old and tuple(argv[: len(old)]) == old:
            return [*new, *argv[len(old) :]], [" ".join(["lrensemble", *words]) for words in (old, new)]
    return [*argv], []


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse a command line; raise `UserError` with the nearest command or option."""
    argv, renamed = present_names(argv)
    parser, commands = build_parser()
    if not argv[0].startswith("-") and argv[0] not in commands:
        raise UserError(f"unknown command {argv[0]!r}: {did_you_mean(argv[0], [*commands, 'help', 'version'])}")
    args, rest = parser.parse_known_args(argv)
    # argparse gives up on positionals that come after options; overrides and policies may stand anywhere.
    if hasattr(args, "overrides"):
        args.overrides += [word for word in rest if "=" in word and not word.startswith("-")]
        rest = [word for word in rest if word not in args.overrides]
    for words in (getattr(args, name, None) for name in ("policies", "predictions", "files")):
        if words is not None:
            words += [word for word in rest if not word.startswith("-")]
            rest = [word for word in rest if word.startswith("-")]
    if args.command == "export" and args.team is None and rest and not rest[0].startswith("-"):
        args.team = rest.pop(0)
    if rest:
        options = option_names(commands[args.command], argv)
        wrong = rest[0].partition("=")[0]
        raise UserError(f"lrensemble {args.command} does not know {rest[0]!r}: {did_you_mean(wrong, options)}")
    if renamed:
        note_renamed(args, *renamed)
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 1 (members failed, or verify's no), 2 (bad input), 130 (Ctrl-C)."""
    args: argparse.Namespace | None = None
    try:
        args = parse(sys.argv[1:] if argv is None else argv)
        output.configure(args)
        for line in getattr(args, "renamed", ()):
            output.note(line)
        code: int = args.run(args)
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
        kept = args is not None and args.command in RESUMED and vars(args).get(RESUMED[args.command], True)
        goes_on = "everything finished is kept; the same command goes on from here"
        terminal.note(f"stopped: {goes_on if kept else 'nothing is left half-written'}")
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
