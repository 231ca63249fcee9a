"""How much time it saves on a CPU to keep freed memory, to scan in batches that fit the cache, and to fuse layers.

    python -m benchmarks.speed [BACKBONE] [--side 128] [--rounds 3]

Each way runs in a process of its own, in turns; the ratios are of the medians.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

WAYS = {
    "given back, batches of 256": (False, 256, False),
    "given back, batches of 64": (False, 64, False),
    "kept, batches of 256": (True, 256, False),
    "kept, batches of 64": (True, 64, False),
    "kept, batches of 64, fused": (True, 64, True),
}
NUM_IMAGES, TRAIN_BATCH = 256, 32


def main() -> None:
    """Print seconds of a scan and of a forward and backward pass by each way, and how much faster than the first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backbone", nargs="?", default="mobilenetv2_100")
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        print(*_seconds(args.backbone, args.side, *WAYS[args.way]))
        return
    found: dict[str, list[tuple[float, ...]]] = {way: [] for way in WAYS}
    for _ in range(args.rounds):
        for way, times in found.items():
            words = [args.backbone, "--side", str(args.side), "--way", way]
            run = subprocess.run(
                [sys.executable, "-m", "benchmarks.speed", *words], capture_output=True, text=True, check=True
            )
            times.append(tuple(map(float, run.stdout.split())))
    first = None
    for way, times in found.items():
        scan, step = (statistics.median(column) for column in zip(*times, strict=True))
        first = first or (scan, step)
        print(f"{way:28} scan of {NUM_IMAGES}: {scan:.2f} s ({first[0] / scan:.2f}x)"
              f"   forward and backward of {TRAIN_BATCH}: {step:.2f} s ({first[1] / step:.2f}x)")  # fmt: skip


def _seconds(backbone: str, side: int, keep: bool, batch: int, fuse: bool) -> tuple[float, float]:
    """Seconds of a scan of all images and of a forward and backward pass in training, medians of five."""
    import torch

    from labelclean.config import resolve
    from labelclean.train.backbone import prepare_backbone
    from labelclean.train.device import keep_freed_memory
    from labelclean.train.fusion import fused

    if keep:
        keep_freed_memory()
    config = resolve(flags={"backbone": backbone, "weights": "none", "image_size": side})
    network = prepare_backbone(config, num_classes=10, median_side=side).build(0)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = 255 * torch.rand(NUM_IMAGES, 3, side, side)
    steps = [_timed(lambda: network.train()(images[:TRAIN_BATCH])[1].sum().backward()) for _ in range(5)]
    scanned = fused(network.eval(), images[:2]) if fuse else network.eval()
    with torch.inference_mode():
        scans = [_timed(lambda: [scanned(part) for part in images.split(batch)]) for _ in range(5)]
    return statistics.median(scans), statistics.median(steps)


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
