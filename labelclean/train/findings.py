"""From the last rounds to the findings: averages, final division, calibration, suggestions, and rates.

# N rows, K classes
"""

from __future__ import annotations

import numpy as np
import torch

from labelclean.config import FitConfig
from labelclean.records import (
    EPSILON,
    UNKNOWN,
    Bin,
    BoolArray,
    ByteArray,
    Estimate,
    Findings,
    FloatArray,
    IntArray,
    Labels,
    in_company,
    of_label,
)
from labelclean.train.loop import LoopResult
from labelclean.train.neighbors import NUM_NEAREST, duplicate_groups, join_large_groups, nearest, outlier_scores
from labelclean.tssd.division import bin_rows
from labelclean.tssd.level import mean_opinion
from labelclean.tssd.numbers import correct_prior, sigmoid
from labelclean.tssd.open_set import off_topic
from labelclean.tssd.rates import WrongLabels
from labelclean.tssd.rejection import is_rejected, rejection_cut
from labelclean.tssd.verdict_odds import calibrate, let_compete, settle_odds

HALF_HEARTED = 0.7
"""What one of the ways to count wrong labels makes of the belief that pictures show none of the classes: the streams do
not know such pictures, and intervals shall tell that there may be fewer of them."""


def conclude(
    result: LoopResult,
    labels: Labels,
    config: FitConfig,
    *,
    rows: IntArray,
    pixels: ByteArray,
    files: IntArray,
    device: torch.device | None = None,
) -> Findings:
    """The findings about the judged rows.

    Streams, meta-classifier and predictions are running means over the rounds, averaged over the judges; the last
    division is made on the averages, and the mean p_meta is adjusted and cut. Labels of one picture compete, and a
    label is as far from right as its picture shows none of the classes.

    Args:
        rows: positions of the judged rows in the index, (N,).
        pixels: all decoded images, indexed by position in the index.
        files: number of each judged row's file, equal for identical files, (N,).
        device: on which pictures are compared, where it is a CUDA device.
    """
    p_loss, p_feature = (sigmoid(_average(result, name)) for name in ("p_loss", "p_feature"))
    prior = _average(result, "prior")
    of_a_class = _settled(result, labels, p_feature=p_feature, prior=prior)
    shows_none = _shows_none(result, labels, prior, of_a_class)
    p_meta = of_a_class * (1 - shows_none)
    outlier_score, pictures = _compare_pictures(result.scans[0].pictures, labels.groups, pixels, rows, files, device)
    p_clean = let_compete(calibrate(p_meta, labels.given, labels.golden), labels.given, pictures, labels.golden)
    cut = rejection_cut(p_clean[labels.golden == UNKNOWN], precision=config.reject_precision)
    bins = _last_bins(p_loss, p_feature, p_clean, cut=cut, config=config)
    rejected = is_rejected(bins, p_clean, cut)
    ways = p_loss * (1 - shows_none), p_feature * (1 - HALF_HEARTED * shows_none), p_clean
    wrong = _wrong_labels(labels, ways=ways, blind=p_meta)
    noise, class_noise = _noise(wrong, labels)
    prior = correct_prior(prior, _class_shares(prior, p_clean, labels.given))
    p_off_topic = (1 - p_clean) * shows_none / np.maximum(1 - p_meta, EPSILON)
    suggested, p_suggested = suggest(prior, p_clean, labels.given, rejected=rejected, p_off_topic=p_off_topic)
    return Findings(
        rows=rows,
        bins=bins,
        cut=cut,
        p_clean=p_clean,
        p_loss=p_loss,
        p_feature=p_feature,
        p_meta=p_meta,
        p_off_topic=p_off_topic,
        suggested_ids=suggested,
        p_suggested=p_suggested,
        loss=_average(result, "loss"),
        margin=margins(prior, labels.given),
        knn_agreement=_average(result, "agreement"),
        wrong_event_rate=_contradictions(result),
        outlier_score=outlier_score,
        duplicate_group=pictures,
        noise=noise,
        class_noise=class_noise,
        precision=wrong.share(rejected),
        recall=wrong.capture(rejected),
        history=tuple(result.history),
    )


def _settled(result: LoopResult, labels: Labels, *, p_feature: FloatArray, prior: FloatArray) -> FloatArray:
    """p_meta of pictures that show a class, after all that is done to it without golden rows, (N,)."""
    odds = settle_odds(
        _average(result, "p_meta"),
        p_feature=p_feature,
        prior=prior,
        labels=labels.given,
        support=labels.support,
        level_settled=result.judges[0].from_scratch,  # its first round has settled how many are right
        opinions=[mean_opinion(alike) for alike in zip(*(judge.opinions for judge in result.judges), strict=True)],
    )
    return sigmoid(odds)


def _shows_none(result: LoopResult, labels: Labels, prior: FloatArray, p_right: FloatArray) -> FloatArray:
    """Probability that a picture shows none of the classes, (N,), as the first judge's features lie."""
    scan = result.scans[0]
    return off_topic(
        prior,
        labels.given,
        neighbor_rows=scan.neighbor_rows,
        similarities=scan.similarities,
        share_wrong=1 - float(p_right.mean()),
    )


