"""The method's pure functions against planted cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from labelclean.records import UNKNOWN, Bin, of_label
from labelclean.tssd.channel import fit_channel
from labelclean.tssd.division import divide
from labelclean.tssd.mixture import clean_posterior
from labelclean.tssd.purification import calibrate, draw_wrong
from labelclean.tssd.semisup import (
    confidence,
    correct_prior,
    first_lesson,
    labelled_loss,
    make_lesson,
    prior_penalty,
    ramp,
    sharpen,
    unlabelled_loss,
)
from labelclean.tssd.streams import neighbor_votes, prototype_affinity


def planted(noise: float, *, num_rows: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Calibrated probabilities of three classes, the true labels drawn from them, and labels flipped at a rate."""
    rng = np.random.default_rng(seed)
    logits = 3 * rng.normal(size=(num_rows, 3))
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    true = (probs.cumsum(axis=1) < rng.random(num_rows)[:, None]).sum(axis=1)
    flipped = rng.random(num_rows) < noise
    given = np.where(flipped, (true + rng.integers(1, 3, num_rows)) % 3, true)
    return probs, true, given


@pytest.mark.parametrize("noise", [0.1, 0.2, 0.4])
def test_channel_finds_the_planted_noise_rate(noise: float) -> None:
    probs, true, given = planted(noise)
    scores = [np.log(probs)]
    channel = fit_channel(scores, given, rng=np.random.default_rng(0))
    p_clean = of_label(channel.posterior(channel.prior(scores), given), given)
    assert 1 - p_clean.mean() == pytest.approx((true != given).mean(), abs=0.02)
    assert np.diag(channel.transition) == pytest.approx(1 - noise, abs=0.05)


def test_channel_does_not_call_ambiguous_clean_labels_wrong() -> None:
    probs, _, given = planted(0.0)
    scores = [np.log(probs)]
    channel = fit_channel(scores, given, rng=np.random.default_rng(0))
    p_clean = of_label(channel.posterior(channel.prior(scores), given), given)
    assert (probs.argmax(axis=1) != given).mean() > 0.1
    assert (p_clean < 0.5).mean() < 0.03


def test_golden_rows_move_the_channel() -> None:
    probs, true, given = planted(0.3)
    golden = np.full(len(given), UNKNOWN)
    golden[:1000] = given[:1000]  # as if every label that was checked had been right
    blind = fit_channel([np.log(probs)], given, rng=np.random.default_rng(0))
    told = fit_channel([np.log(probs)], given, golden=golden, rng=np.random.default_rng(0))
    assert np.diag(told.transition).mean() > np.diag(blind.transition).mean() + 0.02
    assert true.max() == 2


def test_channel_refuses_scores_of_another_length() -> None:
    with pytest.raises(ValueError, match="4 labels"):
        fit_channel([np.zeros((3, 2))], np.zeros(4, dtype=int), rng=np.random.default_rng(0))


def test_mixture_splits_two_groups_and_leaves_one_alone() -> None:
    rng = np.random.default_rng(0)
    two = np.concatenate([rng.normal(0, 0.1, 300), rng.normal(2, 0.1, 100)])
    labels = np.zeros(400, dtype=int)
    high = np.arange(400) >= 300
    split = clean_posterior(two, labels, np.zeros(400, bool), rng=rng)
    assert np.array_equal(split.posterior > 0.5, high)
    assert not split.guards
    one = clean_posterior(rng.normal(size=400), labels, high, rng=rng)
    assert np.array_equal(one.posterior > 0.5, high)
    assert "no two groups" in one.guards[0]
    assert np.all(clean_posterior(np.ones(400), labels, high, rng=rng).posterior == 1)


def test_votes_are_weighted_and_corrected_for_class_frequency() -> None:
    neighbors, similar = np.array([[1, 2], [0, 2], [0, 1], [0, 1]]), np.full((4, 2), 0.5)
    labels, trust = np.array([0, 0, 1, 1]), np.array([1.0, 1.0, 1.0, 0.0])
    votes, agreement = neighbor_votes(neighbors, similar, labels, trust, labels=labels, num_classes=2)
    # row 0: half a vote for class 0 of share 2/3, half a vote for class 1 of share 1/3, and the floor
    expected = np.array([0.5 / (2 / 3) + 0.01, 0.5 / (1 / 3) + 0.01])
    assert votes[0] == pytest.approx(expected / expected.sum())
    assert agreement == pytest.approx([0.5, 0.5, 0.0, 0.0])


def test_a_row_is_left_out_of_its_own_prototype() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(12, 5))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    labels, trust = np.arange(12) % 3, rng.random(12)
    found = prototype_affinity(features, labels, trust, num_classes=3)
    for row in range(12):
        for label in range(3):
            members = [other for other in range(12) if labels[other] == label and other != row]
            prototype = (features[members] * trust[members, None]).sum(axis=0)
            assert found[row, label] == pytest.approx(features[row] @ prototype / np.linalg.norm(prototype))


