"""Decoding: every kind of picture, every kind of damage, and a full disk."""

from __future__ import annotations

import errno
import io
import os
import struct
from collections.abc import Callable
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
from PIL import Image

from labelclean.data import images
from labelclean.data.images import Decoded, create_map, decode, decode_all, median_side
from labelclean.errors import ResourceError
from labelclean.records import UNKNOWN, Fault, SilentReporter
from tests.conftest import make_manifest

SIZE = 8
RED = (200, 30, 30)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def mean_colour(content: bytes) -> list[float]:
    pixels = decode(content, SIZE)
    assert pixels.shape == (SIZE, SIZE, 3)
    assert pixels.dtype == np.uint8
    return [float(value) for value in pixels.mean(axis=(0, 1))]


@pytest.fixture
def decoded(tmp_path: Path, image_folder: Path) -> Callable[..., Decoded]:
    """Decodes files of the image folder by their names."""

    def run(*paths: str | None, faults: dict[int, Fault] | None = None) -> Decoded:
        manifest = make_manifest(["a"] * len(paths), paths=paths, faults=faults)
        cache = tmp_path / "cache" / "pixels"
        return decode_all(manifest, image_folder, cache, size=SIZE, workers=2, reporter=SilentReporter())

    return run


@pytest.mark.parametrize(
    ("kind", "options"),
    [("JPEG", {"quality": 95}), ("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True}), ("GIF", {})],
)
def test_usual_formats(kind: str, options: dict[str, object]):
    content = encoded(Image.new("RGB", (40, 20), RED), kind, **options)
    assert mean_colour(content) == pytest.approx(RED, abs=4)


def test_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (9, 9), colour) for colour in (RED, (0, 0, 255))]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert mean_colour(content) == pytest.approx(RED, abs=4)


def test_cmyk_and_palette_become_rgb():
    cmyk = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)
    assert mean_colour(cmyk) == pytest.approx([255, 0, 0], abs=12)
    palette = Image.new("RGB", (16, 16), RED).quantize(4)
    assert mean_colour(encoded(palette, "PNG")) == pytest.approx(RED, abs=4)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_laid_over_white(mode: str):
    image = Image.new("RGBA", (16, 16), (0, 0, 0, 0)).convert(mode)
    options = {"transparency": 0} if mode == "P" else {}
    assert mean_colour(encoded(image, "PNG", **options)) == [255, 255, 255]


def test_half_transparent_black_is_grey():
    assert mean_colour(encoded(Image.new("RGBA", (16, 16), (0, 0, 0, 128)), "PNG")) == pytest.approx([127] * 3, abs=1)


