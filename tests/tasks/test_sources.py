"""Real loading code on small files made here; nothing is downloaded."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from lrensemble import UserError, load_task
from lrensemble.tasks import SOURCES
from lrensemble.tasks.idx import FILES, read_idx
from lrensemble.tasks.row_arrays import Picked


def images(n: int, seed: int, shape=(6, 5)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def labels(n: int, classes: int = 3) -> np.ndarray:
    return np.arange(n) % classes


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write_idx(folder: Path, zipped: bool, n: int = 60) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {
        "train_images": images(n, 0),
        "train_labels": labels(n),
        "test_images": images(20, 1),
        "test_labels": labels(20),
    }
    for key, array in arrays.items():
        raw = idx_bytes(array)
        name = FILES[key] + (".gz" if zipped else "")
        (folder / name).write_bytes(gzip.compress(raw) if zipped else raw)


def test_digits_are_scikit_learns():
    data = load_task("digits", val_fraction=0.2)
    assert data.input_shape == (1, 8, 8)
    assert data.num_classes == 10
    everything = np.concatenate([s.images for s in (data.train, data.val, data.test)])[:, 0]
    assert sorted(map(bytes, everything)) == sorted(map(bytes, load_digits().images.astype(np.uint8)))
    assert len(data.test) == 450


def test_the_cut_is_stratified_and_from_the_seed():
    data = load_task("digits", val_fraction=0.25)
    share = np.bincount(data.val.labels) / (np.bincount(data.train.labels) + np.bincount(data.val.labels))
    assert np.abs(share - 0.25).max() < 0.01
    again, other = load_task("digits", val_fraction=0.25), load_task("digits", val_fraction=0.25, split_seed=1)
    assert again.fingerprint == data.fingerprint != other.fingerprint
    np.testing.assert_array_equal(other.test.labels, data.test.labels)


@pytest.mark.parametrize("zipped", [False, True])
def test_idx(tmp_path, zipped):
    write_idx(tmp_path, zipped)
    data = load_task("idx", root=tmp_path, val_fraction=0.1)
    assert (len(data.train), len(data.val), len(data.test)) == (54, 6, 20)
    np.testing.assert_array_equal(data.test.images[:, 0], images(20, 1))
    assert data.class_names == ("0", "1", "2")


def test_named_sets_take_idx_files_and_torchvisions_folders(tmp_path):
    write_idx(tmp_path / "plain", zipped=True)
    write_idx(tmp_path / "tv" / "FashionMNIST" / "raw", zipped=False)
    plain = load_task("fashion_mnist", root=tmp_path / "plain")
    torchvisions = load_task("fashion_mnist", root=tmp_path / "tv")
    assert plain.class_names[1] == "Trouser"
    assert plain.fingerprint == torchvisions.fingerprint


def test_cifar10_in_torchvisions_folder(tmp_path, monkeypatch):
    from torchvision import datasets

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    pixels = images(12, 0, (3, 32, 32))
    batch = {"data": pixels.reshape(12, -1), "labels": list(labels(12, 2))}
    meta = {"label_names": [f"class {i}" for i in range(10)]}
    for name, content in (("train", batch), ("test", batch), ("meta", meta)):
        (folder / name).write_bytes(pickle.dumps(content))

    def md5(name: str) -> str:
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    monkeypatch.setattr(datasets.CIFAR10, "train_list", [["train", md5("train")]])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test", md5("test")]])
    monkeypatch.setattr(datasets.CIFAR10, "meta", {"filename": "meta", "key": "label_names", "md5": md5("meta")})
    data = load_task("cifar10", root=tmp_path, val_fraction=0.5)
    assert data.input_shape == (3, 32, 32)
    np.testing.assert_array_equal(data.test.images, pixels)
    assert data.class_names[3] == "class 3"


def test_npz_with_medmnists_keys(tmp_path):
    path = tmp_path / "set.npz"
    arrays = {
        "train_images": images(40, 0, (8, 8, 3)),
        "train_labels": labels(40)[:, None],
        "test_images": images(10, 1, (8, 8, 3)),
        "test_labels": labels(10)[:, None],
    }
    np.savez(path, **arrays, class_names=np.array(["a", "b", "c"]))
    data = load_task("npz", root=path, val_fraction=0.25)
    assert data.input_shape == (3, 8, 8)
    assert data.class_names == ("a", "b", "c")
    assert (len(data.train), len(data.val)) == (30, 10)

    np.savez(path, **arrays, val_images=images(7, 2, (8, 8, 3)), val_labels=labels(7))
    assert len(load_task("npz", root=path).val) == 7
    with pytest.raises(UserError, match="validation split of its own"):
        load_task("npz", root=path, val_fraction=0.25)


def test_normalisation_is_that_of_train(tmp_path):
    path = tmp_path / "set.npz"
    np.savez(
        path,
        train_images=images(40, 0, (8, 8, 3)),
        train_labels=labels(40),
        test_images=images(10, 1, (8, 8, 3)),
        test_labels=labels(10),
    )
    data = load_task("npz", root=path)
    mean, std = data.normalisation
    np.testing.assert_allclose(mean, data.train.images.mean((0, 2, 3)), rtol=1e-9)
    np.testing.assert_allclose(std, data.train.images.std((0, 2, 3)), rtol=1e-9)


def test_fingerprint_sees_order_pixels_and_labels(tmp_path):
    def fingerprint(test_images, test_labels) -> str:
        path = tmp_path / "set.npz"
        np.savez(
            path,
            train_images=images(40, 0),
            train_labels=labels(40),
            test_images=test_images,
            test_labels=test_labels,
        )
        return load_task("npz", root=path).fingerprint

    pixels, y = images(9, 1), labels(9)
    changed = pixels.copy()
    changed[4, 2, 2] ^= 1
    order = np.arange(9)[::-1]
    prints = [
        fingerprint(pixels, y),
        fingerprint(pixels[order], y[order]),
        fingerprint(changed, y),
        fingerprint(pixels, (y + 1) % 3),
    ]
    assert len(set(prints)) == 4


def broken(tmp_path: Path, change) -> Path:
    write_idx(tmp_path, zipped=False)
    change(tmp_path)
    return tmp_path


def cut_off(folder: Path) -> None:
    path = folder / FILES["train_images"]
    path.write_bytes(path.read_bytes()[:-7])


def not_idx(folder: Path) -> None:
    (folder / FILES["test_images"]).write_bytes(b"PNG and more")


def fewer_labels(folder: Path) -> None:
    (folder / FILES["train_labels"]).write_bytes(idx_bytes(labels(59)))


def other_class(folder: Path) -> None:
    (folder / FILES["test_labels"]).write_bytes(idx_bytes(labels(20) + 7))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (cut_off, "cut off or damaged"),
        (not_idx, "not an IDX file"),
        (fewer_labels, "60 images but 59 labels"),
        (other_class, "test labels run from 7 to 9, but there are 3 classes"),
        (lambda folder: (folder / FILES["test_labels"]).unlink(), r"no t10k-labels-idx1-ubyte\(.gz\) there"),
    ],
)
def test_broken_idx_files(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        load_task("idx", root=broken(tmp_path, change))


def test_cut_off_gzip(tmp_path):
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(idx_bytes(images(5, 0)))[:-20])
    with pytest.raises(UserError, match=r"x.gz: cannot be read"):
        read_idx(path)


@pytest.mark.parametrize("length", [0, 3, 4, 5, 6, 10, 15, 17])
def test_idx_cut_off_anywhere(tmp_path, length):
    path = tmp_path / "x"
    path.write_bytes(idx_bytes(images(2, 0))[:length])
    with pytest.raises(UserError, match=r"cut off|not an IDX file"):
        read_idx(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "digts"}, "unknown data set 'digts': did you mean 'digits'"),
        ({"name": "idx"}, "needs data.root=FOLDER"),
        ({"name": "npz", "root": Path("/nowhere/x.npz")}, "/nowhere/x.npz: it does not exist"),
        ({"name": "folder", "root": Path("/nowhere")}, "/nowhere: it does not exist"),
        ({"name": "cifar10", "root": Path("/nowhere")}, "/nowhere: it does not exist"),
        ({"name": "digits", "root": Path("/x")}, "data.root = /x: data set 'digits' has no use for it"),
        ({"name": "npz", "root": Path("/x"), "size": 3}, "data.size = 3"),
        ({"name": "digits", "val_fraction": 0.999}, "cannot cut data.val_fraction = 0.999"),
    ],
)
def test_errors_name_the_value(arguments, message):
    with pytest.raises(UserError, match=message):
        load_task(**arguments)


@pytest.mark.parametrize("name", ["mnist", "cifar10", "cifar100", "svhn"])
def test_missing_torchvision_data_says_how_to_get_it(tmp_path, name):
    assert name in SOURCES
    with pytest.raises(UserError, match="download=true"):
        load_task(name, root=tmp_path)


def test_npz_that_is_none(tmp_path):
    path = tmp_path / "x.npz"
    path.write_bytes(b"PK\x03\x04 but no more")
    with pytest.raises(UserError, match=r"not a readable .npz"):
        load_task("npz", root=path)
    np.savez_compressed(path, train_images=images(50, 0))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    path.write_bytes(raw)
    with pytest.raises(UserError, match=r"not a readable .npz"):
        load_task("npz", root=path)
    np.save(tmp_path / "one.npy", images(3, 0))
    with pytest.raises(UserError, match="one array, not an archive"):
        load_task("npz", root=tmp_path / "one.npy")
    np.savez(path, train_image=images(3, 0))
    with pytest.raises(UserError, match="'train_images': did you mean 'train_image'"):
        load_task("npz", root=path)
    np.savez(path, train_images=np.array([{}], dtype=object))
    with pytest.raises(UserError, match=r"not a readable .npz"):
        load_task("npz", root=path)


@pytest.mark.data
def test_debians_fashion_mnist():
    data = load_task("fashion_mnist")
    assert (len(data.train), len(data.val), len(data.test)) == (54_000, 6_000, 10_000)
    assert (np.bincount(data.test.labels) == 1000).all()


def test_a_huge_label_does_not_eat_the_memory(tmp_path):
    path = tmp_path / "x.npz"
    y = np.array([0, 1, 2**32 - 1] * 20, dtype=np.uint32)
    np.savez(path, train_images=images(60, 0), train_labels=y, test_images=images(60, 0), test_labels=y)
    with pytest.raises(UserError, match="a train label is 4294967295, but there are only 60 rows"):
        load_task("npz", root=path)


def test_a_val_split_needs_both_arrays(tmp_path):
    path = tmp_path / "x.npz"
    y = labels(30)
    np.savez(
        path,
        train_images=images(30, 0),
        train_labels=y,
        test_images=images(30, 0),
        test_labels=y,
        val_images=images(3, 0),
    )
    with pytest.raises(UserError, match="no array 'val_labels'"):
        load_task("npz", root=path)


def test_npy_files_stay_on_disk_and_are_the_same_data(tmp_path: Path):
    """The same rows from an archive (in memory) and from a folder (memory-mapped): one fingerprint, one split."""
    rng = np.random.default_rng(0)
    for kind in ("uint8", "float32"):
        arrays = {
            "train_images": rng.integers(0, 255, (9000, 5, 4, 3)).astype(kind),
            "train_labels": np.arange(9000) % 3,
            "test_images": rng.integers(0, 255, (50, 5, 4, 3)).astype(kind),
            "test_labels": np.arange(50) % 3,
        }
        folder = tmp_path / kind
        folder.mkdir()
        np.savez(tmp_path / "x.npz", **arrays)
        for key, array in arrays.items():
            np.save(folder / f"{key}.npy", array)
        memory = load_task("npz", root=tmp_path / "x.npz", val_fraction=0.2)
        disk = load_task("npy", root=folder, val_fraction=0.2)
        assert isinstance(disk.train.images, Picked)
        assert isinstance(disk.test.images, np.memmap)
        assert disk.fingerprint == memory.fingerprint
        assert disk.normalisation == memory.normalisation
        np.testing.assert_allclose(
            disk.normalisation,
            [
                np.asarray(memory.train.images, dtype=np.float64).mean((0, 2, 3)),
                np.asarray(memory.train.images, dtype=np.float64).std((0, 2, 3)),
            ],
            rtol=1e-9,
        )
        for split in ("train", "val", "test"):
            ours, theirs = getattr(disk, split), getattr(memory, split)
            np.testing.assert_array_equal(np.asarray(ours.images), theirs.images)
            np.testing.assert_array_equal(ours.images[np.array([3, 1])], theirs.images[[3, 1]])
            np.testing.assert_array_equal(ours.labels, theirs.labels)


def test_npy_errors(tmp_path: Path):
    np.save(tmp_path / "train_images.npy", np.zeros((5, 4, 4), dtype=np.uint8))
    with pytest.raises(UserError, match=r"no array 'train_labels'"):
        load_task("npy", root=tmp_path)
    (tmp_path / "train_labels.npy").write_bytes(b"no array")
    with pytest.raises(UserError, match=r"train_labels.npy: not a readable .npy array"):
        load_task("npy", root=tmp_path)
