"""Meta purification: a classifier that asks 'is label c right for image i?' mines right rows out of uncertain ones.

Its evidence can be computed for any label, so that one trusted row yields a right pair and several wrong ones. It is
cross-fitted: no row is judged by a classifier that saw it.

# N rows, K classes, V views, E columns of evidence
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from labelclean.records import EPSILON, UNKNOWN, BoolArray, Division, FloatArray, IntArray, View, is_class, of_label
from labelclean.tssd.numbers import LEAST_DOUBT, MAX_ODDS, cross_entropy, log_odds, shift_to_mean, sigmoid
from labelclean.tssd.streams import Consensus

RIDGE_STRENGTH = 0.1
"""Inverse penalty of the logistic regression."""

META_SHARE = 0.5
"""Weight of the meta-classifier's log-odds beside the channel's."""

EVEN_SHARE = 1e-3
"""Of the wrong labels that are drawn for a lesson, the share that falls on all classes alike."""

MIN_PAIRS = 5
"""Right pairs and wrong pairs that a classifier needs; with fewer the consensus judges."""

MIN_SHARE, STANDSTILL, MAX_STEPS = 1e-3, 1e-5, 1000
"""Of the settled share of right labels, from 0 and 1; a step that ends the search for it; and how many there are."""

Pair = tuple[IntArray, IntArray]
"""Rows and a label for each, (P,) both."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Purified:
    """Attributes:
    p_meta: P(label right) by the meta-classifier and the consensus together, (N,).
    accepted: uncertain rows with p_meta > 0.5, (N,).
    guards: words for each guard that fired.
    """

    p_meta: FloatArray
    accepted: BoolArray
    guards: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """Everything that is known about every label of every row.

    Attributes:
        tables: class scores, (N, K) each: for every view log-probabilities, log votes, affinities.
        clean_odds: log-odds that label c would be right if it had been given, by the channel, (N, K).
    """

    tables: tuple[FloatArray, ...]
    clean_odds: FloatArray

    def of(self, pair: Pair) -> FloatArray:
        """Evidence for the pairs: own score, margin and rank in each table, and the channel's odds, (P, E)."""
        rows, labels = pair
        columns = [self.clean_odds[rows, labels][:, None]]
        for table in self.tables:
            scores = table[rows]
            own = of_label(scores, labels)
            rank = (scores > own[:, None]).sum(axis=1)
            scores[np.arange(len(labels)), labels] = -np.inf
            columns.append(np.stack([own, own - scores.max(axis=1), rank], axis=1))
        return np.concatenate(columns, axis=1)


def gather_evidence(views: Sequence[View], consensus: Consensus) -> Evidence:
    """Collect the evidence of all views."""
    tables = [
        table for view in views for table in (np.log(view.probs + EPSILON), np.log(view.votes + EPSILON), view.affinity)
    ]
    clean = consensus.channel.clean_posterior(consensus.prior)
    return Evidence(tables=tuple(tables), clean_odds=log_odds(clean))


def purify(
    evidence: Evidence,
    consensus: Consensus,
    division: Division,
    labels: IntArray,
    *,
    golden: IntArray,
    fold: IntArray,
    share_right: float | None = None,
    rng: np.random.Generator,
) -> Purified:
    """Judge every row by a classifier trained on the certain set and the golden rows of the other folds.

    Balanced pairs teach a likelihood ratio; the prior odds of a right label come from the channel, the same for
    all labels: odds(right) = ratio x prior odds. The result is pooled with the channel's own posterior; how many
    labels are right in the end the ratios alone say.

    Args:
        golden: true labels where known, REFUTED where only the given one is known to be wrong, UNKNOWN elsewhere, (N,).
        fold: each row's fold, (N,).
        share_right: of the labels, where it is settled already.
        rng: draws the wrong labels.
    """
    right, wrong = training_pairs(consensus, division, labels, golden=golden, rng=rng)
    prior_odds = log_odds(consensus.p_clean.mean(), limit=LEAST_DOUBT)
    odds = log_odds(consensus.p_clean)
    ratio = odds - prior_odds  # the channel's own, where no classifier can be trained
    right_evidence, wrong_evidence = evidence.of(right), evidence.of(wrong)
    own = evidence.of((np.arange(len(labels)), labels))
    starved, num_folds = 0, int(fold.max()) + 1
    for part in range(num_folds):
        judged = fold == part
        use_right, use_wrong = fold[right[0]] != part, fold[wrong[0]] != part
        if min(use_right.sum(), use_wrong.sum()) < MIN_PAIRS:
            starved += 1
            continue
        ratio[judged] = _likelihood_ratio(right_evidence[use_right], wrong_evidence[use_wrong], own[judged])
    if share_right is None:
        share_right = settle_share(ratio, start=float(consensus.p_clean.mean()))
    p_meta = sigmoid(pool_odds(ratio + prior_odds, odds, share_right=share_right))
    judged_alone = f"the channel judged {starved} of {num_folds} folds alone"
    guards = (f"too few certain rows to train the meta-classifier: {judged_alone}",) if starved else ()
    return Purified(p_meta=p_meta, accepted=division.uncertain & (p_meta > 0.5), guards=guards)


