"""Other ways to find wrong labels, on the same decoded images and with the same backbone.

Plain cross-entropy training on five folds or on all rows, with labelclean's batch size, learning rate and views of an
image; then what the users of each way would do with the probabilities.

# N rows, K classes, D features, B batch
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from labelclean.data.augment import augment
from labelclean.records import BoolArray, FloatArray, IntArray, of_label
from labelclean.train.backbone import Backbone, BackboneSpec
from labelclean.train.device import ImageStore
from labelclean.train.frozen import FrozenFeatures
from labelclean.train.heads import scale_to_length, whitened
from labelclean.train.neighbors import nearest, unit_norm
from labelclean.train.schedule import Schedule
from labelclean.train.trainer import scan_images

HELD_OUT_WAYS = ("cleanlab default", "confident learning", "disagreement")
"""Rivals that want probabilities of rows which were not trained on."""
WATCHED_WAYS = ("average over epochs", "neighbour vote", "loss mixture")
"""Rivals that look at one training."""

NUM_FOLDS = 5
NUM_NEIGHBORS = 10

HEAD_CS = (3e-4, 1e-3, 3e-3, 1e-2, 1e-1)
"""Inverse strengths of the ridge of logistic regression on frozen features; the least held-out loss decides."""
HEAD_EPOCHS, HEAD_RATE = 5, 0.003
"""Of the same head where it is watched in training: of 3 to 20 epochs at .001 to .03 what found most wrong labels."""


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


Found = dict[str, Judgement]
"""What each rival says, by name."""


class Trainer:
    """Plain training of one backbone on one data set."""

    def __init__(
        self, spec: BackboneSpec, images: ImageStore, labels: IntArray, schedule: Schedule, *, bf16: bool, seed: int
    ) -> None:
        """
        Args:
            schedule: for its batch size, learning rate and weight decay.
        """
        self.spec, self.images, self.labels, self.schedule = spec, images, labels, schedule
        self.bf16, self.seed = bf16, seed
        self.forward = self.backward = 0

    def folds(self, epochs: int) -> FloatArray:
        """Probabilities of each row by a network that was not trained on it, (N, K).

        There are five, each trained for so many epochs on four fifths of the rows.
        """
        probs = np.zeros((len(self.labels), self.spec.num_classes))
        rng = np.random.default_rng((self.seed, 7))
        fold = rng.permutation(len(self.labels)) % NUM_FOLDS
        for part in range(NUM_FOLDS):
            network = self._train(np.flatnonzero(fold != part), epochs, rng)
            held = np.flatnonzero(fold == part)
            probs[held] = self._predict(network, held)[0]
        return probs

    def whole(self, epochs: int) -> Watched:
        """One training on all rows."""
        everyone = np.arange(len(self.labels))
        seen: list[tuple[FloatArray, FloatArray]] = []

        def watch(network: Backbone) -> None:
            probs, features = self._predict(network, everyone)
            seen.append((probs, features))

        self._train(everyone, epochs, np.random.default_rng((self.seed, 8)), watch)
        return watched([probs for probs, _ in seen], self.labels, seen[-1][1])

    def _train(
        self,
        rows: IntArray,
        epochs: int,
        rng: np.random.Generator,
        watch: Callable[[Backbone], None] | None = None,
    ) -> Backbone:
        device, schedule = self.images.device, self.schedule
        network = self.spec.build(self.seed).to(device=device, memory_format=torch.channels_last)
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        optimizer = torch.optim.SGD(
            network.parameters(),
            schedule.learning_rate,
            momentum=0.9,
            nesterov=True,
            weight_decay=schedule.weight_decay,
        )
        num_batches = -(-len(rows) // schedule.batch_size)
        rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, schedule.learning_rate, epochs * num_batches)
        for _ in range(epochs):
            network.train()
            for batch in np.array_split(rng.permutation(rows), num_batches):
                with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
                    _, logits = network(augment(self.images.batch(batch), generator))
                loss = F.cross_entropy(logits.float(), torch.from_numpy(self.labels[batch]).to(device))
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                rates.step()
            self.forward += len(rows)
            self.backward += len(rows)
            if watch is not None:
                watch(network)
        return network

    def _predict(self, network: Backbone, rows: IntArray) -> tuple[FloatArray, FloatArray]:
        self.forward += 2 * len(rows)
        images = ImageStore(self.images.pixels, self.images.rows[rows], self.images.device)
        return scan_images(network, images, bf16=self.bf16, advance=lambda _: None)


def watched(probs: list[FloatArray], labels: IntArray, features: FloatArray) -> Watched:
    """What was seen of a training: probabilities after each epoch, (N, K), and features at the end, (N, D)."""
    losses = [-np.log(of_label(of_epoch, labels) + 1e-12) for of_epoch in probs]
    return Watched(over_time=np.mean(probs, axis=0), losses=np.mean(losses, axis=0), features=features)


@dataclass(frozen=True, kw_only=True, slots=True)
class FrozenInputs:
    """What a rival sees of the untouched backbone.

    Attributes:
        features: for linear heads, (N, D).
        standardise: whether heads bring every feature to the same spread; else they are centred.
        space: for neighbours, (N, D).
    """

    features: FloatArray
    standardise: bool
    space: FloatArray

    @property
    def scaler(self) -> StandardScaler:
        return StandardScaler(with_std=self.standardise)


def see_output(frozen: FrozenFeatures) -> FrozenInputs:
    """The backbone's output, as users of other tools would take it."""
    return FrozenInputs(features=frozen.output, standardise=True, space=frozen.output)


