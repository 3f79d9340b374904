"""A picture of a terminal (SVG) from what commands print: docs/terminal.svg is made of the pool of configs/digits.yaml.

usage: scripts/terminal_picture.py -o docs/terminal.svg "select checkpoints/digits" "evaluate checkpoints/digits"
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from xml.sax.saxutils import escape

WIDTH, LINE, LETTER, MARGIN = 100, 18, 8.05, 16  # cells of a line, pixels


def printed(command: str) -> list[str]:
    """The command as it is typed, and what it prints to a terminal of `WIDTH` cells, stderr left out."""
    words = [sys.executable, "-m", "lrensemble", *command.split()]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        words, env={**os.environ, "COLUMNS": str(WIDTH)}, stdout=theirs, stderr=subprocess.DEVNULL
    )
    os.close(theirs)
    text = b""
    with contextlib.suppress(OSError):  # the end of a terminal
        while chunk := os.read(ours, 65536):
            text += chunk
    if process.wait():
        raise SystemExit(f"lrensemble {command} failed")
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.decode())
    return [f"$ lrensemble {command}", *plain.rstrip().splitlines(), ""]


def picture(lines: list[str]) -> str:
    width = round(max(WIDTH, *map(len, lines)) * LETTER + 2 * MARGIN)
    height = len(lines) * LINE + 2 * MARGIN
    texts = []
    for i, line in enumerate(lines):
        kind = ' class="c"' if line.startswith("$") else ""
        texts.append(f'<text x="{MARGIN}" y="{MARGIN + LINE * (i + 0.75):g}"{kind}>{escape(line)}</text>')
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
            "<style>text{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;"
            "fill:#d8dee9;white-space:pre}.c{fill:#8fbcbb;font-weight:bold}</style>",
            f'<rect width="{width}" height="{height}" rx="8" fill="#1f242d"/>',
            *texts,
            "</svg>\n",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commands", nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    lines = [line for command in args.commands for line in printed(command)]
    args.output.write_text(picture(lines[:-1]), encoding="utf-8")


if __name__ == "__main__":
    main()
