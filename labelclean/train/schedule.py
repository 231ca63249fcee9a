"""How long and how fast the networks are trained: what the settings left to the tool become.

# N rows
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from labelclean.config import FitConfig, JudgeKind


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """What settings left at 0 become, by where the networks start.

    Attributes:
        rounds: of fine-tuning.
        first_passes_per_row: image passes of all networks together in the first round, for each row.
        passes_per_row: the same in any later round.
        min_passes: image passes of all networks and rounds together, at least, however few the rows.
        learning_rate: at its peak.
        later_share: of it, to which the rate rises again after the first round; None: all rounds share one rise and
            fall.
        by_entropy: rows whose label is not believed are taught by cross-entropy, too, and not by squared distance.
    """

    rounds: int
    first_passes_per_row: float
    passes_per_row: float
    min_passes: int
    learning_rate: float
    later_share: float | None
    by_entropy: bool


PRETRAINED = Recipe(
    rounds=2,
    first_passes_per_row=4.0,
    passes_per_row=4.0,
    min_passes=0,
    learning_rate=0.004,
    later_share=None,
    by_entropy=False,
)
SCRATCH = Recipe(
    rounds=1,
    first_passes_per_row=27.0,
    passes_per_row=10.0,
    min_passes=60_000,
    learning_rate=0.1,
    later_share=0.3,
    by_entropy=True,
)
"""A random start has everything to learn before anything can be judged, and in so many passes it learns the most from
the labels: a second round at the cost of some of these loses by it (17 and 10 passes: AP .831 instead of .840), on top
of them it gains (docs/evidence.md). The first round is a whole training of its own, however many rounds follow: a
network whose learning rate is still high judges the labels too kindly. Of so few rows that `min_passes` counts the
rounds share these, and a later one takes from the first."""


USUAL_BATCH = 128
"""Rows in a step that a recipe's learning rate is meant for at most; with more it grows with their square root."""

GPU_BATCH, GPU_SIDE = 1024, 32
"""Rows in a step from a random start on a GPU at most, up to that image side in pixels."""

ENOUGH_FOR_ONE = 2000
"""Rows from which on one network judges from a random start: with fewer it goes through them so often that it learns
wrong labels by heart."""

WANTED_HELD_OUT, HELD_OUT_ONE_IN = 250, 10
"""Labels that show what teaching does; and where there are many, one in so many is held out all the same."""

LEARNT_BY = ("epochs", "learning_rate", "weight_decay", "ema_decay", "mixup")
"""Settings on which it depends how many labels a network learns by heart."""

GOLDEN_ONE_IN = 10
"""Golden labels, which one network is not taught, may be one in so many at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """How the networks are trained, over all rounds together.

    Attributes:
        steps: optimiser steps of each network in each round, one entry per round.
        learning_rate: at its peak.
        later_rate: at a second peak, after the first round; None: there is one peak in all rounds together.
        by_entropy: see `Recipe`.
    """

    steps: tuple[int, ...]
    batch_size: int
    learning_rate: float
    later_rate: float | None
    by_entropy: bool
    weight_decay: float
    ema_decay: float
    mixup: float
    lambda_u: float
    lambda_r: float

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        total, first = sum(self.steps), self.steps[0]
        if self.later_rate is None:
            return _rise_and_fall(step, total, self.learning_rate)
        if step < first:
            return _rise_and_fall(step, first, self.learning_rate)
        return _rise_and_fall(step - first, total - first, self.later_rate)


def _rise_and_fall(step: int, num_steps: int, peak: float) -> float:
    """Up in a line over the first twentieth, then down along a cosine."""
    warm = max(1, num_steps // 20)
    if step < warm:
        return peak * (step + 1) / warm
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, num_steps - warm)))


def choose_recipe(*, pretrained: bool) -> Recipe:
    """By whether the networks start from weights or at random."""
    return PRETRAINED if pretrained else SCRATCH


def choose_batch_size(config: FitConfig, *, num_rows: int, pretrained: bool, gpu_side: int = 0) -> int:
    """Rows per training step: small for small data, which would not get enough steps otherwise.

    From a random start more on a GPU, which takes as long for a small step as for a large one: with ResNet-18 at 32 px
    an H200 trains on 9,000 images a second with 128 rows a step and on 44,000 with 1,024. Larger images fill it, and
    its memory, with fewer.

    Args:
        gpu_side: of the images in pixels on a GPU; 0: there is none.
    """
    steps, most = 160, USUAL_BATCH
    if gpu_side and not pretrained:
        steps, most = 48, max(USUAL_BATCH, int(GPU_BATCH * min(1.0, GPU_SIDE / gpu_side) ** 2))
    return min(config.batch_size or int(np.clip(2 ** round(np.log2(num_rows / steps)), 32, most)), num_rows)


def choose_judge(config: FitConfig, *, num_rows: int, num_golden: int, pretrained: bool) -> JudgeKind:
    """Who judges a row, where the settings leave it open: one network only if it has enough labels to learn from."""
    if config.judge != "auto":
        return config.judge
    is_large = num_rows >= ENOUGH_FOR_ONE and num_golden <= num_rows / GOLDEN_ONE_IN
    return "self" if is_large and not pretrained else "crossfit"


def hold_out_one_in(num_rows: int) -> int:
    """One in how many labels is held out where the others are taught to all networks: a half to a tenth of them."""
    return max(2, min(HELD_OUT_ONE_IN, num_rows // WANTED_HELD_OUT))


def count_frozen_rounds(config: FitConfig, *, pretrained: bool) -> int:
    """Rounds on frozen features, at most; without weights one, see `labelclean.train.patches`."""
    if not pretrained:
        return min(config.warm_rounds, 1)
    return config.warm_rounds if config.finetune else config.rounds or max(config.warm_rounds, 1)


def count_tuned_rounds(config: FitConfig, *, pretrained: bool) -> int:
    """Rounds of fine-tuning."""
    return config.rounds or choose_recipe(pretrained=pretrained).rounds


def trains_as_usual(config: FitConfig, *, pretrained: bool) -> bool:
    """Whether a network starts at random and its first round is set as the tool would, so that it learns as much by
    heart; whatever the backbone is."""
    usual = FitConfig()
    return not pretrained and all(getattr(config, name) == getattr(usual, name) for name in LEARNT_BY)


def plan_schedule(config: FitConfig, *, num_rows: int, num_networks: int, pretrained: bool) -> Schedule:
    """The training of N rows by so many networks; a GPU wants a batch size that was settled before."""
    recipe = choose_recipe(pretrained=pretrained)
    batch_size = choose_batch_size(config, num_rows=num_rows, pretrained=pretrained)
    num_rounds = count_tuned_rounds(config, pretrained=pretrained)
    per_row = np.full(num_rounds, recipe.passes_per_row)
    per_row[0] = recipe.first_passes_per_row
    if config.epochs:
        passes = config.epochs * num_rows
    else:
        passes = max(per_row.sum() * num_rows, recipe.min_passes) / num_networks
    learning_rate = config.learning_rate or recipe.learning_rate * math.sqrt(max(1, batch_size / USUAL_BATCH))
    return Schedule(
        steps=tuple(max(1, round(passes * share / batch_size)) for share in per_row / per_row.sum()),
        batch_size=batch_size,
        learning_rate=learning_rate,
        later_rate=None if recipe.later_share is None else recipe.later_share * learning_rate,
        by_entropy=recipe.by_entropy,
        weight_decay=config.weight_decay,
        ema_decay=config.ema_decay,
        mixup=config.mixup,
        lambda_u=config.lambda_u,
        lambda_r=config.lambda_r,
    )
