"""Image files: which files of a folder are images, and the one reader of training and of ``lrensemble predict``."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from lrensemble.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm")
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")  # no other decoder: EPS's starts Ghostscript
DEEP = ("I", "F")  # modes of more than 8 bits: PIL would clip them
SYSTEM = ("__MACOSX", "@eaDir")  # folders that systems put beside people's own


def is_hidden(name: str) -> bool:
    """Whether a file or folder is the system's or a tool's, not the user's: ``.DS_Store``, ``.ipynb_checkpoints``."""
    return name.startswith(".") or name in SYSTEM


def find_pictures(folder: Path) -> tuple[list[Path], Counter[str]]:
    """All image files below `folder`, in the order of torchvision's ImageFolder, and the suffixes of the other files.

    Hidden files and folders are left out; links are followed, but not in circles.
    """

    def fail(error: OSError) -> None:
        raise UserError(f"{error.filename}: {error.strerror}")

    inside = {str(folder): {os.path.realpath(folder)}}  # folder -> itself and those that it is in, without links
    found, others = [], Counter[str]()
    visited = []
    for root, names, files in os.walk(folder, followlinks=True, onerror=fail):
        kept = []
        for name in names:
            path = os.path.join(root, name)  # noqa: PTH118 (thousands of them)
            real = os.path.realpath(path)
            if not is_hidden(name) and real not in inside[root]:
                inside[path] = inside[root] | {real}
                kept.append(name)
        names[:] = kept
        visited.append((root, sorted(name for name in files if not is_hidden(name))))
    for root, files in sorted(visited):
        for name in files:
            suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122
            if suffix in SUFFIXES:
                found.append(Path(root, name))
            else:
                others[suffix or "(none)"] += 1
    return found, others


@contextlib.contextmanager
def _clear_errors() -> Iterator[None]:
    """Whatever a decoder raises becomes a `UserError` that says what is wrong, without the file's name."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except UserError:
        raise
    except UnidentifiedImageError:
        raise UserError("not an image (png, jpg, bmp, gif, tif, webp or ppm)") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UserError(f"it has more than {Image.MAX_IMAGE_PIXELS:,} pixels: make it smaller") from None
    except Exception as error:  # decoders raise anything on damaged files: struct.error, KeyError, ZeroDivisionError
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UserError(f"cut off, damaged or not to be read ({reason})") from None


def read_picture(file: Path | IO[bytes]) -> Any:
    """The picture in a file as it is shown, that is turned as its EXIF tag says, in its own mode.

    Raises
    ------
    UserError
        What is wrong with it, without its name: no image, cut off, several pictures, more than 8 bits, too large.
    """
    from PIL import Image, ImageOps

    if isinstance(file, Path) and not file.is_file():
        kind = "a link to nothing" if file.is_symlink() else "no file" if file.exists() else None
        raise UserError(f"it is {kind}" if kind else "it does not exist")
    with _clear_errors(), Image.open(file, formats=FORMATS) as image:
        # A phone's MPO is one picture with smaller copies of it.
        if image.format != "MPO" and getattr(image, "is_animated", False):
            raise UserError("it holds several pictures: one is needed")
        if image.mode.startswith(DEEP):
            raise UserError(f"mode {image.mode} (more than 8 bits): write it with 8 bits, or as an array")
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return image


def in_mode(picture: Any, mode: str) -> Any:
    """The picture in another mode, as PIL converts it (transparency is dropped)."""
    with _clear_errors():
        return picture if picture.mode == mode else picture.convert(mode)


def resized(picture: Any, size: tuple[int, int]) -> Any:
    """The picture with (width, height) pixels, bilinear."""
    from PIL import Image

    return picture if picture.size == size else picture.resize(size, Image.Resampling.BILINEAR)
