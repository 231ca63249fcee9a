"""How many labels are right, by what a planted network learns of them."""

from __future__ import annotations

import numpy as np
import pytest

from labelclean.records import BoolArray, IntArray
from labelclean.tssd.resistance import HALF_BELIEVED, LEARNT, find_resistance

NUM_ROWS, NUM_CLASSES = 40_000, 10


def planted(share_wrong: float, accuracy: float) -> tuple[IntArray, IntArray, BoolArray]:
    """Predictions, labels and which were taught: of right labels that it would not guess the network learns some."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, NUM_CLASSES, NUM_ROWS)
    labels = np.where(rng.random(NUM_ROWS) < share_wrong, (truth + 1) % NUM_CLASSES, truth)
    taught = rng.random(NUM_ROWS) < 0.9
    guess = np.where(rng.random(NUM_ROWS) < accuracy, truth, (truth + 5) % NUM_CLASSES)
    learns = taught & (labels == truth) & (rng.random(NUM_ROWS) < LEARNT)
    return np.where(learns, labels, guess), labels, taught


@pytest.mark.parametrize("accuracy", [0.6, 0.95])
@pytest.mark.parametrize("share_wrong", [0.0, 0.2, 0.4])
def test_wrong_labels_are_told_from_ignorance(share_wrong: float, accuracy: float):
    predicted, labels, taught = planted(share_wrong, accuracy)
    found = find_resistance(predicted, labels, taught=taught, held_out=~taught)
    assert found.share_right == pytest.approx(1 - share_wrong, abs=0.03)


def test_the_share_stays_between_none_and_all():
    labels = np.zeros(100, dtype=np.int64)
    taught = np.arange(100) >= 10
    predicted = np.where(taught, 0, 1)
    assert find_resistance(predicted, labels, taught=taught, held_out=~taught).share_right == 1
    assert find_resistance(np.ones(100, dtype=np.int64), labels, taught=taught, held_out=~taught).share_right == 0


def test_it_is_believed_by_how_many_labels_it_is_known_by():
    labels = np.zeros(4 * HALF_BELIEVED, dtype=np.int64)
    for num_held_out, weight in ((1, 0.001), (HALF_BELIEVED, 0.5), (3 * HALF_BELIEVED, 0.75)):
        taught = np.arange(len(labels)) >= num_held_out
        found = find_resistance(labels, labels, taught=taught, held_out=~taught)
        assert found.weight == pytest.approx(weight, abs=1e-4)
