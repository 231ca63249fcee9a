"""The first half of a fit: what is given is decoded, checked, and settled into the rows that are judged.

# N judged rows
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from labelclean.config import FitConfig
from labelclean.data.groups import join_groups
from labelclean.data.images import Decoded, decode_all, digest_of_file, open_map
from labelclean.data.inspect import (
    DIFFERENCES,
    FEWEST_ROWS,
    SMALL_CLASS,
    alike_classes,
    confined_classes,
    nameless_classes,
    tell_columns,
    tell_passed_over,
)
from labelclean.errors import InputError, RunFolderError, damaged_checkpoint, name_some
from labelclean.files import write_atomically
from labelclean.records import UNKNOWN, ByteArray, Fault, IntArray, Labels, Manifest, Reporter
from labelclean.results.run_folder import RunFolder
from labelclean.train.folds import assign_folds

NUM_NAMES = 20
"""Classes that are named in a note."""

BYTES_OF_A_SCORE = 460
"""That the arrays of a round take for each row and class, with many classes; see docs/method.md."""

IMAGES_COMPARED = 64
"""Files that an interrupted run has decoded are compared with those that are there now: so many of them."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What was read and decoded.

    Attributes:
        rows: positions of the rows that can be judged, ascending.
        files: number of each of their files, equal for identical files.
        labels: what is given about those rows.
    """

    manifest: Manifest
    decoded: Decoded
    rows: IntArray
    files: IntArray
    labels: Labels


def check_classes(manifest: Manifest) -> None:
    """Refuse an index in which nothing can be wrong.

    Raises:
        InputError: there are fewer than two classes.
    """
    names = manifest.class_names
    if len(names) < 2:
        found = f"one class, {names[0]!r}" if names else "no labels at all"
        raise InputError(
            f"{manifest.source}: {found}",
            hint="A label is only wrong against another: give rows of two classes or more, and check --label-column.",
        )


def read_inputs(
    manifest: Manifest, images_dir: Path, folder: RunFolder, config: FitConfig, *, size: int, reporter: Reporter
) -> Inputs:
    """Decode the images and settle which rows are judged."""
    _refuse_faults(manifest.faults, config)
    decoded = _decoded(manifest, images_dir, folder, config, size=size, reporter=reporter)
    _refuse_faults(decoded.faults, config)
    rows = judged_rows(manifest, decoded.faults)
    _note_rows(manifest, decoded.faults, reporter)
    _note_classes(manifest, rows, reporter)
    _note_memory(len(rows), len(manifest.class_names), reporter)
    files = decoded.files[rows]
    return Inputs(manifest, decoded, rows, files, given_labels(manifest, files, rows, config))


def _refuse_faults(faults: dict[int, Fault], config: FitConfig) -> None:
    """With `strict`, stop at the first row that cannot be judged."""
    if config.strict and faults:
        raise InputError(min(faults.items())[1].message, hint="Mend it, or leave --strict away to have it marked.")


def judged_rows(manifest: Manifest, faults: dict[int, Fault]) -> IntArray:
    """Rows with a label and a decodable image, ascending.

    Raises:
        InputError: fewer than four rows, or fewer than two classes, are left.
    """
    usable = np.ones(manifest.num_rows, dtype=bool)
    usable[list(faults)] = False
    rows = np.flatnonzero(usable)
    num_classes = len(np.unique(manifest.label_ids[rows]))
    if len(rows) < FEWEST_ROWS or num_classes < 2:
        found = f"{len(rows)} of {manifest.num_rows} rows can be judged, of {num_classes} classes"
        example = f", as in: {next(iter(faults.values())).message}" if faults else ""
        hint = "At least four readable images of two classes are needed; `labelclean check` lists what is wrong."
        raise InputError(f"{manifest.source}: {found}{example}", hint=hint)
    return rows


def _note_rows(manifest: Manifest, faults: dict[int, Fault], reporter: Reporter) -> None:
    """Say where the rows were read from, and how many cannot be judged: better now than after hours."""
    if manifest.columns:
        reporter.note(tell_columns(manifest.columns))
    if manifest.passed_over:
        reporter.note(f"files passed over: {tell_passed_over(manifest.passed_over)}")
    if faults:
        kinds = Counter(fault.kind for fault in faults.values()).most_common()
        counts = ", ".join(f"{count:,} {kind}" for kind, count in kinds)
        example = next(iter(faults.values())).message
        reporter.note(f"{len(faults):,} of {manifest.num_rows:,} rows cannot be judged ({counts}), as in: {example}")


def _note_classes(manifest: Manifest, rows: IntArray, reporter: Reporter) -> None:
    """Name classes of which there is little to go by, those that are perhaps no class, and those perhaps the same."""
    counts = np.bincount(manifest.label_ids[rows], minlength=len(manifest.class_names))
    gone = [name for name, count in zip(manifest.class_names, counts, strict=True) if count == 0]
    if gone:
        reporter.note(f"classes of which no row can be judged: {_some(gone)}")
    small = [name for name, count in zip(manifest.class_names, counts, strict=True) if 0 < count < SMALL_CLASS]
    if small:
        reporter.note(f"classes with fewer than {SMALL_CLASS} rows, judged with little to go by: {_some(small)}")
    nameless = nameless_classes(manifest.class_names)
    if nameless:
        reporter.note(f"classes whose names may mean that there is no label: {', '.join(map(repr, nameless))}")
    confined = confined_classes(manifest, rows)
    if confined:
        reporter.note(
            f"classes with nearly all rows in one group: {_some(confined)}; rows of a group say nothing about each "
            "other, so that these can hardly be judged: give smaller groups, or no column group"
        )
    alike = [" and ".join(map(repr, same)) for same in alike_classes(manifest.class_names)]
    if alike:
        reporter.note(f"classes that differ only by {DIFFERENCES}: {_some(alike, '; ')}")


def _note_memory(num_rows: int, num_classes: int, reporter: Reporter) -> None:
    """Say where the arrays of a round will not fit: the system would end the run, hours later and without a word."""
    needed, there = BYTES_OF_A_SCORE * num_rows * num_classes, physical_memory()
    if there is not None and needed > there:
        reporter.note(
            f"a round will take about {needed / 2**30:,.0f} GiB for {num_rows:,} rows of {num_classes:,} classes, this "
            f"machine has {there / 2**30:,.0f} GiB: judge a part of the rows, or of the classes, at a time"
        )


def physical_memory() -> int | None:
    """What the machine has, in bytes; None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _some(names: Sequence[str], separator: str = ", ") -> str:
    """Names in words, the first NUM_NAMES of them."""
    return name_some(names[:NUM_NAMES], len(names), separator=separator)


