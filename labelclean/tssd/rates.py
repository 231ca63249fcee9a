"""How many labels are wrong: overall, in a class, among the rejected rows; each with a 95 % interval.

Without golden rows the interval joins what is random in the draws and how far the streams and the meta-classifier
differ. With enough of them, what they showed beyond the expected corrects the estimate.

# N rows, R ways
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, t

from labelclean.records import BoolArray, Estimate, FloatArray

MIN_GOLDEN = 50
"""Golden rows on each side of a question from which on they correct its answer."""

UPPER = 0.975
"""Quantile that bounds a 95 % interval."""

Statistic = Callable[[FloatArray, BoolArray], tuple[float, FloatArray]]
"""From the expected number of wrong labels in each row and the rows in question: a value, and its derivatives, (N,)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WrongLabels:
    """Counts wrong labels among any rows.

    Attributes:
        ways: P(label right) by R ways that look at different evidence, the best one last, (N,) each.
        blind: P(label right) by a judge that was not told the row's golden label, (N,).
        known: which rows are golden, (N,).
        is_wrong: whether the label is wrong, where known, (N,).
        chances: with which the golden rows were chosen, (N,); NaN: they are a random choice.
    """

    ways: Sequence[FloatArray]
    blind: FloatArray
    known: BoolArray
    is_wrong: BoolArray
    chances: FloatArray

    def share(self, rows: BoolArray) -> Estimate | None:
        """Share of wrong labels among the rows of a mask, (N,); None where it is empty."""
        if not rows.any():
            return None
        return self._estimate(_share, rows, num_golden=int((self.known & rows).sum()))

    def capture(self, rows: BoolArray) -> Estimate | None:
        """Share of all wrong labels that lies in the rows of a mask, (N,); None where no label can be wrong."""
        if not (1 - self._settled(self.ways[-1])).any():
            return None
        num_golden = min(int((self.known & part).sum()) for part in (rows, ~rows))
        return self._estimate(_capture, rows, num_golden=num_golden)

    def _estimate(self, statistic: Statistic, rows: BoolArray, *, num_golden: int) -> Estimate:
        if num_golden >= MIN_GOLDEN:
            return self._by_golden(statistic, rows)
        values = [statistic(1 - self._settled(p), rows)[0] for p in self.ways]
        best = self._settled(self.ways[-1])
        _, weights = statistic(1 - best, rows)
        return pooled(values, within=float(np.square(weights) @ (best * (1 - best))))

    def _settled(self, p: FloatArray) -> FloatArray:
        """Probabilities that know the golden rows, (N,)."""
        return np.where(self.known, ~self.is_wrong, p)

    def _by_golden(self, statistic: Statistic, rows: BoolArray) -> Estimate:
        """The blind judge's answer, corrected by what the golden rows have more of wrong labels than it expected.

        Unbiased whatever the judge is worth, as long as the chances are true; the better it is, the narrower the
        interval. Source: the difference estimator (Cassel, Särndal and Wretman 1976), its variance by Hansen and
        Hurwitz (1943), the capture's by linearisation.
        """
        chances = np.where(np.isnan(self.chances), self.known.mean(), self.chances)
        expected = 1 - self.blind
        surprise = np.where(self.known, self.is_wrong - expected, 0.0) / chances
        value, weights = statistic(expected + surprise, rows)
        parts = (weights * surprise)[self.known]
        return interval(value, float(norm.ppf(UPPER) * np.sqrt(len(parts) * parts.var(ddof=1))))


def _share(wrong: FloatArray, rows: BoolArray) -> tuple[float, FloatArray]:
    weights = rows / rows.sum()
    return float(weights @ wrong), weights


def _capture(wrong: FloatArray, rows: BoolArray) -> tuple[float, FloatArray]:
    inside, outside = float(wrong[rows].sum()), float(wrong[~rows].sum())
    total = inside + outside
    return inside / total, np.where(rows, outside, -inside) / total**2


def pooled(values: Sequence[float], *, within: float) -> Estimate:
    """The last of R values, with the variance within it and that between them.

    Source: Rubin's rules for multiple imputation (1987), with his degrees of freedom.
    """
    num_ways = len(values)
    between = (1 + 1 / num_ways) * float(np.var(values, ddof=1)) if num_ways > 1 else 0.0
    freedom = (num_ways - 1) * (1 + within / between) ** 2 if between else np.inf
    return interval(values[-1], float(t.ppf(UPPER, freedom)) * float(np.sqrt(within + between)))


def interval(value: float, reach: float) -> Estimate:
    """The value and so far around it, all inside [0, 1]."""
    value = float(np.clip(value, 0, 1))
    return Estimate(value=value, low=max(0.0, value - reach), high=min(1.0, value + reach))
