"""From the last rounds to what the verdict file says, column by column, on rounds that are made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from labelclean.config import FitConfig
from labelclean.records import UNKNOWN, Bin, ByteArray, Findings, FloatArray, IntArray, Labels
from labelclean.train import findings
from labelclean.train.findings import conclude, margins, suggest
from labelclean.train.judge import Judge
from labelclean.train.loop import LoopResult
from labelclean.train.neighbors import unit_norm
from labelclean.train.scan import FeatureSpace, Scan
from labelclean.tssd import rates, verdict_odds
from labelclean.tssd.level import Opinion
from labelclean.tssd.numbers import correct_prior, log_odds, sigmoid
from labelclean.tssd.rejection import rejection_cut
from labelclean.tssd.verdict_odds import calibrate, soften
from tests.conftest import make_labels, make_round

NUM_ROWS = 12
GIVEN = np.arange(NUM_ROWS) % 3
CONFIG = FitConfig(certain=0.89, distrust=0.2)
RNG = np.random.default_rng(0)
PIXELS: ByteArray = RNG.integers(0, 256, (NUM_ROWS, 16, 16, 3), dtype=np.uint8)
P_STREAMS = np.array([0.95, 0.96, 0.97, 0.1, 0.05, 0.1, 0.5, 0.6, 0.4, 0.7, 0.8, 0.3])
P_META = np.array([0.99, 0.98, 0.9, 0.02, 0.1, 0.9, 0.7, 0.95, 0.2, 0.4, 0.85, 0.3])


def priors() -> FloatArray:
    return np.random.default_rng(3).dirichlet(np.ones(3), NUM_ROWS)


def scan_of() -> Scan:
    """Row 1 shows nearly the same as row 0, in features and in pixels, and is not among its neighbours."""
    features = np.random.default_rng(5).normal(size=(NUM_ROWS, 6)).astype(np.float32)
    features[1] = features[0] + 1e-3
    rows = (np.arange(NUM_ROWS)[:, None] + np.arange(2, 9)) % NUM_ROWS
    similarities = np.linspace(0.8, 0.2, 7, dtype=np.float32) - 0.01 * np.arange(NUM_ROWS, dtype=np.float32)[:, None]
    space = FeatureSpace(features=unit_norm(features), judged=np.ones(NUM_ROWS, dtype=bool))
    nobody = np.zeros(NUM_ROWS, dtype=bool)
    return Scan(
        probs=priors(),
        neighbor_rows=rows,
        similarities=similarities,
        spaces=(space,),
        pictures=space.features,
        taught=nobody,
    )


def judge_of(labels: Labels, *, off: float = 0.0, hits: IntArray | None = None) -> Judge:
    """A judge after four rounds; `off` moves its log-odds, loss and agreement."""
    judge = Judge(labels, CONFIG)
    judge.means = {
        "p_loss": log_odds(P_STREAMS) + off,
        "p_feature": log_odds(P_STREAMS) - 0.1 + off,
        "p_meta": log_odds(P_META) + off,
        "agreement": np.linspace(0.1, 0.6, NUM_ROWS) + off / 10,
        "loss": np.linspace(0.2, 3.0, NUM_ROWS) + off,
        "prior": priors(),
    }
    judge.num_rounds = 4
    judge.hits = np.full(NUM_ROWS, 3.0) if hits is None else hits.astype(float)
    return judge


def findings_of(
    labels: Labels, judges: list[Judge] | None = None, *, pixels: ByteArray = PIXELS, config: FitConfig = CONFIG
) -> Findings:
    result = LoopResult(judges or [judge_of(labels)], scans=[scan_of()], history=[make_round(0), make_round(1)])
    return conclude(result, labels, config, rows=np.arange(NUM_ROWS), pixels=pixels, files=np.arange(NUM_ROWS))


def test_judges_are_averaged():
    labels = make_labels(GIVEN)
    hits = np.arange(NUM_ROWS) % 5
    found = findings_of(labels, [judge_of(labels, off=0.4, hits=hits), judge_of(labels, off=-0.2, hits=np.zeros(12))])
    np.testing.assert_allclose(found.p_loss, sigmoid(log_odds(P_STREAMS) + 0.1))
    np.testing.assert_allclose(found.p_feature, sigmoid(log_odds(P_STREAMS)))
    np.testing.assert_allclose(found.p_meta, sigmoid(soften(log_odds(P_META) + 0.1, P_STREAMS)))
    np.testing.assert_allclose(found.loss, np.linspace(0.2, 3.0, NUM_ROWS) + 0.1)
    np.testing.assert_allclose(found.knn_agreement, np.linspace(0.1, 0.6, NUM_ROWS) + 0.01)
    np.testing.assert_allclose(found.wrong_event_rate, 1 - hits / 8)
    assert len(found.history) == 2


@pytest.mark.parametrize("from_scratch", [False, True])
def test_level_is_corrected_but_not_that_of_a_random_start(monkeypatch: pytest.MonkeyPatch, from_scratch: bool):
    monkeypatch.setattr(verdict_odds, "correct_level", lambda odds, prior, labels: odds - prior.max() - labels.max())
    labels = make_labels(GIVEN)
    judge = judge_of(labels)
    judge.from_scratch = from_scratch
    found = findings_of(labels, [judge])
    moved = 0 if from_scratch else priors().max() + 2
    expected = soften(log_odds(P_META), sigmoid(log_odds(P_STREAMS) - 0.1)) - moved
    np.testing.assert_allclose(found.p_meta, sigmoid(expected))


def test_what_all_judges_think_of_the_level_is_heard():
    labels = make_labels(GIVEN)
    judges = [judge_of(labels), judge_of(labels)]
    alone = findings_of(labels, judges).p_meta.mean()
    for opinions in ([0.0, 0.4], [0.4, 0.0]):
        for judge, weight in zip(judges, opinions, strict=True):
            judge.from_scratch, judge.opinions = True, (Opinion(0.9, weight),)
        level = Opinion(0.9, 0.2).sway(float(alone))
        np.testing.assert_allclose(findings_of(labels, judges).p_meta.mean(), level, atol=0.02)


def test_bins_cut_and_rejection_follow_from_the_posteriors():
    found = findings_of(make_labels(GIVEN))
    assert found.p_clean.tolist() == found.p_meta.tolist()  # nothing is golden
    assert found.cut == rejection_cut(found.p_clean, precision=CONFIG.reject_precision)
    positive, negative = found.bins == Bin.CERTAIN_POSITIVE, found.bins == Bin.CERTAIN_NEGATIVE
    assert np.flatnonzero(positive).tolist() == [0, 1, 2]
    assert np.flatnonzero(negative).tolist() == [3, 4]  # row 5 is vouched for by the meta-classifier
    assert found.bins[5] == Bin.UNCERTAIN
    rejected = ~positive & (found.p_clean <= found.cut)
    assert found.precision is not None
    assert found.precision.value == pytest.approx(1 - found.p_clean[rejected].mean())
    assert found.recall is not None
    assert found.recall.value == pytest.approx((1 - found.p_clean)[rejected].sum() / (1 - found.p_clean).sum())


def test_a_row_is_certain_only_where_p_clean_is_sure_of_it_too():
    """Row 2, which both streams trust with .97, has a p_clean of .9."""
    bins = [findings_of(make_labels(GIVEN), config=replace(CONFIG, certain=certain)).bins for certain in (0.89, 0.92)]
    certain = Bin.CERTAIN_POSITIVE
    assert [found[:3].tolist() for found in bins] == [[certain] * 3, [certain, certain, Bin.UNCERTAIN]]


def test_a_label_that_no_other_row_shows_is_not_rejected_for_it():
    """Row 3, which both streams and the meta-classifier distrust, is the only one of its class."""
    given = np.where(np.arange(NUM_ROWS) == 3, 0, 1 + np.arange(NUM_ROWS) % 2)
    found = findings_of(make_labels(given))
    usual = sigmoid(soften(log_odds(P_META), sigmoid(log_odds(P_STREAMS) - 0.1))).mean()
    assert found.p_clean[3] == pytest.approx(usual)
    assert found.bins[3] == Bin.UNCERTAIN
    assert found.p_clean[3] > found.cut
    assert found.suggested_ids[3] == 0
    assert found.bins[4] == Bin.CERTAIN_NEGATIVE


def test_the_noise_rate_is_that_of_p_clean():
    found = findings_of(make_labels(GIVEN))
    assert found.noise.value == pytest.approx(1 - found.p_clean.mean())
    assert found.noise.low < found.noise.value < found.noise.high
    for label in range(3):
        assert found.class_noise[label].value == pytest.approx(1 - found.p_clean[label == GIVEN].mean())


def test_golden_rows_calibrate_and_stay_out_of_the_cut():
    """Golden labels show that four are wrong, one of which was trusted."""
    golden = np.where(np.isin(np.arange(NUM_ROWS), [0, 3, 4, 8]), (GIVEN + 1) % 3, UNKNOWN)
    labels, config = make_labels(GIVEN, golden=golden), replace(CONFIG, reject_precision=0.0)
    found = findings_of(labels, config=config)
    np.testing.assert_allclose(found.p_clean, calibrate(found.p_meta, GIVEN, golden))
    assert (found.p_clean < found.p_meta).mean() > 0.9
    unknown = golden == UNKNOWN
    assert found.cut == rejection_cut(found.p_clean[unknown], precision=0.0)
    assert found.cut != rejection_cut(found.p_clean, precision=0.0)
    wrong = np.where(unknown, 1 - found.p_clean, golden != GIVEN)
    assert found.noise.value == pytest.approx(wrong.mean())


def test_rows_that_both_streams_distrust_are_certain_up_to_the_cut(monkeypatch: pytest.MonkeyPatch):
    """Row 5, of which the meta-classifier is sure, and rows 3 and 4, of which it is not."""
    monkeypatch.setattr(findings, "rejection_cut", lambda *_, **__: 0.92)
    found = findings_of(make_labels(GIVEN))
    assert 0.5 < found.p_clean[5] < 0.92
    assert (found.bins[3:6] == Bin.CERTAIN_NEGATIVE).all()


def test_streams_that_contradict_the_meta_classifier_widen_the_intervals():
    labels = make_labels(GIVEN)
    agreeing, contradicting = judge_of(labels), judge_of(labels)
    contradicting.means["p_loss"] = contradicting.means["p_loss"] - 3
    widths = []
    for judge in (agreeing, contradicting):
        noise = findings_of(labels, [judge]).noise
        assert noise.value == findings_of(labels).noise.value
        widths.append(noise.high - noise.low)
    assert widths[1] > 1.2 * widths[0]


def test_drawn_golden_rows_are_compared_with_what_was_thought_of_them_before(monkeypatch: pytest.MonkeyPatch):
    """Of four rows with one chance in three three are wrong, two of which were not doubted."""
    monkeypatch.setattr(rates, "MIN_GOLDEN", 4)
    drawn = np.isin(np.arange(NUM_ROWS), [0, 3, 6, 7])
    is_wrong = np.isin(np.arange(NUM_ROWS), [0, 3, 6])
    labels = make_labels(
        GIVEN,
        golden=np.where(drawn, np.where(is_wrong, (GIVEN + 1) % 3, GIVEN), UNKNOWN),
        golden_chances=np.where(drawn, 1 / 3, np.nan),
        golden_draws=np.where(drawn, 1, UNKNOWN),
    )
    found = findings_of(labels)
    surprises = is_wrong[drawn] - (1 - found.p_meta[drawn])
    assert surprises.mean() > 0.3
    assert found.noise.value == pytest.approx((1 - found.p_meta).mean() + surprises.mean())


def test_suggestions_and_margins_take_the_classes_shares_into_account():
    found = findings_of(make_labels(GIVEN))
    prior = priors()
    shares = ((1 - found.p_clean) @ prior + np.bincount(GIVEN, weights=found.p_clean)) / NUM_ROWS
    corrected = correct_prior(prior, shares)
    np.testing.assert_allclose(found.margin, margins(corrected, GIVEN))
    assert np.abs(found.margin - margins(prior, GIVEN)).max() > 0.01
    rejected = (found.bins != Bin.CERTAIN_POSITIVE) & (found.p_clean <= found.cut)
    best, p = suggest(corrected, found.p_clean, GIVEN, rejected=rejected, p_off_topic=found.p_off_topic)
    np.testing.assert_array_equal(found.suggested_ids, best)
    np.testing.assert_allclose(found.p_suggested, p)


@pytest.mark.parametrize("in_one_group", [True, False])
def test_copies_are_found_inside_a_group_too(in_one_group: bool):
    """Rows of one group are no neighbours of each other, but may well show the same picture."""
    pixels = PIXELS.copy()
    pixels[1] = pixels[0]
    groups = np.concatenate([[0], np.arange(11)]) if in_one_group else np.arange(NUM_ROWS)
    found = findings_of(make_labels(GIVEN, groups=groups), pixels=pixels)
    assert np.flatnonzero(found.duplicate_group != UNKNOWN).tolist() == [0, 1]
    different = findings_of(make_labels(GIVEN, groups=groups))
    assert (different.duplicate_group == UNKNOWN).all()


def test_twelve_copies_in_two_encodings_are_one_picture():
    """Each has five nearer copies than any in the other encoding."""
    angles = np.array([0, 0.02])[np.arange(NUM_ROWS) // 6]
    pictures = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    everyone, pixels = np.arange(NUM_ROWS), PIXELS[np.zeros(NUM_ROWS, dtype=int)]
    _, groups = findings._compare_pictures(pictures, everyone, pixels, everyone, everyone, None)
    assert groups.tolist() == [0] * NUM_ROWS


def test_of_the_labels_of_one_picture_one_is_accepted_at_most():
    """Rows 0 and 1 show the same picture; both streams and the meta-classifier are sure of either label."""
    pixels = PIXELS.copy()
    pixels[1] = pixels[0]
    alone, found = findings_of(make_labels(GIVEN)), findings_of(make_labels(GIVEN), pixels=pixels)
    assert alone.p_clean[:2].min() > 0.95
    assert found.p_clean[:2].sum() == pytest.approx(1, abs=0.02)
    np.testing.assert_allclose(found.p_clean[2:], alone.p_clean[2:])
    assert alone.bins[:2].tolist() == [Bin.CERTAIN_POSITIVE] * 2
    assert found.bins[:2].tolist() == [Bin.UNCERTAIN] * 2
    assert (found.p_clean[:2] > found.cut).tolist() == [True, False]
    assert found.noise.value > alone.noise.value + 0.05


def test_outlier_score_is_the_distance_to_the_nearest_pictures_of_other_groups():
    cosines = scan_of().pictures @ scan_of().pictures.T
    for groups in (np.arange(NUM_ROWS), np.concatenate([[0], np.arange(11)])):
        others = np.where(groups == groups[:, None], -1, cosines)
        expected = 1 - np.sort(others, axis=1)[:, -5:].mean(axis=1)
        found = findings_of(make_labels(GIVEN, groups=groups))
        np.testing.assert_allclose(found.outlier_score, expected, rtol=1e-5)


def test_an_unpurified_row_that_both_streams_trust_is_certain_only_with_enough_trust():
    stricter = findings_of(make_labels(GIVEN), config=replace(CONFIG, certain=0.955))
    assert np.flatnonzero(stricter.bins == Bin.CERTAIN_POSITIVE).tolist() == [1]


def test_suggestion_shares_what_the_label_leaves():
    prior = np.array([[0.2, 0.5, 0.3], [0.2, 0.5, 0.3], [0.6, 0.1, 0.3]])
    kept = np.zeros(3, dtype=bool)
    best, p = suggest(prior, np.array([0.9, 0.1, 0.3]), np.array([0, 0, 0]), rejected=kept, p_off_topic=np.zeros(3))
    assert best.tolist() == [0, 1, 2]
    np.testing.assert_allclose(p, [0.9, 0.9 * 5 / 8, 0.7 * 3 / 4], rtol=1e-5)
    assert prior[0].tolist() == [0.2, 0.5, 0.3]


def test_suggestion_for_a_rejected_label_is_another_class():
    prior = np.array([[1.0, 0.0, 0.0], [0.2, 0.5, 0.3], [0.2, 0.5, 0.3]])
    labels, rejected = np.array([0, 0, 0]), np.array([True, True, False])
    best, p = suggest(prior, np.array([0.0, 0.4, 0.4]), labels, rejected=rejected, p_off_topic=np.zeros(3))
    assert best[0] != 0  # although the prediction has nothing but the label
    assert best[1:].tolist() == [1, 0]
    np.testing.assert_allclose(p, [0.5, 0.6 * 5 / 8, 0.4], rtol=1e-5)


def test_what_is_off_topic_is_left_to_no_class():
    prior, kept = np.array([[0.2, 0.5, 0.3]]), np.zeros(1, dtype=bool)
    best, p = suggest(prior, np.array([0.1]), np.array([0]), rejected=kept, p_off_topic=np.array([0.4]))
    assert best.tolist() == [1]
    np.testing.assert_allclose(p, [0.5 * 5 / 8], rtol=1e-5)


def test_a_label_is_right_only_where_its_picture_shows_a_class(monkeypatch: pytest.MonkeyPatch):
    plain = findings_of(make_labels(GIVEN))
    assert not plain.p_off_topic.any()
    told = {}

    def off_topic(prior: FloatArray, labels: IntArray, **known: object) -> FloatArray:
        told.update(known)
        return np.where(np.arange(NUM_ROWS) == 1, 0.75, 0.0)

    monkeypatch.setattr(findings, "off_topic", off_topic)
    found = findings_of(make_labels(GIVEN))
    assert told["share_wrong"] == pytest.approx(1 - plain.p_meta.mean())
    np.testing.assert_array_equal(told["neighbor_rows"], scan_of().neighbor_rows)
    others = np.arange(NUM_ROWS) != 1
    np.testing.assert_allclose(found.p_clean[others], plain.p_clean[others])
    assert found.p_clean[1] == found.p_meta[1] == pytest.approx(plain.p_clean[1] / 4)
    assert found.p_off_topic[1] == pytest.approx(0.75)
    assert found.bins[1] == Bin.UNCERTAIN != plain.bins[1]
    assert found.suggested_ids[1] != GIVEN[1]
    assert found.p_suggested[1] < 0.25 * (1 - plain.p_clean[1]) + 1e-9


def test_for_the_intervals_the_streams_know_strangers_too(monkeypatch: pytest.MonkeyPatch):
    told = {}
    count = findings._wrong_labels

    def watched(labels: Labels, **known: tuple[FloatArray, ...]) -> rates.WrongLabels:
        told.update(known)
        return count(labels, **known)

    monkeypatch.setattr(findings, "_wrong_labels", watched)
    monkeypatch.setattr(findings, "off_topic", lambda *_, **__: np.full(NUM_ROWS, 0.5))
    found = findings_of(make_labels(GIVEN))
    expected = found.p_loss / 2, found.p_feature * 0.65, found.p_clean
    for way, p in zip(told["ways"], expected, strict=True):
        np.testing.assert_allclose(way, p)


def test_golden_rows_share_what_they_know_with_what_is_off_topic(monkeypatch: pytest.MonkeyPatch):
    """p_clean, p_off_topic and the other classes always sum to one."""
    golden = np.where(np.arange(NUM_ROWS) < 6, (GIVEN + 1) % 3, UNKNOWN)
    monkeypatch.setattr(findings, "off_topic", lambda *_, **__: np.full(NUM_ROWS, 0.2))
    found = findings_of(make_labels(GIVEN, golden=golden))
    assert (found.p_clean < found.p_meta).all()
    np.testing.assert_allclose(found.p_off_topic, (1 - found.p_clean) * 0.2 / (1 - found.p_meta), rtol=1e-6)
    assert ((found.p_off_topic > 0.2) & (found.p_clean + found.p_off_topic < 1)).all()


def test_margin_is_the_log_odds_against_the_best_other():
    prior = np.array([[0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [1.0, 0.0, 0.0]])
    found = margins(prior, np.array([0, 2, 0]))
    np.testing.assert_allclose(found[:2], [np.log(2), np.log(1 / 8)], rtol=1e-4)
    assert 10 < found[2] < 20