def see_layers(frozen: FrozenFeatures) -> FrozenInputs:
    """What all layers see, as labelclean does; as long as the standardised output, for which the heads are tuned."""
    scores = frozen.scores * scale_to_length(frozen.scores, frozen.output.shape[1])
    return FrozenInputs(features=scores, standardise=False, space=whitened(scores))


def watch_frozen(inputs: FrozenInputs, labels: IntArray, *, batch_size: int, seed: int) -> Watched:
    """The training of a linear head on fixed features."""
    x = torch.from_numpy(inputs.scaler.fit_transform(inputs.features).astype(np.float32))
    y = torch.from_numpy(labels)
    rng = np.random.default_rng((seed, 8))
    weight = torch.zeros(x.shape[1], int(labels.max()) + 1, requires_grad=True)
    bias = torch.zeros(weight.shape[1], requires_grad=True)
    optimizer = torch.optim.SGD([weight, bias], HEAD_RATE, momentum=0.9, nesterov=True, weight_decay=5e-4)
    num_batches = -(-len(y) // batch_size)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, HEAD_RATE, HEAD_EPOCHS * num_batches)
    probs = []
    for _ in range(HEAD_EPOCHS):
        for batch in np.array_split(rng.permutation(len(y)), num_batches):
            loss = F.cross_entropy(x[batch] @ weight + bias, y[batch])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            rates.step()
        probs.append((x @ weight + bias).detach().softmax(1).numpy())
    return watched(probs, labels, inputs.space)


def hold_out_frozen(
    inputs: FrozenInputs, labels: IntArray, *, seed: int, strengths: tuple[float, ...] = HEAD_CS
) -> FloatArray:
    """Out-of-fold probabilities by logistic regression on fixed features, (N, K)."""
    folds = StratifiedKFold(NUM_FOLDS, shuffle=True, random_state=seed)
    found = []
    for strength in strengths:
        head = make_pipeline(inputs.scaler, LogisticRegression(C=strength, max_iter=300))
        found.append(cross_val_predict(head, inputs.features, labels, cv=folds, method="predict_proba"))
    return min(found, key=lambda probs: log_loss(labels, probs))


def judge_held_out(probs: FloatArray, labels: IntArray) -> Found:
    """What HELD_OUT_WAYS make of probabilities of rows that were not trained on, (N, K)."""
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    best = probs.argmax(axis=1)
    margin = get_label_quality_scores(labels, probs, method="normalized_margin")
    by_confidence = get_label_quality_scores(labels, probs)
    confident = find_label_issues(labels, probs, filter_by="confident_learning")
    found_by = (
        Judgement(flagged=find_label_issues(labels, probs), p_clean=by_confidence, suggested=best),
        Judgement(flagged=confident, p_clean=margin, suggested=best),
        Judgement(flagged=best != labels, p_clean=margin, suggested=best),
    )
    return dict(zip(HELD_OUT_WAYS, found_by, strict=True))


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
    return dict(zip(WATCHED_WAYS, found_by, strict=True))


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
