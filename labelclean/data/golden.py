"""Golden labels, which somebody has checked: from the index's own column and from files of their own.

# N rows of the index, K classes
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pyarrow as pa

from labelclean.data.columns import CHANCE_NAME, GOLDEN_NAME, LABEL_NAMES, PATH_NAMES, TRUTH_NAMES, WRITTEN_NAMES
from labelclean.data.tables import as_strings, find_column, nothing, read_table, usual_column
from labelclean.errors import InputError, name_some
from labelclean.records import NO_CLASS, REFUTED, UNKNOWN, FloatArray, IntArray

MOST_NAMED = 5
"""Golden labels with a fault that a message tells of."""


@dataclass(frozen=True, slots=True)
class GoldenLabel:
    """A trusted label.

    Attributes:
        label: as given.
        source: the file it is from.
        item: its row in the index, or the path by which a golden file names it.
        chance: probability with which its row was chosen for it, NaN where unknown.
        draw: number of the file; rows of one file were drawn together.
    """

    label: str
    source: str
    item: int | str
    chance: float = np.nan
    draw: int = 0

    @property
    def place(self) -> str:
        """As messages name it."""
        return f"{self.source} row {self.item}" if isinstance(self.item, int) else f"{self.source}: {self.item}"


def golden_rows(
    own: pa.ChunkedArray, chances: pa.ChunkedArray, files: Sequence[Path], paths: pa.ChunkedArray, source: str
) -> dict[int, GoldenLabel]:
    """The golden label of each row whose path has one; that of a file wins over the index's own column.

    Args:
        own, chances: the index's own golden labels and the chances with which their rows were chosen, (N,) both.
    Raises:
        InputError: a chance is none, a file cannot be used, names a path that is not in the index, or contradicts
            itself or another, or the index contradicts itself.
    """
    if not files and own.null_count == len(own):
        return {}
    rows = paths.to_pylist()
    of_index = (
        (path, GoldenLabel(label, source, row, _chance(chance, f"{source} row {row}")))
        for row, (path, label, chance) in enumerate(zip(rows, own.to_pylist(), chances.to_pylist(), strict=True))
        if path is not None and label is not None
    )
    of_files = (entry for draw, file in enumerate(files, start=1) for entry in _golden_file(file, draw))
    known = set(rows)
    by_path = _joined(of_index, known=known) | _joined(of_files, known=known)
    return {row: by_path[path] for row, path in enumerate(rows) if path in by_path}


def _joined(entries: Iterable[tuple[str, GoldenLabel]], *, known: set[str | None]) -> dict[str, GoldenLabel]:
    """The golden labels of all files by path, which must be among the known ones."""
    by_path: dict[str, GoldenLabel] = {}
    strange: list[str] = []
    for path, golden in entries:
        if path not in known:
            strange.append(golden.place)
            continue
        first = by_path.setdefault(path, golden)
        if first.label.strip() != golden.label.strip():
            sources = " and ".join(dict.fromkeys((first.source, golden.source)))
            raise InputError(
                f"{sources}: {path} has the golden labels {first.label} and {golden.label}", hint="Keep the right one."
            )
    if strange:
        raise InputError(
            f"{name_some(strange[:MOST_NAMED], len(strange))}: not in the index",
            hint="Name golden rows by the very paths that the index has.",
        )
    return by_path


def _golden_file(file: Path, draw: int) -> list[tuple[str, GoldenLabel]]:
    """Path and trusted label of each row that has both.

    Raises:
        InputError: the file lacks a column, has no golden label at all, or a chance that is none.
    """
    table, source = read_table(file), str(file)
    path_name = find_column(table, None, PATH_NAMES, what="path", source=source, remedy="call one path")
    label_name = trusted_column(table, (GOLDEN_NAME, *TRUTH_NAMES), what="golden label", source=source)
    chance_name = usual_column(table, (CHANCE_NAME,))
    paths, labels, chances = (
        as_strings(table[name], what=f"{source}, column {name}") if name else nothing(table.num_rows)
        for name in (path_name, label_name, chance_name)
    )
    if labels.null_count == len(labels):
        raise InputError(
            f"{source}: no golden label in column {label_name}", hint="Fill in some, or leave --golden away."
        )
    return [
        (path, GoldenLabel(label, source, path, _chance(chance, f"{source}: {path}"), draw))
        for path, label, chance in zip(paths.to_pylist(), labels.to_pylist(), chances.to_pylist(), strict=True)
        if path is not None and label is not None
    ]


def trusted_column(table: pa.Table, names: tuple[str, ...], *, what: str, source: str) -> str:
    """The first column of these names, or in a plain list of paths and labels that of the labels.

    Args:
        what: the labels are, in messages.
    Raises:
        InputError: there is none, or the labels are the given ones, in a file that labelclean wrote.
    """
    written = usual_column(table, WRITTEN_NAMES)
    if written is not None and usual_column(table, names) is None:
        raise InputError(
            f"{source}: no column {names[0]}, and its labels are the given ones, as its column {written} tells",
            hint=f"Write the right labels into a column {names[0]}; leave the cell empty where they are not known.",
        )
    return find_column(table, None, (*names, *LABEL_NAMES), what=what, source=source, remedy=f"call one {names[0]}")


def _chance(text: str | None, place: str) -> float:
    """A chance in (0, 1], with a point or a comma for the decimals; NaN where there is none.

    Raises:
        InputError: the text is no such number.
    """
    if text is None:
        return np.nan
    try:
        chance = float(text.replace(",", "."))
    except ValueError:
        chance = np.nan
    if not 0 < chance <= 1:
        raise InputError(
            f"{place} has the chance {text!r}, which is not in (0, 1]",
            hint=f"Leave the column {CHANCE_NAME} as it was written.",
        )
    return chance


def golden_ids(trusted: Mapping[int, GoldenLabel], names: tuple[str, ...], num_rows: int) -> IntArray:
    """Each row's golden label as its position among the classes, whatever the space around it, (N,).

    REFUTED where it is NO_CLASS, UNKNOWN where there is none.

    Raises:
        InputError: a golden label is none of the classes.
    """
    spelt = {name: number for number, name in enumerate(names)}
    position = {name.strip(): number for name, number in spelt.items()} | spelt
    ids = np.full(num_rows, UNKNOWN, dtype=np.int64)
    wrong: dict[str, GoldenLabel] = {}
    for row, golden in trusted.items():
        stripped = golden.label.strip()
        number = position.get(golden.label, position.get(stripped))
        if stripped == NO_CLASS:
            ids[row] = REFUTED
        elif number is None:
            wrong.setdefault(golden.place, golden)
        else:
            ids[row] = number
    if wrong:
        raise _no_classes(list(wrong.values()), names)
    return ids


def refuse_given_labels(files: Sequence[Path], golden: IntArray, given: IntArray) -> None:
    """Stop where golden files only repeat the index.

    Args:
        golden, given: class ids, UNKNOWN where there is none, (N,) both.
    Raises:
        InputError: all rows are golden, each as its label is given.
    """
    if files and np.array_equal(golden, given):
        raise InputError(
            f"{', '.join(map(str, files))}: golden labels of all rows, each as its label is given, leave nothing to "
            "judge",
            hint="Give labels that somebody has checked, not the index again.",
        )


def golden_chances(trusted: Mapping[int, GoldenLabel], num_rows: int) -> FloatArray:
    """The chance with which each row was chosen for its golden label, NaN where unknown or where it has none, (N,)."""
    chances = np.full(num_rows, np.nan)
    for row, golden in trusted.items():
        chances[row] = golden.chance
    return chances


def golden_draws(trusted: Mapping[int, GoldenLabel], num_rows: int) -> IntArray:
    """The number of the file that each golden label is from, UNKNOWN where a row has none, (N,)."""
    draws = np.full(num_rows, UNKNOWN, dtype=np.int64)
    for row, golden in trusted.items():
        draws[row] = golden.draw
    return draws


def _no_classes(wrong: Sequence[GoldenLabel], names: tuple[str, ...]) -> InputError:
    """What is wrong with golden labels that are none of the classes, with the ones that may be meant."""
    told = [
        f"{golden.place} has the golden label {golden.label!r}{_meant(golden, names)}" for golden in wrong[:MOST_NAMED]
    ]
    faults = name_some(told, len(wrong), separator="; ")
    return InputError(
        f"{faults}: none of the classes",
        hint=f"Correct it, or leave the cell empty; {NO_CLASS} says that the given label is wrong, and no more.",
    )


def _meant(golden: GoldenLabel, names: tuple[str, ...]) -> str:
    """The class that may be meant, as a question in brackets; empty where none is near."""
    by_spelling = {name.strip().casefold(): name for name in names}
    spelling = golden.label.strip().casefold().removesuffix(".0")  # as spreadsheets write whole numbers
    close = get_close_matches(spelling, by_spelling, n=1)
    return f" (is it {by_spelling[close[0]]!r}?)" if close else ""
