"""Mistakes that fall where the image looks like the wrong class: by hand, and what was planted is found again."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from labelclean.records import FloatArray, IntArray, of_label
from labelclean.tssd import channel as channels
from labelclean.tssd import resemblance
from labelclean.tssd.channel import NoiseChannel, fit_channel
from labelclean.tssd.resemblance import (
    LARGEST,
    appeal_of,
    concentration,
    count_labels,
    improve,
    label_chances,
    label_likelihoods,
    wrong_chances,
)

T = torch.tensor([[0.8, 0.15, 0.05], [0.1, 0.6, 0.3], [0.0, 0.0, 1.0]], dtype=torch.float64)
PRIOR = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]], dtype=torch.float64)


def draw(probs: FloatArray, rng: np.random.Generator) -> IntArray:
    return np.asarray((probs.cumsum(axis=1) < rng.random((len(probs), 1))).sum(axis=1).clip(max=probs.shape[1] - 1))


def planted(
    rate: float, strength: float, *, sharpness: float = 2.0, num_rows: int = 4000
) -> tuple[FloatArray, IntArray, IntArray]:
    """Log-probabilities of four classes, true classes, and labels of which some went where the image looked like it."""
    rng = np.random.default_rng(0)
    logits = sharpness * rng.normal(size=(num_rows, 4))
    log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    truth = draw(np.exp(log_probs), rng)
    others = np.exp(strength * log_probs)
    others[np.arange(num_rows), truth] = 0
    wrong = rng.random(num_rows) < rate
    return log_probs, truth, np.where(wrong, draw(others / others.sum(axis=1, keepdims=True), rng), truth)


def even(num_classes: int) -> torch.Tensor:
    """T with a tenth for every other label."""
    return torch.full((num_classes, num_classes), 0.1, dtype=torch.float64) + (1 - 0.1 * num_classes) * torch.eye(
        num_classes, dtype=torch.float64
    )


def after_steps(prior: torch.Tensor, truth: IntArray, given: IntArray, *, num_steps: int = 5) -> float:
    """The resemblance that so many steps from 0 find, with the true classes known."""
    known = torch.nn.functional.one_hot(torch.from_numpy(truth), prior.shape[1]).double()
    found = 0.0
    for _ in range(num_steps):
        found = improve(found, prior, known, even(prior.shape[1]), torch.from_numpy(given))
    return found


def test_chances_by_hand():
    appeal = appeal_of(PRIOR, 1.0)
    # image 0, class 0: .2 wrong, of which .15 * .3 to .05 * .2, so 9 to 2
    expected = [[0.8, 0.2 * 9 / 11, 0.2 * 2 / 11], [0.4 * 1 / 22, 0.6, 0.4 * 21 / 22]]
    np.testing.assert_allclose(label_chances(T, appeal, torch.tensor([0, 1])), expected)


@pytest.mark.parametrize("strength", [0.0, 0.4, 1.0])
def test_all_chances_are_of_one_kind(strength: float):
    """A label's chance, its testimony and the chance of being wrong are the same numbers, differently arranged."""
    appeal = appeal_of(PRIOR, strength)
    by_class = torch.stack([label_chances(T, appeal, torch.full((2,), true)) for true in range(3)], dim=1)
    np.testing.assert_allclose(by_class.sum(dim=2), 1)
    for given in range(3):
        np.testing.assert_allclose(label_likelihoods(T, appeal, torch.full((2,), given)), by_class[:, :, given])
    wrong = sum(PRIOR[:, [true]] * by_class[:, true] * (torch.arange(3) != true) for true in range(3))
    np.testing.assert_allclose(wrong_chances(T, appeal, PRIOR), wrong)
    if strength == 0:
        np.testing.assert_allclose(by_class, T.expand(2, 3, 3))


def test_channel_reckons_with_the_image():
    channel = NoiseChannel(transition=T.numpy(), weights=np.ones(1), bias=np.zeros(3), resemblance=1.0)
    prior, appeal = PRIOR.numpy(), appeal_of(PRIOR, 1.0)
    np.testing.assert_allclose(
        channel.label_chances(prior, np.array([0, 1])), label_chances(T, appeal, torch.arange(2))
    )
    joint = prior * label_likelihoods(T, appeal, torch.tensor([1, 2])).numpy()
    np.testing.assert_allclose(channel.posterior(prior, np.array([1, 2])), joint / joint.sum(axis=1, keepdims=True))
    for label in range(3):
        p = of_label(channel.posterior(prior, np.full(2, label)), np.full(2, label))
        np.testing.assert_allclose(channel.clean_posterior(prior)[:, label], p)


def test_counts_take_off_what_the_images_explain():
    log_probs, truth, given = planted(0.4, 1.0)
    prior, labels = torch.from_numpy(np.exp(log_probs)), torch.from_numpy(given)
    known = torch.nn.functional.one_hot(torch.from_numpy(truth), 4).double()
    plain = np.histogram2d(truth, given, bins=4)[0]
    np.testing.assert_allclose(count_labels(known, even(4), appeal_of(prior, 0.0), labels), plain)
    counts = count_labels(known, even(4), appeal_of(prior, 1.0), labels)
    np.testing.assert_allclose(counts.sum(dim=1), plain.sum(axis=1))
    np.testing.assert_allclose(counts.diagonal(), np.diag(plain))
    # without the images' share no class is preferred
    apart = ~np.eye(4, dtype=bool)
    np.testing.assert_allclose(counts.numpy()[apart].reshape(4, 3) / plain[apart].reshape(4, 3).sum(1)[:, None], 1 / 3,
                               atol=0.06)  # fmt: skip


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_steps_find_the_planted_resemblance(monkeypatch: pytest.MonkeyPatch, strength: float):
    monkeypatch.setattr(resemblance, "RIDGE", 0.0)
    log_probs, truth, given = planted(0.4, strength)
    found = after_steps(torch.from_numpy(np.exp(log_probs)), truth, given)
    assert found == pytest.approx(strength, abs=0.08)


