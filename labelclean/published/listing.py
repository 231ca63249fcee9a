"""The form into which every published set is read, and how it is written as an index.

# N rows, K classes, S side
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from labelclean.errors import ConfigError, ResourceError
from labelclean.files import refuse_to_replace, write_csv
from labelclean.records import NO_CLASS, REFUTED, UNKNOWN, ByteArray, IntArray, Reporter, phase


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """The rows of a published set, or of a part of it.

    Attributes:
        images: folder to which the paths are relative; where there are pixels, relative to the index's own folder.
        paths: (N,).
        given: label as it is given, (N,) in [0, K).
        true: true label, UNKNOWN where it is not known, or REFUTED, (N,).
        class_names: K names.
        pixels: images of a set that comes without image files, (N, S, S, 3); None: the files are there.
    """

    images: Path
    paths: list[str]
    given: IntArray
    true: IntArray
    class_names: tuple[str, ...]
    pixels: ByteArray | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Indexed:
    """What was written: the folder of the images, the index, the truth if any of it is known, and counts of rows."""

    images: Path
    labels: Path
    truth: Path | None
    num_rows: int
    num_classes: int
    num_known: int
    num_wrong: int


def first_classes(listing: Listing, num_classes: int) -> Listing:
    """Only the rows given one of the first so many classes; a true label beyond them is merely wrong.

    Raises:
        ConfigError: the set has fewer classes.
    """
    if not 2 <= num_classes <= len(listing.class_names):
        raise ConfigError(
            f"--classes {num_classes}: the set has {len(listing.class_names)}", hint="Give 2 or more, not above that."
        )
    kept = np.flatnonzero(listing.given < num_classes)
    true = listing.true[kept]
    return replace(
        listing,
        paths=[listing.paths[row] for row in kept],
        given=listing.given[kept],
        true=np.where(true >= num_classes, REFUTED, true),
        class_names=listing.class_names[:num_classes],
        pixels=None if listing.pixels is None else listing.pixels[kept],
    )


def write_listing(listing: Listing, out: Path, *, overwrite: bool, reporter: Reporter) -> Indexed:
    """Write labels.csv, truth.csv where any true label is known, and the images of a set that comes without files.

    Raises:
        RunFolderError: labels.csv or truth.csv exists already, and `overwrite` is False.
        ResourceError: a file cannot be written.
    """
    labels, truth = out / "labels.csv", out / "truth.csv"
    known = listing.true != UNKNOWN
    if not overwrite:
        for file in (labels, truth):
            refuse_to_replace(file)
    if listing.pixels is not None:
        for file in (labels, truth):  # of another set, perhaps, whose images are written over
            file.unlink(missing_ok=True)
        _write_images(listing.pixels, listing.paths, out / "images", reporter)
    paths, given = pa.array(listing.paths, pa.string()), _named(listing.given, listing.class_names)
    write_csv(labels, pa.table({"path": paths, "label": given}))
    if known.any():
        table = pa.table({"path": paths, "label": given, "true_label": _named(listing.true, listing.class_names)})
        write_csv(truth, table.filter(pa.array(known)))
    else:
        truth.unlink(missing_ok=True)  # of another set
    return Indexed(
        images=listing.images if listing.pixels is None else out / "images",
        labels=labels,
        truth=truth if known.any() else None,
        num_rows=len(listing.paths),
        num_classes=len(listing.class_names),
        num_known=int(known.sum()),
        num_wrong=int((known & (listing.true != listing.given)).sum()),
    )


def _named(ids: IntArray, class_names: tuple[str, ...]) -> pa.Array:
    """Class names, NO_CLASS for REFUTED; null for UNKNOWN."""
    names = np.array([*class_names, NO_CLASS, None], dtype=object)
    places = np.select([ids == REFUTED, ids == UNKNOWN], [len(class_names), len(class_names) + 1], ids)
    return pa.array(names[places], pa.string())


def _write_images(pixels: ByteArray, paths: list[str], folder: Path, reporter: Reporter) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with phase(reporter, "Images", len(paths)):
            for path, image in zip(paths, pixels, strict=True):
                Image.fromarray(image).save(folder / path)
                reporter.advance(1)
    except OSError as error:
        raise ResourceError(
            f"{error.filename or folder}: {error.strerror or error}", hint="Free some space, or choose another --out."
        ) from error
