"""Reading an index: a CSV, TSV, JSONL or Parquet file, or a folder per class, into a manifest with one entry per row.

Nothing here opens an image. Rows that cannot be used are kept and marked, never dropped.

# N rows, K classes
"""

from __future__ import annotations

import io
import os
import posixpath
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import compress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from labelclean.data.columns import CHANCE_NAME, GOLDEN_NAME, GROUP_NAME, LABEL_NAMES, PATH_NAMES
from labelclean.data.golden import golden_chances, golden_draws, golden_ids, golden_rows, refuse_given_labels
from labelclean.data.tables import as_strings, find_column, nothing, read_table, usual_column
from labelclean.errors import ConfigError, InputError, why_unreadable
from labelclean.files import as_unicode
from labelclean.records import UNKNOWN, Fault, IntArray, Manifest

COLUMNS = ("paths", "labels", "golden labels", "chances", "groups")
"""What is read from columns of an index."""

SYSTEM = os.path
"""How paths are taken apart: on Windows there are drives and two separators."""

COMMON_SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".avif"}
OTHER_SUFFIXES = {".jpe", ".jfif", ".dib", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".jp2", ".j2k", ".ico"}
IMAGE_SUFFIXES = frozenset(COMMON_SUFFIXES | OTHER_SUFFIXES)
"""What counts as an image in a folder per class."""


HIDDEN = (".", "__MACOSX")
"""How names of files and folders begin that are passed over in silence."""


def read_manifest(
    images_dir: Path,
    index: Path | None = None,
    *,
    path_column: str | None = None,
    label_column: str | None = None,
    golden: Sequence[Path] = (),
) -> Manifest:
    """Read an index, or the class folders below `images_dir` when there is none.

    Args:
        images_dir: folder to which the paths are relative.
        index: .csv, .tsv, .jsonl, .ndjson or .parquet file; None: a folder per class.
        path_column: column with the paths; None: found by name.
        label_column: column with the labels; None: found by name.
        golden: further files of trusted labels, with a path and a `golden`, `true_label` or label column, and in a
            column `chance` the probability with which the row was chosen for it, where that differs between rows.
    Raises:
        ConfigError: a column is named, and there is no index.
        InputError: the folder or a file is missing, unreadable, empty, or lacks a column, or a golden label is none
            of the classes.
    """
    table, source, passed_over = _open_index(images_dir, index)
    if index is None:
        _refuse_columns(path_column, label_column)
        path_column, label_column = table.column_names
    path_name, label_name = index_columns(table, path_column, label_column, source=source)
    others = table.select([name for name in table.column_names if name not in (path_name, label_name)])
    golden_name, group_name = usual_column(others, (GOLDEN_NAME,)), usual_column(others, (GROUP_NAME,))
    chance_name = usual_column(others, (CHANCE_NAME,)) if golden_name else None
    used = (path_name, label_name, golden_name, chance_name, group_name)
    columns = {what: name for what, name in zip(COLUMNS, used, strict=True) if name and index is not None}
    paths, labels, own_golden, chances, groups = (
        as_strings(table[name], what=f"{source}, column {name}") if name else nothing(table.num_rows) for name in used
    )
    _refuse_unwritable(others, source)
    names = tuple(sorted(_distinct(labels)))
    label_ids, groups = _number(labels, names), pc.utf8_trim_whitespace(groups)
    trusted = golden_rows(own_golden, chances, golden, paths, source)
    of_golden = golden_ids(trusted, names, table.num_rows)
    refuse_given_labels(golden, of_golden, label_ids)
    return Manifest(
        source=source,
        columns=columns,
        paths=paths,
        labels=labels,
        label_ids=label_ids,
        golden_ids=of_golden,
        golden_chances=golden_chances(trusted, table.num_rows),
        golden_draws=golden_draws(trusted, table.num_rows),
        group_ids=_number(groups, _distinct(groups)),
        class_names=names,
        extra=others,
        passed_over=passed_over,
        faults=_label_faults(label_ids, source) | _path_faults(images_dir, paths, source),
    )


def _refuse_columns(path_column: str | None, label_column: str | None) -> None:
    """Without an index there are none to choose."""
    if path_column or label_column:
        name = "--path-column" if path_column else "--label-column"
        raise ConfigError(
            f"{name}: a folder per class has no columns", hint="Give the index as second argument, or leave it out."
        )


def _refuse_unwritable(others: pa.Table, source: str) -> None:
    """Stop at a column that the verdict file could not take, now and not after the last round."""
    for name in others.column_names:
        try:
            pq.ParquetWriter(io.BytesIO(), others.select([name]).schema).close()
        except pa.ArrowException as error:
            raise InputError(
                f"{source}: column {name}, of type {others[name].type}, cannot be written as Parquet: "
                f"{why_unreadable(error)}",
                hint="Remove the column; verdicts have a column row, by which it is joined again.",
            ) from error


