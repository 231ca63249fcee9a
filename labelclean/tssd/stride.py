"""Long strides where an iteration creeps: EM nears its end by ever smaller steps, much alike, that can be added up.

# P parameters
"""

from __future__ import annotations

import torch

LONGEST = 16.0
"""Strides reach twice as many first steps at most."""


def stride(start: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Where many steps would lead, from where the first two have led, (P,) each.

    Never less far than the second. Where all steps shrink alike it is exact, if that is not farther than LONGEST.

    Source: SQUAREM, the third of its steplengths (Varadhan and Roland 2008).
    """
    step = first - start
    bend = second - first - step
    length = float(step.norm() / bend.norm().clamp_min(torch.finfo(bend.dtype).tiny))
    length = min(max(length, 1.0), LONGEST)
    return start + 2 * length * step + length**2 * bend
