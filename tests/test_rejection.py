"""Up to which p_clean labels are rejected: by hand, where p_clean is as often right as it says, and without doubts."""

from __future__ import annotations

import numpy as np
import pytest

from labelclean.tssd.rejection import rejection_cut


@pytest.mark.parametrize(
    ("precision", "cut"),
    [
        (0.7, 0.55),  # expected F1 of the worst one to four rows: .277, .400, .410, .360; precision of three .717
        (0.75, 0.5),
        (1.0, 0.5),
    ],
)
def test_cut_by_hand(precision: float, cut: float):
    assert rejection_cut(np.array([0.9, 0.1, 0.55, 0.2]), precision=precision) == pytest.approx(cut)


def test_the_precision_is_reached_for_and_kept():
    p_clean = np.concatenate([np.full(6, 0.1), np.full(4, 0.6), np.full(10, 0.9)])
    # of the worst 6 to 10 rows .9, .829, .775, .733 and .7 are expected to be wrong; the expected F1 rises throughout
    for precision, cut in ((0.69, 0.6), (0.75, 0.6), (0.85, 0.5)):
        assert rejection_cut(p_clean, precision=precision) == pytest.approx(cut)


def test_no_other_cut_gives_a_higher_f1_where_p_clean_is_right():
    rng = np.random.default_rng(0)
    p_clean = rng.beta(1.2, 0.8, 200_000)
    is_wrong = rng.random(len(p_clean)) > p_clean

    def f1(cut: float) -> float:
        rejected = p_clean <= cut
        return float(2 * (rejected & is_wrong).sum() / (rejected.sum() + is_wrong.sum()))

    cut = rejection_cut(p_clean, precision=0)
    assert cut > 0.55
    assert f1(cut) > max(f1(0.5), f1(cut - 0.05), f1(cut + 0.05))
    assert f1(cut) / 2 == pytest.approx(1 - cut, abs=0.01)  # half of the F1 that it reaches
    share = is_wrong[p_clean <= (0.5 + cut) / 2].mean()
    strict = rejection_cut(p_clean, precision=share)
    assert strict == pytest.approx((0.5 + cut) / 2, abs=0.01)


@pytest.mark.parametrize("p_clean", [[], [1.0, 1.0], [0.0, 0.0], [0.5, 0.5], [1.0]])
def test_nothing_to_weigh_leaves_the_cut_at_one_half(p_clean: list[float]):
    assert rejection_cut(np.array(p_clean), precision=0.75) == 0.5
