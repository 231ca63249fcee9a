"""Every setting of a fit: its meaning, range and default, in one place, and how flags, file and effort combine.

Precedence: flag, then file, then the effort's preset, then the default below. The resolved configuration is frozen,
was checked once when it was built, and can be written to TOML and read back.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from labelclean.errors import ConfigError, why_unreadable

Effort = Literal["quick", "standard", "thorough"]
JudgeKind = Literal["auto", "crossfit", "peer", "self"]
StreamKind = Literal["channel", "mixture"]
Stem = Literal["auto", "small", "native"]
Precision = Literal["auto", "fp32", "bf16"]
ExportForm = Literal["csv", "parquet", "hf"]
PublishedSet = Literal["cifar10", "cifar100", "clothing1m", "food101n", "tiny-imagenet", "webvision"]
Split = Literal["train", "val", "test"]
NoiseKind = Literal["symmetric", "asymmetric", "pairs", "confusion"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FitConfig:
    """The settings of one fit."""

    effort: Effort = "standard"
    """What the job may cost; chooses the defaults in PRESETS."""
    seed: int = 0
    """Start of every random choice, >= 0. On one CPU the same seed, threads and precision give the same verdicts."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps: where the networks run."""
    workers: int = 0
    """Threads that decode images, >= 0; 0: one per core."""
    path_column: str | None = None
    """Index column with the image paths; None: found by name."""
    label_column: str | None = None
    """Index column with the labels; None: found by name."""
    strict: bool = False
    """Stop at the first row that cannot be judged instead of marking it unreadable."""

    backbone: str = "mobilenetv2_100"
    """Any timm image model with pooled features."""
    weights: str = "auto"
    """auto: timm's pre-trained weights; none: random start; or a safetensors or state-dict file."""
    model_kwargs: dict[str, Any] = field(default_factory=dict)
    """Further arguments for timm.create_model."""
    stem: Stem = "auto"
    """small: stride-1 stem without pooling, for small images; auto: small up to 64 px; native: as timm builds it."""
    image_size: int = 0
    """Side in pixels to which images are resized, >= 8; 0: the model's own, or less where the images are smaller: from
    a random start or with stem small their median side, from pre-trained weights four times that otherwise."""
    mean: tuple[float, ...] | None = None
    """Channel means for normalisation, of pixels in [0, 1], one or three; None: the model's own."""
    std: tuple[float, ...] | None = None
    """Channel deviations likewise."""

    finetune: bool = True
    """Train the backbone; False: it stays frozen and only heads are trained."""
    warm_rounds: int = 40
    """Rounds on frozen features before fine-tuning, >= 0; at most so many: they end when nothing moves any more. From a
    random start one round on patches of the images; 0: none."""
    rounds: int = 0
    """Rounds of the loop (of its fine-tuning part, where there is one), >= 0; 0: 2 from pre-trained weights, 1 from
    a random start. Where the backbone stays frozen: at most so many; 0: warm_rounds, 1 at least."""
    judge: JudgeKind = "auto"
    """Who judges a row. crossfit: two networks, each taught the labels of one half and judging the other half; peer:
    two networks that divide the data for each other; self: one network and its moving average. Of the last two a tenth
    of the labels, of few rows up to a half, and all golden ones are held out; what teaching does to the others is taken
    off. auto: self from a random start with 2,000 rows or more of which at most a tenth is golden, crossfit
    otherwise."""
    streams: StreamKind = "channel"
    """How a stream's scores become a posterior: the noise channel, or a two-component Gaussian mixture."""
    trust: float = 0.7
    """Both streams above: certain positive, from 0.5 to 0.999."""
    distrust: float = 0.3
    """Both streams below: certain negative, from 0.001 to trust."""
    certain: float = 0.975
    """Both streams in the mean of the rounds, and p_clean, above: verdict certain_clean, from trust to 0.999."""
    reject_precision: float = 0.7
    """Uncertain labels are rejected up to a p_clean of one half, and beyond where that raises the expected F1, as long
    as this share of the rejected ones is expected to be wrong, in [0, 1]; 1: up to one half."""
    num_neighbors: int = 50
    """Neighbours that vote on a row, >= 1."""
    folds: int = 5
    """Parts in which heads and meta-classifier are cross-fitted, >= 2."""
    purification: bool = True
    """Let the meta-classifier judge the uncertain rows; False: the streams' joint posterior does."""

    batch_size: int = 0
    """Rows per training step, >= 2; 0: by the number of rows, 32 to 128, from a random start on a GPU to 1,024."""
    epochs: float = 0.0
    """Passes of each network over the data in all rounds together, >= 0; 0: in each round, all networks together, four
    from pre-trained weights; from a random start 27 in the first and 10 in each other, and 60,000 image passes in all
    at least."""
    learning_rate: float = 0.0
    """At its peak, >= 0; 0: 0.004 from pre-trained weights, 0.1 from a random start; beyond 128 rows in a step it grows
    with their square root."""
    weight_decay: float = 5e-4
    """L2 penalty on the weights, as SGD takes it, >= 0."""
    ema_decay: float = 0.995
    """Decay per step of the moving average that scans the data, in [0, 1)."""
    mixup: float = 0.3
    """Both parameters of MixUp's Beta distribution, >= 0; 0: no MixUp."""
    sharpen: float = 0.5
    """Temperature for the guesses on unlabelled rows, from 0.01 to 1."""
    lambda_u: float = 1.0
    """Weight of the unlabelled loss when fully ramped up, >= 0."""
    lambda_r: float = 1.0
    """Weight of the pull of the mean prediction towards the class prior, >= 0."""
    precision: Precision = "auto"
    """Number format of training; auto: the faster of both, timed at the start and written into the run's settings."""

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            value = getattr(self, name)
            if not _fits(value, kind):
                raise ConfigError(f"{name}: {value!r} is {_no_such(kind)}", hint=f"Choose another value for {name}.")
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(
                    f"{name}: {value:.10g} is not from {low:g} to {high:.10g}", hint=f"Set {name} within that range."
                )
        for lower, upper in (("distrust", "trust"), ("trust", "certain")):
            low, high = getattr(self, lower), getattr(self, upper)
            if low > high:
                raise ConfigError(
                    f"{lower} {low:g} lies above {upper} {high:g}", hint=f"Lower {lower} or raise {upper}."
                )
        if self.weights == "none" and not self.finetune:
            raise ConfigError(
                "weights none, and the backbone stays frozen: features of a random network say nothing",
                hint="Give --weights auto or a file, or choose --effort standard.",
            )
        for name, least in (("image_size", 8), ("batch_size", 2)):
            value = getattr(self, name)
            if 0 < value < least:
                raise ConfigError(f"{name}: {value} is too small", hint=f"Use {least} or more, or 0 to have it chosen.")
        for name, lowest in (("mean", 0.0), ("std", 1e-6)):
            value = getattr(self, name)
            if value is not None and (len(value) not in (1, 3) or not all(lowest <= part <= 1 for part in value)):
                raise ConfigError(
                    f"{name}: {', '.join(map(str, value))}: not one or three numbers for pixels in [0, 1]",
                    hint=f"Give {name} as 0.5 or a,b,c; divide by 255 what is meant for pixels up to 255.",
                )


