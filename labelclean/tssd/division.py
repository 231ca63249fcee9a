"""Parallel division: certain where both streams agree about a label, uncertain where they do not.

# N rows, K classes
"""

from __future__ import annotations

import numpy as np

from labelclean.records import Bin, BoolArray, Division, FloatArray, IntArray

KEPT_SHARE = 0.1
"""Share of a class's rows, its most trusted ones, that stay positive when the division leaves it none."""


BEYOND_CHANCE = 3.0
"""Standard errors by which predictions must agree with labels more than chance would have it."""

SURE_SHARE = 0.7
"""Of the labels of a class that are right by expectation."""


def divide(p_loss: FloatArray, p_feature: FloatArray, labels: IntArray, *, trust: float, distrust: float) -> Division:
    """Bin rows by whether both streams agree about the label.

    A class that would lose all its positives keeps its most trusted rows: without them nothing could teach it again.

    Args:
        p_loss: P(label right) from the loss stream, (N,) in [0, 1].
        p_feature: the same from the feature stream, (N,).
        labels: given labels, (N,).
        trust: both strictly above: certain positive.
        distrust: both strictly below: certain negative.
    Raises:
        ValueError: the shapes differ, or distrust > trust.
    Source: TSSD (arXiv 2404.10499), Parallel Sample Division; the guard is ours.
    """
    if p_loss.shape != p_feature.shape or p_loss.shape != labels.shape:
        raise ValueError(f"shapes {p_loss.shape}, {p_feature.shape} and {labels.shape} differ")
    if distrust > trust:
        raise ValueError(f"distrust {distrust} lies above trust {trust}")
    bins = bin_rows(p_loss, p_feature, trust=trust, distrust=distrust)
    guards = []
    rows_of = np.bincount(labels)
    positives_of = np.bincount(labels[bins == Bin.CERTAIN_POSITIVE], minlength=len(rows_of))
    lost = np.flatnonzero((rows_of > 0) & (positives_of == 0))
    for label in lost:
        rows = np.flatnonzero(labels == label)
        num_kept = max(1, round(KEPT_SHARE * len(rows)))
        kept = rows[np.argsort(-(p_loss[rows] * p_feature[rows]), kind="stable")[:num_kept]]
        bins[kept] = Bin.CERTAIN_POSITIVE
    if len(lost):
        number = "one class" if len(lost) == 1 else f"{len(lost):,} classes"
        guards.append(f"{number} without certain positives, of which the most trusted rows are kept")
    return Division(bins=bins, guards=(*guards, *failure_signs(bins, labels)))


def most_trusted(p_clean: FloatArray, labels: IntArray) -> BoolArray:
    """Of each class the rows whose labels are trusted most, SURE_SHARE of those that are right by expectation, (N,).

    Thresholds leave hard classes next to nothing, and take from easy ones what is wrong too: at a random start, with
    50,000 rows of which two fifths are wrong, p_clean above .95 holds 96 % right labels and 13 rows of one class; what
    this chooses has 96 % right ones, too, and 1,800 rows of each class at least.

    Args:
        p_clean: P(label right), (N,).
        labels: given labels, (N,).
    """
    expected = np.bincount(labels, weights=p_clean)
    wanted = np.ceil(SURE_SHARE * expected).astype(np.int64)
    order = np.lexsort((-p_clean, labels))
    sizes = np.bincount(labels)
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    chosen = np.zeros(len(labels), dtype=bool)
    chosen[order] = rank < wanted[labels[order]]
    return chosen


def bin_rows(p_loss: FloatArray, p_feature: FloatArray, *, trust: float, distrust: float) -> IntArray:
    """A `Bin` per row: certain where both streams lie strictly above trust, or strictly below distrust, (N,)."""
    bins = np.full(len(p_loss), int(Bin.UNCERTAIN), dtype=np.int8)
    bins[(p_loss > trust) & (p_feature > trust)] = Bin.CERTAIN_POSITIVE
    bins[(p_loss < distrust) & (p_feature < distrust)] = Bin.CERTAIN_NEGATIVE
    return bins


def failure_signs(bins: IntArray, labels: IntArray) -> tuple[str, ...]:
    """The method's three ways to fail, in words, where the division shows them."""
    share = np.bincount(bins, minlength=3) / len(bins)
    signs = []
    if share[Bin.UNCERTAIN] > 0.6:
        signs.append(f"{share[Bin.UNCERTAIN]:.0%} of the rows are uncertain: the thresholds may be too strict")
    if share[Bin.CERTAIN_NEGATIVE] > max(share[Bin.CERTAIN_POSITIVE], 0.2):
        signs.append("more rows are certainly wrong than certainly right: the division is out of balance")
    positives = np.bincount(labels[bins == Bin.CERTAIN_POSITIVE], minlength=int(labels.max()) + 1)
    if _evenness(positives) < 0.8 * _evenness(np.bincount(labels, minlength=int(labels.max()) + 1)):
        signs.append("the certain rows cover few classes: the certain set lacks diversity")
    return tuple(signs)


def chance_signs(predicted: IntArray, labels: IntArray) -> tuple[str, ...]:
    """In words, where labels that were not taught are predicted no better than chance does.

    Chance predicts and labels the classes as often as they are predicted and given, each without regard to the other.

    Args:
        predicted: likeliest classes, (N,), N > 0.
        labels: given labels, (N,).
    Source: the chance agreement of Cohen's kappa (1960).
    """
    num_classes = int(max(predicted.max(), labels.max())) + 1
    shares = [np.bincount(classes, minlength=num_classes) / len(labels) for classes in (predicted, labels)]
    by_chance = float(shares[0] @ shares[1])
    least = by_chance + BEYOND_CHANCE * np.sqrt(by_chance * (1 - by_chance) / len(labels))
    if (predicted == labels).mean() > least:
        return ()
    return (
        "labels are predicted no better than by chance, so that no number here means much: they may be random, or the "
        "rows too few, or the backbone knows nothing of such images",
    )


def _evenness(counts: IntArray) -> float:
    """Entropy of the class shares in nats; 0 for no rows."""
    shares = counts[counts > 0] / max(counts.sum(), 1)
    return float(-(shares * np.log(shares)).sum())
