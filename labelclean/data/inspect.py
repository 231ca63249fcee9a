"""What is wrong with a data set, told without training: unusable and doubled rows, identical images, small classes.

Pure functions on an index that was read and images that were decoded.

# N rows
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from unicodedata import normalize

import numpy as np
import pyarrow.compute as pc

from labelclean.data.groups import join_groups
from labelclean.errors import name_some
from labelclean.records import UNKNOWN, BoolArray, Fault, IntArray, Manifest

SMALL_CLASS = 10
"""Classes with fewer rows are named: little can be said about their labels."""

FEWEST_ROWS = 4
"""That can be judged at all."""

CONFINED = 0.8
"""Share of a class's rows in one group from which on hardly any other group shows it."""

DIFFERENCES = "letter case, blank space or Unicode form"
"""Between names of classes that are likely to be one."""

MOST_PASSED_OVER = 3
"""Files that are no rows of which a message tells."""

NO_LABEL = {"nan", "none", "null", "na", "n/a", "<na>"}
"""Words, lower case, by which programs mark a missing value; they may be names of classes all the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FaultGroup:
    """Rows that cannot be used for the same kind of reason, and what is wrong with each, in the order of the index."""

    kind: str
    num_rows: int
    messages: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SamePicture:
    """Rows with the same path or with byte-identical images.

    Attributes:
        rows: positions in the index, ascending.
        paths: the path of each.
        labels: the label of each, None where it is missing.
    """

    rows: tuple[int, ...]
    paths: tuple[str, ...]
    labels: tuple[str | None, ...]

    @property
    def is_conflicting(self) -> bool:
        return len(set(self.labels) - {None}) > 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Inspection:
    """What there is to know about a data set without training.

    Attributes:
        source: the index.
        columns: what was read from which of its columns.
        num_rows: its rows.
        num_golden: rows with a trusted label.
        classes: rows of each class that can be used, in the order of the classes.
        min_class_rows: below it a class is small.
        alike_classes: classes whose names hardly differ, see DIFFERENCES, together.
        nameless_classes: classes whose names may mean that there is no label.
        confined_classes: classes with nearly all rows in one group.
        num_groups: groups of rows that are no evidence for each other, each at least a row, among the rows that can be
            used.
        faults: rows that cannot be used, by kind, most frequent first.
        doubled_paths: rows that name the same path.
        identical_images: rows with different paths and the same bytes.
        passed_over: files of a folder per class that are none of its rows.
    """

    source: str
    columns: dict[str, str]
    num_rows: int
    num_golden: int
    classes: dict[str, int]
    min_class_rows: int
    alike_classes: tuple[tuple[str, ...], ...]
    nameless_classes: tuple[str, ...]
    confined_classes: tuple[str, ...]
    num_groups: int
    faults: tuple[FaultGroup, ...]
    doubled_paths: tuple[SamePicture, ...]
    identical_images: tuple[SamePicture, ...]
    passed_over: tuple[str, ...] = ()

    @property
    def origin(self) -> str:
        """What was read from which column, in words; empty for a folder per class."""
        return tell_columns(self.columns)

    @property
    def refusal(self) -> str:
        """Why `fit` will refuse the data set, in words; empty where it will not."""
        if sum(count > 0 for count in self.classes.values()) < 2:
            return "fewer than two classes have rows that can be used: no label can be wrong against another"
        if sum(self.classes.values()) < FEWEST_ROWS:
            return f"fewer than {FEWEST_ROWS} rows can be used"
        if self.num_groups < 2:
            return "all rows are in one group, or show one file, and rows of a group say nothing about each other"
        return ""

    @property
    def small_classes(self) -> dict[str, int]:
        return {name: count for name, count in self.classes.items() if count < self.min_class_rows}

    @property
    def conflicts(self) -> tuple[SamePicture, ...]:
        """Pictures that carry several labels, each once: all but one of them are wrong."""
        copied = {row for same in self.identical_images for row in same.rows}
        alone = (same for same in self.doubled_paths if same.rows[0] not in copied)
        return tuple(same for same in (*alone, *self.identical_images) if same.is_conflicting)

    @property
    def is_sound(self) -> bool:
        """No row is unusable, none is doubled, no picture has several labels, and `fit` will not refuse."""
        return not (self.refusal or self.faults or self.doubled_paths or self.conflicts)


def inspect(
    manifest: Manifest,
    files: IntArray,
    faults: Mapping[int, Fault],
    *,
    min_class_rows: int = SMALL_CLASS,
) -> Inspection:
    """Find what is wrong with a data set.

    Args:
        manifest: the index, N rows.
        files: number of each row's file, equal for identical files, UNKNOWN where there is none, (N,).
        faults: what is wrong with rows, by row.
        min_class_rows: classes with fewer rows are called small.
    """
    usable = manifest.label_ids != UNKNOWN
    usable[list(faults)] = False
    counts = np.bincount(manifest.label_ids[usable], minlength=len(manifest.class_names))
    paths, labels = manifest.paths.to_pylist(), manifest.labels.to_pylist()

    usable_rows = np.flatnonzero(usable)

    def picture(rows: IntArray) -> SamePicture:
        return SamePicture(
            rows=tuple(rows.tolist()),
            paths=tuple(paths[row] for row in rows),
            labels=tuple(labels[row] for row in rows),
        )

    path_ids = pc.fill_null(pc.index_in(manifest.paths, value_set=pc.unique(manifest.paths.drop_null())), UNKNOWN)
    same_path = _repeated(path_ids.to_numpy(), present=manifest.paths.is_valid().to_numpy())
    same_bytes = _repeated(files, present=files != UNKNOWN)
    identical = [picture(rows) for rows in same_bytes]
    return Inspection(
        source=manifest.source,
        columns=manifest.columns,
        num_rows=manifest.num_rows,
        num_golden=int((manifest.golden_ids != UNKNOWN).sum()),
        classes=dict(zip(manifest.class_names, counts.tolist(), strict=True)),
        min_class_rows=min_class_rows,
        alike_classes=alike_classes(manifest.class_names),
        nameless_classes=nameless_classes(manifest.class_names),
        confined_classes=confined_classes(manifest, usable_rows),
        num_groups=_count_groups(manifest, files, usable_rows),
        faults=_fault_groups(faults),
        doubled_paths=tuple(picture(rows) for rows in same_path),
        identical_images=tuple(same for same in identical if len(set(same.paths)) > 1),
        passed_over=manifest.passed_over,
    )


def tell_passed_over(files: Sequence[str]) -> str:
    """How many files are no rows, and the first few."""
    named = name_some(files[:MOST_PASSED_OVER], len(files))
    return f"{len(files):,}, no images by their ending or in no class's folder: {named}"


def tell_columns(columns: Mapping[str, str]) -> str:
    """What was read from which column, in words: `paths from column file, labels from class`."""
    return ", ".join(f"{what} from {'' if place else 'column '}{columns[what]}" for place, what in enumerate(columns))


def alike_classes(names: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """Names that hardly differ, see DIFFERENCES, together: `T-Shirt`, `t-shirt` and `t-shirt `."""
    by_spelling: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_spelling[normalize("NFKC", " ".join(name.split())).casefold()].append(name)
    return tuple(tuple(same) for same in by_spelling.values() if len(same) > 1)


def nameless_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Names that programs write where a label is missing, such as `NaN`."""
    return tuple(name for name in names if name.strip().casefold() in NO_LABEL)


