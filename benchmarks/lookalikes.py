"""Wrong labels that the image itself looks like, in columns beside the true labels.

    python -m benchmarks.lookalikes GRID.toml NAME --out TRUTH.csv

Which rows are mislabelled is left to chance, 10, 20 or 40 in a hundred. What they are called goes by the doubts that a
linear model on the frozen features, which did not see the row, has about the image: drawn from them (lookalike_10 to
lookalike_40), or the likeliest other class (runner_up_10 to runner_up_40).
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


if __name__ == "__main__":
    main()
