"""Where to cut: up to which probability of being right a label is rejected.

# N rows
"""

from __future__ import annotations

import numpy as np

from labelclean.records import Bin, BoolArray, FloatArray, IntArray


def rejection_cut(p_clean: FloatArray, *, precision: float) -> float:
    """The highest p_clean at which a label is rejected: one half, or more where that raises the expected F1.

    A label that is as likely wrong as right is always rejected. Rejecting some that are likelier right may catch more
    wrong ones than it costs in precision, but the rejected rows shall hold a share of wrong ones that is worth a look.

    Args:
        p_clean: P(label right), (N,).
        precision: least expected share of wrong labels among the rejected rows for a cut above one half, in [0, 1].
    Source: Lipton, Elkan and Narayanaswamy, "Optimal thresholding of classifiers to maximize F1 measure" (2014); the
        bound is ours.
    """
    if not len(p_clean):
        return 0.5
    worst_first = np.sort(p_clean)
    num_rejected = np.arange(1, len(worst_first) + 1)
    num_wrong = np.cumsum(1 - worst_first)
    best = int((num_wrong / (num_rejected + num_wrong[-1])).argmax()) + 1
    held = int((num_wrong / num_rejected >= precision).sum())  # the worst rows come first: the share only falls
    num_best = min(best, held)
    return max(0.5, float(worst_first[num_best - 1])) if num_best else 0.5


def is_rejected(bins: IntArray, p_clean: FloatArray, cut: float) -> BoolArray:
    """Rows that are rejected by their scores, (N,): not certain, and with a p_clean that does not lie above the cut."""
    return np.asarray((bins != Bin.CERTAIN_POSITIVE) & (p_clean <= cut))