def test_sixteen_bits_are_scaled_by_their_range():
    values = np.full((16, 16), 32768, dtype=np.uint16)
    assert mean_colour(encoded(Image.fromarray(values), "PNG")) == [128, 128, 128]
    assert mean_colour(encoded(Image.fromarray(values), "TIFF")) == [128, 128, 128]


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0.0, 0.5], [0, 128]), ([0.0, 200.0], [0, 200]), ([0.0, 65535.0], [0, 255]), ([-5.0, 5.0], [0, 255])],
)
def test_floats_are_scaled_by_the_range_they_show(values: list[float], expected: list[int]):
    stripes = np.repeat(np.array(values, dtype=np.float32), SIZE * SIZE // 2).reshape(SIZE, SIZE)
    pixels = decode(encoded(Image.fromarray(stripes), "TIFF"), SIZE)
    assert [int(pixels[0, 0, 0]), int(pixels[-1, -1, 0])] == expected


def test_exif_orientation_turns_the_picture_upright():
    image = Image.new("RGB", (32, 32), (0, 0, 0))
    image.paste((255, 255, 255), (0, 0, 32, 16))  # white above, but stored on its side
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = decode(encoded(image, "JPEG", exif=exif, quality=95), SIZE)
    assert pixels[:, SIZE // 2 + 1 :].mean() > 240
    assert pixels[:, : SIZE // 2 - 1].mean() < 15


def test_damaged_exif_spoils_no_sound_picture():
    image = Image.new("RGB", (40, 20), RED)
    assert mean_colour(encoded(image, "PNG", exif=b"garbage")) == pytest.approx(RED, abs=4)
    assert mean_colour(encoded(image, "WEBP", lossless=True, exif=b"garbage")) == pytest.approx(RED, abs=4)


def test_odd_exif_entries_do_not_keep_a_picture_from_being_turned():
    image = Image.new("RGB", (40, 20), RED)
    image.paste((0, 0, 0), (0, 0, 20, 20))
    # little-endian TIFF with two entries: a width that is text, and orientation 3, upside down
    block = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2)
    block += struct.pack("<HHI4s", 0x0100, 2, 4, b"inc\0") + struct.pack("<HHIHH", 0x0112, 3, 1, 3, 0) + bytes(4)
    pixels = decode(encoded(image, "JPEG", quality=95, exif=block), SIZE)
    assert pixels[:, 0].mean() > 60
    assert pixels[:, -1].mean() < 30


def test_what_cannot_be_read_is_told_by_row(
    decoded: Callable[..., Decoded], image_folder: Path, draw: Callable[..., Path]
):
    draw("good.png")
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    (image_folder / "cut.jpg").write_bytes(encoded(Image.fromarray(noise), "JPEG")[:2000])
    (image_folder / "cut.png").write_bytes(encoded(Image.fromarray(noise), "PNG")[:2000])
    (image_folder / "empty.png").write_bytes(b"")
    (image_folder / "text.png").write_text("not an image")
    (image_folder / "folder.png").mkdir()
    paths = ("good.png", "cut.jpg", "cut.png", "empty.png", "text.png", "folder.png", "gone.png", "good.png")
    found = decoded(*paths)
    kinds = {row: fault.kind for row, fault in found.faults.items()}
    assert kinds == {
        1: "truncated",
        2: "truncated",
        3: "empty_file",
        4: "not_an_image",
        5: "not_a_file",
        6: "missing_file",
    }
    for row, fault in found.faults.items():
        assert fault.message.startswith(f"labels.csv row {row}: {paths[row]}: ")
    assert not found.pixels[1:7].any()
    assert found.pixels[0].mean(axis=(0, 1)).tolist() == list(RED)
    assert np.array_equal(found.pixels[0], found.pixels[7])
    assert np.array_equal(found.digests[0], found.digests[7])
    assert not np.array_equal(found.digests[0], found.digests[1])
    assert not found.digests[[3, 5, 6]].any()
    assert (found.files[[3, 5, 6]] == UNKNOWN).all()
    assert found.files[0] == found.files[7]
    assert len(set(found.files[[0, 1, 2, 4]])) == 4
    assert found.files.min() == UNKNOWN
    assert found.files.max() == 3


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EACCES, "its permissions."),
        (errno.ENAMETOOLONG, "the path:"),
        (errno.EIO, "the disk or network that holds it"),
    ],
)
def test_file_that_cannot_be_read(
    decoded: Callable[..., Decoded],
    draw: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    remedy: str,
):
    draw("a.png")

    def refuse(_: Path) -> bytes:
        raise OSError(number, "Not to be had")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    (fault,) = decoded("a.png").faults.values()
    assert fault.kind == "unreadable_file"
    assert f"Not to be had. Check {remedy}" in fault.message


def test_rows_without_a_usable_path_are_not_opened(decoded: Callable[..., Decoded], draw: Callable[..., Path]):
    draw("a.png")
    faults = {
        0: Fault(kind="path_outside", message=""),
        1: Fault(kind="missing_path", message=""),
        3: Fault(kind="missing_label", message=""),
    }
    found = decoded("../images/a.png", None, "gone.png", "a.png", faults=faults)
    assert {row: fault.kind for row, fault in found.faults.items()} == {
        0: "path_outside",
        1: "missing_path",
        2: "missing_file",
        3: "missing_label",
    }
    assert found.pixels.any(axis=(1, 2, 3)).tolist() == [False, False, False, True]


def test_what_the_index_has_against_a_row_is_told_before_its_image(decoded: Callable[..., Decoded]):
    found = decoded("gone.png", faults={0: Fault(kind="missing_label", message="")})
    assert found.faults[0].kind == "missing_label"


def test_giant_image_is_refused(
    decoded: Callable[..., Decoded], draw: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
):
    draw("big.png", size=(20, 20))
    monkeypatch.setattr(images, "MAX_PIXELS", 399)
    fault = decoded("big.png").faults[0]
    assert fault.kind == "too_large"
    assert "20 x 20" in fault.message