def index_columns(
    table: pa.Table, path_column: str | None, label_column: str | None, *, source: str
) -> tuple[str, str]:
    """The columns with the paths and with the labels; None: found by name.

    Raises:
        InputError: there is no such column, or both are the same.
    """
    paths, labels = (
        find_column(table, wanted, usual, what=what, source=source, remedy=f"name one with --{what}-column")
        for wanted, usual, what in ((path_column, PATH_NAMES, "path"), (label_column, LABEL_NAMES, "label"))
    )
    if paths == labels:
        raise InputError(
            f"{source}: column {paths} would be both path and label",
            hint="Name two columns, with --path-column and --label-column.",
        )
    return paths, labels


def _open_index(images_dir: Path, index: Path | None) -> tuple[pa.Table, str, tuple[str, ...]]:
    """The index as a table, how messages name it, and the files of a folder per class that are none of its rows."""
    if not images_dir.is_dir():
        cause = "not a folder" if images_dir.exists() else "no such folder"
        raise InputError(f"{images_dir}: {cause}", hint="Give the folder that holds the images.")
    if index is None:
        table, passed_over = _class_folders(images_dir)
        return table, posixpath.join(images_dir.as_posix(), ""), passed_over
    table = read_table(index)
    if table.num_rows == 0:
        raise InputError(f"{index}: no rows", hint="Give an index with a row per image, or a folder per class.")
    return table, index.name, ()


def _class_folders(images_dir: Path) -> tuple[pa.Table, tuple[str, ...]]:
    """Path and label of every image file that lies below a folder, whose name is its class; and the other files."""
    files = sorted(file.relative_to(images_dir) for file in _files_below(images_dir))
    is_row = [file.suffix.lower() in IMAGE_SUFFIXES and len(file.parts) > 1 for file in files]
    if not any(is_row):
        raise InputError(
            f"{images_dir}: no index was given and there is no folder per class with images in it",
            hint="Give an index as second argument, or lay the images out as CLASS/image.jpg.",
        )
    paths = [as_unicode(file.as_posix()) for file in files]
    rows = list(compress(paths, is_row))
    others = tuple(compress(paths, (not one for one in is_row)))
    return pa.table({"path": rows, "label": [path.partition("/")[0] for path in rows]}), others


def _files_below(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """The files in a folder and in those below it; what is hidden, also as archives of macOS do it, is no data.

    Links are followed, but not back into a folder in which they lie.

    Raises:
        InputError: a folder cannot be read, or a link leads nowhere and may have been a folder's.
    """
    here = folder.resolve()
    if here in above:
        return
    try:
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(HIDDEN)]
    except OSError as error:
        raise InputError(
            f"{folder}: {error.strerror}", hint="See that all folders in it can be read, or give an index."
        ) from error
    for entry in visible:
        file = folder / entry.name
        if _is_folder(entry, file):
            yield from _files_below(file, (*above, here))
        else:
            yield file


def _is_folder(entry: os.DirEntry[str], path: Path) -> bool:
    """Whether an entry is a folder, or a link to one; links that lead nowhere are files if they are named like images.

    Raises:
        InputError: a link leads nowhere, and its name does not tell that it was a file's.
    """
    with suppress(OSError):  # of a link that cannot be followed
        if entry.is_dir():
            return True
        if entry.is_file() or not entry.is_symlink():
            return False
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise InputError(f"{path}: this link leads nowhere", hint="Mend the link, or remove it.")
    return False


def _number(values: pa.ChunkedArray, names: tuple[str, ...]) -> IntArray:
    """Each value's position among the names, UNKNOWN where it is null or none of them, (N,)."""
    found = pc.index_in(values, value_set=pa.array(names, pa.string()))
    found = pc.if_else(pc.is_null(values), pa.scalar(None, pa.int32()), found)
    return np.asarray(pc.fill_null(found, UNKNOWN).to_numpy(), dtype=np.int64)


def _distinct(values: pa.ChunkedArray) -> tuple[str, ...]:
    """Each value once, without null."""
    return tuple(pc.unique(values.drop_null()).to_pylist())


def _path_faults(images_dir: Path, paths: pa.ChunkedArray, source: str) -> dict[int, Fault]:
    """Rows whose path is missing or leaves the image folder. Links inside the folder may point anywhere."""
    faults = {}
    root, shown = SYSTEM.join(SYSTEM.abspath(images_dir), ""), posixpath.join(images_dir.as_posix(), "")
    for row, path in enumerate(paths.to_pylist()):
        if path is None:
            faults[row] = Fault(
                kind="missing_path", message=f"{source} row {row}: no path. Fill it in or remove the row."
            )
        elif "\0" in path:
            faults[row] = Fault(
                kind="missing_file",
                message=f"{source} row {row}: {path!r}: no file has such a name, with a NUL in it. Correct the path.",
            )
        elif not SYSTEM.normpath(SYSTEM.join(root, path)).startswith(root):
            faults[row] = Fault(
                kind="path_outside",
                message=f"{source} row {row}: {path!r} leaves the image folder. Give paths below {shown}.",
            )
    return faults


def _label_faults(label_ids: IntArray, source: str) -> dict[int, Fault]:
    """Rows without a label."""
    return {
        row: Fault(kind="missing_label", message=f"{source} row {row}: no label. Fill it in or remove the row.")
        for row in np.flatnonzero(label_ids == UNKNOWN).tolist()
    }
