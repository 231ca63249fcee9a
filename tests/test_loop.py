"""The loop's own part: who is taught which labels, and that rows of one group say nothing about each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from labelclean.config import FitConfig
from labelclean.data.images import Decoded
from labelclean.inputs import given_labels
from labelclean.records import UNKNOWN, Bin, BoolArray, FloatArray, IntArray, Labels, SilentReporter, View
from labelclean.train import loop as loops
from labelclean.train.backbone import prepare_backbone
from labelclean.train.checkpoint import Checkpoint
from labelclean.train.device import ImageStore
from labelclean.train.heads import FrozenLearner
from labelclean.train.judge import Assessment, Judge
from labelclean.train.loop import LoopResult, RoundLoop
from labelclean.train.scan import Scan
from labelclean.train.trainer import TunedLearner
from labelclean.tssd.semisup import Lesson
from tests.conftest import make_labels, make_manifest

NUM_ROWS, SIDE = 60, 16
TRUTH = np.arange(NUM_ROWS) % 3
GROUPS = np.arange(NUM_ROWS) // 6  # six pictures of one scene, two of each class
HALF = GROUPS % 2
SETTINGS: dict[str, Any] = {
    "backbone": "test_resnet",
    "image_size": SIDE,
    "precision": "fp32",
    "epochs": 1.0,
    "rounds": 1,
    "warm_rounds": 1,
    "num_neighbors": 8,
}


@pytest.fixture
def weights(data: Path) -> str:
    return str(data / "weights.safetensors")


def labels_of(given: IntArray, *, groups: IntArray = GROUPS, **changes: Any) -> Labels:
    """Labels of rows in scenes, which share their folds."""
    return make_labels(given, fold=groups % 5, groups=groups, **changes)


def loop_of(labels: Labels, folder: Path, **settings: Any) -> RoundLoop:
    """A loop over pictures of a scene each, with a tint for each class."""
    rng = np.random.default_rng(0)
    scenes = rng.integers(0, 150, (NUM_ROWS, SIDE, SIDE, 3))[GROUPS]
    pixels = (scenes + rng.integers(0, 20, scenes.shape)).astype(np.uint8)
    pixels[np.arange(NUM_ROWS), ..., TRUTH] += 60
    config = FitConfig(**(SETTINGS | settings))
    spec = prepare_backbone(config, num_classes=3, median_side=SIDE)
    store = ImageStore(pixels, np.arange(NUM_ROWS), torch.device("cpu"))
    folder.mkdir()
    return RoundLoop(labels, store, spec, config, checkpoint=Checkpoint(folder), reporter=SilentReporter())


def in_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Halves and held-out rows that do not depend on the labels."""

    def assign(labels: IntArray, groups: IntArray, *, num_folds: int, rng: np.random.Generator) -> IntArray:
        np.testing.assert_array_equal(groups, GROUPS)
        return GROUPS % num_folds

    monkeypatch.setattr(loops, "assign_folds", assign)


def networks_of(result: LoopResult) -> list[dict[str, torch.Tensor]]:
    assert isinstance(result.learner, TunedLearner)
    return [network.model.state_dict() for network in result.learner.networks]


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(values, other[name]) for name, values in one.items())


def test_halves_learn_nothing_of_the_labels_that_they_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """From a random start the first round knows nothing but the labels, so that nothing else can tell of the others."""
    in_halves(monkeypatch)
    swapped = np.where(HALF == 1, (TRUTH + 1) % 3, TRUTH)
    ends = [
        networks_of(loop_of(labels_of(given), tmp_path / name, weights="none", judge="crossfit").run())
        for name, given in (("as_they_are", TRUTH), ("swapped", swapped))
    ]
    assert equal(ends[0][0], ends[1][0])
    assert not equal(ends[0][1], ends[1][1])


@pytest.mark.parametrize("warm_rounds", [0, 3])
def test_patches_are_looked_at_beside_a_random_start_but_teach_it_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warm_rounds: int
):
    given = np.where(np.arange(NUM_ROWS) % 7 == 0, (TRUTH + 1) % 3, TRUTH)
    taught: list[Lesson] = []
    train = TunedLearner.train

    def watched(self: TunedLearner, lessons: list[Lesson], *, advance: Any) -> None:
        taught.extend(lessons)
        train(self, lessons, advance=advance)

    monkeypatch.setattr(TunedLearner, "train", watched)
    loop = loop_of(labels_of(given), tmp_path / "run", weights="none", judge="self", warm_rounds=warm_rounds)
    result = loop.run()
    assert [record.stage for record in result.history] == ["frozen"] * bool(warm_rounds) + ["finetune"]
    (lesson,) = taught
    np.testing.assert_array_equal(lesson.targets, np.eye(3)[given])
    assert lesson.labelled.all()
    (judge,) = result.judges
    assert judge.num_rounds == 1
    assert (judge.anchor is None) == (warm_rounds == 0)
    if judge.anchor is not None:  # the tint of a class is in every patch
        assert (judge.anchor.probs.argmax(axis=1) == TRUTH).mean() > 0.8


