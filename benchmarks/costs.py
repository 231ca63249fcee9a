"""What a judgement costs: image passes, seconds and memory."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Attributes:
    forward, backward: image passes.
    seconds: wall time.
    peak_memory_bytes: resident; NaN where the system does not tell.
    """

    forward: int
    backward: int
    seconds: float
    peak_memory_bytes: float


class Meter:
    """Wall time and peak of resident memory since it was made.

    Linux forgets the peak of what ran before in this process by a 5 in `/proc/self/clear_refs` (proc(5)).
    """

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.reset = Path("/proc/self/clear_refs")
        if self.reset.exists():
            self.reset.write_text("5")

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.perf_counter() - self.started

    def read(self, *, forward: int, backward: int) -> Cost:
        """The cost up to now of what took so many image passes."""
        return Cost(forward=forward, backward=backward, seconds=self.seconds, peak_memory_bytes=self._peak_memory())

    def _peak_memory(self) -> float:
        if not self.reset.exists():
            return float("nan")
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        return int(found[1]) * 1024 if found else float("nan")
