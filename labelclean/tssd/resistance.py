"""Wrong labels resist: how many labels are right, by what a network learns of those that it would not have guessed.

A network disagrees with a label that was held out where the label is wrong, and where it does not know better itself.
Once it is taught the labels, it has learnt many of the latter by heart and hardly any of the wrong ones, which do not
go with the image. So the less teaching takes away from the disagreement, the more of it is wrong labels.

To a noise channel, mistakes that people make where the image looks like the other class are ambiguity, the more so the
better the network knows how people label. What teaching does to labels depends far less on where mistakes fall.

# N rows
"""

from __future__ import annotations

import numpy as np

from labelclean.records import BoolArray, IntArray
from labelclean.tssd.level import Opinion

LEARNT = 0.45
"""Of right labels that a network would not have guessed it agrees with so many once it was taught them, in one training
of a small ResNet from a random start as in `labelclean.train.schedule.SCRATCH`: .48 of CIFAR-10 and .44 of
Fashion-MNIST, 5,000 rows each with their true labels."""

HALF_BELIEVED = 1000
"""So many held-out labels make it worth half of the two opinions: its standard error is 2 points then."""


def find_resistance(predicted: IntArray, labels: IntArray, *, taught: BoolArray, held_out: BoolArray) -> Opinion:
    """How many labels are right, by how often taught ones and those held out are the predicted ones.

    Args:
        predicted: likeliest class by a network that was taught some of the labels, (N,).
        labels: given labels, (N,).
        taught: rows whose label it was taught, at least one, (N,).
        held_out: a random choice of rows whose labels it was not taught, at least one, (N,).
    """
    disagrees = predicted != labels
    unknown, unlearnt = float(disagrees[held_out].mean()), float(disagrees[taught].mean())
    share_wrong = unknown - (unknown - unlearnt) / LEARNT
    num_held_out = int(held_out.sum())
    return Opinion(
        share_right=float(np.clip(1 - share_wrong, 0, 1)), weight=num_held_out / (num_held_out + HALF_BELIEVED)
    )
