"""Folds: groups stay whole, classes are dealt out evenly."""

from __future__ import annotations

import numpy as np
import pytest

from labelclean.train.folds import assign_folds


def test_every_class_is_dealt_out_evenly():
    rng = np.random.default_rng(0)
    labels = rng.choice(4, 203, p=[0.5, 0.3, 0.15, 0.05])
    folds = assign_folds(labels, np.arange(203), num_folds=5, rng=rng)
    for label in range(4):
        counts = np.bincount(folds[labels == label], minlength=5)
        assert counts.max() - counts.min() <= 1
    assert np.ptp(np.bincount(folds)) <= 1


def test_groups_stay_whole():
    rng = np.random.default_rng(0)
    groups = np.unique(rng.integers(0, 40, 200), return_inverse=True)[1]
    folds = assign_folds(rng.integers(0, 3, 200), groups, num_folds=4, rng=rng)
    for group in range(groups.max() + 1):
        assert len(set(folds[groups == group])) == 1
    assert set(folds) == {0, 1, 2, 3}


def test_groups_of_very_different_sizes_are_dealt_out_by_their_rows():
    rng = np.random.default_rng(0)
    sizes = np.maximum(1, rng.lognormal(1.5, 1.2, 80)).astype(int)
    groups = np.repeat(np.arange(80), sizes)
    labels = rng.integers(0, 2, 80)[groups]
    for num_folds in (2, 10):
        folds = assign_folds(labels, groups, num_folds=num_folds, rng=rng)
        shares = np.bincount(folds, minlength=num_folds) / len(folds)
        np.testing.assert_allclose(shares, 1 / num_folds, atol=0.06)


@pytest.mark.parametrize("seed", range(5))
def test_the_largest_group_comes_first(seed: int):
    """Three pairs make up for six rows that stay together; the other way round one fold would get eight."""
    groups = np.repeat([0, 1, 2, 3], [2, 2, 2, 6])
    folds = assign_folds(np.zeros(12, dtype=int), groups, num_folds=2, rng=np.random.default_rng(seed))
    assert np.bincount(folds).tolist() == [6, 6]


def test_single_rows_make_up_for_what_groups_left_uneven():
    groups = np.concatenate([np.zeros(7, dtype=int), np.arange(1, 14)])
    folds = assign_folds(np.zeros(20, dtype=int), groups, num_folds=2, rng=np.random.default_rng(0))
    assert np.bincount(folds).tolist() == [10, 10]


def test_the_first_fold_is_no_haunt_of_large_groups():
    groups = np.concatenate([np.zeros(150, dtype=int), np.arange(1, 151)])
    folds = assign_folds(np.arange(300) % 3, groups, num_folds=10, rng=np.random.default_rng(0))
    assert (folds == 0).sum() <= 20 < (folds == 9).sum()


def test_no_fold_is_empty_that_need_not_be():
    folds = assign_folds(np.array([0, 0, 0, 1]), np.array([0, 0, 0, 1]), num_folds=2, rng=np.random.default_rng(0))
    assert np.bincount(folds, minlength=2).tolist() == [1, 3]


def test_fewer_groups_than_folds_leave_no_fold_empty():
    for num_groups in (2, 3, 4):
        groups = np.arange(120) % num_groups
        fold = assign_folds(np.arange(120) % 4, groups, num_folds=5, rng=np.random.default_rng(0))
        assert set(fold) == set(range(num_groups))


def test_folds_depend_on_the_seed_alone():
    labels = np.arange(50) % 2
    one, same, other = (
        assign_folds(labels, np.arange(50), num_folds=2, rng=np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
