"""Planted noise: how much, of which kind, and that chance alone decides the rest."""

from __future__ import annotations

import numpy as np
import pytest

from labelclean.data.noise import corrupt, count_confusions, mistakes
from labelclean.errors import InputError
from labelclean.records import UNKNOWN

LABELS = np.repeat(np.arange(5), 200)
SIZES = np.full(5, 200)


def test_rate_is_met_exactly_and_the_seed_repeats():
    table = mistakes("symmetric", SIZES)
    noisy = corrupt(LABELS, table, rate=0.3, rng=np.random.default_rng(1))
    assert (noisy != LABELS).sum() == 300
    assert np.array_equal(noisy, corrupt(LABELS, table, rate=0.3, rng=np.random.default_rng(1)))
    assert not np.array_equal(noisy, corrupt(LABELS, table, rate=0.3, rng=np.random.default_rng(2)))


def test_symmetric_noise_reaches_every_other_class_alike():
    noisy = corrupt(LABELS, mistakes("symmetric", SIZES), rate=1.0, rng=np.random.default_rng(0))
    counts = np.zeros((5, 5))
    np.add.at(counts, (LABELS, noisy), 1)
    assert not counts.diagonal().any()
    assert counts[~np.eye(5, dtype=bool)].min() > 30


def test_asymmetric_noise_moves_to_the_next_class():
    noisy = corrupt(LABELS, mistakes("asymmetric", SIZES), rate=0.5, rng=np.random.default_rng(0))
    wrong = noisy != LABELS
    assert np.array_equal(noisy[wrong], (LABELS[wrong] + 1) % 5)


def test_pairs_are_exchanged_and_an_odd_class_stays():
    noisy = corrupt(LABELS, mistakes("pairs", SIZES), rate=0.8, rng=np.random.default_rng(0))
    assert np.array_equal(noisy, np.array([1, 0, 3, 2, 4])[LABELS])


def test_confusion_follows_the_counts_whatever_the_class_sizes():
    confusion = np.array([[900.0, 30, 0], [0, 900, 10], [0, 0, 900]])
    labels = np.repeat(np.arange(3), [1000, 5000, 1000])
    table = mistakes("confusion", np.bincount(labels), confusion=confusion)
    noisy = corrupt(labels, table, rate=0.1, rng=np.random.default_rng(0))
    assert set(zip(labels[noisy != labels], noisy[noisy != labels], strict=True)) == {(0, 1), (1, 2)}
    share = ((labels == 0) & (noisy == 1)).sum() / (noisy != labels).sum()
    assert share == pytest.approx(0.75, abs=0.1)


def test_missing_labels_stay_missing_and_do_not_count():
    labels = np.array([0, UNKNOWN, 1, UNKNOWN])
    noisy = corrupt(labels, mistakes("symmetric", np.array([1, 1])), rate=1.0, rng=np.random.default_rng(0))
    assert noisy.tolist() == [1, UNKNOWN, 0, UNKNOWN]


def test_rate_zero_changes_nothing():
    noisy = corrupt(LABELS, mistakes("symmetric", SIZES), rate=0.0, rng=np.random.default_rng(0))
    assert np.array_equal(noisy, LABELS)
    assert noisy is not LABELS


def test_more_than_the_touched_classes_hold_is_refused():
    with pytest.raises(InputError, match="900 labels were to be made wrong, but only 800"):
        corrupt(LABELS, mistakes("pairs", SIZES), rate=0.9, rng=np.random.default_rng(0))


def test_one_class_and_empty_confusions_are_refused():
    with pytest.raises(InputError, match="fewer than two"):
        mistakes("symmetric", np.array([10]))
    with pytest.raises(InputError, match="no two classes"):
        mistakes("confusion", np.array([5, 5]), confusion=np.diag([3.0, 3.0]))
    with pytest.raises(ValueError):
        mistakes("confusion", np.array([5, 5]))


def test_confusions_are_counted_by_name_and_strangers_left_out():
    table = count_confusions(["a", "a", "b", "z"], ["b", "b", "a", "a"], [1, 2, 5, 7], ("a", "b"))
    assert table.tolist() == [[0, 3], [5, 0]]
