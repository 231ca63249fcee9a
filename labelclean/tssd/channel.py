"""The noise channel: how the unseen true class becomes the given label, estimated from the data alone.

A row's true class z is drawn from pi(z | x), a softmax over weighted class scores; the given label y~ is then drawn
from T[z, y~], a wrong one also by what the image looks like (see `resemblance`). Fitting T together with the score
weights and a class bias on the marginal likelihood of the given labels yields, for every row, the posterior of its true
class, and with it a clean probability that knows how noisy the data is. T is drawn to its plainest form, equal noise in
all classes and towards other labels by their rows, as strongly as the data allow: confusions that few rows bear out
mislead more than they tell.

# N rows, K classes, V views (kinds of class scores)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from labelclean.records import EPSILON, UNKNOWN, FloatArray, IntArray
from labelclean.tssd.numbers import softmax
from labelclean.tssd.resemblance import (
    CONCENTRATED,
    MOST_CLASSES,
    MOST_SCORES,
    appeal_of,
    bounded,
    concentration,
    count_labels,
    improve,
    label_chances,
    witness,
    wrong_chances,
)
from labelclean.tssd.shrinkage import FREE, PULL, Shrinkage, draw_together, fit_shrinkage, join, spread
from labelclean.tssd.stride import stride

MOST_FREE_STEPS, MOST_STEPS = 40, 120
"""EM steps at most with T free, where many classes creep for no use, and once it is drawn to its plainest form."""

TRANSITION_STEPS, PRIOR_STEPS = 3, 5
"""In one of them: updates of T, and iterations of L-BFGS on the score weights and the bias, which cost far more."""

STANDSTILL, RESEMBLANCE_STANDSTILL = 5e-4, 1e-3
"""EM has converged when no entry of T moves by more in a step, nor the resemblance."""

SLACK = 1e-3
"""Nats for each row that a stride may cost: looked at is the likelihood without T's prior, with which it is climbed."""

LOG_WEIGHTS = (-6.0, 3.0)

SMALL = 2_000_000
"""Scores up to which one thread is the fastest; several are many times slower when other work is going on."""

MAX_ROWS, MAX_SCORES, LEAST_PER_CLASS = 100_000, 5_000_000, 20
"""Rows without golden label on which a channel is fitted at most: so many, and with so many scores in a view, but so
many for each class in the mean at any rate."""

BIAS_PENALTY = 1e-3
INITIAL_FIDELITY = 0.9


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseChannel:
    """A fitted channel.

    Attributes:
        transition: T, (K, K), rows sum to one: P(given label | true class), but where s is above 0 on its
            diagonal alone; beside it stands what the classes draw before the image does.
        weights: what each view's scores are multiplied by, (V,), non-negative.
        bias: added to the weighted scores, (K,).
        resemblance: s, how far wrong labels fall where the image looks like them, from 0 to LARGEST.
    """

    transition: FloatArray
    weights: FloatArray
    bias: FloatArray
    resemblance: float = 0.0

    def prior(self, scores: Sequence[FloatArray]) -> FloatArray:
        """P(true class | image), before the given label is looked at, (N, K)."""
        logits = self.bias + sum(weight * view for weight, view in zip(self.weights, scores, strict=True))
        return softmax(np.asarray(logits))

    def posterior(self, prior: FloatArray, labels: IntArray) -> FloatArray:
        """P(true class | image, given label), (N, K)."""
        transition, appeal = self._tensors(prior)
        joint = prior * witness(transition, appeal, torch.from_numpy(labels)).numpy()
        return np.asarray(joint / joint.sum(axis=1, keepdims=True))

    def clean_posterior(self, prior: FloatArray) -> FloatArray:
        """P(true class is c | image, the given label is c) for every label c that could have been given, (N, K)."""
        right = prior * np.diag(self.transition)
        wrong = wrong_chances(*self._tensors(prior), torch.from_numpy(prior)).numpy()
        return np.asarray(right / np.maximum(right + wrong, EPSILON))

    def label_chances(self, prior: FloatArray, true: IntArray) -> FloatArray:
        """P(the given label is c | image, true class) for every label c, (N, K)."""
        return np.asarray(label_chances(*self._tensors(prior), torch.from_numpy(true)))

    def _tensors(self, prior: FloatArray) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(self.transition), appeal_of(torch.from_numpy(prior), self.resemblance)


