"""Other ways to find wrong labels, on the same decoded images and with the same backbone.

Plain cross-entropy training, with flips and shifts and a one-cycle schedule, on five folds or on all rows; then what
the users of each way would do with the probabilities.

# N rows, K classes, D features, B batch
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from labelclean.data.augment import augment
from labelclean.records import BoolArray, FloatArray, IntArray, of_label
from labelclean.train.backbone import Backbone, BackboneSpec
from labelclean.train.device import ImageStore
from labelclean.train.neighbors import nearest, unit_norm

HELD_OUT_WAYS = ("cleanlab default", "confident learning", "disagreement")
"""Rivals that want probabilities of rows which were not trained on."""
WATCHED_WAYS = ("average over epochs", "neighbour vote", "loss mixture")
"""Rivals that look at one training."""

NUM_FOLDS = 5
NUM_NEIGHBORS = 10
BATCH = 128


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """What a rival says about every row.

    Attributes:
        flagged: labels called wrong, (N,).
        p_clean: its score that the label is right, higher is better, (N,).
        suggested: the class it would put, (N,).
    """

    flagged: BoolArray
    p_clean: FloatArray
    suggested: IntArray


@dataclass(slots=True)
class Cost:
    """Image passes and seconds."""

    forward: int = 0
    backward: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOut:
    """Probabilities of each row by a network of five that was not trained on it, (N, K)."""

    probs: FloatArray
    cost: Cost


@dataclass(frozen=True, kw_only=True, slots=True)
class Watched:
    """One training on all rows, watched epoch by epoch.

    Attributes:
        over_time: probabilities averaged over the epochs, (N, K).
        losses: of the given label, averaged likewise, (N,).
        features: at the end, (N, D).
    """

    over_time: FloatArray
    losses: FloatArray
    features: FloatArray
    cost: Cost


Found = dict[str, tuple[Judgement, Cost]]
"""What each rival says, and what it cost, by name."""


class Trainer:
    """Plain training of one backbone on one data set."""

    def __init__(
        self, spec: BackboneSpec, images: ImageStore, labels: IntArray, *, learning_rate: float, bf16: bool, seed: int
    ) -> None:
        self.spec, self.images, self.labels = spec, images, labels
        self.learning_rate, self.bf16, self.seed = learning_rate, bf16, seed
        self.cost = Cost()

    def folds(self, epochs: int) -> HeldOut:
        """Five trainings, each of so many epochs on four fifths of the rows."""
        started = time.perf_counter()
        probs = np.zeros((len(self.labels), self.spec.num_classes))
        rng = np.random.default_rng((self.seed, 7))
        fold = rng.permutation(len(self.labels)) % NUM_FOLDS
        for part in range(NUM_FOLDS):
            network = self._train(np.flatnonzero(fold != part), epochs, rng)
            held = np.flatnonzero(fold == part)
            probs[held] = self._predict(network, held)[0]
        return HeldOut(probs=probs, cost=self._take_cost(started))

    def whole(self, epochs: int) -> Watched:
        """One training on all rows."""
        started = time.perf_counter()
        rng = np.random.default_rng((self.seed, 8))
        everyone = np.arange(len(self.labels))
        probs, losses, last = [], [], []

        def watch(network: Backbone) -> None:
            found, features = self._predict(network, everyone)
            probs.append(found)
            losses.append(-np.log(of_label(found, self.labels) + 1e-12))
            last[:] = [features]

        self._train(everyone, epochs, rng, watch)
        return Watched(
            over_time=np.mean(probs, axis=0),
            losses=np.mean(losses, axis=0),
            features=last[0],
            cost=self._take_cost(started),
        )

    def _take_cost(self, since: float) -> Cost:
        """Passes since the last call, and seconds since a moment."""
        cost, self.cost = self.cost, Cost()
        cost.seconds = time.perf_counter() - since
        return cost

    def _train(
        self,
        rows: IntArray,
        epochs: int,
        rng: np.random.Generator,
        watch: Callable[[Backbone], None] | None = None,
    ) -> Backbone:
        device = self.images.device
        network = self.spec.build(self.seed).to(device=device, memory_format=torch.channels_last)
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        optimizer = torch.optim.SGD(
            network.parameters(), self.learning_rate, momentum=0.9, nesterov=True, weight_decay=5e-4
        )
        num_batches = -(-len(rows) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.learning_rate, epochs * num_batches)
        for _ in range(epochs):
            network.train()
            for batch in np.array_split(rng.permutation(rows), num_batches):
                with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
                    _, logits = network(augment(self.images.batch(batch), generator))
                loss = F.cross_entropy(logits.float(), torch.from_numpy(self.labels[batch]).to(device))
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                schedule.step()
            self.cost.forward += len(rows)
            self.cost.backward += len(rows)
            if watch is not None:
                watch(network)
        return network

    def _predict(self, network: Backbone, rows: IntArray) -> tuple[FloatArray, FloatArray]:
        probs, features = [], []
        network.eval()
        with torch.inference_mode(), torch.autocast(self.images.device.type, torch.bfloat16, enabled=self.bf16):
            for batch in np.array_split(rows, -(-len(rows) // (2 * BATCH))):
                found, logits = network(self.images.batch(batch))
                features.append(found.float().cpu().numpy())
                probs.append(logits.float().softmax(1).cpu().numpy())
        self.cost.forward += len(rows)
        return np.concatenate(probs), np.concatenate(features)


def watch_frozen(features: FloatArray, labels: IntArray, *, cost: Cost) -> Watched:
    """Logistic regression on features of the untouched backbone, instead of a training.

    Args:
        cost: of the features, (N, D).
    """
    started = time.perf_counter()
    over_time = _head().fit(features, labels).predict_proba(features)
    losses = -np.log(of_label(over_time, labels) + 1e-12)
    return Watched(over_time=over_time, losses=losses, features=features, cost=_since(started, cost))


def hold_out_frozen(features: FloatArray, labels: IntArray, *, cost: Cost, seed: int) -> HeldOut:
    """The same in five folds."""
    started = time.perf_counter()
    folds = StratifiedKFold(NUM_FOLDS, shuffle=True, random_state=seed)
    probs = cross_val_predict(_head(), features, labels, cv=folds, method="predict_proba")
    return HeldOut(probs=probs, cost=_since(started, cost))


def _head() -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))


def _since(started: float, cost: Cost) -> Cost:
    return replace(cost, seconds=cost.seconds + time.perf_counter() - started)


def judge_held_out(found: HeldOut, labels: IntArray) -> Found:
    """What HELD_OUT_WAYS make of it."""
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    best = found.probs.argmax(axis=1)
    margin = get_label_quality_scores(labels, found.probs, method="normalized_margin")
    by_confidence = get_label_quality_scores(labels, found.probs)
    confident = find_label_issues(labels, found.probs, filter_by="confident_learning")
    found_by = (
        Judgement(flagged=find_label_issues(labels, found.probs), p_clean=by_confidence, suggested=best),
        Judgement(flagged=confident, p_clean=margin, suggested=best),
        Judgement(flagged=best != labels, p_clean=margin, suggested=best),
    )
    return {way: (judgement, found.cost) for way, judgement in zip(HELD_OUT_WAYS, found_by, strict=True)}


def judge_watched(found: Watched, labels: IntArray, *, seed: int) -> Found:
    """What WATCHED_WAYS make of it."""
    best = found.over_time.argmax(axis=1)
    votes = neighbor_votes(found.features, labels, found.over_time.shape[1])
    voted, agreement = votes.argmax(axis=1), of_label(votes, labels)
    low_loss = low_loss_posterior(found.losses, seed=seed)
    found_by = (
        Judgement(flagged=best != labels, p_clean=of_label(found.over_time, labels), suggested=best),
        Judgement(flagged=voted != labels, p_clean=agreement, suggested=voted),
        Judgement(flagged=low_loss < 0.5, p_clean=low_loss, suggested=best),
    )
    return {way: (judgement, found.cost) for way, judgement in zip(WATCHED_WAYS, found_by, strict=True)}


def neighbor_votes(features: FloatArray, labels: IntArray, num_classes: int) -> FloatArray:
    """Shares of the votes of the nearest rows for each class, (N, K). Source: SimiFeat (ICML 2022)."""
    rows, _ = nearest(unit_norm(features.astype(np.float32)), np.arange(len(labels)), NUM_NEIGHBORS)
    votes = np.zeros((len(labels), num_classes))
    np.add.at(votes, (np.arange(len(labels))[:, None], labels[rows]), 1 / NUM_NEIGHBORS)
    return votes


def low_loss_posterior(losses: FloatArray, *, seed: int) -> FloatArray:
    """Posterior of the low-mean one of two Gaussians on the scaled losses, (N,). Source: DivideMix (ICLR 2020)."""
    scaled = ((losses - losses.min()) / max(float(np.ptp(losses)), 1e-12))[:, None]
    mixture = GaussianMixture(2, max_iter=100, tol=1e-2, reg_covar=5e-4, random_state=seed).fit(scaled)
    posterior: FloatArray = mixture.predict_proba(scaled)[:, mixture.means_.argmin()]
    return posterior
