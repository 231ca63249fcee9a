"""Pictures that show none of the classes, among predictions and neighbours that are made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from labelclean.records import FloatArray, IntArray
from labelclean.tssd.numbers import log_odds, softmax
from labelclean.tssd.open_set import NEAREST, SCATTERED, TOGETHER, Surroundings, flatness, lie_together, off_topic

NUM_ROWS, NUM_CLASSES, NUM_NEIGHBORS = 3000, 8, 20


class Pictures:
    """Pictures of classes, the ambiguous ones the rarer the flatter, and strangers among them.

    Each lies at a place of a line, and the nearest ones there are its neighbours. Where strangers lie together they
    have the end of the line to themselves; else all places are drawn at random.
    """

    def __init__(self, num_strangers: int, *, together: bool = True, num_classes: int = NUM_CLASSES, seed: int = 0):
        rng = np.random.default_rng(seed)
        self.strange = np.arange(NUM_ROWS) < num_strangers
        sharpness = np.where(self.strange, rng.uniform(0.1, 0.7, NUM_ROWS), rng.gamma(5, 1.2, NUM_ROWS))
        self.prior: FloatArray = softmax(sharpness[:, None] * rng.normal(size=(NUM_ROWS, num_classes)))
        drawn = (rng.random(NUM_ROWS)[:, None] > self.prior.cumsum(axis=1)).sum(axis=1).clip(max=num_classes - 1)
        self.labels: IntArray = np.where(self.strange, rng.integers(num_classes, size=NUM_ROWS), drawn)
        place = rng.random(NUM_ROWS) + (self.strange if together else 0)
        order, rank = np.argsort(place), np.argsort(np.argsort(place))
        around = np.concatenate([np.arange(-NUM_NEIGHBORS // 2, 0), np.arange(1, NUM_NEIGHBORS // 2 + 1)])
        self.near: IntArray = order[np.clip(rank[:, None] + around, 0, NUM_ROWS - 1)]

    def off_topic(self, *, labels: IntArray | None = None, reached: int = NUM_NEIGHBORS) -> FloatArray:
        similarities = np.where(np.arange(NUM_NEIGHBORS) < reached, 0.5, 0.0) * np.ones((NUM_ROWS, 1))
        return off_topic(
            self.prior,
            self.labels if labels is None else labels,
            neighbor_rows=self.near,
            similarities=similarities,
            share_wrong=0.01,
        )


@pytest.mark.parametrize("share", [0.05, 0.2])
def test_strangers_are_found_and_counted(share: float):
    pictures = Pictures(int(share * NUM_ROWS))
    found = pictures.off_topic()
    assert found[pictures.strange].mean() > 0.7
    assert found[~pictures.strange].mean() < 0.03
    assert found.mean() == pytest.approx(share, abs=0.03)
    assert ((found >= 0) & (found <= 1)).all()


def test_ambiguous_pictures_are_no_strangers():
    assert Pictures(0).off_topic().sum() < 1


def test_what_is_hard_to_tell_everywhere_is_not_strange():
    """A model that knows little is as unsure of many pictures as of strangers, but these lie among all others."""
    assert not Pictures(NUM_ROWS // 5, together=False).off_topic().any()


def test_a_label_that_the_picture_looks_like_speaks_for_a_class():
    pictures = Pictures(NUM_ROWS // 5)
    likeliest, least = pictures.prior.argmax(axis=1), pictures.prior.argmin(axis=1)
    strange = np.flatnonzero(pictures.strange)[:50]
    by_label = []
    for given in (likeliest, least):
        labels = pictures.labels.copy()
        labels[strange] = given[strange]
        by_label.append(log_odds(pictures.off_topic(labels=labels)[strange]).mean())
    assert by_label[0] < by_label[1] - 1


def test_of_few_classes_nothing_is_said():
    assert not Pictures(NUM_ROWS // 5, num_classes=3).off_topic().any()
    assert Pictures(NUM_ROWS // 5, num_classes=4).off_topic().any()


def test_sure_neighbours_say_nothing_about_flat_rows():
    """Half of the strangers' neighbours are pictures that plainly show a class, of which no stranger is one."""
    pictures = Pictures(NUM_ROWS // 5)
    plain = np.flatnonzero(pictures.prior.max(axis=1) > 0.99)
    before = log_odds(pictures.off_topic())[pictures.strange]
    pictures.near = np.concatenate([pictures.near, pictures.near], axis=1)
    pictures.near[pictures.strange, NUM_NEIGHBORS:] = plain[:NUM_NEIGHBORS]
    similarities = np.ones(pictures.near.shape)
    known = {"neighbor_rows": pictures.near, "similarities": similarities, "share_wrong": 0.01}
    after = log_odds(off_topic(pictures.prior, pictures.labels, **known))[pictures.strange]
    assert np.median(after - before) > -0.2


def test_neighbours_that_were_not_found_do_not_count():
    pictures = Pictures(NUM_ROWS // 5)
    pictures.near[:, 5:] = 0
    assert pictures.off_topic(reached=5)[pictures.strange].mean() > 0.7
    assert not pictures.off_topic(reached=0).any()


def test_few_rows_are_not_enough():
    few = np.array([[0.125] * 8, [0.93] + [0.01] * 7] * 5)
    near = (np.arange(10)[:, None] + [1, 2]) % 10
    found = off_topic(few, np.arange(10) % 8, neighbor_rows=near, similarities=np.ones((10, 2)), share_wrong=0.0)
    assert not found.any()


def test_flatness_lies_between_sure_and_even():
    found = flatness(np.array([[1.0, 0, 0, 0], [0.25] * 4, [0.5, 0.5, 0, 0]]), np.full(4, 0.25))
    np.testing.assert_allclose(found, [0, 1, 0.5], atol=1e-4)


def test_what_is_usual_is_flat():
    usual = np.array([0.7, 0.1, 0.1, 0.1])
    found = flatness(np.array([usual, [0.25] * 4]), usual)
    assert found[0] == pytest.approx(1, abs=1e-4)
    assert found[1] < 0.95


@pytest.mark.parametrize(("contrast", "expected"), [(SCATTERED, 0), ((SCATTERED + TOGETHER) / 2, 0.5), (2.0, 1)])
def test_flat_rows_lie_together_where_their_neighbours_are_flatter_than_others(contrast: float, expected: float):
    """Thirty flat rows, thirty middling ones, and two of which one is the only neighbour of either kind."""
    flat = np.array([0.9] * 30 + [0.5] * 30 + [0.1 * contrast, 0.1])
    nearest = np.array([60] * 30 + [61] * 30 + [61, 60])
    near = np.stack([nearest] * NEAREST + [121 - nearest] * 50, axis=1)  # those that are farther away do not count
    surroundings = Surroundings(rows=near, found=np.ones(near.shape, dtype=bool))
    assert lie_together(flat, surroundings) == pytest.approx(expected, abs=1e-6)
