"""A storage by URL, and one line for whatever is wrong with it."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import sys
import time

import pytest

from lrensemble import UserError
from lrensemble.recommend.store import open_store


def test_a_path_is_a_sqlite_file(tmp_path):
    path = tmp_path / "new" / "policies.db"
    store = open_store(str(path), create=True)
    assert store.storage.get_all_studies() == []
    assert open_store(f"sqlite:///{path}").storage.get_all_studies() == []


def test_reading_makes_no_file(tmp_path):
    with pytest.raises(UserError, match=r"does not exist: .*lrensemble policies sync"):
        open_store(str(tmp_path / "none.db"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "url, words",
    [
        ("mysql://me@host/x", "'mysql' is not known: a database is sqlite:///FILE or postgresql"),
        ("sqlite://", "in memory is gone at the end"),
        ("postgresql://me@host:port/x", "this is neither"),
        ("://", "this is neither"),
    ],
)
def test_what_is_no_database(url, words):
    with pytest.raises(UserError, match=words):
        open_store(url, create=True)


def test_files_that_are_something_else(tmp_path):
    (tmp_path / "text.db").write_text("hello " * 100)
    with pytest.raises(UserError, match="cannot be opened: file is not a database"):
        open_store(str(tmp_path / "text.db"))
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("create table songs (name text)")
    with pytest.raises(UserError, match=r"holds other tables \(songs\)"):
        open_store(str(tmp_path / "other.db"), create=True)
    with pytest.raises(UserError, match="is a folder"):
        open_store(str(tmp_path))


def test_an_unreachable_server_is_one_line_without_the_password():
    with socket.socket() as server:  # accepts, and never answers
        server.bind(("127.0.0.1", 0))
        server.listen()
        with pytest.raises(UserError) as error:
            open_store(f"postgresql://me:secret@127.0.0.1:{server.getsockname()[1]}/x", create=True)
    text = str(error.value)
    assert "secret" not in text and "\n" not in text
    assert "me:***@127.0.0.1" in text


def test_nothing_listens():
    with pytest.raises(UserError, match="refused"):
        open_store("postgresql://me:secret@127.0.0.1:1/x")


HOLD = """
import sys, time
from lrensemble.recommend.store import open_store
with open_store(sys.argv[1], create=True).lock():
    print("held", flush=True)
    time.sleep(60)
"""


def check_lock(url: str) -> None:
    """One process at a time, and the lock of a killed one is free."""
    store = open_store(url, create=True)
    process = subprocess.Popen([sys.executable, "-c", HOLD, url], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        waiter = subprocess.Popen([sys.executable, "-c", HOLD, url], stdout=subprocess.PIPE, text=True)
        time.sleep(0.3)
        assert waiter.poll() is None
        process.kill()
        assert waiter.stdout.readline() == "held\n"
        waiter.kill()
        waiter.wait()
        with store.lock():
            pass
    finally:
        process.kill()
        process.wait()


def test_lock_of_sqlite(tmp_path):
    check_lock(str(tmp_path / "policies.db"))


@pytest.mark.postgres
def test_lock_of_postgres(empty_postgres):
    check_lock(empty_postgres)


@pytest.mark.postgres
def test_an_empty_server(empty_postgres):
    with pytest.raises(UserError, match="is empty: lrensemble policies sync"):
        open_store(empty_postgres)
    assert open_store(empty_postgres, create=True).storage.get_all_studies() == []
    assert "lr@" in open_store(empty_postgres).url


@pytest.mark.postgres
def test_an_account_that_is_not_there(postgres):
    with pytest.raises(UserError, match='role "nobody" does not exist'):
        open_store(postgres.replace("lr@", "nobody:secret@"))
