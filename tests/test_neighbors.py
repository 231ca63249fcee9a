"""Nearest neighbours, and pictures that are the same but for their encoding."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from labelclean.records import UNKNOWN, ByteArray, FloatArray, IntArray
from labelclean.train import neighbors
from labelclean.train.neighbors import (
    duplicate_groups,
    join_large_groups,
    nearest,
    outlier_scores,
    thumbnails,
    unit_norm,
)

CPU = torch.device("cpu")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def random_space(num_rows: int, num_features: int = 8) -> FloatArray:
    return unit_norm(np.random.default_rng(0).normal(size=(num_rows, num_features)))


def test_nearest_equals_brute_force():
    features = random_space(60)
    queries = np.array([3, 59, 0])
    rows, cosines = nearest(features, queries, 7)
    table = features[queries] @ features.T
    table[np.arange(3), queries] = -np.inf
    expected = np.argsort(-table, axis=1)[:, :7]
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(cosines, np.take_along_axis(table, expected, axis=1), atol=1e-5)


@pytest.mark.parametrize("widest", [2048, 12])
@pytest.mark.parametrize("all_cosines", [False, True])
def test_rows_of_the_own_group_are_no_neighbors(widest: int, all_cosines: bool, monkeypatch: pytest.MonkeyPatch):
    """Neither where a search is widened by the group, nor where the group is left out of it, by an index or without."""
    monkeypatch.setattr(neighbors, "WIDEST_SEARCH", widest)
    if all_cosines:  # as on a GPU
        monkeypatch.setattr(neighbors, "_look_up_in", lambda vectors: neighbors._multiply_by(vectors, CPU))
    features = random_space(60)
    features[:20] = features[0] + 0.01 * features[:20]
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    groups = np.concatenate([np.zeros(20, dtype=int), 1 + np.arange(40) // 2])
    queries = np.array([3, 19, 20, 59])
    rows, cosines = nearest(features, queries, 7, groups=groups)
    table = features[queries] @ features.T
    table[groups[queries][:, None] == groups] = -np.inf
    expected = np.argsort(-table, axis=1)[:, :7]
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(cosines, np.take_along_axis(table, expected, axis=1), atol=1e-5)


@pytest.mark.parametrize("exact", [True, False])
def test_all_but_two_rows_in_one_group_have_these_two_as_neighbors(exact: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(neighbors, "WIDEST_SEARCH", 50)
    if not exact:
        monkeypatch.setattr(neighbors, "EXACT_ROWS", 100)
    features = random_space(400)
    groups = np.where(np.arange(400) < 398, 0, np.arange(400))
    rows, cosines = nearest(features, np.arange(398), 7, groups=groups)
    found = cosines != 0
    assert set(rows[found].tolist()) == {398, 399}
    if exact:
        assert (found.sum(axis=1) == 2).all()
        distances = 1 - features[:398] @ features[398:].T
        np.testing.assert_allclose(outlier_scores(cosines), distances.mean(axis=1), atol=1e-5)


def test_a_large_group_widens_the_search_of_its_own_rows_alone(monkeypatch: pytest.MonkeyPatch):
    features = random_space(80)
    groups = np.concatenate([1 + np.arange(40) // 2, np.zeros(40, dtype=int)])[np.random.default_rng(1).permutation(80)]
    widths = dict[int, int]()

    def look_up(vectors: FloatArray) -> neighbors.Finder:
        search = look_up_in(vectors)

        def watched(queries: FloatArray, num_nearest: int, barred: IntArray | None) -> tuple[FloatArray, IntArray]:
            widths[num_nearest] = widths.get(num_nearest, 0) + len(queries)
            return search(queries, num_nearest, barred)

        return watched

    expected = nearest(features, np.arange(80), 3, groups=groups)
    look_up_in = neighbors._look_up_in
    monkeypatch.setattr(neighbors, "_look_up_in", look_up)
    monkeypatch.setattr(neighbors, "BLOCK_ROWS", 10)
    found = nearest(features, np.arange(80), 3, groups=groups)
    assert widths == {5: 40, 43: 40}
    for some, others in zip(found, expected, strict=True):
        np.testing.assert_array_equal(some, others)


def test_exact_copies_find_each_other_and_never_themselves():
    features = random_space(40)
    features[:20] = features[0]
    rows, cosines = nearest(features, np.arange(40), 5)
    assert (rows != np.arange(40)[:, None]).all()
    assert (rows[:20] < 20).all()
    np.testing.assert_allclose(cosines[:20], 1, atol=1e-5)


@pytest.mark.parametrize("products", [2**28, 60 * 5])
@pytest.mark.parametrize("name", ["cpu", pytest.param("cuda", marks=[pytest.mark.cuda, needs_cuda])])
def test_all_cosines_show_the_same_rows(products: int, name: str, monkeypatch: pytest.MonkeyPatch):
    """The way of a GPU, which a CPU can go too, also where it has to go in parts."""
    monkeypatch.setattr(neighbors, "PRODUCTS", products)
    features = random_space(60)
    cosines, rows = neighbors._multiply_by(features, torch.device(name))(features[7:29], 9, None)
    table = features[7:29] @ features.T
    np.testing.assert_array_equal(rows, np.argsort(-table, axis=1)[:, :9])
    np.testing.assert_allclose(cosines, -np.sort(-table, axis=1)[:, :9], atol=1e-5)


@pytest.mark.cuda
@needs_cuda
def test_a_gpu_leaves_out_the_own_group():
    features, groups = random_space(60), np.arange(60) // 3
    rows, cosines = nearest(features, np.arange(60), 7, groups=groups, device=torch.device("cuda"))
    table = np.where(groups[:, None] == groups, -np.inf, features @ features.T)
    np.testing.assert_array_equal(rows, np.argsort(-table, axis=1)[:, :7])
    np.testing.assert_allclose(cosines, -np.sort(-table, axis=1)[:, :7], atol=1e-5)


def test_more_neighbors_than_rows():
    rows, cosines = nearest(random_space(4), np.arange(4), 25)
    assert rows.shape == cosines.shape == (4, 3)
    assert [sorted(found) for found in rows.tolist()] == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]


def test_large_data_are_searched_by_lists(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    centers = 5 * rng.normal(size=(100, 16))
    features = unit_norm(np.repeat(centers, 60, axis=0) + rng.normal(size=(6000, 16)))
    queries = np.arange(0, 6000, 7)
    exact, _ = nearest(features, queries, 10)
    monkeypatch.setattr(neighbors, "EXACT_ROWS", 1000)
    rows, cosines = nearest(features, queries, 10)
    overlap = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact.tolist(), rows.tolist(), strict=True)])
    assert overlap > 0.95
    assert (rows != queries[:, None]).all()
    assert (np.diff(cosines, axis=1) <= 1e-6).all()


def test_places_that_the_lists_leave_empty_weigh_nothing():
    rows, similarities = np.array([[0, 4, 2, -1, -1]]), np.array([[1.0, 0.9, 0.8, -3e38, -3e38]])
    rows, cosines = neighbors._leave_out((rows == 0) | (rows < 0), rows, similarities, 4)
    assert (rows >= 0).all()
    assert rows[0, :2].tolist() == [4, 2]
    np.testing.assert_allclose(cosines, [[0.9, 0.8, 0, 0]])


def test_unit_norm_of_equal_rows_is_finite():
    assert np.isfinite(unit_norm(np.ones((3, 4)))).all()
    np.testing.assert_allclose(np.linalg.norm(random_space(9), axis=1), 1, atol=1e-6)


def picture(seed: int) -> ByteArray:
    """A smooth picture of 64 x 64 pixels."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC))


