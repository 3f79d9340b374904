"""Where data sets come from, by name. A source returns raw splits; `load_images` cuts, checks and orders them."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lrensemble.errors import UserError, did_you_mean
from lrensemble.opening import check_array, check_packed, clear_read_errors, open_regular
from lrensemble.tasks.dataset import LAYOUTS, Images, Split, cut, make_split
from lrensemble.tasks.folder import read_folder
from lrensemble.tasks.groups import as_groups, check_groups, groups_of_paths, read_groups
from lrensemble.tasks.idx import FILES, find_idx, read_idx
from lrensemble.tasks.labels import check_classes, few, lacking_classes, numbered_classes
from lrensemble.tasks.splits import check_splits, find_splits
from lrensemble.tasks.task import SPLITS

CACHE = Path("~/.cache/lrensemble/data")
DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
LARGEST = 4096  # side of images that are resized
DIGITS = tuple("0123456789")
CLOTHES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


@dataclass(frozen=True)
class Raw:
    """What a source delivers: train and test, and a validation split only where the source has one of its own."""

    train: Split
    test: Split
    val: Split | None = None
    class_names: tuple[str, ...] = field(default=())
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Request:
    """What the user asks for."""

    name: str
    root: Path | None = None
    download: bool = False
    size: int | None = None
    layout: str | None = None
    skip_broken: bool = False
    val: Path | None = None
    groups: str | None = None
    test_fraction: float | None = None


def _digits(request: Request) -> Raw:
    """1,797 images of 8x8 pixels from scikit-learn; a stratified share, always the same, is the test split."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    everything = make_split(digits.images.astype(np.uint8), digits.target, "digits")
    share = 0.25 if request.test_fraction is None else request.test_fraction
    train, test = cut(everything, share, seed=0, what="data.test_fraction")
    return Raw(train, test, class_names=DIGITS)


def _existing(request: Request, kind: str) -> Path:
    """The root, which must exist and be a ``folder`` or a ``file``."""
    if request.root is None:
        raise UserError(f"data set {request.name!r} needs data.root={'FOLDER' if kind == 'folder' else 'FILE'}")
    root = request.root.expanduser()
    if not (root.is_dir() if kind == "folder" else root.is_file()):
        what = f"a {kind} is expected there" if root.exists() else "it does not exist"
        raise UserError(f"data.root = {root}: {what}")
    return root


def _idx(request: Request) -> Raw:
    folder = _existing(request, "folder")
    files = find_idx(folder)
    if missing := [FILES[key] for key in FILES if key not in files]:
        raise UserError(f"data.root = {folder}: no {missing[0]}(.gz) there")
    arrays = {key: read_idx(path) for key, path in files.items()}
    train, test = (
        make_split(arrays[f"{split}_images"], arrays[f"{split}_labels"], str(files[f"{split}_images"]), request.layout)
        for split in ("train", "test")
    )
    return Raw(train, test)


def _torchvision(class_name: str) -> Callable[[Request], Raw]:
    def source(request: Request) -> Raw:
        from torchvision import datasets

        root = (request.root or CACHE).expanduser()
        if request.root is not None and not root.is_dir() and not request.download:
            raise UserError(f"data.root = {request.root}: it does not exist (data.download=true creates and fills it)")
        kind = getattr(datasets, class_name)
        keys: list[dict[str, Any]] = [{"train": True}, {"train": False}]
        if class_name == "SVHN":
            keys = [{"split": "train"}, {"split": "test"}]
        try:
            train, test = (kind(root, download=request.download, **key) for key in keys)
        except (RuntimeError, OSError) as error:  # not found or damaged; no network
            fix = "is there a network?" if request.download else "data.download=true fetches it"
            raise UserError(f"{request.name} is not (whole) in {root}: {fix} ({str(error).splitlines()[0]})") from None
        names = tuple(getattr(train, "classes", ()))
        splits = []
        for part in (train, test):
            labels = np.asarray(part.labels if class_name == "SVHN" else part.targets)
            images = np.asarray(part.data)
            splits.append(make_split(images, labels, request.name))
        return Raw(splits[0], splits[1], class_names=names)

    return source


def _mnist(class_name: str, names: tuple[str, ...], standard: Path | None = None) -> Callable[[Request], Raw]:
    """IDX files directly in the root (or in the `standard` place) win over torchvision's folders."""

    def source(request: Request) -> Raw:
        places = [request.root, request.root / class_name / "raw"] if request.root else [standard]
        for folder in places:  # torchvision's own folder too: its reader believes what a file says of its size
            if folder is not None and find_idx(folder.expanduser()):
                raw = _idx(Request(request.name, folder))
                return Raw(raw.train, raw.test, class_names=names)
        return _torchvision(class_name)(request)

    return source


