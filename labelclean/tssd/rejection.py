"""Where to cut: up to which probability of being right a label is rejected.

# N rows
"""

from __future__ import annotations

import numpy as np

from labelclean.records import FloatArray


def rejection_cut(p_clean: FloatArray, *, precision: float) -> float:
    """The highest p_clean at which a label is rejected: one half, or more where that raises the expected F1.

    A label that is as likely wrong as right is always rejected. Beyond, where rejections are scarce or doubts many,
    rejecting some labels that are likelier right than wrong catches more wrong ones than it costs in precision; but
    only as long as the rejected rows hold a share of wrong labels that is worth somebody's look.

    Args:
        p_clean: P(label right), (N,).
        precision: least expected share of wrong labels among the rejected rows for a cut above one half, in [0, 1].
    Source: Lipton, Elkan and Narayanaswamy, "Optimal thresholding of classifiers to maximize F1 measure" (2014); the
        bound is ours.
    """
    if not len(p_clean):
        return 0.5
    doubts = 1 - np.sort(p_clean)
    num_rejected = np.arange(1, len(doubts) + 1)
    num_wrong = np.cumsum(doubts)
    best = int((num_wrong / (num_rejected + num_wrong[-1])).argmax()) + 1
    held = int((num_wrong / num_rejected >= precision).sum())  # the worst rows come first: the share only falls
    num_best = min(best, held)
    return max(0.5, float(1 - doubts[num_best - 1])) if num_best else 0.5
