"""Any timm image model as a body with pooled features and a linear head.

# B batch, S image side, D features, K classes
"""

from __future__ import annotations

import difflib
import logging
import pickle
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from labelclean.config import FitConfig
from labelclean.errors import BackboneError

SMALL_SIDE = 64
"""Up to this image side `stem = auto` means the small stem."""

SMALLEST = 16
"""Smaller images are enlarged to this side at least."""

ENLARGED = 4
"""For pre-trained weights, which know things by their size in pixels, images are enlarged up to so many times: with
ImageNet weights of MobileNetV2 a linear head on CIFAR-10 is right in 62 % at 32 px and in 74 % at 128, on photographs
of 160 px in 85 % at that size and in 88 % at 224."""


class Backbone(nn.Module):
    """Normalisation, body and head: uint8-valued images in, features and logits out."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, body: nn.Module, num_features: int, num_classes: int, mean: Any, std: Any) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(num_features, num_classes)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1) * 255)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) with values in [0, 255] -> (B, D)."""
        x = ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        return cast(torch.Tensor, self.body(x))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 3, S, S) with values in [0, 255] -> features (B, D) and logits (B, K), in float32."""
        features = self.features(images).float()
        with torch.autocast(images.device.type, enabled=False):
            return features, self.head(features)


@dataclass(frozen=True, kw_only=True, slots=True)
class BackboneSpec:
    """How to build a backbone, as often as networks are needed.

    Attributes:
        pretrained: the body starts from weights and not at random.
        num_features: D.
        image_size: S.
        loaded: what became of the weights, in words.
        state: the body's starting weights; None for a random start.
    """

    config: FitConfig
    num_classes: int
    pretrained: bool
    num_features: int
    image_size: int
    loaded: str
    state: dict[str, torch.Tensor] | None

    def build(self, seed: int) -> Backbone:
        """A network with its head at zero; the seed decides a random body."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            body = _create_body(self.config, self.image_size, pretrained=False)
            _fit_stem(body, self.config, self.image_size, keep_kernel=self.pretrained)
            if self.state is not None:
                body.load_state_dict(self.state)
            data = _data_config(body)
            mean, std = self.config.mean or data["mean"], self.config.std or data["std"]
            network = Backbone(body, self.num_features, self.num_classes, mean, std)
        nn.init.zeros_(network.head.weight)
        nn.init.zeros_(network.head.bias)
        return network


def prepare_backbone(config: FitConfig, *, num_classes: int, median_side: int) -> BackboneSpec:
    """Find out the image size, get the weights and check that the model can be used.

    Args:
        median_side: of the images, in pixels, by which the default size goes, see `choose_image_size`.
    Raises:
        BackboneError: timm has no such model, the weights cannot be had or do not fit, or it has no pooled features.
    """
    image_size = config.image_size or choose_image_size(config, median_side)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)  # it decides what is missing in a file of weights
        body = _create_body(config, image_size, pretrained=config.weights == "auto")
        small = _fit_stem(body, config, image_size, keep_kernel=config.weights != "none")
    if config.weights == "none":
        loaded = "random start"
    elif config.weights == "auto":
        loaded = f"pre-trained weights of timm's {config.backbone}"
    else:
        loaded = load_weights(body, Path(config.weights))
    if small:
        loaded += "; stem for small images"
    pretrained = config.weights != "none"
    return BackboneSpec(
        config=config,
        num_classes=num_classes,
        pretrained=pretrained,
        num_features=_count_features(body, config, image_size),
        image_size=image_size,
        loaded=loaded,
        state={name: value.clone() for name, value in body.state_dict().items()} if pretrained else None,
    )


def choose_image_size(config: FitConfig, median_side: int) -> int:
    """The model's own side, or less where the images are smaller: their median side, rounded to a multiple of 8.

    For pre-trained weights images are enlarged towards the model's own side, see ENLARGED, unless the stem is asked to
    keep the resolution instead.
    """
    cfg = _published(config)
    own = int(cfg.input_size[-1]) if cfg is not None else 224
    if median_side == 0 or (cfg is not None and cfg.fixed_input_size):
        return own
    as_they_are = config.weights == "none" or config.stem == "small"
    side = median_side if as_they_are else ENLARGED * median_side
    return int(min(own, max(SMALLEST, round(side / 8) * 8)))


def _published(config: FitConfig) -> Any:
    """What timm knows about the model's published weights; None where there are none.

    Raises:
        BackboneError: there is no such model, or no such weights of it.
    """
    import timm

    if not timm.is_model(config.backbone):
        name, all_names = config.backbone.split(".")[0], timm.list_models()
        near = [known for known in all_names if name in known] or difflib.get_close_matches(name, all_names)
        raise BackboneError(
            f"timm has no model called {config.backbone}",
            hint=f"Similar names: {', '.join(near[:5])}." if near else "See timm.list_models() for all names.",
        )
    try:
        return timm.models.get_pretrained_cfg(config.backbone)
    except RuntimeError as error:
        raise BackboneError(f"{config.backbone}: {_cause(error)}", hint="Leave out what follows the point.") from error


