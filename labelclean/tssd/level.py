"""Which way the share of wrong labels is misjudged, and by how much.

Two things are hard to tell apart where a model wavers: an ambiguous picture with a right label, and a wrong label.
Where they are plain, among rows of which the model is sure, shows what kind of noise it is. Wrong labels that fall
along the model's own confusions, as people's do, are partly taken for ambiguity wherever the model wavers: there are
more of them than it seems. Where they fall elsewhere, mistakes of a model that is too sure are taken for wrong labels.

# N rows, K classes
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labelclean.records import EPSILON, FloatArray, IntArray
from labelclean.tssd.numbers import LEAST_DOUBT, log_odds, sigmoid

SURE = 0.9
"""Probability of the likeliest class above which a row with another label is plainly wrong."""

TURNING_POINT, WIDTH = 0.7, 0.06
"""Correlation at which the level is right as it is, and how far from there it is nearly as wrong as it gets."""

MOST_UP, MOST_DOWN = 0.3, 0.5
"""Largest shifts of the log-odds: where noise falls elsewhere, and is less than it seems, and along the confusions."""

FEW_ROWS = 25
"""So many plainly wrong labels are worth half of what many would be."""

MANY = 0.4
"""Share of wrong labels from which on noise is said to be underestimated in full. The fewer there are the fewer were
taught, and the less does a model expect them; the doubts on clean labels are its own mistakes, which fall along its
confusions as well."""


LARGEST = 1.0
"""Log-odds by which an opinion moves the share of right labels at most."""

LITTLE_SEEN, ENOUGH_SEEN = 1000, 5000
"""Rows up to which a network that started at random knows the plainest of them alone, and from which on it knows
enough."""

EVEN, UNEVEN = 0.03, 0.06
"""Unevenness up to which plainly wrong labels fall on all other classes alike, and from which on they surely do not."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """Another estimate of how many labels are right.

    Attributes:
        share_right: of the labels, in [0, 1].
        weight: how far it is believed, in [0, 1].
    """

    share_right: float
    weight: float

    def sway(self, share_right: float) -> float:
        """An estimate of the share of right labels, in (0, 1), drawn towards this one."""
        if not self.weight:
            return share_right
        theirs, own = log_odds(np.array([share_right, self.share_right]), limit=LEAST_DOUBT)
        return float(sigmoid(theirs + np.clip(self.weight * (own - theirs), -LARGEST, LARGEST)))


def mean_opinion(opinions: Sequence[Opinion]) -> Opinion:
    """What judges that were asked the same think together."""
    return Opinion(
        share_right=float(np.mean([opinion.share_right for opinion in opinions])),
        weight=float(np.mean([opinion.weight for opinion in opinions])),
    )


@dataclass(frozen=True, slots=True)
class Likeness:
    """How far wrong labels go where the model itself wavers, and how much shows it.

    Attributes:
        correlation: between where plainly wrong labels fall and where the model's doubts do, in [-1, 1]; 0 where
            nothing can be told.
        num_plain: plainly wrong labels; less where nearly all rows have one other label, so that they could hardly fall
            elsewhere.
    """

    correlation: float
    num_plain: float


def likeness(prior: FloatArray, labels: IntArray) -> Likeness:
    """Compare where plainly wrong labels fall with where the model's doubts do.

    Of each true class z there are three distributions over the other labels: how often labels occur, u, how the
    plainly wrong labels of z fall, f, and how the model's doubts about z do, d. The correlation is that of f - u with
    d - u over all pairs of a class and another label, each class weighted by its plainly wrong labels. With labels
    a, b, c as frequent as each other u is (1/2, 1/2); if those of a that are plainly wrong are all called b, and a is
    confused with b alone as well, f - u = d - u = (1/2, -1/2), and a adds to the likeness as much as it can.

    Args:
        prior: P(true class | image), blind to the given label, (N, K), K > 2.
        labels: given labels, (N,).
    """
    weights, usual, found = _fall(prior, labels)
    observed, expected = found - usual, _shares(prior.T @ prior) - usual
    both = weights @ (observed * expected).sum(axis=1)
    size = np.sqrt(_spread(observed, found, weights) * (weights @ np.square(expected).sum(axis=1)))
    return Likeness(
        correlation=float(np.clip(both / size, -1, 1)) if size > EPSILON else 0.0,
        num_plain=float(weights @ _freedom(usual)),
    )


def hear_channel(prior: FloatArray, labels: IntArray, *, share_right: float) -> Opinion:
    """What a noise channel finds, believed as far as wrong labels fall on all other classes alike.

    Noise hides among ambiguous pictures where it goes along the model's confusions, which are never even. What is even
    hides nothing, and the channel, which expects just that, finds as many wrong labels as there are; elsewhere it finds
    too few.

    Args:
        prior, labels: as of `likeness`, but K may be 2, where nothing can be told.
        share_right: as the channel has it.
    """
    if prior.shape[1] < 3:
        return Opinion(share_right=share_right, weight=0.0)
    weights, usual, found = _fall(prior, labels)
    most = float(weights @ (1 - np.square(usual).sum(axis=1)))
    beyond_chance = float(weights @ np.square(found - usual).sum(axis=1)) - _by_chance(found, weights)
    evenness = np.clip((UNEVEN - beyond_chance / max(most, EPSILON)) / (UNEVEN - EVEN), 0, 1)
    num_plain = float(weights @ _freedom(usual))
    return Opinion(share_right=share_right, weight=float(evenness * num_plain / (num_plain + FEW_ROWS)))


def hear_channel_of_few(num_rows: int, *, share_right: float) -> Opinion:
    """What a noise channel finds from a random start, believed as far as rows are few.

    Of few rows the network learns what is plain. The meta-classifier, which takes what right labels look like from
    rows that both streams trust, then doubts all others. The channel makes no such choice.

    Args:
        share_right: as the channel has it.
    """
    weight = np.log(ENOUGH_SEEN / num_rows) / np.log(ENOUGH_SEEN / LITTLE_SEEN)
    return Opinion(share_right=share_right, weight=float(np.clip(weight, 0, 1)))


def _fall(prior: FloatArray, labels: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Where plainly wrong labels fall.

    Where a true class has a single one, where it falls is chance, and it is left out.

    Returns:
        Their number by true class, (K,); the shares of the other labels that would be usual, as often as these occur,
        and those that are found, (K, K) both.
    """
    counts = _plainly_wrong(prior, labels)
    counts[counts.sum(axis=1) < 2] = 0
    rows = np.bincount(labels, minlength=len(counts)).astype(np.float64)
    return counts.sum(axis=1), _shares(np.tile(rows, (len(counts), 1))), _shares(counts)


