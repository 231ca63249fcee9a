"""From posteriors to what the verdict file says: suggestions, margins, and the noise rate with its interval."""

from __future__ import annotations

import numpy as np
import pytest

from labelclean.results.golden import draw_systematically, inclusion_chances, uncertainty
from labelclean.train.findings import estimate_noise, margins, noise_by_golden, suggest


def test_suggestion_shares_what_the_label_leaves():
    prior = np.array([[0.2, 0.5, 0.3], [0.2, 0.5, 0.3], [0.6, 0.1, 0.3]])
    best, p = suggest(prior, np.array([0.9, 0.1, 0.3]), np.array([0, 0, 0]))
    assert best.tolist() == [0, 1, 2]
    np.testing.assert_allclose(p, [0.9, 0.9 * 5 / 8, 0.7 * 3 / 4])
    assert prior[0].tolist() == [0.2, 0.5, 0.3]


def test_suggestion_of_a_certain_wrong_label_is_another_class():
    prior = np.array([[1.0, 0.0], [1.0, 0.0]])  # the prediction has nothing but the label
    best, p = suggest(prior, np.array([0.0, 1.0]), np.array([0, 0]))
    assert best[1] == 0
    assert p[1] == 1
    assert np.isfinite(p).all()


def test_margin_is_the_log_odds_against_the_best_other():
    prior = np.array([[0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [1.0, 0.0, 0.0]])
    found = margins(prior, np.array([0, 2, 0]))
    np.testing.assert_allclose(found[:2], [np.log(2), np.log(1 / 8)], rtol=1e-4)
    assert 10 < found[2] < 20


def test_noise_rate_is_the_last_estimate_and_lies_in_its_interval():
    rng = np.random.default_rng(0)
    estimates = [np.clip(rng.normal(mean, 0.05, 1000), 0, 1) for mean in (0.7, 0.75, 0.8)]
    rate, (low, high) = estimate_noise(estimates)
    assert rate == pytest.approx(1 - estimates[-1].mean())
    assert low < rate < high
    _, (narrow_low, narrow_high) = estimate_noise([estimates[-1]] * 3)
    assert narrow_high - narrow_low < (high - low) / 2


def test_interval_of_one_estimate_is_that_of_independent_draws():
    rate, (low, high) = estimate_noise([np.full(400, 0.9)])
    reach = 1.96 * np.sqrt(0.09 / 400)
    assert (rate, low, high) == pytest.approx((0.1, 0.1 - reach, 0.1 + reach))


def test_interval_stays_within_0_and_1():
    rate, (low, high) = estimate_noise([np.full(10, 0.2), np.full(10, 0.99)])
    assert rate == pytest.approx(0.01)
    assert (low, high) == (0.0, 1.0)
    assert estimate_noise([np.ones(5)]) == (0.0, (0.0, 0.0))


def test_golden_rows_correct_the_noise_rate_and_the_interval_covers_it():
    """p_clean sees half of the noise; uncertain rows are golden more often than others."""
    covered, rates, widths = [], [], []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        p_right = rng.beta(3, 0.6, 1500)
        is_wrong = rng.random(1500) > p_right
        p_clean = 1 - (1 - p_right) / 2
        chances = inclusion_chances(uncertainty(p_clean), 150)
        rows = draw_systematically(chances, rng)
        known = np.isin(np.arange(1500), rows)
        rate, (low, high) = noise_by_golden(p_clean, known, is_wrong[rows], chances[rows])
        covered.append(low <= is_wrong.mean() <= high)
        rates.append(rate - is_wrong.mean())
        widths.append(high - low)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.04)
    assert np.mean(rates) == pytest.approx(0, abs=0.005)
    assert np.mean(widths) < 0.12


def test_golden_rows_without_chances_count_as_a_random_choice():
    known = np.arange(400) % 4 == 0
    is_wrong = np.arange(100) < 30
    rate, (low, high) = noise_by_golden(np.full(400, 0.9), known, is_wrong, np.full(100, np.nan))
    reach = 1.96 * np.sqrt(np.var(is_wrong, ddof=1) / 100)
    assert (rate, low, high) == pytest.approx((0.3, 0.3 - reach, 0.3 + reach))
