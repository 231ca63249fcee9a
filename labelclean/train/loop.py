"""The round loop.

    training -> scan -> two streams -> parallel division -> meta purification -> the next lesson

again and again: first on frozen features, then with fine-tuning. The three efforts are configurations of this one loop.

# N rows, K classes, D features
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from labelclean.config import FitConfig
from labelclean.records import UNKNOWN, BoolArray, FloatArray, Labels, Reporter, RoundRecord, phase
from labelclean.train.backbone import BackboneSpec
from labelclean.train.checkpoint import Checkpoint, KeptRound
from labelclean.train.device import ImageStore
from labelclean.train.folds import assign_folds
from labelclean.train.frozen import scan_frozen
from labelclean.train.heads import FrozenLearner
from labelclean.train.judge import Assessment, Judge
from labelclean.train.scan import Scan
from labelclean.train.schedule import (
    choose_judge,
    count_frozen_rounds,
    hold_out_one_in,
    plan_schedule,
    trains_as_usual,
)
from labelclean.train.trainer import TunedLearner

Learner = FrozenLearner | TunedLearner

SETTLED, ROWS_OF_SETTLED = 0.002, 4000
"""Rounds on frozen features end when p_meta moves by less, in the mean of so many rows or more. Of fewer it may move
more, in inverse proportion: they tell less, and later rounds lose what the first ones knew."""

KEEP_EVERY, KEEP_SHARE = 120.0, 0.05
"""Seconds of training after which the state is kept also within a round; more, where keeping it would otherwise take
more than this share of the time."""


@dataclass(slots=True)
class LoopResult:
    """What the rounds leave behind for the verdicts.

    Attributes:
        judges: one, or two that divided the data for each other.
        scans: of the last round, one per judge.
        history: a record per round of all stages.
        learner: with the fitted networks or heads.
        judge: who judged the rows; heads are always cross-fitted.
        seconds_before: that rounds took in processes that were interrupted.
        forward_passes, backward_passes: images that went through a backbone, each way, or were compared with patches.
    """

    judges: list[Judge]
    scans: list[Scan] = field(default_factory=list)
    history: list[RoundRecord] = field(default_factory=list)
    learner: Learner | None = None
    judge: str = "crossfit"
    seconds_before: float = 0.0
    forward_passes: int = 0
    backward_passes: int = 0


class RoundLoop:
    """The stages of a fit and what they share.

    Attributes:
        keep_at: when the state is kept next, by `time.perf_counter`.
    """

    keep_at: float

    def __init__(
        self,
        labels: Labels,
        images: ImageStore,
        spec: BackboneSpec,
        config: FitConfig,
        *,
        checkpoint: Checkpoint,
        reporter: Reporter,
    ) -> None:
        self.labels, self.images, self.spec, self.config = labels, images, spec, config
        self.checkpoint, self.reporter = checkpoint, reporter
        self.result = LoopResult([Judge(labels, config)])

    def run(self) -> LoopResult:
        """All stages, each with its rounds, or what an interrupted run has left of them."""
        config, result = self.config, self.result
        kept = self.checkpoint.load_round()
        frozen = anchor = None
        num_frozen = count_frozen_rounds(config, pretrained=self.spec.pretrained)
        if num_frozen:
            frozen = self._frozen_learner()
            if kept is None:
                self._run_rounds("frozen", frozen, 0, num_frozen)
                anchor = result.scans[0]
            else:
                anchor = frozen.recall(kept.arrays["anchor_probs"])
                if "unswayed_probs" in kept.arrays:
                    result.judges[0].see_unswayed(frozen.recall(kept.arrays["unswayed_probs"]))
        if config.finetune:
            tuned = self._tuned_learner(frozen if kept is None and self.spec.pretrained else None)
            frozen = None  # its features would stay in memory through all of the training
            result.judge = tuned.judge
            self._start_judges(tuned, anchor)
            first_round, spent = 0, 0.0
            if kept is not None:
                first_round, spent = kept.number, kept.seconds
                self._take_up(kept, tuned)
                kept = None  # the networks have copied it
            self._run_rounds("finetune", tuned, first_round, len(tuned.schedule.steps), spent=spent)
        return result

    def _run_rounds(
        self, stage: str, learner: Learner, first_round: int, num_rounds: int, *, spent: float = 0.0
    ) -> None:
        """The loop itself; of the first round an interrupted process may have spent some seconds."""
        result = self.result
        result.learner = learner
        self.keep_at = time.perf_counter() + KEEP_EVERY
        limit = f"at most {num_rounds}" if isinstance(learner, FrozenLearner) else str(num_rounds)
        for index in range(first_round, num_rounds):
            started, spent = time.perf_counter() - spent, 0.0
            with phase(self.reporter, f"{stage.capitalize()} round {index + 1} of {limit}", learner.round_passes):
                self._train(index, learner, started)
                result.scans = learner.scan(advance=self.reporter.advance)
            rng = np.random.default_rng((self.config.seed, 2, int(stage == "finetune"), index))
            assessed = [judge.assess(scan, rng=rng) for judge, scan in zip(result.judges, result.scans, strict=True)]
            self._record(stage, index, time.perf_counter() - started, assessed, learner)
            if isinstance(learner, FrozenLearner):
                (judge,), (found,) = result.judges, assessed
                judge.unswayed = judge.unswayed or found.views[0]
                if judge.change < SETTLED * max(1.0, ROWS_OF_SETTLED / len(self.labels.given)):
                    break
            elif index + 1 < num_rounds:
                self._keep(index + 1, learner)

    def _train(self, index: int, learner: Learner, started: float) -> None:
        """Teach the judges' lessons; a long round is kept now and then."""

        def advance(units: int) -> None:
            self.reporter.advance(units)
            if isinstance(learner, TunedLearner) and time.perf_counter() >= self.keep_at:
                self._keep(index, learner, seconds=time.perf_counter() - started)

        learner.train([judge.lesson for judge in self.result.judges], advance=advance)

    def _frozen_learner(self) -> FrozenLearner:
        """Heads on features that are computed once."""
        features = self.checkpoint.load_features()
        num_passes = 2 * len(self.labels.given)
        self.result.forward_passes += num_passes  # by this process or by the one that was interrupted
        if features is None:
            what = "Frozen features" if self.spec.pretrained else "Patches of the images"
            with phase(self.reporter, what, num_passes):
                features = scan_frozen(self.spec, self.images, seed=self.config.seed, advance=self.reporter.advance)
            self.checkpoint.save_features(features)
        return FrozenLearner(
            features,
            self.labels.fold,
            self.labels.groups,
            num_neighbors=self.config.num_neighbors,
            device=self.images.device,
        )

    def _tuned_learner(self, frozen: FrozenLearner | None) -> TunedLearner:
        """Networks at their start: pre-trained bodies with fitted heads, or all at random."""
        config, labels, num_rows = self.config, self.labels, len(self.labels.given)
        is_golden = labels.golden != UNKNOWN
        judge = choose_judge(
            config, num_rows=num_rows, num_golden=int(is_golden.sum()), pretrained=self.spec.pretrained
        )
        num_networks = 1 if judge == "self" else 2
        schedule = plan_schedule(config, num_rows=num_rows, num_networks=num_networks, pretrained=self.spec.pretrained)
        rng = np.random.default_rng((config.seed, 1))
        half, held_out = (
            assign_folds(labels.given, labels.groups, num_folds=number, rng=rng)
            for number in (2, hold_out_one_in(num_rows))
        )
        learner = TunedLearner(
            self.spec,
            self.images,
            schedule,
            judge=judge,
            half=half,
            held_out=(held_out == 0) | is_golden,
            groups=labels.groups,
            num_neighbors=config.num_neighbors,
            bf16=config.precision == "bf16",
            seed=config.seed,
        )
        if frozen is not None:
            lesson = self.result.judges[0].lesson

            def head_for(taught: BoolArray) -> tuple[FloatArray, FloatArray]:
                return frozen.head_for(np.flatnonzero(taught), lesson)

            learner.set_heads(head_for)
        return learner

    def _start_judges(self, learner: TunedLearner, anchor: Scan | None) -> None:
        """Prepare the judges for fine-tuning: a second one where two divide the data for each other.

        A random start is taught the labels as they are, and judged as if nothing was before: patches are worth having
        beside the network, but see too little to teach it.
        """
        result = self.result
        if not self.spec.pretrained:
            result.judges = [Judge(self.labels, self.config)]
        if learner.judge == "peer":
            twin = Judge(self.labels, self.config)
            twin.restore({name: values.copy() for name, values in result.judges[0].state().items()})
            twin.unswayed = result.judges[0].unswayed
            result.judges.append(twin)
        usual = learner.judge == "self" and trains_as_usual(self.config, pretrained=self.spec.pretrained)
        for judge in result.judges:
            judge.start_stage(anchor, from_scratch=not self.spec.pretrained, by_resistance=usual)

    def _take_up(self, kept: KeptRound, learner: TunedLearner) -> None:
        """Go on where an interrupted run was kept."""
        result = self.result
        result.history = kept.history
        result.seconds_before = kept.seconds + sum(record.seconds for record in kept.history)
        for place, judge in enumerate(result.judges):
            prefix = f"{place}/"
            own = {name.removeprefix(prefix): array for name, array in kept.arrays.items() if name.startswith(prefix)}
            judge.restore(own)
        result.forward_passes, result.backward_passes = (int(count) for count in kept.arrays["passes"])
        learner.restore(kept.learner)

    def _keep(self, number: int, learner: TunedLearner, *, seconds: float = 0.0) -> None:
        """Keep all that the rounds from `number` on depend on; of that one some seconds may be spent."""
        result, began = self.result, time.perf_counter()
        arrays = {
            f"{place}/{name}": values
            for place, judge in enumerate(result.judges)
            for name, values in judge.state().items()
        }
        arrays["passes"] = np.array([result.forward_passes, result.backward_passes])
        anchor, unswayed = result.judges[0].anchor, result.judges[0].unswayed
        if anchor is not None:
            arrays["anchor_probs"] = anchor.probs
        if unswayed is not None:
            arrays["unswayed_probs"] = unswayed.probs
        kept = KeptRound(number=number, seconds=seconds, arrays=arrays, learner=learner.state(), history=result.history)
        self.checkpoint.save_round(kept)
        ended = time.perf_counter()
        self.keep_at = ended + max(KEEP_EVERY, (ended - began) / KEEP_SHARE)

    def _record(self, stage: str, index: int, seconds: float, assessed: Sequence[Assessment], learner: Learner) -> None:
        """Write the round into the history."""
        result = self.result
        forward, backward = learner.take_passes()
        result.forward_passes += forward
        result.backward_passes += backward
        bins = np.concatenate([found.division.bins for found in assessed])
        share_positive, share_negative, share_uncertain = np.bincount(bins, minlength=3) / len(bins)
        rates = NoiseRates(*np.mean([noise_rates(found) for found in assessed], axis=0).tolist())
        hits = [scan.probs.argmax(axis=1) == self.labels.given for scan in result.scans]
        result.history.append(
            RoundRecord(
                stage=stage,
                round=index,
                seconds=seconds,
                share_positive=float(share_positive),
                share_negative=float(share_negative),
                share_uncertain=float(share_uncertain),
                share_accepted=float(np.mean([found.purified.accepted.mean() for found in assessed])),
                noise_rate=rates.meta,
                noise_rate_loss=rates.loss,
                noise_rate_feature=rates.feature,
                agreement=float(np.mean(hits)),
                train_loss=learner.train_loss,
                forward_passes=forward,
                backward_passes=backward,
                guards=tuple(dict.fromkeys(guard for found in assessed for guard in found.guards)),
            )
        )


class NoiseRates(NamedTuple):
    """Estimated share of wrong labels: by the loss stream, the feature stream, and purification."""

    loss: float
    feature: float
    meta: float


def noise_rates(found: Assessment) -> NoiseRates:
    """What a round makes of all labels together."""
    judged = (found.streams.p_loss, found.streams.p_feature, found.purified.p_meta)
    return NoiseRates(*(1 - float(p.mean()) for p in judged))
