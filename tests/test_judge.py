"""A judge's memory of its rounds, on three clouds of points with some labels flipped."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from labelclean.config import FitConfig
from labelclean.records import REFUTED, UNKNOWN, Bin, FloatArray
from labelclean.train.heads import FrozenLearner
from labelclean.train.judge import LEAST_TRUST, Assessment, Judge
from labelclean.tssd.division import most_trusted
from labelclean.tssd.level import ENOUGH_SEEN
from labelclean.tssd.numbers import log_odds, sigmoid
from labelclean.tssd.resistance import find_resistance
from labelclean.tssd.streams import Consensus, mixture_streams, reach_consensus
from labelclean.tssd.unteaching import unteach
from tests.conftest import as_frozen, make_labels

NUM_ROWS = 240


@pytest.fixture
def learner_and_judge() -> tuple[FrozenLearner, Judge]:
    rng = np.random.default_rng(0)
    truth = np.arange(NUM_ROWS) % 3
    features = (rng.normal(size=(NUM_ROWS, 8)) + 1.5 * np.eye(8)[truth]).astype(np.float32)
    wrong = rng.random(NUM_ROWS) < 0.25
    fold = np.arange(NUM_ROWS) // 3 % 5
    labels = make_labels(np.where(wrong, (truth + 1) % 3, truth), fold=fold)
    learner = FrozenLearner(
        as_frozen(features), fold, np.arange(len(fold)), num_neighbors=10, device=torch.device("cpu")
    )
    return learner, Judge(labels, FitConfig())


def test_support_of_a_label_is_in_other_groups_and_by_what_is_best_known():
    given = np.array([0, 0, 0, 1, 1, 2, 2])
    golden = np.array([-1, -1, -1, -1, 2, -1, -1])
    labels = make_labels(given, golden=golden, groups=np.array([0, 0, 1, 2, 3, 4, 5]))
    # rows 0 and 1 show the same picture; row 4 shows class 2, whatever its label says
    assert labels.support.tolist() == [1, 1, 1, 0, 1, 2, 2]


def run_round(learner: FrozenLearner, judge: Judge) -> Assessment:
    learner.train([judge.lesson], advance=lambda _: None)
    (scan,) = learner.scan(advance=lambda _: None)
    return judge.assess(scan, rng=np.random.default_rng(judge.num_rounds))


def p_meta(found: Assessment) -> FloatArray:
    return found.purified.p_meta


def test_means_leave_the_first_round_out_and_halve_the_weight_of_older_ones(learner_and_judge):
    learner, judge = learner_and_judge
    assert judge.change == np.inf
    odds = []
    for _ in range(4):
        before = judge.means.get("p_meta")
        odds.append(log_odds(p_meta(run_round(learner, judge))))
        if before is not None:
            moved = np.abs(sigmoid(judge.means["p_meta"]) - sigmoid(before))
            assert judge.change == pytest.approx(moved.mean())
        if len(odds) <= 2:
            np.testing.assert_allclose(judge.means["p_meta"], odds[-1])
    np.testing.assert_allclose(judge.means["p_meta"], odds[1] / 4 + odds[2] / 4 + odds[3] / 2)
    np.testing.assert_allclose(judge.trust, np.maximum(sigmoid(judge.means["p_loss"]), LEAST_TRUST))
    p_right = np.take_along_axis(judge.lesson.targets, judge.labels.given[:, None], axis=1)[:, 0]
    np.testing.assert_allclose(p_right, sigmoid(judge.means["p_meta"]), atol=2e-3)


def test_purified_rows_are_taught_as_certain_ones_are(learner_and_judge):
    learner, judge = learner_and_judge
    found = run_round(learner, judge)
    assert found.purified.accepted.sum() > 5
    assert not found.purified.accepted[found.division.positive].any()
    np.testing.assert_array_equal(judge.lesson.labelled, found.division.positive | found.purified.accepted)


@pytest.mark.parametrize("from_scratch", [False, True])
def test_a_refuted_label_is_never_taught_nor_heard(learner_and_judge, from_scratch: bool):
    """Not in the first round either, when all others are believed."""
    learner, judge = learner_and_judge
    plain = judge.labels
    refuted = np.arange(NUM_ROWS) == int(np.flatnonzero(plain.given == np.arange(NUM_ROWS) % 3)[0])
    judge = Judge(replace(plain, golden=np.where(refuted, REFUTED, UNKNOWN)), FitConfig())
    judge.start_stage(None, from_scratch=from_scratch)
    for _ in range(3):
        (own,) = judge.lesson.targets[refuted, plain.given[refuted]]
        assert not judge.lesson.labelled[refuted].any()
        assert own <= 0.34
        assert judge.trust[refuted] == LEAST_TRUST
        assert (judge.trust[~refuted] > LEAST_TRUST).mean() > 0.6
        run_round(learner, judge)
    assert own < 1e-6  # right as it looks


def test_the_first_lesson_knows_the_golden_labels(learner_and_judge):
    _, judge = learner_and_judge
    golden = np.where(np.arange(NUM_ROWS) < 50, np.arange(NUM_ROWS) % 3, UNKNOWN)
    taught = Judge(replace(judge.labels, golden=golden), FitConfig()).lesson.targets.argmax(axis=1)
    assert (taught[:50] == golden[:50]).all()
    assert (taught[50:] == judge.labels.given[50:]).all()
    assert (golden[:50] != judge.labels.given[:50]).any()


def test_the_mixture_is_of_mean_losses(learner_and_judge, monkeypatch: pytest.MonkeyPatch):
    learner, judge = learner_and_judge
    judge.config = replace(judge.config, streams="mixture")
    told: list[FloatArray] = []

    def watched(views: Any, given: Any, mean_losses: FloatArray, *, rng: Any) -> Any:
        told.append(mean_losses)
        return mixture_streams(views, given, mean_losses, rng=rng)

    monkeypatch.setattr("labelclean.train.judge.mixture_streams", watched)
    for number in (1, 2):
        run_round(learner, judge)
        np.testing.assert_allclose(told[-1], judge.losses / number)


def test_without_purification_both_streams_together_accept(learner_and_judge):
    learner, judge = learner_and_judge
    judge.config = replace(judge.config, purification=False, trust=0.97, distrust=0.01)
    found = run_round(learner, judge)
    p = found.consensus.p_clean
    np.testing.assert_array_equal(found.purified.accepted, (found.division.bins == Bin.UNCERTAIN) & (p > 0.5))
    assert (found.purified.accepted & (p < 0.9)).any()
    np.testing.assert_array_equal(p_meta(found), p)


def test_a_random_start_teaches_what_is_trusted_most_in_each_class(learner_and_judge):
    learner, judge = learner_and_judge
    judge.start_stage(None, from_scratch=True)
    found = run_round(learner, judge)
    trusted = most_trusted(sigmoid(judge.means["p_meta"]), judge.labels.given)
    np.testing.assert_array_equal(judge.lesson.labelled, trusted)
    assert (trusted != found.division.positive | found.purified.accepted).any()


def test_guesses_are_sharpened_as_the_settings_say(learner_and_judge):
    learner, judge = learner_and_judge
    learner.train([judge.lesson], advance=lambda _: None)
    (scan,) = learner.scan(advance=lambda _: None)
    guesses = {}
    for temperature in (0.5, 1.0):
        twin = Judge(judge.labels, replace(judge.config, sharpen=temperature))
        twin.assess(scan, rng=np.random.default_rng(0))
        guesses[temperature] = twin.lesson.guesses
    squares = guesses[1.0] ** 2
    np.testing.assert_allclose(guesses[0.5], squares / squares.sum(axis=1, keepdims=True), atol=1e-5)
    assert np.abs(guesses[0.5] - guesses[1.0]).max() > 0.05


def test_golden_rows_vote_in_full(learner_and_judge):
    learner, judge = learner_and_judge
    everyone = np.arange(NUM_ROWS)
    judge.labels = replace(judge.labels, golden=np.where(everyone % 6 == 0, everyone % 3, UNKNOWN))
    run_round(learner, judge)
    assert (judge.trust[everyone % 6 == 0] == 1).all()
    assert (judge.trust[everyone % 6 > 0] < 1).all()


def test_the_first_round_of_a_random_start_stays_in_the_means(learner_and_judge):
    learner, judge = learner_and_judge
    judge.start_stage(None, from_scratch=True)
    odds = [log_odds(p_meta(run_round(learner, judge))) for _ in range(3)]
    np.testing.assert_allclose(judge.means["p_meta"], odds[0] / 4 + odds[1] / 4 + odds[2] / 2)


def test_a_random_start_believes_less_that_classes_differ(learner_and_judge):
    learner, _ = learner_and_judge
    truth = np.arange(NUM_ROWS) % 3
    given = np.where((truth == 2) & (np.arange(NUM_ROWS) % 2 > 0), 0, truth)  # half of one class is called another
    labels = make_labels(given, fold=np.arange(NUM_ROWS) // 3 % 5)
    gaps = {}
    for from_scratch in (False, True):
        judge = Judge(labels, FitConfig())
        judge.start_stage(None, from_scratch=from_scratch)
        gaps[from_scratch] = np.ptp(np.diag(run_round(learner, judge).consensus.channel.transition))
    assert gaps[False] > 0.2
    assert gaps[True] < 0.8 * gaps[False]


@pytest.mark.parametrize("from_scratch", [True, False])
def test_the_first_round_of_a_random_start_settles_how_many_labels_are_right(learner_and_judge, from_scratch: bool):
    learner, judge = learner_and_judge
    judge.start_stage(None, from_scratch=from_scratch)
    levels = [p_meta(run_round(learner, judge)).mean() for _ in range(3)]
    share_right = (judge.labels.given == np.arange(NUM_ROWS) % 3).mean()
    assert levels[0] == pytest.approx(share_right, abs=0.1)
    if from_scratch:
        assert levels == pytest.approx([judge.share_right] * 3, abs=1e-4)
    else:
        assert judge.share_right is None
        assert levels[1] != pytest.approx(levels[2], abs=1e-4)


@pytest.mark.parametrize("by_resistance", [True, False])
def test_the_first_teaching_shows_how_labels_resist(learner_and_judge, by_resistance: bool):
    learner, judge = learner_and_judge
    everyone, given = np.arange(NUM_ROWS), judge.labels.given
    taught, is_golden = everyone % 3 > 0, everyone % 6 == 0
    judge.labels = replace(judge.labels, golden=np.where(is_golden, everyone % 3, UNKNOWN))
    judge.start_stage(None, from_scratch=True, by_resistance=by_resistance)
    found = []
    for _ in range(2):
        learner.train([judge.lesson], advance=lambda _: None)
        (scan,) = learner.scan(advance=lambda _: None)
        judge.assess(replace(scan, taught=taught), rng=np.random.default_rng(0))
        predicted = scan.probs.argmax(axis=1)
        found.append(find_resistance(predicted, given, taught=taught, held_out=~taught & ~is_golden))
    assert found[0] != found[1]
    of_few, of_channel, *of_teaching = judge.opinions
    assert (of_few.share_right, of_few.weight) == (of_channel.share_right, 1.0)
    assert of_channel.weight < 1
    assert [opinion.share_right for opinion in of_teaching] == [found[0].share_right] * by_resistance
    assert [opinion.weight for opinion in of_teaching] == [(1 - of_channel.weight) * found[0].weight] * by_resistance
    twin = Judge(judge.labels, judge.config)
    twin.start_stage(None, from_scratch=True, by_resistance=by_resistance)
    twin.restore(judge.state())
    assert twin.opinions == judge.opinions
    judge.start_stage(None)
    assert judge.opinions == ()


def test_where_all_labels_are_taught_nothing_shows_how_they_resist(learner_and_judge):
    learner, judge = learner_and_judge
    judge.start_stage(None, from_scratch=True, by_resistance=True)
    run_round(learner, judge)
    of_few, of_channel = judge.opinions  # the channel's alone
    assert of_few.share_right == of_channel.share_right


@pytest.mark.parametrize(("from_scratch", "num_rows"), [(False, 300), (True, 300), (True, ENOUGH_SEEN)])
def test_channels_of_a_random_start_that_saw_few_rows_are_drawn_once_more(from_scratch: bool, num_rows: int):
    judge = Judge(make_labels(np.arange(num_rows) % 3, fold=np.arange(num_rows) % 5), FitConfig())
    judge.start_stage(None, from_scratch=from_scratch)
    assert judge.pull.times == (2 if from_scratch and num_rows < ENOUGH_SEEN else 1)


def test_copies_of_a_wrong_label_do_not_bear_each_other_out():
    rng = np.random.default_rng(0)
    truth = np.arange(NUM_ROWS) % 3
    groups = np.arange(NUM_ROWS) // 3 % 20 + 20 * truth  # four frames of each of sixty scenes
    wrong = np.isin(groups, [0, 7, 23, 31, 44, 58])
    scenes = rng.normal(size=(60, 8)) + 2 * np.eye(8)[np.arange(60) // 20]
    features = (scenes[groups] + 0.01 * rng.normal(size=(NUM_ROWS, 8))).astype(np.float32)
    means = {}
    for name, known in (("scenes", groups), ("rows", np.arange(NUM_ROWS))):
        fold = groups % 5
        labels = make_labels(np.where(wrong, (truth + 1) % 3, truth), fold=fold, groups=known)
        learner = FrozenLearner(as_frozen(features), fold, known, num_neighbors=10, device=torch.device("cpu"))
        means[name] = run_round(learner, Judge(labels, FitConfig())).streams.p_feature[wrong].mean()
    assert means["scenes"] < 0.4 < 0.6 < means["rows"]


def test_a_restored_judge_goes_on_as_it_would_have(learner_and_judge):
    learner, judge = learner_and_judge
    judge.start_stage(None, from_scratch=True)
    for _ in range(3):
        run_round(learner, judge)
    twin = Judge(judge.labels, judge.config)
    twin.start_stage(None, from_scratch=True)
    twin.restore({name: values.copy() for name, values in judge.state().items()})
    (scan,) = learner.scan(advance=lambda _: None)
    for each in (judge, twin):
        each.assess(scan, rng=np.random.default_rng(3))
    for name, values in judge.means.items():
        np.testing.assert_array_equal(twin.means[name], values, err_msg=name)
    assert twin.share_right == judge.share_right
    assert twin.num_rounds == judge.num_rounds == 4


@pytest.mark.parametrize(
    ("settings", "from_scratch", "heeded"),
    [
        ({}, False, True),
        ({"streams": "mixture"}, False, False),
        ({}, True, False),
    ],
)
def test_a_channel_that_finds_nothing_leaves_it_to_the_feature_stream(
    learner_and_judge, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], from_scratch: bool, heeded: bool
):
    """Without a noise channel of its own, or from a random start, the feature stream's level is no better."""
    learner, judge = learner_and_judge
    judge.config = replace(judge.config, **settings)
    judge.start_stage(None, from_scratch=from_scratch)

    def find_nothing(*args: Any, **settings: Any) -> Consensus:
        consensus = reach_consensus(*args, **settings)
        return replace(consensus, p_clean=np.full(NUM_ROWS, 1 - 1e-6))

    monkeypatch.setattr("labelclean.train.judge.reach_consensus", find_nothing)
    found = run_round(learner, judge)
    assert (found.consensus.p_clean.min() < 0.5) == heeded


