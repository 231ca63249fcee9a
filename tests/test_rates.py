"""Estimated shares of wrong labels: their values, and how often their intervals hold the truth on planted data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import t

from labelclean.records import UNKNOWN, BoolArray, Estimate, FloatArray, IntArray
from labelclean.results.golden import draw_systematically, inclusion_chances, uncertainty
from labelclean.tssd.rates import MIN_GOLDEN, SHARED_ERROR, WrongLabels, pooled

NUM_ROWS = 1500


def counted(
    ways: Sequence[FloatArray],
    *,
    golden: Sequence[int] = (),
    is_wrong: BoolArray | None = None,
    chances: FloatArray | None = None,
    draws: IntArray | None = None,
) -> WrongLabels:
    """Wrong labels by some ways, with golden rows at some positions."""
    num_rows = len(ways[0])
    return WrongLabels(
        ways=ways,
        blind=ways[-1],
        known=np.isin(np.arange(num_rows), golden),
        is_wrong=np.zeros(num_rows, dtype=bool) if is_wrong is None else is_wrong,
        chances=np.full(num_rows, np.nan) if chances is None else chances,
        draws=np.zeros(num_rows, dtype=int) if draws is None else draws,
    )


def everyone(num_rows: int) -> BoolArray:
    return np.ones(num_rows, dtype=bool)


def found(estimate: Estimate | None) -> Estimate:
    assert estimate is not None
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    return estimate


def test_share_is_that_of_the_best_way_among_the_rows():
    ways = [np.array([0.5, 0.5, 0.5]), np.array([0.9, 0.6, 0.0])]
    assert found(counted(ways).share(np.array([True, True, False]))).value == pytest.approx(0.25)
    assert found(counted(ways).share(everyone(3))).value == pytest.approx(0.5)
    assert counted(ways).share(np.zeros(3, dtype=bool)) is None


def test_capture_is_the_share_of_the_wrong_labels_inside():
    p = np.array([0.2, 0.4, 0.9, 0.9, 1.0])
    assert found(counted([p]).capture(p < 0.5)).value == pytest.approx(1.4 / 1.6)
    assert found(counted([p]).capture(np.zeros(5, dtype=bool))).value == 0
    assert counted([np.ones(5)]).capture(p < 0.5) is None


def test_one_way_has_the_interval_of_independent_draws_and_of_what_it_has_wrong_itself():
    estimate = found(counted([np.full(400, 0.9)]).share(everyone(400)))
    reach = 1.96 * np.sqrt(0.09 / 400 + (SHARED_ERROR * 0.09) ** 2)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.1, 0.1 - reach, 0.1 + reach), rel=1e-3)


def test_rows_that_are_known_share_no_error():
    """Of 400 rows 100 are golden, of unknown chance, and right."""
    estimate = found(counted([np.full(400, 0.9)], golden=range(100)).share(everyone(400)))
    reach = 1.96 * np.sqrt(0.09 * 300 / 400**2 + (SHARED_ERROR * 0.09 * 0.75) ** 2)
    assert estimate.high - estimate.value == pytest.approx(reach, rel=1e-3)
    all_known = found(counted([np.full(40, 0.9)], golden=range(40)).share(everyone(40)))
    assert (all_known.low, all_known.value, all_known.high) == (0, 0, 0)


def test_doubts_may_be_too_strong_all_of_them():
    """Rejected rows that are wrong with .95, by all ways, and in truth with .9."""
    p = np.full(100_000, 0.05)
    estimate = found(counted([p] * 3).share(everyone(len(p))))
    weaker = 1 - float(logit_shift(p[:1], 0.3 * np.log(19))[0])
    assert estimate.low < weaker < 0.9 < estimate.value
    reach = 1.96 * np.hypot(SHARED_ERROR * 0.95 * 0.05, 0.95 - weaker)
    assert estimate.value - estimate.low == pytest.approx(reach, rel=0.01)
    right = found(counted([1 - p] * 3).share(everyone(len(p))))  # nothing is doubted
    assert right.high - right.value == pytest.approx(1.96 * SHARED_ERROR * 0.95 * 0.05, rel=0.01)


@pytest.mark.parametrize("shift", [0.2, -0.2])
def test_interval_holds_where_all_ways_are_off_together(shift: float):
    """Three ways that agree, on rows so many that nothing is left to chance."""
    p = np.random.default_rng(0).beta(3, 0.6, 100_000)
    share = 1 - p.mean()
    estimate = found(counted([logit_shift(np.full(len(p), 1 - share), shift)] * 3).share(everyone(len(p))))
    assert estimate.low < share < estimate.high
    assert abs(estimate.value - share) > 0.5 * (estimate.high - estimate.value) / 1.96


def test_ways_that_differ_widen_the_interval():
    alike, apart = pooled([0.2, 0.2, 0.2], within=1e-4), pooled([0.1, 0.3, 0.2], within=1e-4)
    assert alike.value == apart.value == 0.2
    assert apart.high - apart.low > 5 * (alike.high - alike.low)
    assert pooled([0.9, 0.0], within=0.0).high <= 1
    assert pooled([0.0], within=0.0) == Estimate(value=0.0, low=0.0, high=0.0)


def test_few_ways_that_differ_have_few_degrees_of_freedom():
    """Rubin's rules by hand: three values with variance .0001, 4/3 of which is between them, and .0001 within."""
    freedom = 2 * (1 + 0.0001 / (0.0001 * 4 / 3)) ** 2  # 6.125
    reach = t.ppf(0.975, freedom) * np.sqrt(0.0001 + 0.0001 * 4 / 3)
    estimate = pooled([0.49, 0.5, 0.51], within=1e-4)
    assert freedom == 6.125
    assert estimate.high - 0.51 == pytest.approx(reach)


