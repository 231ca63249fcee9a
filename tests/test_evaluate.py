"""Verdicts against the truth: figures worked out by hand, undefined ones, and how rows are matched."""

from __future__ import annotations

import dataclasses
import io
import json

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from labelclean.errors import InputError
from labelclean.rendering.evaluation import evaluation_view
from labelclean.results.evaluate import Evaluation, as_json, calibration_error, evaluate
from labelclean.results.run_folder import RunFolder
from labelclean.results.verdicts import read_verdicts, verdict_table
from tests.conftest import make_findings, make_manifest


def truth_of(labels: list[str | None], **columns: list[str | None]) -> pa.Table:
    return pa.table({"path": [f"{row}.png" for row in range(len(labels))], "true_label": labels, **columns})


def shown(evaluation: Evaluation, *, width: int = 80) -> str:
    terminal = Console(width=width, file=io.StringIO(), record=True)
    terminal.print(evaluation_view(evaluation))
    return terminal.export_text()


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
    assert (result.noise_rate_true, result.noise_rate_estimated) == (pytest.approx(3 / 8), 0.25)  # without row 8
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
    assert (named.num_named, result.num_named) == (9, 8)


def test_space_around_labels_does_not_matter_but_other_spellings_are_told(finished_run: RunFolder):
    true: list[str | None] = ["cat", "owl", "dog", "dog", "dog", "owl", "dog", "owl", "cat", "cat"]
    verdicts = read_verdicts(finished_run.verdicts)
    plain = evaluate(verdicts, truth_of(true))
    assert evaluate(verdicts, truth_of([f" {label} " for label in true])) == plain
    assert plain.num_foreign == 0
    assert "spelt" not in shown(plain)
    other = evaluate(verdicts, truth_of([label if label != "owl" else "Owl" for label in true]))
    assert (other.num_foreign, "3 with a true label that no row is labelled with" in shown(other)) == (3, True)


def test_rows_of_one_path_keep_their_true_labels_where_some_are_not_known(finished_run: RunFolder):
    verdicts = read_verdicts(finished_run.verdicts)
    paths = pa.array(["0.png"] * 3 + [f"{row}.png" for row in range(3, 10)])
    doubled = verdicts.set_column(verdicts.column_names.index("path"), "path", paths)
    given = verdicts["label"].to_pylist()
    truth = pa.table({"path": ["0.png"] * 3, "true_label": [None, *given[1:3]]})
    result = evaluate(doubled, truth)
    assert (result.num_rows, result.num_wrong) == (2, 0)


@pytest.mark.parametrize(
    ("truth", "num_known"),
    [([None, "b"], 1), (["b", None], 1), (["a", "b"], 2), (["b"], 3), (["b", "b"], 3), ([None], 0)],
)
def test_row_of_a_blank_gets_no_truth_of_another_row(truth: list[str | None], num_known: int):
    """Of the three rows of x, beside one of y."""
    manifest = make_manifest(["a", "b", "b", "a"], paths=["x", "x", "x", "y"])
    table = verdict_table(manifest, make_findings(range(4)), {}, metadata={})
    known = pa.table({"path": [*["x"] * len(truth), "y"], "true_label": [*truth, "a"]})
    result = evaluate(table, known)
    assert (result.num_rows, result.num_without_truth) == (num_known + 1, 3 - num_known)


def test_terminal_says_over_which_rows_accuracies_are(finished_run: RunFolder):
    verdicts = read_verdicts(finished_run.verdicts)
    true: list[str | None] = ["cat", "owl", "dog", "dog", "dog", "owl", "dog", "owl", "cat", "cat"]
    text = shown(evaluate(verdicts, truth_of(true)))
    assert "accuracy after" in text
    assert "truth is not" not in text
    true[5] = "?"
    text = shown(evaluate(verdicts, truth_of(true)))
    assert "Corrections and accuracy are of the 8 rows whose truth is not `?`" in text
    assert "before: 62.5 %" in text
    for all_known in (["cat", "?", "?", "dog", "dog", "?", "dog", "owl", "owl"], ["?"] * 9):
        result = evaluate(verdicts, truth_of([*all_known, None]))
        assert result.accuracy_before == (None if all_known[0] == "?" else 1)
        text = shown(result)
        assert "ccuracy" not in text
        assert "orrections" not in text


