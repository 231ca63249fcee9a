"""One judge: from a scan to a division, purified rows and the next lesson, with the memory of its earlier rounds.

# N rows, K classes
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from labelclean.config import FitConfig
from labelclean.records import (
    EPSILON,
    UNKNOWN,
    BoolArray,
    Division,
    FloatArray,
    IntArray,
    Labels,
    Streams,
    View,
    is_class,
    of_label,
)
from labelclean.train.scan import Scan
from labelclean.tssd.division import chance_signs, divide, most_trusted
from labelclean.tssd.level import ENOUGH_SEEN, Opinion, hear_channel, hear_channel_of_few
from labelclean.tssd.numbers import log_odds, sigmoid
from labelclean.tssd.purification import Purified, gather_evidence, purify
from labelclean.tssd.resistance import find_resistance
from labelclean.tssd.semisup import Lesson, first_lesson, make_lesson
from labelclean.tssd.shrinkage import PULL, PULL_FROM_SCRATCH, PULL_OF_FEW, Pull
from labelclean.tssd.streams import Consensus, channel_streams, heed_features, mixture_streams, reach_consensus
from labelclean.tssd.unteaching import unteach

VOTES_BY = "p_loss"
"""The running mean by which a row's vote weighs. By one that looks at the neighbours too a vote would come back, by way
of those that it made believed, to the row that cast it."""

LEAST_TRUST = 0.01
"""What the vote of a row weighs at least."""

NEWEST = 0.5
"""Weight of the newest round in the running means: rounds that contradict each other do not swing to and fro."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Assessment:
    """What a round found out about every row."""

    views: tuple[View, ...]
    consensus: Consensus
    streams: Streams
    division: Division
    purified: Purified

    @property
    def guards(self) -> tuple[str, ...]:
        return (*self.streams.guards, *self.division.guards, *self.purified.guards)


