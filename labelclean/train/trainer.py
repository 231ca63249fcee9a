"""Fine-tuned networks: their training rounds and their scans.

Three ways to judge a row differ in who is taught which labels, and in which network scans which rows:

    self      one network, taught all labels but those held out, scans all rows
    peer      two networks, taught the same by the division that the other one's scan leads to
    crossfit  two networks, each taught the labels of its own half and scanning the other half

# N rows, K classes, D features, B batch
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from labelclean.data.augment import augment
from labelclean.errors import ConfigError
from labelclean.records import EPSILON, BoolArray, FloatArray, IntArray
from labelclean.train.backbone import Backbone, BackboneSpec
from labelclean.train.device import ImageStore, scan_batch
from labelclean.train.fusion import fused
from labelclean.train.neighbors import nearest, unit_norm
from labelclean.train.network import Network, Stint, update_average
from labelclean.train.scan import FeatureSpace, Scan
from labelclean.train.schedule import Schedule
from labelclean.tssd.semisup import Lesson, confidence, labelled_loss, mix, prior_penalty, ramp, unlabelled_loss

LOOK_EVERY = 32
"""Steps after which their losses are looked at where that means to wait for a GPU."""


class Taught(NamedTuple):
    """What a network is taught in a round.

    Attributes:
        targets: (N, K) float32.
        weights: (N,) float32.
        believed: rows whose label is believed and taught by L_C; the others are taught by L_U, (N,).
    """

    targets: FloatArray
    weights: FloatArray
    believed: BoolArray


class Batch(NamedTuple):
    """What goes through a network in a step.

    Attributes:
        images: changed at random, (B, 3, S, S).
        targets: (B, K).
        weights: (B,).
        believed: (B,).
    """

    images: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    believed: torch.Tensor


class TunedLearner:
    """One network, or two, fine-tuned round by round."""

    def __init__(
        self,
        spec: BackboneSpec,
        images: ImageStore,
        schedule: Schedule,
        *,
        judge: str,
        half: IntArray,
        held_out: BoolArray,
        groups: IntArray,
        num_neighbors: int,
        bf16: bool,
        seed: int,
    ) -> None:
        """
        Args:
            judge: self, peer or crossfit.
            half: each row's half, 0 or 1, for crossfit, (N,).
            held_out: rows whose label is taught to nobody, for self and peer, (N,).
            groups: of rows that are no neighbours of each other, (N,).
        """
        self.images, self.schedule, self.judge = images, schedule, judge
        self.groups, self.num_neighbors, self.bf16, self.seed = groups, num_neighbors, bf16, seed
        self.round = 0
        self.forward_passes = self.backward_passes = 0
        self.train_loss = float("nan")
        self.look_every = 1 if images.device.type == "cpu" else LOOK_EVERY
        everyone = np.ones(len(half), dtype=bool)
        members = {
            "self": [(~held_out, everyone)],
            "peer": [(~held_out, everyone)] * 2,
            "crossfit": [(half == 0, half == 1), (half == 1, half == 0)],
        }[judge]
        self.networks = [self._new_network(spec, place, *rows) for place, rows in enumerate(members)]

    def _new_network(self, spec: BackboneSpec, place: int, teaches: BoolArray, judges: BoolArray) -> Network:
        model = spec.build(self.seed + place)
        model.to(device=self.images.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = torch.optim.SGD(
            model.parameters(),
            self.schedule.learning_rate,
            momentum=0.9,
            nesterov=True,
            weight_decay=self.schedule.weight_decay,
        )
        return Network(model, copy.deepcopy(model).eval().requires_grad_(False), optimizer, teaches, judges)

    def set_heads(self, head_for: Callable[[BoolArray], tuple[FloatArray, FloatArray]]) -> None:
        """Start every head from one fitted on fixed features; head_for takes the rows whose labels it may see."""
        for network in self.networks:
            weight, bias = head_for(network.teaches)
            for model in (network.model, network.average):
                with torch.no_grad():
                    model.head.weight.copy_(torch.from_numpy(weight))
                    model.head.bias.copy_(torch.from_numpy(bias))

    @property
    def round_passes(self) -> int:
        """Image passes of a round, training and scan of all networks."""
        training = self.schedule.steps[min(self.round, len(self.schedule.steps) - 1)] * self.schedule.batch_size
        return len(self.networks) * (training + 2 * len(self.networks[0].judges))

    def take_passes(self) -> tuple[int, int]:
        """Image passes since the last call, forward and backward."""
        passes = self.forward_passes, self.backward_passes
        self.forward_passes = self.backward_passes = 0
        return passes

    def train(self, lessons: Sequence[Lesson], *, advance: Callable[[int], None]) -> None:
        """One round of every network. With two lessons each network learns from the other's division."""
        stints = []
        for place, network in enumerate(self.networks):
            lesson = lessons[-1 - place] if len(lessons) > 1 else lessons[0]
            with torch.random.fork_rng([self.images.device] if self.images.device.type == "cuda" else []):
                stint = Stint(self._seed(place), self.images.device)
                self._train_network(network, lesson, stint, advance=advance)
            stints.append(stint)
        self.train_loss = float(np.mean([stint.loss / stint.rows for stint in stints]))
        num_passes = sum(stint.rows for stint in stints)
        self.forward_passes += num_passes
        self.backward_passes += num_passes
        for network in self.networks:
            network.stint = None
        self.round += 1

    def _seed(self, place: int) -> int:
        return int(np.random.SeedSequence((self.seed, self.round, place)).generate_state(1)[0])

    def _train_network(self, network: Network, lesson: Lesson, stint: Stint, *, advance: Callable[[int], None]) -> None:
        """A network's training for a round, or what an interruption has left of it.

        Raises:
            ConfigError: there is nothing to teach, or the loss is no longer a number.
        """
        targets, weights = self._addressed(lesson, network)
        taught = Taught(targets, weights, lesson.labelled & network.teaches)
        useful = np.flatnonzero(weights > EPSILON)
        prior = torch.from_numpy(targets[useful].mean(axis=0)).to(self.images.device)
        network.model.train()
        batches = _batches(useful, self.schedule.batch_size, self.schedule.steps[self.round], stint.rng)
        network.stint = stint
        if network.kept is not None:
            stint.restore(network.kept)
            network.kept = None
            advance(stint.rows)
        heights: list[torch.Tensor] = []
        for number, rows in enumerate(batches[stint.steps :], start=stint.steps + 1):
            heights.append(self._step(network, self._batch(rows, taught, stint), prior))
            if len(heights) == self.look_every or number == len(batches):
                num_rows = len(heights) * len(rows)
                stint.steps, stint.rows = number, stint.rows + num_rows
                stint.loss += len(rows) * self._sum(heights)
                heights.clear()
                advance(num_rows)

    def _batch(self, rows: IntArray, taught: Taught, stint: Stint) -> Batch:
        """Some rows, ready to be taught."""
        x = augment(self.images.batch(rows), stint.augmenting)
        t, w, believed = (torch.from_numpy(values[rows]).to(x.device) for values in taught)
        if self.schedule.mixup:
            share = float(stint.rng.beta(self.schedule.mixup, self.schedule.mixup))
            share = max(share, 1 - share)
            order = torch.from_numpy(stint.rng.permutation(len(rows))).to(x.device)
            x, t, w = mix(x, order, share), mix(t, order, share), mix(w, order, share)
        return Batch(x, t, w, believed)

    def _sum(self, heights: list[torch.Tensor]) -> float:
        """The losses of some steps together.

        Raises:
            ConfigError: one is no longer a number.
        """
        total = math.fsum(torch.stack(heights).tolist())
        if not math.isfinite(total):
            raise ConfigError(
                f"round {self.round + 1}: training diverged, its loss is {total}",
                hint='Give a --config file with a lower learning_rate, or with precision = "fp32".',
            )
        return total

    def _addressed(self, lesson: Lesson, network: Network) -> tuple[FloatArray, FloatArray]:
        """Targets (N, K) and weights (N,) of a lesson for one network.

        Where a label is withheld from it, it sees it in no form: it is taught its blind guess.

        Raises:
            ConfigError: there is nothing to teach.
        """
        targets = np.where(network.teaches[:, None], lesson.targets, lesson.guesses)
        weights = np.where(network.teaches, lesson.weights, confidence(lesson.guesses)).astype(np.float32)
        if not (weights > EPSILON).any():
            raise ConfigError(
                f"judge {self.judge}: all labels are golden or held out, nothing is left to teach",
                hint="Choose --judge crossfit.",
            )
        return targets, weights

    def _step(self, network: Network, batch: Batch, prior: torch.Tensor) -> torch.Tensor:
        """One step of the optimiser and of the moving average; the loss before it, ()."""
        for group in network.optimizer.param_groups:
            group["lr"] = self.schedule.rate(network.step)
        with torch.autocast(prior.device.type, torch.bfloat16, enabled=self.bf16):
            _, logits = network.model(batch.images)
        loss = self._loss(logits, batch, prior, network.step)
        network.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.model.parameters(), 5.0)
        network.optimizer.step()
        network.step += 1
        update_average(network.average, network.model, decay=self.schedule.ema_decay, step=network.step)
        return loss.detach()

    def _loss(self, logits: torch.Tensor, batch: Batch, prior: torch.Tensor, step: int) -> torch.Tensor:
        """L_C + lambda_u * L_U + lambda_r * L_reg, per row of the batch."""
        lambda_u = self.schedule.lambda_u * ramp(step / sum(self.schedule.steps))
        loss = labelled_loss(logits, batch.targets, batch.weights * batch.believed)
        of_others = labelled_loss if self.schedule.by_entropy else unlabelled_loss
        loss = loss + lambda_u * of_others(logits, batch.targets, batch.weights * ~batch.believed)
        return loss / len(logits) + self.schedule.lambda_r * prior_penalty(logits, prior)

    def scan(self, *, advance: Callable[[int], None]) -> list[Scan]:
        """One evaluation pass of every network by its moving average; one scan for self and crossfit, two for peer."""
        passes = []
        for network in self.networks:
            probs, features = scan_images(network.average, self.images, bf16=self.bf16, advance=advance)
            self.forward_passes += 2 * len(probs)
            passes.append((probs, FeatureSpace(unit_norm(features), network.judges)))
        taught = np.any([network.teaches & network.judges for network in self.networks], axis=0)
        if self.judge == "crossfit":
            return [self._merge(passes, taught)]
        return [self._merge([single], taught) for single in passes]

    def tensors(self) -> dict[str, torch.Tensor]:
        """The moving averages of all networks, by name."""
        return {
            f"networks.{place}.{name}": value
            for place, network in enumerate(self.networks)
            for name, value in network.average.state_dict().items()
        }

    def state(self) -> dict[str, Any]:
        """Everything that the training from here on depends on, also in the midst of a round."""
        return {"networks": [network.state() for network in self.networks], "round": self.round}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a stored state."""
        self.round = state["round"]
        for network, stored in zip(self.networks, state["networks"], strict=True):
            network.restore(stored)

    def _merge(self, passes: list[tuple[FloatArray, FeatureSpace]], taught: BoolArray) -> Scan:
        """Each row as the network that judges it sees it."""
        num_rows, num_classes = passes[0][0].shape
        k = min(self.num_neighbors, num_rows - 1)
        probs = np.empty((num_rows, num_classes), dtype=np.float32)
        neighbor_rows, similarities = np.empty((num_rows, k), dtype=np.int64), np.empty((num_rows, k), np.float32)
        for found, space in passes:
            probs[space.judged] = found[space.judged]
            queries = np.flatnonzero(space.judged)
            neighbor_rows[queries], similarities[queries] = nearest(
                space.features, queries, k, groups=self.groups, device=self.images.device
            )
        spaces = tuple(space for _, space in passes)
        return Scan(probs, neighbor_rows, similarities, spaces, spaces[0].features, taught)


def scan_images(
    network: Backbone, images: ImageStore, *, bf16: bool, advance: Callable[[int], None]
) -> tuple[FloatArray, FloatArray]:
    """Class probabilities (N, K) and features (N, D) of every image, averaged over the image and its mirror."""
    probs, features = [], []
    num_rows = len(images.rows)
    network = fused(network.eval(), images.batch(np.arange(min(num_rows, 2))))
    with torch.inference_mode(), torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
        for rows in np.array_split(np.arange(num_rows), -(-num_rows // scan_batch(images.device))):
            x = images.batch(rows)
            found = [network(view) for view in (x, x.flip(3))]
            features.append(((found[0][0] + found[1][0]) / 2).cpu().numpy())
            probs.append(((found[0][1].softmax(1) + found[1][1].softmax(1)) / 2).cpu().numpy())
            advance(2 * len(rows))
    return np.concatenate(probs), np.concatenate(features)


def _batches(rows: IntArray, batch_size: int, num_steps: int, rng: np.random.Generator) -> Sequence[IntArray]:
    """So many batches, going through a new permutation whenever the rows are used up."""
    wanted = batch_size * num_steps
    order = np.concatenate([rng.permutation(rows) for _ in range(-(-wanted // len(rows)))])[:wanted]
    return np.split(order, num_steps)
