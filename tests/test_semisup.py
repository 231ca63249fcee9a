"""The semi-supervised round by hand: targets, and the three parts of the loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from labelclean.records import UNKNOWN
from labelclean.tssd.numbers import correct_prior
from labelclean.tssd.semisup import (
    LEAST_WEIGHT,
    confidence,
    first_lesson,
    labelled_loss,
    make_lesson,
    mix,
    prior_penalty,
    ramp,
    sharpen,
    unlabelled_loss,
)


def logits_of(probs: list[list[float]]) -> torch.Tensor:
    return torch.tensor(probs, dtype=torch.float64).log()


def test_labelled_loss_by_hand():
    logits = logits_of([[0.5, 0.5], [0.8, 0.2]])
    targets, weights = torch.tensor([[1.0, 0.0], [0.25, 0.75]]).double(), torch.tensor([1.0, 0.5]).double()
    expected = -np.log(0.5) - 0.5 * (0.25 * np.log(0.8) + 0.75 * np.log(0.2))
    assert float(labelled_loss(logits, targets, weights)) == pytest.approx(expected)


def test_unlabelled_loss_by_hand():
    logits = logits_of([[0.5, 0.5], [0.8, 0.2]])
    guesses, weights = torch.tensor([[1.0, 0.0], [0.8, 0.2]]).double(), torch.tensor([2.0, 1.0]).double()
    assert float(unlabelled_loss(logits, guesses, weights)) == pytest.approx(2 * (0.25 + 0.25))
    opposite = unlabelled_loss(logits_of([[1.0, 1e-30]]), torch.tensor([[0.0, 1.0]]).double(), torch.ones(1).double())
    assert float(opposite) == pytest.approx(2.0)


def test_losses_of_no_rows_are_zero():
    none = torch.zeros(0, 3)
    assert float(labelled_loss(none, none, torch.zeros(0))) == 0
    assert float(unlabelled_loss(none, none, torch.zeros(0))) == 0


def test_prior_penalty_by_hand():
    logits = logits_of([[0.9, 0.1], [0.3, 0.7]])  # mean prediction .6, .4
    prior = torch.tensor([0.5, 0.5]).double()
    expected = 0.5 * np.log(0.5 / 0.6) + 0.5 * np.log(0.5 / 0.4)
    assert float(prior_penalty(logits, prior)) == pytest.approx(expected)
    assert float(prior_penalty(logits, torch.tensor([0.6, 0.4]).double())) == pytest.approx(0, abs=1e-6)


def test_sharpen_by_hand():
    # .8^2 / (.8^2 + .2^2)
    np.testing.assert_allclose(sharpen(np.array([[0.8, 0.2]]), temperature=0.5), [[0.64 / 0.68, 0.04 / 0.68]])
    np.testing.assert_allclose(sharpen(np.array([[0.8, 0.2]]), temperature=1.0), [[0.8, 0.2]])
    np.testing.assert_allclose(sharpen(np.full((1, 2000), 1 / 2000), temperature=0.01), 1 / 2000)
    np.testing.assert_allclose(sharpen(np.array([[1.0, 0.0]]), temperature=0.1), [[1.0, 0.0]], atol=1e-9)


def test_correct_prior_by_hand():
    probs = np.array([[0.9, 0.1], [0.5, 0.5]])  # mean .7, .3
    corrected = correct_prior(probs, np.array([0.5, 0.5]))
    odds = np.array([9 * 3 / 7, 3 / 7])
    np.testing.assert_allclose(corrected[:, 0], odds / (1 + odds))
    np.testing.assert_allclose(correct_prior(probs, np.array([0.7, 0.3])), probs)


def test_mix_by_hand():
    values = torch.tensor([[0.0, 4.0], [8.0, 0.0]])
    mixed = mix(values, torch.tensor([1, 0]), 0.75)
    assert mixed.tolist() == [[2.0, 3.0], [6.0, 1.0]]


def test_ramp_rises_over_the_first_half():
    assert [ramp(progress) for progress in (0, 0.25, 0.5, 0.9, 1)] == [0, 0.5, 1, 1, 1]


def test_lesson_keeps_the_label_as_far_as_it_is_believed():
    prior = np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1]])
    lesson = make_lesson(
        prior,
        np.array([0.9, 0.2]),
        np.array([0, 0]),
        np.array([True, False]),
        golden=np.full(2, UNKNOWN),
        temperature=1.0,
    )
    # the label keeps p_clean, the others share the rest as the prediction has them
    np.testing.assert_allclose(lesson.targets[0], [0.9, 0.1 * 0.75, 0.1 * 0.25], atol=1e-5)
    np.testing.assert_allclose(lesson.targets[1], [0.2, 0.8 * 0.875, 0.8 * 0.125], atol=1e-5)
    np.testing.assert_allclose(lesson.guesses, prior, atol=1e-6)
    np.testing.assert_array_equal(lesson.labelled, [True, False])


def test_lesson_of_any_rows_is_sound():
    rng = np.random.default_rng(0)
    prior = rng.dirichlet(np.full(5, 0.2), 200)
    labels, p_clean = rng.integers(0, 5, 200), rng.random(200)
    prior[0], labels[0], p_clean[0] = np.eye(5)[2], 2, 0.0  # certain of the very label that is disbelieved
    labelled, golden = p_clean > 0.5, np.where(np.arange(200) % 10 == 1, (labels + 1) % 5, UNKNOWN)
    lesson = make_lesson(prior, p_clean, labels, labelled, golden=golden, temperature=0.5)
    known = golden != UNKNOWN
    np.testing.assert_allclose(lesson.targets.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(lesson.guesses.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(lesson.targets[known], np.eye(5)[golden[known]])
    np.testing.assert_array_equal(lesson.labelled, labelled | known)
    assert ((lesson.weights > 0) & (lesson.weights <= 1)).all()
    assert np.isfinite(lesson.targets).all()
    assert {array.dtype for array in (lesson.targets, lesson.guesses, lesson.weights)} == {np.dtype(np.float32)}


@pytest.mark.parametrize("sure", [0.9, 0.9999, 1 - 1e-9, 1.0])
def test_what_a_label_loses_does_not_come_back_by_the_guess(sure: float):
    prior = np.array([[sure, 1 - sure, 0.0]])
    lesson = make_lesson(
        prior, np.array([0.5]), np.array([0]), np.array([False]), golden=np.array([UNKNOWN]), temperature=0.5
    )
    share = 0.5 + (0.5 / 3 if sure == 1 else 0)  # where nothing is known of the others all classes are alike
    np.testing.assert_allclose(lesson.targets[0, 0], share, atol=1e-6)
    np.testing.assert_allclose(lesson.targets.sum(), 1, atol=1e-6)


def test_guesses_are_blind_to_the_label():
    prior = np.random.default_rng(0).dirichlet(np.ones(3), 20)
    lessons = [
        make_lesson(prior, np.full(20, 0.7), labels, np.ones(20, bool), golden=np.full(20, UNKNOWN), temperature=0.5)
        for labels in (np.zeros(20, int), np.ones(20, int))
    ]
    np.testing.assert_array_equal(lessons[0].guesses, lessons[1].guesses)


def test_first_lesson_believes_every_label():
    """But for those that are known to be wrong."""
    refuted = np.array([False, False, True])
    lesson = first_lesson(np.array([2, 0, 1]), refuted, num_classes=3)
    assert lesson.labelled.tolist() == [True, True, False]
    np.testing.assert_allclose(lesson.targets, [[0, 0, 1], [1, 0, 0], [1 / 3] * 3], rtol=1e-6)
    np.testing.assert_allclose(lesson.weights, [1, 1, LEAST_WEIGHT])


def test_confidence_is_none_for_a_flat_guess_and_full_for_a_single_class():
    lesson = first_lesson(np.array([0, 1, 2]), np.zeros(3, dtype=bool), num_classes=3)
    np.testing.assert_allclose(confidence(lesson.guesses), 0, atol=1e-6)
    np.testing.assert_allclose(confidence(lesson.targets), 1)
    np.testing.assert_allclose(confidence(np.array([[0.6, 0.2, 0.2]])), 0.4)
