"""Networks for scans: where nothing is learnt, a convolution can do the work of the batch normalisation behind it.

# B batch, S image side
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from labelclean.train.backbone import Backbone

CONVOLUTIONS, NORMS = (nn.Conv2d, Conv2dSame), (nn.BatchNorm2d, BatchNormAct2d)
"""These types, and none derived from them, which may do more."""

ALIKE = 1e-3
"""Features that differ by less, of their largest, are the same: single precision leaves some 1e-6."""


def fused(network: Backbone, images: torch.Tensor) -> Backbone:
    """A copy of a network for evaluation that computes the same with fewer passes over memory.

    Which normalisation follows which convolution is seen by sending images through. The network itself is returned
    where it has none, or where a fused copy would compute something else, as when a convolution's output is used twice.

    Args:
        network: in evaluation mode.
        images: some of those to be scanned, (B, 3, S, S) with values in [0, 255].
    """
    slim = copy.deepcopy(network)
    with torch.inference_mode(), torch.autocast(images.device.type, enabled=False):
        pairs, expected = _watch(slim, images)
        for convolution, norm in pairs:
            _replace(slim, convolution, fuse_conv_bn_eval(convolution, norm))
            rest = nn.Sequential(norm.drop, norm.act) if isinstance(norm, BatchNormAct2d) else nn.Identity()
            _replace(slim, norm, rest)
        differs = float((slim.features(images) - expected).abs().max())
    return slim if pairs and differs < ALIKE * float(expected.abs().max()) else network


def _watch(network: Backbone, images: torch.Tensor) -> tuple[list[tuple[nn.Conv2d, nn.BatchNorm2d]], torch.Tensor]:
    """Each convolution, and the normalisation that gets its output, where both run once; and the features, (B, D)."""
    made: list[tuple[nn.Conv2d, torch.Tensor]] = []
    taken: list[tuple[nn.BatchNorm2d, torch.Tensor]] = []

    def remember_output(module: Any, _: Any, output: torch.Tensor) -> None:
        made.append((module, output))

    def remember_input(module: Any, inputs: tuple[torch.Tensor]) -> None:
        taken.append((module, inputs[0]))

    hooks = []
    for module in network.modules():
        if type(module) in CONVOLUTIONS:
            hooks.append(module.register_forward_hook(remember_output))
        elif type(module) in NORMS:
            hooks.append(module.register_forward_pre_hook(remember_input))
    features = network.features(images)
    for hook in hooks:
        hook.remove()

    def runs_once(module: nn.Module, calls: list[Any]) -> bool:
        return sum(called is module for called, _ in calls) == 1

    return [
        (convolution, norm)
        for norm, found in taken
        for convolution, output in made
        if found is output and runs_once(convolution, made) and runs_once(norm, taken)
    ], features


def _replace(network: nn.Module, old: nn.Module, new: nn.Module) -> None:
    name = next(name for name, module in network.named_modules() if module is old)
    place, _, last = name.rpartition(".")
    setattr(network.get_submodule(place), last, new)
