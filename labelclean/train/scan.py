"""What one evaluation pass over the data brings, and how it becomes a view once the voters' trust is known.

# N rows, K classes, D features, k neighbours
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from labelclean.records import BoolArray, FloatArray, IntArray, View
from labelclean.tssd.streams import neighbor_votes, prototype_affinity


@dataclass(frozen=True, slots=True)
class FeatureSpace:
    """The features of one network.

    Attributes:
        features: unit norm, (N, D).
        judged: rows that this network judges, (N,).
    """

    features: FloatArray
    judged: BoolArray


@dataclass(frozen=True, slots=True)
class Scan:
    """One evaluation pass.

    Attributes:
        probs: class probabilities, averaged over the image and its mirror, (N, K).
        neighbor_rows: (N, k), each row's in the feature space of the network that judges it, of other groups.
        similarities: cosines to them, (N, k).
        spaces: the networks' feature spaces; every row is judged in exactly one.
        pictures: unit-norm features by which doubled pictures and outliers are told, (N, D).
        taught: rows whose label was taught to what judges them, (N,).
    """

    probs: FloatArray
    neighbor_rows: IntArray
    similarities: FloatArray
    spaces: tuple[FeatureSpace, ...]
    pictures: FloatArray
    taught: BoolArray

    def view(self, labels: IntArray, voters: IntArray, trust: FloatArray, groups: IntArray) -> View:
        """The class scores of this scan.

        Args:
            labels: given labels, (N,).
            voters: the label with which each row votes, (N,).
            trust: how much its vote weighs, (N,).
            groups: rows of one group say nothing about each other, (N,).
        """
        num_classes = self.probs.shape[1]
        votes, agreement = neighbor_votes(
            self.neighbor_rows, self.similarities, voters, trust, labels=labels, num_classes=num_classes
        )
        affinity = np.empty(self.probs.shape)
        for space in self.spaces:
            table = prototype_affinity(space.features, voters, trust, groups, num_classes=num_classes)
            affinity[space.judged] = table[space.judged]
        return View(probs=self.probs, votes=votes, affinity=affinity, agreement=agreement)
