"""Which way the share of wrong labels is misjudged, and by how much.

Two things are hard to tell apart where a model wavers: an ambiguous picture with a right label, and a wrong label.
Where they are plain, among rows of which the model is sure, shows what kind of noise it is. Wrong labels that fall
along the model's own confusions, as people's do, are partly taken for ambiguity wherever the model wavers: there are
more of them than it seems. Where they fall elsewhere, mistakes of a model that is too sure are taken for wrong labels.

# N rows, K classes
"""

from __future__ import annotations

import numpy as np

from labelclean.records import EPSILON, FloatArray, IntArray
from labelclean.tssd.numbers import sigmoid

SURE = 0.9
"""Probability of the likeliest class above which a row with another label is plainly wrong."""

TURNING_POINT, WIDTH = 0.7, 0.06
"""Likeness at which the level is right as it is, and how far from there it is nearly as wrong as it gets."""

TOO_HIGH, TOO_LOW = 0.3, 0.5
"""What the log-odds of right labels are off by, at most: where noise falls elsewhere, and along the confusions."""

FEW_ROWS = 25
"""So many plainly wrong labels are worth half of what many would be."""

MANY = 0.4
"""Share of wrong labels from which on noise is said to be underestimated in full. The fewer there are the fewer were
taught, and the less does a model expect them; the doubts on clean labels are its own mistakes, which fall along its
confusions as well."""


def likeness(prior: FloatArray, labels: IntArray) -> tuple[float, float]:
    """How far wrong labels go where the model itself wavers, and how many plainly wrong ones show it.

    Args:
        prior: P(true class | image), blind to the given label, (N, K), K > 2.
        labels: given labels, (N,).
    Returns:
        Correlation, over pairs of a class and another label, of the share that the label has of the class's plainly
        wrong labels with the share that it has of the model's doubts, both beyond its share of all labels; in [-1, 1],
        0 where nothing can be told. What few wrong labels of a class scatter by chance is taken off, up to a half: it
        would make any noise look like none of the model's. And the number of plainly wrong labels, where one other
        class has nearly all rows less: there they can hardly fall otherwise.
    """
    num_classes = prior.shape[1]
    best = prior.argmax(axis=1)
    plain = (prior.max(axis=1) > SURE) & (best != labels)
    counts = np.zeros((num_classes, num_classes))
    np.add.at(counts, (best[plain], labels[plain]), 1)
    rows = np.bincount(labels, minlength=num_classes).astype(np.float64)
    usual, found, doubts = (_shares(table) for table in (np.tile(rows, (num_classes, 1)), counts, prior.T @ prior))
    observed, expected = found - usual, doubts - usual

    weights = counts.sum(axis=1)
    spread = float(weights @ np.square(observed).sum(axis=1))
    by_chance = float((1 - np.square(found).sum(axis=1)) @ (weights > 0))
    size = np.sqrt(max(spread - by_chance, spread / 2) * (weights @ np.square(expected).sum(axis=1)))
    covariance = weights @ (observed * expected).sum(axis=1)
    open_to = (1 - usual.max(axis=1)) / (1 - 1 / (num_classes - 1))
    return float(np.clip(covariance / size, -1, 1)) if size > EPSILON else 0.0, float(weights @ np.minimum(open_to, 1))


def correct_level(odds: FloatArray, prior: FloatArray, labels: IntArray) -> FloatArray:
    """Log-odds that labels are right, (N,), shifted all alike by what the kind of noise says about their level.

    The turning point and the largest shifts are those that suit stored runs on five data sets, with labels that people
    gave and wrong ones planted in five ways; see docs/evidence.md.

    Args:
        odds: as they were found, (N,).
        prior, labels: as of `likeness`.
    """
    if prior.shape[1] < 3:  # two classes can only be confused with each other
        return odds
    found, number = likeness(prior, labels)
    side = float(np.tanh((TURNING_POINT - found) / WIDTH)) * number / (number + FEW_ROWS)
    if side > 0:
        return odds + TOO_HIGH * side
    noise = 1 - float(sigmoid(odds).mean())
    return odds + TOO_LOW * side * min(1.0, noise / MANY)


def _shares(counts: FloatArray) -> FloatArray:
    """Each row's shares of what lies beside the diagonal, (K, K) with zeros on it."""
    others = counts + EPSILON
    np.fill_diagonal(others, 0)
    return np.asarray(others / others.sum(axis=1, keepdims=True))
