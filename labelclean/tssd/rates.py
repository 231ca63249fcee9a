"""How many labels are wrong: overall, in a class, among the rejected rows; each with a 95 % interval.

Without golden rows the interval joins what is random in the draws, how far the streams and the meta-classifier differ,
and that they may be wrong together. With enough of them that were drawn at random, with chances that are known, what
they showed beyond the expected corrects the estimate.

# N rows, R ways
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, t

from labelclean.records import BoolArray, Estimate, FloatArray, IntArray
from labelclean.tssd.numbers import log_odds, sigmoid, weaken_doubts

MIN_GOLDEN = 50
"""Golden rows of one draw and of known chance among those in question from which on they correct a share; for the
capture, inside and outside."""

SHARED_ERROR, DOUBT_SPREAD = 0.2, 0.3
"""What all ways have wrong together, since they share images and networks: standard deviations of what the log-odds of
a share are off by, and of the factor by which all log-odds against labels are. Without them ways that agree by chance
look sure: of the intervals for single classes 88 % held the truth in 53 runs with noise, with them 97 %."""

UPPER = 0.975
"""Quantile that bounds a 95 % interval."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WrongLabels:
    """Counts wrong labels among any rows.

    Attributes:
        ways: P(label right) by R ways that look at different evidence, the best one last, (N,) each.
        blind: P(label right) by a judge that was not told the row's golden label, (N,).
        known: which rows are golden, (N,).
        is_wrong: whether the label is wrong, where known, (N,).
        chances: with which the golden rows were chosen, (N,); NaN: unknown, so that they speak for
            themselves alone.
        draws: golden rows with the same number were chosen together, (N,).
    """

    ways: Sequence[FloatArray]
    blind: FloatArray
    known: BoolArray
    is_wrong: BoolArray
    chances: FloatArray
    draws: IntArray

    def _telling(self, rows: BoolArray) -> list[BoolArray]:
        """For each draw that is large enough, its golden rows among those of a mask: they stand for others, too.

        Rows that were sure to be chosen stand for themselves alone, where others were not chosen.
        """
        drawn = self.known & ~np.isnan(self.chances) & rows
        draws = (drawn & (self.draws == draw) for draw in np.unique(self.draws[drawn]))
        all_known = self.known[rows].all()
        return [draw for draw in draws if draw.sum() >= MIN_GOLDEN and (all_known or self.chances[draw].min() < 1)]

    def share(self, rows: BoolArray) -> Estimate | None:
        """Share of wrong labels among the rows of a mask, (N,); None where it is empty."""
        if not rows.any():
            return None
        if telling := self._telling(rows):
            value, variance = self._corrected(rows, telling)
            return interval(value, norm.ppf(UPPER) * np.sqrt(variance))
        wrong = [self._expected(p)[rows] for p in self.ways]
        draws = float((wrong[-1] * (1 - wrong[-1])).sum()) / len(wrong[-1]) ** 2
        return pooled([float(w.mean()) for w in wrong], within=draws, shared=self._shared_variance(rows))

    def _shared_variance(self, rows: BoolArray) -> float:
        """Of the share of wrong labels among the rows of a mask, by what all ways have wrong together."""
        unsure = rows & ~self.known
        if not unsure.any():
            return 0.0
        p = self.ways[-1][unsure]
        share = float(1 - p.mean())
        level = SHARED_ERROR * share * (1 - share)
        doubts = float((sigmoid(weaken_doubts(log_odds(p), weight=1 - DOUBT_SPREAD)) - p).mean())
        return (level**2 + doubts**2) * float(unsure.sum() / rows.sum()) ** 2

    def capture(self, rows: BoolArray) -> Estimate | None:
        """Share of all wrong labels that lies in the rows of a mask, (N,); None where no label can be wrong."""
        counts = [(float(w[rows].sum()), float(w[~rows].sum())) for w in map(self._expected, self.ways)]
        if min(inside + outside for inside, outside in counts) <= 0:
            return None
        parts = (rows, ~rows)
        telling = [self._telling(part) for part in parts]
        by_golden = all(telling)
        if by_golden:
            (inside, its_variance), (outside, other_variance) = (
                (part.sum() * value, part.sum() ** 2 * variance)
                for part, (value, variance) in zip(parts, map(self._corrected, parts, telling), strict=True)
            )
            if inside + outside <= 0:
                return None
        else:
            inside, outside = counts[-1]
            best = self._expected(self.ways[-1])
            its_variance, other_variance = (float((best * (1 - best))[part].sum()) for part in parts)
        variance = (outside**2 * its_variance + inside**2 * other_variance) / (inside + outside) ** 4
        if by_golden:
            return interval(inside / (inside + outside), norm.ppf(UPPER) * np.sqrt(variance))
        return pooled([inside / (inside + outside) for inside, outside in counts], within=variance)

    def _expected(self, p: FloatArray) -> FloatArray:
        """Expected number of wrong labels in each row, 0 or 1 in golden ones, (N,)."""
        return np.where(self.known, self.is_wrong, 1 - p)

    def _corrected(self, rows: BoolArray, draws: list[BoolArray]) -> tuple[float, float]:
        """Share of wrong labels among the rows of a mask, and its variance, by all draws.

        A draw counts by what its chances alone would let an estimate scatter. Its own variance knows what was found:
        that is least where nothing surprising was, and such draws would have it all.
        """
        if self.known[rows].all():
            return float(self.is_wrong[rows].mean()), 0.0
        scatter = np.array([_scatter(self.chances[golden]).sum() for golden in draws])
        found = np.array([self._corrected_by(golden, rows) for golden in draws])
        values, variances = found.T
        if not scatter.all():  # a draw that left nothing to chance
            return float(values[scatter.argmin()]), 0.0
        weights = 1 / scatter / (1 / scatter).sum()
        return float(weights @ values), float(np.square(weights) @ variances)

    def _corrected_by(self, golden: BoolArray, rows: BoolArray) -> tuple[float, float]:
        """Share of wrong labels among the rows of a mask, and its variance, by one draw of golden rows.

        What the blind judge expects, and on top the mean surprise of the drawn golden rows among them, each of which
        stands for 1 / chance rows; other golden rows are taken out before, and put back as what they are. Right
        whatever the judge is worth, as long as the chances are proportional to the true ones; the better it is, the
        smaller the variance, but never smaller than what it expects itself: a judge that was not surprised yet is not
        infallible.

        Source: the difference estimator (Cassel, Särndal and Wretman 1976) with Hájek's mean (1971).
        """
        settled = self.known & rows & ~golden
        others = rows & ~settled
        chances = self.chances[golden]
        surprises = self.is_wrong[golden] - (1 - self.blind[golden])
        mean = float(_weights(chances) @ surprises)
        number = len(surprises)
        spread = np.square(surprises - mean) * number / (number - 1)
        scale = _scatter(chances)
        variance = max(float(scale @ spread), float(scale @ (self.blind * (1 - self.blind))[golden]))
        of_others = float(np.clip(1 - self.blind[others].mean() + mean, 0, 1))
        share = others.sum() / rows.sum()
        value = share * of_others + float(self.is_wrong[settled].sum()) / float(rows.sum())
        return float(value), float(share**2 * variance)


