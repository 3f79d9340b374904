"""Export a team as a folder that predicts by itself, with a model card.

Its outputs are compared with the pool's stored test predictions on every row before the folder appears.
"""

from __future__ import annotations

import argparse

from lrensemble.cli import output

HELP = "a team as a folder that predicts by itself"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pool", metavar="POOL", help="folder of a pool")
    parser.add_argument("team", metavar="TEAM", nargs="?", help="name of a team (default: the one that evaluate names)")
    parser.add_argument("--team", metavar="NAME", default=argparse.SUPPRESS, help="the same")
    parser.add_argument("-o", "--output", metavar="FOLDER", required=True, help="new folder for the team")
    parser.add_argument(
        "--as",
        dest="formats",
        metavar="FORMAT",
        nargs="+",
        action="extend",
        help="torch: a graph for plain torch (default); onnx: for onnxruntime (extra onnx); "
        "safetensors: weights alone, models built by lrensemble; nir: a graph of each spiking member, for other "
        "simulators and chips (extra nir). One or more; a team for texts is a base by name, and adapters",
    )
    parser.add_argument("--force", action="store_true", help="replace an exported team that is in FOLDER")
    parser.add_argument("--no-check", action="store_true", help="do not compare with the stored test predictions")
    parser.add_argument("--no-benchmark", action="store_true", help="do not measure the time per batch")
    parser.add_argument(
        "--tolerance",
        type=output.real(0, 0.1),
        default=1e-5,
        metavar="T",
        help="largest difference of a probability (1e-5)",
    )
    output.add_trust(parser)
    output.add_format(parser)


def run(args: argparse.Namespace) -> int:
    from lrensemble.export import export_team
    from lrensemble.pool import Pool
    from lrensemble.pool.sizes import size_text
    from lrensemble.pool.team import team_to_use
    from lrensemble.tasks.labels import few

    formats = [name for word in args.formats or ["torch"] for name in word.split(",") if name]
    pool = Pool.open(args.pool)
    team = args.team or team_to_use(args.pool, pool.teams).name
    notes: list[str] = []
    with output.working(f"exporting {team}") as tell:

        def say(text: str) -> None:
            if text.startswith("not checked"):
                notes.append(text)
            else:
                tell(f"exporting {team}: {text}")

        card = export_team(
            pool,
            team,
            args.output,
            formats=formats,
            force=args.force,
            check=not args.no_check,
            benchmark=not args.no_benchmark,
            tolerance=args.tolerance,
            trust=args.trust,
            tell=say,
        )
    for note in notes:
        output.note(note)
    if args.format == "json":
        output.print_json({"folder": args.output, "left_out": pool.left_out, **card.model_dump(mode="json")})
        return 0
    size = size_text(sum(info.bytes for info in card.files.values()))
    output.say(f"{args.output}: {card.name}, {len(card.members)} members, {few(card.files)} ({size}), README.md")
    for format, check in card.checks.items():
        undecided = f", beside {check.undecided:,} undecided rows (README.md)" if check.undecided else ""
        output.say(
            f"{format}: {check.what}: n = {check.rows:,}, largest difference {check.largest_difference:.1e}{undecided}"
        )
    for timing in card.timings:
        output.say(
            f"batch of {timing.batch}: {timing.text('team')}, the best single member {timing.text('single')}: the "
            f"fastest of {timing.calls} calls (10 % to 90 %) as {timing.format}, {timing.device}"
        )
    output.say_command("lrensemble", "predict", args.output, "FILE")
    return 0
