"""The cleaned index of a run, or its worst rows, for the pipelines downstream.

# N rows of the index
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelclean.config import ExportForm
from labelclean.errors import ConfigError, InputError
from labelclean.files import refuse_to_replace, write_csv, write_parquet
from labelclean.records import BoolArray, IntArray
from labelclean.results.cuts import Cut, cut_at, expected_share
from labelclean.results.run_folder import RunFolder, open_run
from labelclean.results.verdicts import (
    CERTAIN_CLEAN,
    COLUMNS,
    NUM_DECIMALS,
    PURIFIED,
    REJECTED,
    VERDICTS,
    add_columns,
    is_golden,
    is_judged,
    read_verdicts,
)

KEPT = (CERTAIN_CLEAN, PURIFIED)
"""Verdicts whose rows are exported unless told otherwise."""

FORMS: dict[str, ExportForm] = {".csv": "csv", ".parquet": "parquet"}
"""How a file is written, by its ending."""

SHOWN = ("path", "label", "verdict", "p_clean", "suggested_label", "p_suggested")
"""Columns of the verdict file that are exported, beside those that the index brought along."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """Which rows are exported.

    Attributes:
        keep: rows with these verdicts.
        relabel: rejected rows too, with their suggested label, where that is likelier than the given one.
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
            cause = f"{', '.join(unknown)} is no verdict" if unknown else "it names no verdict"
            raise ConfigError(f"--keep: {cause}", hint=f"Choose among {', '.join(VERDICTS)}.")
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
class Selected:
    """Rows that were selected.

    Attributes:
        rows: their positions, in the order in which they are written.
        cut: for a wanted precision; None otherwise.
        num_contradicted: left out because another label of the same picture is likelier.
        num_without_better: rejected rows that were to be relabelled, left out because it is likelier that the given
            label is right, or that the picture shows none of the classes, than another label.
    """

    rows: IntArray
    cut: Cut | None = None
    num_contradicted: int = 0
    num_without_better: int = 0


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
        decided = "Each row is unreadable or has a golden label: there is none left to look at."
        hint = "Choose other verdicts with --keep." if selection.budget is None else decided
        raise InputError("no row is selected: the export would be empty", hint=hint)
    kept = verdicts.take(pa.array(selected.rows))
    if form == "hf":
        _refuse_other_folder(out, kept["path"].to_pylist())
        kept = _with_paths_within(out, kept)
    table = _exported(kept, relabel=selection.relabel, path_name="file_name" if form == "hf" else "path")
    num_relabelled = pc.sum(pc.not_equal(table["label"], kept["label"])).as_py() or 0
    if form == "parquet":
        write_parquet(file, table)
    else:
        write_csv(file, table)
    return Exported(file=file, num_rows=verdicts.num_rows, num_relabelled=num_relabelled, selected=selected)


def _form_of(out: Path, wanted: ExportForm | None) -> ExportForm:
    """The wanted form, or that of the file's ending."""
    by_ending = FORMS.get(out.suffix.lower())
    if wanted is not None and by_ending is None:
        return wanted
    if by_ending is None:
        raise ConfigError(
            f"--out {out}: its ending does not tell how to write it",
            hint="Use .csv or .parquet as its ending, or give --to; for --to hf, --out is the folder of the images.",
        )
    if wanted not in (None, by_ending):
        hint = "Give the folder of the images." if wanted == "hf" else "Leave out --to, or change the ending."
        raise ConfigError(f"--to {wanted} and --out {out} disagree", hint=hint)
    return by_ending


def _refuse_run_file(file: Path, run: RunFolder) -> None:
    """Stop where the run's own files would be replaced."""
    if file.name.lower() in {own.name for own in run.files} and file.parent.resolve().is_relative_to(
        run.path.resolve()
    ):
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