def test_networks_start_from_heads_of_their_own_half(tmp_path: Path, weights: str, monkeypatch: pytest.MonkeyPatch):
    in_halves(monkeypatch)
    taught: list[IntArray] = []
    fitted: list[FloatArray] = []
    head_for = FrozenLearner.head_for

    def watched(self: FrozenLearner, rows: IntArray, lesson: Lesson) -> tuple[FloatArray, FloatArray]:
        taught.append(rows)
        head = head_for(self, rows, lesson)
        fitted.append(head[0])
        return head

    def look(self: TunedLearner, lessons: list[Lesson], *, advance: Any) -> None:
        for network, weight in zip(self.networks, fitted, strict=True):
            np.testing.assert_allclose(network.model.head.weight.detach(), weight, rtol=1e-6)
        raise KeyboardInterrupt

    monkeypatch.setattr(FrozenLearner, "head_for", watched)
    monkeypatch.setattr(TunedLearner, "train", look)
    with pytest.raises(KeyboardInterrupt):
        loop_of(labels_of(TRUTH), tmp_path / "run", weights=weights, judge="crossfit").run()
    np.testing.assert_array_equal(taught, [np.flatnonzero(HALF == 0), np.flatnonzero(HALF == 1)])


@pytest.mark.parametrize("judge", ["self", "peer"])
def test_golden_labels_are_taught_to_nobody_who_judges_their_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, judge: str
):
    in_halves(monkeypatch)
    is_golden = GROUPS == 3
    ends, taught = [], []
    for name, known in (("right", TRUTH), ("wrong", (TRUTH + 1) % 3)):
        labels = labels_of(TRUTH, golden=np.where(is_golden, known, UNKNOWN))
        result = loop_of(labels, tmp_path / name, weights="none", judge=judge).run()
        ends.append(networks_of(result))
        taught.append(result.scans[0].taught)
    assert len(ends[0]) == (2 if judge == "peer" else 1)
    assert all(equal(one, other) for one, other in zip(*ends, strict=True))
    np.testing.assert_array_equal(taught[0], (GROUPS % 2 != 0) & ~is_golden)


def test_halves_and_held_out_rows_keep_groups_whole(tmp_path: Path):
    for judge in ("crossfit", "self"):
        result = loop_of(labels_of(TRUTH), tmp_path / judge, weights="none", judge=judge).run()
        assert isinstance(result.learner, TunedLearner)
        teaches: BoolArray = result.learner.networks[0].teaches
        shares = np.bincount(GROUPS, weights=teaches) / np.bincount(GROUPS)
        assert set(shares) == {0.0, 1.0}


@pytest.mark.parametrize("judge", ["crossfit", "self"])
def test_rows_of_the_own_group_are_no_neighbors_in_either_stage(tmp_path: Path, weights: str, judge: str):
    """The pictures of a scene are nearest to each other: without the groups they would be the neighbours."""
    nearest_of = {}
    for name, groups in (("scenes", GROUPS), ("rows", np.arange(NUM_ROWS))):
        labels = labels_of(TRUTH, groups=groups)
        result = loop_of(labels, tmp_path / name, weights=weights, judge=judge).run()
        (judged,) = result.judges
        assert judged.anchor is not None
        nearest_of[name] = [scan.neighbor_rows for scan in (judged.anchor, *result.scans)]
    for rows in nearest_of["scenes"]:
        assert (GROUPS[rows] != GROUPS[:, None]).all()
    assert len(nearest_of["scenes"]) == 2
    for rows in nearest_of["rows"]:
        assert (GROUPS[rows] == GROUPS[:, None]).any(axis=1).mean() > 0.5


def test_the_frozen_scan_stays_beside_the_tuned_one(tmp_path: Path, weights: str):
    result = loop_of(labels_of(TRUTH), tmp_path / "run", weights=weights).run()
    stages = [record.stage for record in result.history]
    assert stages == ["frozen", "finetune"]
    anchor = result.judges[0].anchor
    assert anchor is not None
    assert np.abs(anchor.probs - result.scans[0].probs).max() > 1e-3


