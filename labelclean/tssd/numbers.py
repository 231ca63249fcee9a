"""Probabilities, their logarithms and their odds.

# N rows, K classes
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from labelclean.records import EPSILON, FloatArray

FLOOR = 1e-8
"""Added to a stream's probabilities before their logarithm."""

LEAST_DOUBT = 0.002
"""The share of wrong labels, and of right ones, is expected to be no less."""

MAX_ODDS = 20.0
"""Log-odds beyond which nothing is believed."""


def log_odds(p: FloatArray, *, limit: float = 1e-5) -> FloatArray:
    """ln(p / (1 - p)), with p kept away from 0 and 1 by `limit`."""
    p = np.clip(p, limit, 1 - limit)
    return np.asarray(np.log(p) - np.log1p(-p))


def sigmoid(x: FloatArray) -> FloatArray:
    """The inverse of log_odds."""
    return np.asarray(expit(x))


def weaken_doubts(odds: FloatArray, *, weight: float) -> FloatArray:
    """Log-odds of which those below zero count `weight`; their order and one half stay."""
    return np.where(odds < 0, weight * odds, odds)


def shift_to_mean(odds: FloatArray, mean: float) -> FloatArray:
    """Log-odds all shifted alike, so that the mean of their probabilities, in (0, 1), is this one, (N,)."""
    shift: float = brentq(lambda shift: sigmoid(odds + shift).mean() - mean, -2 * MAX_ODDS, 2 * MAX_ODDS)
    return odds + shift


def cross_entropy(odds: FloatArray, goal: FloatArray) -> float:
    """Mean of what log-odds are off a probability that is their goal, (N,) both."""
    return float((np.logaddexp(0, odds) - goal * odds).mean())


def softmax(scores: FloatArray) -> FloatArray:
    """(N, K) -> (N, K), rows sum to one."""
    exp = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(exp / exp.sum(axis=1, keepdims=True))


def correct_prior(probs: FloatArray, prior: FloatArray) -> FloatArray:
    """Probabilities whose mean is pulled to the class prior: p(c) * prior(c) / mean p(c), normalised, (N, K)."""
    corrected = probs * (prior / np.maximum(probs.mean(axis=0), EPSILON))
    return np.asarray(corrected / corrected.sum(axis=1, keepdims=True))
