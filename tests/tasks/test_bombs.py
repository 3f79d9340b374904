"""Files whose headers lie, or that unpack to far more than they are."""

from __future__ import annotations

import gzip
import os
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from lrensemble import Pool, UserError
from lrensemble.evaluation.network import load_data
from lrensemble.pool.files import array_bytes, write_json
from lrensemble.pool.reading import read_numbers
from lrensemble.tasks.idx import read_idx
from lrensemble.tasks.sources import load_images


def idx(*shape: int, data: bytes = b"") -> bytes:
    return bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + data


def zeros(path: Path, start: bytes, megabytes: int) -> Path:
    """A gzip file of so much: small where it lies."""
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(start)
        for _ in range(megabytes):
            file.write(bytes(1 << 20))
    return path


def peak(read, path: Path, message: str) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=message):
            read(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_idx_that_lies(tmp_path: Path):
    for name, content, message in (
        ("a", idx(2**31, 28, 28), "cut off or damaged"),
        ("b", idx(2**32 - 1, 2**32 - 1, 2**32 - 1), "cut off or damaged"),
        ("c", bytes([0, 0, 8, 255]) + bytes(2000), "not an IDX file"),
        ("d", idx(3, data=b"1234"), "cut off or damaged"),
    ):
        (tmp_path / name).write_bytes(content)
        assert peak(read_idx, tmp_path / name, message) < 1e7
        with gzip.open(tmp_path / f"{name}.gz", "wb") as file:
            file.write(content)
        assert peak(read_idx, tmp_path / f"{name}.gz", f"{message}|not unpacked") < 1e7
    assert peak(read_idx, zeros(tmp_path / "e.gz", idx(300 << 20), 8), "are not unpacked here") < 1e7
    # More than the header says: what is too much is never unpacked.
    assert peak(read_idx, zeros(tmp_path / "f.gz", idx(10), 64), "damaged: 19 bytes or more, 18 expected") < 1e7
    os.mkfifo(tmp_path / "g")
    with pytest.raises(UserError, match="named pipe"):
        read_idx(tmp_path / "g")


def test_idx_is_what_it_was(tmp_path: Path):
    (tmp_path / "x").write_bytes(idx(2, 3, data=bytes(range(6))))
    with gzip.open(tmp_path / "x.gz", "wb") as file:
        file.write((tmp_path / "x").read_bytes())
    for name in ("x", "x.gz"):
        assert read_idx(tmp_path / name).tolist() == [[0, 1, 2], [3, 4, 5]]


def npz_bomb(path: Path, megabytes: int) -> Path:
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("val.npy", "w") as file,
    ):
        np.lib.format.write_array_header_1_0(
            file, {"shape": (megabytes << 18,), "descr": "<f4", "fortran_order": False}
        )
        for _ in range(megabytes):
            file.write(bytes(1 << 20))
    return path


def header(shape) -> bytes:
    import io

    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"shape": shape, "descr": "<f4", "fortran_order": False})
    return buffer.getvalue() + bytes(80)


def test_npz_and_npy_that_lie(tmp_path: Path):
    bomb = npz_bomb(tmp_path / "bomb.npz", 300)
    assert peak(lambda path: load_images("npz", root=path), bomb, "are not unpacked here") < 1e7
    assert peak(read_numbers, bomb, "are not unpacked here") < 1e7
    with zipfile.ZipFile(tmp_path / "lie.npz", "w") as archive:
        archive.writestr("val.npy", header((1 << 34,)))
    assert peak(lambda path: load_images("npz", root=path), tmp_path / "lie.npz", "the file is shorter") < 1e7
    assert peak(read_numbers, tmp_path / "lie.npz", "the file is shorter") < 1e7
    folder = tmp_path / "npy"
    folder.mkdir()
    (folder / "train_labels.npy").write_bytes(header((1 << 34,)))
    assert peak(lambda path: load_images("npy", root=path), folder, "the file is shorter") < 1e7
    assert peak(read_numbers, folder / "train_labels.npy", "the file is shorter") < 1e7
    (folder / "train_labels.npy").unlink()
    os.mkfifo(folder / "train_labels.npy")
    with pytest.raises(UserError, match="named pipe"):
        load_images("npy", root=folder)


def test_arrays_in_archives_are_what_was_written(tmp_path: Path):
    array = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    np.savez_compressed(tmp_path / "a.npz", val=array)
    (tmp_path / "a.npy").write_bytes(array_bytes(array))
    assert (read_numbers(tmp_path / "a.npz") == array).all() and (read_numbers(tmp_path / "a.npy") == array).all()


@pytest.mark.parametrize("root", ["https://example.org/x", "//server/share", "\\\\server\\share"])
def test_a_pool_never_names_another_machine(pool: Pool, root):
    write_json(pool.path / "pool.json", {**pool.task.model_dump(mode="json"), "data": {"name": "idx", "root": root}})
    with pytest.raises(UserError, match="on another machine"):
        load_data(Pool.open(pool.path))


def test_nothing_is_fetched_or_made_for_a_pool(pool: Pool, tmp_path: Path, monkeypatch):
    from torchvision import datasets

    def fetch(self, *args, **kwargs):
        raise AssertionError("a download")

    for kind in (datasets.MNIST, datasets.CIFAR10, datasets.SVHN):
        monkeypatch.setattr(kind, "download", fetch)
    for name in ("mnist", "cifar10", "svhn"):
        root = tmp_path / "new" / name
        for where in (root, tmp_path):
            data = {"name": name, "root": str(where), "download": True}
            write_json(pool.path / "pool.json", {**pool.task.model_dump(mode="json"), "data": data})
            with pytest.raises(UserError, match=r"does not exist|is not \(whole\)"):
                load_data(Pool.open(pool.path))
        assert not (tmp_path / "new").exists()
