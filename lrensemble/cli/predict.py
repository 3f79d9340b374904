"""Ask an exported team about images, rows or texts: image files, tables (.csv), arrays (.npy, .npz), .jsonl, folders.

Uses nothing but the folder that `lrensemble export` wrote. A file that cannot be used is named on stderr, the others
are answered, and the exit code is 1.
"""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

from lrensemble.cli import output

CLASSES = 5  # that are counted by name
HELP = "what an exported team says of images, rows of a table, or texts"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("team", metavar="FOLDER", help="an exported team")
    parser.add_argument("files", metavar="FILE", nargs="+", help="files or folders: images, tables, arrays, texts")
    add_reading(parser)
    parser.add_argument("--key", metavar="NAME", help="of the array in an .npz")
    parser.add_argument("--batch", type=output.whole(), default=128, metavar="N", help="rows at a time (128)")
    output.add_trust(parser)
    output.add_format(parser)


def add_reading(parser: argparse.ArgumentParser) -> None:
    """How rows are read and answered."""
    parser.add_argument(
        "--abstain", type=output.real(0, 1), metavar="P", help="no answer where the confidence is below P"
    )
    parser.add_argument("--resize", action="store_true", help="resize images of another size (bilinear)")
    parser.add_argument("--convert", action="store_true", help="convert images of another mode (RGB to grey, ...)")
    parser.add_argument(
        "--scale", type=output.real(-1e9, 1e9), default=1.0, metavar="F", help="multiply every value by F"
    )
    parser.add_argument("--as", dest="kind", metavar="FORMAT", help="which file of the team: torch, onnx, safetensors")


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from rich.progress import Progress

    from lrensemble.export.ensemble import Ensemble
    from lrensemble.export.predict import answer_of, find_files, predict_files, reader_of

    team = Ensemble.load(args.team, format=args.kind, trust=args.trust)
    reader = reader_of(team, convert=args.convert, resize=args.resize, scale=args.scale, key=args.key)
    files = list(find_files([Path(file) for file in args.files], reader))
    console = output.console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("predicting", total=len(files))
        answers = list(predict_files(team, files, reader, batch=args.batch, tell=lambda n: progress.advance(bar, n)))
    errors = [answer for answer in answers if answer.error]
    rows = [
        {"file": one.file, "row": one.row, **answer_of(one.probabilities, team.class_names, args.abstain)}
        for one in answers
        if one.probabilities is not None
    ]
    for answer in errors:
        output.note(f"error: {answer.file}: {answer.error}")
    if args.format == "json":
        wrong = [{"file": answer.file, "error": answer.error} for answer in errors]
        output.print_json({"team": args.team, "abstain": args.abstain, "predictions": rows, "errors": wrong})
    elif rows:
        _print(rows, args.abstain, len(errors))
    return 1 if errors else 0


def _print(rows: list[dict[str, Any]], abstain: float | None, errors: int) -> None:
    counts = Counter(str(row["class"]) for row in rows if not row["abstains"])
    most = ", ".join(f"{name} ({count:,})" for name, count in counts.most_common(CLASSES))
    rest = counts.total() - sum(count for _, count in counts.most_common(CLASSES))
    found = f"n = {len(rows):,}"
    if abstain is not None:
        found += f", {len(rows) - counts.total():,} without an answer (confidence below {abstain:g})"
    found += f": {most}" if counts else ""
    found += f", other classes ({rest:,})" if rest else ""
    output.say(found + (f"; {errors:,} more could not be read" if errors else ""))
    output.print_table(
        "",
        ["<file", "<class", "confidence", "<most probable"],
        [
            [
                row["file"] + ("" if row["row"] is None else f" [{row['row']}]"),
                "(abstains)" if row["abstains"] else row["class"],
                output.number(row["confidence"]),
                ", ".join(f"{one['class']} {one['probability']:.4f}" for one in row["top"]),
            ]
            for row in rows
        ],
    )
