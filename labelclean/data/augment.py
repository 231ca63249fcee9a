"""Augmentation of whole batches on the device.

# B batch, S image side
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def augment(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Mirror each image with probability one half and shift it by up to an eighth of its side, (B, 3, S, S) -> same.

    Shifted-in borders are reflections.

    Args:
        images: any float values, (B, 3, S, S).
        generator: draws the choices; on the CPU, whatever device the images are on.
    """
    num_images, _, height, width = images.shape
    mirrored = torch.rand(num_images, generator=generator) < 0.5
    images = torch.where(mirrored.to(images.device).view(-1, 1, 1, 1), images.flip(3), images)
    reach = max(min(height, width) // 8, 1)
    padded = F.pad(images, (reach,) * 4, mode="reflect")
    down, right = torch.randint(0, 2 * reach + 1, (2, num_images), generator=generator).to(images.device)
    rows = (down[:, None] + torch.arange(height, device=images.device))[:, None, :, None]
    columns = (right[:, None] + torch.arange(width, device=images.device))[:, None, None, :]
    batch = torch.arange(num_images, device=images.device)[:, None, None, None]
    channel = torch.arange(images.shape[1], device=images.device)[None, :, None, None]
    return padded[batch, channel, rows, columns]
