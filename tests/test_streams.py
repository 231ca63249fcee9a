"""Both streams: neighbours and prototypes by hand, and flipped labels that have to come last."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from labelclean.records import EPSILON, UNKNOWN, FloatArray, IntArray, of_label
from labelclean.train.neighbors import unit_norm
from labelclean.tssd import streams
from labelclean.tssd.channel import fit_channel
from labelclean.tssd.numbers import log_odds
from labelclean.tssd.shrinkage import PULL, Pull
from labelclean.tssd.streams import (
    VOTE_FLOOR,
    channel_streams,
    feature_scores,
    heed_features,
    loss_scores,
    mixture_streams,
    neighbor_votes,
    prototype_affinity,
    reach_consensus,
)
from tests.blobs import flipped_blobs


def test_neighbor_votes_by_hand():
    """Four rows, two neighbours each; row 3's vote weighs half, and negative cosines count for nothing."""
    rows = np.array([[1, 2], [0, 3], [0, 1], [2, 0]])
    cosines = np.array([[0.8, 0.4], [0.5, 1.0], [0.6, -0.7], [1.0, 0.2]])
    labels, trust = np.array([0, 0, 1, 1]), np.array([1.0, 1.0, 1.0, 0.5])
    votes, agreement = neighbor_votes(rows, cosines, labels, trust, labels=labels, num_classes=2)
    raw = np.array([[0.8, 0.4], [0.5, 0.5], [0.6, 0.0], [0.2, 1.0]])
    share = np.array([2.0, 1.5]) / 3.5 + 2 / 4  # each class counts as two rows larger than it is
    expected = raw / share + VOTE_FLOOR
    np.testing.assert_allclose(votes, expected / expected.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(agreement, [0.8 / 1.2, 0.5, 0.0, 1.0 / 1.2])


def test_the_only_row_of_a_class_does_not_count_a_thousandfold():
    """Row 1 has ten neighbours, nine of class 0 and row 0, the only one of class 1."""
    rows = np.array([np.delete(np.arange(1000), row)[:10] for row in range(1000)])
    labels = np.zeros(1000, dtype=int)
    labels[0] = 1
    votes, _ = neighbor_votes(rows, np.ones((1000, 10)), labels, np.ones(1000), labels=labels, num_classes=2)
    assert votes[1, 1] / votes[1, 0] == pytest.approx((1 / 0.011) / (9 / 1.009), rel=0.01)


def test_votes_go_by_the_voters_label_and_agreement_by_the_row_s_own():
    rows, cosines, trust = np.array([[1], [0]]), np.ones((2, 1)), np.ones(2)
    votes, agreement = neighbor_votes(rows, cosines, np.array([1, 1]), trust, labels=np.array([0, 1]), num_classes=2)
    assert (votes.argmax(axis=1) == 1).all()
    np.testing.assert_array_equal(agreement, [0, 1])


def test_neighbors_without_a_word_leave_an_even_vote():
    votes, agreement = neighbor_votes(
        np.array([[1], [0]]),
        np.full((2, 1), -1.0),
        np.array([0, 1]),
        np.ones(2),
        labels=np.array([0, 1]),
        num_classes=2,
    )
    np.testing.assert_allclose(votes, 0.5)
    assert np.isnan(agreement).all()


@pytest.mark.parametrize("num_groups", [12, 5, 2])
def test_prototype_affinity_leaves_the_row_and_its_group_out(num_groups: int):
    rng = np.random.default_rng(0)
    features = unit_norm(rng.normal(size=(12, 5)))
    labels, trust, groups = rng.integers(0, 3, 12), rng.random(12), rng.permutation(12) % num_groups
    affinity = prototype_affinity(features, labels, trust, groups, num_classes=3)
    for row in range(12):
        for label in range(3):
            members = [other for other in range(12) if labels[other] == label and groups[other] != groups[row]]
            prototype = (features[members] * trust[members, None]).sum(axis=0)
            cosine = features[row] @ prototype / max(np.linalg.norm(prototype), EPSILON)
            assert affinity[row, label] == pytest.approx(cosine, abs=1e-4)


def test_a_class_that_one_group_is_all_of_has_no_affinity_for_it():
    """Rounding leaves something where 2,000 directions are taken from their sum."""
    rng = np.random.default_rng(0)
    features = unit_norm(rng.normal(size=(2500, 64)) + np.arange(64))
    labels = np.repeat([0, 1], [2000, 500])
    groups = np.where(labels == 0, 0, np.arange(2500))
    affinity = prototype_affinity(features, labels, rng.random(2500), groups, num_classes=2)
    np.testing.assert_array_equal(affinity[labels == 0, 0], 0)
    assert (affinity[labels == 1, 1] != 0).all()


@pytest.mark.parametrize("block_rows", [1, 7, 1000])
def test_groups_are_looked_at_in_blocks_of_whole_ones(block_rows: int, monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    features, labels, trust = unit_norm(rng.normal(size=(60, 5))), rng.integers(0, 3, 60), rng.random(60)
    groups = rng.integers(0, 20, 60)
    expected = prototype_affinity(features, labels, trust, groups, num_classes=3)
    monkeypatch.setattr(streams, "BLOCK_ROWS", block_rows)
    found = prototype_affinity(features, labels, trust, groups, num_classes=3)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_only_row_of_a_class_and_empty_classes_have_no_affinity():
    features = unit_norm(np.random.default_rng(0).normal(size=(5, 4)))
    affinity = prototype_affinity(features, np.array([0, 0, 0, 0, 1]), np.ones(5), np.arange(5), num_classes=3)
    assert affinity[4, 1] == pytest.approx(0, abs=1e-3)
    np.testing.assert_array_equal(affinity[:, 2], 0)


@pytest.mark.parametrize("kind", ["channel", "mixture"])
def test_both_streams_rank_flipped_labels_last(kind: str):
    view, labels, wrong, _ = flipped_blobs()
    rng = np.random.default_rng(0)
    if kind == "channel":
        streams = channel_streams([view], labels, golden=None, rng=rng)
    else:
        losses = -np.log(view.probs[np.arange(len(labels)), labels])
        streams = mixture_streams([view], labels, losses, rng=rng)
    for p in (streams.p_loss, streams.p_feature):
        assert roc_auc_score(~wrong, p) > 0.95
        assert ((p >= 0) & (p <= 1)).all()


def test_a_consensus_that_finds_far_fewer_wrong_labels_does_not_stand_alone():
    view, labels, _, _ = flipped_blobs()
    consensus = reach_consensus([view], labels, golden=None, rng=np.random.default_rng(0))
    p_feature = np.linspace(0.5, 0.9, len(labels))  # .3 wrong labels
    for share, weight in ((0.3, None), (0.16, None), (0.075, 0.5), (0.003, 0.02)):
        kind = replace(consensus, p_clean=np.full(len(labels), 1 - share))
        heeded = heed_features(kind, p_feature)
        if weight is None:
            assert heeded is kind
        else:
            expected = weight * log_odds(kind.p_clean) + (1 - weight) * log_odds(p_feature)
            np.testing.assert_allclose(log_odds(heeded.p_clean), expected, rtol=1e-6)
            assert heeded.prior is kind.prior


def test_golden_labels_and_the_pull_reach_the_channels():
    """Each channel is the one that is fitted by hand, and another without golden labels or with the usual pull."""
    view, labels, _, _ = flipped_blobs()
    pull, golden = Pull(least=1e3, times=2), np.where(np.arange(len(labels)) % 3 == 0, (labels + 1) % 3, UNKNOWN)
    scores = {"p_loss": loss_scores([view]), "p_feature": feature_scores([view])}
    scores["p_clean"] = scores["p_loss"] + scores["p_feature"]
    consensus = reach_consensus([view], labels, golden=golden, pull=pull, rng=np.random.default_rng(0))
    streams = channel_streams([view], labels, golden=golden, pull=pull, rng=np.random.default_rng(0))
    for name, of_stream in scores.items():
        found = getattr(consensus if name == "p_clean" else streams, name)
        np.testing.assert_allclose(found, by_hand(of_stream, labels, golden, pull), err_msg=name)
        for other in (by_hand(of_stream, labels, None, pull), by_hand(of_stream, labels, golden, PULL)):
            assert np.abs(found - other).max() > 0.01, name


def by_hand(scores: list[FloatArray], labels: IntArray, golden: IntArray | None, pull: Pull) -> FloatArray:
    """P(label right) by a channel of these scores, (N,)."""
    channel = fit_channel(scores, labels, golden=golden, pull=pull, rng=np.random.default_rng(0))
    return of_label(channel.posterior(channel.prior(scores), labels), labels)


def test_consensus_is_better_than_each_stream_and_knows_the_noise():
    view, labels, wrong, _ = flipped_blobs(1800)
    golden = np.full(len(labels), UNKNOWN)
    streams = channel_streams([view], labels, golden=golden, rng=np.random.default_rng(0))
    consensus = reach_consensus([view], labels, golden=golden, rng=np.random.default_rng(0))
    best = max(roc_auc_score(~wrong, p) for p in (streams.p_loss, streams.p_feature))
    assert roc_auc_score(~wrong, consensus.p_clean) >= best - 0.005
    assert 1 - consensus.p_clean.mean() == pytest.approx(wrong.mean(), abs=0.02)
    np.testing.assert_allclose(consensus.prior.sum(axis=1), 1)


def test_mixture_s_guards_say_which_stream_they_come_from():
    view, labels, _, _ = flipped_blobs()
    streams = mixture_streams([view], labels, np.zeros(len(labels)), rng=np.random.default_rng(0))
    assert streams.guards[0].startswith("loss stream: all scores are equal")
