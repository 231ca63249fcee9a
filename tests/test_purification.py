"""Meta purification: what it mines, and what it may see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from labelclean.records import REFUTED, UNKNOWN, Bin, BoolArray, Division, FloatArray, IntArray, View
from labelclean.tssd import purification
from labelclean.tssd.channel import NoiseChannel
from labelclean.tssd.division import divide
from labelclean.tssd.numbers import MAX_ODDS, log_odds, sigmoid
from labelclean.tssd.purification import (
    META_SHARE,
    MIN_PAIRS,
    MIN_SHARE,
    Evidence,
    draw_wrong,
    gather_evidence,
    pool_odds,
    purify,
    settle_share,
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

    def record(right: FloatArray, wrong: FloatArray, judged: FloatArray) -> FloatArray:
        seen.append((set(right[:, 0].astype(int)) | set(wrong[:, 0].astype(int)), set(judged[:, 0].astype(int))))
        return np.zeros(len(judged))

    monkeypatch.setattr(purification, "_likelihood_ratio", record)
    golden = np.where(np.arange(450) < 60, truth, UNKNOWN)
    purify(numbered, consensus, division, labels, golden=golden, fold=FOLDS, rng=rng())
    assert set().union(*(judged for _, judged in seen)) == set(range(450))
    trusted = set(np.flatnonzero(~division.uncertain | (golden != UNKNOWN)).tolist())
    for taught, judged in seen:
        assert len({FOLDS[row] for row in judged}) == 1
        assert taught == trusted - judged


def test_golden_rows_teach_by_a_right_and_a_wrong_label_each_and_by_what_they_contradict():
    _, consensus, division, labels, _, truth = judged_blobs()
    golden = np.where(np.arange(450) < 60, truth, UNKNOWN)
    right, wrong = training_pairs(consensus, division, labels, golden=golden, rng=rng())
    of_golden = [[label[rows == row].tolist() for row in range(60)] for rows, label in (right, wrong)]
    assert of_golden[0] == [[label] for label in truth[:60]]
    for row, found in enumerate(of_golden[1]):
        assert truth[row] not in found
        assert len(found) == 1 + (truth[row] != labels[row])
        assert truth[row] == labels[row] or labels[row] in found


def test_prior_odds_are_the_channels_for_all_labels_alike(monkeypatch: pytest.MonkeyPatch):
    """With evidence that says nothing the classifier believes all labels alike; single ones only the channel doubts."""
    monkeypatch.setattr(purification, "_likelihood_ratio", lambda right, wrong, judged: np.zeros(len(judged)))
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


def test_single_odds_weigh_no_more_than_the_greatest_that_are_believed():
    odds = np.random.default_rng(0).normal(0, 2, 300)
    pools = []
    for outlying in (MAX_ODDS, 100 * MAX_ODDS):
        by_meta = np.append(odds, outlying)
        pools.append(pool_odds(by_meta, np.append(odds, 1.0), share_right=0.6))
    np.testing.assert_allclose(pools[0], pools[1])


def test_many_pairs_of_one_kind_do_not_make_the_level():
    """Rows that are certainly wrong give wrong pairs alone; twenty times as many of them say the same about a row."""
    evidence, consensus, _, labels, wrong, _ = judged_blobs()
    right_rows, wrong_rows = np.flatnonzero(~wrong), np.flatnonzero(wrong)
    levels = []
    for num_negative in (4, len(wrong_rows)):
        bins = np.full(len(labels), Bin.UNCERTAIN)
        bins[right_rows[:40]] = Bin.CERTAIN_POSITIVE
        bins[wrong_rows[:num_negative]] = Bin.CERTAIN_NEGATIVE
        found = purify(evidence, consensus, Division(bins=bins), labels, golden=NONE_GOLDEN, fold=FOLDS, rng=rng())
        levels.append(found.p_meta.mean())
    assert levels[0] == pytest.approx(levels[1], abs=0.03)


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


def test_a_refuted_label_teaches_that_it_is_wrong_and_no_more():
    labels, golden = np.array([0, 0]), np.array([REFUTED, UNKNOWN])
    consensus = consensus_of(np.array([[0.9, 0.1], [0.9, 0.1]]), np.array([[0.9, 0.1], [0.1, 0.9]]))
    division = Division(bins=np.array([Bin.CERTAIN_POSITIVE, Bin.CERTAIN_POSITIVE]))
    right, wrong = training_pairs(consensus, division, labels, golden=golden, rng=rng())
    assert list(zip(*right, strict=True)) == [(1, 0)]
    assert list(zip(*wrong, strict=True)) == [(1, 1), (0, 0)]


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


@pytest.mark.parametrize("noise", [0.02, 0.5])
def test_among_many_classes_drawn_labels_follow_the_channel_too(noise: float):
    chances = np.zeros((2000, 500))
    chances[:, 0], chances[:, 1] = 1 - noise, noise
    assert (draw_wrong(chances, np.zeros(2000, dtype=int), rng()) == 1).mean() > 0.99


def test_evidence_of_a_pair_by_hand():
    table = np.array([[3.0, 1.0, 2.0]])
    evidence = Evidence(tables=(table,), clean_odds=np.array([[0.1, 0.2, 0.3]]))
    rows = np.zeros(3, dtype=int)
    # odds; score, margin and rank in the table
    expected = [[0.1, 3, 1, 0], [0.2, 1, -2, 2], [0.3, 2, -1, 1]]
    np.testing.assert_allclose(evidence.of((rows, np.arange(3))), expected)
    np.testing.assert_array_equal(table, [[3, 1, 2]])