def _npz(request: Request) -> Raw:
    """One archive with MedMNIST's keys: train_images, train_labels, test_*, optionally val_* and class_names."""
    path = _existing(request, "file")
    arrays = read_npz(path)
    if request.val is not None:
        val = {key if key.startswith("val_") else f"val_{key}": array for key, array in read_npz(request.val).items()}
        if both := [key for key in arrays if key.startswith("val")]:
            raise UserError(f"data.val = {request.val}, but {path} has {few(both)}: leave one of them out")
        if missing := [key for key in ("images", "labels") if f"val_{key}" not in val]:
            raise UserError(f"{request.val}: no array {missing[0]!r} or 'val_{missing[0]}'")
        arrays |= val
    return _from_arrays(arrays, path, request)


def read_npz(path: Path) -> dict[str, Any]:
    """All arrays of an archive, or a `UserError`."""
    path = path.expanduser()
    try:
        with open_regular(path) as file:
            if file.read(6) == np.lib.format.MAGIC_PREFIX:
                raise ValueError("one array, not an archive of several")
        with clear_read_errors(path), zipfile.ZipFile(path) as archive:
            entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
            unpacked, packed = (sum(getattr(e, of) for e in entries.values()) for of in ("file_size", "compress_size"))
            check_packed(path, unpacked, packed)
            return {key: _array(archive, entry) for key, entry in entries.items()}
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{path}: not a readable .npz archive ({error})") from None


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Any:
    with archive.open(entry) as file:
        check_array(file, entry.file_size)
        return np.lib.format.read_array(file, allow_pickle=False)


def _npy(request: Request) -> Raw:
    """A folder of .npy files with the same names (train_images.npy, ...), memory-mapped: larger than memory is fine."""
    folder = _existing(request, "folder")
    arrays = {}
    for path in sorted(folder.glob("*.npy")):
        try:
            with open_regular(path) as file, clear_read_errors(path):
                check_array(file, os.fstat(file.fileno()).st_size)
                arrays[path.stem] = np.load(path, mmap_mode="r" if path.stem.endswith("_images") else None)
        except (ValueError, EOFError) as error:
            raise UserError(f"{path}: not a readable .npy array ({error})") from None
    return _from_arrays(arrays, folder, request)


def _from_arrays(arrays: dict[str, Any], path: Path, request: Request) -> Raw:
    """Splits from arrays with MedMNIST's keys."""
    prefixes = dict.fromkeys(key.rpartition("_")[0] for key in arrays if key.endswith(("_images", "_labels")))
    found, _ = find_splits(prefixes, str(path))
    splits = {}
    for split in ("train", "val", "test"):
        if split == "val" and split not in found:
            continue
        for key in (f"{found.get(split, split)}_{part}" for part in ("images", "labels")):
            if key not in arrays:
                raise UserError(f"{path}: no array {key!r}: {did_you_mean(key, arrays)}")
        images, labels = (arrays[f"{found[split]}_{part}"] for part in ("images", "labels"))
        where = f"{path} ({found[split]})"
        splits[split] = make_split(images, labels, where, request.layout)
        if (key := f"{found[split]}_{request.groups}") in arrays:
            splits[split] = splits[split].in_groups(as_groups(arrays[key], where), where)
    names = tuple(str(name) for name in np.atleast_1d(arrays.get("class_names", [])))
    known = {f"{prefix}_{part}" for prefix in found.values() for part in ("images", "labels", request.groups)}
    known.add("class_names")
    others = [key for key in arrays if key not in known]
    if request.groups:
        key, is_file = f"train_{request.groups}", Path(request.groups).expanduser().is_file()
        if key in arrays and is_file:
            raise UserError(f"data.groups = {request.groups}: both the array {key!r} of {path} and a file: rename one")
        if key not in arrays and not is_file:
            hint = did_you_mean(key, others)
            raise UserError(f"data.groups = {request.groups}: no array {key!r} in {path}, and no such file: {hint}")
    notes = (f"{path}: not read: {few(others)} (train_*, val_*, test_* and class_names are)",) if others else ()
    return Raw(splits["train"], splits["test"], splits.get("val"), names, notes)


def _folder(request: Request) -> Raw:
    """Images in ROOT/train/CLASS/ and ROOT/test/CLASS/, optionally ROOT/val/CLASS/."""
    root = _existing(request, "folder")
    found = read_folder(root, request.size, request.skip_broken, request.val)
    splits = {}
    for split, images in found.images.items():
        splits[split] = make_split(images, found.labels[split], str(root / split), "nhwc")
        if request.groups is not None:
            groups = groups_of_paths((path.as_posix() for path in found.paths[split]), request.groups, split)
            splits[split] = splits[split].in_groups(groups, split)
    return Raw(splits["train"], splits["test"], splits.get("val"), found.class_names, tuple(found.notes))


SOURCES: dict[str, Callable[[Request], Raw]] = {
    "digits": _digits,
    "mnist": _mnist("MNIST", DIGITS),
    "fashion_mnist": _mnist("FashionMNIST", CLOTHES, DEBIAN_FASHION_MNIST),
    "cifar10": _torchvision("CIFAR10"),
    "cifar100": _torchvision("CIFAR100"),
    "svhn": _torchvision("SVHN"),
    "idx": _idx,
    "npz": _npz,
    "npy": _npy,
    "folder": _folder,
}
# Which options a source takes; the others take root, download and groups.
_OPTIONS: dict[str, set[str]] = {
    "digits": {"test_fraction"},
    "idx": {"root", "layout", "groups"},
    "npz": {"root", "layout", "val", "groups"},
    "npy": {"root", "layout", "groups"},
    "folder": {"root", "size", "skip_broken", "val", "groups"},
}


