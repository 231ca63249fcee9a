"""Reading an index: a CSV, TSV, JSONL or Parquet file, or a folder per class, into a manifest with one entry per row.

Nothing here opens an image. Rows that cannot be used are kept and marked, never dropped.

# N rows, K classes
"""

from __future__ import annotations

import posixpath
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from labelclean.errors import InputError
from labelclean.records import UNKNOWN, Fault, IntArray, Manifest

PATH_NAMES = ("path", "file_name", "filename", "file", "image", "image_path", "filepath", "file_path", "img")
LABEL_NAMES = ("label", "class", "target", "category", "class_name", "label_name", "y")
GOLDEN_NAME, GROUP_NAME = "golden", "group"
IMAGE_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .gif .bmp .dib .webp .tif .tiff .ppm .pgm .pbm .pnm .tga .jp2 .j2k .avif .ico".split()
)


def read_manifest(
    images_dir: Path,
    index: Path | None = None,
    *,
    path_column: str | None = None,
    label_column: str | None = None,
    golden: Path | None = None,
    class_names: tuple[str, ...] | None = None,
) -> Manifest:
    """Read an index, or the class folders below `images_dir` when there is none.

    Args:
        images_dir: folder to which the paths are relative.
        index: .csv, .tsv, .jsonl, .ndjson or .parquet file; None: a folder per class.
        path_column: column with the paths; None: found by name.
        label_column: column with the labels; None: found by name.
        golden: a further file of trusted labels, with a path and a `golden` or label column.
        class_names: the classes to number labels by; None: the distinct labels found.
    Raises:
        InputError: the folder or a file is missing, unreadable, empty, or lacks a column.
    """
    if not images_dir.is_dir():
        raise InputError(f"{images_dir}: no such folder", hint="Give the folder that holds the images.")
    if index is None:
        table, source = _class_folders(images_dir), f"{images_dir}{posixpath.sep}"
        path_column, label_column = "path", "label"
    else:
        table, source = read_table(index), index.name
    if table.num_rows == 0:
        raise InputError(f"{source}: no rows", hint="Give an index with a row per image, or a folder per class.")
    path_name = find_column(table, path_column, PATH_NAMES, what="path", source=source, flag="--path-column")
    label_name = find_column(table, label_column, LABEL_NAMES, what="label", source=source, flag="--label-column")

    paths, labels = as_strings(table[path_name]), as_strings(table[label_name])
    golden_labels = _golden_labels(table, paths, golden)
    names = class_names or tuple(
        sorted(
            {value for column in (labels, golden_labels) for value in pc.unique(column).to_pylist() if value is not None}
        )
    )
    faults = _path_faults(images_dir, paths, source)
    label_ids = _number(labels, names)
    for row in np.flatnonzero(label_ids == UNKNOWN):
        faults.setdefault(int(row), _label_fault(labels[int(row)].as_py(), int(row), source))
    used = {path_name, label_name, GOLDEN_NAME, GROUP_NAME}
    groups = as_strings(table[GROUP_NAME]) if GROUP_NAME in table.column_names else None
    return Manifest(
        source=source,
        paths=paths,
        labels=labels,
        label_ids=label_ids,
        golden_ids=_number(golden_labels, names),
        group_ids=_number(groups, tuple(pc.unique(groups).to_pylist())) if groups else np.full(len(paths), UNKNOWN),
        class_names=names,
        extra=table.select([name for name in table.column_names if name not in used]),
        faults=faults,
    )


def read_table(file: Path) -> pa.Table:
    """Read a table by its file's ending. CSV and TSV columns stay strings, so that `007` is not turned into 7.

    Raises:
        InputError: no such file, an unknown ending, or content that does not parse.
    """
    readers = {
        ".csv": lambda: _read_delimited(file, ","),
        ".tsv": lambda: _read_delimited(file, "\t"),
        ".jsonl": lambda: pa.json.read_json(file),
        ".ndjson": lambda: pa.json.read_json(file),
        ".parquet": lambda: pq.read_table(file),
    }
    reader = readers.get(file.suffix.lower())
    if reader is None:
        raise InputError(
            f"{file}: cannot tell what kind of table this is", hint=f"Use one of {', '.join(readers)} as its ending."
        )
    try:
        return reader()
    except FileNotFoundError as error:
        raise InputError(f"{file}: no such file", hint="Check the path of the index.") from error
    except (OSError, pa.ArrowException) as error:
        cause = str(error).splitlines()[0]
        if "Empty" in cause:
            raise InputError(f"{file}: no rows", hint="Give an index with a row per image.") from error
        raise InputError(
            f"{file}: not readable as {file.suffix[1:].upper()}: {cause}",
            hint="Open the file at the place named and mend it; text files must be UTF-8.",
        ) from error


def _read_delimited(file: Path, delimiter: str) -> pa.Table:
    parse = pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    with pa.csv.open_csv(file, parse_options=parse) as head:
        strings = {name: pa.string() for name in head.schema.names}
    convert = pa.csv.ConvertOptions(column_types=strings, strings_can_be_null=False)
    return pa.csv.read_csv(file, parse_options=parse, convert_options=convert)