class Judge:
    """Judges the rows round after round.

    Attributes:
        trust: how much each row's vote weighs, (N,).
        hits: in how many rounds the model predicted the given label, (N,).
        losses: summed losses of the given label over all rounds, (N,).
        num_rounds: rounds so far.
        means: running means over the stage's rounds, see `_average`, by name: log-odds of the streams and of p_meta,
            agreement with the neighbours and loss of the label, (N,) each; prior, (N, K). Empty before a stage's first
            round.
        change: how far p_meta moved in the last round, in the mean of the rows.
        anchor: the last scan of an earlier stage, which stays worth having beside the present one.
        unswayed: the first view of the frozen features, with all votes alike. It stays beside the later ones, which
            follow from what was made of the labels and go astray with it; None before, and from a random start, where
            the anchor is such a view.
        from_scratch: whether the networks of this stage started at random.
        share_right: of the labels, where the first round of a random start settled it; else None.
        by_resistance: whether what the first round's teaching does to labels has a say in how many are right.
        opinions: on how many are right, which a random start's first round gave; else none.
        lesson: what to teach next.
    """

    def __init__(self, labels: Labels, config: FitConfig) -> None:
        self.labels, self.config = labels, config
        num_rows = len(labels.given)
        self.trust = self._even_trust()
        self.hits: FloatArray = np.zeros(num_rows)
        self.losses: FloatArray = np.zeros(num_rows)
        self.num_rounds = 0
        self.anchor: Scan | None = None
        self.lesson = first_lesson(labels.best_known, labels.refuted, num_classes=labels.num_classes)
        self.unswayed: View | None = None
        self.start_stage(None)

    @property
    def pull(self) -> Pull:
        """How it is found how strongly noise channels are drawn to their plainest form."""
        if not self.from_scratch:
            return PULL
        return PULL_FROM_SCRATCH if len(self.labels.given) >= ENOUGH_SEEN else PULL_OF_FEW

    def start_stage(self, anchor: Scan | None, *, from_scratch: bool = False, by_resistance: bool = False) -> None:
        """Forget the means; from here on the anchor's view is looked at too.

        Args:
            from_scratch: the networks start at random. The first round then settles for good how many labels are
                right and stays in the means, and it is believed less that one class is mislabelled more than another.
            by_resistance: their first round is such a training as `labelclean.tssd.resistance` reckons with.
        """
        self.anchor, self.from_scratch, self.by_resistance = anchor, from_scratch, by_resistance
        self.share_right: float | None = None
        self.opinions: tuple[Opinion, ...] = ()
        self.means: dict[str, FloatArray] = {}
        self.change = np.inf

    def see_unswayed(self, scan: Scan) -> None:
        """Take up again what the first scan of the frozen features showed, with all votes alike."""
        labels = self.labels
        self.unswayed = scan.view(labels.given, labels.best_known, self._even_trust(), labels.groups)

    def _even_trust(self) -> FloatArray:
        """What votes weigh before anything is found: all the same, but for labels that are known to be wrong, (N,)."""
        return np.where(self.labels.refuted, LEAST_TRUST, 1.0)

    def assess(self, scan: Scan, *, rng: np.random.Generator) -> Assessment:
        """One round: scan -> two streams -> parallel division -> meta purification -> the next lesson."""
        labels, config = self.labels, self.config
        views = (*self._earlier_views(), self._look(scan))
        self._remember(views[-1].probs)
        streams = self._streams(views, rng)
        division = divide(streams.p_loss, streams.p_feature, labels.given, trust=config.trust, distrust=config.distrust)
        division = replace(division, guards=(*division.guards, *self._chance_signs(scan)))
        consensus = reach_consensus(views, labels.given, golden=labels.true, pull=self.pull, rng=rng)
        if config.streams == "channel" and not self.from_scratch:
            consensus = heed_features(consensus, streams.p_feature)
        purified = self._purify(views, consensus, division, rng)
        if self.from_scratch and self.share_right is None:
            self.share_right = float(purified.p_meta.mean())
            self.opinions = self._hear_opinions(scan, consensus)
        assessment = Assessment(views=views, consensus=consensus, streams=streams, division=division, purified=purified)
        self._average(assessment)
        p_clean = np.where(labels.refuted, 0, sigmoid(self.means["p_meta"]))
        believed = np.maximum(sigmoid(self.means[VOTES_BY]), LEAST_TRUST)
        self.trust = np.select([is_class(labels.golden), labels.refuted], [1.0, LEAST_TRUST], believed)
        self.lesson = make_lesson(
            consensus.prior,
            p_clean,
            labels.given,
            self._believed(p_clean, division, purified),
            golden=labels.true,
            temperature=config.sharpen,
        )
        return assessment

    def _believed(self, p_clean: FloatArray, division: Division, purified: Purified) -> BoolArray:
        """Rows whose label the next lesson believes, (N,)."""
        if self.from_scratch:
            return most_trusted(p_clean, self.labels.given)
        return (division.positive | purified.accepted) & ~self.labels.refuted

    def _earlier_views(self) -> tuple[View, ...]:
        """What is looked at beside the present scan: the unswayed view and the anchor, as far as there are any."""
        unswayed = () if self.unswayed is None else (self.unswayed,)
        return unswayed if self.anchor is None else (*unswayed, self._look(self.anchor))

    def _look(self, scan: Scan) -> View:
        """The class scores of a scan, from which what teaching did to taught labels is taken off."""
        labels = self.labels
        view = scan.view(labels.given, labels.best_known, self.trust, labels.groups)
        held_out = self._held_out(scan)
        return view if held_out is None else unteach(view, labels.given, taught=scan.taught, held_out=held_out)

    def _chance_signs(self, scan: Scan) -> tuple[str, ...]:
        """What shows that the scan knows nothing of labels that were not taught, in words."""
        rows = np.flatnonzero(~scan.taught & (self.labels.golden == UNKNOWN))
        return chance_signs(scan.probs[rows].argmax(axis=1), self.labels.given[rows]) if len(rows) else ()

    def _held_out(self, scan: Scan) -> BoolArray | None:
        """Rows whose labels were not taught, (N,); None unless there are some of both.

        Golden ones, which are no random choice, are left out.
        """
        held_out = ~scan.taught & (self.labels.golden == UNKNOWN)
        return held_out if scan.taught.any() and held_out.any() else None

    def _hear_opinions(self, scan: Scan, consensus: Consensus) -> tuple[Opinion, ...]:
        """The channel's, as far as rows are few and as noise is even, and what teaching did to labels.

        The last only where some labels were held out, and as far as noise is not even.
        """
        labels, share_right = self.labels.given, float(consensus.p_clean.mean())
        of_few = hear_channel_of_few(len(labels), share_right=share_right)
        of_channel = hear_channel(consensus.prior, labels, share_right=share_right)
        held_out = self._held_out(scan) if self.by_resistance else None
        if held_out is None:
            return of_few, of_channel
        of_teaching = find_resistance(scan.probs.argmax(axis=1), labels, taught=scan.taught, held_out=held_out)
        return of_few, of_channel, replace(of_teaching, weight=(1 - of_channel.weight) * of_teaching.weight)

    def _remember(self, probs: FloatArray) -> None:
        self.num_rounds += 1
        self.hits += probs.argmax(axis=1) == self.labels.given
        self.losses += _loss(probs, self.labels.given)

    def _streams(self, views: tuple[View, ...], rng: np.random.Generator) -> Streams:
        labels = self.labels
        if self.config.streams == "mixture":
            return mixture_streams(views, labels.given, self.losses / self.num_rounds, rng=rng)
        return channel_streams(views, labels.given, golden=labels.true, pull=self.pull, rng=rng)

    def _purify(
        self, views: tuple[View, ...], consensus: Consensus, division: Division, rng: np.random.Generator
    ) -> Purified:
        labels = self.labels
        if not self.config.purification:
            accepted = division.uncertain & (consensus.p_clean > 0.5)
            return Purified(p_meta=consensus.p_clean, accepted=accepted, guards=())
        return purify(
            gather_evidence(views, consensus),
            consensus,
            division,
            labels.given,
            golden=labels.golden,
            fold=labels.fold,
            share_right=self.share_right,
            rng=rng,
        )

    def _average(self, assessment: Assessment) -> None:
        """Take the round into the means.

        The first one, that trusted every label, is left out from the second on, but not from a random start, where it
        has the most of the training.
        """
        views = assessment.views
        found = {
            "p_loss": log_odds(assessment.streams.p_loss),
            "p_feature": log_odds(assessment.streams.p_feature),
            "p_meta": log_odds(assessment.purified.p_meta),
            "agreement": _mean_where_known([view.agreement for view in views]),
            "loss": _loss(views[-1].probs, self.labels.given),
            "prior": assessment.consensus.prior,
        }
        before = self.means
        joins = bool(before) and (self.from_scratch or self.num_rounds > 2)
        self.means = {
            name: NEWEST * values + (1 - NEWEST) * before[name] if joins else values for name, values in found.items()
        }
        if before:
            self.change = float(np.abs(sigmoid(self.means["p_meta"]) - sigmoid(before["p_meta"])).mean())

    def state(self) -> dict[str, FloatArray]:
        """Everything that a later round depends on but for the anchor and the unswayed view, as arrays."""
        lesson = self.lesson
        state: dict[str, Any] = {f"mean_{name}": values for name, values in self.means.items()}
        state |= {"trust": self.trust, "hits": self.hits, "losses": self.losses}
        state |= {"labelled": lesson.labelled, "targets": lesson.targets}
        state |= {"guesses": lesson.guesses, "weights": lesson.weights}
        state["num_rounds"] = np.array([self.num_rounds])
        if self.share_right is not None:
            state["share_right"] = np.array([self.share_right])
            state["opinions"] = np.array([(opinion.share_right, opinion.weight) for opinion in self.opinions])
        return state

    def restore(self, state: dict[str, FloatArray]) -> None:
        """Take up a stored state."""
        self.trust, self.hits, self.losses = state["trust"], state["hits"], state["losses"]
        self.means = {name.removeprefix("mean_"): values for name, values in state.items() if name.startswith("mean_")}
        self.num_rounds = int(state["num_rounds"].item())
        self.share_right = float(state["share_right"].item()) if "share_right" in state else None
        self.opinions = tuple(Opinion(*opinion) for opinion in state.get("opinions", np.empty(0)).tolist())
        self.lesson = Lesson(
            labelled=np.asarray(state["labelled"], dtype=bool),
            targets=state["targets"],
            guesses=state["guesses"],
            weights=state["weights"],
        )


def _loss(probs: FloatArray, labels: IntArray) -> FloatArray:
    """Cross-entropy of the labels in nats, not below 0, (N,)."""
    return np.asarray(-np.log(np.clip(of_label(probs, labels), EPSILON, 1)))


def _mean_where_known(values: Sequence[FloatArray]) -> FloatArray:
    """Mean of what several views know, NaN where none does, (N,) each -> (N,)."""
    table = np.stack(values)
    known = ~np.isnan(table)
    return np.asarray(np.where(known, table, 0).sum(axis=0) / np.where(known.any(axis=0), known.sum(axis=0), np.nan))
