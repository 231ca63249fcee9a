"""Augmentation of whole batches on the device.

# B batch, S image side
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

TURN, SHEAR, ZOOM, SHIFT = math.pi / 12, 0.1, 0.2, 0.125
"""Of strong views, at most: angle in radians, slant, share of the size either way, and share of the side."""

TINT = 0.4
"""By what share brightness, contrast and colour of strong views change, at most."""

HOLE = 0.5
"""Side of what is blotted out in strong views, as a share of the image's."""


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


def augment_strongly(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Mirror, turn, slant, zoom, shift and tint each image at random, and blot out a square, (B, 3, S, S) -> same.

    What is shifted in is a reflection; the square is filled with the image's mean colour and may reach over the border.

    Args:
        images: values in [0, 255], (B, 3, S, S).
        generator: as for `augment`.

    Source: the kinds of change are those of RandAugment (NeurIPS 2020) and Cutout (DeVries and Taylor, 2017), all of
    them at once, each by a random amount.
    """
    drawn = torch.rand(len(images), 11, generator=generator).to(images.device)
    signed = 2 * drawn - 1
    warped = _warp(images, signed[:, :5], mirrored=drawn[:, 5] < 0.5)
    return _blot(_tint(warped, 1 + TINT * signed[:, 6:9]), drawn[:, 9:11])


def _warp(images: torch.Tensor, amounts: torch.Tensor, *, mirrored: torch.Tensor) -> torch.Tensor:
    """Turn, slant, zoom and shift by so much of what is allowed, (B, 5) in [-1, 1]."""
    turn, shear, zoom, right, down = amounts.unbind(1)
    turn, shear, zoom = TURN * turn, SHEAR * shear, (1 + ZOOM) ** zoom
    sign = torch.where(mirrored, -1.0, 1.0)
    cosine, sine = zoom * turn.cos(), zoom * turn.sin()
    maps = torch.stack(
        [
            sign * cosine,
            sign * (shear * cosine - sine),
            2 * SHIFT * right,
            sine,
            shear * sine + cosine,
            2 * SHIFT * down,
        ],
        dim=1,
    )
    grid = F.affine_grid(maps.view(-1, 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _tint(images: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Multiply brightness, contrast and colour by (B, 3) factors."""
    brightness, contrast, colour = factors.view(-1, 3, 1, 1, 1).unbind(1)
    images = images * brightness
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = mean + contrast * (images - mean)
    grey = images.mean(dim=1, keepdim=True)
    return (grey + colour * (images - grey)).clamp(0, 255)


def _blot(images: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    """Blot out a square around each centre, (B, 2) as shares of the side."""
    height, width = images.shape[2:]
    rows = (torch.arange(height, device=images.device) + 0.5) / height
    columns = (torch.arange(width, device=images.device) + 0.5) / width
    in_rows = (rows - centres[:, :1]).abs() < HOLE / 2
    in_columns = (columns - centres[:, 1:]).abs() < HOLE / 2
    hole = in_rows[:, None, :, None] & in_columns[:, None, None, :]
    return torch.where(hole, images.mean(dim=(2, 3), keepdim=True), images)
