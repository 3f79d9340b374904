"""An exported team over HTTP answers as `lrensemble predict` does, and says in one line of JSON what is wrong."""

from __future__ import annotations

import io
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi")
pytest.importorskip("httpx2")

from fastapi.testclient import TestClient

from lrensemble import Ensemble, export_team, load_config, select_teams, train_pool
from lrensemble.cli.main import main, parse
from lrensemble.export.predict import reader_of
from lrensemble.export.serve import app_of
from tests.export.test_write import stored

PLAIN = {"convert": False, "resize": False, "scale": 1.0, "key": None}


def client_of(folder: Path, **options) -> TestClient:
    team = Ensemble.load(folder)
    return TestClient(app_of(team, reader_of(team, **PLAIN), **options))


@pytest.fixture(scope="module")
def client(shipped) -> TestClient:
    return client_of(shipped[1], most_bytes=100_000, most_rows=50)


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def test_answers_are_those_of_predict(shipped, digits, client, tmp_path, capsys):
    pool, folder = shipped
    images = digits.test.images[:20]
    np.save(tmp_path / "rows.npy", images)
    assert main(["predict", str(folder), str(tmp_path / "rows.npy"), "--abstain", "0.9", "--format", "json"]) == 0
    expected = json.loads(capsys.readouterr().out)["predictions"]
    for rows in (images, images[:, 0], images.transpose(0, 2, 3, 1)):
        found = client.post("/predict?abstain=0.9", json={"rows": rows.tolist()})
        assert found.status_code == 200
        for one, other in zip(found.json()["predictions"], expected, strict=True):
            assert {**one, "confidence": 0, "top": 0} == {
                key: 0 if key in ("confidence", "top") else value
                for key, value in other.items() if key not in ("file", "row")
            }  # fmt: skip
            assert one["confidence"] == pytest.approx(other["confidence"], abs=1e-6)
    [answer] = client.post("/predict", content=png(images[3, 0]), headers={"Content-Type": "image/png"}).json()[
        "predictions"
    ]
    assert answer["index"] == stored(pool, "all-weighted")[3].argmax()
    about = client.get("/").json()
    assert (about["classes"], about["input"]["input_shape"], about["most_rows"]) == (
        [*map(str, range(10))],
        [1, 8, 8],
        50,
    )
    assert client.get("/health").json() == {"status": "ok"}
    assert "/predict" in client.get("/openapi.json").json()["paths"]


ROW = np.zeros((8, 8), dtype=int).tolist()


