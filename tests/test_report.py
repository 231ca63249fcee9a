"""The summary of a run, from its files alone."""

from __future__ import annotations

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from labelclean.errors import RunFolderError
from labelclean.files import write_json
from labelclean.records import Estimate
from labelclean.rendering.summary import summary_view
from labelclean.results.report import (
    ClassLine,
    Confusion,
    Contradicted,
    Doubles,
    FaultLine,
    OffTopic,
    as_json,
    summarize,
)
from labelclean.results.run_folder import RunFolder, write_history
from labelclean.results.verdicts import verdict_table, write_verdicts
from tests.conftest import Run, make_findings, make_manifest


def test_verdicts_and_noise_rate(finished_run: RunFolder):
    summary = summarize(finished_run)
    assert summary.num_rows == 10
    assert summary.verdicts == {"certain_clean": 4, "purified": 1, "rejected": 3, "unreadable": 2}
    assert summary.noise == Estimate(value=0.25, low=0.2, high=0.3)
    assert summary.precision == Estimate(value=0.8, low=0.7, high=0.9)
    assert summary.recall == Estimate(value=0.6, low=0.5, high=0.75)
    assert summary.golden is None


def test_classes_come_worst_first_and_count_judged_rows_only(finished_run: RunFolder):
    cat, dog, owl = summarize(finished_run).classes
    noise = Estimate(value=pytest.approx(0.3), low=0.05, high=0.4)
    assert cat == ClassLine(label="cat", num_rows=3, num_rejected=1, noise=noise)
    assert (dog.label, dog.num_rows, dog.num_rejected) == ("dog", 4, 2)
    assert (owl.label, owl.num_rows, owl.num_rejected) == ("owl", 1, 0)


def test_confusions_count_rejected_rows(finished_run: RunFolder):
    assert summarize(finished_run).confusions == (
        Confusion(given="dog", suggested="cat", num_rows=2),
        Confusion(given="cat", suggested="dog", num_rows=1),
    )


def test_worst_rows_are_judged_ones_that_are_likelier_wrong_than_right(finished_run: RunFolder):
    worst = summarize(finished_run).worst
    assert [line.row for line in worst] == [2, 6, 5]
    assert (worst[0].path, worst[0].label, worst[0].suggested_label, worst[0].verdict) == (
        "2.png",
        "cat",
        "dog",
        "rejected",
    )


def test_no_class_is_named_where_none_is_likelier(finished_run: RunFolder, run: Run):
    """Row 2, a cat that is suggested to be a dog, shows neither."""
    verdicts = pq.read_table(finished_run.verdicts)
    chances = pa.array([0.0, 0.0, 0.99] + [0.0] * 5 + [None, None], pa.float32())
    verdicts = verdicts.set_column(verdicts.column_names.index("p_off_topic"), "p_off_topic", chances)
    write_verdicts(finished_run.verdicts, verdicts)
    summary = summarize(finished_run)
    assert summary.confusions == (Confusion(given="dog", suggested="cat", num_rows=2),)
    assert [line.suggested_label for line in summary.worst] == [None, "cat", "cat"]
    assert "cat     -" in run("report", finished_run.path)[1]


def test_worst_rows_are_none_that_a_golden_label_decided(finished_run: RunFolder):
    """Row 0 is golden and wrong; row 1 is likelier wrong than right."""
    for p_clean, rows in ((0.49, [1]), (0.5, [])):
        findings = make_findings(
            range(3),
            p_clean=np.array([0.9, p_clean, 0.9]),
            class_noise={label: Estimate(value=0.1, low=0, high=1) for label in range(2)},
        )
        manifest = make_manifest(["cat", "dog", "dog"], golden=["dog", None, None])
        write_verdicts(finished_run.verdicts, verdict_table(manifest, findings, {}, metadata={}))
        summary = summarize(finished_run)
        assert [line.row for line in summary.worst] == rows
        assert [line["row"] for line in as_json(summary)["worst"]] == rows
        terminal = Console(width=100, file=io.StringIO(), record=True)
        terminal.print(summary_view(summary))
        assert ("Most probably wrong" in terminal.export_text()) == bool(rows)


def test_guards_of_the_last_round_are_told_and_earlier_ones_counted(finished_run: RunFolder):
    summary = summarize(finished_run)
    assert summary.guards == ("too few rows",)
    assert summary.num_earlier_guards == 2
    write_history(finished_run, ())
    assert summarize(finished_run).guards == ()


def test_labels_that_the_model_contradicts_are_told(finished_run: RunFolder, run: Run):
    """Half of the rounds are no contradiction."""
    verdicts = pq.read_table(finished_run.verdicts)
    names = verdicts["verdict"].to_pylist()
    one_rejected = names.index("rejected")
    for rows, found in (
        ([], Contradicted(num_rows=0, num_rejected=0)),
        ([one_rejected], Contradicted(num_rows=1, num_rejected=1)),
        ([one_rejected, names.index("purified")], Contradicted(num_rows=2, num_rejected=1)),
    ):
        rates = pa.array([1.0 if row in rows else 0.5 for row in range(len(names))], pa.float32())
        place = verdicts.column_names.index("wrong_event_rate")
        write_verdicts(finished_run.verdicts, verdicts.set_column(place, "wrong_event_rate", rates))
        assert summarize(finished_run).contradicted == found
        out = " ".join(run("report", finished_run.path)[1].split())
        assert ("Labels that the model contradicts" in out) == (found.num_rows > found.num_rejected)
    assert "Labels that the model contradicts: 2, 1 of them rejected; the others may be" in out
    assert "which golden rows tell (`labelclean golden`)" in out


