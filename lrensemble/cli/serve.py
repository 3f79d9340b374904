"""Answer over HTTP what an exported team says of images, rows of a table, or texts: POST /predict.

Uses nothing but the folder that `lrensemble export` wrote. Nothing of a request is executed or kept. It has no users,
passwords or encryption: beyond this machine, put it behind a server that has. docs/deploy.md has the requests.
"""

from __future__ import annotations

import argparse

from lrensemble.cli import output
from lrensemble.cli.predict import add_reading

HELP = "an exported team over HTTP (extra serve)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("team", metavar="FOLDER", help="an exported team")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (127.0.0.1: this machine alone)")
    parser.add_argument("--port", type=output.whole(1, 65535), default=8000, metavar="N", help="8000")
    parser.add_argument("--max-mb", type=output.whole(1, 1024), default=16, metavar="N", help="of a request (16)")
    parser.add_argument("--max-rows", type=output.whole(), default=1024, metavar="N", help="of a request (1024)")
    add_reading(parser)
    output.add_trust(parser)


def run(args: argparse.Namespace) -> int:
    from lrensemble.installing import needed

    with needed("serve needs fastapi and uvicorn", "serve"):
        import uvicorn

        from lrensemble.export.serve import app_of
    from lrensemble.export.ensemble import Ensemble
    from lrensemble.export.predict import reader_of

    team = Ensemble.load(args.team, format=args.kind, trust=args.trust)
    reader = reader_of(team, convert=args.convert, resize=args.resize, scale=args.scale, key=None)
    app = app_of(team, reader, abstain=args.abstain, most_bytes=args.max_mb << 20, most_rows=args.max_rows)
    output.note(f"http://{args.host}:{args.port}/predict takes rows, http://{args.host}:{args.port}/ says which")
    uvicorn.run(app, host=args.host, port=args.port, log_level="warning")
    return 0