def _scatter(chances: FloatArray) -> FloatArray:
    """What each of some drawn rows adds to the variance of their mean, in those of single rows, (G,).

    Of rows that were sure to be chosen nothing is left to chance.
    """
    return np.square(_weights(chances)) * (1 - chances)


def _weights(chances: FloatArray) -> FloatArray:
    """Of drawn rows in a mean: by the rows for which each stands, 1 / chance, together 1, (G,)."""
    return np.asarray(1 / chances / (1 / chances).sum())


def pooled(values: Sequence[float], *, within: float, shared: float = 0.0) -> Estimate:
    """The last of R values, with the variance within it, that between them, and that of what they have wrong together.

    Source: Rubin's rules for multiple imputation (1987) with his degrees of freedom; unlike there, the value is not the
    mean but the one that is known to be the best. The shared variance is not estimated from the values and leaves the
    degrees of freedom as they are.
    """
    num_ways = len(values)
    between = (1 + 1 / num_ways) * float(np.var(values, ddof=1)) if num_ways > 1 else 0.0
    freedom = (num_ways - 1) * (1 + within / between) ** 2 if between else np.inf
    estimated, given = t.ppf(UPPER, freedom) * np.sqrt(within + between), norm.ppf(UPPER) * np.sqrt(shared)
    return interval(values[-1], np.hypot(estimated, given))


def interval(value: float, reach: float) -> Estimate:
    """The value and so far around it, all inside [0, 1]."""
    return Estimate(value=value, low=max(0.0, value - float(reach)), high=min(1.0, value + float(reach)))
