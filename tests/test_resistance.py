"""How many labels are right, by what a planted network learns of them."""

from __future__ import annotations

import numpy as np
import pytest

from labelclean.records import BoolArray, IntArray
from labelclean.tssd.resistance import HALF_BELIEVED, LEARNT, Resistance, find_resistance

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
    assert found.num_held_out == (~taught).sum()


def test_the_share_stays_between_none_and_all():
    labels = np.zeros(100, dtype=np.int64)
    taught = np.arange(100) >= 10
    predicted = np.where(taught, 0, 1)
    assert find_resistance(predicted, labels, taught=taught, held_out=~taught).share_right == 1
    assert find_resistance(np.ones(100, dtype=np.int64), labels, taught=taught, held_out=~taught).share_right == 0


def test_it_is_believed_by_how_many_labels_it_is_known_by():
    few, half, many = (Resistance(0.6, n).sway(0.7) for n in (10, HALF_BELIEVED, 10**9))
    assert 0.6 < half < few < 0.7
    assert few == pytest.approx(0.7, abs=0.005)
    assert half == pytest.approx(0.65, abs=0.005)
    assert many == pytest.approx(0.6)


def test_it_sways_no_further_than_it_may():
    odds = [share / (1 - share) for share in (Resistance(share, 10**9).sway(0.9) for share in (0.1, 0.999, 0.0, 1.0))]
    assert odds == pytest.approx([9 / np.e, 9 * np.e, 9 / np.e, 9 * np.e])
    assert 0 < Resistance(0.0, 10).sway(0.0) < Resistance(1.0, 10).sway(1.0) < 1
