"""Linear heads on fixed features, and the learner of the frozen stage: one head per fold.

# N rows, K classes, D features
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from labelclean.records import EPSILON, FloatArray, IntArray
from labelclean.train.frozen import FrozenFeatures
from labelclean.train.neighbors import nearest, unit_norm
from labelclean.train.scan import FeatureSpace, Scan
from labelclean.tssd.semisup import Lesson

HEAD_RIDGE, HEAD_LENGTH, ROWS_OF_RIDGE = 8e-3, 500.0, 4000
"""Penalty on the squared coefficients, the mean squared length to which features are scaled for that, and the rows that
can do with it; fewer need more, by the square root."""

ROWS_PER_AXIS = 4
"""No more axes are made equally long than so many rows each can bear."""

MAX_ITERATIONS, STANDSTILL = 60, 1e-5
"""The fit of a head ends after so many steps, or with one that lowers the loss by less, in nats, or promises to, or
moves no coefficient by more."""


@dataclass(frozen=True, slots=True)
class LinearHead:
    """Attributes:
    weight: (K, D).
    bias: (K,).
    """

    weight: torch.Tensor
    bias: torch.Tensor

    def probs(self, features: torch.Tensor) -> FloatArray:
        """(N, D) -> (N, K)."""
        probs: FloatArray = (features @ self.weight.T + self.bias).softmax(dim=1).cpu().numpy()
        return probs


def fit_head(
    features: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor,
    *,
    ridge: float = HEAD_RIDGE,
    start: LinearHead | None = None,
) -> LinearHead:
    """Multinomial regression with a ridge on soft targets, by L-BFGS.

    Args:
        features: of the mean squared length HEAD_LENGTH, (N, D).
        targets: (N, K), rows sum to one.
        weights: (N,).
        ridge: penalty on the squared coefficients, beside the mean loss in nats.
        start: an earlier head to begin from.
    """
    num_features, num_classes = features.shape[1], targets.shape[1]
    weight = start.weight.clone() if start else torch.zeros(num_classes, num_features, device=features.device)
    bias = start.bias.clone() if start else torch.zeros(num_classes, device=features.device)
    weight.requires_grad_()
    bias.requires_grad_()
    share = weights / weights.sum()
    solver = torch.optim.LBFGS(
        [weight, bias], max_iter=MAX_ITERATIONS, tolerance_change=STANDSTILL, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        solver.zero_grad()
        # classes first: the gradient of the other order takes seven times as long on a CPU
        log_probs = (weight @ features.T + bias[:, None]).log_softmax(dim=0)
        loss: torch.Tensor = -(targets.T * log_probs).sum(dim=0) @ share + ridge * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    solver.step(closure)  # type: ignore[no-untyped-call]
    return LinearHead(weight.detach(), bias.detach())


class FrozenLearner:
    """Learns on features that are computed once; every row is predicted by a head that never saw it.

    Heads look at what all layers see. So do neighbours, but with all axes made equally long: what varies most in the
    images, as their brightness, is not what tells classes apart. With few rows those are the longest axes only: of as
    many axes as rows all pictures would be equally far apart.

    Source: whitened features for retrieval, Jegou and Chum (ECCV 2012).
    """

    round_passes: int | None = None
    """Image passes of a round; None: the images are not looked at again."""

    def __init__(
        self, features: FrozenFeatures, fold: IntArray, groups: IntArray, *, num_neighbors: int, device: torch.device
    ) -> None:
        """
        Args:
            features: of N rows.
            fold: each row's fold, (N,).
            groups: of rows that are no neighbours of each other, (N,).
        """
        self.features = features
        scores = features.scores
        space = unit_norm(whitened(scores))
        everyone = np.ones(len(scores), dtype=bool)
        self.space = FeatureSpace(features=space, judged=everyone)
        self.neighbors = nearest(space, np.arange(len(space)), num_neighbors, groups=groups, device=device)
        self.pictures = unit_norm(features.output)
        self.scale = scale_to_length(scores)
        self.inputs = torch.from_numpy(scores * self.scale).to(device)
        self.fold = fold
        self.ridge = HEAD_RIDGE * max(1.0, ROWS_OF_RIDGE / len(fold)) ** 0.5
        self.heads: list[LinearHead | None] = [None] * (int(fold.max()) + 1)
        self.train_loss = float("nan")

    def train(self, lessons: Sequence[Lesson], *, advance: Callable[[int], None]) -> None:
        """Fit the head of each fold on the other folds' rows."""
        (lesson,) = lessons
        targets = torch.from_numpy(lesson.targets).to(self.inputs.device)
        weights = torch.from_numpy(lesson.weights).to(self.inputs.device)
        for part, start in enumerate(self.heads):
            others = torch.from_numpy(np.flatnonzero(self.fold != part)).to(self.inputs.device)
            taught = self.inputs[others], targets[others], weights[others]
            self.heads[part] = fit_head(*taught, ridge=self.ridge, start=start)

    def take_passes(self) -> tuple[int, int]:
        """Image passes of the round, forward and backward: none."""
        return 0, 0

    def scan(self, *, advance: Callable[[int], None]) -> list[Scan]:
        """Predictions by the heads that never saw the row."""
        num_classes = next(len(head.bias) for head in self.heads if head)
        probs = np.empty((len(self.fold), num_classes), dtype=np.float32)
        for part, head in enumerate(self.heads):
            held = np.flatnonzero(self.fold == part)
            if head and len(held):
                probs[held] = head.probs(self.inputs[torch.from_numpy(held).to(self.inputs.device)])
        return [self.recall(probs)]

    def recall(self, probs: FloatArray) -> Scan:
        """The scan that had these class probabilities, (N, K)."""
        rows, similarities = self.neighbors
        return Scan(
            probs=probs,
            neighbor_rows=rows,
            similarities=similarities,
            spaces=(self.space,),
            pictures=self.pictures,
            taught=np.zeros(len(probs), dtype=bool),
        )

    def tensors(self) -> dict[str, torch.Tensor]:
        """The heads of all folds, and the mean and the axes by which layers' readings become their inputs, by name."""
        frozen = self.features
        tensors = {
            "features.mean": torch.from_numpy(frozen.mean),
            "features.axes": torch.from_numpy(frozen.axes * self.scale),
        }
        for part, head in enumerate(self.heads):
            if head:
                tensors |= {f"heads.{part}.weight": head.weight, f"heads.{part}.bias": head.bias}
        return tensors

    def head_for(self, rows: IntArray, lesson: Lesson) -> tuple[FloatArray, FloatArray]:
        """A head on the backbone's output, taught by `rows` of the lesson alone: weight (K, D) and bias (K,)."""
        output = self.features.output
        mean, std = output.mean(axis=0), output.std(axis=0) + EPSILON
        inputs = (output - mean) / std
        scale = scale_to_length(inputs)
        chosen, goal, weights = (
            torch.from_numpy(values[rows]).to(self.inputs.device)
            for values in (inputs * scale, lesson.targets, lesson.weights)
        )
        head = fit_head(chosen, goal, weights)
        weight = head.weight.cpu().numpy() * scale / std
        return weight, head.bias.cpu().numpy() - weight @ mean


def whitened(scores: FloatArray) -> FloatArray:
    """Scores on the longest principal axes that the rows can bear, made equally long, (N, P) -> (N, P or fewer)."""
    longest = scores[:, : max(1, len(scores) // ROWS_PER_AXIS)]
    return np.asarray(longest / np.maximum(longest.std(axis=0), EPSILON))


def scale_to_length(features: FloatArray, length: float = HEAD_LENGTH) -> np.float32:
    """What makes their mean squared length so large, (N, P) -> a factor."""
    mean_square = np.square(features, dtype=np.float64).sum(axis=1).mean()
    return np.float32(np.sqrt(length / max(float(mean_square), EPSILON)))
