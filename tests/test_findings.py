"""From posteriors to what the verdict file says: suggestions and margins."""

from __future__ import annotations

import numpy as np

from labelclean.train.findings import margins, suggest


def test_suggestion_shares_what_the_label_leaves():
    prior = np.array([[0.2, 0.5, 0.3], [0.2, 0.5, 0.3], [0.6, 0.1, 0.3]])
    kept = np.zeros(3, dtype=bool)
    best, p = suggest(prior, np.array([0.9, 0.1, 0.3]), np.array([0, 0, 0]), rejected=kept)
    assert best.tolist() == [0, 1, 2]
    np.testing.assert_allclose(p, [0.9, 0.9 * 5 / 8, 0.7 * 3 / 4], rtol=1e-5)
    assert prior[0].tolist() == [0.2, 0.5, 0.3]


def test_suggestion_for_a_rejected_label_is_another_class():
    prior = np.array([[1.0, 0.0, 0.0], [0.2, 0.5, 0.3], [0.2, 0.5, 0.3]])
    labels, rejected = np.array([0, 0, 0]), np.array([True, True, False])
    best, p = suggest(prior, np.array([0.0, 0.4, 0.4]), labels, rejected=rejected)
    assert best[0] != 0  # although the prediction has nothing but the label
    assert best[1:].tolist() == [1, 0]
    np.testing.assert_allclose(p, [0.5, 0.6 * 5 / 8, 0.4], rtol=1e-5)


def test_margin_is_the_log_odds_against_the_best_other():
    prior = np.array([[0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [1.0, 0.0, 0.0]])
    found = margins(prior, np.array([0, 2, 0]))
    np.testing.assert_allclose(found[:2], [np.log(2), np.log(1 / 8)], rtol=1e-4)
    assert 10 < found[2] < 20
