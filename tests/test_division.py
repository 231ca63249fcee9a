"""The parallel division: its truth table, its guard, and the signs of failure."""

from __future__ import annotations

import numpy as np
import pytest

from labelclean.records import Bin
from labelclean.tssd.division import SURE_SHARE, chance_signs, divide, failure_signs, most_trusted

P, N, U = Bin.CERTAIN_POSITIVE, Bin.CERTAIN_NEGATIVE, Bin.UNCERTAIN


@pytest.mark.parametrize(
    ("p_loss", "p_feature", "expected"),
    [
        (0.8, 0.9, P),
        (0.2, 0.1, N),
        (0.8, 0.1, U),
        (0.1, 0.8, U),
        (0.5, 0.5, U),
        (0.8, 0.5, U),
        (0.5, 0.2, U),
        # on a threshold is not beyond it
        (0.7, 0.9, U),
        (0.9, 0.7, U),
        (0.3, 0.1, U),
        (0.1, 0.3, U),
    ],
)
def test_truth_table(p_loss: float, p_feature: float, expected: Bin):
    # the first row keeps the guard for classes without positives quiet
    division = divide(np.array([1.0, p_loss]), np.array([1.0, p_feature]), np.array([0, 0]), trust=0.7, distrust=0.3)
    assert division.bins[1] == expected
    assert (division.positive[1], division.negative[1], division.uncertain[1]) == tuple(
        expected == bin_ for bin_ in (P, N, U)
    )


def test_of_each_class_the_most_trusted_labels_are_chosen():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [400, 100, 7])
    p_clean = np.concatenate([rng.uniform(0.6, 1, 400), rng.uniform(0, 0.4, 100), np.full(7, 1.0)])
    order = rng.permutation(len(labels))
    labels, p_clean = labels[order], p_clean[order]
    chosen = most_trusted(p_clean, labels)
    for label in range(3):  # also of a class of which no label is likely to be right
        own = labels == label
        assert chosen[own].sum() == np.ceil(SURE_SHARE * p_clean[own].sum())
        assert p_clean[own & chosen].min() >= p_clean[own & ~chosen].max()


def test_classes_without_labels_have_none_chosen():
    assert most_trusted(np.array([0.9, 0.8]), np.array([3, 1])).tolist() == [True, True]
    assert not most_trusted(np.zeros(4), np.array([0, 0, 1, 1])).any()


def test_class_that_loses_all_positives_keeps_its_most_trusted_rows():
    labels = np.array([0] * 10 + [1] * 20)
    p_loss = np.concatenate([np.full(10, 0.9), np.linspace(0.01, 0.2, 20)])
    division = divide(p_loss, p_loss, labels, trust=0.7, distrust=0.3)
    np.testing.assert_array_equal(np.flatnonzero(division.positive[10:]), [18, 19])
    assert division.positive[:10].all()
    assert division.negative[10:].sum() == 18
    assert any("one class without certain positives" in guard for guard in division.guards)


def test_most_trusted_is_what_both_streams_trust():
    labels = np.array([0, 0, 1, 1, 1])
    p_loss, p_feature = np.array([0.9, 0.9, 0.6, 0.4, 0.1]), np.array([0.9, 0.9, 0.1, 0.4, 0.6])
    division = divide(p_loss, p_feature, labels, trust=0.7, distrust=0.3)
    assert np.flatnonzero(division.positive).tolist() == [0, 1, 3]


def test_class_of_one_row_keeps_it_and_absent_classes_are_no_loss():
    labels = np.array([0, 0, 0, 3])
    p = np.array([0.9, 0.9, 0.9, 0.1])
    division = divide(p, p, labels, trust=0.7, distrust=0.3)
    assert division.bins.tolist() == [P, P, P, P]
    assert division.guards[0].startswith("one class without certain positives")


def test_healthy_division_shows_no_sign_of_failure():
    labels = np.arange(100) % 4
    bins = np.where(np.arange(100) < 70, P, np.where(np.arange(100) < 85, N, U))
    assert failure_signs(bins, labels) == ()


@pytest.mark.parametrize(
    ("bins", "word"),
    [
        ([P] * 30 + [N] * 5 + [U] * 65, "too strict"),
        ([P] * 30 + [N] * 50 + [U] * 20, "out of balance"),
    ],
)
def test_signs_of_failure(bins: list[Bin], word: str):
    (sign,) = failure_signs(np.array(bins), np.arange(100) % 4)
    assert word in sign


def test_lack_of_diversity_is_told():
    labels = np.arange(100) % 4
    bins = np.where(labels == 0, P, np.where(labels == 1, P, U))
    assert failure_signs(bins, labels) == ("the certain rows cover few classes: the certain set lacks diversity",)
    skewed = np.where(np.arange(100) < 97, 0, 1)  # a data set of few classes is not the division's fault
    assert failure_signs(np.full(100, P), skewed) == ()


def test_what_cannot_be_divided_is_refused():
    two, three = np.full(2, 0.5), np.full(3, 0.5)
    with pytest.raises(ValueError, match=r"\(2,\), \(3,\) and \(3,\) differ"):
        divide(two, three, np.zeros(3, int), trust=0.7, distrust=0.3)
    with pytest.raises(ValueError):
        divide(two, two, np.zeros(3, int), trust=0.7, distrust=0.3)
    with pytest.raises(ValueError, match="distrust"):
        divide(two, two, np.zeros(2, int), trust=0.3, distrust=0.7)


def test_predictions_that_agree_by_chance_are_told():
    """Of 600 rows in three classes a third agrees by chance, give or take .019."""
    labels = np.arange(600) % 3
    rng = np.random.default_rng(0)
    assert len(chance_signs(rng.permutation(labels), labels)) == 1
    for share, told in ((0.05, 1), (0.15, 0), (1.0, 0)):
        known = np.arange(600) % 100 < 100 * share
        assert len(chance_signs(np.where(known, labels, rng.permutation(labels)), labels)) == told
    mostly = np.where(np.arange(600) < 590, 0, 1)  # one class alone is predicted, and is right as often as it is there
    assert len(chance_signs(np.zeros(600, dtype=int), mostly)) == 1