def test_the_first_view_of_frozen_features_stays_beside_the_later_ones(
    tmp_path: Path, weights: str, monkeypatch: pytest.MonkeyPatch
):
    given = np.where(np.arange(NUM_ROWS) % 7 == 0, (TRUTH + 1) % 3, TRUTH)
    seen: list[tuple[View, ...]] = []
    assess = Judge.assess

    def watched(self: Judge, scan: Scan, *, rng: np.random.Generator) -> Assessment:
        found = assess(self, scan, rng=rng)
        seen.append(found.views)
        return found

    monkeypatch.setattr(Judge, "assess", watched)
    monkeypatch.setattr(loops, "SETTLED", 0)
    loop_of(labels_of(given), tmp_path / "run", weights=weights, warm_rounds=3, rounds=2).run()
    assert [len(views) for views in seen] == [1, 2, 2, 3, 3]  # the anchor, too, beside the tuned networks
    np.testing.assert_array_equal(seen[1][0].probs, seen[0][0].probs)
    assert all(views[0] is seen[1][0] for views in seen[1:])
    assert all(np.abs(views[-1].probs - seen[0][0].probs).max() > 1e-3 for views in seen[1:])


def test_groups_of_the_index_and_equal_files_are_kept_together():
    """Rows 0 and 1 share a group, rows 2 and 3 a file, and row 4 stands for itself."""
    manifest = make_manifest(["a", "b"] * 20)
    manifest.group_ids[:2] = 0
    digests = np.arange(1, 41, dtype=np.uint8)[:, None].repeat(16, axis=1)
    digests[3] = digests[2]
    rows = np.delete(np.arange(40), 7)
    files = Decoded(np.zeros((40, 1, 1, 3), np.uint8), digests, {}).files[rows]
    labels = given_labels(manifest, files, rows, FitConfig())
    sizes = np.bincount(labels.groups)[labels.groups]
    assert np.flatnonzero(sizes > 1).tolist() == [0, 1, 2, 3]
    for pair in ([0, 1], [2, 3]):
        assert len(set(labels.groups[pair])) == len(set(labels.fold[pair])) == 1
    np.testing.assert_array_equal(labels.given, manifest.label_ids[rows])
    assert set(labels.fold) == set(range(FitConfig().folds))


@pytest.mark.parametrize(("judge", "pretrained"), [("peer", True), ("self", False), ("crossfit", False)])
def test_judges_of_fine_tuning_know_what_the_stage_before_saw(
    tmp_path: Path, weights: str, monkeypatch: pytest.MonkeyPatch, judge: str, pretrained: bool
):
    started: list[tuple[Judge, dict[str, Any]]] = []
    start = Judge.start_stage

    def watched(self: Judge, anchor: Scan | None, **known: Any) -> None:
        start(self, anchor, **known)
        started.extend([(self, known)] if anchor is not None else [])

    monkeypatch.setattr(Judge, "start_stage", watched)
    monkeypatch.setattr(loops, "trains_as_usual", lambda *_, **__: not pretrained)
    loop_of(labels_of(TRUTH), tmp_path / "run", weights=weights if pretrained else "none", judge=judge).run()
    judges, known = zip(*started, strict=True)
    assert len(judges) == (2 if judge == "peer" else 1)
    assert all((one.unswayed is not None) == pretrained for one in judges)
    assert all(one.unswayed is judges[0].unswayed for one in judges)
    assert all(told == {"from_scratch": not pretrained, "by_resistance": judge == "self"} for told in known)


def test_history_tells_what_a_round_found(tmp_path: Path, weights: str, monkeypatch: pytest.MonkeyPatch):
    found: list[tuple[Scan, Assessment]] = []
    assess = Judge.assess

    def watched(self: Judge, scan: Scan, *, rng: np.random.Generator) -> Assessment:
        found.append((scan, assess(self, scan, rng=rng)))
        return found[-1][1]

    monkeypatch.setattr(Judge, "assess", watched)
    given = np.where(np.arange(NUM_ROWS) % 7 == 0, (TRUTH + 1) % 3, TRUTH)
    history = loop_of(labels_of(given), tmp_path / "run", weights=weights).run().history
    for record, (scan, assessment) in zip(history, found, strict=True):
        bins = assessment.division.bins
        shares = record.share_positive, record.share_negative, record.share_uncertain
        assert shares == pytest.approx([(bins == part).mean() for part in Bin])
        assert record.share_accepted == pytest.approx(assessment.purified.accepted.mean())
        of_streams = assessment.streams.p_loss, assessment.streams.p_feature, assessment.purified.p_meta
        rates = record.noise_rate_loss, record.noise_rate_feature, record.noise_rate
        assert rates == pytest.approx([1 - p.mean() for p in of_streams])
        assert record.agreement == pytest.approx((scan.probs.argmax(axis=1) == given).mean())
        assert len({*shares, *rates}) > 4