def test_what_teaching_did_is_taken_off_by_rows_held_out_that_are_not_golden(learner_and_judge):
    learner, judge = learner_and_judge
    learner.train([judge.lesson], advance=lambda _: None)
    (scan,) = learner.scan(advance=lambda _: None)
    everyone, given = np.arange(NUM_ROWS), judge.labels.given
    taught, is_golden = everyone % 3 > 0, everyone % 6 == 0
    probs = scan.probs.copy()
    probs[taught, given[taught]] += 5
    judge.labels = replace(judge.labels, golden=np.where(is_golden, everyone % 3, UNKNOWN))
    learnt = replace(scan, probs=probs / probs.sum(axis=1, keepdims=True), taught=taught)
    raw = learnt.view(given, judge.labels.best_known, judge.trust, judge.labels.groups)
    (view,) = judge.assess(learnt, rng=np.random.default_rng(0)).views
    expected = unteach(raw, given, taught=taught, held_out=~taught & ~is_golden)
    for name in ("probs", "votes", "affinity"):
        np.testing.assert_allclose(getattr(view, name), getattr(expected, name), err_msg=name)
    own = view.probs[everyone, given]
    assert own[taught].mean() == pytest.approx(own[~taught & ~is_golden].mean(), abs=0.1)
    assert raw.probs[everyone, given][taught].mean() > 0.8


