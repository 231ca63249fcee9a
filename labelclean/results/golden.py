"""Which rows a person should look at, so that few golden labels teach the most.

# N rows, of which M may be chosen
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelclean.data.columns import GOLDEN_NAME
from labelclean.data.tables import as_strings, nothing, usual_column
from labelclean.errors import ConfigError, InputError
from labelclean.files import refuse_to_replace, write_csv
from labelclean.records import UNKNOWN, BoolArray, FloatArray, IntArray
from labelclean.results.run_folder import open_run
from labelclean.results.verdicts import NUM_DECIMALS, is_golden, is_judged, read_verdicts

NUM_ROWS = 200
"""Rows that are chosen unless told otherwise."""

RANDOM_SHARE = 0.5
"""Of the chances is the same for all rows; the rest goes by how uncertain a row is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chosen:
    """What was written.

    Attributes:
        num_rows: rows chosen.
        num_candidates: rows that could be chosen, each picture once.
        num_golden: earlier golden rows, left out.
        num_own_golden: those of them that are golden by the index's own column.
        file: the CSV.
    """

    num_rows: int
    num_candidates: int
    num_golden: int
    num_own_golden: int
    file: Path


def choose_golden(
    run: Path | None, out: Path, *, count: int | None = None, seed: int = 0, overwrite: bool = False
) -> Chosen:
    """Write a CSV of rows with an empty column `golden`, to be filled in and given to `fit --golden`.

    Its column `chance` is the probability with which the row was chosen: whoever divides by it gets unbiased
    estimates from rows of which most were chosen because they are uncertain. Of rows that show one picture one is
    chosen at most, and none where another of them is golden. A golden label is of all rows of its path: the chance is
    that of any of them to be chosen.

    Args:
        run: the run folder; None: the newest below runs/.
        out: the CSV, ending in .csv.
        count: how many rows, at least 1; None: 200, or all where there are fewer.
        seed: start of every random choice.
        overwrite: replace an older file, which may hold somebody's work.
    Raises:
        ConfigError: count is not positive, or the file's ending is another.
        InputError: fewer rows than that can be chosen, or none.
        RunFolderError: no such run, or the file exists.
        ResourceError: the file cannot be written.
    """
    if count is not None and count < 1:
        raise ConfigError(f"--count {count}: not a number of rows", hint="Give 1 or more.")
    if out.suffix.lower() != ".csv":
        raise ConfigError(f"--out {out}: the rows are written as CSV", hint="Use .csv as its ending.")
    if not overwrite:
        refuse_to_replace(out)
    verdicts = read_verdicts(open_run(run).verdicts)
    golden = is_golden(verdicts)
    paths, pictures = _paths_and_pictures(verdicts)
    candidates = np.flatnonzero(is_judged(verdicts) & ~np.isin(pictures, pictures[golden]))
    paths, pictures = (_renumbered(ids[candidates]) for ids in (paths, pictures))
    num_pictures = int(pictures.max(initial=-1)) + 1
    p_clean = verdicts["p_clean"].to_numpy()[candidates].astype(np.float64)
    picked, chances = draw(p_clean, paths, pictures, _count(count, num_pictures), np.random.default_rng(seed))
    table = verdicts.take(pa.array(candidates[picked])).select(["path", "label", "suggested_label"])
    table = table.append_column("p_clean", pa.array(np.round(p_clean[picked], NUM_DECIMALS)))
    table = table.append_column("chance", pa.array([float(f"{chance:.6g}") for chance in chances]))
    table = table.append_column("golden", pa.nulls(len(picked), pa.string()))
    write_csv(out, table)
    return Chosen(
        num_rows=len(picked),
        num_candidates=num_pictures,
        num_golden=int(golden.sum()),
        num_own_golden=int((golden & _has_own_golden(verdicts)).sum()),
        file=out,
    )


def _paths_and_pictures(verdicts: pa.Table) -> tuple[IntArray, IntArray]:
    """A number for each row's path, and for its picture: the rows of a path or of a duplicate group show one, (N,)."""
    paths = verdicts["path"].combine_chunks().dictionary_encode(null_encoding="encode").indices.to_numpy()
    groups = pc.fill_null(verdicts["duplicate_group"], UNKNOWN).to_numpy()
    return paths, np.where(groups == UNKNOWN, paths, len(paths) + groups)


