"""Wrong labels that the image itself looks like: columns lookalike_10, _20 and _40 beside the true labels.

    python -m benchmarks.lookalikes GRID.toml NAME --out TRUTH.csv

Which rows are mislabelled is left to chance, so many in a hundred; what they are called is drawn from the doubts that a
linear model on the frozen features, which did not see the row, has about the image.
"""

from __future__ import annotations

import dataclasses

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
    for share in SHARES:
        given = mislabel(cell.true, doubts, share / 100, np.random.default_rng(share))
        table[f"lookalike_{share}"] = names[given]
    table.to_csv(out, index=False)
    print(f"{len(table):,} rows\n{table.head().to_string(index=False)}")


def mislabel(true: IntArray, doubts: FloatArray, rate: float, rng: np.random.Generator) -> IntArray:
    """Labels of which a share is wrong, each drawn by what the image looks like besides, (N,).

    Args:
        true: (N,).
        doubts: probabilities of the classes, (N, K).
    """
    chosen = rng.permutation(len(true))[: round(rate * len(true))]
    given = true.copy()
    given[chosen] = draw_wrong(doubts[chosen], true[chosen], rng)
    return given


if __name__ == "__main__":
    main()
