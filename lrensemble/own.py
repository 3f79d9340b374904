"""Code of other packages and of a user: entry points, and ``package.module:callable``.

An installed package is trusted. A name with a colon can be of any module, also of one that lies in the current folder:
who gives it (a configuration on the command line, ``--trust``) decides that it runs.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import PathFinder
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from lrensemble.errors import UserError, did_you_mean


def installed(group: str) -> dict[str, list[EntryPoint]]:
    """What installed packages offer under an entry-point group, by name; several where packages share one."""
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=group):
        if point not in found.setdefault(point.name, []):
            found[point.name].append(point)
    return found


def load_installed(name: str, points: list[EntryPoint]) -> Callable[..., Any]:
    if len(points) > 1:
        both = " and ".join(f"{point.value} ({point.dist.name if point.dist else '?'})" for point in points)
        raise UserError(f"{name!r} is offered by two packages, {both}: uninstall one of them")
    return points[0].load()  # type: ignore[no-any-return]


def is_own(name: str) -> bool:
    """True for ``package.module:callable``."""
    return ":" in name


def untrusted(name: str, what: str = "model") -> UserError:
    """Why a user's own model is not built, or task not loaded; nothing is imported to find out where it stands."""
    module, _, attribute = name.partition(":")
    return UserError(
        f"{what} {name} is not built: the name comes from a record, a card or a pool, and building it runs "
        f"{attribute} of {_file(module)}: read that file, then add --trust (in Python trust=True)"
    )


def _file(module: str) -> str:
    first, *rest = module.split(".")
    try:
        with current_folder():
            spec = importlib.util.find_spec(first)
            for part in rest:
                inside = spec.submodule_search_locations if spec else None
                spec = PathFinder.find_spec(f"{spec.name}.{part}", inside) if spec and inside else None
    except (ImportError, ValueError, AttributeError):
        spec = None
    if spec is None:
        return f"the module {module} (it is not found)"
    return str(spec.origin) if spec.has_location else f"the module {module}"


def is_importable(name: str) -> bool:
    """Whether another process can import the module of ``package.module:callable``: not what a program made itself."""
    try:
        with current_folder():
            return importlib.util.find_spec(name.partition(":")[0]) is not None
    except (ImportError, ValueError, AttributeError):  # __main__, and modules without a file
        return False


@contextlib.contextmanager
def current_folder() -> Iterator[None]:
    """The current folder is on the import path, as the last: no file there stands for an installed package."""
    here = str(Path.cwd())
    if "" in sys.path or here in sys.path:
        yield
        return
    sys.path.append(here)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(here)


def load_own(name: str, what: str = "model") -> Callable[..., Any]:
    """The callable of ``package.module:callable``; to be called within `current_folder`."""
    module, _, attribute = name.partition(":")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not (module == error.name or module.startswith(error.name + ".")):
            raise  # an import inside the user's module: their traceback helps them
        raise UserError(f"{what} {name}: there is no module {module!r} in {Path.cwd()} or installed") from None
    except (ValueError, TypeError):  # an empty or a relative name
        raise UserError(f"{what} {name}: {module!r} is not the name of a module") from None
    builder = getattr(found, attribute, None)
    if not callable(builder):
        names = [n for n in vars(found) if callable(getattr(found, n)) and not n.startswith("_")]
        raise UserError(f"{what} {name}: {did_you_mean(attribute, names)}")
    return builder  # type: ignore[no-any-return]
