"""How many rows, best first, can be kept so that a wanted share of their labels is right.

# M rows that may be kept
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import beta

from labelclean.errors import InputError
from labelclean.records import BoolArray, FloatArray

CONFIDENCE = 0.95
"""With which a precision is held where golden rows can show it."""

NUM_CUTS = 10
"""Cuts that are tested on golden rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """Where the rows were cut to hold a precision.

    Attributes:
        wanted: the precision that was asked for.
        precision: share of right labels among the kept rows that are not golden, as expected from p_clean.
        num_golden: golden rows above the cut, on which it was tested; those with a wrong label are among them, but
            are not kept.
        confidence: with which the golden rows show the wanted precision; None without them.
    """

    wanted: float
    precision: float
    num_golden: int
    confidence: float | None


def cut_at(p_meta: FloatArray, p_clean: FloatArray, is_golden: BoolArray, *, precision: float) -> tuple[BoolArray, Cut]:
    """As many rows as can be said to hold the precision, and how far that is sure.

    With golden rows a few cuts are tested, at even numbers of golden rows, and the widest that passes is taken. A cut
    passes when the lower confidence limit (Clopper-Pearson, with Bonferroni's correction for the number of cuts) of
    the share of right labels among its golden rows is at least the precision; that holds for the other rows as far as
    the golden ones are a random choice. Those of `labelclean golden` are not: uncertain rows are over-represented
    among them, so that fewer of them are right than of the others. The test is then conservative: the others hold
    more than the precision, and more of them might have been kept.
    Without golden rows the widest cut is taken at which the mean of p_clean is at least the precision.
    Golden rows are kept, wherever they stand, where their label is right, and never where it is wrong.

    Args:
        p_meta: ranks the rows, also the golden ones, whose label it does not know, (M,).
        p_clean: P(label right); for golden rows 0 or 1, (M,).
        is_golden: (M,).
        precision: wanted share of right labels, in (0, 1).
    Returns:
        The kept rows, (M,), and the cut.
    Raises:
        InputError: no cut holds the precision.
    Source: a choice among tested cuts, as in Angelopoulos et al., "Learn then Test" (2021).
    """
    order = np.argsort(-p_meta, kind="stable")
    if is_golden.all():
        num_kept = len(order)  # nothing is left to be tested
    elif is_golden.any():
        num_kept = _tested_cut(is_golden[order], p_clean[order] > 0.5, precision)
    else:
        num_kept = _expected_cut(p_clean[order], precision)
    kept = np.zeros(len(order), dtype=bool)
    kept[order[:num_kept]] = True
    num_golden = int(is_golden[kept].sum())
    kept = np.where(is_golden, p_clean > 0.5, kept)
    confidence = CONFIDENCE if is_golden.any() else None
    share = expected_share(p_clean[kept], is_golden[kept])
    return kept, Cut(wanted=precision, precision=share, num_golden=num_golden, confidence=confidence)


def expected_share(p_clean: FloatArray, is_golden: BoolArray) -> float:
    """Mean of p_clean without golden rows; 1 where there are no others."""
    return float(p_clean[~is_golden].mean()) if not is_golden.all() else 1.0


def _tested_cut(is_golden: BoolArray, is_right: BoolArray, precision: float) -> int:
    """How many of the rows, best first, golden rows allow to be kept; is_right counts where is_golden."""
    places = np.flatnonzero(is_golden)
    num_golden = np.unique(np.ceil(len(places) * np.arange(1, NUM_CUTS + 1) / NUM_CUTS).astype(int))
    num_right = np.cumsum(is_right[places])[num_golden - 1]
    limit = beta.ppf((1 - CONFIDENCE) / NUM_CUTS, num_right, num_golden - num_right + 1)
    limit = np.nan_to_num(limit)  # undefined where none is right
    passed = num_golden[limit >= precision]
    if not len(passed):
        # so many would do if all of them were right: then the limit is the root of the error that is allowed
        least = int(np.ceil(np.log((1 - CONFIDENCE) / NUM_CUTS) / np.log(precision)))
        enough = f"With all labels right it takes {least:,}: check" if len(places) < least else "Check"
        raise InputError(
            f"{len(places):,} golden rows cannot show a precision of {precision:g}: "
            f"the highest that they show at any cut is {_rounded_down(limit.max())}",
            hint=f"{enough} more rows with `labelclean golden`, or ask for less with --precision.",
        )
    # all rows up to the next golden one
    return int(np.append(places, len(is_golden))[passed[-1]])


def _expected_cut(p_clean: FloatArray, precision: float) -> int:
    """How many of the rows, best first, may be kept by the mean of p_clean."""
    expected = np.cumsum(p_clean) / np.arange(1, len(p_clean) + 1)
    if expected.max(initial=0) < precision:
        raise InputError(
            f"no cut holds a precision of {precision:g}: "
            f"the highest that p_clean expects at any cut is {_rounded_down(expected.max(initial=0))}",
            hint="Ask for less with --precision, or check rows with `labelclean golden` and give them to the fit.",
        )
    return int(np.flatnonzero(expected >= precision)[-1]) + 1


def _rounded_down(share: float) -> str:
    """With three decimals, so that it can be asked for."""
    return f"{np.floor(1000 * share) / 1000:.3f}"
