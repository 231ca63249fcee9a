"""Reading tables of any of the usual kinds, and finding columns in them.

Nothing here knows what the columns mean to labelclean.
"""

from __future__ import annotations

import codecs
import csv
import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from labelclean.errors import InputError

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
SEPARATORS = (",", ";", "\t")
"""What may stand between the columns of a CSV file; spreadsheets write a semicolon where the comma marks decimals."""

UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
BLOCK_BYTES = 1 << 26
"""A row must fit into one block."""
MOST_EXACT = 2**53
"""From here on not every whole number is a float."""
CHUNK_BYTES = 1 << 20
"""Are read at a time where lines are counted."""


def read_table(file: Path) -> pa.Table:
    """Read a table by its file's ending. CSV and TSV columns stay strings, so that `007` is not turned into 7.

    Raises:
        InputError: no such file, an unknown ending, or content that does not parse or is not UTF-8.
    """
    suffix = file.suffix.lower()
    try:
        if file.is_dir():
            raise InputError(f"{file}: a folder, no table", hint="Give a file with a row per image.")
        if suffix not in SUFFIXES:
            raise InputError(
                f"{file}: cannot tell what kind of table this is",
                hint=f"Use one of {', '.join(SUFFIXES)} as its ending.",
            )
        table = _read(file, suffix)
    except FileNotFoundError as error:
        raise InputError(f"{file}: no such file", hint="Check the path of the table.") from error
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.strerror:  # the system's; readers tell what is wrong with the content
            raise InputError(f"{file}: {error.strerror}", hint="Give a file that you may read.") from error
        raise _explained(error, file, suffix) from error
    plain = _schema_with(table.schema, _plain)
    table = table if plain == table.schema else table.cast(plain)
    doubled = sorted({name for name in table.column_names if table.column_names.count(name) > 1})
    if doubled:
        raise InputError(f"{file}: several columns are called {', '.join(doubled)}", hint="Rename all but one of them.")
    return table


def find_column(
    table: pa.Table, wanted: str | None, usual: tuple[str, ...], *, what: str, source: str, remedy: str
) -> str:
    """The wanted column, or the first usual name that the table has, whatever its case.

    Args:
        what: how messages name the column.
        source: how they name the table.
        remedy: what they advise, as in `name one with --path-column`.
    Raises:
        InputError: there is no such column.
    """
    has = f"Its columns are {', '.join(table.column_names)}; {remedy}."
    if source.lower().endswith((".csv", ".tsv")):
        has += " The first line must name the columns."
    if wanted is not None:
        if wanted in table.column_names:
            return wanted
        raise InputError(f"{source}: no column {wanted}", hint=has)
    found = usual_column(table, usual)
    if found is None:
        raise InputError(f"{source}: no {what} column found", hint=has)
    return found


def usual_column(table: pa.Table, usual: tuple[str, ...]) -> str | None:
    """The first of some names, lower case, that the table has, whatever the case and the space around it."""
    by_name: dict[str, str] = {name.strip().lower(): name for name in reversed(table.column_names)}
    return next((by_name[name] for name in usual if name in by_name), None)


def as_strings(column: pa.ChunkedArray, *, what: str = "a column") -> pa.ChunkedArray:
    """A column as strings; empty strings, NaN and null become null. Whole floats lose their point: 3.0 is `3`.

    Raises:
        InputError: values that are no strings or numbers, or numbers that were rounded as they were read; `what` names
            the column in the message.
    """
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_floating(column.type):
        texts = [_number_as_text(value, what) for value in column.to_pylist()]
        column = pa.chunked_array([pa.array(texts, pa.string())])
    try:
        column = column.cast(pa.string())
    except pa.ArrowException as error:
        raise InputError(
            f"{what}: values of type {column.type} cannot be paths or labels", hint="Use strings or numbers."
        ) from error
    return pc.if_else(pc.equal(pc.utf8_trim_whitespace(column), ""), pa.scalar(None, pa.string()), column)


def _number_as_text(value: float | None, what: str) -> str | None:
    if value is None or value != value:
        return None
    if not float(value).is_integer():
        return str(value)
    if abs(value) >= MOST_EXACT:
        raise InputError(
            f"{what}: {value:.0f} is so large that it may have been rounded, and others to the same number",
            hint="Write such numbers as strings, in quotes.",
        )
    return str(int(value))


