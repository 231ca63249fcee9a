"""Decoding image files once, in parallel, into one memory-mapped array of bytes.

# N rows, S side of the square images in pixels
"""

from __future__ import annotations

import errno
import hashlib
import io
import math
import os
import re
import stat
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from unicodedata import normalize

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from labelclean.errors import ResourceError
from labelclean.records import UNKNOWN, ByteArray, Fault, IntArray, Manifest, Reporter, phase

MAX_PIXELS = 100_000_000
"""Larger images are refused: a few bytes on disk can unfold to gigabytes."""

DIGEST_BYTES = 16
ROWS_PER_TASK = 64
FOLDERS_TRIED = 5
"""Folders below that of the images in which a path that leads nowhere is tried."""

REMEDIES = {
    errno.EACCES: "Check its permissions.",
    errno.EPERM: "Check its permissions.",
    errno.ENAMETOOLONG: "Check the path: that is no name of a file.",
    errno.ENOTDIR: "Check the path: a part of it is a file, no folder.",
    errno.ELOOP: "Check its links: they lead back to themselves.",
}
"""What to do about a file that cannot be read, by the system's error."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What brings an image upright, by its EXIF orientation."""

BACKGROUND = (255, 255, 255)
"""What shows through transparent pixels."""

Image.MAX_IMAGE_PIXELS = None  # the check below replaces Pillow's, which warns once per process and not per file


@dataclass(frozen=True, slots=True)
class Decoded:
    """The decoded data set.

    Attributes:
        pixels: RGB bytes, (N, S, S, 3), zero where a row could not be decoded; a memory map.
        digests: digest of each file's bytes, equal for identical files, (N, 16), zero where there is no file.
        faults: what is wrong with rows, by row: what the index has, and why images could not be decoded.
    """

    pixels: ByteArray
    digests: ByteArray
    faults: dict[int, Fault]

    @property
    def files(self) -> IntArray:
        """The number of each row's file, equal for identical files, UNKNOWN where there is none, (N,)."""
        files = np.full(len(self.digests), UNKNOWN)
        there = self.digests.any(axis=1)
        as_keys = self.digests[there].view(f"V{DIGEST_BYTES}").ravel()  # sorted faster than rows of bytes
        files[there] = np.unique(as_keys, return_inverse=True)[1]
        return files


class _UnreadableError(Exception):
    """An image that cannot be used; carries the fault's kind and cause."""

    def __init__(self, kind: str, cause: str) -> None:
        super().__init__(cause)
        self.kind = kind


def decode_all(
    manifest: Manifest, images_dir: Path, cache_file: Path, *, size: int, workers: int, reporter: Reporter
) -> Decoded:
    """Decode every row that has a usable path.

    Args:
        manifest: rows whose faults concern only the label are decoded too, so that their image is checked.
        images_dir: folder to which the paths are relative.
        cache_file: the memory map is written here; N * S * S * 3 bytes.
        size: S, the side to which images are squeezed.
        workers: threads; 0: one per core.
        reporter: told of every decoded row.
    Raises:
        ResourceError: the disk is full or cannot be written.
    """
    shape = (manifest.num_rows, size, size, 3)
    pixels = create_map(cache_file, shape)
    digests = np.zeros((manifest.num_rows, DIGEST_BYTES), dtype=np.uint8)
    faults: dict[int, Fault] = {}
    paths = manifest.paths.to_pylist()
    skipped = {row for row, fault in manifest.faults.items() if fault.kind != "missing_label"}

    def work(rows: Iterable[int]) -> int:
        count = 0
        for row in rows:
            count += 1
            if row in skipped:
                continue
            try:
                content = _read_file(images_dir, paths[row])
                digests[row] = _digest(content)
                pixels[row] = decode(content, size)
            except _UnreadableError as error:
                message = f"{manifest.source} row {row}: {paths[row]}: {error}"
                faults[row] = Fault(kind=error.kind, message=message)
        return count

    num_threads = workers or os.cpu_count() or 1
    with (
        phase(reporter, "Decoding", manifest.num_rows),
        warnings.catch_warnings(action="ignore"),  # Pillow warns of what it mends by itself
        ThreadPoolExecutor(num_threads) as pool,
    ):
        for count in _bounded(pool, work, _tasks(manifest.num_rows), most_queued=2 * num_threads + 2):
            reporter.advance(count)
    return Decoded(pixels, digests, dict(sorted((faults | manifest.faults).items())))


