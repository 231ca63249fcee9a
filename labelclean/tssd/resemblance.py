"""Where wrong labels fall: where the classes are confused, and where the image itself looks like the wrong class.

A true class z that is labelled wrong becomes c with a probability that is proportional to T[z, c] * pi(c | x)**s; how
often it is labelled wrong, 1 - T[z, z], does not depend on x. With a resemblance s of 0 all images of a class are
confused alike; with 1 mistakes fall where the model wavers. Without it a label that is wrong, but that the image looks
like, passes for an ambiguous picture with a right one.

# N rows, K classes
"""

from __future__ import annotations

import torch

LEAST = 1e-6
"""Probabilities below are alike: an image looks like none of these classes."""

RIDGE, RIDGE_ROWS = 0.05, 1000
"""Penalty on s**2, in nats for each row and so many more: a model that wavers less than it should, or few rows, explain
other mistakes by it."""

LARGEST = 1.5
"""s ends here: mistakes hardly fall more on what the image looks like than its probabilities."""

MOST_CLASSES, MOST_SCORES = 30, 100_000
"""With more classes s stays 0, since fitting it takes N K**2 steps; rows with more scores are drawn from at random."""

CONCENTRATED = 0.65
"""Concentration from which on s stays 0: T alone says where mistakes fall. Models that were taught such labels expect
the wrong ones, and would explain by the image what the class explains."""


def concentration(transition: torch.Tensor, rows: torch.Tensor) -> float:
    """How far a class's wrong labels are all the same one: 0 where they are all others alike, 1 where one or none is.

    Args:
        transition: T, (K, K).
        rows: of each true class, (K,).
    """
    mistakes, most_even = mistakes_in(transition), 1 / max(len(rows) - 1, 1)
    wrong = mistakes.sum(1)
    if len(rows) < 3 or not (total := float(wrong @ rows)):
        return 1.0
    same = (mistakes.square().sum(1) / wrong.clamp_min(torch.finfo(wrong.dtype).tiny)) @ rows / total
    return (float(same) - most_even) / (1 - most_even)


def appeal_of(prior: torch.Tensor, resemblance: float) -> torch.Tensor:
    """pi(c | x)**s: how far each class draws the mistakes about an image, (N, K); (1, K) where all images are alike."""
    return prior.clamp_min(LEAST).pow(resemblance) if resemblance else prior.new_ones(1, prior.shape[1])


def mistakes_in(transition: torch.Tensor) -> torch.Tensor:
    """T without its diagonal, (K, K)."""
    return transition - torch.diag(transition.diagonal())


def label_likelihoods(transition: torch.Tensor, appeal: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    """P(given label | image, true class z) for every z, (N, K).

    Args:
        transition: T, (K, K).
        appeal: of `appeal_of`, (N, K) or (1, K).
        given: labels, (N,).
    """
    mistakes = mistakes_in(transition)
    found = mistakes.T[given] * _of(appeal, given) * _scale(mistakes, appeal)
    return found.scatter_(1, given[:, None], transition.diagonal()[given][:, None])


def label_chances(transition: torch.Tensor, appeal: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """P(given label is c | image, true class) for every c, (N, K); arguments as of `label_likelihoods`."""
    mistakes = mistakes_in(transition)
    found = mistakes[true] * appeal * _of(_scale(mistakes, appeal), true)
    return found.scatter_(1, true[:, None], transition.diagonal()[true][:, None])


def wrong_chances(transition: torch.Tensor, appeal: torch.Tensor, prior: torch.Tensor) -> torch.Tensor:
    """P(given label is c, and wrong | image) for every c, (N, K).

    Args:
        prior: P(true class | image), (N, K).
    """
    mistakes = mistakes_in(transition)
    return appeal * ((prior * _scale(mistakes, appeal)) @ mistakes)


def _scale(mistakes: torch.Tensor, appeal: torch.Tensor) -> torch.Tensor:
    """What makes the chances of all wrong labels of an image and a true class add up to 1 - T[z, z], as appeal."""
    return mistakes.sum(1) / (appeal @ mistakes.T).clamp_min(torch.finfo(appeal.dtype).tiny)


def _of(values: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Each row's value for its label, (N, K) or (1, K) -> (N, 1)."""
    return values.expand(len(labels), -1).gather(1, labels[:, None])


def count_labels(
    posterior: torch.Tensor, transition: torch.Tensor, appeal: torch.Tensor, given: torch.Tensor
) -> torch.Tensor:
    """Expected counts of (true, given) that T is to be fitted to, (K, K).

    Wrong labels count by how much their appeal left to be explained, in sum as many as they are.

    Source: the minorise-maximise step of choice models with weights (Hunter 2004).
    """
    counts = torch.zeros_like(transition).index_add_(0, given, posterior).T
    if len(appeal) == 1:
        return counts
    wrong = posterior.scatter(1, given[:, None], 0.0)
    mistakes, tiny = mistakes_in(transition), torch.finfo(appeal.dtype).tiny
    reach = (appeal @ mistakes.T).clamp_min(tiny)  # what mistakes of a class about an image are divided by
    observed = mistakes_in(counts)
    drawn = observed / ((wrong / reach).T @ appeal).clamp_min(tiny)
    drawn = mistakes_in(drawn)
    share = observed.sum(1, keepdim=True) / drawn.sum(1, keepdim=True).clamp_min(tiny)
    return drawn * share + torch.diag(counts.diagonal())


def improve(
    resemblance: float, prior: torch.Tensor, posterior: torch.Tensor, transition: torch.Tensor, given: torch.Tensor
) -> float:
    """One Newton step of s towards what makes the wrong labels likeliest, in [0, LARGEST].

    Args:
        prior, posterior: P(true class | image), and given the label as well, (N, K).
    """
    logs = prior.clamp_min(LEAST).log()
    appeal = (resemblance * logs).exp()
    mistakes, tiny = mistakes_in(transition).T, torch.finfo(prior.dtype).tiny
    wrong = posterior.scatter(1, given[:, None], 0.0)
    reach = (appeal @ mistakes).clamp_min(tiny)
    mean, square = ((appeal * power) @ mistakes / reach for power in (logs, logs.square()))
    penalty = 2 * RIDGE * (len(given) + RIDGE_ROWS)
    slope = (wrong * (_of(logs, given) - mean)).sum() - penalty * resemblance
    bend = (wrong * (square - mean.square())).sum() + penalty
    return bounded(resemblance + float(slope / bend))


def bounded(resemblance: float) -> float:
    """The nearest in [0, LARGEST]."""
    return min(max(resemblance, 0.0), LARGEST)
