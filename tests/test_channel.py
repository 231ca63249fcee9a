"""The noise channel on planted data: what was planted is found again."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from labelclean.records import UNKNOWN, FloatArray, IntArray, of_label
from labelclean.tssd import channel as channels
from labelclean.tssd.channel import NoiseChannel, fit_channel
from labelclean.tssd.shrinkage import PULL, PULL_FROM_SCRATCH, PULL_OF_FEW, STRENGTHS, Pull, best_strength

NUM_CLASSES = 4


def planted(
    transition: FloatArray, *, num_rows: int = 4000, sharpness: float = 3.0, seed: int = 0
) -> tuple[FloatArray, IntArray, IntArray]:
    """Log-probabilities pi(z | x), true classes drawn from them, and labels drawn through the channel."""
    rng = np.random.default_rng(seed)
    logits = sharpness * rng.normal(size=(num_rows, len(transition)))
    log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    truth = draw(np.exp(log_probs), rng)
    return log_probs, truth, draw(transition[truth], rng)


def draw(probs: FloatArray, rng: np.random.Generator) -> IntArray:
    return np.asarray((probs.cumsum(axis=1) < rng.random((len(probs), 1))).sum(axis=1).clip(max=probs.shape[1] - 1))


def symmetric(rate: float) -> FloatArray:
    transition = np.full((NUM_CLASSES, NUM_CLASSES), rate / (NUM_CLASSES - 1))
    np.fill_diagonal(transition, 1 - rate)
    return transition


def estimate(channel: NoiseChannel, scores: FloatArray, labels: IntArray) -> float:
    """The noise rate by the channel's posterior."""
    return float(1 - of_label(channel.posterior(channel.prior([scores]), labels), labels).mean())


def test_planted_channel_is_recovered():
    transition = np.array([[0.9, 0.1, 0, 0], [0, 0.6, 0.4, 0], [0.05, 0, 0.95, 0], [0.1, 0.1, 0.1, 0.7]])
    scores, _, labels = planted(transition)
    # the scores come at another temperature than the channel's own, which the fitted weight has to undo
    channel = fit_channel([2 * scores], labels, pull=Pull(least=0.0), rng=np.random.default_rng(0))
    np.testing.assert_allclose(channel.transition, transition, atol=0.04)
    np.testing.assert_allclose(channel.transition.sum(axis=1), 1)
    assert channel.weights == pytest.approx([0.5], abs=0.05)


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.4])
def test_noise_rate_is_within_two_points(rate: float):
    scores, truth, labels = planted(symmetric(rate), sharpness=5.0, seed=1)
    channel = fit_channel([scores], labels, rng=np.random.default_rng(0))
    assert estimate(channel, scores, labels) == pytest.approx((truth != labels).mean(), abs=0.02)


def test_ambiguous_but_clean_data_is_not_called_noisy():
    scores, truth, labels = planted(np.eye(NUM_CLASSES), sharpness=1.5)
    channel = fit_channel([scores], labels, rng=np.random.default_rng(0))
    p_clean = of_label(channel.posterior(channel.prior([scores]), labels), labels)
    disagreement = (scores.argmax(axis=1) != labels).mean()
    assert (truth == labels).all()
    assert disagreement > 0.25
    assert estimate(channel, scores, labels) < 0.1 * disagreement
    assert (p_clean < 0.5).mean() < 0.01


def test_useless_view_gets_little_weight():
    scores, _, labels = planted(symmetric(0.2))
    nonsense = np.random.default_rng(5).normal(size=scores.shape)
    channel = fit_channel([scores, nonsense], labels, rng=np.random.default_rng(0))
    assert channel.weights[0] > 0.8
    assert channel.weights[1] < 0.1


def test_golden_rows_show_noise_that_the_labels_alone_hide():
    """A model that makes the annotators' mistakes itself sees no noise; golden rows tell of it, all of them exactly."""
    rng = np.random.default_rng(2)
    _, truth, labels = planted(symmetric(0.3), seed=2)
    scores = np.where(np.eye(NUM_CLASSES)[labels] > 0, np.log(0.7), np.log(0.1)) + rng.normal(0, 0.3, (4000, 4))
    fidelity = []
    for num_golden in (0, 1500, 4000):
        golden = np.where(np.arange(4000) < num_golden, truth, UNKNOWN)
        channel = fit_channel([scores], labels, golden=golden, rng=rng)
        fidelity.append(np.diag(channel.transition).mean())
    assert fidelity[0] > 0.95
    assert fidelity[1] < fidelity[0] - 0.08
    counts = np.histogram2d(truth, labels, bins=NUM_CLASSES)[0]
    assert fidelity[2] == pytest.approx(np.diag(counts / counts.sum(axis=1, keepdims=True)).mean(), abs=0.002)


