"""How good the verdicts of a run are, where the true labels are known.

# N rows whose true label is known
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from labelclean.data.columns import GOLDEN_NAME, PATH_NAMES, TRUTH_NAMES
from labelclean.data.golden import trusted_column
from labelclean.data.tables import as_strings, find_column
from labelclean.errors import InputError
from labelclean.records import NO_CLASS, BoolArray, FloatArray
from labelclean.results.verdicts import (
    CERTAIN_CLEAN,
    PURIFIED,
    REJECTED,
    UNREADABLE,
    is_golden,
    is_judged,
    read_metadata,
)

NUM_BINS = 15


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """Figures in [0, 1]; None where a figure is not defined, as the precision when nothing was rejected.

    Attributes:
        num_rows: rows that have a label and a true label, and no golden label; all figures but the noise rates are
            about these.
        num_without_truth: rows left out because no true label, or no label, is known.
        num_golden: rows left out because a golden label decided them.
        num_foreign: rows whose true label no row of the run is labelled with; their label counts as wrong.
        num_named: rows whose true label has a name and is not `?`.
        num_unreadable: rows that could not be judged; they count as not rejected.
        num_wrong: rows whose label is not the true one.
        num_rejected: rows rejected.
        precision, recall, f1: of `rejected` as the mark of a wrong label.
        average_precision, auroc: of 1 - p_clean as a ranking of wrong labels.
        certain_share, certain_purity: share of rows that are certain_clean, and of right labels among them.
        purified_share, purified_purity: the same for purified.
        correction_accuracy: share of the rejected wrong labels whose suggestion is the true label.
        accuracy_before, accuracy_after: share of right labels as given, and with the suggestion on rejected rows,
            both among the rows whose true label has a name.
        calibration_error: expected calibration error of p_clean, 15 bins of equal width.
        noise_rate_true, noise_rate_estimated: share of wrong labels among the judged rows whose true label or golden
            label is known, and in all judged rows as the run estimated it.
    """

    num_rows: int
    num_without_truth: int
    num_golden: int
    num_foreign: int
    num_named: int
    num_unreadable: int
    num_wrong: int
    num_rejected: int
    precision: float | None
    recall: float | None
    f1: float | None
    average_precision: float | None
    auroc: float | None
    certain_share: float
    certain_purity: float | None
    purified_share: float
    purified_purity: float | None
    correction_accuracy: float | None
    accuracy_before: float | None
    accuracy_after: float | None
    calibration_error: float
    noise_rate_true: float | None
    noise_rate_estimated: float


def evaluate(verdicts: pa.Table, truth: pa.Table, *, source: str = "truth") -> Evaluation:
    """Compare verdicts with true labels, matched by path.

    A path that is there several times is matched in the order of its rows; one to which the truth gives one label, and
    nowhere a blank, every time.

    Args:
        verdicts: a verdict file's content; where it has no column `reason`, no row is golden.
        truth: a table with paths and true labels, in a column `true_label`, `truth`, `golden` or a usual label name;
            `?` where a label is known to be wrong, but not what would be right.
        source: how messages name the truth.
    Raises:
        InputError: the truth lacks a column or any label, holds the given labels as labelclean wrote them, contradicts
            itself, none of its paths is among the verdicts, none of its labels is a class of theirs, or golden labels
            decided all rows that it knows.
    """
    true_labels = _true_labels(verdicts["path"].to_pylist(), truth, source)
    has_truth = true_labels.notna().to_numpy() & verdicts["label"].is_valid().to_numpy()
    golden = is_golden(verdicts) if "reason" in verdicts.column_names else np.zeros(len(has_truth), dtype=bool)
    known = has_truth & ~golden
    classes = set(_stripped(pc.unique(verdicts["label"].drop_null())))
    _refuse_other_classes(true_labels[has_truth], classes, source)
    if not known.any():
        raise InputError(
            f"{source}: golden labels decided all rows whose truth it knows", hint="Give the truth of other rows too."
        )
    matches = _stripped(verdicts["label"]) == true_labels.to_numpy()
    frame = verdicts.select(["verdict", "p_clean"]).to_pandas()[known]
    true, is_right = true_labels[known].to_numpy(), matches[known]
    is_corrected = _stripped(verdicts["suggested_label"])[known] == true
    figures = _figures(frame["verdict"].to_numpy(), is_right, is_corrected, true != NO_CLASS)
    return Evaluation(
        num_without_truth=int((~has_truth & ~golden).sum()),
        num_golden=int(golden.sum()),
        num_foreign=int((~pd.Series(true).isin(classes | {NO_CLASS})).sum()),
        noise_rate_true=_noise_rate(verdicts, matches, has_truth, golden),
        noise_rate_estimated=json.loads(read_metadata(verdicts)["noise_rate"])[0],
        **figures,
        **_ranking(frame["p_clean"].to_numpy(dtype=np.float64), is_right),
    )


def _noise_rate(verdicts: pa.Table, matches: BoolArray, has_truth: BoolArray, golden: BoolArray) -> float | None:
    """Share of wrong labels among the judged rows of which it is known, by the truth or by a golden label."""
    p_clean = verdicts["p_clean"].to_numpy()  # 0 or 1 in golden rows
    is_right = np.where(has_truth, matches, p_clean > 0.5)
    return _mean(~is_right[(has_truth | golden) & is_judged(verdicts)])


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """The evaluation as a plain dict."""
    return dataclasses.asdict(evaluation)


def _true_labels(paths: list[str | None], truth: pa.Table, source: str) -> pd.Series[Any]:
    """The true label of each row, missing where it is not known."""
    path_name = find_column(truth, None, PATH_NAMES, what="path", source=source, remedy="call one path")
    label_name = trusted_column(truth, (*TRUTH_NAMES, GOLDEN_NAME), what="true label", source=source)
    known = pd.DataFrame(
        {"path": as_strings(truth[path_name]).to_pylist(), "true": _stripped(as_strings(truth[label_name]))}
    )
    if known["true"].isna().all():
        raise InputError(f"{source}: no true label in column {label_name}", hint="Fill in those that you know.")
    known["nth"] = known.groupby("path").cumcount()  # of all rows: the first may be one whose truth is not known
    num_labels = known.groupby("path")["true"].nunique(dropna=False)  # a blank is another one
    known = known.dropna()
    rows = pd.DataFrame({"path": paths})
    rows["nth"] = rows.groupby("path").cumcount()
    _refuse_contradictions(known, rows["path"].value_counts(), source)
    by_order = rows.merge(known, on=["path", "nth"], how="left")["true"].astype(object)
    single = known[known["path"].map(num_labels) == 1].drop_duplicates("path").set_index("path")["true"]
    return by_order.where(by_order.notna(), rows["path"].map(single.to_dict()))


def _stripped(labels: pa.ChunkedArray) -> NDArray[Any]:
    """Labels without the space around them, which golden labels may have too, (N,)."""
    return np.asarray(pc.utf8_trim_whitespace(labels.cast(pa.string())).to_pandas(), dtype=object)


def _refuse_contradictions(known: pd.DataFrame, num_rows: pd.Series[int], source: str) -> None:
    """Stop at a path that has more true labels than rows, and not the same ones."""
    spare = known["path"][known["nth"] >= known["path"].map(num_rows)]
    labels = known[known["path"].isin(spare)].groupby("path", sort=False)["true"].unique()
    for path, several in labels[labels.map(len) > 1].items():
        raise InputError(
            f"{source}: {path} has the true labels {several[0]} and {several[1]}", hint="Keep the right one."
        )


def _refuse_other_classes(true_labels: pd.Series[Any], classes: set[str], source: str) -> None:
    """Stop where no true label is there, or none is a class of the run."""
    if not len(true_labels):
        raise InputError(
            f"{source}: no path with a true label is in the verdict file",
            hint="Name images as in the index, same spelling.",
        )
    named = set(true_labels) - {NO_CLASS}
    if named and not named & classes:
        raise InputError(
            f"{source}: no true label is a class of the run: {min(named)!r} is none, {min(classes)!r} is one",
            hint="Name classes as in the index, same spelling.",
        )


def _figures(verdict: Any, is_right: BoolArray, is_corrected: BoolArray, is_named: BoolArray) -> dict[str, Any]:
    """What depends on verdicts and suggestions; only rows whose true label has a name say whether a suggestion fits."""
    rejected, certain, purified = (verdict == name for name in (REJECTED, CERTAIN_CLEAN, PURIFIED))
    caught = int((rejected & ~is_right).sum())
    num_wrong, num_rejected = int((~is_right).sum()), int(rejected.sum())
    return {
        "num_rows": len(is_right),
        "num_named": int(is_named.sum()),
        "num_unreadable": int((verdict == UNREADABLE).sum()),
        "num_wrong": num_wrong,
        "num_rejected": num_rejected,
        "precision": _share(caught, num_rejected),
        "recall": _share(caught, num_wrong),
        "f1": _share(2 * caught, num_wrong + num_rejected),
        "certain_share": float(certain.mean()),
        "certain_purity": _mean(is_right[certain]),
        "purified_share": float(purified.mean()),
        "purified_purity": _mean(is_right[purified]),
        "correction_accuracy": _mean(is_corrected[rejected & ~is_right & is_named]),
        "accuracy_before": _mean(is_right[is_named]),
        "accuracy_after": _mean(np.where(rejected, is_corrected, is_right)[is_named]),
    }


def _ranking(p_clean: FloatArray, is_right: BoolArray) -> dict[str, Any]:
    """What depends on p_clean."""
    both = 0 < is_right.sum() < len(is_right)
    return {
        "average_precision": float(average_precision_score(~is_right, -p_clean)) if both else None,
        "auroc": float(roc_auc_score(~is_right, -p_clean)) if both else None,
        "calibration_error": calibration_error(p_clean, is_right),
    }


def calibration_error(p_clean: FloatArray, is_right: BoolArray) -> float:
    """Mean distance between probability and share of right labels, over bins of equal width weighted by their rows."""
    bins = np.clip((p_clean * NUM_BINS).astype(int), 0, NUM_BINS - 1)
    surplus = np.bincount(bins, weights=p_clean - is_right, minlength=NUM_BINS)
    return float(np.abs(surplus).sum() / len(p_clean))


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _mean(values: BoolArray) -> float | None:
    return float(values.mean()) if len(values) else None
