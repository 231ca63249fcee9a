"""Any timm model as a backbone: shapes, stems, weights from files, and errors that say what to do."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from labelclean.config import FitConfig
from labelclean.errors import BackboneError
from labelclean.train.backbone import BackboneSpec, choose_image_size, prepare_backbone

FAMILIES = ["test_resnet", "test_convnext", "test_efficientnet", "test_vit", "mobilenetv3_small_050"]


def prepare(backbone: str = "test_resnet", *, side: int = 32, **settings: Any) -> BackboneSpec:
    config = FitConfig(**{"backbone": backbone, "weights": "none", "image_size": side, **settings})
    return prepare_backbone(config, num_classes=3, median_side=side)


def images(side: int, count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, side, side), generator=generator).float()


@pytest.fixture(scope="module")
def resnet_state() -> dict[str, torch.Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return timm.create_model("test_resnet", num_classes=7).state_dict()


@pytest.mark.parametrize("backbone", FAMILIES)
@pytest.mark.parametrize("side", [32, 96])
def test_features_and_logits_of_every_family(backbone: str, side: int):
    spec = prepare(backbone, side=side)
    network = spec.build(0)
    features, logits = network(images(side))
    assert features.shape == (2, spec.num_features)
    assert logits.shape == (2, 3)
    assert features.dtype == logits.dtype == torch.float32
    assert torch.equal(logits, torch.zeros(2, 3))
    assert features.std() > 0


@pytest.mark.parametrize("backbone", ["test_resnet", "test_convnext", "test_efficientnet", "mobilenetv3_small_050"])
def test_small_images_get_a_stem_that_keeps_the_resolution(backbone: str):
    strides = {}
    for stem in ("auto", "native"):
        body = prepare(backbone, stem=stem).build(0).body
        first = next(module for module in body.modules() if isinstance(module, torch.nn.Conv2d))
        strides[stem] = (first.stride[0], first.kernel_size[0])
    assert strides["auto"] == (1, 3)
    assert strides["native"][0] > 1
    assert "stem for small images" in prepare(backbone).loaded
    assert "stem" not in prepare(backbone, side=96).loaded


def test_transformer_keeps_its_patches_and_takes_any_size():
    spec = prepare("test_vit", side=48)
    assert "stem" not in spec.loaded
    assert spec.build(0)(images(48))[0].shape == (2, spec.num_features)


def test_same_seed_same_network():
    spec = prepare()
    before = torch.random.get_rng_state()
    one, same, other = (spec.build(seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_mean_and_std_are_the_model_s_or_the_user_s():
    own = timm.get_pretrained_cfg("test_resnet").mean
    assert prepare().build(0).mean.flatten().tolist() == pytest.approx([255 * value for value in own])
    network = prepare(mean=(0.1, 0.2, 0.3), std=(0.5,)).build(0)
    assert network.mean.flatten().tolist() == pytest.approx([25.5, 51, 76.5])
    assert network.std.flatten().tolist() == pytest.approx([127.5])
    # an image of the mean colour is all zeros to the body
    seen = []
    network.body.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(network.mean.expand(1, 3, 32, 32).clone())
    assert torch.allclose(seen[0], torch.zeros(1))


@pytest.mark.parametrize("form", ["safetensors", "torch", "wrapped"])
def test_weights_from_a_file(tmp_path: Path, resnet_state: dict[str, torch.Tensor], form: str):
    file = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    if form == "safetensors":
        save_file(resnet_state, file)
    elif form == "torch":
        torch.save(resnet_state, file)
    else:
        torch.save({"epoch": 3, "state_dict": {f"module.{name}": v for name, v in resnet_state.items()}}, file)
    spec = prepare(weights=str(file))
    body = spec.build(0).body.state_dict()
    assert spec.pretrained
    assert f"{len(body)} of {len(body)} tensors from {file.name}" in spec.loaded
    # also the stem keeps its kernel, and the classifier for seven classes is left aside
    assert all(torch.equal(body[name], resnet_state[name]) for name in body)
    assert all(torch.equal(body[name], value) for name, value in spec.build(9).body.state_dict().items())


def test_tensors_that_the_file_lacks_are_named_and_drawn_by_the_seed(
    tmp_path: Path, resnet_state: dict[str, torch.Tensor]
):
    """Features kept by an interrupted run must be those of the network that carries on."""
    missing = [name for name in resnet_state if name.startswith("layer4")]
    file = tmp_path / "w.safetensors"
    save_file({name: value for name, value in resnet_state.items() if name not in missing}, file)
    bodies = []
    for seed, of_torch in ((3, 0), (3, 1), (4, 1)):
        torch.manual_seed(of_torch)
        spec = prepare(weights=str(file), seed=seed)
        assert f"from {file.name}, the others at random, {missing[0]} first" in spec.loaded
        bodies.append(spec.build(0).body.state_dict())
    one, again, other = bodies
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in missing)


def test_weights_of_another_architecture_are_refused(tmp_path: Path, resnet_state: dict[str, torch.Tensor]):
    file = tmp_path / "w.safetensors"
    save_file(resnet_state, file)
    with pytest.raises(BackboneError, match=r"only \d+ of the model's \d+ tensors") as error:
        prepare("test_convnext", weights=str(file))
    assert "--backbone" in error.value.hint


class Planted:
    """Runs code where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_pickled_objects_are_refused_and_not_executed(tmp_path: Path):
    mark, files = tmp_path / "executed", [tmp_path / "a.pth", tmp_path / "b.pth"]
    torch.save({"state_dict": Planted(mark)}, files[0])
    files[1].write_bytes(pickle.dumps(Planted(mark)))
    for file in files:
        with pytest.raises(BackboneError, match="not readable as weights"):
            prepare(weights=str(file))
    assert not mark.exists()


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"nonsense" * 9])
def test_damaged_files_are_refused(tmp_path: Path, name: str, content: bytes):
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(BackboneError, match=f"{name}: not readable as weights"):
        prepare(weights=str(file))


