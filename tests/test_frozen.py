"""What all layers of an untouched backbone see, and its principal axes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn

from labelclean.config import FitConfig
from labelclean.records import FloatArray
from labelclean.train import frozen
from labelclean.train.backbone import Backbone, BackboneSpec, prepare_backbone
from labelclean.train.checkpoint import Checkpoint
from labelclean.train.device import ImageStore
from labelclean.train.frozen import FrozenFeatures, LayerReader, principal_axes, scan_frozen
from labelclean.train.heads import FrozenLearner
from labelclean.train.patches import PatchReader
from labelclean.train.trainer import scan_images
from tests.conftest import as_batch, as_frozen

NUM_ROWS, SIDE = 30, 32


def spec_of(backbone: str = "test_resnet", side: int = SIDE, weights: object = "none") -> BackboneSpec:
    return prepare_backbone(
        FitConfig(backbone=backbone, weights=str(weights), image_size=side), num_classes=3, median_side=side
    )


def pictures(count: int = NUM_ROWS, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3)).astype(np.uint8)


def ignore(_: int) -> None:
    pass


@pytest.mark.parametrize(
    "backbone", ["test_resnet", "test_convnext", "test_efficientnet", "test_vit", "mobilenetv3_small_050"]
)
def test_every_family_is_read_layer_by_layer(backbone: str):
    network = spec_of(backbone).build(0).eval()
    x = as_batch(pictures(4))
    with torch.inference_mode():
        expected = network.features(x)
        output, readings = LayerReader(network, x[:2]).read(x)
    torch.testing.assert_close(output, expected)
    assert torch.equal(readings[:, -output.shape[1] :], output)
    assert readings.shape[0] == 4
    assert readings.shape[1] > 2 * output.shape[1]
    assert readings.isfinite().all()


class Body(nn.Module):
    """A few layers, of which each is of another kind."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.twin = nn.Conv2d(3, 4, 3)
        self.grouped = nn.Conv2d(4, 4, 3, groups=4)
        self.twice = nn.Conv2d(4, 4, 1)
        self.tokens = nn.Linear(4, 5)
        self.windows = nn.Linear(5, 5)
        self.last = nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x) + self.twin(x)
        x = self.twice(self.twice(self.grouped(x)))
        x = self.tokens(x.permute(0, 2, 3, 1))
        x = self.windows(x.flatten(0, 1)).view(x.shape)
        pooled: torch.Tensor = self.last(x.mean(dim=(1, 2)))
        return pooled


def mean_and_spread(got: torch.Tensor, places: tuple[int, ...]) -> list[torch.Tensor]:
    return [got.mean(dim=places), got.std(dim=places, correction=0)]


def test_readings_are_mean_and_spread_of_what_the_right_layers_get():
    torch.manual_seed(0)
    body = Body()
    network = Backbone(body, 2, 3, [0.5], [0.5])
    x = as_batch(pictures(3))
    with torch.inference_mode():
        seen = (x - 127.5) / 127.5
        first = body.stem(seen) + body.twin(seen)
        places = body.twice(body.twice(body.grouped(first))).permute(0, 2, 3, 1)
        pooled = body.windows(body.tokens(places)).mean(dim=(1, 2))
        expected = [*mean_and_spread(seen, (2, 3)), *mean_and_spread(places, (1, 2)), pooled, body.last(pooled)]
        _, readings = LayerReader(network, x[:2]).read(x)
    torch.testing.assert_close(readings, torch.cat(expected, dim=1), rtol=1e-4, atol=1e-5)


def test_a_layer_that_gets_a_pooled_map_has_no_spread():
    pooled = torch.rand(3, 4, 1, 1)
    torch.testing.assert_close(frozen._over_places(nn.Conv2d(4, 2, 1), pooled), pooled.flatten(1))


def test_of_a_wide_network_not_every_layer_is_read(monkeypatch: pytest.MonkeyPatch):
    network = spec_of("test_vit").build(0).eval()
    x = as_batch(pictures(2))
    whole = LayerReader(network, x)
    widths = [2 * layer.weight.shape[1] for layer in whole.layers]
    monkeypatch.setattr(frozen, "MOST_READINGS", sum(widths[::2]))
    some = LayerReader(network, x)
    assert some.layers == whole.layers[::2]
    monkeypatch.setattr(frozen, "MOST_READINGS", 1)
    assert len(LayerReader(network, x).layers) == 1


def planted(num_rows: int, num_readings: int) -> torch.Tensor:
    rng = np.random.default_rng(1)
    hidden = rng.normal(size=(num_rows, 6)) * [5, 4, 3, 2, 1, 0.5]
    return torch.from_numpy(hidden @ rng.normal(size=(6, num_readings)) + 3).float()


