"""Nothing is written or deleted through a link inside of a pool: a pool from elsewhere must not reach out of itself.

The pool's own folder may be a link, or lie behind one: whoever wants a pool on a larger disk moves all of it and links
its folder. Below it a link is read through, and left alone by everything that writes.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from lrensemble.errors import UserError, did_you_mean

POOL = "pool.json"  # a folder with this file is a pool
CONFIGURATION = "config.json"  # in a pool that was trained: the configuration as it was understood


def link_above(path: Path, *, itself: bool = False) -> Path | None:
    """The first link between the outermost pool that `path` lies in and its folder; None: there is none.

    The outermost, because the control is a pool inside of a pool, and its folder may be a link too. `itself`: `path`
    is looked at as well.
    """
    path = path.absolute()
    parts = path.parts
    if ".." in parts:  # what comes before the last one decides where that leads
        last = len(parts) - parts[::-1].index("..")
        path = Path(*parts[:last]).resolve().joinpath(*parts[last:])
    above = [*reversed(path.parents)]
    root = next((i for i, folder in enumerate(above) if (folder / POOL).is_file()), None)
    if root is None:
        return None
    inside = [*above[root + 1 :], *([path] if itself else [])]
    return next((part for part in inside if part.is_symlink()), None)


def refuse_links(path: Path, *, itself: bool = False) -> None:
    """`UserError` where `path` would be written or deleted through a link of a pool."""
    if link := link_above(path, itself=itself):
        raise UserError(
            f"{link} is a link to {link.readlink()}, and nothing is written or deleted through a link inside of a "
            "pool: put what it leads to in its place, or move the whole pool and make its own folder a link"
        )


def folder_at(path: Path) -> Path | None:
    """A folder of a pool, None where it is not there yet; `UserError` for a link that leads nowhere."""
    if path.is_symlink() and not path.exists():
        raise UserError(f"{path} is a link to {path.readlink()}, which is not there: mount the disk that it is on")
    return path if path.is_dir() else None


def delete(path: Path) -> None:
    """Remove a file, a link (not what it leads to) or a whole folder, if it is there."""
    refuse_links(path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def no_pool(path: Path) -> UserError:
    """What to say of a folder that is no pool: why, and which pools are below or beside it."""
    why = "it does not exist" if not path.exists() else f"there is no {POOL} in it"
    below, near = ([str(p.parent) for p in place.glob(f"*/{POOL}")] for place in (path, path.parent))
    hint = f"pools in it are {', '.join(sorted(below)[:10])}" if below else ""
    hint = hint or (did_you_mean(path, near) if near else "lrensemble train makes one")
    return UserError(f"{path} is not a pool: {why}; {hint}")