def _create_body(config: FitConfig, image_size: int, *, pretrained: bool) -> nn.Module:
    import timm

    arguments = dict(config.model_kwargs)
    cfg = _published(config)
    if cfg is not None and cfg.fixed_input_size and image_size != cfg.input_size[-1]:
        arguments.setdefault("img_size", image_size)
    try:
        body: nn.Module = timm.create_model(config.backbone, pretrained=False, num_classes=0, **arguments)
    except Exception as error:  # whatever a model makes of arguments that it does not expect
        raise BackboneError(
            f"timm cannot build {config.backbone} with {arguments}: {_cause(error)}", hint="Check --model-kwargs."
        ) from error
    if not pretrained:
        return body
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # else every attempt is told, not what came of them
    try:
        return timm.create_model(config.backbone, pretrained=True, num_classes=0, **arguments)
    except Exception as error:  # the hub's errors are of many kinds: no network, no such file, no such weights
        raise BackboneError(
            f"pre-trained weights of {config.backbone} cannot be had: {_cause(error)}",
            hint="Connect to the internet once, give a file with --weights FILE, or start at random with "
            "--weights none (needs --effort standard or thorough).",
        ) from error


def _load_state(file: Path) -> Any:
    """What torch.save has written, of plain tensors; never anything that runs code."""
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # its text advises to run whatever the file holds
        raise ValueError("it is no file of plain tensors") from error


def _cause(error: Exception) -> str:
    """The first line of an error's text, or its kind where it has none."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _fit_stem(body: nn.Module, config: FitConfig, image_size: int, *, keep_kernel: bool) -> bool:
    """Give a convolutional stem stride 1 and no pooling, where wanted; whether anything was changed.

    The first convolution becomes 3x3 at a random start; with weights it keeps its kernel, so that they still fit.
    """
    if config.stem == "native" or (config.stem == "auto" and image_size > SMALL_SIDE):
        return False
    found = next(((name, module) for name, module in body.named_modules() if isinstance(module, nn.Conv2d)), None)
    if found is None or "patch_embed" in found[0] or found[1].stride[0] == 1:
        return False
    name, old = found
    kernel = old.kernel_size[0] if keep_kernel else min(old.kernel_size[0], 3)
    new = nn.Conv2d(old.in_channels, old.out_channels, kernel, 1, kernel // 2, bias=old.bias is not None)
    if new.weight.shape == old.weight.shape:
        new.load_state_dict(old.state_dict())
    parent, _, leaf = name.rpartition(".")
    owner = body.get_submodule(parent) if parent else body
    setattr(owner, leaf, new)
    if isinstance(getattr(body, "maxpool", None), nn.Module):
        body.maxpool = nn.Identity()
    return True


def load_weights(body: nn.Module, file: Path) -> str:
    """Load what fits from a safetensors or state-dict file; says how many tensors did.

    Nothing in the file is executed. A classifier in it is left aside: it belongs to other classes.

    Raises:
        BackboneError: the file is missing or unreadable, or less than half of the model's tensors are in it.
    """
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(file)
        else:
            state = _load_state(file)
    except FileNotFoundError as error:
        raise BackboneError(f"{file}: no such file", hint="Give --weights auto, none, or an existing file.") from error
    except Exception as error:  # both readers raise nearly any exception on files that are something else
        raise BackboneError(
            f"{file}: not readable as weights: {_cause(error)}",
            hint="Give a .safetensors file or a plain state dict saved by torch.save.",
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    own = body.state_dict()
    items = state.items() if isinstance(state, dict) else ()
    stored = {str(name).removeprefix("module."): value for name, value in items if isinstance(value, torch.Tensor)}
    fitting = {name: value for name, value in stored.items() if name in own and value.shape == own[name].shape}
    if 2 * len(fitting) < len(own):
        raise BackboneError(
            f"{file}: only {len(fitting)} of the model's {len(own)} tensors are in it",
            hint="These weights belong to another architecture: check --backbone and --model-kwargs.",
        )
    body.load_state_dict(fitting, strict=False)
    missing = [name for name in own if name not in fitting]
    at_random = f", the others at random, {missing[0]} first" if missing else ""
    return f"{len(fitting)} of {len(own)} tensors from {file.name}{at_random}"


def _data_config(body: nn.Module) -> dict[str, Any]:
    from timm.data.config import resolve_model_data_config

    return cast(dict[str, Any], resolve_model_data_config(body))  # type: ignore[no-untyped-call]


def _count_features(body: nn.Module, config: FitConfig, image_size: int) -> int:
    """D, by a dry run on one image."""
    body.eval()
    try:
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shape = body(torch.zeros(1, 3, image_size, image_size)).shape
    except (RuntimeError, AssertionError, ValueError) as error:
        raise BackboneError(
            f"{config.backbone} cannot take images of {image_size} px: {_cause(error)}",
            hint="Choose another --image-size, or --stem native.",
        ) from error
    if len(shape) != 2:
        raise BackboneError(
            f"{config.backbone} has no pooled features: its output has shape {tuple(shape)}",
            hint="Choose a backbone with global pooling.",
        )
    return int(shape[1])
