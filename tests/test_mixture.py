"""The Gaussian mixture: two groups are told apart, and where there is one group it says so."""

from __future__ import annotations

import numpy as np
import pytest

from labelclean.tssd import mixture
from labelclean.tssd.mixture import clean_posterior


def test_two_groups_are_separated_whatever_their_scale():
    rng = np.random.default_rng(0)
    wrong = np.arange(600) < 150
    scores = 1000 + 50 * np.where(wrong, rng.normal(-3, 0.5, 600), rng.normal(0, 0.5, 600))
    fit = clean_posterior(scores, np.zeros(600, int), np.zeros(600, bool), rng=rng)
    assert fit.guards == ()
    assert ((fit.posterior < 0.5) == wrong).mean() > 0.99


def test_one_group_falls_back_to_agreement():
    rng = np.random.default_rng(0)
    agreement = rng.random(400) < 0.9
    fit = clean_posterior(rng.normal(size=400), np.zeros(400, int), agreement, rng=rng)
    np.testing.assert_array_equal(fit.posterior, agreement)
    assert len(fit.guards) == 1
    assert "agreement" in fit.guards[0]


def test_equal_scores_are_trusted():
    fit = clean_posterior(np.full(5, 0.3), np.zeros(5, int), np.zeros(5, bool), rng=np.random.default_rng(0))
    np.testing.assert_array_equal(fit.posterior, 1)
    assert fit.guards == ("all scores are equal: every label is trusted",)


def test_classes_are_fitted_apart_only_when_all_are_large_enough(monkeypatch: pytest.MonkeyPatch):
    """Class 1 lies lower as a whole: a pooled mixture takes the class for the wrong rows, its own does not."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 200)
    wrong = np.arange(400) % 10 == 0
    scores = -4.0 * labels + np.where(wrong, -1.5, 0) + rng.normal(0, 0.1, 400)
    own = clean_posterior(scores, labels, ~wrong, rng=rng)
    assert ((own.posterior < 0.5) == wrong).all()
    monkeypatch.setattr(mixture, "MIN_CLASS_ROWS", 201)
    pooled = clean_posterior(scores, labels, ~wrong, rng=rng)
    assert (pooled.posterior[labels == 1] < 0.5).all()


def test_tiny_class_shares_the_mixture_of_all():
    rng = np.random.default_rng(0)
    labels = np.array([0] * 300 + [2] * 3)
    scores = rng.normal(0, 0.1, 303)
    scores[[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 300]] -= 2
    fit = clean_posterior(scores, labels, np.ones(303, bool), rng=rng)
    np.testing.assert_array_equal(fit.posterior[300:] < 0.5, [True, False, False])


def test_sample_is_fitted_and_all_rows_are_judged():
    rng = np.random.default_rng(0)
    wrong = rng.random(5000) < 0.3
    scores = np.where(wrong, -2.0, 2.0) + rng.normal(0, 0.5, 5000)
    fit = clean_posterior(scores, np.zeros(5000, int), ~wrong, max_rows=200, rng=rng)
    assert ((fit.posterior < 0.5) == wrong).mean() > 0.99
