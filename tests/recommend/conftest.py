"""A real PostgreSQL server for the tests, when it is installed."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


def _program(name: str) -> str | None:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(found[-1]) if found else None)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of an empty server of our own: unix socket in a temporary folder, no network, gone after the tests."""
    initdb, pg_ctl = _program("initdb"), _program("pg_ctl")
    if not initdb or not pg_ctl:
        pytest.skip("PostgreSQL's server is not installed (Debian: apt-get install postgresql)")
    folder = tmp_path_factory.mktemp("postgres")
    demote = {}
    if os.geteuid() == 0:  # the server refuses to run as root
        try:
            account = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("PostgreSQL does not run as root, and there is no account postgres")
        # Not below pytest's own folder, which is for root alone.
        folder = Path(f"/tmp/lrensemble-postgres-{os.getpid()}")
        folder.mkdir(mode=0o700)
        os.chown(folder, account.pw_uid, account.pw_gid)
        demote = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    options = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder, **demote}
    data = folder / "data"
    subprocess.run([initdb, "-D", data, "-U", "lr", "-A", "trust", "--no-sync", "-E", "UTF8"], **options)
    settings = f"-F -c listen_addresses='' -k {folder} -c max_connections=40 -c shared_buffers=8MB"
    subprocess.run([pg_ctl, "-D", data, "-w", "-l", folder / "log", "-o", settings, "start"], **options)
    try:
        yield f"postgresql://lr@/postgres?host={folder}"
    finally:
        subprocess.run([pg_ctl, "-D", data, "-m", "immediate", "stop"], **options)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def empty_postgres(postgres: str) -> Iterator[str]:
    """URL of a new database on the server."""
    import secrets

    from sqlalchemy import create_engine, text

    name = f"t{secrets.token_hex(4)}"
    engine = create_engine(postgres.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"create database {name}"))
    yield postgres.replace("/postgres?", f"/{name}?")
    engine.dispose()