def test_rows_that_are_alike_are_drawn_together_and_rows_that_differ_are_not():
    rng = np.random.default_rng(3)
    even = torch.full((5,), 0.2, dtype=torch.float64)
    alike = torch.from_numpy(rng.multinomial(60, even.numpy(), size=20)).double()
    apart = torch.from_numpy(np.concatenate([rng.multinomial(60, row, size=4) for row in np.eye(5) * 0.9 + 0.02]))
    assert best_strength(alike, even) > 300
    assert best_strength(apart.double(), even) < 3
    # two draws from Beta(1, 1) that came out as one of each kind are likelier under a strong prior than a weak one
    assert best_strength(torch.tensor([[1.0, 1.0]]).double(), torch.tensor([0.5, 0.5]).double()) == STRENGTHS[-1]


def test_strength_does_not_hang_on_the_number_format():
    """Many classes of few rows each, as expected counts come from a search."""
    rng = np.random.default_rng(0)
    even = torch.full((500,), 1 / 500)
    counts = torch.from_numpy(rng.multinomial(30, rng.dirichlet(np.full(500, 0.1), size=500)))
    assert best_strength(counts.float(), even) == best_strength(counts.double(), even.double())
    assert best_strength(counts.float(), even) == pytest.approx(50, rel=0.3)


def test_planted_confusions_survive_the_shrinkage_and_symmetric_noise_comes_out_even():
    apart = ~np.eye(NUM_CLASSES, dtype=bool)
    spread = {}
    for name, transition in (
        ("symmetric", symmetric(0.2)),
        ("pairs", np.roll(np.eye(4), 1, 1) * 0.2 + np.eye(4) * 0.8),
    ):
        scores, _, labels = planted(transition)
        found = fit_channel([scores], labels, rng=np.random.default_rng(0)).transition
        np.testing.assert_allclose(found.sum(axis=1), 1)
        np.testing.assert_allclose(found, transition, atol=0.04)
        spread[name] = (found / found.sum(axis=1, where=apart, keepdims=True))[apart].std()
    assert spread["symmetric"] < 0.02
    assert spread["pairs"] > 0.4


def test_pull_draws_the_classes_together_however_plainly_they_differ():
    noise = np.diag([0.9, 0.9, 0.9, 0.5])
    transition = noise + (1 - noise.max(axis=1, keepdims=True)) * (1 - np.eye(4)) / 3
    scores, _, labels = planted(transition)
    pulls = (Pull(least=0.0), PULL, PULL_FROM_SCRATCH)
    found = [
        np.diag(fit_channel([scores], labels, pull=pull, rng=np.random.default_rng(0)).transition) for pull in pulls
    ]
    free, pulled, from_scratch = (fidelity[:3].mean() - fidelity[3] for fidelity in found)
    assert free == pytest.approx(0.4, abs=0.06)
    assert pulled == pytest.approx(free / (1 + PULL.least), abs=0.04)
    assert 0.1 < from_scratch < free / 2 + 0.03
    for fidelity in found:
        assert fidelity.mean() == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("seed", [3, 4, 6])
def test_chance_confusions_of_few_rows_fade_when_the_channel_is_drawn_once_more(seed: int):
    """All labels are right, but the scores are weak, and a free channel of ten classes takes that for noise."""
    scores, truth, _ = planted(np.eye(10), num_rows=1000, sharpness=1.0, seed=seed)
    once, twice = (
        1 - fit_channel([scores], truth, pull=pull, rng=np.random.default_rng(0)).transition.diagonal().mean()
        for pull in (PULL_FROM_SCRATCH, PULL_OF_FEW)
    )
    assert once > 0.4
    assert twice < 0.1


def test_confusions_are_found_though_the_evidence_is_weak():
    """A channel that was drawn to its plainest form from the start would miss them."""
    transition = np.roll(np.eye(4), 1, 1) * 0.3 + np.eye(4) * 0.7
    scores, _, labels = planted(transition, num_rows=2000, sharpness=1.2)
    channel = fit_channel([scores], labels, rng=np.random.default_rng(0))
    assert estimate(channel, scores, labels) == pytest.approx(0.3, abs=0.07)


