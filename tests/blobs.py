"""A small data set as the method sees it: blobs in feature space, of which some labels were flipped."""

from __future__ import annotations

import numpy as np

from labelclean.records import BoolArray, IntArray, View
from labelclean.train.neighbors import nearest, unit_norm
from labelclean.tssd.streams import neighbor_votes, prototype_affinity


def flipped_blobs(num_rows: int = 450, *, rate: float = 0.2) -> tuple[View, IntArray, BoolArray, IntArray]:
    """A view of three blobs, the labels, of which a share is flipped, which of them are wrong, and the truth."""
    rng = np.random.default_rng(0)
    truth = np.arange(num_rows) % 3
    points = rng.normal(size=(num_rows, 8)) + 2.5 * np.eye(8)[truth]
    wrong = rng.random(num_rows) < rate
    labels = np.where(wrong, (truth + rng.integers(1, 3, num_rows)) % 3, truth)
    features = unit_norm(points)
    rows, cosines = nearest(features, np.arange(num_rows), 15)
    votes, agreement = neighbor_votes(rows, cosines, labels, np.ones(num_rows), labels=labels, num_classes=3)
    affinity = prototype_affinity(features, labels, np.ones(num_rows), np.arange(num_rows), num_classes=3)
    logits = 1.5 * points[:, :3] + rng.normal(size=(num_rows, 3))
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return View(probs=probs, votes=votes, affinity=affinity, agreement=agreement), labels, wrong, truth
