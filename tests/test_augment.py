"""Weak and strong views of images: what they change, what they keep, and what decides."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from labelclean.data.augment import augment, augment_strongly

SIDE = 16
View = Callable[[torch.Tensor, torch.Generator], torch.Tensor]
both = pytest.mark.parametrize("view", [augment, augment_strongly])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(num_images: int = 64, *, side: int = SIDE) -> torch.Tensor:
    """Smooth, each with colours of its own."""
    coarse = 255 * torch.rand(num_images, 3, 4, 4, generator=seeded(1))
    return torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear").clamp(0, 255)


@both
def test_the_generator_decides(view: View):
    images = pictures()
    first, again, other = (view(images, seeded(seed)) for seed in (3, 3, 4))
    assert first.shape == images.shape
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@both
def test_values_stay_those_of_pixels(view: View):
    seen = view(pictures(256), seeded())
    assert float(seen.min()) >= 0
    assert float(seen.max()) <= 255


@both
def test_each_image_is_changed_in_its_own_way(view: View):
    seen = view(pictures(1).expand(32, -1, -1, -1), seeded())
    assert len(torch.unique(seen.flatten(1), dim=0)) > 16


@both
def test_half_of_the_images_are_mirrored(view: View):
    """A bright left side stays on the left in half of them; strong tints leave it the brighter one."""
    images = torch.full((400, 3, SIDE, SIDE), 20.0)
    images[..., : SIDE // 2] = 200
    seen = view(images, seeded()).mean(dim=(1, 2))
    on_the_left = (seen[:, : SIDE // 2].mean(dim=1) > seen[:, SIDE // 2 :].mean(dim=1)).float().mean()
    assert float(on_the_left) == pytest.approx(0.5, abs=0.1)


def test_strong_views_keep_what_a_picture_shows():
    """A view is closer to its own picture than to most others, and farther from it than a weak one."""
    images = pictures(40)
    distance = [
        torch.cdist(view(images, seeded()).flatten(1), images.flatten(1)) for view in (augment, augment_strongly)
    ]
    weak, strong = (found.diagonal().median() for found in distance)
    assert weak < strong
    rank = (distance[1] < distance[1].diagonal()[:, None]).sum(dim=1).float()
    assert float(rank.median()) < 8


def test_a_strong_view_has_a_hole_in_the_mean_colour():
    """Of up to a quarter of the image, wherever its centre is: in the corners it is cut off."""
    grain = 80 + 60 * torch.rand(200, 3, 64, 64, generator=seeded(1))
    red = augment_strongly(grain, seeded())[:, 0].flatten(1)
    filled = red.mode(dim=1).values
    assert float((filled - red.mean(dim=1)).abs().max()) < 5
    share = (red == filled[:, None]).float().mean(dim=1)
    assert 0.2 < float(share.max()) < 0.27
    assert 0.05 < float(share.min()) < 0.1
    assert float(share.mean()) == pytest.approx(0.25 * (7 / 8) ** 2, abs=0.02)


@both
def test_sides_may_differ(view: View):
    assert view(pictures()[:, :, :12], seeded()).shape == (64, 3, 12, SIDE)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@both
def test_a_gpu_makes_the_same_views(view: View):
    images = pictures()
    of_gpu = view(images.cuda(), seeded())
    torch.testing.assert_close(of_gpu.cpu(), view(images, seeded()), rtol=0, atol=0.5)