def nothing(num_rows: int) -> pa.ChunkedArray:
    """Stands for a column of strings that a table does not have."""
    return pa.chunked_array([pa.nulls(num_rows, pa.string())])


def _read(file: Path, suffix: str) -> pa.Table:
    if suffix == ".parquet":
        return pq.ParquetFile(file).read()  # not read_table, which makes columns of folders called name=value
    if suffix in (".jsonl", ".ndjson"):
        return _read_json(file)
    separator, num_lines_before = _layout(file, suffix)
    parse = pa.csv.ParseOptions(
        delimiter=separator,
        newlines_in_values=True,
        invalid_row_handler=lambda row: "error" if row.text.strip() else "skip",
    )
    read = pa.csv.ReadOptions(block_size=BLOCK_BYTES, skip_rows=num_lines_before)
    with _unheard():
        with pa.csv.open_csv(file, read_options=read, parse_options=parse) as head:
            strings = {name: pa.string() for name in head.schema.names}
        convert = pa.csv.ConvertOptions(column_types=strings, strings_can_be_null=False)
        table = pa.csv.read_csv(file, read_options=read, parse_options=parse, convert_options=convert)
    if table.num_rows < _num_lines(file) - num_lines_before - 1:
        _refuse_open_quotes(file, suffix)
    return _without_empty_columns(table, file)


@contextmanager
def _unheard() -> Iterator[None]:
    """Print nothing of what Arrow's callback cannot raise, a row that is not UTF-8: the reader stops there as well."""
    before, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        yield
    finally:
        sys.unraisablehook = before


def _num_lines(file: Path) -> int:
    """How many lines of a text file are not empty, whatever ends them."""
    num_lines, before = 0, b"\n"
    with open(file, "rb") as content:
        while block := content.read(CHUNK_BYTES):
            marks = np.frombuffer(before + block, np.uint8)
            is_end = (marks == ord("\n")) | (marks == ord("\r"))
            num_lines += int(np.count_nonzero(is_end[:-1] & ~is_end[1:]))
            before = block[-1:]
    return num_lines


def _refuse_open_quotes(file: Path, suffix: str) -> None:
    """Stop where cells of several lines are due to a quote that closes nowhere, or within a cell: rows lie in it."""
    fault = _place_of_fault(file, suffix)
    if fault is not None:
        raise InputError(
            f"{file}: {fault}",
            hint='Mend the file at that place: what begins with a quote ends with one, and holds others doubled, "".',
        )


def _without_empty_columns(table: pa.Table, file: Path) -> pa.Table:
    """A table without the columns that have neither name nor content, which spreadsheets write.

    Raises:
        InputError: several columns have content and no name; one may be row numbers.
    """
    nameless = [place for place, name in enumerate(table.column_names) if not name.strip()]
    filled = [place for place in nameless if pc.any(pc.not_equal(pc.utf8_trim_whitespace(table[place]), "")).as_py()]
    if len(filled) > 1:
        numbers = " and ".join(str(place + 1) for place in filled[:2])
        raise InputError(f"{file}: columns {numbers} have no name", hint="Name them in the first line, or remove them.")
    gone = set(nameless) - set(filled)
    return table.select([place for place in range(table.num_columns) if place not in gone])


def _read_json(file: Path) -> pa.Table:
    """Read JSON lines; strings that look like dates stay strings, as they are."""
    read = pa.json.ReadOptions(block_size=BLOCK_BYTES)
    table = pa.json.read_json(file, read_options=read)
    as_given = _schema_with(table.schema, lambda kind: pa.string() if pa.types.is_temporal(kind) else kind)
    dates = [field for field, before in zip(as_given, table.schema, strict=True) if field != before]
    if not dates:
        return table
    parse = pa.json.ParseOptions(explicit_schema=pa.schema(dates))
    return pa.json.read_json(file, read_options=read, parse_options=parse).select(table.column_names)


def _schema_with(schema: pa.Schema, change: Callable[[pa.DataType], pa.DataType]) -> pa.Schema:
    """A schema in which the types of all values are changed, also of those in lists and objects."""
    return pa.schema([field.with_type(_with(field.type, change)) for field in schema], metadata=schema.metadata)