def fit_channel(
    scores: Sequence[FloatArray],
    labels: IntArray,
    *,
    golden: IntArray | None = None,
    pull: float = PULL,
    rng: np.random.Generator,
) -> NoiseChannel:
    """Estimate the channel by expectation-maximisation.

    Args:
        scores: one (N, K) array of class scores per view, log-probabilities as a rule. They must come from models
            that have not learnt the row's own label: memorised labels look like clean ones.
        labels: given labels, (N,) in [0, K).
        golden: true labels where they are known, UNKNOWN elsewhere, (N,).
        pull: how strongly the classes' shares of wrong labels are drawn together at least, in mean rows of a class.
        rng: draws a sample of the rows where there are more than enough.
    Raises:
        ValueError: no view, or the shapes differ.
    """
    if not scores or any(view.shape != (len(labels), scores[0].shape[1]) for view in scores):
        raise ValueError(f"scores of shapes {[view.shape for view in scores]} for {len(labels)} labels")
    known = np.full(len(labels), UNKNOWN) if golden is None else golden
    num_classes = scores[0].shape[1]
    max_rows = min(MAX_ROWS, max(MAX_SCORES // num_classes, LEAST_PER_CLASS * num_classes))
    fit = _Maximisation(scores, labels, known, _sample(known, max_rows, rng))
    fit.settle(pull)
    if num_classes <= MOST_CLASSES and concentration(fit.transition, fit.class_rows()) < CONCENTRATED:
        sample = _sample(known, min(max_rows, MOST_SCORES // num_classes), rng)
        fit = _Maximisation(scores, labels, known, sample, resemblance=1.0)  # from 0 it may never find a way up
        fit.settle(pull)
    return NoiseChannel(
        transition=fit.transition.double().numpy(),
        weights=fit.log_weights.double().exp().numpy(),
        bias=fit.bias.double().numpy(),
        resemblance=fit.resemblance,
    )


def _sample(known: IntArray, max_rows: int, rng: np.random.Generator) -> IntArray:
    """The golden rows, and no more than so many of the others."""
    golden, others = np.flatnonzero(known != UNKNOWN), np.flatnonzero(known == UNKNOWN)
    if len(others) <= max_rows:
        return np.arange(len(known))
    return np.concatenate([golden, rng.choice(others, max_rows, replace=False)])


class _Maximisation:
    """What the EM has found so far: T, the score weights and the bias that make the prior, and the resemblance.

    All images of a class are alike to it where it begins with a resemblance of 0.
    """

    def __init__(
        self,
        scores: Sequence[FloatArray],
        labels: IntArray,
        known: IntArray,
        sample: IntArray,
        *,
        resemblance: float = 0.0,
    ):
        self.views = torch.from_numpy(np.stack([view[sample] for view in scores])).float()
        self.given = torch.from_numpy(labels[sample].astype(np.int64))
        truth = torch.from_numpy(known[sample].astype(np.int64))
        self.num_classes = self.views.shape[2]
        rows = torch.bincount(self.given, minlength=self.num_classes).float()
        self.transition = join(torch.full((self.num_classes,), INITIAL_FIDELITY).float(), spread(rows))
        self.log_weights = torch.full((len(self.views),), -np.log(len(self.views))).float()
        self.bias = torch.zeros(self.num_classes).float()
        self.resemblance, self._by_image = resemblance, resemblance > 0
        self._settled = truth != UNKNOWN
        self._known = torch.nn.functional.one_hot(truth[self._settled], self.num_classes).float()
        self._look()

    def settle(self, pull: float) -> None:
        """Climb until T stands still, freely at first and then drawn to its plainest form."""
        with _threads(1 if self.views.numel() < SMALL else torch.get_num_threads()):
            counts = self._climb(FREE, MOST_FREE_STEPS)
            self._climb(fit_shrinkage(counts, pull=pull), MOST_STEPS)

    def class_rows(self) -> torch.Tensor:
        """Expected rows of each true class, (K,)."""
        return self._posterior().sum(0)

    def _climb(self, shrinkage: Shrinkage, most_steps: int) -> torch.Tensor:
        """Steps, and after every other one a stride where they lead; the last expected counts, (K, K)."""
        for _ in range(most_steps // 2):
            transition, resemblance, start = self.transition, self.resemblance, self._place()
            counts = self._step(shrinkage)
            moved = float((self.transition - transition).abs().max())
            if moved < STANDSTILL and abs(self.resemblance - resemblance) < RESEMBLANCE_STANDSTILL:
                break
            first = self._place()
            counts = self._step(shrinkage)
            second, likelihood = self._place(), self._log_likelihood()
            self._go_to(stride(start, first, second))
            if not self._log_likelihood() > likelihood - SLACK:
                self._go_to(second)
        return counts

    def _step(self, shrinkage: Shrinkage) -> torch.Tensor:
        """The prior, the resemblance, and T by the counts that they lead to expect, (K, K), which are returned."""
        self._refit()
        for _ in range(TRANSITION_STEPS):
            counts = count_labels(self._posterior(), self.transition, self.appeal, self.given)
            self.transition = draw_together(counts, shrinkage)
        return counts

    def _place(self) -> torch.Tensor:
        """All that is fitted, without bounds but the resemblance's, (K * K + V + K + 1,)."""
        logs = self.transition.clamp_min(EPSILON).log().flatten()
        return torch.cat([logs, self.log_weights, self.bias, self.bias.new_tensor([self.resemblance])])

    def _go_to(self, place: torch.Tensor) -> None:
        sizes = [self.num_classes**2, len(self.views), self.num_classes, 1]
        logs, log_weights, self.bias, resemblance = torch.split_with_sizes(place, sizes)
        self.transition = logs.view(self.num_classes, -1).softmax(1)
        self.log_weights = log_weights.clamp(*LOG_WEIGHTS)
        self.resemblance = bounded(float(resemblance))
        self._look()

    def _refit(self) -> None:
        """A step of the prior, and then of the resemblance."""
        self.log_weights, self.bias = _fit_prior(self.views, self._likelihoods(), self.log_weights, self.bias)
        self._look()
        if self._by_image:
            self.resemblance = improve(self.resemblance, self.prior, self._posterior(), self.transition, self.given)
            self.appeal = appeal_of(self.prior, self.resemblance)

    def _look(self) -> None:
        """Follow the weights, the bias and the resemblance with what is computed from them for each row."""
        self.prior = _prior(self.views, self.log_weights, self.bias)
        self.appeal = appeal_of(self.prior, self.resemblance)

    def _likelihoods(self) -> torch.Tensor:
        """Of what is known of each row's label, by true class, (N, K)."""
        found = witness(self.transition, self.appeal, self.given)
        found[self._settled] = self._known
        return found

    def _log_likelihood(self) -> float:
        """Of what is known of a row's label, in the mean, in nats."""
        return float(_posterior(self.prior, self._likelihoods())[1].log().mean())

    def _posterior(self) -> torch.Tensor:
        return _posterior(self.prior, self._likelihoods())[0]


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Let torch use so many threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _prior(views: torch.Tensor, log_weights: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """P(true class | image), (N, K). A sum in place is twice as fast as a product of matrices here."""
    logits = bias.expand(views.shape[1:]).clone()
    for view, weight in zip(views, log_weights.exp().tolist(), strict=True):
        logits.add_(view, alpha=weight)
    return logits.softmax(1)


def _posterior(prior: torch.Tensor, known: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """P(true class | image, what is known of the label), (N, K), and the likelihood of that, (N,).

    Args:
        known: likelihood of what is known of each row's label, by true class, (N, K).
    """
    joint = prior * known
    likelihood = joint.sum(1).clamp_min_(torch.finfo(joint.dtype).tiny)
    return joint.div_(likelihood[:, None]), likelihood


def _fit_prior(
    views: torch.Tensor, known: torch.Tensor, log_weights: torch.Tensor, bias: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-weights and class bias that maximise the likelihood of the given (and golden) labels."""
    log_weights, bias = log_weights.clone(), bias.clone()
    solver = torch.optim.LBFGS([log_weights, bias], max_iter=PRIOR_STEPS, line_search_fn="strong_wolfe")

    def closure() -> float:
        prior = _prior(views, log_weights, bias)
        posterior, likelihood = _posterior(prior, known)
        drawn = posterior.sub_(prior)  # the gradient of the log-likelihood with respect to the logits
        log_weights.grad = -log_weights.exp() * (views.flatten(1) @ drawn.flatten()) / len(drawn)
        bias.grad = 2 * BIAS_PENALTY * bias / len(bias) - drawn.mean(0)
        return float(BIAS_PENALTY * bias.square().mean() - likelihood.log().mean())

    solver.step(closure)  # type: ignore[no-untyped-call]
    return log_weights.clamp(*LOG_WEIGHTS), bias
