"""Fine-tuned networks: who is taught what, the moving average, the schedule, and carrying on where one stopped."""

from __future__ import annotations

import copy
import dataclasses
import platform
import sys
from typing import Any

import numpy as np
import pytest
import torch

from labelclean.config import FitConfig, JudgeKind
from labelclean.errors import ConfigError
from labelclean.records import UNKNOWN, FloatArray, IntArray
from labelclean.train import trainer
from labelclean.train.backbone import BackboneSpec, prepare_backbone
from labelclean.train.device import ImageStore, choose_device, choose_precision, keep_freed_memory
from labelclean.train.network import Stint, update_average
from labelclean.train.schedule import (
    PRETRAINED,
    SCRATCH,
    Schedule,
    choose_batch_size,
    choose_judge,
    count_frozen_rounds,
    count_tuned_rounds,
    hold_out_one_in,
    plan_schedule,
    trains_as_usual,
)
from labelclean.train.trainer import Batch, TunedLearner, scan_images
from labelclean.tssd.semisup import Lesson, first_lesson, make_lesson

CPU = torch.device("cpu")
NUM_ROWS, SIDE = 24, 16
HALF = np.arange(NUM_ROWS) // 3 % 2
LABELS = np.arange(NUM_ROWS) % 3
NOBODY = np.zeros(NUM_ROWS, dtype=bool)


def ignore(_: int) -> None:
    pass


@pytest.fixture(scope="module")
def spec() -> BackboneSpec:
    config = FitConfig(backbone="test_resnet", weights="none", image_size=SIDE)
    return prepare_backbone(config, num_classes=3, median_side=SIDE)


def pixels() -> np.ndarray:
    """Noise with a colour for each class, and an image in front that is not judged."""
    rng = np.random.default_rng(0)
    content = rng.integers(0, 120, (NUM_ROWS + 1, SIDE, SIDE, 3), dtype=np.uint8)
    content[np.arange(NUM_ROWS) + 1, ..., LABELS] += 100
    return content


def schedule(**changes: Any) -> Schedule:
    settings: dict[str, Any] = {
        "steps": (3, 3),
        "batch_size": 8,
        "learning_rate": 0.05,
        "later_rate": None,
        "by_entropy": False,
        "weight_decay": 5e-4,
        "ema_decay": 0.9,
        "mixup": 4.0,
        "lambda_u": 1.0,
        "lambda_r": 1.0,
    }
    return Schedule(**(settings | changes))


def learner_of(
    spec: BackboneSpec, judge: str = "crossfit", *, device: torch.device = CPU, **changes: Any
) -> TunedLearner:
    return TunedLearner(
        spec,
        ImageStore(pixels(), np.arange(1, NUM_ROWS + 1), device),
        schedule(**changes),
        judge=judge,
        half=HALF,
        held_out=np.arange(NUM_ROWS) % 5 == 0,
        groups=np.arange(NUM_ROWS),
        num_neighbors=5,
        bf16=False,
        seed=0,
    )


def lesson_of(labels: IntArray, *, labelled: np.ndarray | None = None) -> Lesson:
    """As a judge makes it: guesses that do not know the labels, targets that do."""
    prior = np.random.default_rng(1).dirichlet(np.full(3, 0.3), NUM_ROWS)
    return make_lesson(
        prior,
        np.full(NUM_ROWS, 0.8),
        labels,
        np.ones(NUM_ROWS, bool) if labelled is None else labelled,
        golden=np.full(NUM_ROWS, UNKNOWN),
        temperature=0.5,
    )


