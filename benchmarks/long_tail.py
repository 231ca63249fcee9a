"""A part of a table of true labels in which the classes are ever rarer, in equal ratios.

    python -m benchmarks.long_tail TRUTH.csv --most 2000 --least 20 --out PART.csv

The class that has the most rows stays the most frequent one; of those with equally many the alphabet decides.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd


def main() -> None:
    """Write the part, with all columns of the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("truth", type=Path, help="a table with a column true_label")
    parser.add_argument("--most", type=int, required=True, help="rows of the most frequent class")
    parser.add_argument("--least", type=int, required=True, help="rows of the rarest class")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    part = thin_out(pd.read_csv(args.truth, dtype=str, keep_default_na=False), most=args.most, least=args.least)
    part.to_csv(args.out, index=False)
    print(f"{len(part):,} rows\n{part['true_label'].value_counts().to_string()}")


def thin_out(table: pd.DataFrame, *, most: int, least: int) -> pd.DataFrame:
    """Random rows of each class, no more than it has, in the table's order."""
    have = table["true_label"].value_counts().sort_index().sort_values(ascending=False, kind="stable")
    wanted = np.geomspace(most, least, len(have)).round().astype(int)
    rng = np.random.default_rng(0)
    chosen = [
        rng.permutation(np.flatnonzero(table["true_label"] == name))[:count]
        for name, count in zip(have.index, wanted, strict=True)
    ]
    return table.iloc[np.sort(np.concatenate(chosen))]


if __name__ == "__main__":
    main()
