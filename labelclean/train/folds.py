"""Folds that keep groups together and classes balanced.

# N rows
"""

from __future__ import annotations

import numpy as np

from labelclean.records import UNKNOWN, ByteArray, IntArray


def join_groups(group_ids: IntArray, digests: ByteArray) -> IntArray:
    """Groups of rows that share the user's group or are the same file, numbered from 0, (N,).

    Args:
        group_ids: the user's groups, UNKNOWN for none, (N,).
        digests: of each row's file, (N, bytes).
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    num_rows = len(group_ids)
    rows = np.arange(num_rows)
    _, file_of = np.unique(digests, axis=0, return_inverse=True)
    grouped = np.flatnonzero(group_ids != UNKNOWN)
    # rows on one side, files and groups on the other: what hangs together is one group
    left = np.concatenate([rows, grouped])
    right = np.concatenate([num_rows + file_of, 2 * num_rows + group_ids[grouped]])
    size = 3 * num_rows + int(group_ids.max(initial=0)) + 1
    graph = coo_matrix((np.ones(len(left)), (left, right)), shape=(size, size))
    component = connected_components(graph, directed=False)[1][:num_rows]
    return np.unique(component, return_inverse=True)[1]


def assign_folds(labels: IntArray, groups: IntArray, *, num_folds: int, rng: np.random.Generator) -> IntArray:
    """A fold for every row, (N,): groups stay whole, and each class is dealt out evenly by its groups.

    Args:
        labels: a group counts for the class of its first row, (N,).
        groups: numbered from 0, (N,).
    """
    _, first = np.unique(groups, return_index=True)
    order = rng.permutation(len(first))
    order = order[np.argsort(labels[first[order]], kind="stable")]
    fold_of_group = np.empty(len(first), dtype=np.int64)
    fold_of_group[order] = np.arange(len(first)) % num_folds
    return fold_of_group[groups]
