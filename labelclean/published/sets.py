"""Which sets there are, and in which parts and kinds of labels they come."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from labelclean.config import PublishedSet, Split
from labelclean.errors import ConfigError, InputError
from labelclean.published.cifar import read_cifar10, read_cifar100
from labelclean.published.listing import Listing, first_classes
from labelclean.published.lists import read_clothing1m, read_food101n, read_tiny_imagenet, read_webvision
from labelclean.published.text import UNPACK

HUMAN_LABELLED = {"cifar10": read_cifar10, "cifar100": read_cifar100}
LISTED = {
    "clothing1m": read_clothing1m,
    "food101n": read_food101n,
    "tiny-imagenet": read_tiny_imagenet,
    "webvision": read_webvision,
}
PARTS: dict[str, tuple[Split, ...]] = {
    "cifar10": ("train", "test"),
    "cifar100": ("train", "test"),
    "clothing1m": ("train", "val", "test"),
    "food101n": ("train",),
    "tiny-imagenet": ("train", "val"),
    "webvision": ("train", "val"),
}


def read_published(
    name: PublishedSet, root: Path, *, split: Split, labels: str | None, num_classes: int | None
) -> Listing:
    """The rows of a published set.

    Args:
        name: which set.
        root: the folder into which it was unpacked.
        split: which part of it.
        labels: for CIFAR, which of the labels that people gave (worse, aggre, random1, ... or noisy); None: the true
            ones.
        num_classes: keep the first so many classes, as mini-WebVision does with 50; None: all.
    Raises:
        ConfigError: the set has no such part, labels or classes.
        InputError: a file is missing or is not as published.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder", hint=UNPACK)
    if split not in PARTS[name]:
        raise ConfigError(f"--split {split}: {name} has no such part", hint=f"It has {', '.join(PARTS[name])}.")
    if name in HUMAN_LABELLED:
        listing = HUMAN_LABELLED[name](root, split, labels)
    elif labels is None:
        listing = LISTED[name](root, split)
    else:
        raise ConfigError(f"--labels {labels}: {name} comes with one kind of labels", hint="Leave out --labels.")
    _check_numbers(listing, root)
    if num_classes is not None:
        listing = first_classes(listing, num_classes)
    if not listing.paths:
        raise InputError(f"{root}: no rows in the part {split}", hint=UNPACK)
    return listing


def _check_numbers(listing: Listing, root: Path) -> None:
    """Every label must have a name."""
    numbers = np.concatenate([listing.given, listing.true[listing.true >= 0]])
    num_names = len(listing.class_names)
    strange = numbers[(numbers < 0) | (numbers >= num_names)]
    if len(strange):
        raise InputError(
            f"{root}: a label has the number {strange[0]}, but there are {num_names} class names",
            hint="Unpack the lists of the data set again.",
        )
