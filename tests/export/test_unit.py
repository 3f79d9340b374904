"""Pixels in another unit than training had: a warning from Python, an error of `lrensemble predict`."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from lrensemble import Ensemble, UserError
from lrensemble.export.card import Preprocessing
from lrensemble.export.images import Reader
from lrensemble.export.unit import Unit

BYTES = Unit(0, 255, whole=True, known=True)
FLOATS = Unit(0, 1, whole=False, known=True)
RAW = np.array([[0, 20, 64], [128, 200, 255]], dtype=np.float64)
NORMALISED = (RAW / 255 - 0.13) / 0.31


@pytest.mark.parametrize(
    ("unit", "values", "mistake"),
    [
        (BYTES, RAW, ""),
        (BYTES, np.zeros((2, 3)), ""),  # black in either unit
        (BYTES, RAW / 255, "scaled"),
        (BYTES, NORMALISED, "shifted"),
        (BYTES, RAW - 128, "shifted"),
        (BYTES, RAW.clip(0, 3), ""),  # dark
        (BYTES, RAW - 5, ""),  # what resizing leaves over
        (FLOATS, RAW / 255, ""),
        (FLOATS, RAW, "scaled"),
        (FLOATS, NORMALISED, "shifted"),
        (FLOATS, RAW / 255 - 0.1, ""),
        (Unit.about([33.3], [78.6]), RAW / 255, "scaled"),  # of MNIST as bytes
        (Unit.about([33.3], [78.6]), RAW, ""),
        (Unit.about([0.13], [0.31]), RAW, "scaled"),
        (Unit.about([0.13], [0.31]), RAW / 255, ""),
        (Unit.about([0.1, 0.4], [0.5, 0.5]), RAW / 127.5 - 1, ""),  # from -1 to 1
    ],
)
def test_what_is_a_mistake(unit, values, mistake):
    assert unit.mistake(values.min(), values.max(), is_float=True) == mistake
    assert bool(unit.warning(values.min(), values.max(), is_float=True)) == bool(mistake)


def test_bytes_are_never_from_0_to_1():
    assert BYTES.mistake(0, 1, is_float=False) == ""
    assert Unit.about([0.0, 0.0], [1.0, 1.0]) is None


@pytest.mark.parametrize("of_pool", [False, True])
def test_an_ensemble_warns_once_with_the_fix(shipped, digits, of_pool):
    pool, folder = shipped
    team = Ensemble.load(pool.path, "all-weighted") if of_pool else Ensemble.load(folder)
    images = digits.test.images
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        right = team.predict(images)
        team(torch.from_numpy(images))
        team.predict(images.astype(float))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        wrong = team.predict(images / 16.0)
        team.predict(images / 16.0)
        team(torch.from_numpy(images / 16.0))
    assert len(caught) == 1
    assert "pixels from 0 to 1, but the team was trained on " in str(caught[0].message)
    assert of_pool or str(caught[0].message).endswith("0 to 16: its classes will be wrong; multiply by 16")
    assert (wrong != right).mean() > 0.2  # what is warned of happens


def test_predict_refuses_both_ways(tmp_path):
    for range_, dtype, given, text in (
        (
            (0, 255),
            "uint8",
            RAW / 255,
            "0 to 1, the team was trained on 0 to 255: --scale multiplies them (255/1 = 255",
        ),
        ((0, 16), "uint8", RAW / 255, "(16/1 = 16, where 1 is white)"),
        ((0, 1), "float32", RAW, "0 to 255, the team was trained on 0 to 1: --scale multiplies them (1/255 = 0.00392"),
        ((0, 255), "uint8", NORMALISED, "give them as training had them, the team normalises by itself"),
    ):
        reader = Reader(Preprocessing(input_shape=(1, 2, 3), mean=(0.5,), std=(0.3,), range=range_, dtype=dtype))
        np.save(tmp_path / "given.npy", given)
        with pytest.raises(UserError) as error:
            reader.read(tmp_path / "given.npy")
        assert text in str(error.value)
