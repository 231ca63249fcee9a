"""The last word on the labels: what purification found is weakened, levelled, excused and calibrated, and the labels of
one picture compete, in this order.

# N rows, K classes
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import huber

from labelclean.records import REFUTED, UNKNOWN, FloatArray, IntArray, is_class
from labelclean.tssd.level import Opinion, correct_level
from labelclean.tssd.numbers import MAX_ODDS, cross_entropy, log_odds, shift_to_mean, sigmoid, weaken_doubts

DOUBT_WEIGHT, DOUBT_SLOPES = 0.9, (0.25, 1.0)
"""What the final log-odds against a label count, times the slope at which the feature stream bears them out, within
these bounds."""

ENOUGH_SUPPORT = 3
"""With so many other rows of its class, doubts about a label count in full."""

MOST_CONTESTED = 4.0
"""Largest log-odds of the labels of a picture that has several; larger ones are brought there all alike. Where sure
judgements contradict each other, one of them was too sure."""

SHIFT_SPREAD = 0.2
"""How far from none the shift by golden rows is expected, in log-odds; beyond, it is held by no more than there."""


def settle_odds(
    odds: FloatArray,
    *,
    p_feature: FloatArray,
    prior: FloatArray,
    labels: IntArray,
    support: IntArray,
    level_settled: bool,
    opinions: Sequence[Opinion] = (),
) -> FloatArray:
    """Log-odds that labels are right, (N,), after all that is done to them without golden rows.

    Args:
        odds: as purification left them, (N,).
        p_feature: P(label right) by the feature stream, (N,).
        prior: P(true class | image), blind to the given label, (N, K).
        labels: given labels, (N,).
        support: how many other rows show the label's class, (N,).
        level_settled: how many labels are right was settled before.
        opinions: on that, the one after the other.
    """
    softened = soften(odds, p_feature)
    levelled = softened if level_settled else correct_level(softened, prior, labels)
    for opinion in opinions:
        levelled = shift_to_mean(levelled, opinion.sway(float(sigmoid(levelled).mean())))
    return excuse_the_rare(levelled, support)


def soften(odds: FloatArray, p_feature: FloatArray) -> FloatArray:
    """Final log-odds of p_meta, (N,), of which those against a label are weakened; their order and one half stay.

    What a right label looks like is learnt from certain rows. Odd pictures with right labels are not among them, are
    taken for wrong ones, and with more certainty than is due. How much more differs: 61 runs on eight data sets, with 2
    to 60 % wrong labels of all kinds, are likeliest with .2 to 1.2 of the odds below zero. Where it is much the feature
    stream tells: the slope at which the doubts fit its verdict best goes with the right one (correlation .70).

    Args:
        odds: as purification left them, (N,).
        p_feature: P(label right) by the feature stream, (N,).
    """
    doubts = odds < 0
    if not doubts.any():
        return odds

    def unlikelihood(slope: float) -> float:
        return cross_entropy(slope * odds[doubts], p_feature[doubts])

    slope = minimize_scalar(unlikelihood, bounds=DOUBT_SLOPES, method="bounded").x
    return weaken_doubts(odds, weight=DOUBT_WEIGHT * float(slope))


def excuse_the_rare(odds: FloatArray, support: IntArray) -> FloatArray:
    """Final log-odds of p_meta, (N,), of which doubts about labels of tiny classes are drawn to the mean.

    Nothing can resemble a class of which there is no other row: that it does not shows nothing against the label. Two
    or three rows of a class may show different sides of it.

    Args:
        support: how many other rows show the label's class, (N,).
    """
    usual = log_odds(sigmoid(odds).mean())
    weight = np.minimum(support / ENOUGH_SUPPORT, 1)
    return np.where(odds < usual, usual + weight * (odds - usual), odds)


def calibrate(p_meta: FloatArray, labels: IntArray, golden: IntArray) -> FloatArray:
    """p_clean: p_meta with all log-odds shifted as far as golden rows bear it out, (N,); unchanged without any.

    The shift is drawn to none, as strongly as SHIFT_SPREAD says, so that a few golden rows change little; but where
    they contradict the level outright, as they do where wrong labels passed for ambiguity, they have their way. It is
    the level alone that golden rows may correct: what they teach comes back to them by way of other rows, they are
    judged more surely than those, and a slope that suits them would make all others too sure.

    Source: Platt (1999), of whose line the slope is held, with Huber's loss (1964) as the prior.
    """
    known = golden != UNKNOWN
    if not known.any():
        return p_meta
    odds = log_odds(p_meta, limit=1e-9)
    of_golden, is_right = odds[known], (golden == labels)[known].astype(float)

    def unlikelihood(shift: float) -> float:
        return len(of_golden) * cross_entropy(of_golden + shift, is_right) + float(huber(1, shift / SHIFT_SPREAD))

    return sigmoid(odds + minimize_scalar(unlikelihood, bounds=(-MAX_ODDS, MAX_ODDS), method="bounded").x)


def let_compete(p_clean: FloatArray, labels: IntArray, pictures: IntArray, golden: IntArray) -> FloatArray:
    """P(label right), (N,), where labels of the same picture cannot be right together; elsewhere as it was.

    Each label of a picture has the log-odds that its rows have in the mean, shrunk to MOST_CONTESTED where there are
    several. Their odds stand against each other and against that none of them is right: it is what independent
    judgements become once it is known that at most one of them holds. With a label of .9 and another one of .8 the odds
    are 9, 4 and 1, and the probabilities 9/14 and 4/14. A golden label decides about all rows of its
    picture, and one that only says that the given label is wrong about those with that label.

    Args:
        p_clean: by each row alone, (N,).
        labels: given labels, (N,).
        pictures: the same number for rows that show the same picture, UNKNOWN for single ones, (N,).
        golden: true labels where known, REFUTED where only the given one is known to be wrong, UNKNOWN elsewhere, (N,).
    """
    doubled = np.flatnonzero(pictures != UNKNOWN)
    if not len(doubled):
        return p_clean
    num_classes = int(max(labels.max(), golden.max())) + 1
    cases, case = np.unique(pictures[doubled] * num_classes + labels[doubled], return_inverse=True)
    picture, label = np.divmod(cases, num_classes)
    odds = np.bincount(case, weights=log_odds(p_clean[doubled], limit=1e-9)) / np.bincount(case)
    largest = np.full(int(pictures.max()) + 1, MOST_CONTESTED)
    np.maximum.at(largest, picture, np.abs(odds))
    odds *= np.where(np.bincount(picture)[picture] > 1, MOST_CONTESTED / largest[picture], 1)
    truth = np.full(int(pictures.max()) + 1, UNKNOWN)
    odds[case[golden[doubled] == REFUTED]] = -MAX_ODDS
    settled = doubled[is_class(golden[doubled])]
    truth[pictures[settled]] = golden[settled]
    known = truth[picture] != UNKNOWN
    weights = np.exp(np.where(known, np.where(truth[picture] == label, MAX_ODDS, -MAX_ODDS), odds))
    competing = p_clean.copy()
    competing[doubled] = (weights / (1 + np.bincount(picture, weights=weights)[picture]))[case]
    return competing
