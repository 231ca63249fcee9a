"""The cleaned index of a run, or its worst rows, for the pipelines downstream.

# N rows of the index, M rows that may be kept, G golden rows among them
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from scipy.stats import beta

from labelclean.config import ExportForm
from labelclean.errors import ConfigError, InputError
from labelclean.files import refuse_to_replace, write_atomically, write_csv
from labelclean.records import BoolArray, FloatArray
from labelclean.results.run_folder import open_run
from labelclean.results.verdicts import (
    CERTAIN_CLEAN,
    COLUMNS,
    PURIFIED,
    REJECTED,
    UNREADABLE,
    VERDICTS,
    is_golden,
    read_verdicts,
)

KEPT = (CERTAIN_CLEAN, PURIFIED)
"""Verdicts whose rows are exported unless told otherwise."""

CONFIDENCE = 0.95
"""With which a precision is held where golden rows can show it."""

NUM_CUTS = 10
"""Cuts that are tested on golden rows."""

NUM_DECIMALS = 6
"""Of probabilities in an export."""

SHOWN = ("path", "label", "verdict", "p_clean", "suggested_label", "p_suggested")
"""Columns of the verdict file that are exported, beside those that the index brought along."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """Which rows are exported.

    Attributes:
        keep: rows with these verdicts.
        relabel: rejected rows too, with their suggested label.
        budget: instead, so many rows that are the likeliest to be wrong, worst first.
        precision: instead, as many rows as hold this share of right labels, in (0, 1).
    """

    keep: tuple[str, ...] = KEPT
    relabel: bool = False
    budget: int | None = None
    precision: float | None = None

    def __post_init__(self) -> None:
        unknown = sorted(set(self.keep) - set(VERDICTS))
        if unknown or not self.keep:
            raise ConfigError(
                f"--keep: {', '.join(unknown) or 'nothing'} is no verdict", hint=f"Choose among {', '.join(VERDICTS)}."
            )
        if self.budget is not None and self.precision is not None:
            raise ConfigError("--budget and --precision exclude each other", hint="Give one of them.")
        if (self.budget is not None or self.precision is not None) and (self.relabel or self.keep != KEPT):
            raise ConfigError(
                "--budget and --precision choose the rows themselves", hint="Leave out --keep and --relabel."
            )
        if self.budget is not None and self.budget < 1:
            raise ConfigError(f"--budget {self.budget}: not a number of rows", hint="Give 1 or more.")
        if self.precision is not None and not 0 < self.precision < 1:
            raise ConfigError(f"--precision {self.precision:g}: not between 0 and 1", hint="Give a share, as in 0.99.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """Where the rows were cut to hold a precision.

    Attributes:
        precision: share of right labels among the kept rows, as expected from p_clean.
        num_golden: golden rows among the kept ones that it was tested on; 0: it rests on p_clean alone.
        confidence: with which the golden rows show the wanted precision; None without them.
    """

    precision: float
    num_golden: int
    confidence: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        file: the table.
        num_rows: of the run.
        num_kept: written, those relabelled included.
        num_relabelled: written with another label than the given one.
        cut: for a wanted precision; None otherwise.
    """

    file: Path
    num_rows: int
    num_kept: int
    num_relabelled: int
    cut: Cut | None


def export(run: Path | None, out: Path, *, form: ExportForm, selection: Selection, overwrite: bool = False) -> Exported:
    """Write the selected rows of a run.

    Args:
        run: the run folder; None: the newest below runs/.
        out: the file; for the form `hf` the folder of the images, which gets a metadata.csv.
        form: csv, parquet, or hf (Hugging Face's image folder with metadata).
        selection: which rows.
        overwrite: replace an older file.
    Raises:
        RunFolderError: no such run, or the file exists.
        InputError: no row is selected, or no cut holds the wanted precision.
        ResourceError: the file cannot be written.
    """
    verdicts = read_verdicts(open_run(run).verdicts)
    file = out / "metadata.csv" if form == "hf" else out
    if not overwrite:
        refuse_to_replace(file)
    rows, cut = select(verdicts, selection)
    if not len(rows):
        raise InputError("no row is selected: the export would be empty", hint="Choose other verdicts with --keep.")
    table = _exported(verdicts.take(rows), relabel=selection.relabel, path_name="file_name" if form == "hf" else "path")
    if form == "parquet":
        write_atomically(file, lambda temporary: pq.write_table(table, temporary, compression="zstd"))
    else:
        write_csv(file, table)
    num_relabelled = pc.sum(pc.not_equal(table["label"], table["given_label"])).as_py() if selection.relabel else 0
    return Exported(
        file=file, num_rows=verdicts.num_rows, num_kept=len(rows), num_relabelled=num_relabelled or 0, cut=cut
    )


