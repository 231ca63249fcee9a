"""Where the networks run, the images they see, and what makes them fast there: batches, number format, memory.

# N rows, B batch, S image side
"""

from __future__ import annotations

import ctypes
import dataclasses
import sys
import time

import torch

from labelclean.config import FitConfig
from labelclean.errors import ConfigError
from labelclean.records import ByteArray, IntArray
from labelclean.train.backbone import BackboneSpec
from labelclean.train.schedule import choose_batch_size

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES, OLDER_MOST = 2**30, 2**25
"""What is kept, and the most that older versions of glibc let one block be to keep it."""

GPU_SHARE = 0.4
"""Share of the free GPU memory that the images may take; beyond it they stay on the host."""

LOADED_ROWS = 4096
"""Images that are copied to a GPU together."""


DEVICES = ("cpu", "cuda", "mps")
"""Kinds on which the networks may run."""


def choose_device(name: str) -> torch.device:
    """auto: CUDA, then MPS, then the CPU.

    Raises:
        ConfigError: no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type not in DEVICES:
            raise ValueError(f"it is none of {', '.join(DEVICES)}")
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ConfigError(
            f"device {name} is not to be had: {str(error).splitlines()[0]}", hint="Use --device auto or cpu."
        ) from error
    return device


def set_up(device: torch.device) -> None:
    """Make a device ready: what makes networks fast there but for their number format, which is what it is called."""
    if device.type == "cuda":
        if device.index is not None:
            torch.cuda.set_device(device)  # clocks and memory are asked of the one in use
        torch.backends.cudnn.benchmark = True  # batches of one size: trying the ways to convolve soon pays
        torch.backends.cudnn.allow_tf32 = False  # fp32 means single precision, also where folded layers are compared
    else:
        keep_freed_memory()


def keep_freed_memory() -> bool:
    """Have the C library keep up to 1 GiB of freed memory for the next batch, where it is glibc; whether it does.

    By default it gives large blocks back at once, and the system clears new ones page by page, for every layer of every
    batch: half of the time of a scan on a CPU (benchmarks/speed.py).

    Source: mallopt(3).
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or not mallopt(M_TRIM_THRESHOLD, KEPT_BYTES):
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, KEPT_BYTES) or mallopt(M_MMAP_THRESHOLD, OLDER_MOST))


def scan_batch(device: torch.device) -> int:
    """Images that go through a network together where nothing is learnt: a CPU wants them to fit its cache."""
    return 64 if device.type == "cpu" else 256


class ImageStore:
    """The decoded images, in batches on the device."""

    def __init__(self, pixels: ByteArray, rows: IntArray, device: torch.device) -> None:
        """
        Args:
            pixels: all images, (M, S, S, 3), a memory map as a rule.
            rows: positions in `pixels` of the rows that are judged, (N,).
        """
        self.device, self.rows = device, rows
        self.size = pixels.shape[1]
        num_bytes = len(rows) * self.size * self.size * 3
        self.resident: torch.Tensor | None = None
        if device.type == "cuda" and num_bytes < GPU_SHARE * torch.cuda.mem_get_info(device)[0]:
            self.resident = torch.empty((len(rows), *pixels.shape[1:]), dtype=torch.uint8, device=device)
            for start in range(0, len(rows), LOADED_ROWS):
                block = slice(start, start + LOADED_ROWS)
                self.resident[block] = torch.from_numpy(pixels[rows[block]])
        self.pixels = pixels

    def batch(self, rows: IntArray) -> torch.Tensor:
        """(B,) -> (B, 3, S, S) float32 with values in [0, 255]."""
        if self.resident is not None:
            bytes_ = self.resident[torch.from_numpy(rows).to(self.device)]
        else:
            host = torch.from_numpy(self.pixels[self.rows[rows]])
            bytes_ = host.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else host
            bytes_ = bytes_.to(self.device)
        return bytes_.permute(0, 3, 1, 2).float()


def settle_training(config: FitConfig, spec: BackboneSpec, device: torch.device, *, num_rows: int) -> FitConfig:
    """The settings with a batch size and a number format in place of what they leave to the device.

    A run that is carried on, perhaps on another device, or repeated must not choose them anew.
    """
    on_gpu = device.type == "cuda"
    batch_size = choose_batch_size(
        config, num_rows=num_rows, pretrained=spec.pretrained, gpu_side=spec.image_size if on_gpu else 0
    )
    bf16 = choose_precision(config.precision, spec, device, batch_size)
    return dataclasses.replace(config, batch_size=batch_size, precision="bf16" if bf16 else "fp32")


def choose_precision(wanted: str, spec: BackboneSpec, device: torch.device, batch_size: int) -> bool:
    """Whether to train in bfloat16. auto: time one training step each way and take the faster."""
    if wanted != "auto":
        return wanted == "bf16"
    if device.type == "mps" or (device.type == "cuda" and not torch.cuda.is_bf16_supported()):
        return False
    network = spec.build(0).to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.zeros(batch_size, 3, spec.image_size, spec.image_size, device=device)
    half = _seconds(network, images, bf16=True)
    try:
        return half < 0.9 * _seconds(network, images, bf16=False)
    except torch.OutOfMemoryError:  # it takes twice as much
        return True


def _seconds(network: torch.nn.Module, images: torch.Tensor, *, bf16: bool) -> float:
    """Fastest of two training steps after a first one that warms up."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
            _, logits = network(images)
        logits.sum().backward()
        if images.device.type == "cuda":
            torch.cuda.synchronize(images.device)
        times.append(time.perf_counter() - start)
    return min(times[1:])
