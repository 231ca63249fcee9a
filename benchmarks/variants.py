"""The method with one part changed: settings, and stand-ins for the functions in question.

# N rows, K classes
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from sklearn.mixture import GaussianMixture

from labelclean.records import EPSILON, BoolArray, Division, FloatArray, IntArray, Streams, View, of_label
from labelclean.train.frozen import FrozenFeatures
from labelclean.train.heads import FrozenLearner
from labelclean.train.judge import Judge
from labelclean.tssd.channel import fit_channel
from labelclean.tssd.division import divide
from labelclean.tssd.mixture import MixtureFit
from labelclean.tssd.purification import Evidence, Pair, gather_evidence, training_pairs
from labelclean.tssd.shrinkage import FREE, Pull
from labelclean.tssd.streams import Consensus, feature_scores, loss_scores

ALL_EFFORTS = ("quick", "standard", "thorough")
TUNED = ("standard", "thorough")

Scores = Callable[[Sequence[View]], list[FloatArray]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """A row of the ablation.

    Attributes:
        name: in the table.
        efforts: at which it is run.
        settings: of the fit, over those of the grid file.
        stand_ins: what takes the place of a name, by the name's dotted path.
        num_golden: golden rows.
        chosen: golden rows are those that `labelclean golden` would choose from a run without them; else random ones.
    """

    name: str
    efforts: tuple[str, ...] = ALL_EFFORTS
    settings: dict[str, Any] = field(default_factory=dict)
    stand_ins: dict[str, Any] = field(default_factory=dict)
    num_golden: int = 0
    chosen: bool = False


def one_stream(scores: Scores, kept: slice) -> dict[str, Any]:
    """Stand-ins that leave one stream: for both posteriors, for the consensus, and as evidence."""

    def streams(
        views: Sequence[View], labels: IntArray, *, golden: IntArray, pull: Pull, rng: np.random.Generator
    ) -> Streams:
        channel = fit_channel(scores(views), labels, golden=golden, pull=pull, rng=rng)
        p = of_label(channel.posterior(channel.prior(scores(views)), labels), labels)
        return Streams(p_loss=p, p_feature=p, guards=())

    def evidence(views: Sequence[View], consensus: Consensus) -> Evidence:
        whole = gather_evidence(views, consensus)
        tables = [table for place, table in enumerate(whole.tables) if place % 3 in range(3)[kept]]
        return replace(whole, tables=tuple(tables))

    absent = "loss_scores" if scores is feature_scores else "feature_scores"
    return {
        "labelclean.train.judge.channel_streams": streams,
        "labelclean.train.judge.gather_evidence": evidence,
        f"labelclean.tssd.streams.{absent}": lambda views: [],
    }


def without_odds(views: Sequence[View], consensus: Consensus) -> Evidence:
    """The evidence without what the channel says of each label."""
    whole = gather_evidence(views, consensus)
    return replace(whole, clean_odds=np.zeros_like(whole.clean_odds))


def pairs_without(kind: str) -> dict[str, Any]:
    """Stand-in for the training pairs: no drawn wrong labels, or no certain negatives."""

    def pairs(
        consensus: Consensus, division: Division, labels: IntArray, *, golden: IntArray, rng: np.random.Generator
    ) -> tuple[Pair, Pair]:
        right, (rows, wrong) = training_pairs(consensus, division, labels, golden=golden, rng=rng)
        given = labels[rows] == wrong
        use = given if kind == "drawn" else ~given
        return right, (rows[use], wrong[use])

    return {"labelclean.tssd.purification.training_pairs": pairs}


class OutputLearner(FrozenLearner):
    """Heads and neighbours that see the backbone's standardised output, and nothing of the layers before."""

    def __init__(self, features: FrozenFeatures, fold: IntArray, groups: IntArray, **settings: Any) -> None:
        output = features.output
        mean, std = output.mean(axis=0), output.std(axis=0) + EPSILON
        of_output = FrozenFeatures(output=output, scores=(output - mean) / std, mean=mean, axes=np.diag(1 / std))
        super().__init__(of_output, fold, groups, **settings)


class SwayedJudge(Judge):
    """A judge that looks at no unswayed view."""

    def _earlier_views(self) -> tuple[View, ...]:
        return () if self.anchor is None else (self._look(self.anchor),)


def draw_evenly(chances: FloatArray, labels: IntArray, rng: np.random.Generator) -> IntArray:
    """Any other label, each as likely as the next, (N,)."""
    num_classes = chances.shape[1]
    return np.asarray((labels + rng.integers(1, num_classes, len(labels))) % num_classes)


def level_as_found(odds: FloatArray, prior: FloatArray, labels: IntArray) -> FloatArray:
    """The log-odds as they are."""
    return odds


def all_on_topic(prior: FloatArray, labels: IntArray, **about: Any) -> FloatArray:
    """Probability that a picture shows none of the classes, if all show one, (N,)."""
    return np.zeros(len(labels))


def divide_unguarded(
    p_loss: FloatArray, p_feature: FloatArray, labels: IntArray, *, trust: float, distrust: float
) -> Division:
    """The division of each row, whatever becomes of its class."""
    alone = np.zeros(len(labels), dtype=labels.dtype)
    return divide(p_loss, p_feature, alone, trust=trust, distrust=distrust)


