"""The cleaned index of a run, or its worst rows, for the pipelines downstream.

# N rows of the index, M rows that may be kept, G golden rows among them
"""

from __future__ import annotations

import dataclasses
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
from labelclean.records import BoolArray, FloatArray, IntArray
from labelclean.results.golden import NUM_DECIMALS
from labelclean.results.run_folder import RunFolder, open_run
from labelclean.results.verdicts import (
    CERTAIN_CLEAN,
    COLUMNS,
    PURIFIED,
    REJECTED,
    UNREADABLE,
    VERDICTS,
    add_columns,
    is_golden,
    read_verdicts,
)

KEPT = (CERTAIN_CLEAN, PURIFIED)
"""Verdicts whose rows are exported unless told otherwise."""

CONFIDENCE = 0.95
"""With which a precision is held where golden rows can show it."""

NUM_CUTS = 10
"""Cuts that are tested on golden rows."""

FORMS: dict[str, ExportForm] = {".csv": "csv", ".parquet": "parquet"}
"""How a file is written, by its ending."""

SHOWN = ("path", "label", "verdict", "p_clean", "suggested_label", "p_suggested")
"""Columns of the verdict file that are exported, beside those that the index brought along."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """Which rows are exported.

    Attributes:
        keep: rows with these verdicts.
        relabel: rejected rows too, with their suggested label, where that is another one.
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
        wanted: the precision that was asked for.
        precision: share of right labels among the kept rows that are not golden, as expected from p_clean.
        num_golden: golden rows above the cut, on which it was tested; those with a wrong label are among them, but
            are not kept.
        confidence: with which the golden rows show the wanted precision; None without them.
    """

    wanted: float
    precision: float
    num_golden: int
    confidence: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Selected:
    """Rows that were selected.

    Attributes:
        rows: their positions, in the order in which they are written.
        cut: for a wanted precision; None otherwise.
        num_contradicted: left out because another label of the same picture is likelier.
        num_without_other: rejected rows that were to be relabelled, left out because no other label is suggested.
    """

    rows: IntArray
    cut: Cut | None = None
    num_contradicted: int = 0
    num_without_other: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        file: the table.
        num_rows: of the run.
        num_relabelled: written with another label than the given one.
        selected: the rows that were written, and what was left out.
    """

    file: Path
    num_rows: int
    num_relabelled: int
    selected: Selected


def export(
    run: Path | None, out: Path, *, form: ExportForm | None = None, selection: Selection, overwrite: bool = False
) -> Exported:
    """Write the selected rows of a run.

    Args:
        run: the run folder; None: the newest below runs/.
        out: the file; for the form `hf` the folder of the images, which gets a metadata.csv.
        form: csv, parquet, or hf (Hugging Face's image folder with metadata); None: by the file's ending.
        selection: which rows.
        overwrite: replace an older file.
    Raises:
        ConfigError: the form does not fit the file's ending, or the file is one of the run's own.
        RunFolderError: no such run, or the file exists.
        InputError: no row is selected, no cut holds the wanted precision, or images are not in the folder for `hf`.
        ResourceError: the file cannot be written.
    """
    form = _form_of(out, form)
    file = out / "metadata.csv" if form == "hf" else out
    folder = open_run(run)
    _refuse_run_file(file, folder)
    if not overwrite:
        refuse_to_replace(file)
    verdicts = read_verdicts(folder.verdicts)
    selected = select(verdicts, selection)
    if not len(selected.rows):
        raise InputError("no row is selected: the export would be empty", hint="Choose other verdicts with --keep.")
    kept = verdicts.take(pa.array(selected.rows))
    if form == "hf":
        _refuse_other_folder(out, kept["path"].to_pylist())
    table = _exported(kept, relabel=selection.relabel, path_name="file_name" if form == "hf" else "path")
    num_relabelled = pc.sum(pc.not_equal(table["label"], kept["label"])).as_py() or 0
    if form == "parquet":
        write_atomically(file, lambda temporary: pq.write_table(table, temporary, compression="zstd"))
    else:
        write_csv(file, table)
    return Exported(file=file, num_rows=verdicts.num_rows, num_relabelled=num_relabelled, selected=selected)


