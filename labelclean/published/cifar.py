"""CIFAR-10 and CIFAR-100 in their version for Python, and the labels that people gave them (CIFAR-N).

Their files are pickles, which can run any code when they are opened the plain way: here nothing but arrays, lists,
strings and numbers is built from them.

# N images, K classes, S side
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from labelclean.config import Split
from labelclean.errors import ConfigError, InputError, why_unreadable
from labelclean.published.listing import Listing
from labelclean.published.text import UNPACK
from labelclean.records import ByteArray, IntArray

HARMLESS = {
    (f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")
} | {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}  # fmt: skip
"""What a pickle of arrays needs besides the built-in types."""

UNPICKLING_ERRORS = (
    pickle.UnpicklingError, ArithmeticError, AttributeError, EOFError, ImportError, LookupError, TypeError, ValueError
)  # fmt: skip
"""What damaged pickles raise, and what is no dict or lacks an entry."""

SIDE = 32
UNPACK_AGAIN = "Unpack the set again."

HUMAN_10 = {"aggre": "aggre_label", "worse": "worse_label"} | {f"random{n}": f"random_label{n}" for n in (1, 2, 3)}
HUMAN_100 = {"noisy": "noisy_label"}


def read_cifar10(root: Path, split: Split, labels: str | None) -> Listing:
    """CIFAR-10 (Krizhevsky, 2009), and the labels of CIFAR-10N (Wei et al., ICLR 2022) from CIFAR-10_human.pt."""
    folder = _folder(root, "cifar-10-batches-py", "batches.meta")
    files = [f"data_batch_{number}" for number in range(1, 6)] if split == "train" else ["test_batch"]
    batches = zip(*(_images(folder / file, "labels") for file in files), strict=True)
    pixels, true = (np.concatenate(parts) for parts in batches)
    names = _names(folder / "batches.meta", "label_names")
    human = _human_labels(root, "CIFAR-10_human.pt", HUMAN_10, labels, split, num_images=len(true))
    return _listing(pixels, true, names, human)


def read_cifar100(root: Path, split: Split, labels: str | None) -> Listing:
    """CIFAR-100 with its fine classes, and the labels of CIFAR-100N from CIFAR-100_human.pt."""
    folder = _folder(root, "cifar-100-python", "meta")
    pixels, true = _images(folder / split, "fine_labels")
    names = _names(folder / "meta", "fine_label_names")
    human = _human_labels(root, "CIFAR-100_human.pt", HUMAN_100, labels, split, num_images=len(true))
    return _listing(pixels, true, names, human)


def _listing(flat: ByteArray, true: IntArray, names: tuple[str, ...], human: IntArray | None) -> Listing:
    """The listing of images whose channels follow each other, (N, 3 * S * S)."""
    return Listing(
        images=Path("images"),
        paths=[f"{number:05}.png" for number in range(len(true))],
        given=true if human is None else human,
        true=true,
        class_names=names,
        pixels=np.ascontiguousarray(flat.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)),
    )


def _images(file: Path, labels: str) -> tuple[ByteArray, IntArray]:
    """Images, (N, 3 * S * S), and the labels of that name, (N,).

    Raises:
        InputError: the file cannot be read, or holds something else.
    """
    pixels, numbers = _unpickle(file, "data", labels)
    shape = getattr(pixels, "shape", ())
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or shape[1:] != (3 * SIDE * SIDE,):
        raise InputError(f"{file}: its data are no images of {SIDE} x {SIDE} pixels in bytes", hint=UNPACK_AGAIN)
    return pixels, _numbers(file, labels, numbers, num_images=len(pixels))


def _numbers(file: Path, name: str, values: Any, *, num_images: int) -> IntArray:
    """Labels that a file has under a name, (N,).

    Raises:
        InputError: they are not one whole number per image.
    """
    try:
        numbers = np.asarray(values)
    except (TypeError, ValueError, RuntimeError):  # lists of unequal length, tensors that are no arrays
        numbers = np.empty(0, dtype=object)
    if numbers.dtype.kind not in "iu" or numbers.shape != (num_images,):
        raise InputError(f"{file}: its {name} are not {num_images:,} whole numbers, one per image", hint=UNPACK_AGAIN)
    return numbers.astype(np.int64)


def _names(file: Path, name: str) -> tuple[str, ...]:
    """Class names that a file has under a name.

    Raises:
        InputError: the file cannot be read, or holds something else.
    """
    (names,) = _unpickle(file, name)
    try:
        return tuple(class_name.decode() for class_name in names)
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{file}: its {name} are no names in bytes", hint=UNPACK_AGAIN) from error


def _folder(root: Path, name: str, file: str) -> Path:
    """The folder of the batches: root itself, or the one of the usual name in it."""
    for folder in (root, root / name):
        if (folder / file).is_file():
            return folder
    raise InputError(f"{root / name / file}: no such file", hint=f"{UNPACK} It is the version for Python.")


def _human_labels(
    root: Path, name: str, kinds: dict[str, str], wanted: str | None, split: Split, *, num_images: int
) -> IntArray | None:
    """The labels of that kind, (N,); None where none are wanted."""
    if wanted is None:
        return None
    if wanted not in kinds or split != "train":
        raise ConfigError(
            f"--labels {wanted}, --split {split}: there are no such labels",
            hint=f"The part train has {', '.join(kinds)}.",
        )
    places = (root / name, root / "data" / name, root.parent / name)
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise InputError(f"{places[0]}: no such file", hint=f"Put {name} of CIFAR-N there.")
    content = _load_tensors(file)
    if not isinstance(content, dict) or kinds[wanted] not in content:
        raise InputError(f"{file}: there is no {kinds[wanted]} in it", hint="Download the file of CIFAR-N again.")
    return _numbers(file, kinds[wanted], content[kinds[wanted]], num_images=num_images)


def _load_tensors(file: Path) -> Any:
    """What torch.save has written, without running what the file may name."""
    import torch

    kinds: list[Any] = [np.ndarray, np.dtype, *(type(np.dtype(code)) for code in "bhilqBHILQfd")]
    rebuild: Any = np.empty(0).__reduce__()[0]
    names = [(rebuild, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")]
    try:
        with torch.serialization.safe_globals([*kinds, *names]):
            return torch.load(file, weights_only=True)
    except OSError as error:
        raise InputError(f"{file}: {why_unreadable(error)}", hint=UNPACK) from error
    except (*UNPICKLING_ERRORS, RuntimeError) as error:
        raise InputError(f"{file}: not a file of tensors and arrays", hint="Download it again.") from error


class _ArrayUnpickler(pickle.Unpickler):
    """Builds nothing but arrays and built-in types."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in HARMLESS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR file needs")
        return super().find_class(module, name)


def _unpickle(file: Path, *names: str) -> list[Any]:
    """The entries of those names."""
    try:
        content = _ArrayUnpickler(io.BytesIO(file.read_bytes()), encoding="bytes").load()
        return [content[name.encode()] for name in names]
    except OSError as error:
        raise InputError(f"{file}: {why_unreadable(error)}", hint=UNPACK) from error
    except UNPICKLING_ERRORS as error:
        raise InputError(f"{file}: not a CIFAR file: {error}", hint=UNPACK_AGAIN) from error
