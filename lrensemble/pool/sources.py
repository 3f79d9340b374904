"""What a user names for an import: archives, folders, files of one split; who is called what."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lrensemble.errors import UserError
from lrensemble.pool.labels import PREDICTED
from lrensemble.pool.reading import SUFFIXES


@dataclass(frozen=True)
class Source:
    """Where a member's predictions are.

    Attributes
    ----------
    model : what the member is called
    files : the file of ``val`` and of ``test``; the same archive for both, or one file each
    """

    model: str
    files: dict[str, Path]

    @classmethod
    def archive(cls, path: Path, model: str | None = None) -> Source:
        return cls(model or path.stem, dict.fromkeys(PREDICTED, path))


def gather_sources(
    paths: Sequence[Path], *, val: Path | None = None, test: Path | None = None, model: str | None = None
) -> list[Source]:
    """The members that a user named: archives and folders, or one file of each split, and a name for a single one."""
    sources = [source for path in paths for source in find_sources(path)]
    if val or test:
        if not (val and test):
            raise UserError(f"--{'test' if val else 'val'} is missing: predictions of val and test are needed")
        if model is None:
            raise UserError(f"--model is missing: what is the member of {val} and {test} called?")
        sources.append(Source(model, {"val": val, "test": test}))
    if not sources:
        raise UserError("no predictions are named: give FILE.npz, a folder of them, or --val FILE --test FILE")
    if model is not None:
        if len(sources) > 1:
            raise UserError(f"--model {model} is the name of one member, but there are {len(sources)}")
        sources = [dataclasses.replace(sources[0], model=model)]
    return sources


def gather_labels(both: Path | None, val: Path | None, test: Path | None) -> dict[str, Path] | None:
    """The files of the labels, in one archive or one file a split; None when none is named."""
    if both and (val or test):
        raise UserError("--labels has both splits: leave --labels-val and --labels-test out")
    if both:
        return dict.fromkeys(PREDICTED, both)
    if val and test:
        return {"val": val, "test": test}
    if val or test:
        raise UserError(f"--labels-{'test' if val else 'val'} is missing: labels of both splits make a pool")
    return None


def parse_classes(text: str | None) -> list[str] | int | None:
    """``cat,dog`` are names, ``1-10`` are the names 1, 2, ..., ``10`` is their number."""
    if text is None:
        return None
    if (span := re.fullmatch(r"([0-9]{1,6})-([0-9]{1,6})", text)) and int(span[1]) < int(span[2]):
        return [str(number) for number in range(int(span[1]), int(span[2]) + 1)]
    if text.isdecimal() and int(text) > 0:
        return int(text)
    names = [name.strip() for name in text.split(",")]
    if len(names) < 2 or "" in names or len(set(names)) < len(names):
        raise UserError(f"--classes {text}: names that differ, separated by commas, or their number are needed")
    return names


def find_sources(path: Path) -> list[Source]:
    """The members in an archive, or in a folder: its archives, and its folders with one file of val and one of test.

    A member is called like its archive or folder.
    """
    if path.is_dir():
        if files := _pair(path):
            return [Source(path.resolve().name, files)]
        entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
        found = [Source.archive(entry) for entry in entries if entry.suffix.lower() == ".npz"]
        found += [Source(entry.name, files) for entry in entries if entry.is_dir() and (files := _pair(entry))]
        if not found:
            raise UserError(f"{path}: no .npz in it, and no folder with val and test ({', '.join(SUFFIXES)}) either")
        return found
    if path.exists() and path.suffix.lower() != ".npz":
        raise UserError(
            f"{path}: a member needs predictions of val and test: give an .npz that has both, a folder with val and "
            f"test, or --val {path} --test FILE"
        )
    return [Source.archive(path)]


def _pair(folder: Path) -> dict[str, Path]:
    """The files ``val.*`` and ``test.*`` of a folder; empty when it does not have both."""
    files: dict[str, Path] = {}
    for split in PREDICTED:
        paths = [path for suffix in SUFFIXES if (path := folder / f"{split}{suffix}").is_file()]
        if len(paths) > 1:
            raise UserError(f"{folder} has {' and '.join(path.name for path in paths)}: one of them is needed")
        if paths:
            files[split] = paths[0]
    return files if len(files) == len(PREDICTED) else {}