def select(verdicts: pa.Table, selection: Selection) -> tuple[pa.Array, Cut | None]:
    """Positions of the selected rows, in the order in which they are written, and the cut where there is one."""
    verdict = np.asarray(verdicts["verdict"].to_pylist(), dtype=object)
    p_clean = verdicts["p_clean"].to_numpy()
    golden = is_golden(verdicts)
    if selection.budget is not None:
        rows = np.flatnonzero((verdict != UNREADABLE) & ~golden)
        return pa.array(rows[np.argsort(p_clean[rows], kind="stable")][: selection.budget]), None
    if selection.precision is not None:
        rows = np.flatnonzero(verdict != UNREADABLE)
        p_meta = verdicts["p_meta"].to_numpy()[rows]
        kept, cut = cut_at(p_meta, p_clean[rows], golden[rows], precision=selection.precision)
        return pa.array(rows[kept]), cut
    kept = np.isin(verdict, selection.keep)
    if selection.relabel:
        kept |= (verdict == REJECTED) & verdicts["suggested_label"].is_valid().to_numpy()
    return pa.array(np.flatnonzero(kept)), None


def cut_at(p_meta: FloatArray, p_clean: FloatArray, is_golden: BoolArray, *, precision: float) -> tuple[BoolArray, Cut]:
    """The most rows that hold the precision, and how far that is sure.

    With golden rows a few cuts are tested, at even numbers of golden rows, and the widest that passes is taken. A cut
    passes when the lower confidence limit (Clopper-Pearson, with Bonferroni's correction for the number of cuts) of
    the share of right labels among its golden rows is at least the precision; that holds for the other rows as far as
    the golden ones are a random choice. Without golden rows the mean of p_clean decides.
    Golden rows with a wrong label are never kept.

    Args:
        p_meta: ranks the rows, also the golden ones, whose label it does not know, (M,).
        p_clean: P(label right); for golden rows 0 or 1, (M,).
        is_golden: (M,).
        precision: wanted share of right labels, in (0, 1).
    Returns:
        The kept rows, (M,), and the cut.
    Raises:
        InputError: no cut holds the precision.
    Source: a choice among tested cuts, as in Angelopoulos et al., "Learn then Test" (2021).
    """
    order = np.argsort(-p_meta, kind="stable")
    if is_golden.any():
        num_kept = _tested_cut(is_golden[order], p_clean[order] > 0.5, precision)
    else:
        num_kept = _expected_cut(p_clean[order], precision)
    kept = np.zeros(len(order), dtype=bool)
    kept[order[:num_kept]] = True
    num_golden = int(is_golden[kept].sum())
    kept &= ~is_golden | (p_clean > 0.5)
    confidence = CONFIDENCE if is_golden.any() else None
    share = float(p_clean[kept & ~is_golden].mean()) if (kept & ~is_golden).any() else 1.0
    return kept, Cut(precision=share, num_golden=num_golden, confidence=confidence)


def _tested_cut(is_golden: BoolArray, is_right: BoolArray, precision: float) -> int:
    """How many of the rows, best first, golden rows allow to be kept; is_right counts where is_golden."""
    places = np.flatnonzero(is_golden)
    num_golden = np.unique(np.ceil(len(places) * np.arange(1, NUM_CUTS + 1) / NUM_CUTS).astype(int))
    num_right = np.cumsum(is_right[places])[num_golden - 1]
    limit = beta.ppf((1 - CONFIDENCE) / NUM_CUTS, num_right, num_golden - num_right + 1)
    passed = num_golden[limit >= precision]
    if not len(passed):
        raise InputError(
            f"{len(places)} golden rows do not show a precision of {precision:g}, however few rows are kept",
            hint=f"It takes {_fewest_for(precision)} right ones at least: check more rows, or lower --precision.",
        )
    # all rows up to the next golden one
    return int(np.append(places, len(is_golden))[passed[-1]])


def _expected_cut(p_clean: FloatArray, precision: float) -> int:
    """How many of the rows, best first, may be kept by the mean of p_clean."""
    expected = np.cumsum(p_clean) / np.arange(1, len(p_clean) + 1)
    if expected.max(initial=0) < precision:
        raise InputError(
            f"no cut holds a precision of {precision:g}", hint="Lower --precision, or give golden rows to the fit."
        )
    return int(np.flatnonzero(expected >= precision)[-1]) + 1


def _fewest_for(precision: float) -> int:
    """Golden rows that show the precision when all of them are right: the smallest n with precision ** n <= 0.5 %."""
    return int(np.ceil(np.log((1 - CONFIDENCE) / NUM_CUTS) / np.log(precision)))


def _exported(verdicts: pa.Table, *, relabel: bool, path_name: str) -> pa.Table:
    """The columns to write; the label is the suggested one on rejected rows when those are relabelled."""
    extra = [name for name in verdicts.column_names if name not in COLUMNS.names]
    table = verdicts.select([*SHOWN, *extra])
    table = table.set_column(2, "verdict", table["verdict"].cast(pa.string()))
    for name in ("p_clean", "p_suggested"):
        rounded = pc.round(table[name].cast(pa.float64()), NUM_DECIMALS)
        table = table.set_column(table.column_names.index(name), name, rounded)
    if relabel:
        new = pc.if_else(pc.equal(table["verdict"], REJECTED), table["suggested_label"], table["label"])
        table = table.append_column("given_label", table["label"]).set_column(1, "label", new)
    return table.rename_columns([path_name, *table.column_names[1:]])