def test_misspelt_labels_of_one_row_each_do_not_hide_the_noise_between_two_classes():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 2, 1000)
    signal = rng.normal(np.where(true == 1, 0.8, -0.8), 1.0)
    labels = np.where(rng.random(1000) < 0.15, 1 - true, true)
    misspelt = np.arange(0, 1000, 100)
    labels[misspelt] = 2 + np.arange(10)
    scores = np.full((1000, 12), -3.0)
    scores[:, 0], scores[:, 1] = -signal, signal
    channel = fit_channel([scores], labels, rng=rng)
    assert estimate(channel, scores, labels) == pytest.approx((labels != true).mean(), abs=0.05)


def test_golden_rows_count_no_more_in_a_sample_than_among_all_rows(monkeypatch: pytest.MonkeyPatch):
    """Somebody checked the rows that look worst, nearly all of which are wrong: that is no reason to doubt the rest."""
    scores, truth, labels = planted(symmetric(0.1), num_rows=8000)
    worst = np.argsort(of_label(scores, labels))[:400]
    golden = np.full(len(labels), UNKNOWN)
    golden[worst] = truth[worst]
    monkeypatch.setattr(channels, "MAX_ROWS", 1000)
    found = [
        1 - np.diag(fit_channel([scores], labels, golden=ids, rng=np.random.default_rng(0)).transition).mean()
        for ids in (None, golden)
    ]
    assert found == pytest.approx([0.1, 0.1], abs=0.03)


@pytest.mark.parametrize("limit", [{"MAX_ROWS": 2000}, {"MAX_SCORES": 6000}])
def test_sample_of_many_rows_gives_nearly_the_same_channel(monkeypatch: pytest.MonkeyPatch, limit: dict[str, int]):
    scores, _, labels = planted(symmetric(0.2))
    golden = np.full(len(labels), UNKNOWN)
    full = fit_channel([scores], labels, rng=np.random.default_rng(0))
    for name, value in limit.items():
        monkeypatch.setattr(channels, name, value)
    part = fit_channel([scores], labels, golden=golden, rng=np.random.default_rng(0))
    assert (part.transition != full.transition).any()
    np.testing.assert_allclose(part.transition, full.transition, atol=0.05)


def test_many_classes_take_fewer_rows_but_twenty_for_each_in_the_mean(monkeypatch: pytest.MonkeyPatch):
    seen = []
    rng = np.random.default_rng(0)

    def watched(search: channels.Search, pull: Pull) -> None:
        seen.append(len(search.given))
        raise InterruptedError

    monkeypatch.setattr(channels.Search, "settle", watched)
    monkeypatch.setattr(channels, "MAX_ROWS", 1000)
    monkeypatch.setattr(channels, "MAX_SCORES", 8000)
    for num_classes in (4, 16, 30, 60):
        with pytest.raises(InterruptedError):
            fit_channel([np.zeros((1100, num_classes))], np.zeros(1100, int), rng=rng)
    assert seen == [1000, 500, 600, 1000]


def test_second_look_takes_fewer_rows_still(monkeypatch: pytest.MonkeyPatch):
    seen = []
    whole = channels._sample

    def watched(num_rows: int, max_rows: int, rng: np.random.Generator) -> IntArray:
        seen.append(whole(num_rows, max_rows, rng))
        return seen[-1]

    scores, _, labels = planted(symmetric(0.2))
    monkeypatch.setattr(channels, "_sample", watched)
    monkeypatch.setattr(channels, "MOST_SCORES", 3000)
    fit_channel([scores], labels, rng=np.random.default_rng(0))
    assert [len(rows) for rows in seen] == [len(labels), 3000 // scores.shape[1]]


def test_posteriors_equal_a_hand_computation():
    transition = np.array([[0.8, 0.2], [0.4, 0.6]])
    channel = NoiseChannel(transition=transition, weights=np.array([1.0]), bias=np.zeros(2))
    prior = channel.prior([np.log([[0.75, 0.25]])])
    np.testing.assert_allclose(prior, [[0.75, 0.25]])
    # P(z = 0 | label 0) = .75 * .8 / (.75 * .8 + .25 * .4) = .6 / .7; P(z = 1 | label 1) = .15 / (.15 + .15)
    np.testing.assert_allclose(channel.posterior(prior, np.array([0])), [[6 / 7, 1 / 7]])
    np.testing.assert_allclose(channel.clean_posterior(prior), [[6 / 7, 1 / 2]])


def test_shapes_that_do_not_match_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"\(3, 2\).* for 4 labels"):
        fit_channel([np.zeros((3, 2))], np.zeros(4, int), rng=rng)
    with pytest.raises(ValueError):
        fit_channel([np.zeros((4, 2)), np.zeros((4, 3))], np.zeros(4, int), rng=rng)
    with pytest.raises(ValueError):
        fit_channel([], np.zeros(4, int), rng=rng)