def _with(kind: pa.DataType, change: Callable[[pa.DataType], pa.DataType]) -> pa.DataType:
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_with(field.type, change)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_with(kind.value_type, change)))
    return change(kind)


def _plain(kind: pa.DataType) -> pa.DataType:
    """The usual type in place of a view, for which much of Arrow is not made yet."""
    if pa.types.is_string_view(kind):
        return pa.string()
    return pa.binary() if pa.types.is_binary_view(kind) else kind


def _layout(file: Path, suffix: str) -> tuple[str, int]:
    """What separates the columns of a CSV or TSV file, and how many lines come before its header.

    For a CSV file it is what its first line names, as in `sep=;`, or else what splits its header into most columns;
    quoted text does not count.
    """
    if suffix == ".tsv":
        return "\t", 0
    with open(file, encoding="utf-8-sig", errors="replace") as text:
        first = next(text, "").rstrip("\n")
        named = re.fullmatch(r'"?sep=([,;\t|])"?', first, flags=re.IGNORECASE)
        if named:
            return named[1], 1
        header = first or next((line for line in text if line.strip()), "")
    unquoted = re.sub(r'"[^"]*"?', "", header)
    return max(SEPARATORS, key=unquoted.count), 0


def _explained(error: Exception, file: Path, suffix: str) -> InputError:
    """What is wrong with a file that does not parse, with its line where that is found."""
    if re.search(r"\bEmpty (CSV|JSON) file", str(error)):
        return InputError(f"{file}: no rows", hint="Give a table with a row per image.")
    cause = str(error).splitlines()[0]
    if suffix == ".parquet":
        return InputError(f"{file}: {cause}", hint="Write the file again.")
    foreign = _foreign_encoding(file)
    if foreign is not None:
        return InputError(f"{file}: {foreign}", hint="Save it as UTF-8; spreadsheets call that CSV UTF-8.")
    return InputError(f"{file}: {_place_of_fault(file, suffix) or cause}", hint="Mend the file at that place.")


def _foreign_encoding(file: Path) -> str | None:
    """What tells that a text file is not UTF-8; None when it is."""
    with open(file, "rb") as lines:
        for number, line in enumerate(lines, start=1):
            if number == 1 and line.startswith(UTF_16_MARKS):
                return "the file is UTF-16, not UTF-8"
            try:
                line.decode()
            except UnicodeDecodeError:
                return f"line {number} is not UTF-8"
    return None


def _place_of_fault(file: Path, suffix: str) -> str | None:
    """Line and cause of what is wrong with a text table that does not parse; None when it is not found."""
    with open(file, encoding="utf-8-sig", newline="") as text:
        if suffix in (".jsonl", ".ndjson"):
            return _faulty_json(text)
        separator, num_lines_before = _layout(file, suffix)
        return _faulty_row(text, separator, num_lines_before)


def _faulty_row(text: Iterator[str], separator: str, num_lines_before: int) -> str | None:
    """The first row of a CSV or TSV file that has not as many fields as the header, or never ends."""
    csv.field_size_limit(BLOCK_BYTES)
    rows = csv.reader(islice(text, num_lines_before, None), delimiter=separator, strict=True)
    num_columns, start = 0, num_lines_before + 1
    try:
        for row in rows:
            if row and not num_columns:
                num_columns = len(row)
            if any(map(str.strip, row)) and len(row) != num_columns:
                return f"line {start} has {len(row)} fields, the header {num_columns}"
            start = num_lines_before + rows.line_num + 1
    except csv.Error as error:
        return f"line {start}: {error}"
    return None


def _faulty_json(text: Iterator[str]) -> str | None:
    """The first line that is not a JSON object, or in which a field is of another type than before."""
    kinds: dict[str, str] = {}
    for number, line in enumerate(text, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            return f"line {number} is not JSON: {error.msg}"
        if not isinstance(row, dict):
            return f"line {number} is not a JSON object"
        for name, value in row.items():
            kind = _kind(value)
            if kind and kinds.setdefault(name, kind) != kind:
                return f"line {number}: {name} is {kind}, and {kinds[name]} in a line before"
    return None


def _kind(value: Any) -> str | None:
    """What JSON calls a value, None for null."""
    kinds = {bool: "a boolean", str: "a string", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return kinds.get(type(value))