def test_the_unswayed_view_stays_beside_later_ones_and_the_anchor(learner_and_judge):
    learner, judge = learner_and_judge
    first = run_round(learner, judge).views[0]
    (scan,) = learner.scan(advance=lambda _: None)
    judge.see_unswayed(scan)
    assert judge.unswayed is not None
    for name in ("probs", "votes", "affinity", "agreement"):
        np.testing.assert_allclose(getattr(judge.unswayed, name), getattr(first, name), err_msg=name)
    for _ in range(2):
        found = run_round(learner, judge)
        assert found.views[0] is judge.unswayed
        assert len(found.views) == 2
    # the neighbours' votes have changed with what is believed of them, those of the unswayed view have not
    assert np.abs(found.views[1].votes - found.views[0].votes).max() > 0.05
    (anchor,) = learner.scan(advance=lambda _: None)
    judge.start_stage(anchor)
    found = run_round(learner, judge)
    assert len(found.views) == 3
    assert found.views[0] is judge.unswayed
    np.testing.assert_array_equal(found.views[1].probs, anchor.probs)


def test_the_anchor_has_a_say_beside_the_newest_scan(learner_and_judge):
    learner, judge = learner_and_judge
    run_round(learner, judge)
    (anchor,) = learner.scan(advance=lambda _: None)
    others = (anchor.neighbor_rows + 1) % NUM_ROWS  # of other classes
    blurred = replace(anchor, probs=np.full_like(anchor.probs, 1 / 3), neighbor_rows=others)
    judge.start_stage(anchor)
    found = judge.assess(blurred, rng=np.random.default_rng(0))
    assert len(found.views) == 2
    np.testing.assert_array_equal(found.views[0].probs, anchor.probs)
    np.testing.assert_array_equal(found.views[1].probs, blurred.probs)
    both = np.mean([view.agreement for view in found.views], axis=0)
    np.testing.assert_allclose(judge.means["agreement"], both)
    assert np.abs(found.views[0].agreement - found.views[1].agreement).max() > 0.5
    twin = Judge(judge.labels, judge.config)
    twin.start_stage(None)
    alone = twin.assess(blurred, rng=np.random.default_rng(0))
    assert np.abs(found.streams.p_loss - alone.streams.p_loss).max() > 0.2
