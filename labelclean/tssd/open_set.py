"""Open-set noise: pictures that show none of the classes, under labels that then mean nothing.

For the like of them a model predicts no class more than others, since their labels tell it nothing. A noise channel
knows no picture without a class: to it a flat prediction is an ambiguous picture, whose label may well be right. But
ambiguity runs out. Of pictures that show a class there are the fewer the flatter the prediction is, and those that lie
near a flat one are hardly flatter than others; pictures of no class pile up at the flat end, and lie together.

# N rows, K classes, k neighbours
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit
from scipy.stats import beta

from labelclean.records import EPSILON, BoolArray, FloatArray, IntArray, of_label

FEWEST_CLASSES = 4
"""With fewer a picture that may show either of two is flat as it is."""

LEAST_FLAT = 0.3
"""Predictions that are less flat show a class."""

AMBIGUOUS = (1.0, 2.5)
"""Both parameters of the Beta distribution of how flat predictions are of pictures that show a class, beyond LEAST_FLAT
and brought to [0, 1]. Of stored runs the flattest are those of labels that people gave, and these are as flat as that;
clean labels, and wrong ones that were planted, have fewer."""

OF_NO_CLASS = ((1.8, 1.4), (3.0, 1.4), (6.0, 1.4))
"""The same of pictures that show none: the fewer of them a model can tell from the classes, the flatter all are. The
likeliest of these is taken."""

DOUBTERS = 20
"""So many rows speak against there being any such picture."""

SELDOM = 3.0
"""Log-odds against a set having such pictures at all, which the evidence of its rows must outweigh."""

WHOLE, PASSES = 5, 5
"""How frequent pictures of no class are about a row its neighbours tell, with what holds on the whole as so many more;
so often, since what these are their own neighbours tell."""

LEAST_SHARE = 1e-3
"""Of a class among labels, for flatness: by less than that nothing is divided."""

FLAT = 0.6
"""From where on a prediction is flat, for its neighbours to be looked at."""

NEAREST = 20
"""So many of a row's neighbours show whether flat predictions lie together."""

SCATTERED, TOGETHER = 1.15, 1.21
"""How many times flatter the neighbours of flat predictions are than those of middling ones: up to the first the flat
ones are what is hard to tell for the model, which may lie anywhere, from the second on they surely lie together."""

LEAST_ROWS = 20
"""With fewer rows of either kind nothing can be said about neighbours."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Which rows lie near which.

    Attributes:
        rows: that lie nearest in feature space, nearest first, (N, k).
        found: places that hold a neighbour, (N, k).
    """

    rows: IntArray
    found: BoolArray

    def mean(self, values: FloatArray) -> FloatArray:
        """Of each row's neighbours, NaN where it has none; (N,) -> (N,)."""
        count = self.found.sum(axis=1)
        total = np.where(self.found, values[self.rows], 0).sum(axis=1)
        return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))

    def nearest(self, most: int) -> Surroundings:
        """Of each row's neighbours so many at most."""
        return Surroundings(self.rows[:, :most], self.found[:, :most])

    def among(self, rows: BoolArray) -> Surroundings:
        """Neighbours that are among some rows, (N,)."""
        return Surroundings(self.rows, self.found & rows[self.rows])


class _Mixture(NamedTuple):
    """How likely pictures of no class are, as one assumption about their labels has them.

    Attributes:
        gain: in log-likelihood, in nats, over there being none.
        share: of the rows in question.
        ratios: how many times likelier each row shows none of the classes than one, 0 where that is no question, (N,).
        together: how surely flat predictions lie together.
    """

    gain: float
    share: float
    ratios: FloatArray
    together: float


def off_topic(
    prior: FloatArray, labels: IntArray, *, neighbor_rows: IntArray, similarities: FloatArray, share_wrong: float
) -> FloatArray:
    """Probability that a picture shows none of the classes, (N,).

    How flat predictions are is a mixture of two distributions, whose shares are fitted, first those in the whole and
    then those about each row. To a row's own evidence adds how likely its label is on a picture of no class. There all
    classes are as frequent as each other, or as they are among all labels: what explains the rows better is taken.

    Where there are so few classes that a picture which is like two of them is like most, nothing can be told.

    Args:
        prior: P(true class | image), blind to the given label, (N, K).
        labels: given labels, (N,).
        neighbor_rows: rows that lie nearest in feature space, nearest first, (N, k).
        similarities: cosines to them, (N, k); those that are not above 0 do not count.
        share_wrong: of the labels, as far as their pictures show a class.
    Source: the mixture and its constants are ours; docs/evidence.md tells from which runs.
    """
    num_classes = prior.shape[1]
    if num_classes < FEWEST_CLASSES:
        return np.zeros(len(labels))
    shares = np.bincount(labels, minlength=num_classes) / len(labels)
    expected = (1 - share_wrong) * of_label(prior, labels) + share_wrong * shares[labels]
    surroundings = Surroundings(rows=neighbor_rows, found=similarities > 0)
    supposed = [
        _mixture(flatness(prior, usual), usual[labels] / np.maximum(expected, EPSILON), surroundings)
        for usual in (np.full(num_classes, 1 / num_classes), shares)
    ]
    best = max(supposed, key=lambda mixture: mixture.gain)
    if not best.together:
        return np.zeros(len(labels))
    chance = _by_place(best.ratios, best.share, surroundings.among(best.ratios > 0))
    return np.asarray(expit(best.gain - SELDOM) * best.together * chance)


