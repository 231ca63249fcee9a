"""The cells of the grid: a data set whose truth is known, with wrong labels in it, as an index that a tool may read.

# N rows, K classes
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from labelclean.data.noise import corrupt, count_confusions, mistakes
from labelclean.data.tables import as_strings, read_table
from labelclean.files import write_csv
from labelclean.records import NO_CLASS, FloatArray, IntArray


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSet:
    """An entry of the grid file.

    Attributes:
        name: in the tables.
        images: folder of the images.
        index: table with columns path and true_label, and others with observed labels.
        noise: kinds of noise: `kind:rate` to plant, `column:name` for a column of observed labels, `none`.
        rows: a random subset of so many rows; 0: all.
        settings: of labelclean and, as far as they concern the backbone, of the rivals.
        confusions: table with columns true, given and count, for noise of the kind `confusion`.
    """

    name: str
    images: Path
    index: Path
    noise: tuple[str, ...]
    rows: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    confusions: Path | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """Labels of one data set with one kind of noise and one seed.

    Attributes:
        index: CSV with path and label: what a tool may read.
        paths: (N,).
        class_names: sorted; NO_CLASS, which no label is, comes last.
        given, true: class ids in class_names, (N,) both.
    """

    data: DataSet
    noise: str
    seed: int
    index: Path
    paths: tuple[str, ...]
    class_names: tuple[str, ...]
    given: IntArray
    true: IntArray

    @property
    def truth(self) -> pa.Table:
        """For `labelclean.results.evaluate`."""
        return pa.table({"path": list(self.paths), "true_label": [self.class_names[label] for label in self.true]})


def read_grid(file: Path) -> tuple[list[DataSet], tuple[int, ...], tuple[str, ...]]:
    """Data sets, seeds and efforts of a grid file."""
    grid = tomllib.loads(file.read_text(encoding="utf-8"))
    base = file.parent
    data = []
    for entry in grid["data"]:
        paths = {name: base / entry[name] for name in ("images", "index", "confusions") if name in entry}
        settings = dict(entry.get("settings", {}))
        if (base / settings.get("weights", "none")).is_file():
            settings["weights"] = str(base / settings["weights"])
        data.append(DataSet(**{**entry, **paths, "noise": tuple(entry["noise"]), "settings": settings}))
    return data, tuple(grid["seeds"]), tuple(grid["efforts"])


def lay_out(data: DataSet, noise: str, seed: int, folder: Path) -> Cell:
    """Make a cell, with its index in `folder`.

    The subset of rows is the same for all kinds of noise; which labels are made wrong depends on the seed.
    """
    table = read_table(data.index)
    if 0 < data.rows < table.num_rows:
        chosen = np.random.default_rng((seed, 0)).choice(table.num_rows, data.rows, replace=False)
        table = table.take(pa.array(np.sort(chosen)))
    truth = as_strings(table["true_label"]).to_pylist()
    class_names = tuple(sorted(set(truth), key=lambda name: (name == NO_CLASS, name)))
    true = numbered(truth, class_names)
    kind, _, value = noise.partition(":")
    if kind == "column":
        given = numbered(as_strings(table[value]).to_pylist(), class_names)
    elif kind == "none":
        given = true
    else:
        ways = mistakes(
            kind,  # type: ignore[arg-type]
            np.bincount(true, minlength=len(class_names)),
            confusion=_confusions(data, class_names) if kind == "confusion" else None,
        )
        given = corrupt(true, ways, rate=float(value), rng=np.random.default_rng((seed, 1)))
    paths = as_strings(table["path"])
    index = folder / "labels.csv"
    write_csv(index, pa.table({"path": paths, "label": [class_names[label] for label in given]}))
    return Cell(
        data=data,
        noise=noise,
        seed=seed,
        index=index,
        paths=tuple(paths.to_pylist()),
        class_names=class_names,
        given=given,
        true=true,
    )


def numbered(names: list[str], class_names: tuple[str, ...]) -> IntArray:
    """Position of each name among the classes, (N,)."""
    position = {name: number for number, name in enumerate(class_names)}
    return np.array([position[name] for name in names])


def _confusions(data: DataSet, class_names: tuple[str, ...]) -> FloatArray:
    if data.confusions is None:
        raise ValueError(f"{data.name}: noise of the kind confusion needs a table of confusions")
    table = read_table(data.confusions)
    true, given = (as_strings(table[name]).to_pylist() for name in ("true", "given"))
    return count_confusions(true, given, table["count"].cast(pa.float64()).to_pylist(), class_names)
