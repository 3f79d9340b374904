"""Folders of image files: what is read, as what, and everything that is wrong said at once."""

from __future__ import annotations

import io
import os
import random
import shutil
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from lrensemble import Images, UserError, load_task
from lrensemble.cli.main import main
from lrensemble.tasks.pictures import find_pictures, in_mode, read_picture


def picture(seed: int, shape: tuple[int, ...] = (9, 9, 3)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes: 10 images each in train, 4 in test."""
    for split, n in (("train", 10), ("test", 4)):
        for c, name in enumerate(("cat", "dog")):
            (tmp_path / "set" / split / name).mkdir(parents=True)
            for i in range(n):
                picture(100 * c + i).save(tmp_path / "set" / split / name / f"{i}.png")
    return tmp_path / "set"


def load(root: Path, **options) -> Images:
    return load_task("folder", root=root, val_fraction=0.2, **options)


def test_classes_pixels_and_sizes(root):
    data = load(root)
    assert data.class_names == ("cat", "dog")
    assert data.input_shape == (3, 9, 9)
    assert data.notes == ()
    np.testing.assert_array_equal(data.test.images[5], np.asarray(picture(101)).transpose(2, 0, 1))
    assert load(root, size=4).input_shape == (3, 4, 4)


def test_rows_are_in_the_order_of_torchvisions_image_folder(root):
    """Deeper folders, links and names that sort otherwise as paths than as texts: pools made before must open."""
    from torchvision.datasets import ImageFolder

    for i, name in enumerate(("a", "a b", "a/c", "B", "a.d")):
        folder = root / "train" / "cat" / name
        folder.mkdir()
        picture(50 + i).save(folder / "x.PNG")
    shutil.move(root / "train" / "dog", root.parent / "elsewhere")
    (root / "train" / "dog").symlink_to(root.parent / "elsewhere")
    (root / "train" / "cat" / "link.png").symlink_to(root / "test" / "cat" / "0.png")
    theirs = ImageFolder(str(root / "train")).samples
    ours = [(path, i) for i, name in enumerate(("cat", "dog")) for path in find_pictures(root / "train" / name)[0]]
    assert [(str(path), i) for path, i in ours] == theirs
    assert len(load(root).train) + len(load(root).val) == len(theirs) == 26


def test_links_in_a_circle(root):
    (root / "train" / "cat" / "again").symlink_to(root / "train" / "cat")
    (root / "train" / "cat" / "up").symlink_to(root / "train")
    assert len(load(root).train) == 24  # those of dog once more, below cat/up: as they stand there


def test_hidden_files_and_folders_are_no_classes_and_no_images(root):
    expected = load(root).fingerprint
    for split in ("train", "test"):
        for name in (".ipynb_checkpoints", "__MACOSX", "@eaDir"):
            for folder in (root / split / name, root / split / "cat" / name, root / name / "train"):
                folder.mkdir(exist_ok=True, parents=True)
                picture(0).save(folder / "0.png")
        (root / split / ".empty").mkdir()
        (root / split / "cat" / "._0.png").write_bytes(b"\0\5\x16\7")
        (root / split / "cat" / ".DS_Store").write_bytes(b"\0")
        (root / split / ".DS_Store").write_bytes(b"\0")
    data = load(root)
    assert (data.class_names, data.fingerprint, data.notes) == (("cat", "dog"), expected, ())
    assert len(find_pictures(root)[0]) == 28


def test_other_files_are_said(root):
    expected = load(root).fingerprint
    (root / "train" / "cat" / "README.txt").write_text("x")
    (root / "train" / "dog" / "Thumbs.db").write_text("x")
    (root / "train" / "dog" / "a.heic").write_text("x")
    (root / "train" / "dog" / "b.heic").write_text("x")
    picture(0).save(root / "test" / "0.png")
    (root / "dev").mkdir()
    data = load(root)
    assert data.fingerprint == expected
    assert data.notes == (
        f"{root}: not read: dev (train, val and test are)",
        f"{root / 'train'}: not read: 1 .db, 2 .heic, 1 .txt",
        f"{root / 'test'}: not read: 1 images in no class's folder",
    )


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Valid"])
def test_names_of_the_validation_split(root, name):
    shutil.copytree(root / "test", root / name)
    assert len(load_task("folder", root=root).val) == 8
    shutil.copytree(root / "test", root / "VAL2")
    assert len(load_task("folder", root=root).val) == 8


def test_two_folders_for_one_split(root):
    shutil.copytree(root / "test", root / "valid")
    shutil.copytree(root / "test", root / "val")
    with pytest.raises(UserError, match="val and valid could both be the val split: rename or remove one"):
        load(root)


def test_a_missing_split_names_the_nearest_folder(root):
    (root / "test").rename(root / "testing")
    with pytest.raises(UserError, match=r"test/CLASS/IMAGE files expected, no folder 'test': did you mean 'testing'"):
        load(root)


def test_val_and_test_may_lack_classes_but_have_no_others(root):
    shutil.copytree(root / "test", root / "val")
    shutil.rmtree(root / "val" / "dog")
    shutil.rmtree(root / "test" / "cat")
    (root / "test" / "cat").mkdir()
    data = load_task("folder", root=root)
    assert (set(data.val.labels), set(data.test.labels)) == ({0}, {1})
    assert data.notes == ("no val row is of class dog", "no test row is of class cat")
    (root / "test" / "dog").rename(root / "test" / "Dog")
    with pytest.raises(UserError, match="test/Dog: no class of train: did you mean 'dog'"):
        load_task("folder", root=root)


def test_empty_classes_of_train(root):
    (root / "train" / "bird").mkdir()
    with pytest.raises(UserError, match=r"train: no images \(.png, .*\) of class bird"):
        load(root)
    shutil.rmtree(root / "test")
    (root / "test" / "cat").mkdir(parents=True)
    (root / "train" / "bird").rmdir()
    with pytest.raises(UserError, match=r"test: no images \(.*\) in CLASS/IMAGE files"):
        load(root)


MODES = {"L": 0, "1": 0, "LA": 0, "P": 0, "PA": 0, "RGB": 0, "RGBA": 0, "CMYK": 3, "YCbCr": 3}


@pytest.mark.parametrize("mode", MODES)
def test_modes_are_the_same_picture_in_rgb(tmp_path, mode):
    """Four colours that every mode has, as grey, with a palette, an alpha channel or for printing."""
    black_and_white = np.kron(np.array([[0, 255], [255, 0]], dtype=np.uint8), np.ones((4, 4), np.uint8))
    image = Image.fromarray(black_and_white).convert("RGB").convert(mode)
    path = tmp_path / ("x.tif" if mode in ("CMYK", "YCbCr", "PA") else "x.png")
    try:
        image.save(path)
    except (OSError, KeyError):
        pytest.skip(f"PIL writes no {mode}")
    pixels = np.asarray(in_mode(read_picture(path), "RGB"))
    np.testing.assert_allclose(pixels, np.repeat(black_and_white[..., None], 3, axis=2), atol=MODES[mode])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
def test_exif_orientation(root, orientation, suffix):
    """By the definition of the tag (EXIF 2.3, table 6): how row 0 and column 0 of the file are shown."""
    shown = np.zeros((8, 16, 3), dtype=np.uint8)
    shown[:4, :8] = 255  # white at the top left
    undo = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),  # shown turned clockwise, so stored turned the other way
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = root.parent / f"x.{suffix}"
    Image.fromarray(np.ascontiguousarray(undo(shown))).save(path, exif=exif, quality=100)
    pixels = np.asarray(read_picture(path))
    np.testing.assert_allclose(pixels.astype(int), shown, atol=12)


def test_exif_decides_the_shape(root):
    for path in root.rglob("*.png"):
        exif = Image.Exif()
        exif[0x0112] = 6
        picture(int(path.stem), (8, 12, 3)).save(path, exif=exif)
    assert load(root).input_shape == (3, 12, 8)


def write_bad(folder: Path) -> dict[str, str]:
    """Files that are no image to train with, and why."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(2000, 60000, (9, 9)).astype(np.uint16)).save(folder / "u16.png")
    Image.fromarray(rng.integers(0, 2**30, (9, 9)).astype(np.int32)).save(folder / "i32.tif")
    Image.fromarray(rng.random((9, 9)).astype(np.float32)).save(folder / "f.tiff")
    picture(0).save(folder / "moving.gif", save_all=True, append_images=[picture(1)])
    picture(0).save(folder / "pages.tif", save_all=True, append_images=[picture(1)])
    whole = io.BytesIO()
    picture(0, (64, 64, 3)).save(whole, "PNG")
    (folder / "cut.png").write_bytes(whole.getvalue()[:-2000])
    (folder / "text.png").write_text("hello")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "drawing.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    os.mkfifo(folder / "pipe.png")
    Image.new("1", (20000, 20000)).save(folder / "huge.png")
    Image.new("1", (12000, 9000)).save(folder / "large.png")
    return {
        "u16.png": "mode I;16 (more than 8 bits): write it with 8 bits, or as an array",
        "i32.tif": "mode I (more than 8 bits)",
        "f.tiff": "mode F (more than 8 bits)",
        "moving.gif": "it holds several pictures: one is needed",
        "pages.tif": "it holds several pictures: one is needed",
        "cut.png": "cut off, damaged or not to be read",
        "text.png": "not an image (png, jpg, bmp, gif, tif, webp or ppm)",
        "empty.jpg": "not an image",
        "drawing.png": "not an image",  # PIL would start Ghostscript
        "gone.png": "it is a link to nothing",
        "pipe.png": "it is no file",
        "huge.png": "it has more than 89,478,485 pixels: make it smaller",
        "large.png": "it has more than 89,478,485 pixels: make it smaller",
    }


def test_bad_images_are_refused_each_with_its_reason(tmp_path):
    for name, why in write_bad(tmp_path).items():
        with pytest.raises(UserError) as caught:
            read_picture(tmp_path / name)
        assert str(caught.value).startswith(why), name


@pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM"])
def test_damaged_files_end_in_one_line(tmp_path, format):
    """Bytes changed, cut and put in at random (the seed is the format): pixels, or a `UserError` of one line."""
    rng = random.Random(format)
    whole = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(0, (20, 24, 3)).save(whole, format, **({"exif": exif} if format in ("PNG", "JPEG", "TIFF", "WEBP") else {}))
    refused = 0
    for _ in range(60):
        raw = bytearray(whole.getvalue())
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(min(len(raw), rng.choice((200, 10**6))))
            raw[at : at + rng.choice((0, 1, 1, 1, 10**6))] = rng.randbytes(rng.choice((1, 1, 1, 7)))
        (tmp_path / "x").write_bytes(raw)
        try:
            assert np.asarray(in_mode(read_picture(tmp_path / "x"), "RGB")).ndim == 3
        except UserError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 5


def test_a_photo_with_its_preview_is_one_picture(tmp_path):
    picture(0).save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[picture(1)])
    assert np.asarray(read_picture(tmp_path / "phone.jpg")).shape == (9, 9, 3)