def settle_share(ratio: FloatArray, *, start: float) -> float:
    """The share of right labels at which the rows, judged with it as their prior, expect just as many right ones.

    Args:
        ratio: log-likelihood ratio of right against wrong, (N,).
        start: where to begin, in (0, 1).
    Source: the maximum-likelihood prior by EM (Saerens, Latinne and Decaestecker 2002).
    """
    share = float(np.clip(start, MIN_SHARE, 1 - MIN_SHARE))
    for _ in range(MAX_STEPS):
        before = share
        share = float(np.clip(sigmoid(ratio + np.log(share / (1 - share))).mean(), MIN_SHARE, 1 - MIN_SHARE))
        if abs(share - before) < STANDSTILL:
            break
    return share


def pool_odds(by_meta: FloatArray, by_channel: FloatArray, *, share_right: float) -> FloatArray:
    """Weighted mean of the meta-classifier's log-odds and the channel's, (N,) each.

    Pairs from the certain set are easy: a classifier taught by them is too sure of single rows. So its log-odds are
    first shrunk by the slope that fits the channel's posterior best. The pool is shifted until its mean is
    `share_right`: shrunk and averaged odds do not say any more how many labels are wrong.
    """
    sure = np.clip(by_meta, -MAX_ODDS, MAX_ODDS)
    goal = sigmoid(by_channel)

    def unlikelihood(line: FloatArray) -> float:
        return cross_entropy(line[0] * sure + line[1], goal)

    bounds = [(0.05, 1), (None, None)]
    slope = minimize(unlikelihood, np.array([0.5, 0.5]), method="L-BFGS-B", bounds=bounds, tol=1e-12).x[0]
    pooled = META_SHARE * slope * sure + (1 - META_SHARE) * by_channel
    return shift_to_mean(pooled, share_right)


def training_pairs(
    consensus: Consensus, division: Division, labels: IntArray, *, golden: IntArray, rng: np.random.Generator
) -> tuple[Pair, Pair]:
    """Right and wrong pairs from the certain set and the golden rows.

    Certain positives give a right pair, and a wrong one with a label that the channel confuses with theirs; certain
    negatives give a wrong pair. A golden row gives its true label as right, if it has one; its given label, if that is
    another, and the likeliest of the other labels as wrong.
    """
    trusted = np.flatnonzero(is_class(golden))
    positive = np.flatnonzero(division.positive & (golden == UNKNOWN))
    negative = np.flatnonzero(division.negative & (golden == UNKNOWN))
    chances = consensus.channel.label_chances(consensus.prior[positive], labels[positive])
    confused = draw_wrong(chances, labels[positive], rng)
    contradicted = np.flatnonzero((golden != UNKNOWN) & (golden != labels))
    others = consensus.prior[trusted].copy()
    others[np.arange(len(trusted)), golden[trusted]] = -1
    right = (np.concatenate([positive, trusted]), np.concatenate([labels[positive], golden[trusted]]))
    wrong = (
        np.concatenate([positive, negative, contradicted, trusted]),
        np.concatenate([confused, labels[negative], labels[contradicted], others.argmax(axis=1)]),
    )
    return right, wrong


def draw_wrong(chances: FloatArray, labels: IntArray, rng: np.random.Generator) -> IntArray:
    """A label for each row other than its own, (N,), drawn with the chances of the classes, (N, K)."""
    num_rows, num_classes = chances.shape
    rows = np.arange(num_rows)
    confusions = chances.copy()
    confusions[rows, labels] = 0
    confusions /= np.maximum(confusions.sum(axis=1, keepdims=True), EPSILON)
    confusions += EVEN_SHARE / num_classes
    confusions[rows, labels] = 0
    steps = np.cumsum(confusions / confusions.sum(axis=1, keepdims=True), axis=1)
    drawn = (steps < rng.random((num_rows, 1))).sum(axis=1)
    last_other = np.where(labels == num_classes - 1, num_classes - 2, num_classes - 1)
    return np.asarray(np.where(drawn >= num_classes, last_other, drawn))


def _likelihood_ratio(right: FloatArray, wrong: FloatArray, judged: FloatArray) -> FloatArray:
    """Log-likelihood ratio of right against wrong for the judged rows, by balanced logistic regression."""
    pairs = np.concatenate([right, wrong])
    mean, std = pairs.mean(axis=0), pairs.std(axis=0) + EPSILON
    is_right = np.arange(len(pairs)) < len(right)
    model = LogisticRegression(C=RIDGE_STRENGTH, class_weight="balanced", max_iter=1000)
    model.fit((pairs - mean) / std, is_right)
    ratio: FloatArray = model.decision_function((judged - mean) / std)
    return ratio
