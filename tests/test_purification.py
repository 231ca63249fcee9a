"""Meta purification: what it mines, what it may see, and the calibration on golden rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from labelclean.records import UNKNOWN, Bin, BoolArray, Division, FloatArray, IntArray, View
from labelclean.tssd import purification
from labelclean.tssd.channel import NoiseChannel
from labelclean.tssd.division import divide
from labelclean.tssd.numbers import log_odds, sigmoid
from labelclean.tssd.purification import (
    DOUBT_WEIGHT,
    GOLDEN_WEIGHT,
    META_SHARE,
    MIN_PAIRS,
    MIN_SHARE,
    Evidence,
    calibrate,
    draw_wrong,
    excuse_the_rare,
    gather_evidence,
    pool_odds,
    purify,
    settle_share,
    soften,
    training_pairs,
)
from labelclean.tssd.streams import Consensus, channel_streams, reach_consensus
from tests.blobs import flipped_blobs

NONE_GOLDEN = np.full(450, UNKNOWN)
FOLDS = np.arange(450) // 3 % 5


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def judged_blobs() -> tuple[Evidence, Consensus, Division, IntArray, BoolArray, IntArray]:
    """Evidence, consensus, a division with many uncertain rows, labels, which are wrong, and the truth."""
    view, labels, wrong, truth = flipped_blobs()
    streams = channel_streams([view], labels, golden=NONE_GOLDEN, rng=rng())
    division = divide(streams.p_loss, streams.p_feature, labels, trust=0.97, distrust=0.03)
    consensus = reach_consensus([view], labels, golden=NONE_GOLDEN, rng=rng())
    return gather_evidence([view], consensus), consensus, division, labels, wrong, truth


def consensus_of(prior: FloatArray, transition: FloatArray, *, resemblance: float = 0.0) -> Consensus:
    bias = np.zeros(len(transition))
    channel = NoiseChannel(transition=transition, weights=np.ones(1), bias=bias, resemblance=resemblance)
    return Consensus(channel=channel, prior=prior, p_clean=np.full(len(prior), 0.6))


def test_right_uncertain_rows_are_accepted_and_wrong_ones_declined():
    evidence, consensus, division, labels, wrong, _ = judged_blobs()
    purified = purify(evidence, consensus, division, labels, golden=NONE_GOLDEN, fold=FOLDS, rng=rng())
    uncertain = division.uncertain
    assert uncertain.sum() > 40
    assert wrong[uncertain].sum() > 10
    assert not purified.accepted[~uncertain].any()
    assert roc_auc_score(~wrong[uncertain], purified.p_meta[uncertain]) > 0.9
    assert (purified.accepted == ~wrong)[uncertain].mean() > 0.8
    assert wrong[purified.accepted].mean() < 0.5 * wrong[uncertain].mean()
    assert purified.guards == ()
    np.testing.assert_array_equal(purified.accepted, uncertain & (purified.p_meta > 0.5))


def test_wrong_pairs_go_where_each_image_looks_like_it():
    looks = np.array([[0.6, 0.399, 0.001], [0.6, 0.001, 0.399]])
    even = np.full((3, 3), 0.1) + 0.7 * np.eye(3)
    division = Division(bins=np.full(200, Bin.CERTAIN_POSITIVE))
    labels, golden = np.zeros(200, dtype=int), np.full(200, UNKNOWN)
    consensus = consensus_of(looks.repeat(100, axis=0), even, resemblance=1.0)
    _, (rows, drawn) = training_pairs(consensus, division, labels, golden=golden, rng=rng())
    assert rows.tolist() == list(range(200))
    assert (drawn[:100] == 1).mean() > 0.95
    assert (drawn[100:] == 2).mean() > 0.95


def test_no_row_is_judged_by_a_classifier_that_saw_it(monkeypatch: pytest.MonkeyPatch):
    evidence, consensus, division, labels, _, truth = judged_blobs()
    # the first column of the evidence becomes the row's number
    numbered = Evidence(tables=evidence.tables, clean_odds=np.arange(450.0)[:, None].repeat(3, axis=1))
    seen: list[tuple[set[int], set[int]]] = []

    def record(right: FloatArray, wrong: FloatArray, weights: list[FloatArray], judged: FloatArray) -> FloatArray:
        seen.append((set(right[:, 0].astype(int)) | set(wrong[:, 0].astype(int)), set(judged[:, 0].astype(int))))
        assert [len(w) for w in weights] == [len(right), len(wrong)]
        return np.zeros(len(judged))

    monkeypatch.setattr(purification, "_likelihood_ratio", record)
    golden = np.where(np.arange(450) < 60, truth, UNKNOWN)
    purify(numbered, consensus, division, labels, golden=golden, fold=FOLDS, rng=rng())
    assert set().union(*(judged for _, judged in seen)) == set(range(450))
    trusted = set(np.flatnonzero(~division.uncertain | (golden != UNKNOWN)).tolist())
    for taught, judged in seen:
        assert len({FOLDS[row] for row in judged}) == 1
        assert taught == trusted - judged


def test_pairs_of_golden_rows_count_more(monkeypatch: pytest.MonkeyPatch):
    evidence, consensus, division, labels, _, truth = judged_blobs()
    golden = np.where(np.arange(450) < 60, truth, UNKNOWN)
    seen: list[FloatArray] = []

    def record(right: FloatArray, wrong: FloatArray, weights: list[FloatArray], judged: FloatArray) -> FloatArray:
        seen.extend(weights)
        return np.zeros(len(judged))

    monkeypatch.setattr(purification, "_likelihood_ratio", record)
    purify(evidence, consensus, division, labels, golden=golden, fold=FOLDS, rng=rng())
    of_golden = sum((weights == GOLDEN_WEIGHT).sum() for weights in seen)
    others = sum((weights == 1).sum() for weights in seen)
    assert GOLDEN_WEIGHT > 1
    # in four folds of five: one right and one wrong pair of each, one more of each contradicted label
    assert of_golden == 4 * (120 + (truth != labels)[:60].sum())
    assert of_golden + others == sum(map(len, seen))
    assert others > 400


def test_prior_odds_are_the_channels_for_all_labels_alike(monkeypatch: pytest.MonkeyPatch):
    """With evidence that says nothing the classifier believes all labels alike; single ones only the channel doubts."""
    monkeypatch.setattr(purification, "_likelihood_ratio", lambda right, wrong, weights, judged: np.zeros(len(judged)))
    labels = np.arange(60) % 2
    prior = np.full((60, 2), 0.5)
    by_channel = np.where(labels == 0, 0.9, 0.5)
    consensus = replace(consensus_of(prior, np.eye(2)), p_clean=by_channel)
    view = View(probs=prior, votes=prior, affinity=prior, agreement=np.full(60, 0.5))
    bins = np.array([Bin.CERTAIN_POSITIVE] * 30 + [Bin.CERTAIN_NEGATIVE] * 20 + [Bin.UNCERTAIN] * 10)
    purified = purify(
        gather_evidence([view], consensus),
        consensus,
        Division(bins=bins),
        labels,
        golden=np.full(60, UNKNOWN),
        fold=np.arange(60) // 2 % 3,
        rng=rng(),
    )
    # the mean of .9 and .5
    by_meta = np.full(60, np.log(0.7 / 0.3))
    np.testing.assert_allclose(purified.p_meta, sigmoid(pool_odds(by_meta, log_odds(by_channel), share_right=0.7)))
    assert purified.p_meta[0] > purified.p_meta[1]
    assert purified.p_meta.mean() == pytest.approx(0.7)


@pytest.mark.parametrize("share", [0.05, 0.6, 0.9])
def test_the_share_of_right_labels_settles_where_the_ratios_say(share: float):
    """Log-likelihood ratios of two normal distributions; it does not matter where one begins."""
    chance = np.random.default_rng(0)
    is_right = chance.random(20_000) < share
    ratio = chance.normal(np.where(is_right, 2, -2), 2)  # of N(2, 4) against N(-2, 4)
    for start in (0.5, 1.0):
        assert settle_share(ratio, start=start) == pytest.approx(is_right.mean(), abs=0.01)
    assert settle_share(np.full(10, 5.0), start=0.5) == pytest.approx(1 - MIN_SHARE)


def test_an_overconfident_classifier_is_shrunk_and_the_level_is_as_told():
    """The channel is right about single rows but trusts too many; the classifier's odds are four times too strong."""
    true_p = np.random.default_rng(0).beta(2, 1, 4000)
    by_meta, by_channel = 4 * log_odds(true_p), log_odds(true_p) + 1
    pooled = sigmoid(pool_odds(by_meta, by_channel, share_right=float(true_p.mean())))
    assert pooled.mean() == pytest.approx(true_p.mean())
    # slope 1/4 brings the odds back
    assert np.abs(pooled - true_p).mean() < 0.02 < 0.15 < np.abs(sigmoid(by_meta) - true_p).mean()
    assert (np.diff(pooled[np.argsort(true_p)]) >= 0).all()