def estimate(channel: NoiseChannel, scores: FloatArray, labels: IntArray) -> FloatArray:
    return of_label(channel.posterior(channel.prior([scores]), labels), labels)


def test_wrong_labels_that_the_image_looks_like_do_not_pass_for_ambiguous_ones(monkeypatch: pytest.MonkeyPatch):
    scores, truth, labels = planted(0.4, 1.0, sharpness=5.0)
    found = fit_channel([scores], labels, rng=np.random.default_rng(0))
    monkeypatch.setattr(channels, "MOST_CLASSES", 3)
    without = fit_channel([scores], labels, rng=np.random.default_rng(0))
    noise, by_image, by_class = (truth != labels).mean(), *(1 - estimate(c, scores, labels) for c in (found, without))
    assert without.resemblance == 0 < 0.3 < found.resemblance
    assert by_image.mean() == pytest.approx(noise, abs=0.03)
    # and what is left to the classes is even, as planted
    apart = found.transition[~np.eye(4, dtype=bool)].reshape(4, 3)
    np.testing.assert_allclose(apart / apart.sum(axis=1, keepdims=True), 1 / 3, atol=0.08)
    assert by_class.mean() < noise / 4


def test_resemblance_is_found_where_the_first_look_sees_no_noise():
    scores, truth, labels = planted(0.4, 1.0, sharpness=3.0)
    found = fit_channel([scores], labels, rng=np.random.default_rng(0))
    assert found.resemblance > 0.3
    assert 1 - estimate(found, scores, labels).mean() == pytest.approx((truth != labels).mean(), abs=0.03)


def test_labels_that_all_go_to_one_other_class_are_explained_by_the_class_alone(monkeypatch: pytest.MonkeyPatch):
    """The scores of a model that was taught such labels expect them here and there."""
    scores, truth, _ = planted(0.0, 0.0, sharpness=5.0)
    rng = np.random.default_rng(1)
    share = rng.beta(2, 3, (len(truth), 1))
    taught = np.log((1 - share) * np.exp(scores) + share * np.roll(np.exp(scores), 1, axis=1))
    labels = np.where(rng.random(len(truth)) < share[:, 0], (truth + 1) % 4, truth)
    alone = fit_channel([taught + scores], labels, rng=rng)
    monkeypatch.setattr(channels, "CONCENTRATED", 2.0)
    both = fit_channel([taught + scores], labels, rng=rng)
    assert alone.resemblance == 0 < 0.01 < both.resemblance


def test_concentration_by_hand():
    one = torch.tensor([[0.8, 0.2, 0.0], [0.0, 0.9, 0.1], [0.3, 0.0, 0.7]], dtype=torch.float64)
    rows = torch.tensor([5.0, 10.0, 5.0], dtype=torch.float64)
    assert concentration(one, rows) == pytest.approx(1)
    assert concentration(even(3), rows) == pytest.approx(0)
    # 1 and 4 wrong labels of one and of both kinds: (1 * 1 + 4 * .5) / 5, of what lies between .5 and 1
    mixed = torch.tensor([[0.8, 0.2, 0.0], [0.2, 0.6, 0.2], [0.0, 0.0, 1.0]], dtype=torch.float64)
    assert concentration(mixed, rows) == pytest.approx(0.2)
    assert concentration(torch.eye(3, dtype=torch.float64), rows) == 1
    assert concentration(torch.full((2, 2), 0.5, dtype=torch.float64), rows[:2]) == 1


@pytest.mark.parametrize("ridge", ["RIDGE", "RIDGE_ROWS"])
def test_ridge_holds_the_resemblance_back(monkeypatch: pytest.MonkeyPatch, ridge: str):
    log_probs, truth, given = planted(0.4, 0.8)
    prior = torch.from_numpy(np.exp(log_probs))
    held = after_steps(prior, truth, given)
    monkeypatch.setattr(resemblance, ridge, 0.0)
    assert 0.1 < held < after_steps(prior, truth, given) - 0.02


def test_resemblance_ends_somewhere(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(resemblance, "RIDGE", 0.0)
    prior = torch.tensor([[0.5, 0.49, 0.01]], dtype=torch.float64).expand(4000, -1)
    zeros = np.zeros(4000, dtype=np.int64)
    assert after_steps(prior, zeros, zeros + 1, num_steps=50) == LARGEST


def test_little_resemblance_is_seen_where_none_is_planted():
    scores, _, labels = planted(0.3, 0.0)
    assert fit_channel([scores], labels, rng=np.random.default_rng(0)).resemblance < 0.1
    clean, truth, _ = planted(0.0, 0.0)
    channel = fit_channel([clean], truth, rng=np.random.default_rng(0))
    assert (estimate(channel, clean, truth) < 0.5).mean() < 0.01
