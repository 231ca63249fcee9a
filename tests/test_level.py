"""What kind of noise there is, and how the level is corrected for it."""

from __future__ import annotations

import numpy as np
import pytest

from labelclean.records import FloatArray, IntArray
from labelclean.tssd.level import (
    ENOUGH_SEEN,
    FEW_ROWS,
    LARGEST,
    LITTLE_SEEN,
    MANY,
    MOST_DOWN,
    MOST_UP,
    Likeness,
    Opinion,
    correct_level,
    hear_channel,
    hear_channel_of_few,
    likeness,
    mean_opinion,
)
from labelclean.tssd.numbers import log_odds, sigmoid

NUM_ROWS, NUM_CLASSES = 3000, 6


def wavering(num_classes: int = NUM_CLASSES) -> tuple[FloatArray, IntArray]:
    """A model that is sure of most rows and takes a class for one beside it now and then; and the true classes."""
    rng = np.random.default_rng(0)
    truth = np.arange(NUM_ROWS) % num_classes
    doubt = np.where(rng.random(NUM_ROWS) < 0.7, 0.03, 0.4)
    prior = np.full((NUM_ROWS, num_classes), 0.06 / num_classes)
    prior[np.arange(NUM_ROWS), truth] = 1 - doubt
    prior[np.arange(NUM_ROWS), (truth + rng.choice([-1, 1], NUM_ROWS)) % num_classes] += doubt
    return prior / prior.sum(axis=1, keepdims=True), truth


def mislabelled(truth: IntArray, step: int | None, num_classes: int = NUM_CLASSES) -> IntArray:
    """A fifth of the labels moved by so many classes, this way or that; None: by any number."""
    rng = np.random.default_rng(1)
    steps = rng.integers(1, num_classes, len(truth)) if step is None else step * rng.choice([-1, 1], len(truth))
    return np.asarray(np.where(rng.random(len(truth)) < 0.2, (truth + steps) % num_classes, truth))


def test_likeness_tells_noise_along_the_confusions_from_other_noise():
    prior, truth = wavering()
    along = likeness(prior, mislabelled(truth, 1))
    assert along.correlation > 0.95
    sure = prior.max(axis=1) > 0.9
    assert along.num_plain == pytest.approx((mislabelled(truth, 1) != truth)[sure].sum(), rel=0.02)
    assert abs(likeness(prior, mislabelled(truth, None)).correlation) < 0.5
    assert likeness(prior, mislabelled(truth, 3)).correlation < 0
    assert likeness(prior, truth) == Likeness(correlation=0.0, num_plain=0.0)


@pytest.mark.parametrize(("step", "expected"), [(1, -MOST_DOWN), (3, MOST_UP), (None, MOST_UP)])
def test_level_moves_against_what_the_noise_hides(step: int | None, expected: float):
    prior, truth = wavering()
    labels = mislabelled(truth, step)
    odds = log_odds(np.where(labels == truth, 0.6, 0.2))  # more than MANY are taken for wrong
    moved = correct_level(odds, prior, labels) - odds
    assert np.ptp(moved) < 1e-12
    number = likeness(prior, labels).num_plain
    assert moved[0] == pytest.approx(expected * number / (number + FEW_ROWS), rel=0.1)


def test_the_fewer_are_wrong_the_fewer_go_unseen():
    prior, truth = wavering()
    labels = mislabelled(truth, 1)
    moved = []
    for right in (0.6, 0.95):
        odds = log_odds(np.where(labels == truth, right, 0.2))
        moved.append((correct_level(odds, prior, labels) - odds)[0])
    assert moved[1] / moved[0] == pytest.approx((0.8 * 0.05 + 0.2 * 0.8) / MANY, rel=0.05)


def test_clean_labels_are_hardly_doubted_more():
    """A model's mistakes on clean labels fall along its confusions, as noise might."""
    prior, truth = wavering()
    labels = mislabelled(truth, 1)
    sure = log_odds(np.where(labels == truth, 0.999, 0.95))
    noise = 1 - sigmoid(sure).mean()
    assert noise < MANY / 20
    assert 0 > (correct_level(sure, prior, labels) - sure)[0] > -MOST_DOWN * noise / MANY


def test_little_is_moved_where_little_is_seen():
    prior, truth = wavering()
    rows = np.random.default_rng(2).permutation(NUM_ROWS)[:50]
    labels = mislabelled(truth, 1)[rows]
    number = likeness(prior[rows], labels).num_plain
    assert 0 < number < 15
    moved = correct_level(np.zeros(50), prior[rows], labels)
    assert 0 > moved[0] > -MOST_DOWN * 15 / (15 + FEW_ROWS)


def test_many_classes_with_few_wrong_labels_each_look_like_what_they_are():
    prior, truth = wavering(100)
    along = likeness(prior, mislabelled(truth, 1, 100))
    assert along.num_plain < 500
    assert along.correlation > 0.9
    assert abs(likeness(prior, mislabelled(truth, None, 100)).correlation) < 0.3


def test_two_classes_and_a_stray_label_tell_nothing():
    prior, truth = wavering(2)
    odds = np.zeros(NUM_ROWS)
    for stray in (1e-4, 1e-3):
        three = np.hstack([prior * (1 - stray), np.full((NUM_ROWS, 1), stray)])
        labels = mislabelled(truth, 1, 2)
        labels[:5] = 2
        assert abs(correct_level(odds, three, labels)[0]) < MOST_DOWN / 8


