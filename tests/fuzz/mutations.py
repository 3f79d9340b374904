"""What can happen to a file: bytes, digits, cuts, links, types. Every mutation is a function of (path, random)."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

Mutation = Callable[[Path, Random], None]
WORLD = "world"  # the folder that mutated files are in, at any depth
STRANGE: list[Any] = [
    "text", "", [], {}, None, True, False, -1, 0, 1.5, 1e308, -1e308, 10**30, float("nan"), float("inf"),
    [[1]], {"name": "x"}, "../../x", "/dev/zero", "\x1b]52;c;eA==\x07\x1b[2J", "x" * 10**6, "FIX(k0=" + "(" * 20_000,
]  # fmt: skip


def _bytes(change: Callable[[bytearray, Random], bytes]) -> Mutation:
    return lambda path, random: _write(path, change(bytearray(path.read_bytes()), random))


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def flip_bit(data: bytearray, random: Random) -> bytes:
    if data:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return data


def random_bytes(data: bytearray, random: Random) -> bytes:
    at = random.randrange(len(data) + 1)
    return data[:at] + random.randbytes(random.randint(1, 64)) + data[at + random.randint(0, 64) :]


def zeros(data: bytearray, random: Random) -> bytes:
    at = random.randrange(len(data) + 1)
    count = min(512, len(data) - at)
    return data[:at] + bytes(count) + data[at + count :]


def other_digit(data: bytearray, random: Random) -> bytes:
    if places := [match.start() for match in re.finditer(rb"[0-9]", data)]:
        at = random.choice(places)
        data[at] = random.choice([d for d in b"0123456789" if d != data[at]])
    return data


def more_digits(data: bytearray, random: Random) -> bytes:
    if places := [match.start() for match in re.finditer(rb"[0-9]", data)]:
        at = random.choice(places)
        data[at:at] = b"9" * random.choice([1, 3, 12, 400])
    return data


def another_sign(data: bytearray, random: Random) -> bytes:
    if places := [match.start() for match in re.finditer(rb"[0-9]+", data)]:
        at = random.choice(places)
        data[at:at] = random.choice([b"-", b".", b"e", b"0x", b",", b" "])
    return data


def cut(data: bytearray, random: Random) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def cut_at_a_line(data: bytearray, random: Random) -> bytes:
    ends = [match.end() for match in re.finditer(rb"\n", data)]
    return data[: random.choice(ends[:-1] or ends or [0])]


def no_first_line(data: bytearray, random: Random) -> bytes:
    return data[data.find(b"\n") + 1 :]


def line_twice(data: bytearray, random: Random) -> bytes:
    lines = data.splitlines(keepends=True)
    at = random.randrange(len(lines) or 1)
    return b"".join([*lines[: at + 1], *lines[at:]])


def lines_swapped(data: bytearray, random: Random) -> bytes:
    lines = data.splitlines(keepends=True)
    if len(lines) > 1:
        a, b = random.sample(range(len(lines)), 2)
        lines[a], lines[b] = lines[b], lines[a]
    return b"".join(lines)


def empty(data: bytearray, random: Random) -> bytes:
    return b""


def garbage_after(data: bytearray, random: Random) -> bytes:
    return data + random.choice([b"\0" * 100, b"\n{}\n", b"x", bytes(data), random.randbytes(1000)])


def nested(data: bytearray, random: Random) -> bytes:
    return random.choice([b"[", b'{"a":', b"("]) * random.choice([300, 100_000])


# Types in JSON (also one document a line)


def _leaves(value: Any, *way: Any) -> Iterator[tuple[Any, ...]]:
    if way:
        yield way
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _leaves(inner, *way, key)


def _json(change: Callable[[Any, Any, Random], None]) -> Mutation:
    """A mutation of one place: `change` gets the container, the key in it, and random."""

    def mutate(path: Path, random: Random) -> None:
        lines = (
            path.read_text(encoding="utf-8").splitlines()
            if path.suffix == ".jsonl"
            else [path.read_text(encoding="utf-8")]
        )
        at = random.randrange(len(lines))
        document = json.loads(lines[at])
        *way, key = random.choice(list(_leaves(document)))
        inside = document
        for step in way:
            inside = inside[step]
        change(inside, key, random)
        lines[at] = json.dumps(document, indent=None if path.suffix == ".jsonl" else 2)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    return mutate


def other_type(inside: Any, key: Any, random: Random) -> None:
    inside[key] = random.choice(STRANGE)


def as_text(inside: Any, key: Any, random: Random) -> None:
    inside[key] = str(inside[key])


def other_number(inside: Any, key: Any, random: Random) -> None:
    old = inside[key]
    if isinstance(old, int | float) and not isinstance(old, bool):
        inside[key] = random.choice([-old, old * 1.01, old + 1, old * 1000, old / 3])
    else:
        inside[key] = random.choice([old, 50, -9.2])


def no_key(inside: Any, key: Any, random: Random) -> None:
    del inside[key]


def other_key(inside: Any, key: Any, random: Random) -> None:
    if isinstance(inside, dict):
        inside[random.choice([f"{key}x", key[:-1], "../x", "__class__"])] = inside.pop(key)
    else:
        inside.append(inside[key])


def deep(inside: Any, key: Any, random: Random) -> None:
    for _ in range(random.choice([5, 200, 600])):
        inside[key] = [inside[key]]


def key_twice(path: Path, random: Random) -> None:
    """Which of two equal keys counts is the reader's secret: JSON allows both."""
    text = path.read_text(encoding="utf-8")
    pairs = list(re.finditer(r'"(\w+)": (-?[0-9.]+|"[^"]*"|null|true|false)', text))
    if pairs:
        pair = random.choice(pairs)
        path.write_text(
            f'{text[: pair.start()]}"{pair[1]}": {random.choice(["1", "null", "[]"])}, {text[pair.start() :]}'
        )