def test_pictures_of_none_of_the_classes_are_told(finished_run: RunFolder, run: Run):
    """Unreadable rows and half a picture do not count."""
    verdicts = pq.read_table(finished_run.verdicts)
    place = verdicts.column_names.index("p_off_topic")
    for chances, found in (
        ([0.3, 0.2], OffTopic(expected=pytest.approx(0.5), num_rows=0)),
        ([0.9, 0.8, 0.4], OffTopic(expected=pytest.approx(2.1), num_rows=2)),
    ):
        column = pa.array(chances + [0.0] * (8 - len(chances)) + [None, None], pa.float32())
        write_verdicts(finished_run.verdicts, verdicts.set_column(place, "p_off_topic", column))
        assert summarize(finished_run).off_topic == found
        out = " ".join(run("report", finished_run.path)[1].split())
        assert ("Pictures of none of the classes" in out) == (found.num_rows > 0)
    assert "Pictures of none of the classes: about 2; of 2 rows it is likelier than not (`p_off_topic`)" in out


def test_faults_and_doubles(finished_run: RunFolder):
    summary = summarize(finished_run)
    assert summary.faults == (
        FaultLine(kind="missing_file", num_rows=1, example="labels.csv row 8: 8.png: no such image."),
        FaultLine(kind="missing_label", num_rows=1, example="labels.csv row 9: no label."),
    )
    assert summary.doubles == Doubles(num_rows=4, num_groups=2, num_conflicting=0)


def test_cost_comes_from_run_json_and_may_be_missing(finished_run: RunFolder):
    cost = summarize(finished_run).cost
    assert (cost.backbone, cost.effort, cost.device, cost.seconds) == ("resnet10t", "quick", "cpu", 63.0)
    assert (cost.forward_passes, cost.backward_passes, cost.peak_memory_bytes) == (1200, 300, 2**30)
    write_json(finished_run.run, {})
    cost = summarize(finished_run).cost
    assert cost.backbone is cost.seconds is cost.forward_passes is None


def test_json_holds_plain_values(finished_run: RunFolder):
    content = json.loads(json.dumps(as_json(summarize(finished_run))))
    assert content["verdicts"]["rejected"] == 3
    assert content["worst"][0]["path"] == "2.png"
    assert [file.rsplit("/")[-1] for file in content["files"]] == [
        "verdicts.parquet",
        "history.parquet",
        "config.toml",
        "run.json",
    ]


def test_golden_rows_that_nobody_foresaw_are_listed(finished_run: RunFolder):
    """Rows 0, 1 and 3 contradict their label; the judge, not told, trusted rows 0 and 3 of these, and row 2."""
    manifest = make_manifest(["cat", "cat", "cat", "dog", "dog"], golden=["dog", "dog", "cat", "cat", None])
    findings = make_findings(
        range(5),
        p_meta=np.array([0.6, 0.2, 0.7, 0.9, 0.1]),
        class_noise={label: Estimate(value=0.1, low=0, high=1) for label in range(2)},
    )
    write_verdicts(finished_run.verdicts, verdict_table(manifest, findings, {}, metadata={}))
    golden = summarize(finished_run).golden
    assert golden is not None
    terminal = Console(width=80, file=io.StringIO(), record=True)
    terminal.print(summary_view(summarize(finished_run)))
    assert "are of what is rejected without them" in " ".join(terminal.export_text().split())
    assert (golden.num_rows, golden.num_contradicting, golden.num_foreseen) == (4, 3, 2)
    assert [(line.row, line.label, line.golden) for line in golden.surprises] == [(3, "dog", "cat"), (0, "cat", "dog")]

    terminal = Console(width=100, file=io.StringIO(), record=True)
    terminal.print(summary_view(summarize(finished_run)))
    shown = terminal.export_text()
    assert "3 of 4 contradict their label" in shown
    assert "judged 2 of 4 as they do" in shown
    listed = shown.split("Contradictions that were not foreseen")[1].split("\n\n")[0].splitlines()
    assert [line.split() for line in listed[-2:]] == [
        ["3", "3.png", "dog", "cat", "0.900"],
        ["0", "0.png", "cat", "dog", "0.600"],
    ]


def test_missing_file_is_named(finished_run: RunFolder):
    finished_run.history.unlink()
    with pytest.raises(RunFolderError, match=r"history\.parquet"):
        summarize(finished_run)


def test_total_time_is_not_counted_twice(finished_run: RunFolder):
    write_json(finished_run.run, {"timings": {"decode": 2.0, "rounds": 61.0, "total": 63.5}})
    assert summarize(finished_run).cost.seconds == 63.5
