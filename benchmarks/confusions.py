"""Which classes a linear model on the frozen features takes for which: the table for noise of the kind `confusion`.

    python -m benchmarks.confusions GRID.toml NAME --out CONFUSIONS.csv

Each row is predicted by a model that did not see it; the labels are the true ones, as in the grid's `none`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.cells import Cell, DataSet, lay_out, read_grid
from benchmarks.grid import Bench
from benchmarks.rivals import hold_out_frozen, see_output
from labelclean.config import resolve
from labelclean.records import FloatArray


def main() -> None:
    """Count the confusions of one data set of a grid."""
    data, out = read_arguments(__doc__)
    cell, probs = hold_out_truth(data, strengths=(0.01,))
    predicted = probs.argmax(axis=1)
    names = pd.Series(cell.class_names)
    pairs = pd.DataFrame({"true": names[cell.true].to_numpy(), "given": names[predicted].to_numpy()})
    counts = pairs[pairs["true"] != pairs["given"]].value_counts().rename("count").reset_index()
    counts.to_csv(out, index=False)
    print(f"{counts['count'].sum():,} of {len(pairs):,} rows confused\n{counts.head(10).to_string(index=False)}")


def read_arguments(purpose: str | None) -> tuple[DataSet, Path]:
    """The data set of a grid that the command line names, and the table to write."""
    parser = argparse.ArgumentParser(description=purpose, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path)
    parser.add_argument("name", help="of the data set")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    return next(data for data in read_grid(args.grid)[0] if data.name == args.name), args.out


def hold_out_truth(data: DataSet, **settings: Any) -> tuple[Cell, FloatArray]:
    """The rows with their true labels, and what linear models on the frozen features, which did not see a row, take it
    for, (N, K).

    Args:
        settings: of `hold_out_frozen`.
    """
    with tempfile.TemporaryDirectory() as folder:
        cell = lay_out(data, "none", 0, Path(folder))
        config = resolve(flags={**data.settings, "effort": "quick"})
        frozen, _ = Bench(cell, config, Path(folder)).frozen_features()
        return cell, hold_out_frozen(see_output(frozen), cell.true, seed=config.seed, **settings)


if __name__ == "__main__":
    main()