@pytest.mark.parametrize("num_readings", [12, 90])
def test_axes_are_those_of_standardised_readings(num_readings: int):
    readings = planted(40, num_readings)
    scores, mean, axes = principal_axes(readings.clone())
    torch.testing.assert_close(scores, (readings - mean) @ axes, rtol=1e-3, atol=1e-3)
    found, values = scores.numpy(), readings.numpy()
    expected = PCA(found.shape[1]).fit_transform((values - values.mean(axis=0)) / values.std(axis=0))
    assert found.shape == (40, 6)  # all that there are
    np.testing.assert_allclose(np.abs(found[:, :5]), np.abs(expected[:, :5]), atol=2e-3)


def test_constant_readings_and_constant_images_have_no_part():
    readings = planted(40, 12)
    _, _, axes = principal_axes(torch.cat([readings, torch.full((40, 2), 7.0)], dim=1))
    assert not axes[-2:].any()
    torch.testing.assert_close(axes[:-2].abs(), principal_axes(readings)[2].abs(), rtol=1e-3, atol=1e-4)
    scores, mean, axes = principal_axes(torch.ones(12, 5))
    assert not scores.any()
    assert not ((torch.ones(12, 5) - mean) @ axes).any()


@pytest.mark.parametrize("num_deciding", [12, 4096])
def test_all_rows_are_told_by_the_axes_of_some(data: Path, monkeypatch: pytest.MonkeyPatch, num_deciding: int):
    monkeypatch.setattr(frozen, "ROWS_OF_AXES", num_deciding)
    spec, content, counted = spec_of(weights=data / "weights.safetensors"), pictures(), list[int]()
    store = ImageStore(content, np.arange(NUM_ROWS), torch.device("cpu"))
    found = scan_frozen(spec, store, seed=0, advance=counted.append)
    network = spec.build(0).eval()
    x = as_batch(content)
    with torch.inference_mode():
        reader = LayerReader(network, x[:2])
        readings = (reader.read(x)[1] + reader.read(x.flip(3))[1]).numpy() / 2
    np.testing.assert_allclose(found.scores, (readings - found.mean) @ found.axes, rtol=1e-2, atol=2e-3)
    output = scan_images(network, store, bf16=False, advance=ignore)[1]
    np.testing.assert_allclose(found.output, output, rtol=1e-4, atol=1e-5)
    assert found.scores.shape == (NUM_ROWS, min(num_deciding, NUM_ROWS) - 1)
    assert sum(counted) == 2 * NUM_ROWS
    again = scan_frozen(spec, store, seed=0, advance=ignore)
    np.testing.assert_array_equal(again.scores, found.scores)


def test_without_weights_patches_are_read():
    store = ImageStore(pictures(), np.arange(NUM_ROWS), torch.device("cpu"))
    found = scan_frozen(spec_of(), store, seed=0, advance=ignore)
    reader = PatchReader(store, seed=0)
    x = as_batch(pictures())
    both = zip(reader.read(x), reader.read(x.flip(3)), strict=True)
    output, readings = ((view + mirrored).numpy() / 2 for view, mirrored in both)
    np.testing.assert_allclose(found.output, output, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.scores, (readings - found.mean) @ found.axes, rtol=1e-2, atol=2e-3)


def test_neighbours_do_not_go_by_what_varies_most():
    """Brightness and three more things vary far more than what tells three kinds apart."""
    rng = np.random.default_rng(0)
    kinds = np.arange(90) % 3
    features: FloatArray = (2 * np.eye(8)[kinds] + 0.3 * rng.normal(size=(90, 8))).astype(np.float32)
    features[:, 4:] = 100 * rng.normal(size=(90, 4))
    learner = FrozenLearner(as_frozen(features), kinds * 0, np.arange(90), num_neighbors=5, device=torch.device("cpu"))
    assert (kinds[learner.neighbors[0]] == kinds[:, None]).mean() > 0.8


def test_features_are_kept_whole(tmp_path: Path):
    rng = np.random.default_rng(0)
    kept = FrozenFeatures(
        **{name: rng.normal(size=(4, 3)).astype(np.float32) for name in ("output", "scores", "mean", "axes")}
    )
    checkpoint = Checkpoint(tmp_path)
    assert checkpoint.load_features() is None
    checkpoint.save_features(kept)
    found = checkpoint.load_features()
    assert found is not None
    for name in ("output", "scores", "mean", "axes"):
        np.testing.assert_array_equal(getattr(found, name), getattr(kept, name))
