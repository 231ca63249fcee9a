"""Nearest neighbours in feature space, and pictures that are the same but for their encoding.

# N rows, Q queries, D features, k neighbours, S image side
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from labelclean.records import UNKNOWN, BoolArray, ByteArray, FloatArray, IntArray

EXACT_ROWS = 100_000
"""Up to so many rows the search on a CPU is exact; beyond, an inverted file is searched in part."""

LIKELY_SAME = 0.9
"""Cosine from which two rows are compared pixel by pixel."""

SAME_PIXELS = 6.0
"""Root mean square difference of two thumbnails, of 255, below which the pictures are the same."""

THUMBNAIL = 16
"""Side in blocks."""

NUM_NEAREST = 5
"""Neighbours by which doubles and outliers are told."""

BLOCK_ROWS = 1024
"""Rows that are looked at together."""

WIDEST_SEARCH = 2048
"""Neighbours that are looked at, at most, to find some of other groups; larger groups are left out of the search."""

PRODUCTS = 2**28
"""Cosines that a GPU holds at once, in single precision."""

Finder = Callable[[FloatArray, int, IntArray | None], tuple[FloatArray, IntArray]]
"""Finds for vectors (Q, D) the so many nearest rows, but for those that it is told to leave out: cosines and rows,
nearest first, (Q, k) both, and row -1 where there are no more."""


def nearest(
    features: FloatArray,
    queries: IntArray,
    num_neighbors: int,
    *,
    groups: IntArray | None = None,
    device: torch.device | None = None,
) -> tuple[IntArray, FloatArray]:
    """The nearest other rows of each query row, by cosine.

    Args:
        features: unit norm, (N, D).
        queries: rows whose neighbours are wanted, (Q,).
        num_neighbors: k; with fewer than k + 1 rows in all, fewer come back.
        groups: rows of the query's own group are no neighbours of it, numbered from 0, (N,); None: each row is alone.
        device: where it is a CUDA device, that one searches.
    Returns:
        Rows (Q, k) and similarities (Q, k), nearest first. Where fewer are found, because hardly any row is of another
        group or an inverted file has no more, the last places have similarity 0.
    """
    num_rows = len(features)
    vectors = np.ascontiguousarray(features, dtype=np.float32)
    k = min(num_neighbors, num_rows - 1)
    search = _multiply_by(vectors, device) if device and device.type == "cuda" else _look_up_in(vectors)
    groups = np.arange(num_rows) if groups is None else groups
    sizes = np.bincount(groups)[groups[queries]]
    found, cosines = np.empty((len(queries), k), dtype=np.int64), np.empty((len(queries), k), dtype=np.float32)
    by_size = np.argsort(sizes, kind="stable")  # a large group widens the search of its block
    alone, small = (int((sizes <= largest).sum()) for largest in (1, WIDEST_SEARCH))
    for part in (by_size[:alone], *_blocks(by_size[alone:small])):
        if len(part):
            width = min(k + int(sizes[part].max()), num_rows)
            similarities, rows = search(vectors[queries[part]], width, None)
            barred = (groups[rows] == groups[queries[part]][:, None]) | (rows < 0)
            found[part], cosines[part] = _leave_out(barred, rows, similarities, k)
    wide = by_size[small:]
    group_of = groups[queries[wide]]
    for group in np.unique(group_of):
        part = wide[group_of == group]
        similarities, rows = search(vectors[queries[part]], k, np.flatnonzero(groups == group))
        found[part], cosines[part] = _leave_out(rows < 0, rows, similarities, k)
    return found, cosines


def _look_up_in(vectors: FloatArray) -> Finder:
    """By an index of faiss, exact or an inverted file."""
    import faiss

    num_rows, num_features = vectors.shape
    if num_rows <= EXACT_ROWS:
        index: Any = faiss.IndexFlatIP(num_features)
    else:
        num_lists = int(4 * np.sqrt(num_rows))
        index = faiss.index_factory(num_features, f"IVF{num_lists},Flat", faiss.METRIC_INNER_PRODUCT)
        index.nprobe = 32
        index.train(vectors[:: max(1, num_rows // (64 * num_lists))])
    index.add(vectors)

    def search(queries: FloatArray, num_nearest: int, barred: IntArray | None) -> tuple[FloatArray, IntArray]:
        if barred is None:
            similarities, rows = index.search(queries, num_nearest)
        elif num_rows <= EXACT_ROWS:  # an index of the others is several times as fast as a selector
            others = np.delete(np.arange(num_rows), barred)
            of_others = faiss.IndexFlatIP(num_features)
            of_others.add(vectors[others])
            similarities, places = of_others.search(queries, num_nearest)
            rows = np.where(places < 0, -1, others[places])
        else:
            selector = faiss.IDSelectorNot(faiss.IDSelectorBatch(barred.astype(np.int64)))
            params = faiss.SearchParametersIVF()
            params.sel, params.nprobe = selector, index.nprobe
            similarities, rows = index.search(queries, num_nearest, params=params)
        return similarities, rows

    return search


def _multiply_by(vectors: FloatArray, device: torch.device) -> Finder:
    """By all cosines, a block of queries at a time: exact, and fast where there are units for it."""
    table = torch.from_numpy(vectors).to(device).T

    def search(queries: FloatArray, num_nearest: int, barred: IntArray | None) -> tuple[FloatArray, IntArray]:
        found = []
        for block in torch.split(torch.from_numpy(queries), max(1, PRODUCTS // table.shape[1])):
            products = block.to(device) @ table
            if barred is not None:
                products[:, torch.from_numpy(barred).to(device)] = -torch.inf
            best = products.topk(num_nearest, dim=1)
            rows = torch.where(best.values == -torch.inf, -1, best.indices)
            found.append((best.values.cpu().numpy(), rows.cpu().numpy()))
        similarities, rows = zip(*found, strict=True)
        return np.concatenate(similarities), np.concatenate(rows)

    return search


def _leave_out(barred: BoolArray, rows: IntArray, similarities: FloatArray, k: int) -> tuple[IntArray, FloatArray]:
    """The first k that are not barred; where there are fewer, barred ones without weight fill the last places."""
    order = np.argsort(barred, axis=1, kind="stable")[:, :k]
    found, is_barred = np.take_along_axis(rows, order, axis=1), np.take_along_axis(barred, order, axis=1)
    return np.maximum(found, 0), np.where(is_barred, 0, np.take_along_axis(similarities, order, axis=1))


def unit_norm(features: FloatArray) -> FloatArray:
    """Centred features scaled to length one, (N, D) float32."""
    centred = features - features.mean(axis=0)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(centred / np.maximum(norms, 1e-12), dtype=np.float32)


def duplicate_groups(
    neighbor_rows: IntArray, similarities: FloatArray, pixels: ByteArray, image_rows: IntArray, files: IntArray
) -> IntArray:
    """Number the groups of rows that show the same picture; UNKNOWN for rows that are alone, (N,).

    Candidates come from the embedding's nearest neighbours and from equal files; near neighbours count only when
    their thumbnails agree too.

    Args:
        neighbor_rows: (N, k).
        similarities: (N, k).
        pixels: all images, (M, S, S, 3).
        image_rows: each row's position in `pixels`, (N,).
        files: number of each row's file, equal for identical files, (N,).
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    num_rows = len(neighbor_rows)
    row, place = np.nonzero(similarities[:, :NUM_NEAREST] > LIKELY_SAME)
    pairs = np.unique(np.sort(np.stack([row, neighbor_rows[row, place]], axis=1), axis=1), axis=0)
    left, right = pairs[_look_alike(pairs, pixels, image_rows)].T
    order = np.argsort(files, kind="stable")
    equal = files[order][1:] == files[order][:-1]
    left = np.concatenate([left, order[:-1][equal]])
    right = np.concatenate([right, order[1:][equal]])
    graph = coo_matrix((np.ones(len(left)), (left, right)), shape=(num_rows, num_rows))
    _, component = connected_components(graph, directed=False)
    _, inverse, counts = np.unique(component, return_inverse=True, return_counts=True)
    shared = counts[inverse] > 1
    groups = np.full(num_rows, UNKNOWN)
    groups[shared] = np.unique(inverse[shared], return_inverse=True)[1]
    return groups


