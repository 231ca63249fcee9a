"""What an unfinished run keeps on disk, so that it can be carried on after an interruption.

The frozen features are kept once they are computed, and the networks with all that the judges remember after every
fine-tuning round and, in a long one, every few minutes. Arrays are stored without pickling, tensors are read with
`weights_only`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from labelclean.errors import damaged_checkpoint
from labelclean.files import write_atomically
from labelclean.records import FloatArray, RoundRecord
from labelclean.train.frozen import FrozenFeatures


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptRound:
    """Everything that the fine-tuning rounds from `number` on depend on.

    Attributes:
        number: of the round that comes next, or was under way.
        seconds: that were spent on it.
        arrays: of the judges, by name.
        learner: the learner's state.
        history: of the rounds before.
    """

    number: int
    seconds: float
    arrays: dict[str, FloatArray]
    learner: dict[str, Any]
    history: list[RoundRecord]


class Checkpoint:
    """The folder of an unfinished run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.features_file = folder / "features.safetensors"
        self.round_file = folder / "round.pt"

    def load_features(self) -> FrozenFeatures | None:
        """The frozen features, where they were computed before.

        Raises:
            RunFolderError: the file is damaged.
        """
        if not self.features_file.exists():
            return None
        try:
            return FrozenFeatures(**load_file(self.features_file))
        except (OSError, SafetensorError, TypeError) as error:
            raise damaged_checkpoint(self.features_file, error) from error

    def save_features(self, features: FrozenFeatures) -> None:
        """Keep the frozen features."""
        arrays = {field.name: getattr(features, field.name) for field in dataclasses.fields(features)}
        self._write(self.features_file, lambda file: save_file(arrays, file))

    def save_round(self, kept: KeptRound) -> None:
        """Keep a round, in the place of the one before."""
        state = {
            "number": kept.number,
            "seconds": kept.seconds,
            "arrays": {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in kept.arrays.items()},
            "learner": kept.learner,
            "history": json.dumps([dataclasses.asdict(record) for record in kept.history]),
        }
        self._write(self.round_file, lambda file: torch.save(state, file))

    def load_round(self) -> KeptRound | None:
        """The round that was kept last; None: there is none.

        Raises:
            RunFolderError: the file is damaged.
        """
        if not self.round_file.exists():
            return None
        try:
            state = torch.load(self.round_file, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
            raise damaged_checkpoint(self.round_file, error) from error
        history = [RoundRecord(**{**entry, "guards": tuple(entry["guards"])}) for entry in json.loads(state["history"])]
        return KeptRound(
            number=state["number"],
            seconds=state["seconds"],
            arrays={name: tensor.numpy() for name, tensor in state["arrays"].items()},
            learner=state["learner"],
            history=history,
        )

    def clear(self) -> None:
        """Take away what was computed."""
        for file in (self.round_file, self.features_file):
            file.unlink(missing_ok=True)

    def _write(self, file: Path, write: Callable[[Path], None]) -> None:
        def write_part(part: Path) -> None:
            try:
                write(part)
            except (RuntimeError, SafetensorError) as error:  # so torch and safetensors report a full disk
                raise OSError(str(error).splitlines()[0]) from error

        write_atomically(file, write_part, hint="Free space on that disk, then repeat the command with --resume.")
