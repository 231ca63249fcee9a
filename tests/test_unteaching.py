"""What teaching does to scores, planted and taken off again."""

from __future__ import annotations

import numpy as np
import pytest

from labelclean.records import UNKNOWN, BoolArray, FloatArray, IntArray, View
from labelclean.tssd.numbers import softmax
from labelclean.tssd.streams import channel_streams
from labelclean.tssd.unteaching import match_margins, unteach
from tests.blobs import flipped_blobs


def margins_of(scores: FloatArray, labels: IntArray) -> FloatArray:
    rows = np.arange(len(labels))
    others = scores.copy()
    others[rows, labels] = -np.inf
    return np.asarray(scores[rows, labels] - others.max(axis=1))


def pulled_scores() -> tuple[FloatArray, FloatArray, IntArray, BoolArray]:
    """Scores as they would be, the same with taught labels raised by 3, labels, and which were taught."""
    rng = np.random.default_rng(0)
    honest, labels = rng.normal(0, 2, (4000, 4)), rng.integers(0, 4, 4000)
    taught = rng.random(4000) < 0.8
    pulled = honest.copy()
    pulled[taught, labels[taught]] += 3
    return honest, pulled, labels, taught


def test_matched_margins_are_those_that_were_not_taught():
    honest, pulled, labels, taught = pulled_scores()
    matched = match_margins(pulled, labels, taught=taught, held_out=~taught)
    true, found = (margins_of(scores, labels)[taught] for scores in (honest, matched))
    assert np.abs(margins_of(pulled, labels)[taught] - true).min() == pytest.approx(3)
    # as near as 800 rows know the distribution
    np.testing.assert_allclose(np.quantile(found, [0.1, 0.5, 0.9]), np.quantile(true, [0.1, 0.5, 0.9]), atol=0.35)
    assert np.corrcoef(found, true)[0, 1] > 0.99
    assert (np.argsort(found) == np.argsort(margins_of(pulled, labels)[taught])).all()


def test_only_taught_labels_change():
    _, pulled, labels, taught = pulled_scores()
    matched = match_margins(pulled, labels, taught=taught, held_out=~taught)
    np.testing.assert_array_equal(matched[~taught], pulled[~taught])
    other = np.arange(4) != labels[:, None]
    np.testing.assert_array_equal(matched[other], pulled[other])


def test_the_channel_finds_noise_again_that_teaching_had_hidden():
    view, labels, wrong, _ = flipped_blobs()
    taught = np.arange(len(labels)) % 3 > 0
    tables = []
    for table in (np.log(view.probs + 1e-8), np.log(view.votes + 1e-8), view.affinity):
        pulled = table.copy()
        pulled[taught, labels[taught]] += 6 * table.std()
        tables.append(pulled)
    hidden = View(probs=softmax(tables[0]), votes=softmax(tables[1]), affinity=tables[2], agreement=view.agreement)
    shown = unteach(hidden, labels, taught=taught, held_out=~taught)
    nobody = np.full(len(labels), UNKNOWN)
    before, after = (
        channel_streams([seen], labels, golden=nobody, rng=np.random.default_rng(0)) for seen in (hidden, shown)
    )
    for name in ("p_loss", "p_feature"):
        rates = [1 - getattr(streams, name)[taught].mean() for streams in (before, after)]
        assert rates[0] < 0.4 * wrong[taught].mean()
        assert rates[1] == pytest.approx(wrong[~taught].mean(), abs=0.04)  # all that they can tell
    np.testing.assert_array_equal(shown.agreement, view.agreement)