def test_rows_that_a_golden_label_decided_are_left_out():
    """Rows 0, 1 and 4 are golden; of the truth of row 5 nothing is known."""
    manifest = make_manifest(["a", "a", "a", "b", "b", "b"], golden=["a", "b", None, None, "b", None])
    findings = make_findings(range(6), p_clean=np.array([0.1, 0.9, 0.6, 0.8, 0.5, 0.5]))
    table = verdict_table(manifest, findings, {}, metadata={})
    result = evaluate(table, truth_of(["a", "b", "b", "b", "b", None]))
    assert (result.num_rows, result.num_golden, result.num_without_truth) == (2, 3, 1)
    assert (result.num_wrong, result.num_rejected, result.num_named) == (1, 0, 2)
    # the estimate is of golden rows too, and so the truth: rows 1 and 2 of five
    assert (result.noise_rate_true, result.noise_rate_estimated) == (0.4, 0.25)
    # also where the truth does not name them
    assert evaluate(table, truth_of([None, None, None, "b", None, None])).noise_rate_true == 0.25
    assert (result.recall, result.auroc, result.accuracy_after) == (0, 1, 0.5)
    assert result.calibration_error == pytest.approx((0.6 + 0.2) / 2)
    assert as_json(result)["num_golden"] == 3
    assert "3 left out: decided by a golden label" in shown(result)
    assert "wrong labels, with golden rows; true: 40.0 %" in shown(result)
    assert "golden" not in shown(dataclasses.replace(result, num_golden=0))
    with pytest.raises(InputError, match="golden labels decided all rows"):
        evaluate(table, truth_of(["a", "b", None, None, "b", None]))
    blind = table.drop_columns(["reason"])
    found = evaluate(blind, truth_of(["a", "b", "b", "b", "b", None]))
    assert (found.num_rows, found.num_golden) == (5, 0)


def test_terminal_of_80_columns_is_wide_enough(finished_run: RunFolder):
    result = evaluate(read_verdicts(finished_run.verdicts), truth_of(["cat"] * 9 + [None]))
    shares = {name: 1.0 for name, value in as_json(result).items() if not isinstance(value, int)}
    counts = {name: 10_000_000 for name, value in as_json(result).items() if isinstance(value, int)}
    largest = dataclasses.replace(result, **{**shares, **counts, "num_named": 9_999_999, "accuracy_before": 0.9999})
    narrow, wide = ([line.rstrip() for line in shown(largest, width=width).splitlines()] for width in (80, 200))
    assert [line for line in narrow if set(line) != {"─"}] == [line for line in wide if set(line) != {"─"}]
    assert "Corrections and accuracy are of the 9,999,999 rows whose truth is not `?`" in narrow
    assert "left out" not in shown(dataclasses.replace(result, num_without_truth=0))


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


@pytest.mark.parametrize(
    ("paths", "truth", "is_refused"),
    [
        (["x", "y"], ["a", "b"], True),
        (["x", "y"], ["a", "a"], False),
        (["x", "x"], ["a", "b"], False),
        (["x", "x"], ["a", "b", "a"], True),
        (["y", "z"], ["a", "b"], False),
    ],
)
def test_truth_that_contradicts_itself_is_refused(paths: list[str], truth: list[str], is_refused: bool):
    """The truth has labels of x, and one of y; it may have as many labels of a path as there are rows of it."""
    table = verdict_table(make_manifest(["a", "b"], paths=paths), make_findings([0, 1]), {}, metadata={})
    known = pa.table({"path": ["x"] * len(truth) + ["y"], "true_label": [*truth, "b"]})
    if is_refused:
        with pytest.raises(InputError, match=r"truth\.csv: x has the true labels a and b"):
            evaluate(table, known, source="truth.csv")
    else:
        evaluate(table, known)


def test_truth_in_other_words_is_refused():
    table = verdict_table(make_manifest(["dog", "cat"]), make_findings([0, 1]), {}, metadata={})
    with pytest.raises(InputError, match=r"no true label is a class of the run: 'chat' is none, 'cat' is one"):
        evaluate(table, truth_of(["chien", "chat"]))
    assert evaluate(table, truth_of(["chien", "cat"])).num_wrong == 1
    assert evaluate(table, truth_of(["?", "?"])).num_wrong == 2


def test_rows_without_truth_are_left_out():
    table = verdict_table(make_manifest(["a", "b", "a"]), make_findings(range(3)), {}, metadata={})
    result = evaluate(table, truth_of(["a", None, "b"]))
    assert (result.num_rows, result.num_wrong, result.num_without_truth) == (2, 1, 1)


def test_column_true_label_wins_over_label():
    table = verdict_table(make_manifest(["a", "b"]), make_findings([0, 1]), {}, metadata={})
    assert evaluate(table, truth_of(["b", "a"], label=["a", "b"])).num_wrong == 2


def test_truth_that_fits_nothing_is_refused():
    table = verdict_table(make_manifest(["a", "b"]), make_findings([0, 1]), {}, metadata={})
    with pytest.raises(InputError, match=r"truth\.csv: no path with a true label"):
        evaluate(table, pa.table({"path": ["other"], "truth": ["a"]}), source="truth.csv")
    with pytest.raises(InputError, match="no true label column"):
        evaluate(table, pa.table({"path": ["0.png"], "size": ["a"]}))
    unfilled = pa.table({"path": ["0.png"], "label": ["a"], "chance": ["0.1"], "golden": [""]})
    with pytest.raises(InputError, match="no true label in column golden"):
        evaluate(table, unfilled)
    with pytest.raises(InputError, match="labels are the given ones, as its column chance tells"):
        evaluate(table, unfilled.drop_columns("golden"))


def test_calibration_error_of_known_cases():
    assert calibration_error(np.array([1.0, 0.0]), np.array([True, False])) == 0
    assert calibration_error(np.array([0.75] * 4), np.array([True, True, True, False])) == 0
    assert calibration_error(np.array([0.9, 0.9, 0.1, 0.1]), np.array([True, False, False, False])) == pytest.approx(
        0.25
    )
