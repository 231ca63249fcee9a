"""A noisy copy of an index, and the truth to judge it by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelclean.config import NoiseKind
from labelclean.data.index import index_columns, read_manifest
from labelclean.data.noise import corrupt, count_confusions, mistakes
from labelclean.data.tables import as_strings, find_column, read_table
from labelclean.errors import ConfigError, InputError, RunFolderError
from labelclean.files import refuse_to_replace, write_csv
from labelclean.records import UNKNOWN, FloatArray
from labelclean.results.run_folder import open_run
from labelclean.results.verdicts import REJECTED, add_columns, read_verdicts


@dataclass(frozen=True, kw_only=True, slots=True)
class Corrupted:
    """What was written: rows, those made wrong, and the two files."""

    num_rows: int
    num_wrong: int
    labels: Path
    truth: Path


def write_corrupted(
    index: Path,
    out: Path,
    *,
    kind: NoiseKind,
    rate: float,
    seed: int,
    observed: Path | None = None,
    path_column: str | None = None,
    label_column: str | None = None,
    overwrite: bool = False,
) -> Corrupted:
    """Write labels.csv, the index with wrong labels planted, and truth.csv.

    Args:
        index: a table, or a folder with a folder of images per class.
        out: folder for both files; made when it does not exist.
        kind: how labels go wrong.
        rate: share of the labels to make wrong, in [0, 1].
        seed: start of every random choice.
        observed: for the kind `confusion`: a run, or a table with columns given, true and count.
        path_column, label_column: columns of the index; None: found by name.
        overwrite: replace older files, though never the index itself.
    Raises:
        InputError: the index or the confusions cannot be used.
        ConfigError: `observed` is missing, or given for another kind.
        RunFolderError: one of the files exists already, or is the index.
        ResourceError: a file cannot be written.
    """
    if (observed is not None) != (kind == "confusion"):
        raise ConfigError(
            "--kind confusion and --from belong together", hint="Give both, or leave out --from for another kind."
        )
    files = out / "labels.csv", out / "truth.csv"
    for file in files:
        if file.resolve() == index.resolve():
            raise RunFolderError(f"{file}: this is the index itself", hint="Choose another --out.")
        if not overwrite:
            refuse_to_replace(file)
    table = _clean_index(index, path_column, label_column)
    names = tuple(sorted(pc.unique(table["label"].drop_null()).to_pylist()))
    confusion = None if observed is None else _observed_confusions(observed, names)
    try:
        noisy = _plant(table["label"], names, kind, rate, seed, confusion)
    except InputError as error:
        raise InputError(f"{index.name}: {error.message}", hint=error.hint) from error
    write_csv(files[0], table.set_column(1, "label", noisy))
    write_csv(files[1], pa.table({"path": table["path"], "label": noisy, "true_label": table["label"]}))
    num_wrong = pc.sum(pc.not_equal(noisy, table["label"])).as_py() or 0
    return Corrupted(num_rows=table.num_rows, num_wrong=num_wrong, labels=files[0], truth=files[1])


def _plant(
    labels: pa.ChunkedArray,
    names: tuple[str, ...],
    kind: NoiseKind,
    rate: float,
    seed: int,
    confusion: FloatArray | None,
) -> pa.ChunkedArray:
    """The labels, of classes of those names, with wrong ones among them, null where they were."""
    ids = pc.fill_null(pc.index_in(labels.drop_null(), value_set=pa.array(names, pa.string())), UNKNOWN).to_numpy()
    table = mistakes(kind, np.bincount(ids, minlength=len(names)), confusion=confusion)
    noisy = np.full(len(labels), UNKNOWN)
    noisy[labels.is_valid().to_numpy()] = corrupt(ids, table, rate=rate, rng=np.random.default_rng(seed))
    return pa.chunked_array([pc.take(pa.array(names, pa.string()), pa.array(noisy, mask=noisy == UNKNOWN))])


def _clean_index(index: Path, path_column: str | None, label_column: str | None) -> pa.Table:
    """The index with its paths and labels as the columns path and label, then all others."""
    if index.is_dir():
        manifest = read_manifest(index, path_column=path_column, label_column=label_column)
        return pa.table({"path": manifest.paths, "label": manifest.labels})
    table = read_table(index)
    path_name, label_name = index_columns(table, path_column, label_column, source=index.name)
    main = pa.table({"path": as_strings(table[path_name]), "label": as_strings(table[label_name])})
    return add_columns(main, table.drop_columns(list({path_name, label_name})))


def _observed_confusions(observed: Path, class_names: tuple[str, ...]) -> FloatArray:
    """Counts [true, given] from a table, or from a run's rejected rows, whose suggested label is taken as true."""
    if observed.is_dir():
        verdicts = read_verdicts(open_run(observed).verdicts)
        rejected = verdicts.filter(pc.equal(verdicts["verdict"], REJECTED))
        true, given = rejected["suggested_label"].to_pylist(), rejected["label"].to_pylist()
        return count_confusions(true, given, [1.0] * len(true), class_names)
    table = read_table(observed)
    columns = [
        find_column(table, None, (name,), what=name, source=observed.name, remedy=f"call one {name}")
        for name in ("true", "given", "count")
    ]
    true, given = (as_strings(table[name]).to_pylist() for name in columns[:2])
    try:
        counts = table[columns[2]].cast(pa.float64()).to_numpy()
    except pa.ArrowException as error:
        raise InputError(f"{observed.name}: {error}", hint="Give numbers in the column count.") from error
    if not np.isfinite(counts).all() or counts.min(initial=0) < 0:
        raise InputError(f"{observed.name}: a count is missing or negative", hint="Give counts of 0 or more.")
    return count_confusions(true, given, counts, class_names)