def _with_paths_within(folder: Path, rows: pa.Table) -> pa.Table:
    """Rows whose paths begin in the folder and have no `./` and `../` in them: Hugging Face compares them as text.

    Raises:
        InputError: an image lies outside the folder.
    """
    given = rows["path"].to_pylist()
    within = [Path(os.path.relpath(folder / path, folder)).as_posix() for path in given]
    outside = [path for path, plain in zip(given, within, strict=True) if plain.startswith("../")]
    if outside:
        raise InputError(
            f"{folder}: {len(outside):,} of {len(given):,} images lie outside of it, the first is {outside[0]}",
            hint="Hugging Face reads images below the folder only: move them there, or give --out FILE.csv.",
        )
    return rows.set_column(rows.column_names.index("path"), "path", pa.array(within, pa.string()))


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
        rows = np.flatnonzero(is_judged(verdicts) & ~golden)
        return Selected(rows=rows[np.argsort(p_clean[rows], kind="stable")][: selection.budget])
    if selection.relabel:
        return _relabelled(verdicts, np.isin(verdict, selection.keep), verdict == REJECTED)
    if selection.precision is None:
        return _agreeing(verdicts, np.flatnonzero(np.isin(verdict, selection.keep)))
    rows = np.flatnonzero(is_judged(verdicts))
    p_meta = verdicts["p_meta"].to_numpy()[rows].astype(np.float64)
    above, cut = cut_at(p_meta, p_clean[rows], golden[rows], precision=selection.precision)
    selected = _agreeing(verdicts, rows[above])
    share = expected_share(p_clean[selected.rows], golden[selected.rows])
    return dataclasses.replace(selected, cut=dataclasses.replace(cut, precision=share))


def _relabelled(verdicts: pa.Table, is_kept: BoolArray, is_rejected: BoolArray) -> Selected:
    """The kept rows, and the rejected rows for which another label is likelier than the given one, and than none."""
    is_other = pc.not_equal(verdicts["suggested_label"], verdicts["label"])
    is_likelier = pc.greater(verdicts["p_suggested"], pc.max_element_wise(verdicts["p_clean"], verdicts["p_off_topic"]))
    is_better = pc.fill_null(pc.and_(is_other, is_likelier), False).to_numpy()
    written = verdicts.select(["duplicate_group"]).append_column("label", _relabel(verdicts, is_rejected))
    written = written.append_column(
        "p_clean", pc.if_else(pa.array(is_rejected), verdicts["p_suggested"], verdicts["p_clean"])
    )
    agreeing = _agreeing(written, np.flatnonzero(np.where(is_rejected, is_better, is_kept)))
    return dataclasses.replace(agreeing, num_without_better=int((is_rejected & ~is_better).sum()))


def _relabel(verdicts: pa.Table, is_rejected: BoolArray) -> pa.ChunkedArray:
    """The given labels, on rejected rows the suggested ones."""
    return pc.if_else(pa.array(is_rejected), verdicts["suggested_label"], verdicts["label"])


def _agreeing(verdicts: pa.Table, rows: IntArray) -> Selected:
    """Of rows with the same picture only those with its likeliest label: that of the highest p_clean, or the first."""
    frame = verdicts.select(["duplicate_group", "label", "p_clean"]).take(pa.array(rows)).to_pandas()
    best_first = frame.sort_values("p_clean", ascending=False, kind="stable")
    likeliest = frame["duplicate_group"].map(best_first.groupby("duplicate_group")["label"].first())
    is_contradicted = np.asarray(likeliest.notna() & (frame["label"] != likeliest))
    return Selected(rows=rows[~is_contradicted], num_contradicted=int(is_contradicted.sum()))


def _exported(verdicts: pa.Table, *, relabel: bool, path_name: str) -> pa.Table:
    """The columns to write; label and p_clean are the suggested ones on rejected rows when those are relabelled.

    Columns that the index brought along come last; one whose name is taken gets the prefix `input_`.
    """
    columns = {name: verdicts[name] for name in SHOWN}
    for name in ("p_clean", "p_suggested"):
        columns[name] = pc.round(columns[name].cast(pa.float64()), NUM_DECIMALS)
    columns["verdict"] = columns["verdict"].cast(pa.string())
    if relabel:
        is_rejected = columns["verdict"].to_numpy() == REJECTED
        columns["given_label"] = columns["label"]
        columns["label"] = _relabel(verdicts, is_rejected)
        columns["p_clean"] = pc.if_else(pa.array(is_rejected), columns["p_suggested"], columns["p_clean"])
    main = pa.table({path_name: columns.pop("path"), **columns})
    return add_columns(main, verdicts.select([name for name in verdicts.column_names if name not in COLUMNS.names]))
