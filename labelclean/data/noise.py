"""Planting wrong labels: to try the tool where the truth is known.

# N rows, K classes
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

import numpy as np

from labelclean.config import NoiseKind
from labelclean.errors import InputError
from labelclean.records import UNKNOWN, FloatArray, IntArray


def mistakes(kind: NoiseKind, class_rows: IntArray, *, confusion: FloatArray | None = None) -> FloatArray:
    """How labels go wrong: the relative frequency with which a row of class z is labelled y, for z != y, (K, K).

    symmetric: every other class is equally likely. asymmetric: z becomes z + 1, the last class the first. pairs:
    classes 0 and 1 are taken for each other, 2 and 3, and so on; a last class without partner stays right.
    confusion: in the proportions of observed counts.

    Args:
        kind: one of the four.
        class_rows: number of rows of each class, (K,).
        confusion: counts [true, given], (K, K); only for the kind `confusion`. Its diagonal is ignored.
    Raises:
        ValueError: an unknown kind, or `confusion` is missing or has another shape.
        InputError: fewer than two classes, or `confusion` holds no mistakes.
    """
    num_classes = len(class_rows)
    if num_classes < 2:
        raise InputError("the index has fewer than two classes", hint="Wrong labels need at least two.")
    classes = np.arange(num_classes)
    table = np.zeros((num_classes, num_classes))
    if kind == "symmetric":
        table[:] = 1.0
    elif kind == "asymmetric":
        table[classes, (classes + 1) % num_classes] = 1.0
    elif kind == "pairs":
        partners = classes ^ 1
        has_partner = partners < num_classes
        table[classes[has_partner], partners[has_partner]] = 1.0
    elif kind == "confusion" and confusion is not None and confusion.shape == table.shape:
        table[:] = confusion / np.maximum(class_rows, 1)[:, None]
    else:
        raise ValueError(f"{kind!r} is none of {get_args(NoiseKind)}, or its confusions are not {table.shape}")
    np.fill_diagonal(table, 0.0)
    if not table.any():
        raise InputError("the confusions name no two classes of the index", hint="Take a run on the same classes.")
    return table


def corrupt(labels: IntArray, table: FloatArray, *, rate: float, rng: np.random.Generator) -> IntArray:
    """Labels of which exactly round(rate * N) are wrong.

    Rows are drawn one after the other, with weights that are their classes' row sums in the table.

    Args:
        labels: class ids, UNKNOWN where missing; those stay, and do not count towards N, (N,).
        table: how labels go wrong, from `mistakes`, (K, K).
        rate: share of labels to make wrong, in [0, 1].
        rng: source of chance.
    Returns:
        New class ids, (N,).
    Raises:
        InputError: fewer rows than that belong to classes that can go wrong.
    """
    present = np.flatnonzero(labels != UNKNOWN)
    num_wrong = round(rate * len(present))
    weights = table.sum(axis=1)[labels[present]]
    if num_wrong > np.count_nonzero(weights):
        raise InputError(
            f"{num_wrong} labels were to be made wrong, but only {np.count_nonzero(weights)} belong to classes that "
            "this kind of noise touches",
            hint="Lower --rate, or choose another --kind.",
        )
    noisy = labels.copy()
    if num_wrong:
        chosen = rng.choice(present, size=num_wrong, replace=False, p=weights / weights.sum())
        for label in np.unique(labels[chosen]):
            rows = np.sort(chosen[labels[chosen] == label])
            noisy[rows] = rng.choice(len(table), size=len(rows), p=table[label] / table[label].sum())
    return noisy


def count_confusions(
    true: Iterable[str], given: Iterable[str], counts: Iterable[float], class_names: tuple[str, ...]
) -> FloatArray:
    """Counts [true, given] of named confusions, (K, K). Names that are no class are left out."""
    position = {name: number for number, name in enumerate(class_names)}
    table = np.zeros((len(class_names), len(class_names)))
    for true_name, given_name, count in zip(true, given, counts, strict=True):
        if true_name in position and given_name in position:
            table[position[true_name], position[given_name]] += count
    return table