def reencoded(image: ByteArray) -> ByteArray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=60)
    return np.asarray(Image.open(buffer).convert("RGB"))


def test_same_pictures_are_grouped_and_lookalikes_in_feature_space_are_not():
    """Rows 0 and 3 are one picture in two encodings, 1 and 4 one file; 2 and 5 are neighbours but look different."""
    images = [picture(0), picture(1), picture(2), reencoded(picture(0)), picture(1), picture(5)]
    pixels = np.stack([np.zeros((64, 64, 3), np.uint8), *images])  # the index has an unreadable row in front
    files = np.array([0, 1, 2, 3, 1, 5])
    rows = np.array([[3, 1], [2, 0], [5, 0], [0, 1], [2, 0], [2, 0]])
    cosines = np.array([[0.99, 0.1], [0.2, 0.1], [1.0, 0.1], [0.99, 0.1], [0.2, 0.1], [1.0, 0.1]])
    groups = duplicate_groups(rows, cosines, pixels, np.arange(1, 7), files)
    assert groups.tolist() == [0, 1, UNKNOWN, 0, 1, UNKNOWN]


def test_equal_pixels_that_are_not_near_in_feature_space_are_not_compared():
    pixels = np.stack([picture(0), picture(0)])
    groups = duplicate_groups(np.array([[1], [0]]), np.array([[0.5], [0.5]]), pixels, np.arange(2), np.arange(2))
    assert groups.tolist() == [UNKNOWN, UNKNOWN]