def _form_of(out: Path, wanted: ExportForm | None) -> ExportForm:
    """The wanted form, or that of the file's ending."""
    by_ending = FORMS.get(out.suffix.lower())
    if wanted == "hf" and by_ending is None:
        return wanted
    if by_ending is None:
        raise ConfigError(
            f"--out {out}: its ending does not tell how to write it",
            hint="Use .csv or .parquet as its ending, or give --to hf and the folder of the images.",
        )
    if wanted not in (None, by_ending):
        hint = "Give the folder of the images." if wanted == "hf" else "Leave out --to, or change the ending."
        raise ConfigError(f"--to {wanted} and --out {out} disagree", hint=hint)
    return by_ending


def _refuse_run_file(file: Path, run: RunFolder) -> None:
    """Stop where the run's own files would be replaced."""
    own = {part.name for part in (run.verdicts, run.history, run.model, run.config, run.run)}
    if file.name.lower() in own and file.parent.resolve().is_relative_to(run.path.resolve()):
        raise ConfigError(f"--out {file}: this is a file of the run itself", hint="Choose another --out.")


def _refuse_other_folder(folder: Path, paths: list[str | None]) -> None:
    """Stop where a folder does not hold the images of the paths."""
    hint = "Give the folder of the images, to which the paths are relative."
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder", hint=hint)
    missing = [path for path in paths if path is None or not (folder / path).is_file()]
    if missing:
        raise InputError(
            f"{folder}: {len(missing):,} of {len(paths):,} images are not there, the first is {missing[0]}", hint=hint
        )


def select(verdicts: pa.Table, selection: Selection) -> Selected:
    """Which rows of a run to export.

    Raises:
        InputError: no cut holds the wanted precision.
    """
    verdict = verdicts["verdict"].cast(pa.string()).to_numpy()
    # float32 would drift in sums over a million rows
    p_clean = verdicts["p_clean"].to_numpy().astype(np.float64)
    golden = is_golden(verdicts)
    if selection.budget is not None:
        rows = np.flatnonzero((verdict != UNREADABLE) & ~golden)
        return Selected(rows=rows[np.argsort(p_clean[rows], kind="stable")][: selection.budget])
    if selection.relabel:
        return _relabelled(verdicts, np.isin(verdict, selection.keep), verdict == REJECTED)
    if selection.precision is None:
        return _agreeing(verdicts, np.flatnonzero(np.isin(verdict, selection.keep)))
    rows = np.flatnonzero(verdict != UNREADABLE)
    p_meta = verdicts["p_meta"].to_numpy()[rows].astype(np.float64)
    above, cut = cut_at(p_meta, p_clean[rows], golden[rows], precision=selection.precision)
    selected = _agreeing(verdicts, rows[above])
    share = _expected_share(p_clean[selected.rows], golden[selected.rows])
    return dataclasses.replace(selected, cut=dataclasses.replace(cut, precision=share))


def _relabelled(verdicts: pa.Table, is_kept: BoolArray, is_rejected: BoolArray) -> Selected:
    """The kept rows, and all rejected rows for which another label than the given one is suggested."""
    is_other = pc.fill_null(pc.not_equal(verdicts["suggested_label"], verdicts["label"]), False).to_numpy()
    rows = np.flatnonzero(np.where(is_rejected, is_other, is_kept))
    return Selected(rows=rows, num_without_other=int((is_rejected & ~is_other).sum()))


def _agreeing(verdicts: pa.Table, rows: IntArray) -> Selected:
    """Of rows with the same picture only those with its likeliest label: that of the highest p_clean, or the first."""
    frame = verdicts.select(["duplicate_group", "label", "p_clean"]).take(pa.array(rows)).to_pandas()
    best_first = frame.sort_values("p_clean", ascending=False, kind="stable")
    likeliest = frame["duplicate_group"].map(best_first.groupby("duplicate_group")["label"].first())
    is_contradicted = np.asarray(likeliest.notna() & (frame["label"] != likeliest))
    return Selected(rows=rows[~is_contradicted], num_contradicted=int(is_contradicted.sum()))


