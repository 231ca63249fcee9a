"""Groups: what hangs together by the user's groups and by equal files."""

from __future__ import annotations

import numpy as np

from labelclean.data.groups import join_groups
from labelclean.records import UNKNOWN


def test_groups_join_through_equal_files():
    """Rows 0 and 2 share a group, 2 and 3 a file, 3 and 5 another group: one group. 1 and 4 share a file."""
    groups = join_groups(np.array([7, UNKNOWN, 7, 4, UNKNOWN, 4, UNKNOWN]), np.array([0, 1, 2, 2, 1, 5, 6]))
    assert len(set(groups[[0, 2, 3, 5]])) == 1
    assert groups[1] == groups[4]
    assert len(set(groups[[0, 1, 6]])) == 3
    assert sorted(set(groups)) == [0, 1, 2]


def test_rows_without_group_and_copy_stay_alone():
    groups = join_groups(np.full(5, UNKNOWN), np.array([4, 3, 2, 1, 0]))
    assert sorted(groups) == [0, 1, 2, 3, 4]
