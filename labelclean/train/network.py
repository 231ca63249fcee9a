"""A network in training: its moving average, and how far it is in its round, so that it can be carried on from there.

# N rows
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from labelclean.records import BoolArray
from labelclean.train.backbone import Backbone


class Stint:
    """The training of one network in one round.

    Attributes:
        rng, augmenting: what is drawn comes from these and, for layers that draw for themselves as dropout does, from
            torch's own generators.
        steps: optimiser steps that are done.
        rows: image passes that they took.
        loss: summed over these.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        """Seeds torch's own generators, too."""
        self.device = device
        self.rng = np.random.default_rng(seed)
        self.augmenting = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)
        self.steps = self.rows = 0
        self.loss = 0.0

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the stint depends on."""
        state = {
            "rng": json.dumps(self.rng.bit_generator.state),
            "augmenting": self.augmenting.get_state(),
            "layers": torch.get_rng_state(),
            "done": (self.steps, self.rows, self.loss),
            "device": self.device.type,
        }
        if self.device.type == "cuda":
            state["layers_on_gpu"] = torch.cuda.get_rng_state(self.device)
        elif self.device.type == "mps":
            state["layers_on_gpu"] = torch.mps.get_rng_state()
        return state

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a stored state; where it was made on another kind of device, layers draw anew."""
        self.rng.bit_generator.state = json.loads(state["rng"])
        self.augmenting.set_state(state["augmenting"])
        torch.set_rng_state(state["layers"])
        self.steps, self.rows, self.loss = state["done"]
        if self.device.type == state["device"] == "cuda":
            torch.cuda.set_rng_state(state["layers_on_gpu"], self.device)
        elif self.device.type == state["device"] == "mps":
            torch.mps.set_rng_state(state["layers_on_gpu"])


@dataclass(slots=True)
class Network:
    """A network in training.

    Attributes:
        average: the moving average of the model, which scans the data.
        teaches: rows whose label it may see, (N,).
        judges: rows that it scans for their verdict, (N,).
        step: optimiser steps in all rounds.
        stint: in the present round; None before it has begun.
        kept: the state of a stint that was interrupted, until it is taken up.
    """

    model: Backbone
    average: Backbone
    optimizer: torch.optim.Optimizer
    teaches: BoolArray
    judges: BoolArray
    step: int = 0
    stint: Stint | None = None
    kept: dict[str, Any] | None = None

    def state(self) -> dict[str, Any]:
        """Everything that its training from here on depends on."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "stint": self.kept if self.stint is None else self.stint.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a stored state."""
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.kept = state["step"], state["stint"]


@torch.no_grad()
def update_average(average: Backbone, model: Backbone, *, decay: float, step: int) -> None:
    """Move the average towards the model; early on faster, so that the random start is soon forgotten."""
    decay = min(decay, (1 + step) / (10 + step))
    pairs = list(zip(average.state_dict().values(), model.state_dict().values(), strict=True))
    means, values = zip(*((mean, value) for mean, value in pairs if mean.dtype.is_floating_point), strict=True)
    torch._foreach_lerp_(means, values, 1 - decay)
    for mean, value in pairs:
        if not mean.dtype.is_floating_point:
            mean.copy_(value)