def join_large_groups(
    groups: IntArray, features: FloatArray, pixels: ByteArray, image_rows: IntArray, *, device: torch.device | None
) -> IntArray:
    """Groups of doubled pictures, of which large ones that show the same picture are one, (N,).

    Rows that have enough copies to fill their nearest neighbours with never see that there are more.

    Args:
        groups: as `duplicate_groups` numbers them, (N,).
        features: unit norm, (N, D).
        pixels, image_rows: as there.
        device: where it is a CUDA device, that one searches.
    """
    while True:
        numbers, firsts, sizes = np.unique(groups, return_index=True, return_counts=True)
        large = firsts[(numbers != UNKNOWN) & (sizes > NUM_NEAREST)]
        if len(large) < 2:
            return groups
        near, similarities = nearest(features[large], np.arange(len(large)), NUM_NEAREST, device=device)
        same = duplicate_groups(near, similarities, pixels, image_rows[large], np.arange(len(large)))
        if (same == UNKNOWN).all():
            return groups
        renamed = np.arange(int(groups.max()) + 1)
        for number in np.unique(same[same != UNKNOWN]):
            joined = groups[large[same == number]]
            renamed[joined] = joined.min()
        places = np.unique(renamed[groups[groups != UNKNOWN]], return_inverse=True)[1]
        groups = groups.copy()
        groups[groups != UNKNOWN] = places


