"""A fused network computes what the network computes, or is the network itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from labelclean.config import FitConfig
from labelclean.train.backbone import Backbone, prepare_backbone
from labelclean.train.fusion import fused

SIDE = 48


def network_of(backbone: str) -> Backbone:
    """With normalisations that do something, as after training."""
    config = FitConfig(backbone=backbone, weights="none", image_size=SIDE)
    return train_norms(prepare_backbone(config, num_classes=3, median_side=SIDE).build(0))


def train_norms(network: Backbone) -> Backbone:
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values, least in ((module.running_mean, -0.5), (module.running_var, 0.5), (module.bias, -0.5)):
                values.data.copy_(least + torch.rand(values.shape, generator=generator))
    return network.eval()


def images(count: int) -> torch.Tensor:
    return 255 * torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))


def num_norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize(
    ("backbone", "left"),
    [("test_resnet", 0), ("test_efficientnet", 0), ("mobilenetv3_small_050", 0), ("resnetv2_18", 9)],
)
@torch.inference_mode()
def test_computes_the_same_without_the_normalisations(backbone: str, left: int):
    network = network_of(backbone)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    slim = fused(network, images(2))
    assert num_norms(network) > num_norms(slim) == left
    for expected, found in zip(network(images(5)), slim(images(5)), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


@pytest.mark.parametrize("backbone", ["test_vit", "test_convnext"])
def test_a_network_without_such_layers_stays(backbone: str):
    network = network_of(backbone)
    assert fused(network, images(2)) is network


class Odd(nn.Module):
    """A body in which not every normalisation can go into the convolution before it."""

    def __init__(self, wiring: Callable[[Odd, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.wiring = wiring
        self.conv, self.other, self.norm = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.wiring(self, x).mean((2, 3))


@pytest.mark.parametrize(
    "wiring",
    [
        lambda body, x: body.norm(body.conv(x)) + body.norm(body.other(x)),
        lambda body, x: body.norm(body.conv(x)) + body.conv(x.flip(2)),
        lambda body, x: body.norm(body.conv(x).relu()),
        lambda body, x: (lambda out: body.norm(out) + out)(body.conv(x)),
    ],
    ids=["shared norm", "shared convolution", "something between", "output used twice"],
)
def test_odd_wiring_stays(wiring: Callable[[Odd, torch.Tensor], torch.Tensor]):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = train_norms(Backbone(Odd(wiring), 4, 3, [0.5], [0.5]))
    assert fused(network, images(2)) is network
