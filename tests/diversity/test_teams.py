"""Teams as bit masks, and their order."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrensemble import UserError
from lrensemble.diversity import (
    all_masks,
    mask_of,
    masks_of_sizes,
    members_of,
    number_of_teams,
    to_indicators,
    to_masks,
)


@given(st.integers(1, 12), st.data())
def test_masks_of_a_size_are_all_combinations_ascending(members, data):
    size = data.draw(st.integers(1, members))
    chunk = data.draw(st.integers(1, 50))
    masks = np.concatenate(list(masks_of_sizes(members, [size], chunk)))
    assert sorted(mask_of(team) for team in itertools.combinations(range(members), size)) == masks.tolist()
    assert max(len(part) for part in masks_of_sizes(members, [size], chunk)) <= chunk


@given(st.integers(33, 64), st.integers(1, 3))
def test_up_to_64_members(members, size):
    masks = np.concatenate(list(masks_of_sizes(members, [size])))
    assert masks.dtype == np.uint64
    assert len(masks) == math.comb(members, size) == number_of_teams(members, [size])
    assert (np.diff(masks.astype(object)) > 0).all()
    assert (np.bitwise_count(masks) == size).all()
    assert int(masks[-1]) == mask_of(range(members - size, members))


@given(st.lists(st.sets(st.integers(0, 63), min_size=1), min_size=1))
def test_masks_and_indicators_round_trip(teams):
    masks = np.array([mask_of(sorted(team)) for team in teams], dtype=np.uint64)
    np.testing.assert_array_equal(to_masks(to_indicators(masks, 64)), masks)
    assert [set(members_of(mask)) for mask in masks] == teams


def test_all_masks():
    assert all_masks(3).tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert all_masks(3).dtype == np.uint32
    assert all_masks(4, [3, 1]).tolist() == [1, 2, 4, 8, 7, 11, 13, 14]
    assert number_of_teams(20) == 2**20 - 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: all_masks(25), r"all teams of 25 members are 2\^25, the limit is 2\^24: give sizes"),
        (lambda: all_masks(5, [6]), "a team of 6 is not possible: the pool has 5"),
        (lambda: all_masks(5, [0]), "a team of 0"),
        (lambda: to_masks(np.ones((1, 65), bool)), "64 members, not 65"),
    ],
)
def test_errors(call, message):
    with pytest.raises(UserError, match=message):
        call()
