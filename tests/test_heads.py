"""Linear heads, and the frozen stage's learner whose rows are predicted by heads that never saw them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from labelclean.records import FloatArray
from labelclean.train import heads
from labelclean.train.heads import HEAD_LENGTH, FrozenLearner, LinearHead, fit_head, whitened
from labelclean.tssd.semisup import Lesson, first_lesson
from tests.conftest import as_frozen

CPU = torch.device("cpu")


def ignore(_: int) -> None:
    pass


def softmax(logits: FloatArray) -> FloatArray:
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exp / exp.sum(axis=1, keepdims=True))


def blobs(num_rows: int = 90) -> tuple[FloatArray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(num_rows) % 3
    return (7 + 3 * rng.normal(size=(num_rows, 6)) + 12 * np.eye(6)[labels]).astype(np.float32), labels


def learner_of(features: FloatArray, fold: np.ndarray) -> FrozenLearner:
    return FrozenLearner(as_frozen(features), fold, np.arange(len(fold)), num_neighbors=5, device=CPU)


def test_fit_head_recovers_a_planted_linear_model():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(500, 4)).astype(np.float32)
    planted = 0.7 * rng.normal(size=(4, 3))
    probs = softmax(features @ planted + np.array([0.5, 0, -0.5]))
    head = fit_head(torch.from_numpy(features), torch.from_numpy(probs).float(), torch.ones(500))
    found = head.probs(torch.from_numpy(features))
    assert np.abs(found - probs).mean() < 0.02
    assert np.corrcoef(np.log(found).ravel(), np.log(probs).ravel())[0, 1] > 0.99


def test_rows_without_weight_teach_nothing():
    features, labels = blobs()
    x = torch.from_numpy((features - features.mean(axis=0)) / features.std(axis=0))
    targets = torch.eye(3)[torch.from_numpy(labels)]
    misled, weights = targets.clone(), torch.ones(90)
    misled[:30], weights[:30] = torch.tensor([0.0, 0.0, 1.0]), 0.0
    found, expected = fit_head(x, misled, weights), fit_head(x[30:], targets[30:], torch.ones(60))
    torch.testing.assert_close(found.weight, expected.weight, atol=1e-3, rtol=1e-2)


def test_start_changes_the_way_and_not_the_end():
    features, labels = blobs()
    x = torch.from_numpy((features - features.mean(axis=0)) / features.std(axis=0))
    targets = torch.eye(3)[torch.from_numpy(labels)]
    cold = fit_head(x, targets, torch.ones(90))
    before = cold.weight.clone()
    warm = fit_head(x, targets.roll(1, 0) * 0.1 + targets * 0.9, torch.ones(90), start=cold)
    assert torch.equal(cold.weight, before)
    warm = fit_head(x, targets, torch.ones(90), start=warm)
    torch.testing.assert_close(warm.weight, cold.weight, atol=1e-2, rtol=0.05)


def test_own_target_does_not_touch_the_own_prediction():
    features, labels = blobs()
    fold = np.arange(90) // 3 % 5
    lesson = first_lesson(labels, np.zeros(len(labels), dtype=bool), num_classes=3)
    targets = lesson.targets.copy()
    targets[4] = [0, 0, 1]
    changed = Lesson(labelled=lesson.labelled, targets=targets, guesses=lesson.guesses, weights=lesson.weights)
    probs = []
    for taught in (lesson, changed):
        learner = learner_of(features, fold)
        for _ in range(2):
            learner.train([taught], advance=ignore)
        (scan,) = learner.scan(advance=ignore)
        probs.append(scan.probs)
    held = fold == fold[4]
    np.testing.assert_array_equal(probs[0][held], probs[1][held])
    assert (probs[0][~held] != probs[1][~held]).any()


def test_scan_predicts_and_finds_neighbors():
    features, labels = blobs()
    learner = learner_of(features, np.arange(90) // 3 % 5)
    learner.train([first_lesson(labels, np.zeros(len(labels), dtype=bool), num_classes=3)], advance=ignore)
    (scan,) = learner.scan(advance=ignore)
    assert (scan.probs.argmax(axis=1) == labels).mean() > 0.9
    assert (labels[scan.neighbor_rows] == labels[:, None]).mean() > 0.8
    assert learner.take_passes() == (0, 0)
    view = scan.view(labels, labels, np.ones(90), np.arange(90))
    assert (view.affinity.argmax(axis=1) == labels).mean() > 0.9


def test_neighbors_see_no_more_axes_than_the_rows_can_bear():
    scores = np.random.default_rng(0).normal(size=(40, 30)).astype(np.float32) * np.linspace(9, 1, 30, dtype=np.float32)
    space = whitened(scores)
    assert space.shape == (40, 10)
    np.testing.assert_allclose(space.std(axis=0), 1, rtol=1e-5)
    np.testing.assert_allclose(space, scores[:, :10] / scores[:, :10].std(axis=0), rtol=1e-5)
    assert whitened(scores[:3]).shape == (3, 1)
    assert whitened(np.tile(scores, (4, 1))).shape == (160, 30)


def test_heads_of_few_rows_are_held_tighter(monkeypatch: pytest.MonkeyPatch):
    ridges = []

    def watched(*taught: torch.Tensor, ridge: float, start: LinearHead | None) -> LinearHead:
        ridges.append(ridge)
        return fit_head(*taught, ridge=ridge, start=start)

    monkeypatch.setattr(heads, "fit_head", watched)
    features, labels = blobs()
    for rows_of_ridge in (90, 360, 30):
        monkeypatch.setattr(heads, "ROWS_OF_RIDGE", rows_of_ridge)
        learner_of(features, np.zeros(90, dtype=int)).train(
            [first_lesson(labels, np.zeros(len(labels), dtype=bool), num_classes=3)], advance=ignore
        )
    np.testing.assert_allclose(ridges, np.array([1, 2, 1]) * heads.HEAD_RIDGE)


def test_fewer_rows_than_folds_leave_folds_empty():
    features, labels = blobs(6)
    learner = learner_of(features, np.array([0, 0, 0, 2, 2, 2]))
    learner.train([first_lesson(labels, np.zeros(len(labels), dtype=bool), num_classes=3)], advance=ignore)
    (scan,) = learner.scan(advance=ignore)
    np.testing.assert_allclose(scan.probs.sum(axis=1), 1, atol=1e-5)


def test_head_for_takes_the_output_and_the_given_rows_only():
    features, labels = blobs()
    learner = learner_of(features, np.arange(90) // 3 % 5)
    lesson = first_lesson(labels, np.zeros(len(labels), dtype=bool), num_classes=3)
    rows = np.arange(60)
    weight, bias = learner.head_for(rows, lesson)
    assert weight.shape == (3, 6)
    probs = softmax(features @ weight.T + bias)
    inputs = torch.from_numpy((features - features.mean(axis=0)) / features.std(axis=0) * np.sqrt(HEAD_LENGTH / 6))
    head = fit_head(inputs[:60].float(), torch.from_numpy(lesson.targets[:60]), torch.ones(60))
    np.testing.assert_allclose(probs, head.probs(inputs.float()), atol=1e-4)
    lesson.targets[60:] = np.eye(3)[0]
    again, _ = learner.head_for(rows, lesson)
    np.testing.assert_array_equal(weight, again)
    lesson.weights[30:60] = 1e-6
    of_half, _ = learner.head_for(rows, lesson)
    np.testing.assert_allclose(of_half, learner.head_for(np.arange(30), lesson)[0], atol=1e-3)
    assert np.abs(of_half - weight).max() > 0.01


def test_tensors_repeat_the_predictions():
    features, labels = blobs()
    fold = np.arange(90) // 3 % 5
    learner = learner_of(features, fold)
    learner.train([first_lesson(labels, np.zeros(len(labels), dtype=bool), num_classes=3)], advance=ignore)
    (scan,) = learner.scan(advance=ignore)
    kept = {name: tensor.numpy() for name, tensor in learner.tensors().items()}
    inputs = (features - kept["features.mean"]) @ kept["features.axes"]
    for part in range(5):
        probs = softmax(inputs @ kept[f"heads.{part}.weight"].T + kept[f"heads.{part}.bias"])
        assert probs[fold == part] == pytest.approx(scan.probs[fold == part], abs=1e-4)
