"""The search for a noise channel: steps of the EM, and strides where they creep, from one estimate to the next.

# N rows, K classes, V views (kinds of class scores), G rows with a golden label
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch

from labelclean.records import EPSILON, UNKNOWN, FloatArray, IntArray
from labelclean.tssd.resemblance import appeal_of, bounded, count_labels, improve, label_likelihoods
from labelclean.tssd.shrinkage import FREE, Pull, Shrinkage, draw_together, fit_shrinkage, join, spread
from labelclean.tssd.stride import stride

MOST_FREE_STEPS, MOST_STEPS = 40, 120
"""EM steps at most with T free, where many classes creep for no use, and once it is drawn to its plainest form."""

TRANSITION_STEPS, PRIOR_STEPS = 3, 5
"""In one of them: updates of T, and iterations of L-BFGS on the score weights and the bias, which cost far more."""

STANDSTILL, RESEMBLANCE_STANDSTILL = 5e-4, 1e-3
"""EM has converged when no entry of T moves by more in a step, nor the resemblance."""

SLACK = 1e-3
"""Nats for each row that a stride may cost. EM climbs the likelihood times T's prior, but a stride is judged by the
likelihood alone, which may then fall a little on the way up."""

LOG_WEIGHTS = (-6.0, 3.0)
"""What the logarithms of the score weights are kept between."""

SMALL = 2_000_000
"""Scores up to which one thread is the fastest; several are many times slower when other work is going on."""

BIAS_PENALTY, INITIAL_FIDELITY = 1e-3, 0.9
"""On the mean square of the class bias, in nats for each row; and the share of right labels where the search starts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """Where the search stands, and what follows from it for each row.

    Attributes:
        transition, bias, resemblance: as of a NoiseChannel.
        log_weights: logarithms of its weights, (V,).
        prior: P(true class | image), (N, K).
        appeal: of `appeal_of`, (N, K), or (1, K) where all images of a class are alike.
    """

    transition: torch.Tensor
    log_weights: torch.Tensor
    bias: torch.Tensor
    resemblance: float
    prior: torch.Tensor
    appeal: torch.Tensor

    def as_vector(self) -> torch.Tensor:
        """All that is fitted, without bounds but the resemblance's, (K * K + V + K + 1,)."""
        logs = self.transition.clamp_min(EPSILON).log().flatten()
        return torch.cat([logs, self.log_weights, self.bias, self.bias.new_tensor([self.resemblance])])

    def is_near(self, other: Standing) -> bool:
        """Neither T nor the resemblance differs by more than what counts as standing still."""
        moved = float((self.transition - other.transition).abs().max())
        return moved < STANDSTILL and abs(self.resemblance - other.resemblance) < RESEMBLANCE_STANDSTILL


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """The rows that a channel is fitted to, and the steps of the EM from one estimate to the next.

    Attributes:
        views: class scores, (V, N, K).
        given: labels, (N,).
        is_golden: rows with a golden label, (N,).
        golden: their true classes, one-hot, (G, K).
        by_image: the resemblance is fitted too.
    """

    views: torch.Tensor
    given: torch.Tensor
    is_golden: torch.Tensor
    golden: torch.Tensor
    by_image: bool

    @classmethod
    def among(
        cls, scores: Sequence[FloatArray], labels: IntArray, golden: IntArray, rows: IntArray, *, by_image: bool
    ) -> Search:
        """A search on some of the rows; arguments as of `fit_channel`."""
        truth = torch.from_numpy(golden[rows].astype(np.int64))
        is_golden = truth != UNKNOWN
        return cls(
            views=torch.from_numpy(np.stack([view[rows] for view in scores])).float(),
            given=torch.from_numpy(labels[rows].astype(np.int64)),
            is_golden=is_golden,
            golden=torch.nn.functional.one_hot(truth[is_golden], scores[0].shape[1]).float(),
            by_image=by_image,
        )

    def settle(self, pull: Pull) -> Standing:
        """Climb until T stands still, freely at first and then drawn to its plainest form, once or more."""
        with _threads(1 if self.views.numel() < SMALL else torch.get_num_threads()):
            found, counts = self._climb(self._start(), FREE, MOST_FREE_STEPS)
            for _ in range(pull.times):
                found, counts = self._climb(found, fit_shrinkage(counts, least_pull=pull.least), MOST_STEPS)
            return found

    def posterior(self, at: Standing) -> torch.Tensor:
        """P(true class | image, what is known of the label), (N, K)."""
        return _posterior(at.prior, self._likelihoods(at))[0]

    def _start(self) -> Standing:
        num_views, _, num_classes = self.views.shape
        rows = torch.bincount(self.given, minlength=num_classes).float()
        return self._look(
            transition=join(torch.full((num_classes,), INITIAL_FIDELITY), spread(rows)),
            log_weights=torch.full((num_views,), -float(np.log(num_views))),
            bias=torch.zeros(num_classes),
            resemblance=1.0 if self.by_image else 0.0,  # from 0 it may never find a way up
        )

    def _climb(self, start: Standing, shrinkage: Shrinkage, most_steps: int) -> tuple[Standing, torch.Tensor]:
        """Steps, and after every other one a stride where it leads; the last expected counts as well, (K, K)."""
        for _ in range(most_steps // 2):
            first, counts = self._step(start, shrinkage)
            if first.is_near(start):
                return first, counts
            second, counts = self._step(first, shrinkage)
            ahead = self._at(stride(start.as_vector(), first.as_vector(), second.as_vector()))
            leads = self._log_likelihood(ahead) > self._log_likelihood(second) - SLACK
            start = ahead if leads else second
        return start, counts

    def _step(self, at: Standing, shrinkage: Shrinkage) -> tuple[Standing, torch.Tensor]:
        """The prior, the resemblance, and T by the counts that they lead to expect, (K, K), which are returned too."""
        log_weights, bias = _fit_prior(self.views, self._likelihoods(at), at.log_weights, at.bias)
        at = self._look(transition=at.transition, log_weights=log_weights, bias=bias, resemblance=at.resemblance)
        if self.by_image:
            resemblance = improve(at.resemblance, at.prior, self.posterior(at), at.transition, self.given)
            at = replace(at, resemblance=resemblance, appeal=appeal_of(at.prior, resemblance))
        for _ in range(TRANSITION_STEPS):
            counts = count_labels(self.posterior(at), at.transition, at.appeal, self.given)
            at = replace(at, transition=draw_together(counts, shrinkage))
        return at, counts

    def _at(self, vector: torch.Tensor) -> Standing:
        """The estimate of such a vector as `as_vector` gives, within all bounds."""
        num_views, _, num_classes = self.views.shape
        sizes = [num_classes**2, num_views, num_classes, 1]
        logs, log_weights, bias, resemblance = torch.split_with_sizes(vector, sizes)
        return self._look(
            transition=logs.view(num_classes, -1).softmax(1),
            log_weights=log_weights.clamp(*LOG_WEIGHTS),
            bias=bias,
            resemblance=bounded(float(resemblance)),
        )

    def _look(
        self, *, transition: torch.Tensor, log_weights: torch.Tensor, bias: torch.Tensor, resemblance: float
    ) -> Standing:
        """What is fitted, with what follows from it for each row."""
        prior = _prior(self.views, log_weights, bias)
        return Standing(
            transition=transition,
            log_weights=log_weights,
            bias=bias,
            resemblance=resemblance,
            prior=prior,
            appeal=appeal_of(prior, resemblance),
        )

    def _likelihoods(self, at: Standing) -> torch.Tensor:
        """Of what is known of each row's label, by true class, (N, K)."""
        found = label_likelihoods(at.transition, at.appeal, self.given)
        found[self.is_golden] = self.golden
        return found

    def _log_likelihood(self, at: Standing) -> float:
        """Of what is known of a row's label, in the mean, in nats."""
        return float(_posterior(at.prior, self._likelihoods(at))[1].log().mean())


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


def _posterior(prior: torch.Tensor, likelihoods: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """P(true class | image, what is known of the label), (N, K), and the likelihood of that, (N,).

    Args:
        likelihoods: of what is known of each row's label, by true class, (N, K).
    """
    joint = prior * likelihoods
    likelihood = joint.sum(1).clamp_min_(torch.finfo(joint.dtype).tiny)
    return joint.div_(likelihood[:, None]), likelihood


def _fit_prior(
    views: torch.Tensor, likelihoods: torch.Tensor, log_weights: torch.Tensor, bias: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-weights and class bias that maximise the likelihood of the given (and golden) labels."""
    log_weights, bias = log_weights.clone(), bias.clone()
    solver = torch.optim.LBFGS([log_weights, bias], max_iter=PRIOR_STEPS, line_search_fn="strong_wolfe")

    def closure() -> float:
        prior = _prior(views, log_weights, bias)
        posterior, likelihood = _posterior(prior, likelihoods)
        drawn = posterior.sub_(prior)  # the gradient of the log-likelihood with respect to the logits
        log_weights.grad = -log_weights.exp() * (views.flatten(1) @ drawn.flatten()) / len(drawn)
        bias.grad = 2 * BIAS_PENALTY * bias / len(bias) - drawn.mean(0)
        return float(BIAS_PENALTY * bias.square().mean() - likelihood.log().mean())

    solver.step(closure)  # type: ignore[no-untyped-call]
    return log_weights.clamp(*LOG_WEIGHTS), bias
