"""Code of a user's own by its place: ``package.module:callable``. By names it is found in `lrensemble.plugins`.

A name with a colon can be of any module, also of one that lies in the current folder:
who gives it (a configuration on the command line, ``--trust``) decides that it runs.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from importlib.machinery import PathFinder
from operator import attrgetter
from pathlib import Path
from typing import Any

from lrensemble.errors import UserError, did_you_mean, first_line


def is_own(name: str) -> bool:
    """True for ``package.module:callable``."""
    return ":" in name


def untrusted(name: str, what: str = "model") -> UserError:
    """Why a user's own model, task or metric is not used; nothing is imported to find out where it stands."""
    module, _, attribute = name.partition(":")
    done, doing = ("computed", "computing") if what == "metric" else ("built", "building")
    return UserError(
        f"{what} {name} is not {done}: the name comes from a record, a card or a pool, and {doing} it runs "
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
    module, _, attribute = name.partition(":")
    if module == "__main__":  # of another process it is another; of `python -m` it has a spec, too
        return False
    try:
        with current_folder():
            return "<locals>" not in attribute and importlib.util.find_spec(module) is not None
    except (ImportError, ValueError, AttributeError):  # modules without a file
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
    if not all(part.isidentifier() for part in module.split(".")):
        raise UserError(f"{what} {name}: {module!r} is not the name of a module")
    with calling(f"{what} {name}: the import of {module}"):
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise  # an import inside the user's module
            raise UserError(f"{what} {name}: there is no module {module!r} in {Path.cwd()} or installed") from None
    builder = _at(found, attribute)
    if not callable(builder):
        names = [n for n in vars(found) if callable(getattr(found, n)) and not n.startswith("_")]
        raise UserError(f"{what} {name}: {did_you_mean(attribute, names)}")
    return builder  # type: ignore[no-any-return]


def import_name(thing: Any, function: Any = None) -> str | None:
    """``package.module:name`` of a class or a function that other processes can import; None of any other.

    `function` is where an object that a decorator made of it has its name from.
    """
    of = function or thing
    module, name = getattr(of, "__module__", ""), getattr(of, "__qualname__", "")
    same = name and module != "__main__" and _at(sys.modules.get(module), name) is thing
    return f"{module}:{name}" if same else None


class OwnCodeError(UserError):
    """Raised by code that is not ours. Of one run it is the failure of that run, not of all that are trained."""


@contextlib.contextmanager
def calling(what: str) -> Iterator[None]:
    """Make an error of code that is not ours one line: what was called, what it raises, and where in the user's file.

    What the machine lacks (memory) passes. In Python the error itself is the cause, with its traceback.
    """
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:
        raise OwnCodeError(f"{what} raises {raised(error)}") from error


def raised(error: Exception) -> str:
    """An error's kind, its first line, and the line of the user's own code that raised it, where there is one."""
    installed = (str(Path(__file__).parent), *map(sysconfig.get_path, ("stdlib", "purelib", "platlib")))
    frames = reversed(traceback.extract_tb(error.__traceback__))
    theirs = (f for f in frames if not f.filename.startswith((*installed, "<frozen")))
    place = next((f" ({Path(f.filename).name}, line {f.lineno})" for f in theirs), "")
    return f"{type(error).__name__}: {first_line(error):.300}{place}"


def _at(module: Any, name: str) -> Any:
    try:
        return attrgetter(name)(module)
    except AttributeError:  # also a function inside of a function
        return None