def test_two_classes_tell_nothing():
    prior, truth = wavering(2)
    labels = mislabelled(truth, 1, 2)
    odds = log_odds(np.where(labels == truth, 0.9, 0.2))
    assert correct_level(odds, prior, labels) is odds


def test_the_channel_is_heard_where_noise_is_even():
    prior, truth = wavering()
    even, one_step, three_steps = (
        hear_channel(prior, mislabelled(truth, step), share_right=0.75) for step in (None, 1, 3)
    )
    number = likeness(prior, mislabelled(truth, None)).num_plain
    assert even.share_right == 0.75
    assert even.weight == pytest.approx(number / (number + FEW_ROWS), abs=0.02)
    assert one_step.weight == three_steps.weight == 0


def test_half_even_noise_is_uneven():
    prior, truth = wavering()
    both = np.where(np.arange(NUM_ROWS) // NUM_CLASSES % 2 == 0, mislabelled(truth, None), mislabelled(truth, 1))
    assert hear_channel(prior, both, share_right=0.75).weight == 0


def test_even_means_as_frequent_as_labels_are():
    """Of a rare class there are few wrong labels, too."""
    prior, truth = wavering(10)
    rng = np.random.default_rng(3)
    kept = (truth != 7) | (rng.random(NUM_ROWS) < 0.1)
    given = np.where(rng.random(NUM_ROWS) < 0.3, rng.choice(truth[kept], NUM_ROWS), truth)
    assert hear_channel(prior[kept], given[kept], share_right=0.7).weight > 0.9


@pytest.mark.parametrize("num_rows", [0, 40, 160])
def test_the_channel_is_heard_by_how_many_labels_are_plainly_wrong(num_rows: int):
    """That few of them scatter by chance does not make them uneven."""
    prior, truth = wavering()
    labels = mislabelled(truth, None)
    plain = np.flatnonzero((labels != truth) & (prior.max(axis=1) > 0.9))[:num_rows]
    rows = np.concatenate([plain, np.flatnonzero(labels == truth)])
    weight = hear_channel(prior[rows], labels[rows], share_right=0.7).weight
    assert weight == pytest.approx(num_rows / (num_rows + FEW_ROWS), abs=0.02)


@pytest.mark.parametrize(("step", "expected"), [(None, 1), (1, 0)])
def test_even_noise_among_many_classes_is_even(step: int | None, expected: int):
    """Two or three plainly wrong labels of each class."""
    prior, truth = wavering(100)
    labels = mislabelled(truth, step, 100)
    weights = [
        hear_channel(prior[rows], labels[rows], share_right=0.8).weight
        for rows in (np.random.default_rng(seed).permutation(NUM_ROWS)[:2000] for seed in range(5))
    ]
    assert np.mean(weights) == pytest.approx(expected, abs=0.1)


def test_a_single_wrong_label_of_each_class_tells_nothing():
    prior, truth = wavering(100)
    labels = truth.copy()
    plain = np.flatnonzero(prior.max(axis=1) > 0.9)
    first = plain[np.unique(truth[plain], return_index=True)[1]]
    labels[first] = (truth[first] + 1) % 100
    assert likeness(prior, labels) == Likeness(correlation=0.0, num_plain=0.0)


def test_of_two_classes_nothing_is_even():
    prior, truth = wavering(2)
    assert hear_channel(prior, mislabelled(truth, None, 2), share_right=0.7) == Opinion(0.7, 0.0)


def test_the_channel_is_heard_the_less_the_more_rows_there_are():
    weights = [
        hear_channel_of_few(num_rows, share_right=0.7).weight
        for num_rows in (1, LITTLE_SEEN, round(np.sqrt(LITTLE_SEEN * ENOUGH_SEEN)), ENOUGH_SEEN, 10 * ENOUGH_SEEN)
    ]
    assert weights == pytest.approx([1, 1, 0.5, 0, 0], abs=1e-3)
    assert hear_channel_of_few(10, share_right=0.7) == Opinion(0.7, 1.0)


def test_an_opinion_counts_by_its_weight():
    none, half, full = (Opinion(0.6, weight).sway(0.7) for weight in (0, 0.5, 1))
    assert (none, full) == pytest.approx((0.7, 0.6))
    assert half == pytest.approx(0.65, abs=0.005)


def test_an_opinion_without_weight_changes_nothing():
    assert Opinion(0.5, 0.0).sway(0.99999) == 0.99999


def test_several_judges_opinions_count_alike():
    assert mean_opinion([Opinion(0.6, 0.0), Opinion(0.8, 0.5)]) == Opinion(pytest.approx(0.7), 0.25)


def test_an_opinion_sways_no_further_than_it_may():
    odds = [share / (1 - share) for share in (Opinion(share, 1.0).sway(0.9) for share in (0.1, 0.999, 0.0, 1.0))]
    assert odds == pytest.approx([9 * factor for factor in np.exp([-LARGEST, LARGEST, -LARGEST, LARGEST])])
    assert 0 < Opinion(0.0, 0.01).sway(0.0) < Opinion(1.0, 0.01).sway(1.0) < 1