def flatness(prior: FloatArray, usual: FloatArray) -> FloatArray:
    """How little predictions differ from what is usual, (N,): 0 for a sure one, 1 for one that says nothing.

    It is the entropy, of its largest value, of the probabilities divided by the usual ones.

    Args:
        prior: class probabilities, (N, K), K > 1.
        usual: such as say nothing about a picture, (K,).
    """
    relative = prior / np.maximum(usual, LEAST_SHARE)
    relative /= relative.sum(axis=1, keepdims=True)
    return np.asarray(-(relative * np.log(relative + EPSILON)).sum(axis=1) / np.log(prior.shape[1]))


def lie_together(flat: FloatArray, surroundings: Surroundings) -> float:
    """How surely rows with flat predictions lie together in feature space, in [0, 1].

    Where a model knows too little to tell similar classes apart its predictions are flat, too, but the neighbours of
    those are hardly flatter than those of others.

    Args:
        flat: flatness, (N,).
    """
    around = surroundings.nearest(NEAREST).mean(flat)
    is_flat, is_middling = flat > FLAT, (flat > LEAST_FLAT) & (flat <= FLAT)
    of_flat, of_middling = (around[within & ~np.isnan(around)] for within in (is_flat, is_middling))
    if min(len(of_flat), len(of_middling)) < LEAST_ROWS:
        return 0.0
    contrast = float(np.median(of_flat) / max(float(np.median(of_middling)), EPSILON))
    return float(np.clip((contrast - SCATTERED) / (TOGETHER - SCATTERED), 0, 1))


def _mixture(flat: FloatArray, likeness: FloatArray, surroundings: Surroundings) -> _Mixture:
    """The likeliest mixture of pictures that show a class and of those that do not.

    As far as flat predictions do not lie together nothing is gained.

    Args:
        flat: flatness, (N,).
        likeness: how many times likelier the label is on a picture of no class than on one of a class, (N,).
    """
    together, in_question = lie_together(flat, surroundings), flat > LEAST_FLAT
    ratios = np.zeros(len(flat))
    if not together:
        return _Mixture(gain=0.0, share=0.0, ratios=ratios, together=together)
    beyond = np.clip((flat[in_question] - LEAST_FLAT) / (1 - LEAST_FLAT), EPSILON, 1 - EPSILON)
    over_class = likeness[in_question] / beta.pdf(beyond, *AMBIGUOUS)
    fits = [beta.pdf(beyond, *shape) * over_class for shape in OF_NO_CLASS]
    (gain, share), ratios[in_question] = max(((_mix(found), found) for found in fits), key=lambda fit: fit[0])
    return _Mixture(gain=together * gain, share=share, ratios=ratios, together=together)


def _mix(ratios: FloatArray) -> tuple[float, float]:
    """Fit the share of one of two distributions in a mixture.

    Args:
        ratios: how many times likelier each row is by this distribution than by the other, (M,).
    Returns:
        The gain in log-likelihood over there being none of it, in nats, less what DOUBTERS take off; and the share.
    """

    def loss(share: float) -> float:
        return -float(np.log1p(share * (ratios - 1)).sum()) - DOUBTERS * float(np.log1p(-share))

    found = minimize_scalar(loss, bounds=(0, 1 - EPSILON), method="bounded")
    return -float(found.fun), float(found.x)


def _by_place(ratios: FloatArray, share: float, surroundings: Surroundings) -> FloatArray:
    """Chance that each row is of the one distribution, where its share differs from place to place, (N,).

    Args:
        ratios: how many times likelier each row is by this distribution than by the other, (N,).
        share: in the mean of the rows in question.
        surroundings: with neighbours in question alone.
    """
    count = surroundings.found.sum(axis=1)
    local = np.full(len(ratios), share)
    for _ in range(PASSES):
        odds = local / (1 - local) * ratios
        around = np.nan_to_num(surroundings.mean(odds / (1 + odds)))
        local = (count * around + WHOLE * share) / (count + WHOLE)
    odds = local / (1 - local) * ratios
    return np.asarray(odds / (1 + odds))
