"""Which classes a linear model on the frozen features takes for which: the table for noise of the kind `confusion`.

    python -m benchmarks.confusions GRID.toml NAME --out CONFUSIONS.csv

Each row is predicted by a model that did not see it; the labels are the true ones, as in the grid's `none`.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path

import pandas as pd

from benchmarks.cells import lay_out, read_grid
from benchmarks.grid import Bench
from benchmarks.rivals import hold_out_frozen
from labelclean.config import resolve


def main() -> None:
    """Count the confusions of one data set of a grid."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path)
    parser.add_argument("name", help="of the data set")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    data = next(data for data in read_grid(args.grid)[0] if data.name == args.name)
    with tempfile.TemporaryDirectory() as folder:
        cell = lay_out(dataclasses.replace(data, confusions=None), "none", 0, Path(folder))
        config = resolve(flags={**data.settings, "effort": "quick"})
        features, _ = Bench(cell, config, Path(folder)).frozen_features()
        predicted = hold_out_frozen(features, cell.given, seed=config.seed, strengths=(0.01,)).argmax(axis=1)
    names = pd.Series(cell.class_names)
    pairs = pd.DataFrame({"true": names[cell.true].to_numpy(), "given": names[predicted].to_numpy()})
    counts = pairs[pairs["true"] != pairs["given"]].value_counts().rename("count").reset_index()
    counts.to_csv(args.out, index=False)
    print(f"{counts['count'].sum():,} of {len(pairs):,} rows confused\n{counts.head(10).to_string(index=False)}")


if __name__ == "__main__":
    main()