def test_a_classifier_is_never_made_surer_than_it_is():
    odds = np.linspace(-1, 1, 500)
    as_they_are = META_SHARE * odds + (1 - META_SHARE) * 5 * odds
    pooled = pool_odds(odds, 5 * odds, share_right=float(sigmoid(as_they_are).mean()))
    np.testing.assert_allclose(pooled, as_they_are, atol=1e-6)


@pytest.mark.parametrize("odds", [-50.0, 0.0, 50.0])
def test_pooling_stays_finite_where_all_rows_are_alike(odds: float):
    assert np.isfinite(pool_odds(np.full(20, odds), np.full(20, 11.5), share_right=0.9)).all()


def test_a_level_that_the_channel_underestimates_is_settled():
    """The ratios of planted evidence say how many labels are wrong, whatever the channel believed at first."""
    evidence, consensus, division, labels, wrong, _ = judged_blobs()
    kind = replace(consensus, p_clean=sigmoid(log_odds(consensus.p_clean) + 5))
    expected = [
        1 - purify(evidence, found, division, labels, golden=NONE_GOLDEN, fold=FOLDS, rng=rng()).p_meta.mean()
        for found in (consensus, kind)
    ]
    assert kind.p_clean.mean() > consensus.p_clean.mean() + 0.03
    assert expected[1] == pytest.approx(expected[0], abs=0.01)
    assert expected[0] == pytest.approx(wrong.mean(), abs=0.08)


