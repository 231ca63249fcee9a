"""The noise channel: how the unseen true class becomes the given label, estimated from the data alone.

A row's true class z is drawn from pi(z | x), a softmax over weighted class scores; the given label y~ is then drawn
from T[z, y~], a wrong one also by what the image looks like (see `resemblance`). T, the score weights and a class bias
are those under which the given labels are likeliest, by EM:

    sum over rows of log sum over z of pi(z | x) P(y~ | x, z)

In a step that moves the weights and the bias the image's part in P(y~ | x, z), which goes by pi as well, is held fixed.

The posterior of z = y~ is then a clean probability that knows how noisy the data is. T is drawn to its plainest form,
equal noise in all classes and towards other labels by their rows, as strongly as the data allow: confusions that few
rows bear out mislead more than they tell.

# N rows, K classes, V views (kinds of class scores)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from labelclean.records import EPSILON, UNKNOWN, FloatArray, IntArray
from labelclean.tssd.channel_search import Search
from labelclean.tssd.numbers import softmax
from labelclean.tssd.resemblance import (
    CONCENTRATED,
    MOST_CLASSES,
    MOST_SCORES,
    appeal_of,
    concentration,
    label_chances,
    label_likelihoods,
    wrong_chances,
)
from labelclean.tssd.shrinkage import PULL, Pull

MAX_ROWS, MAX_SCORES, LEAST_PER_CLASS = 100_000, 5_000_000, 20
"""A channel is fitted on a sample of the rows: at most so many, and no more scores than that in a view, but of many
classes so many rows for each in the mean all the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseChannel:
    """A fitted channel.

    Attributes:
        transition: T, (K, K), rows sum to one: P(given label | true class). Where s is above 0 that holds of the
            diagonal; the other entries are then what the image's own draw is multiplied by, see `resemblance`.
        weights: what each view's scores are multiplied by, (V,), non-negative.
        bias: added to the weighted scores, (K,).
        resemblance: s, how far wrong labels fall where the image looks like them, from 0 to LARGEST.
    """

    transition: FloatArray
    weights: FloatArray
    bias: FloatArray
    resemblance: float = 0.0

    def prior(self, scores: Sequence[FloatArray]) -> FloatArray:
        """P(true class | image), before the given label is looked at, (N, K)."""
        logits = self.bias + sum(weight * view for weight, view in zip(self.weights, scores, strict=True))
        return softmax(np.asarray(logits))

    def posterior(self, prior: FloatArray, labels: IntArray) -> FloatArray:
        """P(true class | image, given label), (N, K)."""
        transition, appeal = self._tensors(prior)
        joint = prior * label_likelihoods(transition, appeal, torch.from_numpy(labels)).numpy()
        return np.asarray(joint / joint.sum(axis=1, keepdims=True))

    def clean_posterior(self, prior: FloatArray) -> FloatArray:
        """P(true class is c | image, the given label is c) for every label c that could have been given, (N, K)."""
        right = prior * np.diag(self.transition)
        wrong = wrong_chances(*self._tensors(prior), torch.from_numpy(prior)).numpy()
        return np.asarray(right / np.maximum(right + wrong, EPSILON))

    def label_chances(self, prior: FloatArray, true: IntArray) -> FloatArray:
        """P(the given label is c | image, true class) for every label c, (N, K)."""
        return np.asarray(label_chances(*self._tensors(prior), torch.from_numpy(true)))

    def _tensors(self, prior: FloatArray) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(self.transition), appeal_of(torch.from_numpy(prior), self.resemblance)


def fit_channel(
    scores: Sequence[FloatArray],
    labels: IntArray,
    *,
    golden: IntArray | None = None,
    pull: Pull = PULL,
    rng: np.random.Generator,
) -> NoiseChannel:
    """Estimate the channel by expectation-maximisation.

    Args:
        scores: one (N, K) array of class scores per view, log-probabilities as a rule. They must come from models
            that have not learnt the row's own label: memorised labels look like clean ones.
        labels: given labels, (N,) in [0, K).
        golden: true labels where they are known, UNKNOWN elsewhere, (N,).
        pull: how it is found how strongly T is drawn to its plainest form.
        rng: draws a sample of the rows where there are more than enough.
    Raises:
        ValueError: no view, or the shapes differ.
    """
    if not scores or any(view.shape != (len(labels), scores[0].shape[1]) for view in scores):
        raise ValueError(f"scores of shapes {[view.shape for view in scores]} for {len(labels)} labels")
    golden = np.full(len(labels), UNKNOWN) if golden is None else golden
    num_classes = scores[0].shape[1]
    max_rows = min(MAX_ROWS, max(MAX_SCORES // num_classes, LEAST_PER_CLASS * num_classes))
    search = Search.among(scores, labels, golden, _sample(len(labels), max_rows, rng), by_image=False)
    found = search.settle(pull)
    if num_classes <= MOST_CLASSES and concentration(found.transition, search.posterior(found).sum(0)) < CONCENTRATED:
        sample = _sample(len(labels), min(max_rows, MOST_SCORES // num_classes), rng)
        found = Search.among(scores, labels, golden, sample, by_image=True).settle(pull)
    return NoiseChannel(
        transition=found.transition.double().numpy(),
        weights=found.log_weights.double().exp().numpy(),
        bias=found.bias.double().numpy(),
        resemblance=found.resemblance,
    )


def _sample(num_rows: int, max_rows: int, rng: np.random.Generator) -> IntArray:
    """So many of the rows at most. Golden ones come as often as others: they may have been picked for their looks."""
    return np.arange(num_rows) if num_rows <= max_rows else rng.choice(num_rows, max_rows, replace=False)
