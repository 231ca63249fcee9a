"""Verdicts against the truth: figures worked out by hand, undefined ones, and how rows are matched."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pytest

from labelclean.errors import InputError
from labelclean.results.evaluate import as_json, calibration_error, evaluate
from labelclean.results.run_folder import RunFolder
from labelclean.results.verdicts import read_verdicts, verdict_table
from tests.conftest import make_findings, make_manifest


def truth_of(labels: list[str | None], **columns: list[str | None]) -> pa.Table:
    return pa.table({"path": [f"{row}.png" for row in range(len(labels))], "true_label": labels, **columns})


def test_figures_of_a_run(finished_run: RunFolder):
    """Rows 2, 5 and 6 are rejected; of the labels 1, 2, 5 and 8 are wrong; row 8 is unreadable, row 9 has no label."""
    true = ["cat", "owl", "dog", "dog", "dog", "owl", "dog", "owl", "cat", "cat"]
    result = evaluate(read_verdicts(finished_run.verdicts), truth_of(true))
    assert (result.num_rows, result.num_without_truth, result.num_unreadable) == (9, 1, 1)
    assert (result.num_wrong, result.num_rejected) == (4, 3)
    assert result.precision == pytest.approx(2 / 3)
    assert result.recall == pytest.approx(2 / 4)
    assert result.f1 == pytest.approx(4 / 7)
    assert (result.certain_share, result.certain_purity) == (pytest.approx(4 / 9), 1)
    assert (result.purified_share, result.purified_purity) == (pytest.approx(1 / 9), 0)
    assert result.correction_accuracy == pytest.approx(1 / 2)
    assert result.accuracy_before == pytest.approx(5 / 9)
    assert result.accuracy_after == pytest.approx(5 / 9)
    assert (result.noise_rate_true, result.noise_rate_estimated) == (pytest.approx(4 / 9), 0.25)
    # p_clean of the wrong labels: .05, .4, .7, .75 (the prior); of the right ones: .1, .8, .9, .95, .99
    assert result.auroc == pytest.approx(17 / 20)
    assert result.average_precision == pytest.approx((1 + 2 / 3 + 3 / 4 + 4 / 5) / 4)


def test_a_label_known_to_be_wrong_counts_but_says_nothing_about_corrections(finished_run: RunFolder):
    """Rows 2 and 5 are wrong and rejected; of row 5, with a wrong suggestion, the right label is not known any more."""
    true = ["cat", "owl", "dog", "dog", "dog", "owl", "dog", "owl", "cat", "cat"]
    named = evaluate(read_verdicts(finished_run.verdicts), truth_of(true))
    true[5] = "?"
    result = evaluate(read_verdicts(finished_run.verdicts), truth_of(true))
    assert result.f1 == named.f1
    assert result.noise_rate_true == named.noise_rate_true
    assert (result.correction_accuracy, result.accuracy_after) == (1, pytest.approx(5 / 8))


def test_undefined_figures_are_none():
    table = verdict_table(make_manifest(["a", "b"]), make_findings([0, 1]), {}, metadata={})
    result = evaluate(table, truth_of(["a", "b"]))
    undefined = {name for name, value in dataclasses.asdict(result).items() if value is None}
    assert undefined == {
        "precision",
        "recall",
        "f1",
        "average_precision",
        "auroc",
        "purified_purity",
        "correction_accuracy",
    }
    assert json.loads(json.dumps(as_json(result)))["f1"] is None


def test_doubled_paths_are_matched_in_order():
    manifest = make_manifest(["a", "b", "a", None], paths=["x", "x", "y", None])
    table = verdict_table(manifest, make_findings([0, 1, 2]), {}, metadata={})
    truth = pa.table({"file_name": ["x", "y", "x"], "true_label": ["a", "b", "a"]})
    result = evaluate(table, truth)
    assert (result.num_rows, result.num_wrong, result.num_without_truth) == (3, 2, 1)


def test_truth_named_once_holds_for_every_row_of_a_path():
    manifest = make_manifest(["a", "b"], paths=["x", "x"])
    table = verdict_table(manifest, make_findings([0, 1]), {}, metadata={})
    result = evaluate(table, pa.table({"path": ["x"], "label": ["a"]}))
    assert (result.num_rows, result.num_wrong) == (2, 1)


def test_rows_without_truth_are_left_out():
    table = verdict_table(make_manifest(["a", "b", "a"]), make_findings(range(3)), {}, metadata={})
    result = evaluate(table, truth_of(["a", None, "b"]))
    assert (result.num_rows, result.num_wrong, result.num_without_truth) == (2, 1, 1)


def test_column_true_label_wins_over_label():
    table = verdict_table(make_manifest(["a", "b"]), make_findings([0, 1]), {}, metadata={})
    assert evaluate(table, truth_of(["b", "a"], label=["a", "b"])).num_wrong == 2


def test_truth_that_fits_nothing_is_refused():
    table = verdict_table(make_manifest(["a", "b"]), make_findings([0, 1]), {}, metadata={})
    with pytest.raises(InputError, match=r"truth\.csv: none of its paths"):
        evaluate(table, pa.table({"path": ["other"], "truth": ["a"]}), source="truth.csv")
    with pytest.raises(InputError, match="no true label column"):
        evaluate(table, pa.table({"path": ["0.png"], "size": ["a"]}))


def test_calibration_error_of_known_cases():
    assert calibration_error(np.array([1.0, 0.0]), np.array([True, False])) == 0
    assert calibration_error(np.array([0.75] * 4), np.array([True, True, True, False])) == 0
    assert calibration_error(np.array([0.9, 0.9, 0.1, 0.1]), np.array([True, False, False, False])) == pytest.approx(
        0.25
    )