@pytest.mark.parametrize(
    ("content", "kind", "text"),
    [
        (b"{", "application/json", "no JSON: "),
        (b"[" * 90_000, "application/json", "no JSON: "),
        (b"\xff\xfe\x00", "application/json", "no JSON: "),
        (b"[]", "application/json", '{"rows": [...]} with at least one row is needed'),
        (b'{"rows": []}', "application/json", "at least one row"),
        (b'{"rows": 3}', "application/json", "at least one row"),
        (b'{"rows": [[NaN]]}', "application/json", "NaN is no number"),
        (b'{"rows": [1e999]}', "application/json", "shape (1,)"),
        (b'{"rows": [[[1, 2], [3]]]}', "application/json", "lists of numbers, all of the same lengths"),
        (b'{"rows": ["__import__(\'os\').abort()"]}', "application/json", "lists of numbers"),
        (b'{"rows": [{"x": 1}]}', "application/json", "lists of numbers"),
        (json.dumps({"rows": [[1e30] * 64]}).encode(), "application/json", "shape (1, 64)"),
        (json.dumps({"rows": [np.full((8, 8), 0.5).tolist()]}).encode(), "application/json", "16/1 = 16"),
        (json.dumps({"rows": [ROW] * 51}).encode(), "application/json", "51 rows, at most 50"),
        (b" " * 100_001, "application/json", "more than 100,000 bytes"),
        (b"x", "text/plain", "Content-Type is text/plain"),
        (b"x", "", "Content-Type is missing"),
        (b"no picture", "image/png", "not an image"),
        (png(np.zeros((9, 8), dtype=np.uint8)), "image/png", "8x9 pixels, the team takes 8x8"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(client, content, kind, text):
    found = client.post("/predict", content=content, headers={"Content-Type": kind} if kind else {})
    assert (found.status_code, [*found.json()]) == (400, ["error"])
    assert text in found.json()["error"] and "\n" not in found.json()["error"]


def test_queries_and_places(client):
    for query in ("2", "-0.1", "nan", "x"):
        found = client.post(f"/predict?abstain={query}", json={"rows": [ROW]})
        assert found.status_code == 400 and found.json()["error"].startswith(f"abstain = {query}: ")
    assert (client.get("/predict").status_code, client.get("/nothing").status_code) == (405, 404)
    assert "POST /predict" in client.get("/nothing").json()["error"]


def test_rows_of_a_table_by_their_columns(tmp_path, capsys):
    lines = ["age,colour,y", *(f"{20 + i},{('red', 'blue')[i % 2]},{('no', 'yes')[i % 2]}" for i in range(60))]
    (tmp_path / "table.csv").write_text("\n".join(lines))
    config = {
        "name": "t", "data": {"name": "table", "root": str(tmp_path / "table.csv"), "target": "y"},
        "model": {"name": "mlp", "hidden": [4]}, "training": {"epochs": 2}, "policies": ["FIX(k0=[0.05, 0.1])"],
    }  # fmt: skip
    pool = train_pool(load_config(config), tmp_path / "pool", threads=1, devices="cpu", workers=1)
    select_teams(pool, ["all"])
    export_team(pool, "all", tmp_path / "team", benchmark=False)
    rows = [
        {"age": 31, "colour": "red"},
        {"age": None, "colour": "green", "more": 1},
        {"age": "40.5", "colour": " blue "},
    ]
    (tmp_path / "rows.csv").write_text("age,colour\n31,red\n,green\n40.5,blue\n")
    assert main(["predict", str(tmp_path / "team"), str(tmp_path / "rows.csv"), "--format", "json"]) == 0
    expected = [row["confidence"] for row in json.loads(capsys.readouterr().out)["predictions"]]
    client = client_of(tmp_path / "team")
    found = client.post("/predict", json={"rows": rows}).json()["predictions"]
    assert [row["confidence"] for row in found] == pytest.approx(expected, abs=1e-6)
    assert client.post("/predict", json={"rows": [[31, 0, 1]]}).status_code == 200
    for wrong, text in (
        ([{"age": 3}], "row 0: no column 'colour'"),
        ([{"age": "old", "colour": "red"}], "column 'age' holds 'old'"),
        ([{"age": {}, "colour": "red"}], "column 'age' holds '{}'"),
        ([rows[0], 3], "row 1 is 3: an object"),
        ([[31, 0]], "shape (1, 2)"),
    ):
        answer = client.post("/predict", json={"rows": wrong})
        assert answer.status_code == 400 and text in answer.json()["error"]
    answer = client.post("/predict", content=b"x", headers={"Content-Type": "image/png"})
    assert answer.json()["error"].endswith("as application/json")


def test_the_command_and_the_dockerfile(shipped, monkeypatch, capsys):
    ran = []
    monkeypatch.setattr("uvicorn.run", lambda app, **options: ran.append((app, options)))
    assert main(["serve", str(shipped[1]), "--port", "9999", "--abstain", "1", "--max-rows", "2", "--resize"]) == 0
    [(app, options)] = ran
    assert (options["host"], options["port"]) == ("127.0.0.1", 9999)
    large = png(np.zeros((20, 20), dtype=np.uint8))
    [answer] = (
        TestClient(app).post("/predict", content=large, headers={"Content-Type": "image/png"}).json()["predictions"]
    )
    assert answer["abstains"] and answer["class"] is None
    assert "at most 2" in TestClient(app).post("/predict", json={"rows": [ROW] * 3}).json()["error"]

    lines = (Path(__file__).parents[2] / "docs" / "serve" / "Dockerfile").read_text().splitlines()
    [command] = [json.loads(line.removeprefix("CMD ")) for line in lines if line.startswith("CMD ")]
    arguments = parse(command[1:])
    assert (command[0], arguments.host, arguments.port) == ("lrensemble", "0.0.0.0", 8000)
    assert f"COPY team {arguments.team}" in lines
    [check] = [json.loads(line.removeprefix("HEALTHCHECK CMD ")) for line in lines if line.startswith("HEALTHCHECK")]
    compile(check[2], "healthcheck", "exec")
    [run] = [line.removeprefix("RUN ") for line in lines if line.startswith("RUN ")]
    assert re.search(r"\[serve\]", run) and shlex.split(run)