@pytest.mark.parametrize("number", [MIN_GOLDEN - 1, MIN_GOLDEN])
def test_from_fifty_golden_rows_on_they_speak_for_others(number: int):
    wrong = counted(
        [np.full(1000, 0.9)],
        golden=range(number),
        is_wrong=np.arange(1000) < number,
        chances=np.full(1000, number / 1000),
    )
    known = (number + (1000 - number) * 0.1) / 1000
    assert MIN_GOLDEN == 50
    assert found(wrong.share(everyone(1000))).value == pytest.approx(known if number < MIN_GOLDEN else 1)


@pytest.mark.parametrize("apart", [0.0, 0.001, 0.01, 0.1])
def test_error_that_is_shared_never_narrows_the_interval(apart: float):
    """Not even that of ways that differ, whose few degrees of freedom make it wide."""
    values = [0.3 - apart, 0.3 + apart, 0.3]
    reaches = [pooled(values, within=1e-6, shared=shared**2).high - 0.3 for shared in (0, 0.003, 0.01, 0.03, 0.1)]
    assert np.all(np.diff(reaches) > 0)
    assert reaches[-1] > 1.96 * 0.1


def test_few_golden_rows_count_as_what_they_are():
    """Half of the rows are golden and right; the others have one chance in ten to be wrong."""
    estimate = found(counted([np.full(40, 0.9)], golden=range(20)).share(everyone(40)))
    assert estimate.value == pytest.approx(0.05)


def test_golden_rows_of_equal_chance_estimate_by_what_they_show():
    is_wrong = np.arange(400) < 30
    chances = np.full(400, 0.25)
    wrong = counted([np.full(400, 0.9)], golden=range(100), is_wrong=is_wrong, chances=chances)
    estimate = found(wrong.share(everyone(400)))
    reach = 1.96 * np.sqrt(np.var(is_wrong[:100], ddof=1) / 100 * (1 - 100 / 400))
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.3, 0.3 - reach, 0.3 + reach), rel=1e-3)


def test_golden_rows_that_somebody_picked_speak_for_themselves_alone():
    """The rows that look worst were checked: how many of them are wrong says nothing about the others."""
    p = np.where(np.arange(400) < 100, 0.1, 0.95)
    is_wrong = np.arange(400) < 40
    picked = counted([p], golden=range(100), is_wrong=is_wrong)
    assert found(picked.share(everyone(400))).value == pytest.approx((40 + 300 * 0.05) / 400)

    chances = np.where(np.arange(400) < 100, np.nan, 0.5)
    both = counted([p], golden=range(200), is_wrong=is_wrong, chances=chances)
    assert found(both.share(everyone(400))).value == pytest.approx(40 / 400, abs=1e-6)


