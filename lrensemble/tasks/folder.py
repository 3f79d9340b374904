"""A data set of image files, ROOT/train/CLASS/IMAGE and so on: everything that is wrong with it is said at once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from lrensemble.array import Array
from lrensemble.errors import UserError, did_you_mean
from lrensemble.tasks.labels import few
from lrensemble.tasks.pictures import SUFFIXES, find_pictures, in_mode, is_hidden, read_picture, resized
from lrensemble.tasks.splits import find_splits

SHOWN = 10  # problems
MOST_PIXELS = 4096**2  # of an image that is not resized


@dataclass
class Folder:
    """What was read: split -> images (N, H, W, 3) uint8, labels (N,) and paths below the split's folder (N,); the
    classes; what the user should know."""

    images: dict[str, Array] = field(default_factory=dict)
    labels: dict[str, Array] = field(default_factory=dict)
    paths: dict[str, list[Path]] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)


def read_folder(root: Path, size: int | None = None, skip_broken: bool = False, val: Path | None = None) -> Folder:
    """Read all images, in RGB as they are shown; with `size` resized (bilinear) to size x size pixels.

    `val` is the folder of the validation split, where that is not in `root`.

    Raises
    ------
    UserError
        No train or test folder, unknown or empty classes, and all images that cannot be read (unless `skip_broken`
        leaves these out) or have another size than the first.
    """
    tops = sorted(path.name for path in root.iterdir() if path.is_dir() and not is_hidden(path.name))
    folders, unknown = find_splits(tops, str(root))
    for split in ("train", "test"):
        if split not in folders:
            hint = did_you_mean(split, tops)
            raise UserError(f"data.root = {root}: {split}/CLASS/IMAGE files expected, no folder {split!r}: {hint}")
    if val is not None:
        if "val" in folders:
            raise UserError(f"data.val = {val}, but {root / folders['val']} is there too: leave one of them out")
        if not val.expanduser().is_dir():
            raise UserError(f"data.val = {val}: a folder of CLASS/IMAGE files is expected there")
        folders["val"] = str(val.expanduser().absolute())
    result = Folder()
    if unknown:
        result.notes.append(f"{root}: not read: {few(unknown)} (train, val and test are)")
    files: dict[str, list[tuple[Path, int]]] = {}
    for split, name in folders.items():
        classes = _classes(root / name, result.notes)
        if split == "train":
            result.class_names = tuple(classes)
            if empty := [name for name, paths in classes.items() if not paths]:
                raise UserError(f"{root / name}: no images ({', '.join(SUFFIXES)}) of class {few(empty)}")
        files[split] = _labelled(root / name, classes, result)
    _read(root, files, size, skip_broken, result)
    for split, paths in result.paths.items():
        result.paths[split] = [path.relative_to(root / folders[split]) for path in paths]
    return result


def _classes(folder: Path, notes: list[str]) -> dict[str, list[Path]]:
    """Class -> its images; other files are counted in `notes`."""
    classes, others = {}, Counter[str]()
    for path in sorted(folder.iterdir()):
        if is_hidden(path.name):
            continue
        if path.is_dir():
            classes[path.name], more = find_pictures(path)
            others += more
        elif path.suffix.lower() in SUFFIXES:
            others["images in no class's folder"] += 1
    if others:
        notes.append(f"{folder}: not read: {', '.join(f'{count} {kind}' for kind, count in sorted(others.items()))}")
    return classes


def _labelled(folder: Path, classes: dict[str, list[Path]], result: Folder) -> list[tuple[Path, int]]:
    """Images with the numbers of their classes; val and test may lack classes of train, but have no others."""
    numbers = {name: i for i, name in enumerate(result.class_names)}
    for name, paths in classes.items():
        if paths and name not in numbers:
            raise UserError(f"{folder / name}: no class of train: {did_you_mean(name, numbers)}")
    if not any(classes.values()):
        raise UserError(f"{folder}: no images ({', '.join(SUFFIXES)}) in CLASS/IMAGE files")
    return [(path, numbers[name]) for name, paths in classes.items() for path in paths]


def _read(
    root: Path, files: dict[str, list[tuple[Path, int]]], size: int | None, skip_broken: bool, result: Folder
) -> None:
    total = sum(map(len, files.values()))
    shape = (size, size) if size else None  # width, height
    first = None
    broken: list[tuple[Path, str]] = []
    others: list[tuple[Path, str]] = []  # that have another size than the first
    for split, entries in files.items():
        images: Array = np.empty(0)
        labels: list[int] = []
        kept = result.paths[split] = []
        for path, label in entries:
            shown = path.relative_to(root) if path.is_relative_to(root) else path
            try:
                picture = in_mode(read_picture(path), "RGB")
            except UserError as error:
                broken.append((shown, str(error)))
                continue
            if size:
                picture = resized(picture, (size, size))
            if shape is None:
                shape, first = picture.size, shown
            if picture.size != shape:
                size_text = f"{picture.width}x{picture.height} pixels, {first} has {shape[0]}x{shape[1]}"
                others.append((shown, size_text))
                continue
            if not len(images):
                _check_memory(root, total, shape)
                images = np.empty((len(entries), shape[1], shape[0], 3), dtype=np.uint8)
            images[len(labels)] = np.asarray(picture)
            labels.append(label)
            kept.append(path)
        result.images[split], result.labels[split] = images[: len(labels)], np.array(labels, dtype=np.int64)
    problems = others if skip_broken else broken + others
    if problems:
        some = 0 < len(broken) < total and not skip_broken
        fix = ". --skip-broken (data.skip_broken=true) leaves out what cannot be read" if some else ""
        fix += ". data.size=32 (for example) resizes all" if others else ""
        many = f"{len(problems)} of {total} images cannot be used: " if len(problems) > 1 else ""
        raise UserError(f"{root}: {many}{_listed(problems)}{fix}")
    if broken:
        result.notes.append(f"{root}: {len(broken)} of {total} images left out (skip_broken): {_listed(broken)}")
        lost = set(range(len(result.class_names))) - set(result.labels["train"].tolist())
        if lost or not all(map(len, result.labels.values())):
            what = few(result.class_names[i] for i in sorted(lost)) or "a split"
            raise UserError(f"{root}: without the unreadable images nothing is left of {what}: {_listed(broken)}")


def _listed(problems: list[tuple[Path, str]]) -> str:
    """The first problems, files with the same one together, and how many more there are."""
    files: dict[str, list[str]] = {}
    for path, problem in problems[:SHOWN]:
        files.setdefault(problem, []).append(str(path))
    more = f"; and {len(problems) - SHOWN:,} more" if len(problems) > SHOWN else ""
    return "; ".join(f"{', '.join(paths)}: {problem}" for problem, paths in files.items()) + more


def _check_memory(root: Path, total: int, shape: tuple[int, int]) -> None:
    """Small files can be large pictures: count before they are all in memory."""
    width, height = shape
    needed, free = 2 * 3 * total * width * height, psutil.virtual_memory().available  # twice: channels come first
    if needed > free or width * height > MOST_PIXELS:
        raise UserError(
            f"{root}: {total:,} images of {width}x{height} pixels need {needed / 2**30:.1f} GiB of memory, "
            f"{free / 2**30:.1f} are free: data.size=32 (for example) resizes all"
        )
