"""Other ways to find wrong labels, on the same decoded images and with the same backbone.

Plain cross-entropy training, with flips and shifts and a one-cycle schedule, on five folds or on all rows; then what
the users of each way would do with the probabilities.

# N rows, K classes, D features, B batch
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from labelclean.data.augment import augment
from labelclean.records import BoolArray, FloatArray, IntArray, of_label
from labelclean.train.backbone import Backbone, BackboneSpec
from labelclean.train.device import ImageStore
from labelclean.train.neighbors import nearest, unit_norm

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
class Material:
    """What trained networks say about the rows.

    Attributes:
        held_out: probabilities of each row by a network that was not trained on it, (N, K).
        over_time: probabilities averaged over the epochs of one training on all rows, (N, K).
        losses: of the given label, averaged over the same epochs, (N,).
        features: of that network, (N, D).
        folds_cost, whole_cost: of the five folds, and of the training on all rows.
    """

    held_out: FloatArray
    over_time: FloatArray
    losses: FloatArray
    features: FloatArray
    folds_cost: Cost
    whole_cost: Cost


class Trainer:
    """Plain training of one backbone on one data set."""

    def __init__(
        self, spec: BackboneSpec, images: ImageStore, labels: IntArray, *, learning_rate: float, bf16: bool, seed: int
    ) -> None:
        self.spec, self.images, self.labels = spec, images, labels
        self.learning_rate, self.bf16, self.seed = learning_rate, bf16, seed
        self.cost = Cost()

    def folds(self, epochs: int) -> FloatArray:
        """Probabilities of every row by the network of the four folds that it is not in, (N, K)."""
        probs = np.zeros((len(self.labels), self.spec.num_classes))
        rng = np.random.default_rng((self.seed, 7))
        fold = rng.permutation(len(self.labels)) % NUM_FOLDS
        for part in range(NUM_FOLDS):
            network = self._train(np.flatnonzero(fold != part), epochs, rng)
            held = np.flatnonzero(fold == part)
            probs[held] = self._predict(network, held)[0]
        return probs

    def whole(self, epochs: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """One training on all rows: probabilities (N, K) and losses (N,) over its epochs, and last features (N, D)."""
        rng = np.random.default_rng((self.seed, 8))
        everyone = np.arange(len(self.labels))
        probs, losses, last = [], [], []

        def watch(network: Backbone) -> None:
            found, features = self._predict(network, everyone)
            probs.append(found)
            losses.append(-np.log(of_label(found, self.labels) + 1e-12))
            last[:] = [features]

        self._train(everyone, epochs, rng, watch)
        return np.mean(probs, axis=0), np.mean(losses, axis=0), last[0]

    def take_cost(self, since: float) -> Cost:
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


def train_material(trainer: Trainer, *, epochs: int) -> Material:
    """Five folds and one training on all rows, each of so many epochs."""
    started = time.perf_counter()
    held_out = trainer.folds(epochs)
    folds_cost = trainer.take_cost(started)
    started = time.perf_counter()
    over_time, losses, features = trainer.whole(epochs)
    whole_cost = trainer.take_cost(started)
    return Material(
        held_out=held_out,
        over_time=over_time,
        losses=losses,
        features=features,
        folds_cost=folds_cost,
        whole_cost=whole_cost,
    )


def frozen_material(features: FloatArray, labels: IntArray, *, passes: int, seconds: float, seed: int) -> Material:
    """The same from features of the untouched backbone: logistic regression instead of training."""
    started = time.perf_counter()
    head = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
    folds = StratifiedKFold(NUM_FOLDS, shuffle=True, random_state=seed)
    held_out = cross_val_predict(head, features, labels, cv=folds, method="predict_proba")
    folds_cost = Cost(passes, 0, seconds + time.perf_counter() - started)
    started = time.perf_counter()
    over_time = head.fit(features, labels).predict_proba(features)
    whole_cost = Cost(passes, 0, seconds + time.perf_counter() - started)
    losses = -np.log(of_label(over_time, labels) + 1e-12)
    return Material(
        held_out=held_out,
        over_time=over_time,
        losses=losses,
        features=features,
        folds_cost=folds_cost,
        whole_cost=whole_cost,
    )


def judgements(material: Material, labels: IntArray, *, seed: int) -> dict[str, tuple[Judgement, Cost]]:
    """What each rival makes of the material, with what it cost, by name."""
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    held_out, over_time = material.held_out, material.over_time
    best = held_out.argmax(axis=1)
    margin = get_label_quality_scores(labels, held_out, method="normalized_margin")
    votes = neighbor_votes(material.features, labels, held_out.shape[1])
    agreement = of_label(votes, labels)
    low_loss = low_loss_posterior(material.losses, seed=seed)
    by_folds = {
        "cleanlab default": Judgement(
            flagged=find_label_issues(labels, held_out),
            p_clean=get_label_quality_scores(labels, held_out),
            suggested=best,
        ),
        "confident learning": Judgement(
            flagged=find_label_issues(labels, held_out, filter_by="confident_learning"), p_clean=margin, suggested=best
        ),
        "disagreement": Judgement(flagged=best != labels, p_clean=margin, suggested=best),
    }
    by_whole = {
        "average over epochs": Judgement(
            flagged=over_time.argmax(axis=1) != labels,
            p_clean=of_label(over_time, labels),
            suggested=over_time.argmax(axis=1),
        ),
        "neighbour vote": Judgement(
            flagged=votes.argmax(axis=1) != labels, p_clean=agreement, suggested=votes.argmax(axis=1)
        ),
        "loss mixture": Judgement(flagged=low_loss < 0.5, p_clean=low_loss, suggested=over_time.argmax(axis=1)),
    }
    return {
        **{name: (found, material.folds_cost) for name, found in by_folds.items()},
        **{name: (found, material.whole_cost) for name, found in by_whole.items()},
    }


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