def planted(seed: int) -> tuple[FloatArray, BoolArray, np.random.Generator]:
    """True probabilities that a label is right, and which labels are wrong."""
    rng = np.random.default_rng(seed)
    p_right = rng.beta(3, 0.6, NUM_ROWS)
    return p_right, rng.random(NUM_ROWS) > p_right, rng


def logit_shift(p: FloatArray, shift: float) -> FloatArray:
    return np.asarray(1 / (1 + np.exp(-(np.log(p / (1 - p)) + shift))))


@pytest.mark.parametrize("kept", [0.5, 1.0])
def test_golden_files_that_are_filled_in_partly_are_no_less_true(kept: float):
    errors = []
    for seed in range(60):
        p_right, is_wrong, rng = planted(seed)
        chances = inclusion_chances(uncertainty(p_right), 400)
        rows = draw_systematically(chances, rng)
        rows = rows[rng.random(len(rows)) < kept]
        wrong = counted([0.5 + p_right / 2], golden=rows, is_wrong=is_wrong, chances=chances)
        errors.append(found(wrong.share(everyone(NUM_ROWS))).value - is_wrong.mean())
    assert np.mean(errors) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize(("first", "second"), [(60, 700), (250, 250), (60, NUM_ROWS - 60)])
def test_draws_one_after_the_other_are_surer_than_either(first: int, second: int):
    errors: dict[str, list[float]] = {"both": [], "first": [], "second": []}
    for seed in range(60):
        p_right, is_wrong, rng = planted(seed)
        even, left = np.full(NUM_ROWS, 1 / NUM_ROWS), np.ones(NUM_ROWS, dtype=bool)
        chances, draws = np.full(NUM_ROWS, np.nan), np.zeros(NUM_ROWS, dtype=int)
        for draw, (count, sizes) in enumerate([(first, even), (second, uncertainty(p_right))]):
            candidates = np.flatnonzero(left)
            drawn_with = inclusion_chances(sizes[candidates], count)
            picked = draw_systematically(drawn_with, rng)
            chances[candidates[picked]], draws[candidates[picked]] = drawn_with[picked], draw
            left[candidates[picked]] = False
        golden, telling = np.flatnonzero(~left), {"both": ~left, "first": draws == 0, "second": draws == 1}
        for name, rows in telling.items():
            alone = np.where(rows, chances, np.nan)
            wrong = counted([0.5 + p_right / 2], golden=golden, is_wrong=is_wrong, chances=alone, draws=draws)
            estimate = found(wrong.share(everyone(NUM_ROWS)))
            errors[name].append(estimate.value - is_wrong.mean())
        if second == NUM_ROWS - first:
            assert errors["both"][-1] == pytest.approx(0, abs=1e-9)
    spread = {name: np.sqrt(np.mean(np.square(values))) for name, values in errors.items()}
    assert spread["both"] <= 1.1 * min(spread["first"], spread["second"]) + 1e-9


@pytest.mark.parametrize(("num_draws", "noise"), [(2, 0.025), (4, 0.025), (4, 0.05)])
def test_draws_that_met_nothing_wrong_do_not_have_all_the_weight(num_draws: int, noise: float):
    """The judge sees a tenth of the noise."""
    number, size = 20_000, 100
    values, held = [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        is_wrong = rng.random(number) < noise
        golden = rng.permutation(number)[: num_draws * size]
        draws = np.full(number, UNKNOWN)
        draws[golden] = np.arange(len(golden)) // size
        chances = np.full(number, size / number)
        wrong = counted(
            [np.full(number, 1 - noise / 10)], golden=golden, is_wrong=is_wrong, chances=chances, draws=draws
        )
        estimate = found(wrong.share(everyone(number)))
        values.append(estimate.value - is_wrong.mean())
        held.append(estimate.low <= is_wrong.mean() <= estimate.high)
    assert np.mean(values) == pytest.approx(0, abs=0.12 * noise)
    assert np.mean(held) > 0.85


def test_what_all_rows_tell_is_certain():
    is_wrong = np.arange(200) < 40
    for chances in (None, np.ones(200), np.linspace(0.1, 0.9, 200)):
        wrong = counted([np.full(200, 0.9)], golden=range(200), is_wrong=is_wrong, chances=chances)
        estimate = found(wrong.share(everyone(200)))
        assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.2, 0.2, 0.2))