def test_too_few_certain_rows_leave_the_judgement_to_the_consensus():
    evidence, consensus, _, labels, _, _ = judged_blobs()
    bins = np.full(450, int(Bin.UNCERTAIN))
    bins[: MIN_PAIRS - 1] = Bin.CERTAIN_POSITIVE
    purified = purify(evidence, consensus, Division(bins=bins), labels, golden=NONE_GOLDEN, fold=FOLDS, rng=rng())
    assert "too few certain rows" in purified.guards[0]
    np.testing.assert_allclose(purified.p_meta, consensus.p_clean, atol=5e-5)


def test_pairs_of_certain_and_golden_rows():
    """Rows: two certain positives, a certain negative, an uncertain one, and two golden ones."""
    labels = np.array([0, 1, 2, 0, 1, 2])
    golden = np.array([UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, 1, 0])
    bins = np.array(
        [Bin.CERTAIN_POSITIVE, Bin.CERTAIN_POSITIVE, Bin.CERTAIN_NEGATIVE, Bin.UNCERTAIN] + [Bin.UNCERTAIN] * 2
    )
    prior = np.full((6, 3), 1 / 3)
    prior[4], prior[5] = [0.1, 0.6, 0.3], [0.5, 0.3, 0.2]
    transition = np.array([[0.9, 0.1, 0], [0, 0.9, 0.1], [0.1, 0, 0.9]])
    right, wrong = training_pairs(
        consensus_of(prior, transition), Division(bins=bins), labels, golden=golden, rng=np.random.default_rng(1)
    )
    assert list(zip(*right, strict=True)) == [(0, 0), (1, 1), (4, 1), (5, 0)]
    # confused labels of the positives, the negative's label, the contradicted one, the likeliest others of golden rows
    assert list(zip(*wrong, strict=True)) == [(0, 1), (1, 2), (2, 2), (5, 2), (4, 2), (5, 1)]