def confined_classes(manifest: Manifest, rows: IntArray) -> tuple[str, ...]:
    """Classes with nearly all rows in one of the user's groups: hardly anything else may say what they look like.

    Args:
        rows: positions of the rows that count, (M,).
    """
    labels, groups = manifest.label_ids[rows], manifest.group_ids[rows]
    totals = np.bincount(labels, minlength=len(manifest.class_names))
    grouped = groups != UNKNOWN
    pairs, counts = np.unique(np.stack([labels[grouped], groups[grouped]]), axis=1, return_counts=True)
    confined = pairs[0][(counts >= CONFINED * totals[pairs[0]]) & (counts >= SMALL_CLASS)]
    return tuple(manifest.class_names[label] for label in confined)


def _count_groups(manifest: Manifest, files: IntArray, rows: IntArray) -> int:
    """Groups of rows that are no evidence for each other among some rows, (M,)."""
    return int(join_groups(manifest.group_ids[rows], files[rows]).max()) + 1 if len(rows) else 0


def as_json(inspection: Inspection) -> dict[str, Any]:
    """The inspection as plain dicts, lists, strings and numbers."""
    pictures = ("doubled_paths", "identical_images")
    return {
        **dataclasses.asdict(inspection),
        **{name: [_picture_json(same) for same in getattr(inspection, name)] for name in pictures},
        "small_classes": inspection.small_classes,
        "refusal": inspection.refusal,
        "is_sound": inspection.is_sound,
    }


def _picture_json(same: SamePicture) -> dict[str, Any]:
    return {**dataclasses.asdict(same), "is_conflicting": same.is_conflicting}


def _fault_groups(faults: Mapping[int, Fault]) -> tuple[FaultGroup, ...]:
    messages: dict[str, list[str]] = defaultdict(list)
    for _, fault in sorted(faults.items()):
        messages[fault.kind].append(fault.message)
    return tuple(
        FaultGroup(kind=kind, num_rows=len(texts), messages=tuple(texts))
        for kind, texts in sorted(messages.items(), key=lambda item: (-len(item[1]), item[0]))
    )


def _repeated(keys: IntArray, *, present: BoolArray) -> Iterable[IntArray]:
    """Rows of each key that occurs more than once among the present ones, in the order of the first row."""
    rows = np.flatnonzero(present)
    _, group, counts = np.unique(keys[rows], return_inverse=True, return_counts=True)
    repeated = rows[counts[group] > 1]
    by_group: dict[int, list[int]] = defaultdict(list)
    for row, number in zip(repeated.tolist(), group[counts[group] > 1].tolist(), strict=True):
        by_group[number].append(row)
    return [np.array(members) for members in by_group.values()]