def _tasks(num_rows: int) -> Iterable[range]:
    return (range(start, min(start + ROWS_PER_TASK, num_rows)) for start in range(0, num_rows, ROWS_PER_TASK))


def _bounded(
    pool: ThreadPoolExecutor, work: Callable[[range], int], tasks: Iterable[range], *, most_queued: int
) -> Iterator[int]:
    """Results as they come, with a bounded number of tasks queued, so that an interrupt ends the work soon."""
    tasks = iter(tasks)
    pending = {pool.submit(work, task) for task in islice(tasks, most_queued)}
    try:
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
            pending |= {pool.submit(work, task) for task in islice(tasks, len(done))}
    finally:
        for future in pending:
            future.cancel()


def create_map(file: Path, shape: tuple[int, ...]) -> ByteArray:
    """A new memory map of bytes whose room on disk is reserved first: a full disk is an error here, not a crash later.

    Raises:
        ResourceError: the disk is full or cannot be written.
    """
    num_bytes = math.prod(shape)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file, "wb") as out:
            _reserve(out.fileno(), num_bytes)
        return np.memmap(file, dtype=np.uint8, mode="r+", shape=shape)
    except OSError as error:
        with suppress(OSError):
            file.unlink()
        raise ResourceError(
            f"{file}: no room for the decoded images, {num_bytes / 2**20:,.1f} MiB: {error.strerror}",
            hint="Free the space, or choose another place (--out, for `check` TMPDIR) or a smaller --image-size.",
        ) from error


def open_map(file: Path, shape: tuple[int, ...]) -> ByteArray:
    """A memory map that was filled before."""
    return np.memmap(file, dtype=np.uint8, mode="r+", shape=shape)


