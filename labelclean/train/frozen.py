"""Fixed features: what an untouched backbone knows of the images, not its output alone, but what all its layers see.

A pre-trained network's output keeps what its own task needs. What tells other classes apart is often only in the layers
before: a linear head on all of them is right in 80 % of CIFAR-10 where one on the output is right in 74 (MobileNetV2 at
128 px, 5,000 rows), on photographs of clothes in 88 instead of 82. A backbone without weights knows nothing; in its
place the images are compared with random patches of them (`labelclean/train/patches.py`). The thousands of numbers per
image are projected on their principal axes.

Sources: the inputs of all layers as features, Head2Toe (ICML 2022); mean and spread over places, the statistics pooling
of x-vectors (ICASSP 2018).

# N rows, B batch, D output features, R readings, P axes
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import nn

from labelclean.records import FloatArray, IntArray
from labelclean.train.backbone import Backbone, BackboneSpec
from labelclean.train.device import ImageStore, scan_batch
from labelclean.train.fusion import fused
from labelclean.train.patches import PatchReader

ROWS_OF_AXES = 4096
"""So many random rows decide the principal axes; all where there are fewer."""

MOST_READINGS = 60_000
"""Of a network whose layers give more numbers every second layer is read, or every third, and so on."""

MOST_AXES = 1024
SHORTEST = 1e-3
"""Axes are kept up to so many, and no shorter ones than so much of the longest: those are rounding."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FrozenFeatures:
    """Fixed features, averaged over the image and its mirror.

    Attributes:
        output: pooled over the image, (N, D).
        scores: all that is seen, on the principal axes, the longest first, (N, P).
        mean, axes: scores are (readings - mean) @ axes, (R,) and (R, P).
    """

    output: FloatArray
    scores: FloatArray
    mean: FloatArray
    axes: FloatArray


class Reader(Protocol):
    """Whatever turns images into numbers and is never trained."""

    num_outputs: int
    num_readings: int

    def read(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 3, S, S) with values in [0, 255] -> output (B, D) and readings (B, R), in float32."""
        ...


def scan_frozen(spec: BackboneSpec, images: ImageStore, *, seed: int, advance: Callable[[int], None]) -> FrozenFeatures:
    """The features of every image, in single precision; the seed draws the rows that decide the axes."""
    num_rows = len(images.rows)
    reader = _choose_reader(spec, images, seed)
    num_first = min(num_rows, ROWS_OF_AXES)
    is_first = np.zeros(num_rows, dtype=bool)
    is_first[np.random.default_rng((seed, 3)).choice(num_rows, num_first, replace=False)] = True
    first, rest = np.flatnonzero(is_first), np.flatnonzero(~is_first)

    output = np.empty((num_rows, reader.num_outputs), dtype=np.float32)
    readings, num_read = torch.empty(num_first, reader.num_readings), 0
    for rows, pooled, found in _read_all(reader, images, first, advance):
        output[rows] = pooled.cpu()
        readings[num_read : num_read + len(rows)] = found
        num_read += len(rows)
    found_first, mean, axes = principal_axes(readings)
    del readings
    scores = np.empty((num_rows, axes.shape[1]), dtype=np.float32)
    scores[first] = found_first
    on_device = mean.to(images.device), axes.to(images.device)
    for rows, pooled, found in _read_all(reader, images, rest, advance):
        output[rows] = pooled.cpu()
        scores[rows] = ((found - on_device[0]) @ on_device[1]).cpu()
    return FrozenFeatures(output=output, scores=scores, mean=mean.numpy(), axes=axes.numpy())


def _choose_reader(spec: BackboneSpec, images: ImageStore, seed: int) -> Reader:
    """The backbone's layers, or patches where it has no weights."""
    if not spec.pretrained:
        return PatchReader(images, seed=seed)
    network = spec.build(seed).to(images.device).eval()
    few = images.batch(np.arange(min(len(images.rows), 2)))
    return LayerReader(fused(network, few), few)


def _read_all(
    reader: Reader, images: ImageStore, rows: IntArray, advance: Callable[[int], None]
) -> Iterator[tuple[IntArray, torch.Tensor, torch.Tensor]]:
    """Batches of rows (B,) with the output (B, D) and the readings (B, R), averaged over both views."""
    size = scan_batch(images.device)
    for start in range(0, len(rows), size):
        batch = rows[start : start + size]
        x = images.batch(batch)
        (output, readings), (mirrored, of_mirrored) = reader.read(x), reader.read(x.flip(3))
        yield batch, (output + mirrored) / 2, (readings + of_mirrored) / 2
        advance(2 * len(batch))