def test_golden_row_among_the_certain_ones_is_taught_by_its_golden_label_alone():
    labels, golden = np.array([0, 0]), np.array([1, UNKNOWN])
    consensus = consensus_of(np.array([[0.9, 0.1], [0.9, 0.1]]), np.array([[0.9, 0.1], [0.1, 0.9]]))
    division = Division(bins=np.array([Bin.CERTAIN_POSITIVE, Bin.CERTAIN_POSITIVE]))
    right, wrong = training_pairs(consensus, division, labels, golden=golden, rng=rng())
    assert list(zip(*right, strict=True)) == [(1, 0), (0, 1)]
    assert (0, 0) in zip(*wrong, strict=True)


def test_drawn_wrong_labels_follow_the_channel():
    transition = np.array([[0.7, 0.2, 0.1], [0.0, 1.0, 0.0], [0.0, 0.3, 0.7]])
    labels = np.arange(30_000) % 3
    drawn = draw_wrong(transition[labels], labels, rng())
    assert (drawn != labels).all()
    assert (drawn[labels == 0] == 1).mean() == pytest.approx(2 / 3, abs=0.02)
    assert (drawn[labels == 1] == 0).mean() == pytest.approx(1 / 2, abs=0.02)
    assert (drawn[labels == 2] == 1).mean() > 0.99


def test_evidence_of_a_pair_by_hand():
    table = np.array([[3.0, 1.0, 2.0]])
    evidence = Evidence(tables=(table,), clean_odds=np.array([[0.1, 0.2, 0.3]]))
    rows = np.zeros(3, dtype=int)
    # odds; score, margin and rank in the table
    expected = [[0.1, 3, 1, 0], [0.2, 1, -2, 2], [0.3, 2, -1, 1]]
    np.testing.assert_allclose(evidence.of((rows, np.arange(3))), expected)
    np.testing.assert_array_equal(table, [[3, 1, 2]])


def calibration_error(p: FloatArray, right: BoolArray) -> float:
    bins = np.clip((p * 10).astype(int), 0, 9)
    return float(sum(abs(p[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)))


def test_golden_rows_calibrate_an_overconfident_p_clean():
    chance = np.random.default_rng(3)
    true_p = chance.uniform(0.02, 0.98, 3000)
    right = chance.random(3000) < true_p
    overconfident = sigmoid(4 * log_odds(true_p))
    labels = np.zeros(3000, dtype=int)
    truth = np.where(right, 0, 1)
    is_golden = np.arange(3000) < 500
    golden = np.where(is_golden, truth, UNKNOWN)
    calibrated = calibrate(overconfident, labels, golden)
    rest = ~is_golden
    before, after = (calibration_error(p[rest], right[rest]) for p in (overconfident, calibrated))
    assert before > 0.15
    assert after < before / 3
    ranked = calibrated[np.argsort(overconfident, kind="stable")]
    assert (np.diff(ranked) > -1e-12).all()
    assert len(np.unique(calibrated)) == len(np.unique(overconfident))
    assert ((calibrated >= 0) & (calibrated <= 1)).all()


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
    assert 0.5 < shifts[0] < 0.8 < shifts[1] < 0.97 < shifts[2] < 1


def few_golden(count: int) -> IntArray:
    return np.where(np.arange(1000) < count, 0, UNKNOWN)


def test_log_odds_and_sigmoid_undo_each_other_and_stay_finite():
    p = np.array([0.0, 1e-4, 0.3, 0.5, 0.999, 1.0])
    assert np.isfinite(log_odds(p)).all()
    np.testing.assert_allclose(sigmoid(log_odds(p)), np.clip(p, 1e-5, 1 - 1e-5))