def cut_at(p_meta: FloatArray, p_clean: FloatArray, is_golden: BoolArray, *, precision: float) -> tuple[BoolArray, Cut]:
    """As many rows as can be said to hold the precision, and how far that is sure.

    With golden rows a few cuts are tested, at even numbers of golden rows, and the widest that passes is taken. A cut
    passes when the lower confidence limit (Clopper-Pearson, with Bonferroni's correction for the number of cuts) of
    the share of right labels among its golden rows is at least the precision; that holds for the other rows as far as
    the golden ones are a random choice. Those of `labelclean golden` are not: uncertain rows are over-represented
    among them, so that fewer of them are right than of the others. The test is then conservative: the others hold
    more than the precision, and more of them might have been kept.
    Without golden rows the widest cut is taken at which the mean of p_clean is at least the precision.
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
    share = _expected_share(p_clean[kept], is_golden[kept])
    return kept, Cut(wanted=precision, precision=share, num_golden=num_golden, confidence=confidence)


def _expected_share(p_clean: FloatArray, is_golden: BoolArray) -> float:
    """Mean of p_clean without golden rows; 1 where there are no others."""
    return float(p_clean[~is_golden].mean()) if not is_golden.all() else 1.0


def _tested_cut(is_golden: BoolArray, is_right: BoolArray, precision: float) -> int:
    """How many of the rows, best first, golden rows allow to be kept; is_right counts where is_golden."""
    places = np.flatnonzero(is_golden)
    num_golden = np.unique(np.ceil(len(places) * np.arange(1, NUM_CUTS + 1) / NUM_CUTS).astype(int))
    num_right = np.cumsum(is_right[places])[num_golden - 1]
    limit = beta.ppf((1 - CONFIDENCE) / NUM_CUTS, num_right, num_golden - num_right + 1)
    limit = np.nan_to_num(limit)  # undefined where none is right
    passed = num_golden[limit >= precision]
    if not len(passed):
        raise InputError(
            f"{len(places):,} golden rows cannot show a precision of {precision:g}: "
            f"the highest that they show at any cut is {_rounded_down(limit.max())}",
            hint="Check more rows with `labelclean golden`, or ask for less with --precision.",
        )
    # all rows up to the next golden one
    return int(np.append(places, len(is_golden))[passed[-1]])


def _expected_cut(p_clean: FloatArray, precision: float) -> int:
    """How many of the rows, best first, may be kept by the mean of p_clean."""
    expected = np.cumsum(p_clean) / np.arange(1, len(p_clean) + 1)
    if expected.max(initial=0) < precision:
        raise InputError(
            f"no cut holds a precision of {precision:g}: "
            f"the highest that p_clean expects at any cut is {_rounded_down(expected.max(initial=0))}",
            hint="Ask for less with --precision, or check rows with `labelclean golden` and give them to the fit.",
        )
    return int(np.flatnonzero(expected >= precision)[-1]) + 1


def _rounded_down(share: float) -> str:
    """With three decimals, so that it can be asked for."""
    return f"{np.floor(1000 * share) / 1000:.3f}"


def _exported(verdicts: pa.Table, *, relabel: bool, path_name: str) -> pa.Table:
    """The columns to write; the label is the suggested one on rejected rows when those are relabelled.

    Columns that the index brought along come last; one whose name is taken gets the prefix `input_`.
    """
    columns = {name: verdicts[name] for name in SHOWN}
    for name in ("p_clean", "p_suggested"):
        columns[name] = pc.round(columns[name].cast(pa.float64()), NUM_DECIMALS)
    columns["verdict"] = columns["verdict"].cast(pa.string())
    if relabel:
        is_rejected = pc.equal(columns["verdict"], REJECTED)
        columns["given_label"] = columns["label"]
        columns["label"] = pc.if_else(is_rejected, columns["suggested_label"], columns["label"])
    main = pa.table({path_name: columns.pop("path"), **columns})
    return add_columns(main, verdicts.select([name for name in verdicts.column_names if name not in COLUMNS.names]))
