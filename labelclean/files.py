"""Writing a file whole or not at all."""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from labelclean.errors import ResourceError, RunFolderError


def write_atomically(
    file: Path,
    write: Callable[[Path], None],
    *,
    hint: str = "Free some space or choose a folder that you may write to.",
) -> None:
    """Have `write` fill a temporary file beside `file`, bring it to disk, and put it in the place of `file`.

    Whatever goes wrong, `file` stays as it was and nothing is left beside it.

    Args:
        hint: what the user can do when that fails.
    Raises:
        ResourceError: the disk is full or cannot be written.
    """
    temporary: Path | None = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{file.name}.", suffix=file.suffix, dir=file.parent)
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        temporary.chmod(0o666 & ~_umask())
        _bring_to_disk(temporary)
        temporary.replace(file)
        with suppress(OSError):  # the file is there; not all file systems bring folders to disk
            _bring_to_disk(file.parent)
    except OSError as error:
        raise ResourceError(f"{file}: cannot be written: {error.strerror or error}", hint=hint) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def as_unicode(name: str) -> str:
    """A file's name as text that can be written: bytes in it that are not UTF-8 become \\xe9 and the like."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def refuse_to_replace(file: Path) -> None:
    """Stop where a file is in the way.

    Raises:
        RunFolderError: the file exists.
    """
    if file.exists():
        raise RunFolderError(f"{file}: exists already", hint="Choose another --out, or give --overwrite.")


def write_text(file: Path, text: str) -> None:
    """Write UTF-8 text whole or not at all.

    Raises:
        ResourceError: the disk is full or cannot be written.
    """
    write_atomically(file, lambda temporary: _put(temporary, text))


def write_json(file: Path, content: dict[str, Any]) -> None:
    """Write JSON whole or not at all.

    Raises:
        ResourceError: the disk is full or cannot be written.
    """
    write_text(file, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_csv(file: Path, table: pa.Table) -> None:
    """Write a table as CSV in UTF-8, whole or not at all.

    Raises:
        ResourceError: the disk is full or cannot be written.
    """

    def write(temporary: Path) -> None:
        with open(temporary, "w", encoding="utf-8", newline="") as out:
            writer = csv.writer(_ShortLines(out))
            writer.writerow(table.column_names)
            for batch in table.to_batches():
                writer.writerows(zip(*(column.to_pylist() for column in batch.columns), strict=True))

    write_atomically(file, write)


@dataclass(frozen=True, slots=True)
class _ShortLines:
    """Takes rows that end with a carriage return and a line feed, so that cells with either are quoted, and keeps the
    line feed alone."""

    out: TextIO

    def write(self, row: str) -> None:
        self.out.write(row.removesuffix("\r\n") + "\n")


def write_parquet(file: Path, table: pa.Table) -> None:
    """Write a table as Parquet, whole or not at all.

    Raises:
        ResourceError: the disk is full or cannot be written.
    """

    def write(temporary: Path) -> None:
        with open(temporary, "wb") as out:  # Arrow takes no path that is not UTF-8
            pq.write_table(table, out, compression="zstd")

    write_atomically(file, write)


def _put(file: Path, text: str) -> None:
    with open(file, "w", encoding="utf-8", newline="") as out:
        out.write(text)


def _umask() -> int:
    """The process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _bring_to_disk(path: Path) -> None:
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