def _renumbered(ids: IntArray) -> IntArray:
    """Numbers from 0 on in place of others, equal where they were, in their order."""
    return np.unique(ids, return_inverse=True)[1]


def _has_own_golden(verdicts: pa.Table) -> BoolArray:
    """Rows that have a golden label in the index's own column, (N,)."""
    name = usual_column(verdicts, (GOLDEN_NAME,))
    own = as_strings(verdicts[name]) if name else nothing(verdicts.num_rows)
    return np.asarray(own.is_valid().to_numpy())


def draw(
    p_clean: FloatArray, paths: IntArray, pictures: IntArray, count: int, rng: np.random.Generator
) -> tuple[IntArray, FloatArray]:
    """Choose so many pictures, and of each one row at random.

    A picture's size in the draw is the sum of its rows' uncertainties.

    Args:
        p_clean: P(label right), (M,).
        paths: numbers of the rows' paths, from 0, (M,).
        pictures: numbers of their pictures, from 0; a path has one picture, (M,).
        count: at most the number of pictures.
        rng: source of chance.
    Returns:
        Rows, ascending, (count,), and for each the chance with which any row of its path is chosen, (count,).
    """
    sizes = np.asarray(np.bincount(pictures, uncertainty(p_clean)), dtype=np.float64)
    chances = inclusion_chances(sizes, count)
    drawn = draw_systematically(chances, rng)
    shuffled = rng.permutation(len(pictures))
    one_of_each = shuffled[np.unique(pictures[shuffled], return_index=True)[1]]
    picked = np.sort(one_of_each[drawn])
    of_path, of_picture = np.bincount(paths)[paths[picked]], np.bincount(pictures)[pictures[picked]]
    return picked, chances[pictures[picked]] * of_path / of_picture


def _count(wanted: int | None, num_candidates: int) -> int:
    """How many rows to choose."""
    if not num_candidates:
        raise InputError(
            "no row can be chosen: each is unreadable, or its picture has a golden label",
            hint="Use the golden rows that there are.",
        )
    if wanted is None:
        return min(NUM_ROWS, num_candidates)
    if wanted > num_candidates:
        raise InputError(
            f"only {num_candidates} rows can be chosen, not {wanted}", hint=f"Give --count {num_candidates} or less."
        )
    return wanted


def uncertainty(p_clean: FloatArray) -> FloatArray:
    """Size of each row's share in the draw, positive, sums to 1, (M,).

    Half of it is even, half goes by the standard deviation of being right, which is the allocation with the least
    variance for the number of wrong labels (Neyman 1934).
    """
    deviation = np.sqrt(p_clean * (1 - p_clean)) + 1e-6
    return np.asarray(RANDOM_SHARE / len(p_clean) + (1 - RANDOM_SHARE) * deviation / deviation.sum())


def inclusion_chances(sizes: FloatArray, count: int) -> FloatArray:
    """Chances proportional to the sizes, at most 1, that sum to count, (M,).

    Args:
        sizes: positive, (M,).
        count: at most M.
    """
    chances = np.zeros(len(sizes))
    is_sure = np.zeros(len(sizes), dtype=bool)
    while True:
        rest = ~is_sure
        chances[is_sure] = 1.0
        if rest.any():
            chances[rest] = (count - is_sure.sum()) * sizes[rest] / sizes[rest].sum()
        above = rest & (chances >= 1)
        if not above.any():
            return chances
        is_sure |= above


def draw_systematically(chances: FloatArray, rng: np.random.Generator) -> IntArray:
    """As many positions as the chances sum to, each with its chance, ascending.

    Source: systematic sampling with probability proportional to size, in random order (Madow 1949).
    """
    order = rng.permutation(len(chances))
    steps = np.cumsum(chances[order])
    num_drawn = round(float(steps[-1]))
    marks = np.arange(num_drawn) + rng.random()
    places = np.searchsorted(steps, marks * steps[-1] / num_drawn, side="right")
    return np.sort(order[np.minimum(places, len(order) - 1)])
