"""Folds that keep groups together and classes balanced.

# N rows
"""

from __future__ import annotations

import numpy as np

from labelclean.records import IntArray


def assign_folds(labels: IntArray, groups: IntArray, *, num_folds: int, rng: np.random.Generator) -> IntArray:
    """A fold for every row, (N,): groups stay whole, each class is dealt out evenly, and no fold is empty.

    Where there are fewer groups than folds there are fewer folds, numbered from 0.

    Groups of several rows come first, the largest at the head, each into the fold that has the fewest rows of its class
    so far, among such the fewest in all, and among such the last: the first one is no haunt of large groups. Then
    single rows fill every class up evenly.

    Args:
        labels: a group counts for the class of its first row, (N,).
        groups: numbered from 0, (N,).
    """
    _, first, sizes = np.unique(groups, return_index=True, return_counts=True)
    label_of = labels[first]
    order = rng.permutation(len(first))
    held = np.zeros((int(labels.max()) + 1, num_folds), dtype=np.int64)
    fold_of_group = np.empty(len(first), dtype=np.int64)
    several = order[sizes[order] > 1]
    for group in several[np.argsort(-sizes[several], kind="stable")]:
        counts = held[label_of[group]]
        fold = np.lexsort((-np.arange(num_folds), held.sum(axis=0), counts))[0]
        fold_of_group[group] = fold
        counts[fold] += sizes[group]
    single = order[sizes[order] == 1]
    single = single[np.argsort(label_of[single], kind="stable")]
    fold_of_group[single] = _fill_up(label_of[single], held)
    return np.unique(fold_of_group[groups], return_inverse=True)[1]


def _fill_up(labels: IntArray, held: IntArray) -> IntArray:
    """A fold for each of S rows, sorted by label, so that every class comes out as even as it can, (S,).

    Args:
        held: rows of each class that the folds have already, (K, F).
    """
    num_folds = held.shape[1]
    folds, start = [], int(held.sum(axis=0).argmin())
    for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
        turn = (np.arange(num_folds) - start) % num_folds
        # the places of all folds, the lowest first, from the emptiest on, or where the class before ended
        place, fold = np.meshgrid(np.arange(count), np.arange(num_folds), indexing="ij")
        lowest = np.lexsort((turn[fold].ravel(), (held[label] + place).ravel()))[:count]
        folds.append(fold.ravel()[lowest])
        start = (start + count) % num_folds
    return np.concatenate([*folds, np.empty(0, dtype=np.int64)])
