"""What becomes of the log-odds in the end: doubts softened, rare classes excused, golden rows that calibrate."""

from __future__ import annotations

import numpy as np
import pytest

from labelclean.records import REFUTED, UNKNOWN, BoolArray, FloatArray, IntArray
from labelclean.tssd.level import Opinion
from labelclean.tssd.numbers import log_odds, sigmoid
from labelclean.tssd.verdict_odds import (
    DOUBT_WEIGHT,
    SHIFT_SPREAD,
    calibrate,
    excuse_the_rare,
    let_compete,
    settle_odds,
    soften,
)


def calibration_error(p: FloatArray, right: BoolArray) -> float:
    bins = np.clip((p * 10).astype(int), 0, 9)
    return float(sum(abs(p[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)))


def test_golden_rows_calibrate_a_p_clean_that_is_too_high():
    chance = np.random.default_rng(3)
    true_p = chance.uniform(0.02, 0.98, 3000)
    right = chance.random(3000) < true_p
    too_high = sigmoid(log_odds(true_p) + 1)
    labels = np.zeros(3000, dtype=int)
    truth = np.where(right, 0, 1)
    is_golden = np.arange(3000) < 500
    golden = np.where(is_golden, truth, UNKNOWN)
    calibrated = calibrate(too_high, labels, golden)
    rest = ~is_golden
    before, after = (calibration_error(p[rest], right[rest]) for p in (too_high, calibrated))
    assert before > 0.15
    assert after < before / 3
    ranked = calibrated[np.argsort(too_high, kind="stable")]
    assert (np.diff(ranked) > -1e-12).all()
    assert len(np.unique(calibrated)) == len(np.unique(too_high))
    assert ((calibrated >= 0) & (calibrated <= 1)).all()


def test_golden_rows_that_are_judged_surely_make_the_others_no_surer():
    """What golden rows teach comes back to them: they say how many labels are right, and not how sure others are."""
    odds = np.concatenate([[-6.0] * 50 + [6.0] * 50, np.linspace(-4, 4, 900)])
    labels = np.zeros(1000, dtype=int)
    golden = np.where(np.arange(1000) < 100, (odds < 0).astype(int), UNKNOWN)
    np.testing.assert_allclose(log_odds(calibrate(sigmoid(odds), labels, golden)), odds, atol=0.02)


ODDS = np.array([-4.0, -3.0, -0.4, 0.0, 0.3, 3.0, 9.0])


@pytest.mark.parametrize(("borne_out", "weight"), [(0.6, 0.6), (0.25, 0.25), (0.01, 0.25), (1.0, 1.0), (3.0, 1.0)])
def test_doubts_are_softened_to_what_the_feature_stream_bears_out(borne_out: float, weight: float):
    """By a slope within bounds; what speaks for a label, order and one half stay."""
    softened = soften(ODDS, sigmoid(borne_out * ODDS))
    np.testing.assert_allclose(softened[:3], DOUBT_WEIGHT * weight * ODDS[:3], rtol=1e-3)
    np.testing.assert_array_equal(softened[3:], ODDS[3:])


def test_softening_looks_at_doubts_alone():
    p_feature = sigmoid(0.6 * ODDS)
    elsewhere = np.where(ODDS < 0, p_feature, 0.5)
    np.testing.assert_array_equal(soften(ODDS, elsewhere), soften(ODDS, p_feature))
    np.testing.assert_array_equal(soften(ODDS[3:], p_feature[3:]), ODDS[3:])


def test_opinions_shift_what_softening_left_one_after_the_other():
    rng = np.random.default_rng(0)
    odds, p_feature = rng.normal(0, 3, 400), rng.random(400)
    first, second = Opinion(share_right=0.8, weight=0.7), Opinion(share_right=0.7, weight=0.2)

    def settled(*opinions: Opinion) -> FloatArray:
        return settle_odds(
            odds,
            p_feature=p_feature,
            prior=rng.dirichlet(np.ones(3), 400),
            labels=np.arange(400) % 3,
            support=np.full(400, 9),
            level_settled=True,
            opinions=opinions,
        )

    softened = soften(odds, p_feature)
    np.testing.assert_allclose(settled(), softened)
    moved = settled(first, second)
    assert np.ptp(moved - softened) == pytest.approx(0, abs=1e-9)
    assert sigmoid(moved).mean() == pytest.approx(second.sway(first.sway(float(sigmoid(softened).mean()))))
    assert sigmoid(moved).mean() > sigmoid(softened).mean() + 0.1


def test_doubts_count_as_much_as_there_are_rows_to_resemble():
    odds = np.full(5, -3.0)
    support = np.array([0, 1, 2, 3, 90])
    rest = np.full(95, 3.0)
    excused = excuse_the_rare(np.concatenate([odds, rest]), np.concatenate([support, np.zeros(95, dtype=int)]))
    usual = log_odds(sigmoid(np.concatenate([odds, rest])).mean())
    np.testing.assert_allclose(excused[:5], [usual, usual - (usual + 3) / 3, usual - 2 * (usual + 3) / 3, -3, -3])
    np.testing.assert_array_equal(excused[5:], rest)


def test_without_golden_rows_p_clean_stays_as_it_is():
    p_clean = np.linspace(0.001, 0.999, 500)
    calibrated = calibrate(p_clean, np.zeros(500, dtype=int), np.full(500, UNKNOWN))
    np.testing.assert_allclose(calibrated, p_clean, rtol=1e-6)


def test_a_few_golden_rows_change_p_clean_a_little_and_many_a_lot():
    """All golden labels are right where one half was expected to be."""
    p_clean = np.full(1000, 0.5)
    shifts = [calibrate(p_clean, np.zeros(1000, dtype=int), few_golden(count))[0] for count in (2, 20, 500)]
    assert 0.5 < shifts[0] < 0.55 < shifts[1] < 0.8 < shifts[2] < 1


def test_labels_of_one_picture_compete():
    """Row 0 is alone; rows 1 and 2 show a picture under two labels, rows 3 to 5 one under two, of which one twice."""
    p_clean = np.array([0.8, 0.9, 0.8, 0.5, 0.9, 0.9])
    pictures = np.array([UNKNOWN, 0, 0, 1, 1, 1])
    nothing = np.full(6, UNKNOWN)
    found = let_compete(p_clean, np.array([0, 0, 1, 2, 1, 1]), pictures, nothing)
    np.testing.assert_allclose(found, [0.8, 9 / 14, 4 / 14, 1 / 11, 9 / 11, 9 / 11])
    odds = np.array([12.0, 6.0, 0.0, 12.0])  # of sure labels that contradict each other, brought down to 4 and 2
    sure = let_compete(sigmoid(odds), np.array([0, 1, 0, 2]), np.array([0, 0, 1, 2]), nothing[:4])
    whole = 1 + np.exp(4) + np.exp(2)
    np.testing.assert_allclose(sure, [np.exp(4) / whole, np.exp(2) / whole, 0.5, sigmoid(odds)[3]], rtol=1e-4)
    agreeing = let_compete(np.array([0.8, 0.9, 0.5]), np.array([0, 1, 1]), np.array([UNKNOWN, 0, 0]), nothing[:3])
    np.testing.assert_allclose(agreeing, [0.8, 0.75, 0.75])  # the root of 9 stands against 1
    assert let_compete(p_clean, np.zeros(6, dtype=int), nothing, nothing) is p_clean


def test_a_golden_label_decides_about_all_rows_of_its_picture():
    labels, pictures = np.array([0, 1, 0, 0, 0, 0]), np.array([0, 0, 1, 1, 2, 2])
    golden = np.array([1, UNKNOWN, 2, UNKNOWN, UNKNOWN, UNKNOWN])
    found = let_compete(np.full(6, 0.5), labels, pictures, golden)
    np.testing.assert_allclose(found, [0, 1, 0, 0, 0.5, 0.5], atol=1e-8)


def test_a_golden_label_that_only_refutes_decides_about_that_label_of_its_picture():
    labels, pictures = np.array([0, 0, 1, 1]), np.array([0, 0, 0, UNKNOWN])
    golden = np.array([REFUTED, UNKNOWN, UNKNOWN, UNKNOWN])
    found = let_compete(np.array([0.9, 0.9, 0.8, 0.8]), labels, pictures, golden)
    np.testing.assert_allclose(found[:2], 0, atol=1e-6)
    assert found[2] > 0.5  # nothing stands against it any more
    assert found[3] == 0.8


def test_golden_rows_that_contradict_the_level_outright_have_their_way():
    """Of 200 golden labels 60 are wrong, where two in a hundred were expected to be."""
    golden = np.where(np.arange(1000) < 60, 1, few_golden(200))
    p_clean = calibrate(np.full(1000, 0.98), np.zeros(1000, dtype=int), golden)
    np.testing.assert_allclose(1 - p_clean, 0.3 - 1 / SHIFT_SPREAD / 200, atol=1e-3)  # each row pulls by what it is off
    gently = calibrate(
        np.full(1000, 0.98), np.zeros(1000, dtype=int), np.where(np.arange(1000) < 5, 1, few_golden(200))
    )
    assert -SHIFT_SPREAD < log_odds(gently)[0] - log_odds(np.array([0.98]))[0] < 0


def few_golden(count: int) -> IntArray:
    return np.where(np.arange(1000) < count, 0, UNKNOWN)


def test_log_odds_and_sigmoid_undo_each_other_and_stay_finite():
    p = np.array([0.0, 1e-4, 0.3, 0.5, 0.999, 1.0])
    assert np.isfinite(log_odds(p)).all()
    np.testing.assert_allclose(sigmoid(log_odds(p)), np.clip(p, 1e-5, 1 - 1e-5))
