"""Arrays: where the channels are, labels, and splits that do not fit together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from lrensemble import Images, UserError, load_task
from lrensemble.tasks.dataset import channels_first

RNG = np.random.default_rng(0)


def write(path: Path, images=None, **changes) -> Path:
    """An archive of 60 + 20 grey images of 8x8 pixels and 3 classes; None leaves an array out."""
    arrays = {
        "train_images": RNG.integers(0, 256, (60, 8, 8)).astype(np.uint8),
        "train_labels": np.arange(60) % 3,
        "test_images": RNG.integers(0, 256, (20, 8, 8)).astype(np.uint8),
        "test_labels": np.arange(20) % 3,
        **changes,
    }
    np.savez(path / "x.npz", **{key: value for key, value in arrays.items() if value is not None})
    return path / "x.npz"


def load(path: Path, **options) -> Images:
    return load_task("npz", root=path, **options)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((28, 28, 1), (1, 28, 28)),
        ((1, 28, 28), (1, 28, 28)),
        ((32, 20, 3), (3, 32, 20)),
        ((3, 32, 20), (3, 32, 20)),
        ((4, 4, 3), (3, 4, 4)),
        ((3, 4, 4), (3, 4, 4)),
        ((3, 8, 13), (3, 8, 13)),
        ((64, 64, 13), (13, 64, 64)),
        ((13, 64, 64), (13, 64, 64)),
        ((64, 48, 13), (13, 64, 48)),
        ((13, 64, 48), (13, 64, 48)),
        ((16, 16, 2), (2, 16, 16)),
        ((2, 16, 16), (2, 16, 16)),
        ((2, 20, 16), (2, 20, 16)),
        ((7, 7, 512), (512, 7, 7)),
        ((512, 7, 7), (512, 7, 7)),
        ((1, 1, 1), (1, 1, 1)),
    ],
)
def test_where_the_channels_are(shape, expected):
    images = np.arange(np.prod(shape)).reshape(1, *shape)
    found = channels_first(images, "x")
    assert found.shape[1:] == expected
    channel = images[0, ..., -1] if expected == shape[2:] + shape[:2] else images[0, -1]
    np.testing.assert_array_equal(found[0, -1], channel)


@pytest.mark.parametrize(
    "shape", [(3, 8, 3), (3, 3, 3), (1, 28, 1), (4, 8, 3), (4, 4, 2), (2, 4, 4), (8, 8, 8), (2, 8, 2), (48, 3, 64)]
)
def test_two_readings_are_an_error_that_names_both(tmp_path, shape):
    images = RNG.integers(0, 256, (80, *shape)).astype(np.uint8)
    path = write(tmp_path, train_images=images[:60], test_images=images[60:])
    a, b, c = shape
    with pytest.raises(UserError) as caught:
        load(path)
    assert (
        f"(train): images of shape {shape} can be {a} channels of {b}x{c} pixels or {c} channels of {a}x{b}: "
        in str(caught.value)
    )
    assert "data.layout=nchw or data.layout=nhwc says which" in str(caught.value)
    np.testing.assert_array_equal(load(path, layout="nchw").test.images, images[60:])
    np.testing.assert_array_equal(load(path, layout="nhwc").test.images, images[60:].transpose(0, 3, 1, 2))


def test_layout_is_checked(tmp_path):
    with pytest.raises(UserError, match=r"data.layout = hwc: did you mean 'nhwc'"):
        load(write(tmp_path), layout="hwc")
    with pytest.raises(UserError, match=r"data.layout = nchw: data set 'digits' has no use for it"):
        load_task("digits", layout="nchw")


def nan_in_row_4321() -> np.ndarray:
    images = np.ones((5000, 2, 2), dtype=np.float32)
    images[4321, 1, 1] = np.nan
    return images


def numbers(*shape: int, dtype: str = "uint8") -> np.ndarray:
    return RNG.integers(0, 256, shape).astype(dtype)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_images": numbers(20, 0, 0)}, r"\(test\): images must be .* not of shape \(20, 0, 0, 1\)"),
        ({"train_images": numbers(60, 8, 0)}, r"\(train\): images must be .* not of shape \(60, 8, 0, 1\)"),
        ({"train_images": numbers(60, 64)}, r"\(train\): images must be \(rows, height, width.*\(60, 64\)"),
        ({"train_images": numbers(60, 8, 8) > 9}, r"must be numbers, not bool, images.astype\('uint8'\)"),
        ({"train_images": numbers(60, 8, 8) * 1j}, "must be numbers, not complex128"),
        ({"train_images": nan_in_row_4321(), "train_labels": np.arange(5000) % 3}, "infinite values, .* row 4321"),
        ({"test_images": np.full((20, 8, 8), 1e300)}, "NaN or infinite values, the first in row 0"),
        ({"train_images": numbers(59, 8, 8)}, "59 images but 60 labels"),
        ({"test_images": numbers(0, 8, 8), "test_labels": np.arange(0)}, r"\(test\): there are no rows"),
        ({"train_labels": np.arange(60) % 3 + 0.0}, r"one whole number a row, not float64.*: labels.astype\('int64'\)"),
        ({"train_labels": np.eye(3)[np.arange(60) % 3]}, r"of shape \(60, 3\): labels.argmax\(1\) of one-hot ones"),
        ({"train_labels": np.array(list("abc") * 20)}, "labels must be one whole number a row, not <U1"),
        ({"train_labels": np.arange(60) % 3 - 1}, "train labels run from -1 to 1"),
        ({"test_labels": np.arange(20) % 3 + 1}, "test labels run from 1 to 3, but there are 3 classes"),
        ({"train_labels": np.array([0, 2**63 + 1] * 30, dtype=np.uint64)}, "a label is 9223372036854775809"),
        ({"test_labels": np.array([0, 2**40] * 10)}, "test labels run from 0 to 1099511627776"),
        ({"train_labels": np.zeros(60, dtype=int)}, "test labels run from 0 to 2, but there are 1 classes"),
        ({"test_images": numbers(20, 9, 8)}, r"\(channels, height, width\): train \(1, 8, 8\), test \(1, 9, 8\)"),
        ({"test_images": numbers(20, 8, 8, 3)}, r"different shapes .*: train \(1, 8, 8\), test \(3, 8, 8\)"),
    ],
)
def test_errors_name_the_value(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        load(write(tmp_path, **changes))


def test_numbers_of_any_kind_are_numbers(tmp_path):
    """uint16, int16, float64 of one unit in every split: the values, normalised by mean and deviation."""
    images = RNG.integers(0, 65536, (80, 8, 8))
    for kind in ("uint16", "int32", "float64", ">u2"):
        path = write(tmp_path, train_images=images[:60].astype(kind), test_images=images[60:].astype(kind))
        data = load(path)
        np.testing.assert_array_equal(data.test.images[:, 0], images[60:])
        assert abs(data.normalisation[0][0] - 32768) < 2000
    # whole numbers and floats of one unit fit
    path = write(tmp_path, train_images=(images[:60] // 256).astype(np.uint8), test_images=images[60:] / 256)
    assert load(path).test.images.max() > 250


def test_labels_with_gaps_are_said(tmp_path):
    path = write(tmp_path, train_labels=np.arange(60) % 3 + 1, test_labels=np.arange(20) % 3 + 1)
    assert load(path).notes == ("no train row is of class 0, but 4 are assumed",)
    assert load(write(tmp_path)).notes == ()


RAW = (load_digits().images[:80] * 15).astype(np.uint8)  # 0 to 240
SCALED = (RAW / 255).astype(np.float32)
STANDARD = (SCALED - SCALED.mean()) / SCALED.std()
UNITS = {
    "0 to 255": RAW,
    "0 to 1": SCALED,
    "-1 to 1": SCALED * 2 - 1,
    "standardised": STANDARD,
    "0 to 16": RAW // 15,
    "16 bits": RAW.astype(np.uint16) * 257,
    "0 or 1, cut by uint8": SCALED.round().astype(np.uint8),
}


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("other", UNITS)
@pytest.mark.parametrize("train", UNITS)
def test_splits_in_different_units(tmp_path, train, other, split):
    """The same pictures in every usual unit: refused unless the units are the same numbers."""
    changes = {"val_images": UNITS[train][60:], "val_labels": np.arange(20) % 3}
    changes |= {"train_images": UNITS[train][:60], "test_images": UNITS[train][60:]}
    changes[f"{split}_images"] = UNITS[other][60:]
    path = write(tmp_path, **changes)
    if train == other or {train, other} == {"0 to 1", "0 or 1, cut by uint8"}:
        assert load(path).notes == ()
        return
    if {train, other} == {"-1 to 1", "standardised"}:  # could be pictures with more contrast: said
        assert f"{split} images from" in load(path).notes[0]
        return
    with pytest.raises(UserError, match=f"train images from .* to .*, {split} images from .*: another unit"):
        load(path)


def test_the_fix_is_a_factor(tmp_path):
    with pytest.raises(UserError) as caught:
        load(write(tmp_path, train_images=RAW[:60], test_images=SCALED[60:]))
    assert "train images from 0 to 240, test images from 0 to 0.941176: another unit" in str(caught.value)
    assert str(caught.value).endswith("multiply the test images by 255")
    with pytest.raises(UserError, match=r"divide the test images by 255$"):
        load(write(tmp_path, train_images=SCALED[:60], test_images=RAW[60:]))
    with pytest.raises(UserError, match=r"bring them to the unit of train$"):
        load(write(tmp_path, train_images=RAW[:60], test_images=STANDARD[60:]))


def test_black_splits(tmp_path):
    with pytest.raises(UserError, match="train images from 0 to 240, but every pixel of the test images is 0"):
        load(write(tmp_path, train_images=RAW[:60], test_images=RAW[60:] * 0))


def test_darker_splits_hot_pixels_and_overshoot_are_no_other_unit(tmp_path):
    hot = SCALED[60:].copy()
    hot[3, 2, 2] = 900.0
    for train, test in (
        (RAW, RAW // 3),
        (RAW // 3, RAW),
        (SCALED, SCALED - 0.02),
        (SCALED - 0.02, SCALED),
        (SCALED, np.concatenate([SCALED[:60], hot])),
    ):
        load(write(tmp_path, train_images=train[:60], test_images=test[60:]))


def test_sparse_images_are_no_other_unit(tmp_path):
    sparse = np.zeros((80, 8, 8), dtype=np.float32)
    sparse[::9, 4, 4] = 1.0
    load(write(tmp_path, train_images=sparse[:60], test_images=sparse[60:]))


def test_constants(tmp_path):
    with pytest.raises(UserError, match="every pixel of the train images is 7"):
        load(write(tmp_path, train_images=np.full((60, 8, 8), 7, dtype=np.uint8)))
    images = RNG.integers(0, 256, (80, 8, 8, 3)).astype(np.uint8)
    images[..., 2] = 9
    assert load(write(tmp_path, train_images=images[:60], test_images=images[60:])).normalisation[1][2] == 1e-6
    images[70, 3, 3, 2] = 10
    with pytest.raises(UserError, match="channel 2 is 9 in all train images, but 9 to 10 in the test images"):
        load(write(tmp_path, train_images=images[:60], test_images=images[60:]))


def test_names_of_the_validation_arrays(tmp_path):
    images, labels = RNG.integers(0, 256, (7, 8, 8)).astype(np.uint8), np.arange(7) % 3
    for name in ("val", "valid", "validation"):
        data = load(write(tmp_path, **{f"{name}_images": images, f"{name}_labels": labels}))
        np.testing.assert_array_equal(data.val.images[:, 0], images)
        assert data.notes == ()
    both = {
        f"{name}_{part}": array for name in ("val", "valid") for part, array in (("images", images), ("labels", labels))
    }
    with pytest.raises(UserError, match="val and valid could both be the val split"):
        load(write(tmp_path, **both))
    with pytest.raises(UserError, match="no array 'valid_labels'"):
        load(write(tmp_path, valid_images=images))
    data = load(write(tmp_path, dev_images=images, dev_labels=labels))
    assert data.notes[0].endswith(
        "x.npz: not read: dev_images, dev_labels (train_*, val_*, test_* and class_names are)"
    )
    with pytest.raises(UserError, match="no array 'test_images': did you mean"):
        load(write(tmp_path, test_images=None, tests_images=images))


def test_a_cut_keeps_the_order_of_the_rows(tmp_path):
    """Predictions of a pool are in this order, and its fingerprint has it (pinned in test_old_pool.py, too)."""
    images = np.arange(60 * 64, dtype=np.uint16).reshape(60, 8, 8)
    data = load(write(tmp_path, train_images=images, test_images=images[:20]), val_fraction=0.25)
    first = {name: split.images[:, 0, 0, 0] for name, split in (("train", data.train), ("val", data.val))}
    for values in first.values():
        assert (np.diff(np.asarray(values).astype(int)) > 0).all()
    np.testing.assert_array_equal(np.bincount(data.val.labels), [5, 5, 5])
    assert data.fingerprint == "afa1ee9a4ca6a48ecbc63a70c45a7a20"
