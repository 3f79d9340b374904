"""Where the policy database is: an Optuna storage, opened by URL with errors that say what to do."""

from __future__ import annotations

import contextlib
import functools
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

from filelock import Timeout

from lrensemble.errors import UserError
from lrensemble.installing import needed
from lrensemble.pool.files import clear_disk_errors
from lrensemble.pool.locks import alone

if TYPE_CHECKING:
    import optuna
    from sqlalchemy.engine import URL, Engine

DEFAULT = "sqlite:///checkpoints/policies.db"
CONNECT_SECONDS = 5
LOCK_SECONDS = 600  # a sync of thousands of members takes minutes
_WITH_PASSWORD = re.compile(r":[^/]*@|\b(password|passwd|pwd|sslpassword)\s*=", re.IGNORECASE)
LOCK = 0x6C72656E  # number of PostgreSQL's advisory lock: "lren"


def load_optuna() -> Any:
    """The optuna module, quiet: whatever it has to say goes nowhere, what matters is ours to say."""
    with needed("the policy database needs Optuna", "recommend"):
        import optuna
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna


@dataclass(frozen=True)
class Store:
    """An opened policy database.

    Attributes
    ----------
    url : as people may see it, without a password
    storage : the Optuna storage
    address : as it was opened, for another process of ours
    lock : be the only one who decides what is new; the system frees the lock of a killed process. Beside a SQLite file
        it is a file lock; in PostgreSQL it is an advisory lock of the database, which holds between machines
    """

    url: str
    address: str = field(repr=False)
    storage: optuna.storages.BaseStorage
    lock: Callable[[], AbstractContextManager[None]]


def open_store(url: str = DEFAULT, *, create: bool = False) -> Store:
    """Open the database at `url`: ``sqlite:///FILE`` (or just a path), or ``postgresql://USER@HOST/NAME``.

    Raises `UserError` when it cannot be reached (within `CONNECT_SECONDS`), is no policy database, or is not there and
    `create` is False.
    """
    optuna = load_optuna()
    from sqlalchemy import create_engine, inspect
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

    # What is refused is not repeated: it may hold a password in a form that we do not know.
    neither = UserError("a database is sqlite:///FILE or postgresql://USER@HOST/NAME; this is neither")
    if "://" not in url and _WITH_PASSWORD.search(url):
        raise neither
    text = url if "://" in url else f"sqlite:///{url}"
    try:
        parsed = make_url(text)
    except (ArgumentError, ValueError):
        raise neither from None
    if parsed.drivername == "postgres":
        parsed = parsed.set(drivername="postgresql")
    shown = parsed.set(query={}).render_as_string(hide_password=True)  # a query may have a password, too
    kind = parsed.get_backend_name()
    if parsed.host if kind == "sqlite" else text.partition("?")[0].count("@") > 1:  # of a password: %40
        raise neither
    path = None
    options: dict[str, Any] = {}
    if kind == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise UserError(f"{shown}: a database in memory is gone at the end; name a file, {DEFAULT}")
        path = Path(parsed.database)
        if path.is_dir():
            raise UserError(f"{path} is a folder; the database is a file, for example {path / 'policies.db'}")
        if not path.exists() and not create:
            raise UserError(
                f"{path} does not exist: name the file of a study; lrensemble policies sync FOLDER makes one from the "
                "pools there"
            )
        if create:
            with clear_disk_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
        options = {"connect_args": {"timeout": 60}}
    elif kind == "postgresql":
        # No driver named: the one of our extra.
        parsed = parsed.set(drivername="postgresql+psycopg") if parsed.drivername == "postgresql" else parsed
        with needed(f"{shown} needs a driver", "postgres"):
            import psycopg  # noqa: F401
        options = {"connect_args": {"connect_timeout": CONNECT_SECONDS}}
    else:
        raise UserError(f"{shown}: {kind!r} is not known: a database is sqlite:///FILE or postgresql://USER@HOST/NAME")
    try:
        engine = create_engine(parsed, **options)
    except (ArgumentError, ImportError):  # no such driver, or one that is not installed
        raise UserError(f"{parsed.drivername}: this driver is not here: name the database {kind}://...") from None
    lock = functools.partial(_file_lock, path) if path else functools.partial(_advisory_lock, engine)
    try:
        with engine.connect():
            pass
        # Two processes must not make the tables at the same time.
        with lock() if create else contextlib.nullcontext():
            tables = set(inspect(engine).get_table_names())
            if "studies" not in tables:
                if tables:
                    some = ", ".join(sorted(tables)[:3])
                    raise UserError(f"{shown} holds other tables ({some}) and no policy database")
                if not create:
                    raise UserError(f"{shown} is empty: lrensemble policies sync fills it from pools")
            storage = optuna.storages.RDBStorage(
                parsed.render_as_string(hide_password=False),
                engine_kwargs={**options, "pool_pre_ping": kind != "sqlite"},
            )
    except DBAPIError as error:
        raise UserError(f"{shown} cannot be opened: {_without(_first_line(error.orig), parsed)}") from None
    except (RuntimeError, SQLAlchemyError, TypeError) as error:  # tables of another version, options that are none
        raise UserError(f"{shown}: {_without(_first_line(error), parsed)}") from None
    return Store(shown, url, optuna.storages.get_storage(storage), lock)


@contextlib.contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    try:
        with alone(path.with_name(f".{path.name}.lock"), timeout=LOCK_SECONDS):
            yield
    except Timeout:
        raise UserError(f"{path}: another process has been writing for {LOCK_SECONDS} s") from None


@contextlib.contextmanager
def _advisory_lock(engine: Engine) -> Iterator[None]:
    from sqlalchemy import text

    with engine.connect() as connection:
        connection.execute(text("select pg_advisory_lock(:number)"), {"number": LOCK})
        try:
            yield
        finally:
            connection.execute(text("select pg_advisory_unlock(:number)"), {"number": LOCK})


def _without(text: str, url: URL) -> str:
    """A library's words without what is secret in the URL: the password, and whatever its query says."""
    values = [value for one in url.query.values() for value in ([one] if isinstance(one, str) else one)]
    secrets = [str(secret) for secret in (url.password, *values) if secret]
    for secret in sorted({form for s in secrets for form in (s, quote(s), quote_plus(s))}, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _first_line(error: object) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
