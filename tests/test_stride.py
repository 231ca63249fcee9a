"""Strides end where steps that shrink alike would, no nearer than two steps and no farther than allowed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from labelclean.records import FloatArray, IntArray
from labelclean.tssd import channel_search
from labelclean.tssd.channel import NoiseChannel, fit_channel
from labelclean.tssd.stride import LONGEST, stride
from tests.test_resemblance import planted

END = torch.tensor([2.0, -1.0], dtype=torch.float64)


def places(shrink: float) -> list[torch.Tensor]:
    """Where an iteration stands that leaves such a share of the way in every step."""
    start = torch.zeros(2, dtype=torch.float64)
    return [END + shrink**step * (start - END) for step in range(3)]


@pytest.mark.parametrize("shrink", [0.2, 0.5, 0.9])
def test_steps_that_shrink_alike_are_added_up(shrink: float):
    np.testing.assert_allclose(stride(*places(shrink)), END)


def test_stride_is_bounded():
    start, first, second = places(0.999)
    reached = stride(start, first, second)
    assert float((reached - start).norm()) == pytest.approx(2 * LONGEST * float((first - start).norm()), rel=0.02)


def test_never_less_far_than_the_second_step():
    start, first, second = places(-0.9)  # to and fro, where a shorter one would do
    np.testing.assert_allclose(stride(start, first, second), second)


def test_standing_still_stays_there():
    np.testing.assert_array_equal(stride(END, END, END), END)


def lookalikes() -> tuple[FloatArray, IntArray]:
    """Log-probabilities, and labels of which four in ten are wrong and fall where the image looks like them."""
    scores, _, labels = planted(0.4, 1.0, num_rows=1500)
    return scores, labels


def climb(monkeypatch: pytest.MonkeyPatch, **settings: object) -> tuple[NoiseChannel, int]:
    """What is found with settings of the channel's, and how many steps it took."""
    steps = 0
    with monkeypatch.context() as patch:
        for name, value in settings.items():
            patch.setattr(channel_search, name, value)
        whole = channel_search.Search._step

        def counted(
            self: channel_search.Search, at: channel_search.Estimate, shrinkage: channel_search.Shrinkage
        ) -> tuple[channel_search.Estimate, torch.Tensor]:
            nonlocal steps
            steps += 1
            return whole(self, at, shrinkage)

        patch.setattr(channel_search.Search, "_step", counted)
        scores, labels = lookalikes()
        return fit_channel([scores], labels, rng=np.random.default_rng(0)), steps


def second_only(start: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return second


def test_channel_ends_where_many_more_steps_would(monkeypatch: pytest.MonkeyPatch):
    patient, many = climb(
        monkeypatch, STANDSTILL=1e-5, RESEMBLANCE_STANDSTILL=1e-5, MOST_FREE_STEPS=1000, MOST_STEPS=1000
    )
    found, some = climb(monkeypatch)
    creeping, _ = climb(monkeypatch, stride=second_only)
    assert some < many
    assert abs(found.resemblance - patient.resemblance) < abs(creeping.resemblance - patient.resemblance)
    np.testing.assert_allclose(found.transition, patient.transition, atol=0.01)


@pytest.mark.parametrize("lost", [float("nan"), 40.0])
def test_strides_that_lose_their_way_are_taken_back(monkeypatch: pytest.MonkeyPatch, lost: float):
    def astray(start: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return second + lost * torch.arange(len(second))

    found, _ = climb(monkeypatch, stride=astray)
    creeping, _ = climb(monkeypatch, SLACK=-np.inf)  # no stride is taken
    np.testing.assert_array_equal(found.transition, creeping.transition)
