"""What is seen of images without weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from labelclean.records import ByteArray
from labelclean.train import patches
from labelclean.train.device import ImageStore
from labelclean.train.patches import CONTRAST_FLOOR, NUM_PATCHES, PATCH_SIDE, THRESHOLD, WORKING_SIDE, PatchReader
from tests.conftest import as_batch


def pictures(count: int = 12, side: int = 14, noise: int = 30) -> ByteArray:
    """Nine fields of a colour each under some noise, so that whitening has something to do."""
    rng = np.random.default_rng(0)
    field = np.ones((1, -(-side // 3), -(-side // 3), 1))
    fields = np.kron(rng.integers(40, 200, (count, 3, 3, 3)), field)[:, :side, :side]
    return np.asarray(fields + rng.integers(0, noise + 1, fields.shape), dtype=np.uint8)


def store_of(content: ByteArray) -> ImageStore:
    return ImageStore(content, np.arange(len(content)), torch.device("cpu"))


def test_readings_are_those_of_every_patch_for_itself():
    content = pictures()
    reader = PatchReader(store_of(content), seed=0)
    x = as_batch(content[:2])
    output, readings = reader.read(x)
    num_places = 14 - PATCH_SIDE + 1
    filters = reader.filters.flatten(1).double()
    found = torch.empty(2, 2 * NUM_PATCHES, num_places, num_places, dtype=torch.float64)
    for top in range(num_places):
        for left in range(num_places):
            patch = x[:, :, top : top + PATCH_SIDE, left : left + PATCH_SIDE].flatten(1).double()
            patch = patch - patch.mean(dim=1, keepdim=True)
            contrast = (patch.square().mean(dim=1, keepdim=True) + CONTRAST_FLOOR).sqrt()
            response = patch / contrast @ filters.T + reader.offset
            found[:, :, top, left] = torch.cat([response, -response], dim=1).sub(THRESHOLD).clamp(min=0)
    halves = slice(0, 5), slice(4, 9)  # of nine places the fifth belongs to both
    expected = [found[:, :, rows, columns].mean(dim=(2, 3)) for rows in halves for columns in halves]
    torch.testing.assert_close(readings.view(2, -1, 4).double(), torch.stack(expected, dim=2), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(output, readings.view(2, -1, 4).mean(dim=2))
    assert output.shape[1] == reader.num_outputs


def test_filters_respond_to_patches_in_whitened_space(monkeypatch: pytest.MonkeyPatch):
    """With all patches as filters, in the whitened space in which no direction varies more than another."""
    monkeypatch.setattr(patches, "DRAWN", 3000)
    monkeypatch.setattr(patches, "NUM_PATCHES", 3000)
    store = store_of(pictures(10))
    drawn = patches._draw(store, np.random.default_rng((0, 4)))
    assert drawn.shape == (3000, 3 * PATCH_SIDE**2)
    reader = PatchReader(store, seed=0)
    seen = patches._normalise(drawn.double())
    responses = (seen @ reader.filters.flatten(1).double().T + reader.offset).numpy()
    # responses to one filter are cosines times lengths; the mean of their squares is the same for every filter
    spread = np.sqrt((responses**2).mean(axis=0))
    raw = (seen - seen.mean(dim=0)).numpy()
    raw_spread = np.sqrt(((raw @ (raw / np.linalg.norm(raw, axis=1, keepdims=True)).T) ** 2).mean(axis=0))
    assert spread.std() / spread.mean() < 0.5 * raw_spread.std() / raw_spread.mean()
    np.testing.assert_allclose(responses.mean(axis=0), 0, atol=1e-3)


def test_light_and_contrast_do_not_matter():
    content = pictures() // 2
    reader = PatchReader(store_of(content), seed=0)
    x = as_batch(content)
    plain, changed = reader.read(x)[1], reader.read(1.6 * x + 20)[1]
    assert float((plain - changed).abs().mean()) < 0.05 * float(plain.mean())


def test_the_seed_draws():
    store = store_of(pictures())
    one, same, other = (PatchReader(store, seed=seed).filters for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("side", [8, WORKING_SIDE, 3 * WORKING_SIDE])
def test_any_side_and_any_picture_will_do(side: int):
    content = np.concatenate([pictures(3, side), np.full((1, side, side, 3), 255, dtype=np.uint8)])
    output, readings = PatchReader(store_of(content), seed=0).read(as_batch(content))
    assert readings.shape == (4, 8 * NUM_PATCHES)
    assert output.isfinite().all()
    assert readings.isfinite().all()
    assert float(readings[:3].std(dim=0).mean()) > 0


def test_of_large_pictures_the_same_is_seen_as_of_small_ones():
    small, large = pictures(20, WORKING_SIDE, noise=0), pictures(20, 3 * WORKING_SIDE, noise=0)
    reader = PatchReader(store_of(small), seed=0)
    seen, seen_large = (reader.read(as_batch(content))[1] for content in (small, large))
    to_itself = (seen - seen_large).norm(dim=1)
    to_others = torch.cdist(seen, seen).fill_diagonal_(torch.inf)
    assert float(to_itself.max()) < 0.5 * float(to_others.min())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_reads_the_same():
    content = pictures()
    x = as_batch(content)
    cuda = torch.device("cuda")
    of_cpu = PatchReader(store_of(content), seed=0).read(x)[1]
    of_gpu = PatchReader(ImageStore(content, np.arange(len(content)), cuda), seed=0).read(x.to(cuda))[1]
    torch.testing.assert_close(of_gpu.cpu(), of_cpu, rtol=1e-2, atol=1e-2)