def _last_bins(
    p_loss: FloatArray, p_feature: FloatArray, p_clean: FloatArray, *, cut: float, config: FitConfig
) -> IntArray:
    """The last division, a `Bin` per row, (N,).

    What is taught may now and then be wrong, a verdict should not: so it calls fewer rows certain (`config.certain`)
    than those of the rounds (`config.trust`), and no class is granted any. A row that both streams trust is uncertain
    where `p_clean` is no higher than that, one that both distrust where the meta-classifier vouches for it: that a
    label is alone in its class, say, shows nothing against it.
    """
    bins = bin_rows(p_loss, p_feature, trust=config.certain, distrust=config.distrust)
    bins[(bins == Bin.CERTAIN_POSITIVE) & (p_clean <= config.certain)] = Bin.UNCERTAIN
    bins[(bins == Bin.CERTAIN_NEGATIVE) & (p_clean > cut)] = Bin.UNCERTAIN
    return bins


def _wrong_labels(labels: Labels, *, ways: tuple[FloatArray, ...], blind: FloatArray) -> WrongLabels:
    """Counts wrong labels by R ways, the best one last, and by what the golden rows show, (N,) each."""
    return WrongLabels(
        ways=ways,
        blind=blind,
        known=labels.golden != UNKNOWN,
        is_wrong=labels.golden != labels.given,
        chances=labels.golden_chances,
        draws=labels.golden_draws,
    )


def _noise(wrong: WrongLabels, labels: Labels) -> tuple[Estimate, dict[int, Estimate]]:
    """Estimated share of wrong labels, of all rows and of each class that has rows."""
    noise = wrong.share(np.ones(len(labels.given), dtype=bool))
    assert noise is not None  # there are rows
    by_class = [wrong.share(labels.given == label) for label in range(labels.num_classes)]
    return noise, {label: of_class for label, of_class in enumerate(by_class) if of_class is not None}


def _contradictions(result: LoopResult) -> FloatArray:
    """Share of the rounds of all judges in which the model predicted another class than the label, (N,)."""
    hits = np.sum([judge.hits for judge in result.judges], axis=0)
    return np.asarray(1 - hits / sum(judge.num_rounds for judge in result.judges))


def _compare_pictures(
    pictures: FloatArray,
    groups: IntArray,
    pixels: ByteArray,
    rows: IntArray,
    files: IntArray,
    device: torch.device | None,
) -> tuple[FloatArray, IntArray]:
    """Outlier scores, by the nearest pictures of other groups, and groups of doubled pictures, by all, (N,) both."""
    near, similarities = nearest(pictures, np.arange(len(rows)), NUM_NEAREST, groups=groups, device=device)
    scores = outlier_scores(similarities)
    members = in_company(groups)
    if len(members):
        near[members], similarities[members] = nearest(pictures, members, near.shape[1], device=device)
    groups_of_doubles = duplicate_groups(near, similarities, pixels, rows, files)
    return scores, join_large_groups(groups_of_doubles, pictures, pixels, rows, device=device)


def _average(result: LoopResult, name: str) -> FloatArray:
    """A running mean, averaged over the judges."""
    return np.asarray(np.mean([judge.means[name] for judge in result.judges], axis=0))


def _class_shares(prior: FloatArray, p_clean: FloatArray, labels: IntArray) -> FloatArray:
    """Estimated share of each true class: right labels count for their class, the rest for the prediction, (K,)."""
    blind = (1 - p_clean) @ prior
    kept = np.bincount(labels, weights=p_clean, minlength=prior.shape[1])
    return np.asarray((blind + kept) / len(labels))


def suggest(
    prior: FloatArray, p_clean: FloatArray, labels: IntArray, *, rejected: BoolArray, p_off_topic: FloatArray
) -> tuple[IntArray, FloatArray]:
    """The most probable class and its probability, (N,) both.

    The given label has p_clean, and that the picture shows none of the classes p_off_topic; the others share the rest.
    A rejected label is never suggested, even where each of the others is less probable.

    Args:
        prior: P(true class | image), blind to the given label, (N, K).
        p_clean, rejected, p_off_topic: (N,).
    """
    rows = np.arange(len(labels))
    posterior = prior + EPSILON
    posterior[rows, labels] = 0
    posterior *= (np.maximum(1 - p_clean - p_off_topic, 0) / posterior.sum(axis=1))[:, None]
    posterior[rows, labels] = np.where(rejected, -1, p_clean)
    best = posterior.argmax(axis=1)
    return best, np.asarray(posterior[rows, best])


def margins(prior: FloatArray, labels: IntArray) -> FloatArray:
    """Log-odds of the given label against the best other class, (N,)."""
    others = prior.copy()
    others[np.arange(len(labels)), labels] = 0
    return np.asarray(np.log(of_label(prior, labels) + EPSILON) - np.log(others.max(axis=1) + EPSILON))
