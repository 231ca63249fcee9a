"""Groups of rows that are no evidence for each other.

# N rows
"""

from __future__ import annotations

import numpy as np

from labelclean.records import UNKNOWN, IntArray


def join_groups(group_ids: IntArray, files: IntArray) -> IntArray:
    """Groups of rows that share the user's group or are the same file, numbered from 0, (N,).

    Args:
        group_ids: the user's groups, UNKNOWN for none, (N,).
        files: number of each row's file, equal for identical files, (N,).
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    num_rows = len(group_ids)
    rows = np.arange(num_rows)
    grouped = np.flatnonzero(group_ids != UNKNOWN)
    # rows on one side, files and groups on the other: what hangs together is one group
    left = np.concatenate([rows, grouped])
    first_group = num_rows + int(files.max()) + 1
    right = np.concatenate([num_rows + files, first_group + group_ids[grouped]])
    size = first_group + int(group_ids.max(initial=0)) + 1
    graph = coo_matrix((np.ones(len(left)), (left, right)), shape=(size, size))
    component = connected_components(graph, directed=False)[1][:num_rows]
    return np.unique(component, return_inverse=True)[1]
