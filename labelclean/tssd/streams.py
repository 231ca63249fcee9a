"""The two streams: what the network's predictions, and what the neighbourhood in feature space, say about a label.

# N rows, K classes, D features, k neighbours, V views
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from labelclean.records import EPSILON, FloatArray, IntArray, Streams, View, in_company, of_label
from labelclean.tssd.channel import NoiseChannel, fit_channel
from labelclean.tssd.mixture import clean_posterior
from labelclean.tssd.numbers import FLOOR, log_odds, sigmoid
from labelclean.tssd.shrinkage import PULL, Pull

AFFINITY_SCALE = 10.0
"""Brings cosines to the size of log-probabilities; the channel's fitted weights do the rest."""

VOTE_FLOOR = 1e-2
"""Added to every class's votes: no neighbour's vote is proof."""

FAR_LESS = 0.5
"""Of the wrong labels that the feature stream finds: where the consensus finds a smaller share of them it is not
believed alone."""

ROUNDING = 1e-4
"""Of a class's sum of directions, what may be left of it by rounding once a group that is all of it is taken out."""

BLOCK_ROWS = 4096
"""Rows of groups that are looked at together, about."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Consensus:
    """Both streams together, through one channel.

    Attributes:
        channel: fitted on the scores of all views.
        prior: P(true class | image), blind to the given label, (N, K).
        p_clean: P(label right | image, label), (N,).
    """

    channel: NoiseChannel
    prior: FloatArray
    p_clean: FloatArray


def neighbor_votes(
    neighbor_rows: IntArray,
    similarities: FloatArray,
    voters: IntArray,
    trust: FloatArray,
    *,
    labels: IntArray,
    num_classes: int,
) -> tuple[FloatArray, FloatArray]:
    """What the neighbours' labels say about each row.

    Args:
        neighbor_rows: positions of the neighbours, self excluded, (N, k).
        similarities: cosine to them, (N, k); negative ones count as 0.
        voters: the label with which each row votes, (N,).
        trust: the weight of each row's vote, (N,), non-negative.
        labels: the labels whose share of the votes is wanted, (N,).
    Returns:
        Votes per class divided by the class's frequency among trusted rows and normalised, (N, K); and the plain share
        of the votes that each row's own label gets, (N,), NaN where there are none. Each class counts as k rows larger
        than it is: else the vote of a label that only one row has would count a thousandfold.
    """
    num_rows, k = neighbor_rows.shape
    weights = np.maximum(similarities, 0) * trust[neighbor_rows]
    flat = np.arange(num_rows)[:, None] * num_classes + voters[neighbor_rows]
    counts = np.bincount(flat.ravel(), weights=weights.ravel(), minlength=num_rows * num_classes)
    raw = np.asarray(counts, dtype=np.float64).reshape(num_rows, num_classes)
    share = np.bincount(voters, weights=trust, minlength=num_classes) / max(trust.sum(), EPSILON)
    votes = raw / (share + k / num_rows) + VOTE_FLOOR
    total = raw.sum(axis=1)
    agreement = np.divide(of_label(raw, labels), total, out=np.full(num_rows, np.nan), where=total > EPSILON)
    return votes / votes.sum(axis=1, keepdims=True), agreement


def prototype_affinity(
    features: FloatArray, labels: IntArray, trust: FloatArray, groups: IntArray, *, num_classes: int
) -> FloatArray:
    """Cosine of each row to the trust-weighted mean direction of each class, (N, K).

    A row counts towards no prototype that it is compared with, nor do the rows of its group. Where no other trusted row
    is left of a class, the affinity is 0.

    Args:
        features: unit norm, (N, D).
        labels: (N,).
        trust: weight of each row, (N,).
        groups: numbered from 0, (N,).
    """
    sums = np.zeros((num_classes, features.shape[1]))
    for label, rows in _rows_by_class(labels):
        sums[label] = trust[rows].astype(features.dtype) @ features[rows]
    norms = np.maximum(np.linalg.norm(sums, axis=1), EPSILON)
    affinity = features @ (sums / norms[:, None]).T.astype(features.dtype)
    # |s - w f|^2 and f . (s - w f) for the row's own class, with |f| = 1
    own = of_label(affinity, labels) * norms[labels]
    rest = np.sqrt(np.maximum(norms[labels] ** 2 - 2 * trust * own + trust**2, 0))
    affinity[np.arange(len(labels)), labels] = np.where(rest > EPSILON, (own - trust) / np.maximum(rest, EPSILON), 0)
    for block in _whole_groups(in_company(groups), groups):
        weighted = features[block] * trust[block, None].astype(features.dtype)
        for rows, classes, directions in _without_group(weighted, sums, labels, groups, block):
            affinity[rows[:, None], classes] = features[rows] @ directions.T
    return np.asarray(affinity)


def _rows_by_class(labels: IntArray) -> Iterator[tuple[int, IntArray]]:
    """Each class that there is, with its rows."""
    order = np.argsort(labels, kind="stable")
    found, starts = np.unique(labels[order], return_index=True)
    yield from zip(found.tolist(), np.split(order, starts[1:]), strict=True)


def _whole_groups(members: IntArray, groups: IntArray) -> list[IntArray]:
    """Rows in groups of several, (G,), in blocks of whole groups, in the order of the groups."""
    in_order = members[np.argsort(groups[members], kind="stable")]
    ends = np.append(np.flatnonzero(np.diff(groups[in_order])) + 1, len(in_order))
    wanted = np.arange(BLOCK_ROWS, len(in_order), BLOCK_ROWS)
    blocks = np.split(in_order, np.unique(ends[np.searchsorted(ends, wanted)]))
    return [block for block in blocks if len(block)]


def _without_group(
    weighted: FloatArray, sums: FloatArray, labels: IntArray, groups: IntArray, members: IntArray
) -> Iterator[tuple[IntArray, IntArray, FloatArray]]:
    """The directions of the classes that a group's rows count towards, without the group; group by group.

    Args:
        weighted: features times trust of the rows in question, (G, D).
        sums: of each class, (K, D).
        labels, groups: (N,) both.
        members: rows in groups of several, all of each, in the order of the groups, (G,).
    Yields:
        A group's rows (R,), its classes (C,) and directions of length one, or 0 where nothing is left, (C, D).
    """
    from scipy.sparse import csr_matrix

    # a part is what a group has of a class; those of a group follow each other
    kept, part = np.unique(groups[members] * len(sums) + labels[members], return_inverse=True)
    of_group, of_class = np.divmod(kept, len(sums))
    counts = csr_matrix((np.ones(len(members), dtype=weighted.dtype), (part, np.arange(len(members)))))
    rest = sums[of_class] - counts @ weighted
    lengths = np.linalg.norm(rest, axis=1)
    is_left = lengths > ROUNDING * np.linalg.norm(sums, axis=1)[of_class]
    rest = np.where(is_left[:, None], rest / np.maximum(lengths, EPSILON)[:, None], 0).astype(weighted.dtype)
    places, parts = (np.flatnonzero(np.diff(number)) + 1 for number in (groups[members], of_group))
    yield from zip(np.split(members, places), np.split(of_class, parts), np.split(rest, parts), strict=True)


def loss_scores(views: Sequence[View]) -> list[FloatArray]:
    """The class scores of the loss stream: one (N, K) array of log-probabilities per view."""
    return [np.log(view.probs + FLOOR) for view in views]


def feature_scores(views: Sequence[View]) -> list[FloatArray]:
    """The class scores of the feature stream: log votes and scaled affinities, two (N, K) arrays per view."""
    return [scores for view in views for scores in (np.log(view.votes), AFFINITY_SCALE * view.affinity)]


def reach_consensus(
    views: Sequence[View],
    labels: IntArray,
    *,
    golden: IntArray | None,
    pull: Pull = PULL,
    rng: np.random.Generator,
) -> Consensus:
    """Fit one channel to the scores of both streams; its weights say how far each kind of score is to be believed."""
    scores = loss_scores(views) + feature_scores(views)
    channel = fit_channel(scores, labels, golden=golden, pull=pull, rng=rng)
    prior = channel.prior(scores)
    return Consensus(channel=channel, prior=prior, p_clean=of_label(channel.posterior(prior, labels), labels))


def heed_features(consensus: Consensus, p_feature: FloatArray) -> Consensus:
    """The consensus, with the feature stream's word beside it where it finds far fewer wrong labels than that.

    Where wrong labels are many and lie among ambiguous pictures alone, as those do that a model hesitates about, a
    channel may take every one of them for ambiguity. It then finds all labels right and tells nothing about any. The
    feature stream's channel, which sees no predictions, mostly does not follow. The log-odds of both are joined, the
    consensus's with the weight of its wrong labels out of FAR_LESS of the feature stream's.

    Args:
        p_feature: P(label right) by the feature stream, (N,).
    """
    expected = FAR_LESS * float((1 - p_feature).mean())
    weight = float((1 - consensus.p_clean).mean()) / max(expected, EPSILON)
    if weight >= 1:
        return consensus
    joined = weight * log_odds(consensus.p_clean) + (1 - weight) * log_odds(p_feature)
    return replace(consensus, p_clean=sigmoid(joined))


def channel_streams(
    views: Sequence[View],
    labels: IntArray,
    *,
    golden: IntArray | None,
    pull: Pull = PULL,
    rng: np.random.Generator,
) -> Streams:
    """p_loss and p_feature as posteriors of a noise channel each."""
    posteriors = []
    for scores in (loss_scores(views), feature_scores(views)):
        channel = fit_channel(scores, labels, golden=golden, pull=pull, rng=rng)
        posteriors.append(of_label(channel.posterior(channel.prior(scores), labels), labels))
    return Streams(p_loss=posteriors[0], p_feature=posteriors[1], guards=())


def mixture_streams(
    views: Sequence[View], labels: IntArray, mean_losses: FloatArray, *, rng: np.random.Generator
) -> Streams:
    """p_loss and p_feature as posteriors of a Gaussian mixture each.

    Args:
        mean_losses: loss of the given label in nats, averaged over the rounds so far, (N,).
    Source: DivideMix (ICLR 2020) for the loss. The feature stream's score, the label's share of the neighbours' votes
    plus its cosine to the class's mean direction, is in the spirit of FINE (NeurIPS 2021), which takes the class's
    principal direction.
    """
    probs = np.mean([view.probs for view in views], axis=0)
    votes = np.mean([view.votes for view in views], axis=0)
    alignment = np.mean([of_label(view.affinity, labels) for view in views], axis=0)
    loss = clean_posterior(-mean_losses, labels, probs.argmax(axis=1) == labels, rng=rng)
    feature = clean_posterior(of_label(votes, labels) + alignment, labels, votes.argmax(axis=1) == labels, rng=rng)
    guards = [f"loss stream: {text}" for text in loss.guards] + [f"feature stream: {text}" for text in feature.guards]
    return Streams(p_loss=loss.posterior, p_feature=feature.posterior, guards=tuple(guards))