# What is not a file


def dangling_link(path: Path, random: Random) -> None:
    path.unlink()
    path.symlink_to("/nonexistent/file")


def link_to_itself(path: Path, random: Random) -> None:
    path.unlink()
    path.symlink_to(path.name)


def link_to_zeros(path: Path, random: Random) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def link_elsewhere(path: Path, random: Random) -> None:
    """The same content, by a link out of the folder."""
    target = next(p for p in path.parents if p.name == WORLD).parent / path.name
    shutil.move(path, target)
    path.symlink_to(target)


def pipe(path: Path, random: Random) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path, random: Random) -> None:
    path.unlink()
    path.mkdir()


def missing(path: Path, random: Random) -> None:
    path.unlink()


def forbidden(path: Path, random: Random) -> None:
    path.chmod(0)


def other_file(path: Path, random: Random) -> None:
    """What another file of the kind holds."""
    others = [p for p in path.parent.parent.rglob(f"*{path.suffix}") if p.is_file() and p != path]
    if others:
        shutil.copyfile(random.choice(sorted(others)), path)


ANY: dict[str, Mutation] = {
    **{
        f.__name__: _bytes(f)
        for f in (flip_bit, random_bytes, zeros, other_digit, more_digits, another_sign, cut, cut_at_a_line)
    },
    **{f.__name__: _bytes(f) for f in (no_first_line, line_twice, lines_swapped, empty, garbage_after, nested)},
    **{
        f.__name__: f
        for f in (dangling_link, link_to_itself, link_to_zeros, link_elsewhere, pipe, folder, missing, forbidden)
    },
    "other_file": other_file,
}
JSON: dict[str, Mutation] = {
    **{f.__name__: _json(f) for f in (other_type, as_text, other_number, no_key, other_key, deep)},
    "key_twice": key_twice,
}


def mutate(path: Path, random: Random) -> str:
    """Change a file; return the name of what was done to it. Documents of JSON get types half of the time."""
    is_json = path.suffix in (".json", ".jsonl")
    kind = JSON if is_json and random.random() < 0.5 else ANY
    name = random.choice(sorted(kind))
    kind[name](path, random)
    return name