@pytest.mark.parametrize("side", [8, 16, 31, 32, 100])
def test_thumbnails_show_the_whole_picture(side: int):
    images = np.zeros((3, side, side, 3), dtype=np.uint8)
    images[1, side // 2 :] = 200
    images[2] = 77
    small = thumbnails(images)
    assert small.shape[0] == 3
    assert small.shape[1] == small.shape[2] <= 16
    assert (small[2] == 77).all()
    assert small[1].mean() == pytest.approx(100, abs=8)


def test_pairs_beyond_a_block_are_compared_too(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(neighbors, "BLOCK_ROWS", 3)
    pixels = np.stack([picture(number // 2) for number in range(20)])
    rows = (np.arange(20) ^ 1)[:, None]
    groups = duplicate_groups(rows, np.full((20, 1), 0.99), pixels, np.arange(20), np.arange(20))
    np.testing.assert_array_equal(groups, np.arange(20) // 2)


def test_copies_that_fill_their_lists_with_each_other_are_one_group():
    """Three sets of seven copies, the first and the last of one picture in two encodings, and a pair."""
    kinds = np.repeat([0, 1, 2, 3], [7, 7, 7, 2])
    shows = [picture(0), picture(1), reencoded(picture(0)), picture(3)]
    pixels = np.stack([shows[kind] for kind in kinds])
    directions = unit_norm(np.array([[1, 0, 0], [0, 1, 0], [1, 0.01, 0], [0, 0, 1]], dtype=np.float32))
    features = directions[kinds]
    rows = np.array(
        [[other for other in np.flatnonzero(kinds == kinds[row]) if other != row][:1] * 5 for row in range(23)]
    )
    found = duplicate_groups(rows, np.full((23, 5), 0.999), pixels, np.arange(23), np.arange(23))
    assert len(np.unique(found)) == 4
    joined = join_large_groups(found, features, pixels, np.arange(23), device=None)
    assert joined.tolist() == [0] * 7 + [1] * 7 + [0] * 7 + [2] * 2
    alone = np.full(23, UNKNOWN)
    assert join_large_groups(alone, features, pixels, np.arange(23), device=None).tolist() == alone.tolist()


def test_copies_of_copies_are_one_group():
    pixels = np.stack([picture(0)] * 4)
    rows, cosines = np.array([[1], [0], [3], [2]]), np.full((4, 1), 0.95)
    assert duplicate_groups(rows, cosines, pixels, np.arange(4), np.array([0, 1, 1, 2])).tolist() == [0, 0, 0, 0]


def test_outlier_score_is_the_mean_distance_to_the_nearest():
    cosines = np.array([[0.9, 0.8, 0.7, 0.6, 0.5, -1.0], [1.0, 1.0, 1.0, 1.0, 1.0, 0.0]])
    np.testing.assert_allclose(outlier_scores(cosines), [0.3, 0.0], atol=1e-9)


def test_outlier_score_is_about_what_was_found():
    cosines = np.array([[0.9, 0.7, 0, 0, 0, 0], [0.0, 0, 0, 0, 0, 0]])
    np.testing.assert_allclose(outlier_scores(cosines), [0.2, np.nan], atol=1e-9)
