"""The text files of published sets: lists of paths, labels and class names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from labelclean.errors import InputError, why_unreadable
from labelclean.records import IntArray

UNPACK = "Give the folder into which the data set was unpacked."

MAX_DIGITS = 6
"""Of a class number: no set has a million classes."""


def folder_with(root: Path, file: str, *, below: Sequence[str]) -> Path:
    """The first of some folders below root that holds a file.

    Raises:
        InputError: none does.
    """
    for name in below:
        if (root / name / file).is_file():
            return root / name
    wanted = " or ".join((root / name / file).as_posix() for name in below)
    raise InputError(f"{wanted}: no such file", hint=UNPACK)


def lines_of(file: Path) -> list[str]:
    """The lines that hold something, without the blanks at their ends.

    Raises:
        InputError: the file cannot be read, or is not UTF-8.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
        return [line.rstrip(" \r") for line in lines if line.strip()]
    except OSError as error:
        raise InputError(f"{file}: {why_unreadable(error)}", hint=UNPACK) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not UTF-8", hint="Unpack the file again.") from error


def numbered_paths(file: Path) -> list[tuple[str, int]]:
    """Lines of a path and a class number.

    Raises:
        InputError: a line is something else.
    """
    rows = []
    for line in lines_of(file):
        path, _, label = line.rpartition(" ")
        if not path or not label.isdecimal() or len(label) > MAX_DIGITS:
            raise InputError(f"{file}: {line!r} is not a path and a class number", hint="Unpack the file again.")
        rows.append((path, int(label)))
    return rows


def fields_of(file: Path, number: int, *, separator: str = "\t", header: bool = False) -> list[list[str]]:
    """The first so many fields of each line, none of them empty.

    Raises:
        InputError: a line has fewer.
    """
    rows = []
    for line in lines_of(file)[int(header) :]:
        fields = [field.strip() for field in line.split(separator)][:number]
        if len(fields) < number or not all(fields):
            raise InputError(f"{file}: {line!r} has not {number} fields", hint="Unpack the file again.")
        rows.append(fields)
    return rows


def positions(labels: Sequence[str], names: Sequence[str], file: Path) -> IntArray:
    """Position of each label among the names, (N,).

    Raises:
        InputError: a label is none of the names, which are those of `file`.
    """
    place_of = {name: place for place, name in enumerate(names)}
    strange = next((label for label in labels if label not in place_of), None)
    if strange is not None:
        raise InputError(f"{file}: no class {strange}", hint="Unpack the lists of the data set again.")
    return np.array([place_of[label] for label in labels], dtype=np.int64)
