"""The rivals: the rule of each on planted cases, and folds that are judged by what never saw them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score, log_loss, roc_auc_score

from benchmarks.rivals import (
    NUM_FOLDS,
    Trainer,
    Watched,
    hold_out_frozen,
    judge_held_out,
    judge_watched,
    low_loss_posterior,
    neighbor_votes,
    see_layers,
    see_output,
    watched,
)
from labelclean.records import FloatArray, IntArray, of_label
from tests.blobs import flipped_blobs
from tests.conftest import as_frozen


def test_rivals_see_the_layers_as_long_as_the_output_and_neighbours_see_them_whitened():
    rng = np.random.default_rng(0)
    scores = (rng.normal(size=(40, 6)) * [9, 5, 3, 1, 1, 0.1]).astype(np.float32)
    frozen = replace(as_frozen(scores), output=rng.normal(5, 2, size=(40, 12)).astype(np.float32))
    inputs = see_layers(frozen)
    centred = inputs.scaler.fit_transform(inputs.features)
    assert np.square(inputs.features).sum(axis=1).mean() == pytest.approx(12, rel=1e-3)
    assert centred.std(axis=0).max() > 50 * centred.std(axis=0).min()
    np.testing.assert_allclose(inputs.space.std(axis=0), 1, rtol=1e-4)
    output = see_output(frozen)
    np.testing.assert_allclose(output.scaler.fit_transform(output.features).std(axis=0), 1, rtol=1e-4)


def test_every_rival_finds_flipped_labels_and_what_they_should_be():
    view, labels, wrong, truth = flipped_blobs()
    one_training = Watched(
        over_time=view.probs, losses=-np.log(of_label(view.probs, labels)), features=np.asarray(view.affinity)
    )
    found = judge_held_out(view.probs, labels) | judge_watched(one_training, labels, seed=0)
    assert len(found) == 6
    for way, judgement in found.items():
        assert roc_auc_score(wrong, -judgement.p_clean) > 0.9, way
        assert f1_score(wrong, judgement.flagged) > 0.75, way
        assert (judgement.suggested == truth)[wrong].mean() > 0.8, way


def test_a_low_loss_speaks_for_a_label():
    rng = np.random.default_rng(0)
    losses = np.concatenate([rng.normal(0.2, 0.05, 80), rng.normal(2, 0.3, 20)])
    assert ((low_loss_posterior(losses, seed=0) > 0.5) == (np.arange(100) < 80)).all()


def test_the_nearest_rows_vote():
    rng = np.random.default_rng(0)
    truth = np.arange(60) % 3
    features = np.eye(3)[truth] + rng.normal(0, 0.05, (60, 3))
    labels = truth.copy()
    labels[5] = (truth[5] + 1) % 3
    votes = neighbor_votes(features, labels, 3)
    np.testing.assert_allclose(votes.sum(axis=1), 1)
    assert votes[5].argmax() == truth[5] != labels[5]


def test_a_training_is_averaged_over_its_epochs():
    epochs = [np.array([[0.8, 0.2], [0.5, 0.5]]), np.array([[0.2, 0.8], [0.9, 0.1]])]
    features = np.zeros((2, 1))
    seen = watched(epochs, np.array([0, 1]), features)
    np.testing.assert_allclose(seen.over_time, [[0.5, 0.5], [0.7, 0.3]])
    np.testing.assert_allclose(seen.losses, [-np.log(0.8 * 0.2) / 2, -np.log(0.5 * 0.1) / 2])
    assert seen.features is features


def test_the_strength_of_the_ridge_is_that_of_the_least_loss():
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    features = (rng.normal(size=(90, 20)) + np.eye(3, 20)[labels]).astype(np.float32)
    inputs = see_output(as_frozen(features))
    strengths = (1e-5, 0.03, 100.0)
    losses = [log_loss(labels, hold_out_frozen(inputs, labels, seed=0, strengths=(each,))) for each in strengths]
    chosen = hold_out_frozen(inputs, labels, seed=0, strengths=strengths)
    assert np.argmin(losses) == 1
    assert log_loss(labels, chosen) == losses[1]


def test_a_row_is_judged_by_a_network_that_was_trained_on_the_other_folds(monkeypatch: pytest.MonkeyPatch):
    """The stand-in for a network is the rows that it was trained on."""
    judged: list[int] = []

    def train(_: Trainer, rows: IntArray, *rest: Any) -> set[int]:
        return set(rows.tolist())

    def predict(_: Trainer, network: set[int], rows: IntArray) -> tuple[FloatArray, FloatArray]:
        assert network.isdisjoint(rows.tolist())
        assert len(network) + len(rows) == 23
        judged.extend(rows.tolist())
        return np.eye(3)[rows % 3], np.zeros((len(rows), 1))

    monkeypatch.setattr(Trainer, "_train", train)
    monkeypatch.setattr(Trainer, "_predict", predict)
    spec: Any = SimpleNamespace(num_classes=3)
    nothing: Any = None
    probs = Trainer(spec, nothing, np.zeros(23, dtype=int), nothing, bf16=False, seed=0).folds(1)
    assert sorted(judged) == list(range(23))
    assert NUM_FOLDS == 5
    np.testing.assert_array_equal(probs, np.eye(3)[np.arange(23) % 3])