def test_division_follows_its_truth_table() -> None:
    p_loss = np.array([0.9, 0.9, 0.1, 0.1, 0.7, 0.3, 0.5])
    p_feature = np.array([0.9, 0.1, 0.9, 0.1, 0.9, 0.1, 0.5])
    bins = divide(p_loss, p_feature, np.zeros(7, dtype=int), trust=0.7, distrust=0.3).bins
    both, neither, torn = Bin.CERTAIN_POSITIVE, Bin.CERTAIN_NEGATIVE, Bin.UNCERTAIN
    assert bins.tolist() == [both, torn, torn, neither, torn, torn, torn]


def test_a_class_without_positives_keeps_its_most_trusted_row() -> None:
    p = np.array([0.9, 0.9, 0.9, 0.2, 0.25])
    division = divide(p, p, np.array([0, 0, 0, 1, 1]), trust=0.7, distrust=0.3)
    assert division.bins.tolist()[3:] == [Bin.CERTAIN_NEGATIVE, Bin.CERTAIN_POSITIVE]
    assert "kept their most trusted rows" in division.guards[0]


def test_wrong_labels_are_drawn_as_the_channel_confuses() -> None:
    transition = np.array([[0.7, 0.2, 0.1], [0.0, 1.0, 0.0], [0.3, 0.0, 0.7]])
    labels = np.repeat([0, 1, 2], 3000)
    drawn = draw_wrong(transition, labels, np.random.default_rng(0))
    assert not np.any(drawn == labels)
    assert (drawn[:3000] == 1).mean() == pytest.approx(2 / 3, abs=0.03)


def test_golden_rows_calibrate_and_few_of_them_do_not() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(2000)
    labels = np.zeros(2000, dtype=int)
    truth = (rng.random(2000) > p**3).astype(int)  # the label is right with probability p ** 3
    golden = np.where(np.arange(2000) < 1000, truth, UNKNOWN)
    calibrated = calibrate(p, labels, golden)
    assert np.abs(calibrated - p**3).mean() < 0.05 < np.abs(p - p**3).mean()
    assert calibrate(p, labels, np.where(np.arange(2000) < 20, truth, UNKNOWN)) is p


def test_losses_by_hand() -> None:
    logits = torch.log(torch.tensor([[0.8, 0.2], [0.5, 0.5]]))
    targets, weights = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([1.0, 0.5])
    assert float(labelled_loss(logits, targets, weights)) == pytest.approx(-np.log(0.8) - 0.5 * np.log(0.5))
    assert float(unlabelled_loss(logits, targets, weights)) == pytest.approx(2 * 0.2**2 + 0.5 * 2 * 0.5**2)
    prior = torch.tensor([0.5, 0.5])
    expected = 0.5 * np.log(0.5 / 0.65) + 0.5 * np.log(0.5 / 0.35)
    assert float(prior_penalty(logits, prior)) == pytest.approx(expected, rel=1e-5)
    assert [ramp(progress) for progress in (0.0, 0.25, 0.5, 1.0)] == [0.0, 0.5, 1.0, 1.0]


def test_sharpening_and_the_class_prior_by_hand() -> None:
    assert sharpen(np.array([[0.8, 0.2]]), temperature=0.5)[0] == pytest.approx([16 / 17, 1 / 17])
    even = np.array([[0.9, 0.1], [0.7, 0.3]])
    assert correct_prior(even, np.array([0.8, 0.2])) == pytest.approx(even)


def test_a_lesson_refines_believed_labels_and_teaches_golden_ones() -> None:
    prior = np.array([[0.5, 0.5, 0.0], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]])
    lesson = make_lesson(
        prior,
        np.array([0.9, 0.0, 0.5]),
        np.array([0, 0, 1]),
        np.array([True, False, False]),
        golden=np.array([UNKNOWN, UNKNOWN, 2]),
        temperature=1.0,
    )
    assert lesson.targets.sum(axis=1) == pytest.approx(1)
    assert lesson.targets[0] == pytest.approx([0.9, 0.1, 0.0], abs=1e-4)
    assert lesson.targets[1, 0] == pytest.approx(0, abs=1e-4)
    assert lesson.targets[2].tolist() == [0, 0, 1]
    assert lesson.labelled.tolist() == [True, False, True]


def test_the_first_lesson_guesses_nothing() -> None:
    lesson = first_lesson(np.array([0, 1, 2]), num_classes=3)
    assert confidence(lesson.guesses) == pytest.approx(0, abs=1e-6)
    assert confidence(lesson.targets) == pytest.approx(1)
