"""`lrensemble predict`: files, folders, arrays; what is wrong with one spoils none of the others."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lrensemble.cli.main import main
from lrensemble.errors import UserError
from lrensemble.export.card import Preprocessing
from lrensemble.export.images import Reader
from tests.export.test_write import stored


@pytest.fixture
def images(digits, tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "deeper").mkdir(parents=True)
    for i in range(6):
        Image.fromarray(digits.test.images[i, 0]).save(folder / ("deeper" if i > 3 else "") / f"{i}.png")
    (folder / "notes.txt").write_text("no image")
    return folder


def predict(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict, str]:
    code = main(["predict", *map(str, arguments), "--format", "json"])
    captured = capsys.readouterr()
    return code, json.loads(captured.out), captured.err


def test_files_and_folders(shipped, images, digits, capsys):
    pool, folder = shipped
    np.save(images / "all.npy", digits.test.images)
    np.savez(images / "some.npz", a=digits.test.images[:2, 0], b=digits.test.labels)
    expected = stored(pool, "all-weighted")
    for batch in (1, 4, 1000):
        code, found, err = predict(
            capsys, folder, images, images / "all.npy", images / "some.npz", "--key", "a", "--batch", batch
        )
        assert (code, found["errors"], err) == (0, [], "")
        rows = [*range(6), *range(450), 0, 1]
        assert [Path(p["file"]).name for p in found["predictions"][:6]] == [f"{i}.png" for i in range(6)]
        assert [p["index"] for p in found["predictions"]] == list(expected[rows].argmax(1))
        confidences = [p["confidence"] for p in found["predictions"]]
        np.testing.assert_allclose(confidences, expected[rows].max(1), atol=1e-5)
        second = [p["top"][1]["probability"] for p in found["predictions"]]
        np.testing.assert_allclose(second, np.sort(expected[rows])[:, -2], atol=1e-5)


def test_abstention(shipped, digits, tmp_path, capsys):
    pool, folder = shipped
    np.save(tmp_path / "all.npy", digits.test.images)
    code, found, _ = predict(capsys, folder, tmp_path / "all.npy", "--abstain", "0.8")
    unsure = stored(pool, "all-weighted").max(1) < 0.8
    assert 0 < unsure.sum() < 450
    assert code == 0
    assert [p["abstains"] for p in found["predictions"]] == list(unsure)
    assert [p["class"] is None for p in found["predictions"]] == list(unsure)
    assert main(["predict", str(folder), str(tmp_path / "all.npy"), "--abstain", "0.8"]) == 0
    assert f"n = 450, {unsure.sum()} without an answer (confidence below 0.8)" in capsys.readouterr().out


def test_bad_files_are_named_and_the_rest_is_predicted(shipped, images, digits, capsys):
    _, folder = shipped
    image = Image.fromarray(digits.test.images[0, 0])
    bad = images / "deeper"
    image.resize((28, 28)).save(bad / "big.png")
    image.convert("RGB").save(bad / "rgb.png")
    image.convert("LA").save(bad / "alpha.png")
    Image.fromarray(digits.test.images[0, 0] * 15).save(bad / "bright.png")
    Image.fromarray(digits.test.images[0, 0].astype(np.uint16)).save(bad / "deep.png")
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 16, (8, 8), dtype=np.uint8))
    noise.save(bad / "whole.bmp")
    (bad / "cut.bmp").write_bytes((bad / "whole.bmp").read_bytes()[:-40])
    (bad / "text.png").write_text("hello")
    (bad / "empty.jpg").write_bytes(b"")
    image.save(bad / "moving.gif", save_all=True, append_images=[noise])
    np.save(images / "nan.npy", np.full((2, 8, 8), np.nan))
    np.save(images / "shape.npy", np.zeros((2, 9, 9)))
    np.save(images / "unit.npy", digits.test.images[:2] / 16 / 10)
    np.save(images / "object.npy", np.array([{}], dtype=object), allow_pickle=True)
    (images / "nothing").mkdir()
    arrays = [images / f"{name}.npy" for name in ("nan", "shape", "unit", "object")]
    code, found, err = predict(capsys, folder, images, *arrays, images / "gone.png", images / "nothing")
    assert code == 1
    errors = {Path(e["file"]).name: e["error"] for e in found["errors"]}
    assert {name: text for name, text in errors.items() if f"{name}: {text}" not in err} == {}
    expected = {
        "big.png": "28x28 pixels, the team takes 8x8: --resize",
        "rgb.png": "mode RGB, the team takes L: --convert",
        "alpha.png": "mode LA, the team takes L: --convert",
        "bright.png": "values from 0 to 240, the team was trained on 0 to 16: --scale",
        "deep.png": "more than 8 bits",
        "cut.bmp": "cut off, damaged",
        "text.png": "not an image",
        "empty.jpg": "not an image",
        "moving.gif": "it holds several pictures",
        "nan.npy": "NaN or infinite",
        "shape.npy": "an array of shape (2, 9, 9)",
        "unit.npy": "16/1 = 16, where 1 is white",
        "object.npy": "pickled",
        "gone.png": "it does not exist",
        "nothing": "there are no images in this folder",
    }
    assert set(errors) == set(expected)
    assert all(text in errors[name] for name, text in expected.items())
    names = [Path(p["file"]).name for p in found["predictions"]]
    assert names == ["0.png", "1.png", "2.png", "3.png", "4.png", "5.png", "whole.bmp"]


def test_what_is_asked_for_is_converted(shipped, images, digits, capsys):
    _, folder = shipped
    image = Image.fromarray(digits.test.images[0, 0] * 15).resize((16, 16), Image.Resampling.NEAREST).convert("RGB")
    image.save(images / "other.png")
    _, found, _ = predict(
        capsys, folder, images / "other.png", images / "0.png", "--resize", "--convert", "--scale", 1 / 15
    )
    # 0.png times 1/15 is too dark to be taken for an error: pixels of a file are whole numbers.
    assert found["predictions"][0]["class"] == str(digits.test.labels[0])


def test_images_as_training_read_them(tmp_path):
    """A `folder` data set converts and resizes; the recorded preprocessing does it without being asked."""
    values = {"input_shape": (3, 4, 4), "mean": (0.0,) * 3, "std": (1.0,) * 3}
    asked = Reader(Preprocessing(convert=True, resize=True, **values))
    strict = Reader(Preprocessing(**values))
    picture = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    path = tmp_path / "picture.png"
    picture.save(path)
    expected = np.asarray(picture.convert("RGB").resize((4, 4), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(asked.read(path)[0], expected.transpose(2, 0, 1))
    with pytest.raises(UserError, match="8x8 pixels, the team takes 4x4"):
        strict.read(path)


def test_folders_are_read_as_training_reads_them(shipped, images, digits, capsys):
    """Hidden files are left out, EXIF turns, pictures of any size of file end in one line."""
    _, folder = shipped
    (images / ".ipynb_checkpoints").mkdir()
    for path in (images / ".ipynb_checkpoints" / "0.png", images / "._0.png"):
        Image.fromarray(digits.test.images[0, 0]).save(path)
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(np.rot90(digits.test.images[2, 0], 2).copy()).save(images / "turned.png", exif=exif)
    Image.new("1", (12000, 9000)).save(images / "zlarge.png")
    code, found, err = predict(capsys, folder, images)
    rows = [(Path(p["file"]).name, p["index"], p["confidence"]) for p in found["predictions"]]
    assert [name for name, _, _ in rows] == ["0.png", "1.png", "2.png", "3.png", "turned.png", "4.png", "5.png"]
    assert rows[4][1:] == rows[2][1:]
    assert (code, [e["error"] for e in found["errors"]]) == (1, ["it has more than 89,478,485 pixels: make it smaller"])
    assert "Warning" not in err


def test_bad_options(shipped, images, capsys):
    for arguments, text in (
        (["--abstain", "80"], "--abstain: 80 is not possible"),
        (["--batch", "0"], "--batch: 0 is not possible"),
        (["--as", "onxx"], "holds no team as onxx"),
    ):
        assert main(["predict", str(shipped[1]), str(images), *arguments]) == 2
        assert text in capsys.readouterr().err
    assert main(["predict", str(images), str(images)]) == 2
    assert "is no exported team" in capsys.readouterr().err


def test_predict_needs_the_folder_alone(shipped, images, tmp_path):
    """No pool, no training code."""
    program = (
        "import sys; from lrensemble.cli.main import main\n"
        "code = main(sys.argv[1:])\n"
        "assert not [m for m in sys.modules if m.startswith('lrensemble.training')]\n"
        "sys.exit(code)"
    )
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("team.json", "team.pt2"):
        (moved / name).write_bytes((shipped[1] / name).read_bytes())
    done = subprocess.run(
        [sys.executable, "-c", program, "predict", str(moved), str(images / "0.png")], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "0.png" in done.stdout
