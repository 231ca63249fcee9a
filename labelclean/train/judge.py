"""One judge: from a scan to a division, purified rows and the next lesson, with the memory of its earlier rounds.

# N rows, K classes
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from labelclean.config import FitConfig
from labelclean.records import EPSILON, UNKNOWN, Division, FloatArray, IntArray, Streams, View, of_label
from labelclean.train.scan import Scan
from labelclean.tssd.division import divide
from labelclean.tssd.purification import Purified, gather_evidence, purify
from labelclean.tssd.semisup import Lesson, correct_prior, first_lesson, make_lesson
from labelclean.tssd.streams import Consensus, channel_streams, mixture_streams, reach_consensus

LEAST_TRUST = 0.01
"""What the vote of a row weighs at least."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Labels:
    """What is given about the judged rows.

    Attributes:
        given: the labels in question, (N,).
        golden: true labels where known, UNKNOWN elsewhere, (N,).
        fold: each row's fold, (N,).
        num_classes: K.
    """

    given: IntArray
    golden: IntArray
    fold: IntArray
    num_classes: int

    @property
    def best_known(self) -> IntArray:
        return np.where(self.golden != UNKNOWN, self.golden, self.given)


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

    @property
    def noise_rates(self) -> tuple[float, float, float]:
        """Estimated share of wrong labels: by the loss stream, the feature stream, and purification."""
        found = (self.streams.p_loss, self.streams.p_feature, self.purified.p_meta)
        loss, feature, meta = (1 - float(p.mean()) for p in found)
        return loss, feature, meta


@dataclass(slots=True)
class Judge:
    """Judges the rows round after round.

    Attributes:
        trust: how much each row's vote weighs, (N,).
        hits: in how many rounds the model predicted each class, (N, K).
        losses: summed losses of the given label, (N,).
        num_rounds: rounds so far.
        anchor: the view of an earlier stage, which stays worth having beside the present one.
        lesson: what to teach next.
    """

    labels: Labels
    config: FitConfig
    trust: FloatArray = field(init=False)
    hits: FloatArray = field(init=False)
    losses: FloatArray = field(init=False)
    num_rounds: int = 0
    anchor: Scan | None = None
    lesson: Lesson = field(init=False)

    def __post_init__(self) -> None:
        num_rows = len(self.labels.given)
        self.trust = np.ones(num_rows)
        self.hits = np.zeros((num_rows, self.labels.num_classes), dtype=np.float32)
        self.losses = np.zeros(num_rows)
        self.lesson = first_lesson(self.labels.best_known, num_classes=self.labels.num_classes)

    def assess(self, scan: Scan, *, rng: np.random.Generator) -> Assessment:
        """One round: scan -> two streams -> parallel division -> meta purification -> the next lesson."""
        labels = self.labels
        views = tuple(
            found.view(labels.given, labels.best_known, self.trust) for found in (self.anchor, scan) if found is not None
        )
        self._remember(scan.probs)
        streams = self._streams(views, rng)
        division = divide(
            streams.p_loss, streams.p_feature, labels.given, trust=self.config.trust, distrust=self.config.distrust
        )
        consensus = reach_consensus(views, labels.given, golden=labels.golden, rng=rng)
        purified = self._purify(views, consensus, division, rng)
        p_clean = purified.p_meta
        self.trust = np.where(labels.golden != UNKNOWN, 1.0, np.maximum(p_clean, LEAST_TRUST))
        self.lesson = make_lesson(
            consensus.prior,
            p_clean,
            labels.given,
            division.positive | purified.accepted,
            golden=labels.golden,
            temperature=self.config.sharpen,
        )
        return Assessment(views=views, consensus=consensus, streams=streams, division=division, purified=purified)

    def _remember(self, probs: FloatArray) -> None:
        self.num_rounds += 1
        self.hits[np.arange(len(probs)), probs.argmax(axis=1)] += 1
        self.losses -= np.log(of_label(probs, self.labels.given) + EPSILON)

    def _streams(self, views: tuple[View, ...], rng: np.random.Generator) -> Streams:
        labels = self.labels
        if self.config.streams == "mixture":
            return mixture_streams(views, labels.given, self.losses / self.num_rounds, rng=rng)
        return channel_streams(views, labels.given, golden=labels.golden, rng=rng)

    def _purify(
        self, views: tuple[View, ...], consensus: Consensus, division: Division, rng: np.random.Generator
    ) -> Purified:
        if not self.config.purification:
            accepted = division.uncertain & (consensus.p_clean > 0.5)
            return Purified(p_meta=consensus.p_clean, accepted=accepted, guards=())
        evidence = gather_evidence(views, consensus, self.hits / self.num_rounds)
        labels = self.labels
        return purify(
            evidence, consensus, division, labels.given, golden=labels.golden, fold=labels.fold, rng=rng
        )

    def corrected_prior(self, assessment: Assessment) -> FloatArray:
        """P(true class | image), its mean pulled to the classes' estimated shares, (N, K)."""
        posterior = assessment.consensus.channel.posterior(assessment.consensus.prior, self.labels.given)
        return correct_prior(assessment.consensus.prior, posterior.mean(axis=0))
