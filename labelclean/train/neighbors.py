"""Nearest neighbours in feature space, and pictures that are the same but for their encoding.

# N rows, Q queries, D features, k neighbours, S image side
"""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np

from labelclean.records import UNKNOWN, BoolArray, ByteArray, FloatArray, IntArray

EXACT_ROWS = 100_000
"""Up to so many rows the search is exact; beyond, an inverted file is searched in part."""

LIKELY_SAME = 0.9
"""Cosine from which two rows are compared pixel by pixel."""

SAME_PIXELS = 6.0
"""Root mean square difference of two thumbnails, of 255, below which the pictures are the same."""

THUMBNAIL = 16
"""Side in blocks."""

BLOCK_ROWS = 1024
"""Images that are looked at together."""


def nearest(
    features: FloatArray, queries: IntArray, num_neighbors: int, *, on_gpu: bool = False
) -> tuple[IntArray, FloatArray]:
    """The nearest other rows of each query row, by cosine.

    Args:
        features: unit norm, (N, D).
        queries: rows whose neighbours are wanted, (Q,).
        num_neighbors: k; with fewer than k + 1 rows in all, fewer come back.
        on_gpu: search on the GPUs where this faiss can.
    Returns:
        Rows (Q, k) and similarities (Q, k), nearest first, self excluded.
    """
    num_rows, num_features = features.shape
    vectors = np.ascontiguousarray(features, dtype=np.float32)
    k = min(num_neighbors, num_rows - 1)
    if num_rows <= EXACT_ROWS:
        index: Any = faiss.IndexFlatIP(num_features)
    else:
        num_lists = int(4 * np.sqrt(num_rows))
        index = faiss.index_factory(num_features, f"IVF{num_lists},Flat", faiss.METRIC_INNER_PRODUCT)
        index.nprobe = 32
        index.train(vectors[:: max(1, num_rows // (64 * num_lists))])
    if on_gpu and hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0:
        index = faiss.index_cpu_to_all_gpus(index)
    index.add(vectors)
    similarities, rows = index.search(vectors[queries], k + 1)
    return _without_self(rows, similarities, queries, k)


def _without_self(rows: IntArray, similarities: FloatArray, queries: IntArray, k: int) -> tuple[IntArray, FloatArray]:
    """Drop each query from its own result, or the last neighbour where it is missing, as among exact copies."""
    is_self = rows == queries[:, None]
    is_self[~is_self.any(axis=1), -1] = True
    keep = ~is_self
    shape = (len(queries), k)
    # an inverted file may find fewer than asked for: those places are filled by the nearest neighbour with no weight
    found, weights = rows[keep].reshape(shape), similarities[keep].reshape(shape)
    missing = found < 0
    return np.where(missing, np.maximum(found[:, :1], 0), found), np.where(missing, 0, weights)


def unit_norm(features: FloatArray) -> FloatArray:
    """Centred features scaled to length one, (N, D) float32."""
    centred = features - features.mean(axis=0)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(centred / np.maximum(norms, 1e-12), dtype=np.float32)


def duplicate_groups(
    neighbor_rows: IntArray, similarities: FloatArray, pixels: ByteArray, image_rows: IntArray, digests: ByteArray
) -> IntArray:
    """Number the groups of rows that show the same picture; UNKNOWN for rows that are alone, (N,).

    Candidates come from the embedding's nearest neighbours and from equal files; near neighbours count only when
    their thumbnails agree too.

    Args:
        neighbor_rows: (N, k).
        similarities: (N, k).
        pixels: all images, (M, S, S, 3).
        image_rows: each row's position in `pixels`, (N,).
        digests: of each row's file, (N, bytes).
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    num_rows = len(neighbor_rows)
    row, place = np.nonzero(similarities[:, :5] > LIKELY_SAME)
    pairs = np.unique(np.sort(np.stack([row, neighbor_rows[row, place]], axis=1), axis=1), axis=0)
    left, right = pairs[_look_alike(pairs, pixels, image_rows)].T
    _, file_of = np.unique(digests, axis=0, return_inverse=True)
    order = np.argsort(file_of, kind="stable")
    equal = file_of[order][1:] == file_of[order][:-1]
    left = np.concatenate([left, order[:-1][equal]])
    right = np.concatenate([right, order[1:][equal]])
    graph = coo_matrix((np.ones(len(left)), (left, right)), shape=(num_rows, num_rows))
    _, component = connected_components(graph, directed=False)
    _, inverse, counts = np.unique(component, return_inverse=True, return_counts=True)
    shared = counts[inverse] > 1
    groups = np.full(num_rows, UNKNOWN)
    groups[shared] = np.unique(inverse[shared], return_inverse=True)[1]
    return groups


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


def outlier_scores(similarities: FloatArray, *, num_nearest: int = 5) -> FloatArray:
    """Mean cosine distance to the nearest neighbours, in [0, 2], (N,)."""
    return np.asarray(1 - similarities[:, :num_nearest].mean(axis=1))