def _look_alike(pairs: IntArray, pixels: ByteArray, image_rows: IntArray) -> BoolArray:
    """Whether the thumbnails of each pair of rows are nearly the same, (P, 2) -> (P,)."""
    if not len(pairs):
        return np.zeros(0, dtype=bool)
    rows, places = np.unique(pairs, return_inverse=True)
    small = np.concatenate([thumbnails(pixels[block]) for block in _blocks(image_rows[rows])])
    squares = []
    for block in _blocks(places.reshape(pairs.shape)):
        one, other = small[block].astype(np.float32).swapaxes(0, 1)
        squares.append(np.square(one - other).reshape(len(one), -1).mean(axis=1))
    return np.asarray(np.sqrt(np.concatenate(squares)) < SAME_PIXELS)


def _blocks(values: IntArray) -> list[IntArray]:
    """The values in blocks of at most BLOCK_ROWS."""
    return np.split(values, np.arange(BLOCK_ROWS, len(values), BLOCK_ROWS))


def thumbnails(images: ByteArray) -> ByteArray:
    """Block means of at most 16 x 16, so that noise of the encoding averages out, (B, S, S, 3) -> (B, 16, 16, 3)."""
    side = images.shape[1]
    block = -(-side // THUMBNAIL)
    num_blocks = side // block
    used = images[:, : num_blocks * block, : num_blocks * block]
    blocks = used.reshape(-1, num_blocks, block, num_blocks, block, 3)
    return np.asarray(np.rint(blocks.mean(axis=(2, 4), dtype=np.float32)), dtype=np.uint8)


def outlier_scores(similarities: FloatArray) -> FloatArray:
    """Mean cosine distance to the nearest neighbours that were found, in [0, 2], NaN where none was, (N,)."""
    few = similarities[:, :NUM_NEAREST]
    num_found = np.count_nonzero(few, axis=1)
    return 1 - np.where(num_found > 0, few.sum(axis=1) / np.maximum(num_found, 1), np.nan)