def _plainly_wrong(prior: FloatArray, labels: IntArray) -> FloatArray:
    """Counts of wrong labels by true class and label, of rows whose true class the model is sure of, (K, K)."""
    best = prior.argmax(axis=1)
    plain = (prior.max(axis=1) > SURE) & (best != labels)
    counts = np.zeros((prior.shape[1], prior.shape[1]))
    np.add.at(counts, (best[plain], labels[plain]), 1)
    return counts


def _spread(observed: FloatArray, found: FloatArray, weights: FloatArray) -> float:
    """Weighted sum of squares of what was observed, less what few labels scatter by chance, but no less than half.

    That scatter would make any noise look like none of the model's.
    """
    spread = float(weights @ np.square(observed).sum(axis=1))
    return max(spread - _by_chance(found, weights), spread / 2)


def _by_chance(found: FloatArray, weights: FloatArray) -> float:
    """Weighted sum of squares that labels scatter of which these shares were found, (K, K), among so many, (K,).

    Shares that were found among few labels are further apart than those by which they fell (Bessel's correction).
    """
    return float((1 - np.square(found).sum(axis=1)) @ (weights / np.maximum(weights - 1, 1)))


def _freedom(usual: FloatArray) -> FloatArray:
    """How far a class's wrong labels could fall elsewhere: 1 where other labels are alike, 0 if there is one, (K,)."""
    return np.asarray(np.minimum((1 - usual.max(axis=1)) / (1 - 1 / (len(usual) - 1)), 1))


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
    found = likeness(prior, labels)
    side = float(np.tanh((TURNING_POINT - found.correlation) / WIDTH)) * found.num_plain / (found.num_plain + FEW_ROWS)
    if side > 0:
        return odds + MOST_UP * side
    noise = 1 - float(sigmoid(odds).mean())
    return odds + MOST_DOWN * side * min(1.0, noise / MANY)


def _shares(counts: FloatArray) -> FloatArray:
    """Each row's shares of what lies beside the diagonal, (K, K) with zeros on it."""
    others = counts + EPSILON
    np.fill_diagonal(others, 0)
    return np.asarray(others / others.sum(axis=1, keepdims=True))