def _reserve(handle: int, num_bytes: int) -> None:
    """Give an open file its size, and room on disk where the file system can reserve it."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(handle, 0, num_bytes)
            return
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                raise
    os.ftruncate(handle, num_bytes)


def _read_file(images_dir: Path, name: str) -> bytes:
    path = images_dir / name
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise _UnreadableError("not_a_file", "a folder or device, no file. Name an image.")
        content = path.read_bytes()
    except FileNotFoundError:
        cause = "this link leads nowhere" if path.is_symlink() else "no such image"
        raise _UnreadableError("missing_file", f"{cause}. {_meant_file(images_dir, name)}") from None
    except UnicodeEncodeError:
        encoding = sys.getfilesystemencoding()
        raise _UnreadableError(
            "missing_file", f"no file has such a name where names are in {encoding}. Set a locale with UTF-8."
        ) from None
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0, "Check the disk or network that holds it, and run again.")
        raise _UnreadableError("unreadable_file", f"{error.strerror}. {remedy}") from None
    if not content:
        raise _UnreadableError("empty_file", "the file has 0 bytes. Fetch it again.")
    return content


def _meant_file(images_dir: Path, name: str) -> str:
    """What to do about a path that leads nowhere: what may be meant by it, where such a file is there."""
    above = images_dir.resolve().parent
    raw = re.sub(r"\\x([0-9a-f]{2})", lambda byte: chr(0xDC00 + int(byte[1], 16)), name)  # as Python reads such bytes
    for file, remedy in (
        (images_dir / raw, "Its name is not UTF-8: rename the file."),
        (images_dir / name.strip(), "The path has blanks around it: remove them."),
        (images_dir / name.replace("\\", "/"), "Write its path with / in place of \\."),
        (images_dir / normalize("NFC", name), "Its name has composed characters: write the path so (Unicode NFC)."),
        (images_dir / normalize("NFD", name), "Its name has decomposed characters: write the path so (Unicode NFD)."),
        (above / name, f"The path is relative to {above}: give that folder as IMAGES."),
    ):
        with suppress(OSError, UnicodeEncodeError):  # what takes the place of a path may be no name of a file
            if file.is_file():
                return remedy
    for folder in _folders_in(images_dir):
        with suppress(OSError, UnicodeEncodeError):
            if (folder / name).is_file():
                return f"The path is relative to {folder}: give that folder as IMAGES."
    return "Add the file or remove the row."


@lru_cache(maxsize=1)
def _folders_in(images_dir: Path) -> tuple[Path, ...]:
    """The first few folders in that of the images; looked up once for all rows."""
    with suppress(OSError):
        return tuple(sorted(path for path in images_dir.iterdir() if path.is_dir())[:FOLDERS_TRIED])
    return ()


def _digest(content: bytes) -> ByteArray:
    return np.frombuffer(hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest(), np.uint8)


def digest_of_file(images_dir: Path, name: str) -> ByteArray:
    """As in `Decoded.digests`, (DIGEST_BYTES,); zero where the file cannot be read."""
    try:
        return _digest(_read_file(images_dir, name))
    except _UnreadableError:
        return np.zeros(DIGEST_BYTES, np.uint8)


def decode(content: bytes, size: int) -> ByteArray:
    """RGB pixels of an encoded image, upright, squeezed to a square, (size, size, 3).

    The first frame of an animation is taken; transparency is laid over white; 16-bit and float greys are scaled by
    the range of their type or, for floats and 32-bit integers, of the image.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise _UnreadableError("too_large", f"{width} x {height} pixels. Shrink images beyond 100 megapixels.")
            image.draft("RGB", (2 * size, 2 * size))
            image.load()
            rgb = to_rgb(_upright(image))
            return np.asarray(rgb.resize((size, size), Image.Resampling.BICUBIC, reducing_gap=3.0))
    except (_UnreadableError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise _UnreadableError(
            "not_an_image", "not an image that Pillow can read. Convert it to JPEG or PNG."
        ) from None
    except Exception as error:  # Pillow's decoders raise nearly any exception on damaged content
        kind = "truncated" if "truncated" in str(error) else "damaged"
        raise _UnreadableError(kind, f"{error or type(error).__name__}. Fetch the image again.") from None


def _upright(image: Image.Image) -> Image.Image:
    """An image as its EXIF block says that it is seen; as it is stored where that block is damaged.

    Only its orientation is read: what else is wrong in there says nothing of the pixels.
    """
    try:
        turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except MemoryError:
        raise
    except Exception:  # Pillow raises nearly any on damaged content
        return image
    return image if turn is None else image.transpose(turn)


def to_rgb(image: Image.Image) -> Image.Image:
    """Any of Pillow's modes as RGB."""
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        return Image.fromarray(_scaled(np.asarray(image, dtype=np.float64))).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, (*BACKGROUND, 255)), rgba).convert("RGB")
    return image.convert("RGB")


def _scaled(values: np.ndarray) -> ByteArray:
    """Numbers of any range as bytes: as they are up to 255, by 16 bits up to 65,535, else by their own extremes."""
    values = np.nan_to_num(values)
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 1 and not np.all(values == values.round()):
        scaled = values * 255
    elif low >= 0 and high <= 255:
        scaled = values
    elif low >= 0 and high <= 65535:
        scaled = values / 257
    else:
        scaled = (values - low) / max(high - low, 1e-12) * 255
    return scaled.round().astype(np.uint8)


def median_side(manifest: Manifest, images_dir: Path, *, sample: int = 256) -> int:
    """Median of the shorter sides in pixels of up to `sample` images spread over the index; 0 when none can be read."""
    sides = []
    rows = np.linspace(0, manifest.num_rows - 1, min(sample, manifest.num_rows)).astype(int)
    for row in rows:
        fault = manifest.faults.get(int(row))
        if fault is None:
            try:
                with Image.open(io.BytesIO(_read_file(images_dir, manifest.paths[int(row)].as_py()))) as image:
                    sides.append(min(image.size))
            except Exception:  # whatever is wrong with it is reported when it is decoded
                continue
    return int(np.median(sides)) if sides else 0
