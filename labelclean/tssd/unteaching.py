"""What being taught a label does to its scores, taken off again.

A network that was taught a row's label leans towards it, also where it is wrong. How far shows beside rows whose labels
were held out: were it not for the teaching, the labels of both would stand out from the other classes alike.

# N rows, K classes
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from labelclean.records import BoolArray, FloatArray, IntArray, View, of_label
from labelclean.tssd.numbers import FLOOR, softmax


def unteach(view: View, labels: IntArray, *, taught: BoolArray, held_out: BoolArray) -> View:
    """The view as if no label had been taught: every table's margins of taught labels get the spread of the held-out.

    Args:
        labels: given labels, (N,).
        taught: rows whose label their judge was taught, (N,).
        held_out: a random choice of rows whose labels it was not taught, at least one, (N,).
    """
    probs, votes = (
        softmax(match_margins(np.log(table + FLOOR), labels, taught=taught, held_out=held_out))
        for table in (view.probs, view.votes)
    )
    affinity = match_margins(view.affinity, labels, taught=taught, held_out=held_out)
    return replace(view, probs=probs, votes=votes, affinity=affinity)


def match_margins(scores: FloatArray, labels: IntArray, *, taught: BoolArray, held_out: BoolArray) -> FloatArray:
    """Scores in which the label's margin over the best other class has the same distribution in both groups, (N, K).

    The order of the taught rows by their margin stays; only the score of the given label changes.
    """
    rows = np.flatnonzero(taught)
    others = scores.astype(np.float64)
    others[np.arange(len(labels)), labels] = -np.inf
    best_other = others.max(axis=1)
    margins = of_label(scores, labels) - best_other
    rank = np.empty(len(rows))
    rank[np.argsort(margins[rows], kind="stable")] = (np.arange(len(rows)) + 0.5) / len(rows)
    matched = scores.astype(np.float64)
    matched[rows, labels[rows]] = best_other[rows] + np.quantile(margins[held_out], rank)
    return matched
