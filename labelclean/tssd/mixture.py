"""The clean posterior of the published methods: a two-component Gaussian mixture on one score per row.

# N rows, K classes
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from labelclean.records import BoolArray, FloatArray, IntArray

MIN_CLASS_ROWS = 50
"""Rows that every class needs for a mixture of its own; with fewer in any class all rows share one."""

MIN_GAP = 1.0
"""Two components count as two when their means lie at least so many pooled deviations apart."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MixtureFit:
    """Attributes:
    posterior: P(row belongs to the component with the higher mean), (N,).
    guards: words for each guard that fired.
    """

    posterior: FloatArray
    guards: tuple[str, ...]


def clean_posterior(
    scores: FloatArray, labels: IntArray, agreement: BoolArray, *, max_rows: int = 100_000, rng: np.random.Generator
) -> MixtureFit:
    """P(label right) from a score that is higher for right labels.

    A mixture always splits, also clean data. Where one Gaussian explains the scores as well, or the two means are
    not apart, the posterior is replaced by whether the model agrees with the label.

    Args:
        scores: higher speaks for the label, (N,), finite.
        labels: given labels, (N,).
        agreement: the model predicts the given label, (N,).
        max_rows: fit on a random sample of this size when there are more.
        rng: draws that sample and starts the mixture.
    Source: DivideMix (ICLR 2020) for the mixture, UNICON (CVPR 2022) for fitting it per class.
    """
    span = scores.max() - scores.min()
    if span < 1e-9:
        return MixtureFit(posterior=np.ones(len(scores)), guards=("all scores are equal: every label is trusted",))
    scaled = (scores - scores.min()) / span
    counts = np.bincount(labels)
    class_wise = bool(np.all(counts[counts > 0] >= MIN_CLASS_ROWS))
    groups = [np.flatnonzero(labels == c) for c in np.flatnonzero(counts)] if class_wise else [np.arange(len(labels))]
    posterior = np.empty(len(scores))
    fallbacks = 0
    for rows in groups:
        split = _fit(scaled[rows], max_rows, rng)
        fallbacks += split is None
        posterior[rows] = agreement[rows] if split is None else split
    guards = []
    if fallbacks:
        what = f"{fallbacks} of {len(groups)} mixtures" if class_wise else "the mixture"
        guards.append(f"{what} found no two groups: agreement of prediction and label was used")
    return MixtureFit(posterior=posterior, guards=tuple(guards))


def _fit(values: FloatArray, max_rows: int, rng: np.random.Generator) -> FloatArray | None:
    """Posterior of the higher of two components, or None when one component is enough."""
    column = values[:, None]
    sample = column if len(column) <= max_rows else column[rng.choice(len(column), max_rows, replace=False)]
    if len(sample) < 4 or np.ptp(sample) < 1e-9:
        return None
    seed = int(rng.integers(2**31))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        one, two = (
            GaussianMixture(n, reg_covar=5e-4, tol=1e-3, max_iter=50, random_state=seed).fit(sample) for n in (1, 2)
        )
    means, variances = two.means_[:, 0], two.covariances_[:, 0, 0]
    apart = abs(means[0] - means[1]) >= MIN_GAP * np.sqrt(variances @ two.weights_)
    if two.bic(sample) >= one.bic(sample) or not apart:
        return None
    posterior: FloatArray = two.predict_proba(column)[:, int(np.argmax(means))]
    return posterior
