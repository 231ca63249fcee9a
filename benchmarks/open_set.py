"""Pictures of none of the classes among those of a set, each under the label of a row drawn at random.

    python -m benchmarks.open_set TRUTH.csv --drop 3 --share 0.2 --out PART.csv
    python -m benchmarks.open_set TRUTH.csv --strangers OTHER.csv ANOTHER.csv --share 0.1 --out PART.csv

They are those of some classes, drawn at random, which are no classes then; or those of other sets. Images are looked
for in images/ beside their table, and the paths that are written begin with the folder of the table: a grid that lies
beside these folders names "." as the folder of the images. The true label of a stranger is `?`. The column label has no
other wrong labels; in symmetric_10 ten in a hundred of the others are wrong as well.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.cells import numbered
from labelclean.data.noise import corrupt, mistakes
from labelclean.records import NO_CLASS

ALSO_WRONG = 0.1
"""Share of wrong labels among pictures that show a class, in the column symmetric_10."""


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("truth", type=Path, help="a table with the columns path and true_label")
    parser.add_argument("--strangers", type=Path, nargs="+", default=[], help="such tables of other sets")
    parser.add_argument("--drop", type=int, default=0, help="so many classes are none, instead")
    parser.add_argument("--share", type=float, required=True, help="of pictures of none of the classes")
    parser.add_argument("--rows", type=int, default=0, help="pictures that show a class; 0: all")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    if bool(args.strangers) == bool(args.drop):
        parser.error("give either --strangers or --drop")
    rng = np.random.default_rng(0)
    table = read_truth(args.truth)
    if args.drop:
        known, others = drop_classes(table, args.drop, rng)
        strangers = [others]
    else:
        known, strangers = table, [read_truth(file) for file in args.strangers]
    if 0 < args.rows < len(known):
        known = known.sample(args.rows, random_state=rng)
    mixed = mix(known, strangers, share=args.share, rng=rng)
    mixed.to_csv(args.out, index=False)
    print(f"{len(mixed):,} rows\n{mixed['true_label'].value_counts().to_string()}")


def read_truth(file: Path) -> pd.DataFrame:
    """Path, from the folder above the table's, and true label of each row."""
    table = pd.read_csv(file, dtype=str, keep_default_na=False)[["path", "true_label"]]
    return table.assign(path=f"{file.resolve().parent.name}/images/" + table["path"])


def drop_classes(table: pd.DataFrame, count: int, rng: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of the classes that stay, and those of so many others."""
    dropped = rng.permutation(sorted(set(table["true_label"])))[:count]
    is_dropped = table["true_label"].isin(dropped)
    return table[~is_dropped], table[is_dropped]


def mix(
    known: pd.DataFrame, strangers: Sequence[pd.DataFrame], *, share: float, rng: np.random.Generator
) -> pd.DataFrame:
    """Rows of a set and, in equal parts, those of strangers, with the columns label and symmetric_10, in random order.

    Args:
        share: of the strangers in the whole; fewer where there are not so many.
    """
    wanted = round(share / (1 - share) * len(known) / len(strangers))
    chosen = [part.sample(min(wanted, len(part)), random_state=rng) for part in strangers]
    foreign = pd.concat(chosen).assign(true_label=NO_CLASS)
    names = tuple(sorted(set(known["true_label"])))
    true = numbered(known["true_label"].tolist(), names)
    ways = mistakes("symmetric", np.bincount(true))
    also_wrong = corrupt(true, ways, rate=ALSO_WRONG, rng=rng)
    at_random = rng.choice(known["true_label"].to_numpy(), len(foreign))
    known = known.assign(label=known["true_label"], symmetric_10=np.array(names)[also_wrong])
    foreign = foreign.assign(label=at_random, symmetric_10=at_random)
    return pd.concat([known, foreign]).sample(frac=1, random_state=rng)


if __name__ == "__main__":
    main()
