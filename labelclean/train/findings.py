"""From the last rounds to the findings: averages, final division, calibration, suggestions, and the noise rate.

# N rows, K classes, R estimates
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from labelclean.config import FitConfig
from labelclean.records import EPSILON, UNKNOWN, BoolArray, ByteArray, Findings, FloatArray, IntArray, of_label
from labelclean.train.judge import Labels
from labelclean.train.loop import LoopResult
from labelclean.train.neighbors import duplicate_groups, outlier_scores
from labelclean.tssd.division import divide
from labelclean.tssd.purification import MIN_GOLDEN, calibrate, sigmoid
from labelclean.tssd.semisup import correct_prior


def conclude(
    result: LoopResult, labels: Labels, config: FitConfig, *, rows: IntArray, pixels: ByteArray, digests: ByteArray
) -> Findings:
    """The findings about the judged rows.

    Streams, meta-classifier and predictions are averaged over the rounds that count and over the judges; the last
    division and purification are made on the averages.

    Args:
        rows: positions of the judged rows in the index, (N,).
        pixels: all decoded images, indexed by position in the index.
        digests: of the judged rows' files, (N, bytes).
    """
    p_loss, p_feature, p_meta = (sigmoid(_average(result, name)) for name in ("p_loss", "p_feature", "p_meta"))
    division = divide(p_loss, p_feature, labels.given, trust=config.trust, distrust=config.distrust)
    golden = labels.golden
    p_clean = calibrate(p_meta, labels.given, golden)
    known = golden != UNKNOWN
    if known.sum() < MIN_GOLDEN:
        estimates = [np.where(known, golden == labels.given, p) for p in (p_loss, p_feature, p_clean)]
        noise_rate, interval = estimate_noise(estimates)
    else:
        is_wrong = golden[known] != labels.given[known]
        noise_rate, interval = noise_by_golden(p_meta, known, is_wrong, labels.golden_chances[known])

    prior = _average(result, "prior")
    prior = correct_prior(prior, _class_shares(prior, p_clean, labels.given))
    suggested, p_suggested = suggest(prior, p_clean, labels.given)
    scan, rounds = result.scans[0], sum(judge.num_rounds for judge in result.judges)
    hits = np.sum([of_label(judge.hits, labels.given) for judge in result.judges], axis=0)
    return Findings(
        rows=rows,
        bins=division.bins,
        accepted=division.uncertain & (p_clean > 0.5),
        p_clean=p_clean,
        p_loss=p_loss,
        p_feature=p_feature,
        p_meta=p_meta,
        suggested_ids=suggested,
        p_suggested=p_suggested,
        loss=_average(result, "loss"),
        margin=margins(prior, labels.given),
        knn_agreement=_average(result, "agreement"),
        wrong_event_rate=1 - hits / rounds,
        outlier_score=outlier_scores(scan.similarities),
        duplicate_group=duplicate_groups(scan.neighbor_rows, scan.similarities, pixels, rows, digests),
        noise_rate=noise_rate,
        noise_interval=interval,
        history=tuple(result.history),
    )


def _average(result: LoopResult, name: str) -> FloatArray:
    """A tally's mean over the rounds that count and over the judges."""
    means = [judge.tally[name] / judge.num_tallied for judge in result.judges]
    return np.asarray(np.mean(means, axis=0))


def _class_shares(prior: FloatArray, p_clean: FloatArray, labels: IntArray) -> FloatArray:
    """Estimated share of each true class: right labels count for their class, the rest for the prediction, (K,)."""
    blind = (1 - p_clean) @ prior
    kept = np.bincount(labels, weights=p_clean, minlength=prior.shape[1])
    return np.asarray((blind + kept) / len(labels))


def suggest(prior: FloatArray, p_clean: FloatArray, labels: IntArray) -> tuple[IntArray, FloatArray]:
    """The most probable class and its probability, (N,) both: the given label has p_clean, the others share the rest.

    Args:
        prior: P(true class | image), blind to the given label, (N, K).
    """
    rows = np.arange(len(labels))
    posterior = prior.copy()
    posterior[rows, labels] = 0
    posterior *= ((1 - p_clean) / np.maximum(posterior.sum(axis=1), EPSILON))[:, None]
    posterior[rows, labels] = p_clean
    best = posterior.argmax(axis=1)
    return best, np.asarray(posterior[rows, best])


def margins(prior: FloatArray, labels: IntArray) -> FloatArray:
    """Log-odds of the given label against the best other class, (N,)."""
    others = prior.copy()
    others[np.arange(len(labels)), labels] = 0
    return np.asarray(np.log(of_label(prior, labels) + EPSILON) - np.log(others.max(axis=1) + EPSILON))


def estimate_noise(estimates: Sequence[FloatArray]) -> tuple[float, tuple[float, float]]:
    """Share of wrong labels by the last estimate, with a 95 % interval.

    The interval joins the spread of the draws within an estimate and the spread between the estimates, as Rubin's
    rules for multiple imputation do (Rubin 1987).

    Args:
        estimates: P(label right) by R ways that look at different evidence, (N,) each.
    """
    rates = [1 - float(p.mean()) for p in estimates]
    within = float((estimates[-1] * (1 - estimates[-1])).sum()) / len(estimates[-1]) ** 2
    between = float(np.var(rates, ddof=1)) if len(rates) > 1 else 0.0
    reach = 1.96 * np.sqrt(within + (1 + 1 / len(rates)) * between)
    return rates[-1], (max(0.0, rates[-1] - reach), min(1.0, rates[-1] + reach))


def noise_by_golden(
    p_clean: FloatArray, known: BoolArray, is_wrong: BoolArray, chances: FloatArray
) -> tuple[float, tuple[float, float]]:
    """Share of wrong labels by p_clean, corrected by golden rows, with a 95 % interval.

    The correction is unbiased whatever p_clean is worth, as long as it did not see the golden rows' labels and the
    chances are true; the better p_clean, the narrower the interval.

    Args:
        p_clean: P(label right) of all rows, which knows no golden label, (N,).
        known: golden rows, (N,).
        is_wrong: whether the given label of each golden row is wrong, (G,).
        chances: with which the golden rows were chosen, (G,); NaN: they are a random choice.
    Source: the difference estimator (Cassel, Särndal and Wretman 1976) with Hansen and Hurwitz's variance (1943).
    """
    num_rows, num_golden = len(p_clean), int(known.sum())
    chances = np.where(np.isnan(chances), num_golden / num_rows, chances)
    surprise = (is_wrong - (1 - p_clean[known])) / chances / num_rows
    rate = float(np.clip(1 - p_clean.mean() + surprise.sum(), 0, 1))
    reach = 1.96 * float(np.sqrt(num_golden * surprise.var(ddof=1)))
    return rate, (max(0.0, rate - reach), min(1.0, rate + reach))