def test_all_problems_at_once_and_skip_broken(root):
    expected = load(root).fingerprint
    bad = write_bad(root / "train" / "dog")
    with pytest.raises(UserError) as caught:
        load(root)
    text = str(caught.value)
    assert f"{root}: 13 of 41 images cannot be used: train/dog/cut.png: cut off" in text
    assert "train/dog/f.tiff: mode F" in text
    assert "; and 3 more. --skip-broken (data.skip_broken=true) leaves out what cannot be read" in text
    assert sum(f"train/dog/{name}" in text for name in bad) == 10
    data = load(root, skip_broken=True)
    assert data.fingerprint == expected
    assert data.notes[0].startswith(f"{root}: 13 of 41 images left out (skip_broken): train/dog/cut.png: cut off")

    for i in range(12):
        (root / "train" / "cat" / f"more{i}.png").write_text("x")
    with pytest.raises(UserError, match=r"train/cat/more0.png, train/cat/more1.png, .*: not an image .*; and 15 more"):
        load(root)
    for path in (root / "train" / "cat").glob("?.png"):
        path.unlink()
    with pytest.raises(UserError, match=r"without the unreadable images nothing is left of cat: train/cat/more0.png"):
        load(root, skip_broken=True)


def test_other_sizes_are_not_skipped(root):
    picture(0, (5, 9, 3)).save(root / "train" / "dog" / "odd.png")
    for options in ({}, {"skip_broken": True}):
        with pytest.raises(UserError, match=r"train/dog/odd.png: 9x5 pixels, train/cat/0.png has 9x9. data.size=32"):
            load(root, **options)


