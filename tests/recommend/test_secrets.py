"""A password in --storage is in no output, whatever form it has."""

from __future__ import annotations

import pytest

from lrensemble.cli import output
from lrensemble.cli.main import main

SECRET = "s3cr3t!p@ss/w0rd"
CODED = "s3cr3t%21p%40ss%2Fw0rd"


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://me:{CODED}@127.0.0.1:1/x",
        f"postgres://me:{CODED}@127.0.0.1:1/x",
        f"postgresql+psycopg://me:{CODED}@127.0.0.1:1/x",
        f"postgresql+psycopg2://me:{CODED}@127.0.0.1:1/x",
        f"postgresql+nonsense://me:{CODED}@127.0.0.1:1/x",
        f"postgresql://me:{SECRET}@127.0.0.1:1/x",
        f"postgresql://127.0.0.1:1/x?user=me&password={CODED}",
        f"postgresql://127.0.0.1:1/x?passwrd={CODED}",
        f"postgresql://me@127.0.0.1:1/x?options={CODED}&sslpassword={CODED}",
        f"postgresql://me:{CODED}@127.0.0.1:port/x",
        f"me:{SECRET}@127.0.0.1/x",
        f"me:{CODED}@127.0.0.1:5432/x",
        f"host=127.0.0.1 password={CODED}",
        f"mysql://me:{CODED}@127.0.0.1/x",
        f"nonsense://me:{CODED}@127.0.0.1/x",
        f"sqlite://me:{CODED}@127.0.0.1/x",
        f"sqlite+nonsense:///{{folder}}/x.db?password={CODED}",
        f"sqlite:///{{folder}}/nowhere.db?password={CODED}",
        f"://me:{CODED}@x",
    ],
)
@pytest.mark.parametrize("action", ["tasks", "sync"])
def test_no_password_is_shown(url, action, tmp_path, capsys):
    words = ["policies", action, *([str(tmp_path)] if action == "sync" else [])]
    (tmp_path / "p").mkdir()
    words += ["--storage", url.format(folder=tmp_path)]
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert err.count("\n") == 1 and "Traceback" not in err
    for part in (SECRET, CODED, "s3cr3t", "w0rd"):
        assert part not in out + err


def test_a_url_in_the_wrong_place(capsys):
    assert main(["policies", "tasks", f"postgresql://me:{SECRET}@host/x"]) == 2
    err = capsys.readouterr().err
    assert "s3cr3t" not in err and "w0rd" not in err
    assert main(["policies", "tasks", f"--storag=postgresql://me:{SECRET.replace('!', ' ')}@host/x"]) == 2
    err = capsys.readouterr().err
    assert "s3cr3t" not in err and "w0rd" not in err


def test_other_text_is_left_alone():
    for text in ("COS(k0=0.1)", "a:b@c", "user@host", "no password here"):
        assert output.shown(text) == text
