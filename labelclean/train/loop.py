"""The round loop.

    training -> scan -> two streams -> parallel division -> meta purification -> the next lesson

again and again, first on frozen features where the backbone is pre-trained, then with fine-tuning.

# N rows, K classes, D features
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from labelclean.config import FitConfig
from labelclean.records import BoolArray, FloatArray, Reporter, RoundRecord, phase
from labelclean.train.backbone import BackboneSpec
from labelclean.train.checkpoint import Checkpoint
from labelclean.train.device import ImageStore, choose_precision
from labelclean.train.folds import assign_folds
from labelclean.train.heads import FrozenLearner
from labelclean.train.judge import Assessment, Judge, Labels
from labelclean.train.scan import Scan
from labelclean.train.trainer import SCAN_BATCH, Schedule, TunedLearner

Learner = FrozenLearner | TunedLearner


@dataclass(slots=True)
class LoopResult:
    """What the loop leaves behind for the verdicts.

    Attributes:
        judges: one, or two that divided the data for each other.
        assessments: for every round of the last stage, one per judge.
        scans: of the last round, one per judge.
        history: a record per round of all stages.
        learner: with the fitted networks or heads.
    """

    judges: list[Judge]
    assessments: list[list[Assessment]] = field(default_factory=list)
    scans: list[Scan] = field(default_factory=list)
    history: list[RoundRecord] = field(default_factory=list)
    learner: Learner | None = None
    forward_passes: int = 0
    backward_passes: int = 0


class Loop:
    """All that the rounds share."""

    def __init__(
        self,
        labels: Labels,
        groups: FloatArray,
        images: ImageStore,
        spec: BackboneSpec,
        config: FitConfig,
        checkpoint: Checkpoint,
        reporter: Reporter,
    ) -> None:
        self.labels, self.images, self.spec, self.config = labels, images, spec, config
        self.checkpoint, self.reporter = checkpoint, reporter
        rng = np.random.default_rng((config.seed, 1))
        self.half = assign_folds(labels.given, groups, num_folds=2, rng=rng)
        self.result = LoopResult([Judge(labels, config)])

    def run(self) -> LoopResult:
        """All stages, each with its rounds."""
        frozen: FrozenLearner | None = None
        if self.spec.pretrained or not self.config.finetune:
            frozen = self._frozen_learner()
            num_rounds = self.config.warm_rounds if self.config.finetune else self.config.rounds
            self._run_stage("frozen", frozen, num_rounds)
        if self.config.finetune:
            self._run_stage("finetune", self._tuned_learner(frozen), self.config.rounds)
        return self.result

    def _run_stage(self, stage: str, learner: Learner, num_rounds: int) -> None:
        result = self.result
        result.assessments, result.learner = [], learner
        for round_index in range(num_rounds):
            if self.checkpoint.restore(stage, round_index, result, learner):
                continue
            started = time.perf_counter()
            with phase(self.reporter, f"Round {round_index + 1}/{num_rounds}, {stage}", passes_of(learner)):
                learner.train([judge.lesson for judge in result.judges])
                result.scans = learner.scan()
            rng = np.random.default_rng((self.config.seed, 2, stage == "finetune", round_index))
            assessed = [
                judge.assess(scan, rng=rng) for judge, scan in zip(result.judges, result.scans, strict=True)
            ]
            result.assessments.append(assessed)
            result.history.append(record_round(stage, round_index, started, assessed, learner))
            self.checkpoint.save(stage, round_index, result, learner)