def test_images_that_do_not_fit_into_memory(root, monkeypatch):
    class Full:
        available = 1000

    for path in root.rglob("*.png"):
        Image.new("1", (5000, 4000), color=int(path.stem) % 2).save(path)
    with pytest.raises(UserError, match=r"28 images of 5000x4000 pixels need 3.1 GiB of memory.*data.size=32"):
        load(root)
    assert load(root, size=9).input_shape == (3, 9, 9)
    for path in root.rglob("*.png"):
        picture(0).save(path)
    monkeypatch.setattr(psutil, "virtual_memory", Full)
    with pytest.raises(UserError, match=r"28 images of 9x9 pixels need .* GiB of memory.*data.size=32"):
        load(root)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_without_permission(root):
    (root / "train" / "dog").chmod(0)
    with pytest.raises(UserError, match="train/dog: Permission denied"):
        load(root)


def test_the_command(root, tmp_path, capsys):
    config = tmp_path / "c.yaml"
    config.write_text(
        f"data: {{name: folder, root: {root}, val_fraction: 0.2}}\nmodel: {{name: mlp, hidden: [4]}}\n"
        "training: {epochs: 1, batch_size: 8}\npolicies: FIX(k0=0.01)\n"
    )
    (root / "train" / "cat" / "broken.png").write_text("x")
    arguments = ["train", str(config), "--pool", str(tmp_path / "pool"), "--workers", "1", "--device", "cpu"]
    assert main(arguments) == 2
    assert "broken.png: not an image" in capsys.readouterr().err
    assert not (tmp_path / "pool").exists()
    assert main([*arguments, "--skip-broken"]) == 0
    captured = capsys.readouterr()
    assert "1 of 29 images left out (skip_broken): train/cat/broken.png: not an image" in captured.err
    assert "1 complete." in captured.out and "Next: lrensemble select" in captured.out
    assert '"skip_broken": true' in (tmp_path / "pool" / "pool.json").read_text()
    assert main(["select", str(tmp_path / "pool"), "--selector", "all"]) == 0
    assert main(["export", str(tmp_path / "pool"), "all", "-o", str(tmp_path / "team"), "--no-benchmark"]) == 0
    assert main(["predict", str(tmp_path / "team"), str(root / "test")]) == 0
    assert "n = 8" in capsys.readouterr().out
