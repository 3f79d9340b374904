"""Look at recordings of event cameras: .dat, .bin, .bs2, .raw (EVT 2.0, 3.0), .aedat, .aedat4, .npy, .npz, .h5."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lrensemble.cli import output

HELP = "what recordings of event cameras hold"
SIDE = output.whole(1, 1 << 15)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=type(parser))
    what = "counts, duration, rate, sensor, ON share, what was dropped, and a picture"
    show = actions.add_parser("show", help=what, description=what, allow_abbrev=False)
    show.add_argument("path", metavar="FILE|FOLDER", type=Path, help="a recording, an .npz of many, or a folder")
    pixels = "WIDTH HEIGHT: events outside of these pixels are dropped (default: what the files say)"
    show.add_argument("--sensor", nargs=2, metavar="PIXELS", type=SIDE, help=pixels)
    show.add_argument("--unit", choices=["us", "ms", "s"], help="of the times in arrays (default: us, if whole)")
    show.add_argument("-o", "--output", metavar="PNG", type=Path, help="write the picture: red is ON, blue is OFF")
    output.add_format(show)


def run(args: argparse.Namespace) -> int:
    from lrensemble.errors import UserError
    from lrensemble.tasks.events.show import describe, in_characters, picture

    if args.output and args.output.suffix.lower() != ".png":
        raise UserError(f"{args.output}: the picture is a .png")
    with output.working(f"reading {args.path}"):
        facts, seen = describe(args.path, None if args.sensor is None else tuple(args.sensor), args.unit)
    if args.output:
        from PIL import Image

        Image.fromarray(picture(seen)).save(args.output)
    if args.format == "json":
        output.print_json({**facts, "picture": str(args.output) if args.output else None})
        return 0
    output.print_table(str(args.path), ["<", "<"], [[name, value] for name, value in _lines(facts)])
    for line in in_characters(seen):
        output.say(line)
    return 0


def _lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    from lrensemble.tasks.events.recording import summary

    many = facts["recordings"] > 1
    least, median, most = facts["events_of_one"]
    shortest, middle, longest = facts["seconds_of_one"]
    width, height = facts["sensor"]
    lines = [
        *([("recordings", f"{facts['recordings']:,} ({facts['empty']:,} empty)")] if many else []),
        ("events", f"{facts['events']:,}" + (f" ({least:,} to {most:,}, median {median:,.0f})" if many else "")),
        ("duration", f"{facts['seconds']:.3f} s" + (f" ({shortest:.3f} to {longest:.3f}, median {middle:.3f})"
                                                    if many else "")),
        ("rate", "-" if facts["rate"] is None else f"{facts['rate']:,.0f} events a second"),
        ("sensor", f"{width}x{height} pixels (from {facts['sensor_from']})"),
        ("ON share", output.number(facts["on_share"])),
    ]  # fmt: skip
    lines += [("class", f"{name}: {count:,}") for name, count in facts["classes"].items()]
    lines += [("note", line) for line in summary(facts["dropped"], facts["events"])]
    return lines + [("not read", problem) for problem in facts["unreadable"]]