def _class_folders(images_dir: Path) -> pa.Table:
    """Path and label of every image file that lies below a folder, whose name is its class."""
    files = sorted(
        path.relative_to(images_dir)
        for path in images_dir.glob("*/**/*")
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
    )
    if not files:
        raise InputError(
            f"{images_dir}: no index was given and there is no folder per class with images in it",
            hint="Give an index as second argument, or lay the images out as CLASS/image.jpg.",
        )
    return pa.table({"path": [file.as_posix() for file in files], "label": [file.parts[0] for file in files]})


def find_column(
    table: pa.Table, wanted: str | None, usual: tuple[str, ...], *, what: str, source: str, flag: str
) -> str:
    """The wanted column, or the first usual name that the table has, whatever its case.

    Raises:
        InputError: there is no such column.
    """
    has = f"Its columns are {', '.join(table.column_names)}; name one with {flag}."
    if wanted is not None:
        if wanted in table.column_names:
            return wanted
        raise InputError(f"{source}: no column {wanted}", hint=has)
    lower = {name.lower(): name for name in reversed(table.column_names)}
    for name in usual:
        if name in lower:
            return lower[name]
    raise InputError(f"{source}: no {what} column found", hint=has)


def as_strings(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column as strings; empty strings, NaN and null become null. Whole floats lose their point: 3.0 is `3`."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_floating(column.type):
        texts = [
            None if value is None or value != value else str(int(value)) if float(value).is_integer() else str(value)
            for value in column.to_pylist()
        ]
        column = pa.chunked_array([pa.array(texts, pa.string())])
    try:
        column = column.cast(pa.string())
    except pa.ArrowException as error:
        raise InputError(
            f"a column of type {column.type} cannot hold paths or labels", hint="Use strings or numbers."
        ) from error
    return pc.if_else(pc.equal(pc.utf8_trim_whitespace(column), ""), pa.scalar(None, pa.string()), column)


def _number(values: pa.ChunkedArray, names: tuple[str, ...]) -> IntArray:
    """Each value's position among the names, UNKNOWN where it is null or none of them, (N,)."""
    found = pc.index_in(values, value_set=pa.array(names, pa.string()))
    found = pc.if_else(pc.is_null(values), pa.scalar(None, pa.int32()), found)
    return np.asarray(pc.fill_null(found, UNKNOWN).to_numpy(), dtype=np.int64)


def _golden_labels(table: pa.Table, paths: pa.ChunkedArray, file: Path | None) -> pa.ChunkedArray:
    """The trusted label of each row, from the index and from a file of its own, which wins where both have one."""
    none = pa.chunked_array([pa.nulls(len(paths), pa.string())])
    own = as_strings(table[GOLDEN_NAME]) if GOLDEN_NAME in table.column_names else none
    if file is None:
        return own
    trusted = read_table(file)
    path_name = find_column(trusted, None, PATH_NAMES, what="path", source=file.name, flag="the usual name path")
    label_name = find_column(
        trusted, None, (GOLDEN_NAME, *LABEL_NAMES), what="golden label", source=file.name, flag="the usual name golden"
    )
    by_path = dict(
        zip(as_strings(trusted[path_name]).to_pylist(), as_strings(trusted[label_name]).to_pylist(), strict=True)
    )
    by_path.pop(None, None)
    strangers = set(by_path) - set(paths.to_pylist())
    if strangers:
        raise InputError(
            f"{file.name}: {len(strangers)} of its paths are not in the index, first {min(strangers)}",
            hint="Golden rows must be named by the same paths as in the index.",
        )
    from_file = pa.chunked_array([pa.array([by_path.get(path) for path in paths.to_pylist()], pa.string())])
    return pc.coalesce(from_file, own)


def _path_faults(images_dir: Path, paths: pa.ChunkedArray, source: str) -> dict[int, Fault]:
    """Rows whose path is missing or leaves the image folder. Links inside the folder may point anywhere."""
    faults = {}
    root = posixpath.abspath(images_dir.as_posix())
    for row, path in enumerate(paths.to_pylist()):
        if path is None:
            faults[row] = Fault(kind="missing_path", message=f"{source} row {row}: no path. Fill it in or remove the row.")
        elif "\0" in path or not posixpath.normpath(posixpath.join(root, path)).startswith(root + "/"):
            faults[row] = Fault(
                kind="path_outside",
                message=f"{source} row {row}: {path!r} leaves the image folder. Give paths below {images_dir.name}/.",
            )
    return faults


def _label_fault(label: str | None, row: int, source: str) -> Fault:
    if label is None:
        return Fault(kind="missing_label", message=f"{source} row {row}: no label. Fill it in or remove the row.")
    return Fault(kind="unknown_label", message=f"{source} row {row}: label {label!r} is none of the known classes.")