def test_rows_that_were_sure_to_be_chosen_stand_for_themselves_alone():
    """The 60 rows that look worst were checked, and given a chance of 1: 48 are wrong."""
    p, is_wrong = np.full(5000, 0.9), np.arange(5000) < 48
    checked = counted([p], golden=range(60), is_wrong=is_wrong, chances=np.ones(5000))
    assert found(checked.share(everyone(5000))).value == pytest.approx((48 + 4940 * 0.1) / 5000)


def test_a_judge_that_was_never_surprised_is_not_infallible():
    is_wrong = np.ones(600, dtype=bool)
    wrong = counted([np.full(600, 0.02)], golden=range(60), is_wrong=is_wrong, chances=np.full(600, 0.1))
    estimate = found(wrong.share(everyone(600)))
    assert estimate.value == pytest.approx(1)
    assert estimate.low < 0.975


def test_without_golden_rows_the_intervals_hold_the_truth():
    """Each way errs in its own direction, by as much as the ways differ among themselves."""
    held: dict[str, list[bool]] = {"all": [], "class": [], "precision": [], "recall": []}
    widths = dict[str, list[float]]((name, []) for name in held)
    for seed in range(300):
        p_right, is_wrong, rng = planted(seed)
        ways = [logit_shift(np.clip(p_right, 1e-4, 1 - 1e-4), rng.normal(0, 0.25)) for _ in range(3)]
        wrong, rejected, some = counted(ways), p_right < 0.5, np.arange(NUM_ROWS) % 10 == 0
        for name, estimate, truth in (
            ("all", wrong.share(everyone(NUM_ROWS)), is_wrong.mean()),
            ("class", wrong.share(some), is_wrong[some].mean()),
            ("precision", wrong.share(rejected), is_wrong[rejected].mean()),
            ("recall", wrong.capture(rejected), is_wrong[rejected].sum() / is_wrong.sum()),
        ):
            held[name].append(found(estimate).low <= truth <= found(estimate).high)
            widths[name].append(found(estimate).high - found(estimate).low)
    bounds = {"all": 0.26, "class": 0.25, "precision": 0.48, "recall": 0.14}
    assert {name for name, values in widths.items() if np.mean(values) > bounds[name]} == set()
    assert {name: bool(np.mean(values) >= 0.92) for name, values in held.items()} == dict.fromkeys(held, True)


def test_with_golden_rows_a_judge_that_sees_half_of_the_noise_is_set_right():
    held: dict[str, list[bool]] = {"all": [], "precision": [], "recall": []}
    errors, widths = [], []
    for seed in range(300):
        p_right, is_wrong, rng = planted(seed)
        blind = 1 - (1 - p_right) / 2
        chances = inclusion_chances(uncertainty(blind), 240)
        rows = draw_systematically(chances, rng)
        wrong, rejected = counted([blind], golden=rows, is_wrong=is_wrong, chances=chances), p_right < 0.7
        noise = found(wrong.share(everyone(NUM_ROWS)))
        errors.append(noise.value - is_wrong.mean())
        widths.append(noise.high - noise.low)
        for name, estimate, truth in (
            ("all", noise, is_wrong.mean()),
            ("precision", wrong.share(rejected), is_wrong[rejected].mean()),
            ("recall", wrong.capture(rejected), is_wrong[rejected].sum() / is_wrong.sum()),
        ):
            held[name].append(found(estimate).low <= truth <= found(estimate).high)
    assert {name: float(np.mean(values)) for name, values in held.items()} == pytest.approx(
        dict.fromkeys(held, 0.95), abs=0.04
    )
    assert np.mean(errors) == pytest.approx(0, abs=0.005)
    assert np.mean(widths) < 0.1
