"""How far a channel is trusted in its details: as far as its rows are alike they are drawn to their plainest form.

# K classes, R rows of counts, C columns
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from labelclean.records import EPSILON

STRENGTHS = torch.logspace(-1, 5, 49, dtype=torch.float64)
"""Among these the prior of T's rows is chosen, in rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shrinkage:
    """How strongly the channel is drawn to its plainest form, in rows per class.

    Attributes:
        fidelity: towards the same share of wrong labels in every class.
        confusion: towards wrong labels that fall on the other classes in proportion to their rows.
    """

    fidelity: float
    confusion: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Pull:
    """How the strength of the shrinkage is found.

    Attributes:
        least: how strongly the classes' shares of wrong labels are drawn together at least, in mean rows of a class.
        times: it is chosen so often, first by the counts of the free channel, then by those of the one drawn before.
    """

    least: float
    times: int = 1


PULL, PULL_FROM_SCRATCH, PULL_OF_FEW = Pull(least=0.1), Pull(least=1.0), Pull(least=1.0, times=2)
"""What is hard to learn looks as if it were often mislabelled, the more so to a network that started at random. If it
saw few rows the free channel finds confusions in them that are not there, and its counts bear them out."""

FREE = Shrinkage(fidelity=1e-3, confusion=1.0)
"""Hardly any: what T is like before it is drawn anywhere. A strong pull from the start would hide all noise."""


def fit_shrinkage(counts: torch.Tensor, *, least_pull: float) -> Shrinkage:
    """What the expected counts of (true, given), (K, K), bear out: little where the classes plainly differ.

    The counts are of true classes that nobody has seen. Whether a class is often mislabelled or hard to learn they
    cannot tell, so that `least_pull` times a class's mean rows are the least for the fidelity.
    """
    right_and_wrong, mistakes = _split(counts)
    least = least_pull * float(counts.sum()) / len(counts)
    return Shrinkage(
        fidelity=max(least, best_strength(right_and_wrong, _pooled(right_and_wrong))),
        confusion=best_strength(mistakes, spread(counts.sum(0))),
    )


def best_strength(counts: torch.Tensor, mean: torch.Tensor) -> float:
    """Strength of a Dirichlet prior around `mean`, in counts, under which the rows of counts have the highest evidence.

    Args:
        counts: of multinomial draws, not necessarily whole, (R, C).
        mean: of the prior, positive, of all rows (C,) or of each (R, C).
    Source: empirical Bayes by the Dirichlet-multinomial likelihood.
    """
    counts, mean = counts.double(), mean.double()  # in single precision lgamma of high strengths goes in wide steps
    totals = counts.sum(1)
    evidence = []
    for strength in STRENGTHS:
        prior = strength * mean
        rows = torch.lgamma(strength) - torch.lgamma(totals + strength)
        evidence.append(rows.sum() + (torch.lgamma(counts + prior) - torch.lgamma(prior)).sum())
    return float(STRENGTHS[int(torch.stack(evidence).argmax())])


def draw_together(counts: torch.Tensor, shrinkage: Shrinkage) -> torch.Tensor:
    """The channel from the expected counts of (true, given), (K, K)."""
    right_and_wrong, mistakes = _split(counts)
    shares = _shrunk(right_and_wrong, _pooled(right_and_wrong), shrinkage.fidelity)
    confusions = _shrunk(mistakes, spread(counts.sum(0)), shrinkage.confusion)
    return join(shares[:, 0], confusions)


def join(fidelity: torch.Tensor, confusions: torch.Tensor) -> torch.Tensor:
    """The channel (K, K) from each class's share of right labels, (K,), and where its wrong ones fall, (K, K - 1)."""
    transition = torch.diag(fidelity)
    wrong = (1 - fidelity)[:, None] * confusions
    transition[~torch.eye(len(fidelity), dtype=torch.bool)] = wrong.flatten()
    return transition


def spread(rows: torch.Tensor) -> torch.Tensor:
    """Where the wrong labels of each class fall if that goes by the rows that every label has, (K,) -> (K, K - 1).

    A label that hardly any row carries draws hardly any mistakes. If all labels drew as many, a few misspelt ones would
    leave none for the classes that are really confused.
    """
    num_classes = len(rows)
    others = rows.expand(num_classes, num_classes)[~torch.eye(num_classes, dtype=torch.bool)]
    others = others.view(num_classes, num_classes - 1) + EPSILON
    return others / others.sum(1, keepdim=True)


def _split(counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Right and wrong labels of each class, (K, 2), and the wrong ones by label, (K, K - 1)."""
    num_classes = len(counts)
    mistakes = counts[~torch.eye(num_classes, dtype=torch.bool)].view(num_classes, num_classes - 1)
    return torch.stack([counts.diagonal(), mistakes.sum(1)], dim=1), mistakes


def _pooled(counts: torch.Tensor) -> torch.Tensor:
    """Shares of the columns over all rows, none of them 0, (C,)."""
    total = counts.sum(0) + EPSILON
    return total / total.sum()


def _shrunk(counts: torch.Tensor, mean: torch.Tensor, strength: float) -> torch.Tensor:
    """Shares in each row of counts, drawn to the mean by so many counts, (R, C)."""
    return (counts + strength * mean) / (counts.sum(1, keepdim=True) + strength)
