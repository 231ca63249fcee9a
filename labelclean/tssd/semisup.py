"""The semi-supervised round: what the networks are taught, and the three parts of its loss.

L = L_C + lambda_u * L_U + lambda_r * L_reg

# N rows, K classes, B batch
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from labelclean.records import EPSILON, UNKNOWN, BoolArray, FloatArray, IntArray
from labelclean.tssd.numbers import softmax

LEAST_WEIGHT = 0.1
"""What any row counts at least."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lesson:
    """What a training round teaches.

    Attributes:
        labelled: rows whose label is believed, (N,).
        targets: the label with the share p_clean, the guess among the other classes with the rest, (N, K) float32.
        guesses: the prediction, blind to the row's own label, sharpened, (N, K) float32.
        weights: how much a row counts, in [0, 1], (N,) float32.
    """

    labelled: BoolArray
    targets: FloatArray
    guesses: FloatArray
    weights: FloatArray


def first_lesson(labels: IntArray, refuted: BoolArray, *, num_classes: int) -> Lesson:
    """Every label is believed that is not known to be wrong, as before anything is known; guesses know nothing.

    Args:
        labels: the best known ones, (N,).
        refuted: rows whose label is known to be wrong, and no more, (N,).
    """
    guesses = np.full((len(labels), num_classes), 1 / num_classes, dtype=np.float32)
    targets = np.where(refuted[:, None], guesses, np.eye(num_classes, dtype=np.float32)[labels])
    weights = np.where(refuted, LEAST_WEIGHT, 1).astype(np.float32)
    return Lesson(labelled=~refuted, targets=targets, guesses=guesses, weights=weights)


def confidence(guesses: FloatArray) -> FloatArray:
    """How far each guess is from knowing nothing: 0 for all classes alike, 1 for a single one, (N,)."""
    chance = 1 / guesses.shape[1]
    return np.asarray((guesses.max(axis=1) - chance) / (1 - chance))


def make_lesson(
    prior: FloatArray,
    p_clean: FloatArray,
    labels: IntArray,
    labelled: BoolArray,
    *,
    golden: IntArray,
    temperature: float,
) -> Lesson:
    """Targets for the next round.

    A label keeps the share p_clean of its row's target and leaves the rest to the guess among the other classes
    (co-refinement); of a golden row the target is the true label. Believed rows are taught by L_C, the others by L_U; a
    network that must not see a row's label, golden or not, is taught the guess instead of the target.

    Args:
        prior: P(true class | image), blind to the given label, (N, K).
        p_clean: P(label right), (N,).
        labelled: rows whose label is believed, (N,).
        golden: true labels where known, UNKNOWN elsewhere, (N,).
        temperature: of the sharpening.
    """
    guesses = sharpen(prior, temperature=temperature)
    rows = np.arange(len(labels))
    others = prior.copy()
    others[rows, labels] = 0
    others /= np.maximum(others.sum(axis=1, keepdims=True), EPSILON)
    targets = (1 - p_clean)[:, None] * sharpen(others, temperature=temperature)
    targets[rows, labels] += p_clean
    known = golden != UNKNOWN
    targets[known] = np.eye(prior.shape[1])[golden[known]]
    weights = np.maximum(targets.max(axis=1), LEAST_WEIGHT)
    return Lesson(
        labelled=labelled | known,
        targets=targets.astype(np.float32),
        guesses=guesses.astype(np.float32),
        weights=weights.astype(np.float32),
    )


def sharpen(probs: FloatArray, *, temperature: float) -> FloatArray:
    """probs ** (1 / temperature), normalised, (N, K). Source: MixMatch (NeurIPS 2019)."""
    return softmax(np.log(np.maximum(probs, 1e-12)) / temperature)


def mix(values: torch.Tensor, order: torch.Tensor, share: float) -> torch.Tensor:
    """share * values + (1 - share) * values[order], for images or targets. Source: MixUp (ICLR 2018)."""
    return share * values + (1 - share) * values[order]


def labelled_loss(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """L_C: weighted cross-entropy against soft targets in nats, summed; (B, K), (B, K), (B,) -> ()."""
    return -(weights * (targets * F.log_softmax(logits, dim=1)).sum(dim=1)).sum()


def unlabelled_loss(logits: torch.Tensor, guesses: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """L_U: weighted squared distance of the prediction to the guess, in [0, 2] per row, summed; shapes as L_C."""
    return (weights * (F.softmax(logits, dim=1) - guesses).square().sum(dim=1)).sum()


def prior_penalty(logits: torch.Tensor, prior: torch.Tensor) -> torch.Tensor:
    """L_reg: KL divergence in nats of the batch's mean prediction from the class prior; (B, K), (K,) -> ()."""
    mean = F.softmax(logits, dim=1).mean(dim=0)
    return (prior * (prior.clamp_min(EPSILON).log() - mean.clamp_min(EPSILON).log())).sum()


def ramp(progress: float) -> float:
    """Weight of L_U over training: linear over the first half, 1 from there; progress in [0, 1]."""
    return min(1.0, 2 * progress)