class LayerReader:
    """Reads along while images go through a network: what its layers get, its mean and its spread over places.

    The layers are its linear ones and its convolutions, but for grouped convolutions (what they give away tells more,
    and the next layer gets that) and for layers that run more than once, that get what another one got, or that get
    something else than a row per image, as windows of them.
    """

    def __init__(self, network: Backbone, images: torch.Tensor) -> None:
        """
        Args:
            network: in evaluation mode.
            images: some images, by which the layers are chosen, (B, 3, S, S) with values in [0, 255].
        """
        self.network, self.num_outputs = network, network.head.in_features
        dense = [
            layer
            for layer in network.body.modules()
            if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1)
        ]
        _, calls = _watch(network, dense, images, take=lambda layer, got: got)
        fitting = [
            (layer, _over_places(layer, got).shape[1])
            for place, (layer, got) in enumerate(calls)
            if len(got) == len(images)
            and sum(layer is other for other, _ in calls) == 1
            and not any(got is earlier for _, earlier in calls[:place])
        ]
        step = 1
        while step < len(fitting) and sum(width for _, width in fitting[::step]) > MOST_READINGS:
            step += 1
        self.layers = [layer for layer, _ in fitting[::step]]
        self.num_readings = sum(width for _, width in fitting[::step]) + self.num_outputs

    def read(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The output features (B, D) and the readings of all layers with it (B, R), in float32."""
        output, calls = _watch(self.network, self.layers, images, take=_over_places)
        return output, torch.cat([*(found for _, found in calls), output], dim=1)


def _watch(
    network: Backbone,
    layers: Sequence[nn.Module],
    images: torch.Tensor,
    *,
    take: Callable[[nn.Module, torch.Tensor], torch.Tensor],
) -> tuple[torch.Tensor, list[tuple[nn.Module, torch.Tensor]]]:
    """The features (B, D), and of each call of one of the layers what is taken of its input, at once."""
    calls: list[tuple[nn.Module, torch.Tensor]] = []

    def remember(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if inputs:  # some models pass them by name
            calls.append((layer, take(layer, inputs[0])))

    hooks = [layer.register_forward_pre_hook(remember) for layer in layers]
    try:
        with torch.inference_mode():
            return network.features(images).float(), calls
    finally:
        for hook in hooks:
            hook.remove()


def _over_places(layer: nn.Module, got: torch.Tensor) -> torch.Tensor:
    """Mean and spread of what a convolution (B, C, ...) or a linear layer (B, ..., C) gets -> (B, 2 C).

    Where there is only one place, what it gets, (B, C).
    """
    places = tuple(range(2, got.ndim) if isinstance(layer, nn.Conv2d) else range(1, got.ndim - 1))
    if all(got.shape[place] == 1 for place in places):
        return got.flatten(1).float()
    mean = got.mean(dim=places, keepdim=True, dtype=torch.float32)
    spread = (got - mean).square_().mean(dim=places).sqrt_()
    return torch.cat([mean.flatten(1), spread], dim=1)


def principal_axes(readings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The axes along which standardised readings vary the most, the longest first.

    Args:
        readings: of the rows that decide, (N, R). They are standardised in place: there may be a gigabyte of them.
    Returns:
        The rows' scores (N, P), the mean (R,) and the axes (R, P). Scores are (readings - mean) @ axes; a reading that
        is always the same has no part in them.
    """
    mean, std = readings.mean(dim=0), readings.std(dim=0, correction=0)
    inverse = torch.where(std > 1e-6, 1 / std.clamp(min=1e-6), 0.0)
    standardised = readings.sub_(mean).mul_(inverse)
    # rows are fewer than readings, or about as many
    squares, vectors = torch.linalg.eigh(standardised @ standardised.T)
    num_axes = max(1, min(MOST_AXES, int((squares > SHORTEST**2 * squares[-1]).sum())))
    squares, vectors = squares.flip(0)[:num_axes], vectors.flip(1)[:, :num_axes]
    lengths = squares.clamp(min=0).sqrt()
    directions = standardised.T @ (vectors / lengths.clamp(min=1e-6 * float(lengths[0]) + 1e-12))
    return standardised @ directions, mean, directions.mul_(inverse[:, None])
