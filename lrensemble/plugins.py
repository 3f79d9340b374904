"""What is known by a name: ours, what a program registers, and what installed packages offer as entry points.

One mechanism for selectors, policies, metrics, diversity metrics, models and tasks. A package lists in the entry-point
group ``lrensemble.selectors`` (``policies``, ``metrics``, ``diversity``, ``models``, ``tasks``) either
``NAME = module:object``, or ``anything = module``, whose import registers names with the decorators. It is imported
when such a name is asked for, in whichever process that is; a package that cannot be imported is named, and nothing
else stops working.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any, TypeVar

from lrensemble.errors import UserError, did_you_mean, first_line
from lrensemble.own import current_folder

T = TypeVar("T")
REGISTRIES: dict[str, Registry[Any]] = {}  # by their kinds


class Registry(Mapping[str, T]):
    """Things of one kind by their names. To go through all of them imports the installed packages.

    Parameters
    ----------
    kind : str
        Plural, of the entry-point group: ``selectors``.
    what : str
        One of them in words, for errors.
    check : callable
        Raises `UserError` for a value that is none of the kind.
    """

    def __init__(
        self,
        kind: str,
        what: str,
        ours: Mapping[str, T] = MappingProxyType({}),
        check: Callable[[str, Any], object] | None = None,
    ) -> None:
        self.kind, self.what, self.check = kind, what, check or _check_callable
        self._values: dict[str, T] = dict(ours)
        self._homes = dict.fromkeys(self._values, "lrensemble")
        self._imported: set[str] = set()  # entry points that are modules
        self.broken: list[str] = []
        REGISTRIES[kind] = self

    def add(self, name: str, value: T, home: str | None = None) -> None:
        """Register a value; `UserError` where something else has the name. A notebook's cell may run again."""
        home = home or home_of(value)
        if self._homes.get(name, home) != home:
            raise UserError(f"{self.what} {name} is defined twice: by {self._homes[name]} and by {home}")
        self.check(name, value)
        self._homes[name], self._values[name] = home, value

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator: the class or function is known by this name."""

        def decorate(value: T) -> T:
            self.add(name, value)
            return value

        return decorate

    def find(self, name: str) -> T:
        """What has this name; `UserError` with the nearest one, and with packages that cannot be imported."""
        try:
            return self[name]
        except KeyError:
            raise UserError(f"unknown {self.what} {name!r}: {self.hint(name)}") from None

    def spelled(self, name: str) -> str:
        """The known name that is this one but for upper and lower case; else the name."""
        same = (known for known in (*self._values, *_offered(self.kind)) if known.lower() == name.lower())
        return next(same, name)

    def hint(self, name: str) -> str:
        """The nearest names, and what could not be imported."""
        names = {*self._values, *_offered(self.kind)}
        return did_you_mean(name, names) + "".join(f"; {reason}" for reason in self.broken)

    def __getitem__(self, name: str) -> T:
        rivals = [point for point in _offered(self.kind).get(name, ()) if point.value != self._homes.get(name)]
        if rivals and (name in self._values or len(rivals) > 1):
            known = [self._homes[name]] if name in self._values else []
            both = " and ".join([*known, *map(_shown, rivals)])
            raise UserError(f"{self.what} {name!r} is offered by two packages, {both}: uninstall one of them")
        if rivals:
            loaded = self._load(rivals[0])
            if name not in self._values:  # else its import has registered it
                self.add(name, loaded, rivals[0].value)
        elif name not in self._values:
            self._import_modules()
        return self._values[name]

    def __contains__(self, name: object) -> bool:
        if name not in self._values and name not in _offered(self.kind):
            self._import_modules()
        return name in self._values or name in _offered(self.kind)

    def __iter__(self) -> Iterator[str]:
        self._import_modules()
        for name in _offered(self.kind):
            with self._noted():
                self[name]
        for reason in self.broken:
            warnings.warn(reason, stacklevel=3)
        return iter([*self._values])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _import_modules(self) -> None:
        for point in _points(self.kind, tuple(sys.path)):
            if not point.attr and point.value not in self._imported:
                self._imported.add(point.value)
                with self._noted():
                    self._load(point)

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        """A package that cannot be imported is a line where it matters, and stops nothing else."""
        try:
            yield
        except UserError as error:
            if str(error) not in self.broken:
                self.broken.append(str(error))

    def _load(self, point: EntryPoint) -> Any:
        try:
            return point.load()
        except Exception as error:
            what = f"{self.what}: {_shown(point)} cannot be loaded"
            raise UserError(f"{what}: {type(error).__name__}: {first_line(error)}") from error

    # Other processes

    def registered(self, names: Iterable[str]) -> dict[str, str]:
        """Of these names those that a program has registered: name -> module and object."""
        installed = {point.module for point in _points(self.kind, tuple(sys.path))}
        homes = {name: self._homes[name] for name in names if name in self._homes}
        return {
            name: home
            for name, home in homes.items()
            if home.split(".")[0] != "lrensemble" and home.partition(":")[0] not in installed
        }


def import_registered(modules: Iterable[str]) -> None:
    """Import, in a worker, the modules whose decorators have registered what a job needs."""
    for module in modules:
        try:
            with current_folder():
                importlib.import_module(module)
        except Exception as error:
            raise UserError(f"{module} cannot be imported in a worker ({error}): leave workers out") from error


def home_of(value: Any) -> str:
    """Where a class or function is defined, written as an entry point is."""
    return f"{getattr(value, '__module__', '?')}:{getattr(value, '__qualname__', type(value).__name__)}"


def _check_callable(name: str, value: Any) -> None:
    if not callable(value):
        raise UserError(f"{name}: {value!r:.60} is no class or function")


def _shown(point: EntryPoint) -> str:
    return f"entry point {point.name} = {point.value} of {point.dist.name if point.dist else '?'}"


def _offered(kind: str) -> Mapping[str, list[EntryPoint]]:
    """What installed packages offer as ``NAME = module:object``, by name."""
    return _by_name(_points(kind, tuple(sys.path)))


@functools.lru_cache(maxsize=16)
def _points(kind: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    return tuple(dict.fromkeys(entry_points(group=f"lrensemble.{kind}")))


@functools.lru_cache(maxsize=16)
def _by_name(points: tuple[EntryPoint, ...]) -> Mapping[str, list[EntryPoint]]:
    found: dict[str, list[EntryPoint]] = {}
    for point in points:
        if point.attr:
            found.setdefault(point.name, []).append(point)
    return found