def _check_options(request: Request) -> None:
    """An option that changes nothing is a mistake, so it is said."""
    takes = _OPTIONS.get(request.name, {"root", "download", "groups"})
    for option in ("root", "download", "size", "layout", "skip_broken", "val", "groups", "test_fraction"):
        value = getattr(request, option)
        if value not in (None, False) and option not in takes:
            what = f"it takes {' and '.join(sorted(takes))}" if takes else "it needs no options"
            raise UserError(f"data.{option} = {value}: data set {request.name!r} has no use for it; {what}")
    if request.size is not None and not 0 < request.size <= LARGEST:
        raise UserError(f"data.size = {request.size}: it must be from 1 to {LARGEST}")
    if request.layout not in (None, *LAYOUTS):
        raise UserError(f"data.layout = {request.layout}: {did_you_mean(request.layout, LAYOUTS)}")


def check_local(data: Mapping[str, Any], pool: Path) -> None:
    """Raise `UserError` where a pool says that its data are on another machine."""
    for place in (str(data.get(key) or "") for key in ("root", "val", "test", "groups", "tokenizer")):
        if "://" in place or place.startswith(("//", "\\\\")):
            raise UserError(f"{pool}: its data are on another machine ({place}): nothing is fetched for a pool")


def load_images(
    name: str,
    *,
    root: Path | None = None,
    download: bool = False,
    size: int | None = None,
    layout: str | None = None,
    skip_broken: bool = False,
    val_fraction: float | None = None,
    split_seed: int = 0,
    val: Path | None = None,
    groups: str | None = None,
    test_fraction: float | None = None,
) -> Images:
    """Load a data set and, where it has no validation split of its own, cut one off train, stratified by class.

    Parameters
    ----------
    name : str
        A name in `SOURCES`.
    root : Path, optional
        Folder (or .npz file) with the data; torchvision's sets default to ``~/.cache/lrensemble/data``.
    download : bool
        Let torchvision fetch what is missing.
    size : int, optional
        Resize images of a ``folder`` to size x size pixels.
    layout : str, optional
        ``nchw`` or ``nhwc``: where arrays have their channels, needed where their shape does not say it.
    skip_broken : bool
        Leave out the images of a ``folder`` that cannot be read, instead of raising.
    val_fraction : float, optional
        Share of train that becomes the validation split, default 0.1. A source with a validation split of its own
        uses that one and takes no fraction.
    split_seed : int
        Seed of that cut.
    val : Path, optional
        Where the validation split is, if not beside train: a folder of CLASS/IMAGE files (``folder``), or an archive
        with ``images`` and ``labels`` (``npz``).
    groups : str, optional
        Which rows belong together, so that no split has a part of them. Of a ``folder``: a regular expression that is
        searched for in CLASS/IMAGE; the group is what its first brackets find, or all that it finds. Of ``npz`` and
        ``npy``: the arrays ``train_GROUPS`` and, if they are there, ``val_GROUPS`` and ``test_GROUPS``. Of all but
        ``folder`` also a text file with the group of one train row on every line.
    test_fraction : float, optional
        Of ``digits``, which have no test split of their own: its share, default 0.25.

    Raises
    ------
    UserError
        Unknown name, missing or damaged files, impossible split, splits that do not fit together.
    """
    if name not in SOURCES:
        raise UserError(f"unknown data set {name!r}: {did_you_mean(name, SOURCES)}")
    request = Request(name, root, download, size, layout, skip_broken, val, groups, test_fraction)
    _check_options(request)
    raw = SOURCES[name](request)
    splits = {"train": raw.train, **({"val": raw.val} if raw.val else {}), "test": raw.test}
    if groups is not None and raw.train.groups is None:
        splits["train"] = raw.train.in_groups(read_groups(Path(groups)), groups)
    class_names = raw.class_names or numbered_classes(raw.train.labels)
    check_classes({split: rows.labels for split, rows in splits.items()}, class_names)
    notes = [*raw.notes, *check_splits(splits)]
    if groups is not None:
        notes += check_groups({split: rows.groups for split, rows in splits.items()})
    if raw.val is None:
        fraction = 0.1 if val_fraction is None else val_fraction
        splits["train"], splits["val"] = cut(splits["train"], fraction, split_seed, "data.val_fraction")
    elif val_fraction is not None:
        raise UserError(f"data.val_fraction = {val_fraction}: {name} has a validation split of its own; leave it out")
    notes += lacking_classes({split: splits[split].labels for split in SPLITS}, class_names)
    return Images(splits["train"], splits["val"], splits["test"], class_names, tuple(notes))
