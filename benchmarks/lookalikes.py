"""Wrong labels that the image itself looks like: columns lookalike_10, _20 and _40 beside the true labels.

    python -m benchmarks.lookalikes GRID.toml NAME --out TRUTH.csv

Which rows are mislabelled is left to chance, so many in a hundred; what they are called is drawn from the doubts that a
linear model on the frozen features, which did not see the row, has about the image.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.cells import lay_out, read_grid
from benchmarks.grid import Bench
from benchmarks.rivals import hold_out_frozen
from labelclean.config import resolve
from labelclean.records import FloatArray, IntArray

SHARES = (10, 20, 40)
"""Wrong labels in a hundred."""


def main() -> None:
    """Add the columns to the table of one data set of a grid."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path)
    parser.add_argument("name", help="of the data set")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    data = next(data for data in read_grid(args.grid)[0] if data.name == args.name)
    with tempfile.TemporaryDirectory() as folder:
        cell = lay_out(dataclasses.replace(data, rows=0), "none", 0, Path(folder))
        config = resolve(flags={**data.settings, "effort": "quick"})
        features, _ = Bench(cell, config, Path(folder)).frozen_features()
        doubts = hold_out_frozen(features, cell.true, seed=config.seed)
    names = np.array(cell.class_names)
    table = pd.DataFrame({"path": cell.paths, "true_label": names[cell.true]})
    for share in SHARES:
        given = mislabel(cell.true, doubts, share / 100, np.random.default_rng((config.seed, share)))
        table[f"lookalike_{share}"] = names[given]
    table.to_csv(args.out, index=False)
    print(table.head())


def mislabel(true: IntArray, doubts: FloatArray, rate: float, rng: np.random.Generator) -> IntArray:
    """Labels of which a share is wrong, each drawn by what the image looks like besides, (N,).

    Args:
        true: (N,).
        doubts: probabilities of the classes, (N, K).
    """
    chosen = rng.permutation(len(true))[: round(rate * len(true))]
    others = doubts[chosen] + 1e-9
    others[np.arange(len(chosen)), true[chosen]] = 0
    steps = np.cumsum(others / others.sum(axis=1, keepdims=True), axis=1)
    given = true.copy()
    given[chosen] = (steps < rng.random((len(chosen), 1))).sum(axis=1)
    return given


if __name__ == "__main__":
    main()