def split_always(scores: FloatArray, labels: IntArray, agreement: BoolArray, *, rng: np.random.Generator) -> MixtureFit:
    """Two Gaussians for all rows together, whether there are two groups or one."""
    column = scores[:, None]
    found = GaussianMixture(2, reg_covar=5e-4, random_state=int(rng.integers(2**31))).fit(column)
    return MixtureFit(posterior=found.predict_proba(column)[:, int(found.means_.argmax())], guards=())


VARIANTS = (
    Variant(name="as it is"),
    Variant(name="loss stream only", stand_ins=one_stream(loss_scores, slice(0, 1))),
    Variant(name="feature stream only", stand_ins=one_stream(feature_scores, slice(1, 3))),
    Variant(name="frozen features: the output alone", stand_ins={"labelclean.train.loop.FrozenLearner": OutputLearner}),
    Variant(name="neighbours not whitened", stand_ins={"labelclean.train.heads.whitened": lambda scores: scores}),
    Variant(name="no unswayed view", stand_ins={"labelclean.train.loop.Judge": SwayedJudge}),
    Variant(name="votes by the meta-classifier", stand_ins={"labelclean.train.judge.VOTES_BY": "p_meta"}),
    Variant(name="streams by mixture", settings={"streams": "mixture"}),
    Variant(
        name="streams by mixture, guards off",
        settings={"streams": "mixture"},
        stand_ins={
            "labelclean.tssd.streams.clean_posterior": split_always,
            "labelclean.train.judge.divide": divide_unguarded,
        },
    ),
    Variant(
        name="division without guard",
        stand_ins={"labelclean.train.judge.divide": divide_unguarded},
    ),
    Variant(name="0.7 certain in the last division", settings={"certain": 0.7}),
    Variant(name="0.95 certain in every division", settings={"trust": 0.95}),
    Variant(
        name="channel not drawn together",
        stand_ins={"labelclean.tssd.channel_search.fit_shrinkage": lambda counts, least_pull: FREE},
    ),
    Variant(name="classes not drawn together by force", stand_ins={"labelclean.train.judge.PULL": Pull(least=0.0)}),
    Variant(name="channel without the images' resemblance", stand_ins={"labelclean.tssd.channel.MOST_CLASSES": 0}),
    Variant(
        name="consensus always alone",
        stand_ins={"labelclean.train.judge.heed_features": lambda consensus, p_feature: consensus},
    ),
    Variant(name="no MSP", settings={"purification": False}),
    Variant(name="MSP alone, without the channel's share", stand_ins={"labelclean.tssd.purification.META_SHARE": 1.0}),
    Variant(name="MSP without the channel's odds", stand_ins={"labelclean.train.judge.gather_evidence": without_odds}),
    Variant(name="MSP without settling the level", stand_ins={"labelclean.tssd.purification.MAX_STEPS": 1}),
    Variant(name="MSP without drawn wrong pairs", stand_ins=pairs_without("drawn")),
    Variant(name="MSP without certain negatives", stand_ins=pairs_without("given")),
    Variant(name="MSP, wrong pairs drawn evenly", stand_ins={"labelclean.tssd.purification.draw_wrong": draw_evenly}),
    Variant(
        name="doubts not softened",
        stand_ins={
            "labelclean.tssd.verdict_odds.DOUBT_WEIGHT": 1.0,
            "labelclean.tssd.verdict_odds.DOUBT_SLOPES": (1.0, 1.0),
        },
    ),
    Variant(name="level not corrected", stand_ins={"labelclean.tssd.verdict_odds.correct_level": level_as_found}),
    Variant(
        name="labels of one picture do not compete",
        stand_ins={"labelclean.train.findings.let_compete": lambda p_clean, *about: p_clean},
    ),
    Variant(name="every picture shows a class", stand_ins={"labelclean.train.findings.off_topic": all_on_topic}),
    Variant(name="rejected up to one half alone", settings={"reject_precision": 1.0}),
    Variant(name="rejected for the expected F1 alone", settings={"reject_precision": 0.0}),
    Variant(name="one round", settings={"rounds": 1}),
    Variant(name="each round for itself, no running means", stand_ins={"labelclean.train.judge.NEWEST": 1.0}),
    Variant(name="all rounds, settled or not", stand_ins={"labelclean.train.loop.SETTLED": 0.0}),
    Variant(name="three rounds", settings={"rounds": 3}),
    Variant(name="no warm start", efforts=TUNED, settings={"warm_rounds": 0}),
    Variant(name="judge: two, cross-fitted", efforts=TUNED, settings={"judge": "crossfit"}),
    Variant(name="judge: one network", efforts=TUNED, settings={"judge": "self"}),
    Variant(name="judge: two that divide for each other", efforts=TUNED, settings={"judge": "peer"}),
    Variant(name="50 golden rows, random", num_golden=50),
    Variant(name="50 golden rows, chosen", num_golden=50, chosen=True),
    Variant(name="200 golden rows, random", num_golden=200),
    Variant(name="200 golden rows, chosen", num_golden=200, chosen=True),
    Variant(name="1,000 golden rows, random", num_golden=1000),
    Variant(name="1,000 golden rows, chosen", num_golden=1000, chosen=True),
)