WRONG_KIND = {int: "not a whole number", float: "not a number", bool: "neither true nor false", str: "not a text"}


def _fits(value: object, kind: Any) -> bool:
    """Whether a value is of the type of a setting; whole numbers are numbers, true and false are none."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        return value in parts
    if origin is UnionType:
        return any(_fits(value, part) for part in parts)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(item, parts[0]) for item in value)
    if kind in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, int | float if kind is float else origin or kind)


def _no_such(kind: Any) -> str:
    """What a value is that does not fit a type."""
    if get_origin(kind) is Literal:
        return f"none of {', '.join(get_args(kind))}"
    return WRONG_KIND.get(kind, "not of the right kind")


RANGES: dict[str, tuple[float, float]] = {
    "seed": (0, 2**31 - 1),
    "workers": (0, 1024),
    "image_size": (0, 4096),
    "warm_rounds": (0, 100),
    "rounds": (0, 100),
    "trust": (0.5, 0.999),
    "distrust": (0.001, 0.999),
    "certain": (0.5, 0.999),
    "reject_precision": (0, 1),
    "num_neighbors": (1, 1000),
    "folds": (2, 20),
    "batch_size": (0, 65536),
    "epochs": (0, 10_000),
    "learning_rate": (0, 10),
    "weight_decay": (0, 1),
    "ema_decay": (0, 0.99999),
    "mixup": (0, 100),
    "sharpen": (0.01, 1),
    "lambda_u": (0, 1000),
    "lambda_r": (0, 1000),
}

PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"finetune": False},
    "standard": {},
    "thorough": {"rounds": 4},
}
"""What each effort sets; everything else keeps its default."""

TRAINING = ("judge", "epochs", "batch_size", "learning_rate", "weight_decay", "ema_decay", "mixup", "lambda_u",
            "lambda_r", "precision")  # fmt: skip
"""Settings that mean nothing where the backbone stays frozen."""


def resolve(*, flags: Mapping[str, Any], stored: Mapping[str, Any] | None = None) -> FitConfig:
    """Combine flags, the settings of a file, the effort's preset and the defaults.

    Args:
        flags: the settings that the command line gives.
        stored: those of a file, as from `read_toml`.
    Raises:
        ConfigError: a name or value is not allowed.
    """
    stored = stored or {}
    of_file = stored.get("effort", FitConfig().effort)
    effort = flags.get("effort", of_file)
    for name in (of_file, effort):
        if not isinstance(name, str) or name not in PRESETS:
            raise ConfigError(f"effort: {name!r} is none of {', '.join(PRESETS)}", hint="Choose one of them.")
    if effort != of_file:
        stored = _without_preset(stored, of_file)
    merged = {**PRESETS[effort], **stored, **flags}
    for name in ("mean", "std"):
        value = merged.get(name)
        if isinstance(value, list | int | float):
            merged[name] = tuple(value) if isinstance(value, list) else (value,)
    return FitConfig(**merged)


def refuse_idle(flags: Mapping[str, Any], config: FitConfig) -> None:
    """Stop at flags that would do nothing; in a file they may wait for another effort.

    Raises:
        ConfigError: there are such.
    """
    default = FitConfig()
    changed = [name for name in TRAINING if name in flags and flags[name] != getattr(default, name)]
    idle = [f"--{name.replace('_', '-')}" for name in changed]
    if idle and not config.finetune:
        by_effort = not PRESETS[config.effort].get("finetune", default.finetune)
        train = "choose --effort standard" if by_effort else "set `finetune = true` in the file of --config"
        raise ConfigError(
            f"{', '.join(idle)}: the backbone stays frozen, there is no training to set",
            hint=f"Leave it out, or {train}.",
        )


def _without_preset(stored: Mapping[str, Any], effort: str) -> dict[str, Any]:
    """Settings of a file but for those that it has only because of its effort, which another effort may replace."""
    default = FitConfig()
    implied = {name: getattr(default, name) for preset in PRESETS.values() for name in preset} | PRESETS[effort]
    return {name: value for name, value in stored.items() if name not in implied or implied[name] != value}


MOVABLE = ("device", "workers")
"""Settings that may change whenever a run is carried on: verdicts do not depend on them but by rounding."""

LEFT_OPEN = {"judge": "auto", "precision": "auto", "batch_size": 0}
"""Values that are satisfied by whatever was chosen."""


def carry_on(
    config: FitConfig, stored: FitConfig, names: Collection[str], *, trained: bool
) -> tuple[FitConfig, list[str]]:
    """The settings of a run that is carried on, and those of the named ones that it cannot take over.

    Args:
        config: what is asked for.
        stored: what the run began with.
        names: the settings that were asked for.
        trained: whether networks are kept, so that what sets their training must stay.
    """
    free = MOVABLE if trained else (*MOVABLE, *TRAINING)
    settings = dataclasses.replace(stored, **{name: getattr(config, name) for name in names if name in free})
    asked = (name for name in names if getattr(config, name) != LEFT_OPEN.get(name))
    return settings, sorted(name for name in asked if getattr(config, name) != getattr(settings, name))


def read_toml(file: Path) -> dict[str, Any]:
    """Settings from a TOML file that has the names of FitConfig's fields at the top level.

    Raises:
        ConfigError: no such file, not TOML, or a setting that does not exist.
    """
    try:
        stored = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: {why_unreadable(error)}", hint="Give --config a readable TOML file.") from error
    known = {item.name for item in dataclasses.fields(FitConfig)}
    unknown = sorted(set(stored) - known)
    if unknown:
        raise ConfigError(
            f"{file}: no setting is called {', '.join(unknown)}", hint=f"Known settings: {', '.join(sorted(known))}."
        )
    return stored


def as_dict(config: FitConfig) -> dict[str, Any]:
    """The settings without those that are None, in the order of their definition, ready for TOML or JSON."""
    plain = {name: value for name, value in dataclasses.asdict(config).items() if value is not None}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}