def _decoded(
    manifest: Manifest, images_dir: Path, folder: RunFolder, config: FitConfig, *, size: int, reporter: Reporter
) -> Decoded:
    """The decoded images: those that an interrupted run has left, or newly decoded ones."""
    from labelclean.train.checkpoint import Checkpoint

    if folder.facts.exists() and folder.images.exists():
        with _read_facts(folder.facts) as kept:
            if int(kept["size"]) != size:
                raise RunFolderError(
                    f"{folder.path}: the unfinished run decoded its images to {kept['size']} px, now they would be "
                    f"{size} px",
                    hint=f"See that the images are where they were, in {images_dir}, or start anew with --overwrite.",
                )
            _refuse_other_images(manifest, images_dir, folder, kept["digests"])
            faults = {int(row): Fault(**fault) for row, fault in json.loads(str(kept["faults"])).items()}
            pixels = open_map(folder.images, (manifest.num_rows, size, size, 3))
            return Decoded(pixels, kept["digests"], faults)
    Checkpoint(folder.checkpoint).clear()  # of images that nothing vouches for any more
    decoded = decode_all(manifest, images_dir, folder.images, size=size, workers=config.workers, reporter=reporter)
    decoded.pixels.flush()  # type: ignore[attr-defined]  # the facts vouch for them
    faults_json = json.dumps({row: dataclasses.asdict(fault) for row, fault in decoded.faults.items()})

    def write(file: Path) -> None:
        with open(file, "wb") as out:
            np.savez(out, size=size, faults=faults_json, digests=decoded.digests)

    write_atomically(folder.facts, write)
    return decoded


@contextmanager
def _read_facts(file: Path) -> Iterator[Mapping[str, Any]]:
    """What was found out as images were decoded."""
    with open(file, "rb") as content:
        try:
            kept = np.load(content, allow_pickle=False)
        except (ValueError, BadZipFile) as error:
            raise damaged_checkpoint(file, error) from error
        yield kept


def _refuse_other_images(manifest: Manifest, images_dir: Path, folder: RunFolder, digests: ByteArray) -> None:
    """Stop where images are not those that were decoded, by a few of them.

    Args:
        digests: of every row's file, (M, DIGEST_BYTES), zero where there was none.
    """
    there = np.flatnonzero(digests.any(axis=1))
    for row in there[np.linspace(0, len(there) - 1, min(len(there), IMAGES_COMPARED)).astype(int)].tolist():
        path = manifest.paths[row].as_py()
        digest = digest_of_file(images_dir, path)
        if not np.array_equal(digest, digests[row]):
            cause = (
                "not the image that the unfinished run {} has decoded" if digest.any() else "gone since {} decoded it"
            )
            raise RunFolderError(
                f"{images_dir / path}: {cause.format(folder.path)}",
                hint="Resume with the same images, or start anew with --overwrite.",
            )


def given_labels(manifest: Manifest, files: IntArray, rows: IntArray, config: FitConfig) -> Labels:
    """What is given about the judged rows, with folds that keep groups and identical files together.

    Raises:
        InputError: all rows are in one group.
    """
    given = manifest.label_ids[rows]
    groups = join_groups(manifest.group_ids[rows], files)
    if not groups.any():
        has_groups = (manifest.group_ids[rows] != UNKNOWN).any()
        what, remedy = (
            ("are in one group", "two groups or more, or no column group")
            if has_groups
            else ("have the very same image", "different images")
        )
        raise InputError(
            f"{manifest.source}: all {len(rows)} rows {what}",
            hint=f"Rows are judged by what others teach: give {remedy}.",
        )
    num_folds = min(config.folds, len(rows))
    rng = np.random.default_rng((config.seed, 0))
    return Labels(
        given=given,
        golden=manifest.golden_ids[rows],
        golden_chances=manifest.golden_chances[rows],
        golden_draws=manifest.golden_draws[rows],
        fold=assign_folds(given, groups, num_folds=num_folds, rng=rng),
        groups=groups,
        num_classes=len(manifest.class_names),
    )


def index_digest(manifest: Manifest) -> str:
    """Digest of every row's path, label, golden label with its chance and draw, and group."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps([manifest.paths.to_pylist(), manifest.labels.to_pylist()]).encode())
    for ids in (manifest.golden_ids, manifest.golden_draws, manifest.group_ids):
        digest.update(np.ascontiguousarray(ids, dtype=np.int64).tobytes())
    digest.update(manifest.golden_chances.tobytes())
    return digest.hexdigest()


def data_fingerprint(manifest: Manifest, decoded: Decoded) -> str:
    """Digest of every row's path, label, golden label, group and file content: equal data, equal fingerprint."""
    digest = hashlib.blake2b(index_digest(manifest).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(decoded.digests).tobytes())
    return digest.hexdigest()
