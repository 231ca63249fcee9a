"""What there is to see in images without any weights: how much of each of some hundred patches is in each quarter.

Small patches, drawn from the images themselves and whitened, are the filters of one layer that is never trained. No
label has taught it anything, so it errs elsewhere than a network that was taught wrong ones: beside a network from a
random start it finds more wrong labels than the network alone, and fewer that are right (5,000 rows of CIFAR-10N; alone
it finds nearly as many in a tenth of the time, but takes far too many for wrong).

Source: Coates, Lee and Ng (AISTATS 2011); drawn patches for filters, Coates and Ng (ICML 2011).

# N rows, B batch, S image side, M patches, P side of a patch
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from labelclean.train.device import ImageStore, scan_batch

PATCH_SIDE, NUM_PATCHES = 6, 512

WORKING_SIDE = 32
"""Larger images are reduced to this side in pixels: patches of a large one would be mere texture."""

DRAWN, MOST_ROWS = 65_536, 4096
"""So many patches, of so many images at most, show what is to be whitened."""

CONTRAST_FLOOR, WHITENING_FLOOR = 10.0, 0.1
"""Added to the variance of a patch's values, which lie in [0, 255], and to that of each axis of normalised patches:
what hardly varies is noise."""

THRESHOLD = 0.5
"""Filters that respond by less, either way, do not respond."""


class PatchReader:
    """Reads where images resemble which patch, as a `labelclean.train.frozen.Reader`."""

    num_outputs = 2 * NUM_PATCHES
    num_readings = 4 * num_outputs

    def __init__(self, images: ImageStore, *, seed: int) -> None:
        """Draw the patches.

        Args:
            images: of which they are drawn, N.
            seed: of the draw.
        """
        rng = np.random.default_rng((seed, 4))
        drawn = _normalise(_draw(images, rng).double())
        mean = drawn.mean(dim=0)
        squares, axes = torch.linalg.eigh(torch.cov(drawn.T))
        whitening = axes @ torch.diag((squares + WHITENING_FLOOR).rsqrt()) @ axes.T
        chosen = torch.from_numpy(rng.choice(len(drawn), NUM_PATCHES, replace=False))
        filters = functional.normalize((drawn[chosen] - mean) @ whitening, dim=1) @ whitening
        self.offset = (-filters @ mean).float().to(images.device)
        # made of centred patches, filters sum to 0: what they are compared with need not be centred
        self.filters = filters.view(-1, 3, PATCH_SIDE, PATCH_SIDE).float().to(images.device)

    def read(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Responses averaged over all places (B, 2 M) and over each quarter (B, 8 M), in float32.

        Args:
            images: (B, 3, S, S) with values in [0, 255].
        """
        with torch.inference_mode():
            x = _reduce(images)
            scale = _variance(x).add(CONTRAST_FLOOR).rsqrt()
            found = functional.conv2d(x, self.filters) * scale + self.offset[:, None, None]
            both_ways = torch.cat([found, -found], dim=1).sub_(THRESHOLD).relu_()
            quarters = _mean_over_quarters(both_ways)
            return quarters.mean(dim=2), quarters.flatten(start_dim=1)


def _draw(images: ImageStore, rng: np.random.Generator) -> torch.Tensor:
    """Patches of random images and places, as many of one image as of the other, (DRAWN or some more, 3 P²)."""
    num_rows = len(images.rows)
    rows = rng.choice(num_rows, min(num_rows, MOST_ROWS), replace=False)
    per_row = -(-DRAWN // len(rows))
    size, patches = scan_batch(images.device), []
    for start in range(0, len(rows), size):
        x = _reduce(images.batch(rows[start : start + size])).cpu()
        places = x.unfold(2, PATCH_SIDE, 1).unfold(3, PATCH_SIDE, 1)  # (B, 3, S - P + 1, S - P + 1, P, P)
        top, left = torch.from_numpy(rng.integers(0, places.shape[2], (2, len(x), per_row)))
        patches.append(places[torch.arange(len(x))[:, None], :, top, left].flatten(0, 1).flatten(1))
    return torch.cat(patches)


def _reduce(images: torch.Tensor) -> torch.Tensor:
    """Images of WORKING_SIDE at most, (B, 3, S, S)."""
    if images.shape[-1] <= WORKING_SIDE:
        return images
    return functional.interpolate(images, size=(WORKING_SIDE, WORKING_SIDE), mode="bilinear", antialias=True)


def _normalise(patches: torch.Tensor) -> torch.Tensor:
    """Patches, (N, 3 P²), without their mean and of unit contrast."""
    deviation = (patches.var(dim=1, correction=0, keepdim=True) + CONTRAST_FLOOR).sqrt()
    return (patches - patches.mean(dim=1, keepdim=True)) / deviation


def _mean_over_quarters(responses: torch.Tensor) -> torch.Tensor:
    """(B, C, L, L) -> (B, C, 4); of an odd number of places the middle ones belong to both sides."""
    half = -(-responses.shape[-1] // 2)
    sides = slice(None, half), slice(-half, None)
    return torch.stack([responses[:, :, rows, columns].mean(dim=(2, 3)) for rows in sides for columns in sides], dim=2)


def _variance(images: torch.Tensor) -> torch.Tensor:
    """Of the values of each patch, (B, 1, S - P + 1, S - P + 1)."""
    mean, mean_square = (
        functional.avg_pool2d(values.mean(dim=1, keepdim=True), PATCH_SIDE, stride=1)
        for values in (images, images.square())
    )
    return (mean_square - mean.square()).clamp(min=0)