@pytest.mark.parametrize("content", [torch.zeros(3), [1, 2], {3: "x"}, {"state_dict": {"conv1.weight": 1}}])
def test_files_that_hold_no_state_are_refused(tmp_path: Path, content: object):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(BackboneError, match="only 0 of"):
        prepare(weights=str(tmp_path / "w.pth"))


def test_missing_file_and_folder_are_told(tmp_path: Path):
    with pytest.raises(BackboneError, match=r"gone\.pth: no such file"):
        prepare(weights=str(tmp_path / "gone.pth"))
    with pytest.raises(BackboneError, match="not readable as weights"):
        prepare(weights=str(tmp_path))


@pytest.mark.parametrize(("name", "near"), [("resnet1", "resnet18"), ("mobilenetv2_10", "mobilenetv2_100")])
def test_unknown_model_names_are_answered_with_near_ones(name: str, near: str):
    with pytest.raises(BackboneError, match=f"timm has no model called {name}") as error:
        prepare(name)
    assert near in error.value.hint


def test_misspelt_and_unlike_names():
    with pytest.raises(BackboneError) as error:
        prepare("mobilnetv2_100", side=0)
    assert "mobilenetv2_100" in error.value.hint
    with pytest.raises(BackboneError, match="no model called"):
        prepare("%&[!", side=0)
    with pytest.raises(BackboneError, match="Invalid pretrained tag"):
        prepare("resnet18.nonsense", side=0)


@pytest.mark.parametrize("weights", ["none", "auto"])
def test_bad_model_arguments_are_told_as_such(weights: str):
    with pytest.raises(BackboneError, match="timm cannot build test_resnet with") as error:
        prepare(model_kwargs={"nonsense": 3}, weights=weights)
    assert error.value.hint == "Check --model-kwargs."


def test_models_that_cannot_take_the_images(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(BackboneError, match="cannot take images of 32 px"):
        prepare(model_kwargs={"in_chans": 1})
    with pytest.raises(BackboneError, match="no pooled features"):
        prepare(model_kwargs={"global_pool": ""})


class NotCachedError(FileNotFoundError, ValueError):
    """As the hub's client raises it without a network: an OSError and a ValueError."""


@pytest.mark.parametrize(
    "cause",
    [NotCachedError("cannot find the file\nand more"), ConnectionError(), RuntimeError("no pretrained weights")],
)
def test_pretrained_weights_without_a_network(monkeypatch: pytest.MonkeyPatch, cause: Exception):
    create = timm.create_model

    def offline(name: str, *, pretrained: bool, **arguments: Any) -> Any:
        if pretrained:
            raise cause
        return create(name, pretrained=False, **arguments)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(BackboneError, match="pre-trained weights of test_resnet cannot be had") as error:
        prepare(weights="auto")
    assert "\n" not in error.value.message
    assert all(word in error.value.hint for word in ("--weights FILE", "--weights none", "internet"))


def test_image_size_is_the_model_s_or_less():
    config = FitConfig(backbone="test_resnet", weights="none")
    own = timm.get_pretrained_cfg("test_resnet").input_size[-1]
    assert choose_image_size(config, 1000) == own
    assert choose_image_size(config, 0) == own
    assert choose_image_size(config, 33) == 32
    assert choose_image_size(config, 5) == 16
    # a model of fixed size is asked for that size
    assert choose_image_size(FitConfig(backbone="test_vit"), 33) == timm.get_pretrained_cfg("test_vit").input_size[-1]


@pytest.mark.parametrize("weights", ["auto", "weights.safetensors"])
def test_small_images_are_enlarged_for_pretrained_weights(weights: str):
    config = FitConfig(backbone="mobilenetv2_100", weights=weights)
    assert choose_image_size(config, 4) == 16
    assert choose_image_size(config, 32) == 128
    assert choose_image_size(config, 46) == 184
    # never beyond what the model was made for
    assert choose_image_size(config, 160) == 224
    assert choose_image_size(config, 1000) == 224
    # nor where the stem keeps the resolution
    assert choose_image_size(FitConfig(backbone="mobilenetv2_100", weights=weights, stem="small"), 32) == 32


def test_median_side_becomes_the_image_size():
    config = FitConfig(backbone="test_resnet", weights="none")
    assert prepare_backbone(config, num_classes=2, median_side=41).image_size == 40