def same_tensors(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("first", [True, False])
def test_crossfit_never_sees_a_label_that_it_is_to_judge(spec: BackboneSpec, first: bool):
    """Only labels and beliefs of one half differ, the half that network 0 judges and network 1 is taught."""
    judged = HALF == 1
    swapped = np.where(judged, (LABELS + 1) % 3, LABELS)
    doubted = np.where(judged, np.arange(NUM_ROWS) % 2 == 0, True)
    if first:
        lessons = [first_lesson(labels, NOBODY, num_classes=3) for labels in (LABELS, swapped)]
    else:
        lessons = [lesson_of(LABELS), lesson_of(swapped, labelled=doubted)]
    learners = []
    for lesson in lessons:
        learner = learner_of(spec)
        assert not learner.networks[0].teaches[judged].any()
        assert learner.networks[0].judges[judged].all()
        for _ in range(2):
            learner.train([lesson], advance=ignore)
        learners.append(learner)
    one, other = (learner.networks for learner in learners)
    assert same_tensors(one[0].model, other[0].model)
    assert same_tensors(one[0].average, other[0].average)
    assert not same_tensors(one[1].model, other[1].model)
    scans = [learner.scan(advance=ignore)[0] for learner in learners]
    np.testing.assert_array_equal(scans[0].probs[judged], scans[1].probs[judged])


@pytest.mark.parametrize("judge", ["self", "peer"])
def test_labels_held_out_are_taught_to_nobody(spec: BackboneSpec, judge: str):
    held_out = np.arange(NUM_ROWS) % 5 == 0
    learners = []
    for labels in (LABELS, np.where(held_out, (LABELS + 1) % 3, LABELS)):
        learner = learner_of(spec, judge)
        learner.train([lesson_of(labels)] * len(learner.networks), advance=ignore)
        learners.append(learner)
    for one, other in zip(*(learner.networks for learner in learners), strict=True):
        assert same_tensors(one.model, other.model)
    for scan in learners[0].scan(advance=ignore):
        np.testing.assert_array_equal(scan.taught, ~held_out)
    assert not learner_of(spec, "crossfit").scan(advance=ignore)[0].taught.any()


def test_nothing_to_teach_is_an_error_with_a_remedy(spec: BackboneSpec):
    learner = learner_of(spec, "self")
    learner.networks[0].teaches[:] = False
    with pytest.raises(ConfigError, match="nothing is left to teach"):
        learner.train([first_lesson(LABELS, NOBODY, num_classes=3)], advance=ignore)


@pytest.mark.parametrize(("judge", "num_networks", "num_scans"), [("self", 1, 1), ("peer", 2, 2), ("crossfit", 2, 1)])
def test_every_way_of_judging_trains_and_scans(spec: BackboneSpec, judge: str, num_networks: int, num_scans: int):
    learner = learner_of(spec, judge)
    told: list[int] = []
    learner.train([lesson_of(LABELS)] * num_scans, advance=told.append)
    scans = learner.scan(advance=told.append)
    assert len(learner.networks) == num_networks
    assert len(scans) == num_scans
    for scan in scans:
        np.testing.assert_allclose(scan.probs.sum(axis=1), 1, atol=1e-5)
        assert scan.neighbor_rows.shape == scan.similarities.shape == (NUM_ROWS, 5)
        assert (scan.neighbor_rows != np.arange(NUM_ROWS)[:, None]).all()
        judges = sum(space.judged.astype(int) for space in scan.spaces)
        assert (judges == 1).all()
    assert np.isfinite(learner.train_loss)
    trained, scanned = num_networks * 3 * 8, num_networks * 2 * NUM_ROWS
    assert sum(told) == learner.round_passes == trained + scanned
    assert learner.take_passes() == (trained + scanned, trained)
    assert learner.take_passes() == (0, 0)
    names = learner.tensors()
    assert {name.split(".")[1] for name in names} == {str(place) for place in range(num_networks)}


def test_rows_that_are_not_believed_are_taught_by_entropy_where_it_is_said(spec: BackboneSpec):
    """Where all are, it makes no difference."""
    believed = np.arange(NUM_ROWS) % 2 == 0
    for labelled in (believed, np.ones(NUM_ROWS, bool)):
        ends = []
        for by_entropy in (False, True):
            learner = learner_of(spec, "self", by_entropy=by_entropy)
            learner.networks[0].teaches[:] = True
            learner.train([lesson_of(LABELS, labelled=labelled)], advance=ignore)
            ends.append(learner.networks[0].model)
        assert same_tensors(*ends) == labelled.all()


def test_peers_are_taught_by_each_other_s_division(spec: BackboneSpec):
    """Network 0 learns from the second lesson: changing the first does not touch it."""
    ends = []
    for first in (lesson_of(LABELS), lesson_of((LABELS + 1) % 3)):
        learner = learner_of(spec, "peer")
        learner.train([first, lesson_of(LABELS)], advance=ignore)
        ends.append(learner.networks)
    assert same_tensors(ends[0][0].model, ends[1][0].model)
    assert not same_tensors(ends[0][1].model, ends[1][1].model)


def test_training_learns(spec: BackboneSpec):
    learner = learner_of(spec, "self", steps=(40,))
    learner.train([first_lesson(LABELS, NOBODY, num_classes=3)], advance=ignore)
    (scan,) = learner.scan(advance=ignore)
    assert (scan.probs.argmax(axis=1) == LABELS).mean() > 0.9


def test_a_batch_is_augmented_and_mixed(spec: BackboneSpec, monkeypatch: pytest.MonkeyPatch):
    """Images, targets and weights alike, and by the half at most."""
    monkeypatch.setattr(trainer, "augment", lambda images, _: images + 1000)
    lesson = lesson_of(LABELS, labelled=np.arange(NUM_ROWS) % 4 > 0)
    rows = np.array([3, 7, 11, 0, 22])
    shares = []
    for seed in range(20):
        learner, again = learner_of(spec, mixup=0.7), np.random.default_rng(seed)
        taught = trainer.Taught(lesson.targets, lesson.weights, lesson.labelled)
        batch = learner._batch(rows, taught, Stint(seed, CPU))
        share = again.beta(0.7, 0.7)
        shares.append(share)
        share, order = max(share, 1 - share), again.permutation(len(rows))
        plain = learner.images.batch(rows) + 1000
        targets, weights = torch.from_numpy(lesson.targets[rows]), torch.from_numpy(lesson.weights[rows])
        for found, values in zip(batch, (plain, targets, weights), strict=False):
            torch.testing.assert_close(found, share * values + (1 - share) * values[order])
        assert batch.believed.tolist() == lesson.labelled[rows].tolist()
    assert min(shares) < 0.5 < max(shares)
    unmixed = learner_of(spec, mixup=0.0)._batch(rows, taught, Stint(0, CPU))
    torch.testing.assert_close(unmixed.images, plain)


@pytest.mark.parametrize("bf16", [False, True])
def test_steps_are_made_as_the_schedule_says(spec: BackboneSpec, monkeypatch: pytest.MonkeyPatch, bf16: bool):
    """Rate, decay, clipping and number format; the loss that is told is that of all rows."""
    learner = learner_of(spec, "self")
    learner.bf16 = bf16
    (network,) = learner.networks
    (group,) = network.optimizer.param_groups
    assert (group["weight_decay"], group["momentum"], group["nesterov"]) == (5e-4, 0.9, True)
    rates, norms, formats, losses = [], [], set(), []
    step, clip, train_step = network.optimizer.step, torch.nn.utils.clip_grad_norm_, learner._step

    def watched_step(*_: Any) -> None:
        rates.append(group["lr"])
        norms.append(float(torch.cat([p.grad.flatten() for p in network.model.parameters()]).norm()))
        step()

    def watched_clip(parameters: Any, norm: float) -> Any:
        assert norm == 5
        return clip(parameters, 0.01)

    def watched(*content: Any) -> torch.Tensor:
        losses.append(train_step(*content))
        return losses[-1]

    conv = next(layer for layer in network.model.modules() if isinstance(layer, torch.nn.Conv2d))
    conv.register_forward_hook(lambda *seen: formats.add(seen[-1].dtype))
    monkeypatch.setattr(network.optimizer, "step", watched_step)
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", watched_clip)
    monkeypatch.setattr(learner, "_step", watched)
    learner.train([lesson_of(LABELS)], advance=ignore)
    assert rates == [learner.schedule.rate(number) for number in range(3)]
    assert max(norms) < 0.0101
    assert formats == {torch.bfloat16 if bf16 else torch.float32}
    assert learner.train_loss == pytest.approx(float(torch.stack(losses).mean()), rel=1e-5)


def test_the_averages_are_what_is_left_of_the_networks(spec: BackboneSpec):
    learner = learner_of(spec)
    learner.train([lesson_of(LABELS)], advance=ignore)
    left = learner.tensors()
    for place, network in enumerate(learner.networks):
        for name, value in network.average.state_dict().items():
            assert torch.equal(left[f"networks.{place}.{name}"], value)
    assert not same_tensors(learner.networks[0].average, learner.networks[0].model)


def test_layers_draw_on_where_a_round_was_stopped():
    """A stint that is taken up draws what it would have drawn."""
    straight = Stint(0, CPU)
    torch.rand(3)
    state = straight.state()
    expected = torch.rand(3), straight.rng.random(), torch.rand(1, generator=straight.augmenting)
    other = Stint(5, CPU)
    other.restore(state)
    found = torch.rand(3), other.rng.random(), torch.rand(1, generator=other.augmenting)
    assert torch.equal(found[0], expected[0])
    assert found[1] == expected[1]
    assert torch.equal(found[2], expected[2])


def test_loss_has_three_parts_of_which_the_second_is_ramped(spec: BackboneSpec):
    learner = learner_of(spec, steps=(10, 10), lambda_u=3.0, lambda_r=0.5)
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    targets = torch.tensor([[1.0, 0.0, 0.0], [0.2, 0.5, 0.3], [0.0, 0.0, 1.0]])
    weights, prior = torch.tensor([0.8, 0.5, 1.0]), torch.tensor([0.5, 0.3, 0.2])
    batch = Batch(torch.empty(3, 0), targets, weights, believed=torch.tensor([True, False, True]))
    probs = logits.softmax(1)
    believed = -0.8 * probs[0, 0].log() - probs[2, 2].log()
    others = 0.5 * (probs[1] - targets[1]).square().sum()
    penalty = (prior * (prior / probs.mean(0)).log()).sum()
    for step, share in ((0, 0.0), (5, 0.5), (10, 1.0), (19, 1.0)):
        found = learner._loss(logits, batch, prior, step)
        torch.testing.assert_close(found, (believed + 3.0 * share * others) / 3 + 0.5 * penalty)


def test_uncertain_rows_are_taught_by_their_own_part_of_the_loss(spec: BackboneSpec):
    """Which rows are believed matters, though targets and weights are the same."""
    everyone = np.ones(NUM_ROWS, dtype=bool)
    ends = []
    for labelled in (everyone, np.arange(NUM_ROWS) % 4 > 0):
        learner = learner_of(spec, "self")
        learner.train([dataclasses.replace(lesson_of(LABELS), labelled=labelled)], advance=ignore)
        ends.append(learner.networks[0].model)
    assert not same_tensors(*ends)


def test_predictions_are_held_to_the_shares_of_what_is_taught(spec: BackboneSpec, monkeypatch: pytest.MonkeyPatch):
    """The prior that the mean prediction is held to is that of the rows that the network is taught."""
    seen: list[FloatArray] = []
    penalty = trainer.prior_penalty

    def watched(logits: torch.Tensor, prior: torch.Tensor) -> torch.Tensor:
        seen.append(prior.numpy())
        return penalty(logits, prior)

    monkeypatch.setattr(trainer, "prior_penalty", watched)
    learner, lesson = learner_of(spec, "self"), lesson_of(np.minimum(LABELS, 1))
    learner.train([lesson], advance=ignore)
    network = learner.networks[0]
    targets = np.where(network.teaches[:, None], lesson.targets, lesson.guesses)
    np.testing.assert_allclose(seen[0], targets.mean(axis=0), rtol=1e-5)


def test_scans_are_made_by_the_moving_average(spec: BackboneSpec):
    learner = learner_of(spec, "self")
    learner.train([lesson_of(LABELS)], advance=ignore)
    network = learner.networks[0]
    expected, _ = scan_images(network.average, learner.images, bf16=False, advance=ignore)
    by_model, _ = scan_images(network.model, learner.images, bf16=False, advance=ignore)
    found = learner.scan(advance=ignore)[0].probs
    np.testing.assert_array_equal(found, expected)
    assert np.abs(found - by_model).max() > 1e-3


def test_restored_state_carries_on_identically(spec: BackboneSpec, tmp_path: Any):
    lesson = lesson_of(LABELS, labelled=np.arange(NUM_ROWS) % 4 > 0)
    straight = learner_of(spec)
    straight.train([lesson], advance=ignore)
    torch.save(straight.state(), tmp_path / "state.pt")
    straight.train([lesson], advance=ignore)
    resumed = learner_of(spec)
    resumed.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    resumed.train([lesson], advance=ignore)
    for one, other in zip(straight.networks, resumed.networks, strict=True):
        assert same_tensors(one.model, other.model)
        assert same_tensors(one.average, other.average)
        assert one.step == other.step == 6
    np.testing.assert_array_equal(straight.scan(advance=ignore)[0].probs, resumed.scan(advance=ignore)[0].probs)


def test_layers_that_draw_for_themselves_draw_the_same_again(spec: BackboneSpec):
    ends = []
    for _ in range(2):
        learner = learner_of(spec)
        for network in learner.networks:
            network.model.head = torch.nn.Sequential(torch.nn.Dropout(0.5), network.model.head)  # type: ignore[assignment]
            network.average.head = torch.nn.Sequential(torch.nn.Dropout(0.5), network.average.head)  # type: ignore[assignment]
        torch.rand(1)
        learner.train([lesson_of(LABELS)], advance=ignore)
        ends.append(learner.networks[0].model)
    assert same_tensors(*ends)


def test_rounds_differ_in_their_batches(spec: BackboneSpec):
    ends = []
    for skipped in (0, 1):
        learner = learner_of(spec)
        learner.round = skipped
        learner.train([lesson_of(LABELS)], advance=ignore)
        ends.append(learner.networks[0].model)
    assert not same_tensors(*ends)


def test_heads_start_where_they_are_told(spec: BackboneSpec):
    learner = learner_of(spec)
    asked: list[np.ndarray] = []

    def head_for(taught: np.ndarray) -> tuple[FloatArray, FloatArray]:
        asked.append(taught)
        return np.full((3, spec.num_features), len(asked)), np.array([1.0, 2.0, 3.0])

    learner.set_heads(head_for)
    np.testing.assert_array_equal(asked, [HALF == 0, HALF == 1])
    for place, network in enumerate(learner.networks):
        for model in (network.model, network.average):
            assert (model.head.weight == place + 1).all()
            assert model.head.bias.tolist() == [1, 2, 3]
        assert network.model.head.weight.requires_grad
        assert not network.average.head.weight.requires_grad


def test_average_moves_towards_the_model(spec: BackboneSpec):
    model, average = spec.build(0), spec.build(1)
    start = copy.deepcopy(average.state_dict())
    update_average(average, model, decay=0.99, step=10_000)
    for name, value in average.state_dict().items():
        goal = model.state_dict()[name]
        expected = 0.99 * start[name] + 0.01 * goal if value.dtype.is_floating_point else goal
        torch.testing.assert_close(value, expected)
    # early on it moves faster: at step 1 by 1 - 2 / 11
    early = spec.build(1)
    update_average(early, model, decay=0.99, step=1)
    name = "body.conv1.weight" if "body.conv1.weight" in start else next(iter(start))
    torch.testing.assert_close(early.state_dict()[name], start[name] * 2 / 11 + model.state_dict()[name] * 9 / 11)


def test_learning_rate_rises_then_falls_along_a_cosine():
    plan = schedule(steps=(80, 40, 40, 40), learning_rate=0.2)
    rates = [plan.rate(step) for step in range(200)]
    assert rates[0] == pytest.approx(0.02)
    assert max(rates) == rates[10] == pytest.approx(0.2)
    assert np.all(np.diff(rates[:10]) > 0)
    assert np.all(np.diff(rates[10:]) < 0)
    assert rates[105] == pytest.approx(0.1, rel=0.02)
    assert 0 < rates[-1] < 0.001
    assert schedule(steps=(1,)).rate(0) > 0


def test_first_round_of_a_random_start_is_a_training_of_its_own():
    alone = schedule(steps=(80,), learning_rate=0.2)
    followed = schedule(steps=(80, 40, 80), learning_rate=0.2, later_rate=0.06)
    assert [followed.rate(step) for step in range(80)] == [alone.rate(step) for step in range(80)]
    later = [followed.rate(step) for step in range(80, 200)]
    assert max(later) == later[6] == pytest.approx(0.06)  # the later rounds share one rise and fall
    assert np.all(np.diff(later[6:]) < 0)
    assert 0 < later[-1] < 0.001


def test_training_is_as_usual_unless_settings_say_otherwise():
    assert trains_as_usual(FitConfig(rounds=3, batch_size=16), pretrained=False)
    assert not trains_as_usual(FitConfig(epochs=3.0), pretrained=False)
    assert not trains_as_usual(FitConfig(learning_rate=0.03), pretrained=False)
    assert not trains_as_usual(FitConfig(mixup=0.0), pretrained=False)
    assert not trains_as_usual(FitConfig(), pretrained=True)


def test_schedule_is_planned_by_rows_and_start():
    config = FitConfig(rounds=4)
    tuned = plan_schedule(config, num_rows=3200, num_networks=2, pretrained=True)
    assert tuned.batch_size == 32  # 16, but never fewer than 32
    assert tuned.steps == (200,) * 4  # of 32: two passes over 3,200 rows in each round
    assert (tuned.learning_rate, tuned.later_rate) == (PRETRAINED.learning_rate, None)
    scratch = plan_schedule(config, num_rows=100, num_networks=2, pretrained=False)
    assert scratch.batch_size == 32
    assert sum(scratch.steps) * 32 == pytest.approx(SCRATCH.min_passes / 2, rel=0.01)
    ratio = SCRATCH.first_passes_per_row / SCRATCH.passes_per_row
    assert scratch.steps[0] == pytest.approx(ratio * scratch.steps[1], rel=0.01)
    assert len(set(scratch.steps[1:])) == 1
    assert (scratch.learning_rate, scratch.later_rate) == (SCRATCH.learning_rate, SCRATCH.learning_rate * 0.3)
    large = plan_schedule(config, num_rows=20_000, num_networks=1, pretrained=False)
    assert (large.batch_size, large.learning_rate) == (128, SCRATCH.learning_rate)
    per_row = SCRATCH.first_passes_per_row + 3 * SCRATCH.passes_per_row
    assert sum(large.steps) * 128 == pytest.approx(per_row * 20_000, rel=0.01)


def test_steps_from_a_random_start_keep_a_gpu_busy_and_do_not_overfill_it():
    def chosen(num_rows: int, side: int, *, pretrained: bool = False) -> int:
        return choose_batch_size(FitConfig(), num_rows=num_rows, pretrained=pretrained, gpu_side=side)

    assert [chosen(num_rows, 32) for num_rows in (1000, 50_000, 10**6)] == [32, 1024, 1024]
    assert [chosen(10**6, side) for side in (16, 64, 224)] == [1024, 256, 128]
    assert chosen(10**6, 32, pretrained=True) == chosen(10**6, 0) == 128


def test_learning_rate_follows_the_batch_size():
    large = plan_schedule(FitConfig(batch_size=1024), num_rows=50_000, num_networks=1, pretrained=False)
    assert large.learning_rate == pytest.approx(SCRATCH.learning_rate * 8**0.5)
    told = plan_schedule(
        FitConfig(batch_size=256, learning_rate=0.05), num_rows=50_000, num_networks=1, pretrained=False
    )
    assert (told.batch_size, told.learning_rate) == (256, 0.05)


def test_one_network_judges_where_many_rows_start_at_random():
    def chosen(num_rows: int, *, pretrained: bool, judge: JudgeKind = "auto", num_golden: int = 0) -> str:
        config = FitConfig(judge=judge)
        return choose_judge(config, num_rows=num_rows, num_golden=num_golden, pretrained=pretrained)

    assert chosen(2000, pretrained=False) == chosen(2000, pretrained=False, num_golden=200) == "self"
    assert chosen(2000, pretrained=False, num_golden=201) == "crossfit"
    assert chosen(1999, pretrained=False) == chosen(2000, pretrained=True) == "crossfit"
    assert chosen(10, pretrained=True, judge="peer") == "peer"


def test_enough_labels_are_held_out_and_enough_are_taught():
    assert [hold_out_one_in(num_rows) for num_rows in (4, 600, 1000, 2500, 10**6)] == [2, 2, 4, 10, 10]


@pytest.mark.parametrize("pretrained", [True, False])
def test_schedule_follows_settings_that_are_given(pretrained: bool):
    config = FitConfig(epochs=6, rounds=1, batch_size=10, learning_rate=0.03)
    found = plan_schedule(config, num_rows=50, num_networks=1, pretrained=pretrained)
    assert (found.steps, found.batch_size, found.learning_rate) == ((30,), 10, 0.03)
    tiny = plan_schedule(FitConfig(epochs=0.1, rounds=3), num_rows=5, num_networks=1, pretrained=pretrained)
    assert (tiny.batch_size, tiny.steps) == (5, (1, 1, 1))


def test_rounds_are_chosen_by_the_start_or_as_told():
    for pretrained, recipe in ((True, PRETRAINED), (False, SCRATCH)):
        assert count_tuned_rounds(FitConfig(), pretrained=pretrained) == recipe.rounds
        assert count_tuned_rounds(FitConfig(rounds=5), pretrained=pretrained) == 5


def test_rounds_on_frozen_features_are_as_many_with_and_without_fine_tuning():
    assert count_frozen_rounds(FitConfig(warm_rounds=0), pretrained=True) == 0
    of_tuning = FitConfig(rounds=3)
    assert count_frozen_rounds(of_tuning, pretrained=True) == FitConfig().warm_rounds
    assert count_frozen_rounds(FitConfig(finetune=False), pretrained=True) == FitConfig().warm_rounds
    assert count_frozen_rounds(FitConfig(finetune=False, rounds=3), pretrained=True) == 3
    assert count_frozen_rounds(FitConfig(finetune=False, warm_rounds=0), pretrained=True) == 1  # something has to judge
    for warm_rounds in (0, 1, 20):  # patches alone soon believe themselves
        assert count_frozen_rounds(FitConfig(warm_rounds=warm_rounds), pretrained=False) == min(warm_rounds, 1)


def test_training_that_diverges_stops_with_a_remedy(spec: BackboneSpec):
    learner = learner_of(spec, "self")
    with torch.no_grad():
        learner.networks[0].model.head.bias.fill_(float("nan"))
    taught = list[int]()
    with pytest.raises(ConfigError, match="round 1: training diverged") as caught:
        learner.train([lesson_of(LABELS)], advance=taught.append)
    assert "learning_rate" in caught.value.hint
    assert not taught  # nothing is kept that cannot be mended


def test_state_of_another_device_is_taken_up():
    kept = Stint(0, CPU).state()
    for device, named in (("cuda", "cpu"), ("cpu", "cuda")):
        stint = Stint(1, torch.device(device))
        stint.restore({**kept, "device": named, "done": (3, 24, 1.5)})
        assert (stint.steps, stint.rows, stint.loss) == (3, 24, 1.5)
        assert stint.rng.random() == Stint(0, CPU).rng.random()


def test_freed_memory_is_kept_where_the_c_library_can():
    assert keep_freed_memory() == (sys.platform == "linux" and platform.libc_ver()[0] == "glibc")


def test_scan_sees_an_image_and_its_mirror_alike(spec: BackboneSpec):
    content = pixels()
    found = []
    for view in (content, content[:, :, ::-1].copy()):
        store = ImageStore(view, np.arange(1, NUM_ROWS + 1), CPU)
        found.append(scan_images(spec.build(0), store, bf16=False, advance=ignore))
    np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-5)
    np.testing.assert_allclose(found[0][0], found[1][0], atol=1e-6)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_and_cpu_agree(spec: BackboneSpec):
    learners = [learner_of(spec, device=choose_device(name)) for name in ("cpu", "cuda")]
    for learner in learners:
        learner.train([lesson_of(LABELS)], advance=ignore)
    cpu, gpu = (learner.scan(advance=ignore)[0] for learner in learners)
    assert learners[1].images.resident is not None
    np.testing.assert_allclose(gpu.probs, cpu.probs, atol=0.02)
    np.testing.assert_allclose(gpu.similarities, cpu.similarities, atol=0.05)


@pytest.mark.parametrize(("half", "single", "wanted"), [(0.8, 1.0, True), (1.0, 1.0, False), (1.0, None, True)])
def test_number_format_that_is_faster_or_fits_is_chosen(
    monkeypatch: pytest.MonkeyPatch, half: float, single: float | None, wanted: bool
):
    def seconds(*_: object, bf16: bool) -> float:
        if not bf16 and single is None:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return half if bf16 else single or 0.0

    monkeypatch.setattr("labelclean.train.device._seconds", seconds)
    config = FitConfig(backbone="test_resnet", weights="none", image_size=16)
    spec = prepare_backbone(config, num_classes=2, median_side=16)
    assert choose_precision("auto", spec, torch.device("cpu"), 2) == wanted
    assert choose_precision("bf16", spec, torch.device("cpu"), 2)