def test_many_rows_are_all_decoded_and_counted(
    tmp_path: Path, image_folder: Path, draw: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(images, "ROWS_PER_TASK", 3)
    names = [f"{shade}.png" for shade in range(50)]
    for shade, name in enumerate(names):
        draw(name, (shade, 0, 0))

    class Counter(SilentReporter):
        total = 0

        def advance(self, units: int = 1) -> None:
            Counter.total += units

    manifest = make_manifest(["a"] * 50, paths=names)
    found = decode_all(manifest, image_folder, tmp_path / "p", size=SIZE, workers=3, reporter=Counter())
    assert found.pixels[:, 0, 0, 0].tolist() == list(range(50))
    assert Counter.total == 50


def test_what_a_path_that_leads_nowhere_may_mean_is_told(tmp_path: Path):
    images = tmp_path / "images"
    (images / "sub").mkdir(parents=True)
    composed, decomposed = "\u00e9.png", "e\u0301.png"
    for name in ("sub/a.png", "b.png", composed, "sub/d.png"):
        Image.new("RGB", (4, 4)).save(images / name)
    (images / "link.png").symlink_to("nowhere.png")
    paths = ["sub\\a.png", "images/b.png", decomposed, "c.png", " b.png", "d.png", "link.png"]
    manifest = make_manifest(["a"] * len(paths), paths=paths)
    found = decode_all(manifest, images, tmp_path / "p", size=8, workers=1, reporter=SilentReporter())
    assert {fault.kind for fault in found.faults.values()} == {"missing_file"}
    remedies = [
        "with / in place of \\",
        f"relative to {tmp_path}: give that folder as IMAGES",
        "(Unicode NFC)",
        "no such image. Add the file",
        "has blanks around it: remove them",
        f"relative to {images / 'sub'}: give that folder as IMAGES",
        "this link leads nowhere. Add the file",
    ]
    for row, remedy in enumerate(remedies):
        assert remedy in found.faults[row].message


def test_a_name_that_the_system_cannot_have_is_the_fault_of_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As with a locale that is not UTF-8."""

    look_at = Path.stat

    def refuse(self: Path, **options: bool) -> os.stat_result:
        self.name.encode("ascii")
        return look_at(self, **options)

    monkeypatch.setattr(Path, "stat", refuse)
    manifest = make_manifest(["a"], paths=["\u00fc.png"])
    found = decode_all(manifest, tmp_path, tmp_path / "p", size=8, workers=1, reporter=SilentReporter())
    assert found.faults[0].kind == "missing_file"
    assert "Set a locale with UTF-8" in found.faults[0].message


def test_as_many_threads_decode_as_were_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each waits until all are there."""
    num_threads = 4 * (os.cpu_count() or 1)
    together = Barrier(num_threads, timeout=20)
    manifest = make_manifest(["a"] * num_threads, paths=[f"{row}.png" for row in range(num_threads)])

    def meet(*_: object) -> bytes:
        together.wait()
        return b""

    monkeypatch.setattr("labelclean.data.images.ROWS_PER_TASK", 1)
    monkeypatch.setattr("labelclean.data.images._read_file", meet)
    found = decode_all(manifest, tmp_path, tmp_path / "p", size=8, workers=num_threads, reporter=SilentReporter())
    assert {fault.kind for fault in found.faults.values()} == {"not_an_image"}


def test_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ResourceError, match="No space left") as caught:
        create_map(tmp_path / "pixels", (10, 8, 8, 3))
    assert "--image-size" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_file_system_that_cannot_reserve_room_still_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def unsupported(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    assert create_map(tmp_path / "pixels", (10, 8)).shape == (10, 8)


def test_cache_below_a_file_is_an_error(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError):
        create_map(tmp_path / "file" / "pixels", (1, 8))


def test_median_side_skips_what_cannot_be_read(image_folder: Path, draw: Callable[..., Path]):
    for name, size in (("a.png", (10, 40)), ("b.png", (30, 20)), ("c.png", (50, 60))):
        draw(name, size=size)
    manifest = make_manifest(["x"] * 4, paths=["a.png", "b.png", "c.png", "gone.png"])
    assert median_side(manifest, image_folder) == 20
    assert median_side(make_manifest(["x"], paths=["gone.png"]), image_folder) == 0
