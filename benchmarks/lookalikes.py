"""Wrong labels that the image itself looks like, in columns beside the true labels.

    python -m benchmarks.lookalikes GRID.toml NAME --out TRUTH.csv

What wrong labels are called goes by the doubts that a linear model on the frozen features, which did not see the row,
has about the image: drawn from them (lookalike_10 to lookalike_40), or the likeliest other class (runner_up_10 to
runner_up_40); which rows are mislabelled is left to chance, 10, 20 or 40 in a hundred. Or both go by them (boundary,
boundary_half): the likeliest other class again, and the more often the more the model hesitates between it and the
true one.
"""

from __future__ import annotations

import dataclasses
from itertools import product

import numpy as np
import pandas as pd

from benchmarks.confusions import hold_out_truth, read_arguments
from labelclean.records import FloatArray, IntArray
from labelclean.tssd.purification import draw_wrong

SHARES = (10, 20, 40)
"""Wrong labels in a hundred."""

AT_BOUNDARY = {"boundary": 0.5, "boundary_half": 0.25}
"""Share of wrong labels where the model is undecided between two classes."""


def main() -> None:
    """Write the true labels of one data set of a grid with the columns."""
    data, out = read_arguments(__doc__)
    cell, doubts = hold_out_truth(dataclasses.replace(data, rows=0))
    names = np.array(cell.class_names)
    table = pd.DataFrame({"path": cell.paths, "true_label": names[cell.true]})
    wrong = {
        "lookalike": draw_wrong(doubts, cell.true, np.random.default_rng(0)),
        "runner_up": runners_up(doubts, cell.true),
    }
    for share, (kind, labels) in product(SHARES, wrong.items()):
        given = mislabel(cell.true, labels, share / 100, np.random.default_rng(share))
        table[f"{kind}_{share}"] = names[given]
    for kind, most in AT_BOUNDARY.items():
        table[kind] = names[mislabel_hesitant(doubts, cell.true, most, np.random.default_rng(0))]
    table.to_csv(out, index=False)
    print(f"{len(table):,} rows\n{table.head().to_string(index=False)}")


def runners_up(doubts: FloatArray, true: IntArray) -> IntArray:
    """The likeliest class beside the true one, (N,), by the probabilities of all, (N, K)."""
    others = doubts.copy()
    others[np.arange(len(true)), true] = -1
    return np.asarray(others.argmax(axis=1))


def mislabel(true: IntArray, wrong: IntArray, rate: float, rng: np.random.Generator) -> IntArray:
    """Labels of which a share, drawn at random, is wrong, (N,).

    Args:
        true: (N,).
        wrong: what each row is called where it is mislabelled, (N,).
    """
    chosen = rng.permutation(len(true))[: round(rate * len(true))]
    given = true.copy()
    given[chosen] = wrong[chosen]
    return given


def mislabel_hesitant(doubts: FloatArray, true: IntArray, most: float, rng: np.random.Generator) -> IntArray:
    """Labels that are the runner-up's with chance most * (1 - m ** 2), m being how far the true class leads it, (N,).

    Args:
        doubts: probabilities of all classes, (N, K).
        most: the chance where the true class does not lead.
    Source: noise of type I that depends on a polynomial of the margin (Zhang et al., ICLR 2021), with the true class in
        place of the likeliest one.
    """
    rows, others = np.arange(len(true)), runners_up(doubts, true)
    lead = np.maximum(doubts[rows, true] - doubts[rows, others], 0)
    return np.where(rng.random(len(true)) < most * (1 - lead**2), others, true)


if __name__ == "__main__":
    main()
