"""The verdict file: its rows, columns, reasons and metadata, and that it is written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import labelclean
from labelclean.config import FitConfig
from labelclean.errors import ResourceError, RunFolderError
from labelclean.files import write_atomically
from labelclean.records import Estimate, Fault
from labelclean.results.run_folder import RunFolder
from labelclean.results.verdicts import COLUMNS, provenance, read_metadata, read_verdicts, verdict_table, write_verdicts
from tests.conftest import make_findings, make_manifest

EVIDENCE = [
    "p_suggested",
    "p_loss",
    "p_feature",
    "p_meta",
    "p_off_topic",
    "loss",
    "margin",
    "knn_agreement",
    "wrong_event_rate",
    "outlier_score",
]


def test_streams_and_purification_decide_the_verdict():
    manifest = make_manifest(["a", "a", "b", "b"])
    findings = make_findings(range(4), bins=np.array([0, 2, 1, 2]), p_clean=np.array([0.1, 0.9, 0.2, 0.1]))
    table = verdict_table(manifest, findings, {}, metadata={})
    assert table["verdict"].to_pylist() == ["certain_clean", "purified", "rejected", "rejected"]
    assert table["reason"].to_pylist() == [
        "streams_agree_clean",
        "msp_accepted",
        "streams_agree_noisy",
        "msp_declined",
    ]
    assert table["division"].to_pylist() == ["certain_positive", "uncertain", "certain_negative", "uncertain"]


def test_golden_label_overrules_all_evidence():
    manifest = make_manifest(["a", "a", "b"], golden=["a", "c", None])
    findings = make_findings(range(3), bins=np.array([1, 0, 0]), suggested_ids=np.array([1, 0, 0]))
    table = verdict_table(manifest, findings, {}, metadata={})
    assert table["verdict"].to_pylist() == ["certain_clean", "rejected", "certain_clean"]
    assert table["reason"].to_pylist() == ["golden_confirms", "golden_contradicts", "streams_agree_clean"]
    assert table["suggested_label"].to_pylist() == ["a", "c", "a"]
    assert table["p_suggested"].to_pylist()[:2] == [1, 1]
    assert table["p_clean"].to_pylist() == pytest.approx([1, 0, 0.9])
    assert table["division"].to_pylist()[0] == "certain_negative"


def test_a_golden_label_that_only_refutes_suggests_nothing():
    """Nor does it say that the picture shows a class."""
    manifest = make_manifest(["a", "b", "b"], golden=["?", "b", None])
    findings = make_findings(range(3), p_off_topic=np.array([0.3, 0.3, 0.3]))
    table = verdict_table(manifest, findings, {}, metadata={})
    assert table["reason"].to_pylist() == ["golden_contradicts", "golden_confirms", "streams_agree_clean"]
    assert table["p_clean"].to_pylist() == pytest.approx([0, 1, 0.9])
    assert table["suggested_label"].to_pylist() == [None, "b", "a"]
    assert table["p_suggested"].to_pylist() == pytest.approx([None, 1, 0.9])
    assert table["p_off_topic"].to_pylist() == pytest.approx([0.3, 0, 0.3])


def test_unreadable_rows_stay_in_their_place_with_the_prior():
    faults = {
        0: Fault(kind="missing_label", message="row 0: no label"),
        2: Fault(kind="truncated", message="row 2: truncated"),
    }
    findings = make_findings([1], noise=Estimate(value=0.25, low=0.2, high=0.3))
    table = verdict_table(make_manifest([None, "a", "b"]), findings, faults, metadata={})
    assert table["row"].to_pylist() == [0, 1, 2]
    assert table["label"].to_pylist() == [None, "a", "b"]
    assert table["verdict"].to_pylist() == ["unreadable", "certain_clean", "unreadable"]
    assert table["reason"].to_pylist() == ["missing_label", "streams_agree_clean", "truncated"]
    assert table["error"].to_pylist() == ["row 0: no label", None, "row 2: truncated"]
    assert table["p_clean"].to_pylist() == pytest.approx([0.75, 0.9, 0.75])
    for name in (*EVIDENCE, "suggested_label", "division", "duplicate_group"):
        assert [value is None for value in table[name].to_pylist()][::2] == [True, True], name


def test_nothing_readable_still_gives_every_row():
    faults = {row: Fault(kind="missing_file", message="gone") for row in range(3)}
    table = verdict_table(make_manifest(["a", "b", "a"]), make_findings([]), faults, metadata={})
    assert table["verdict"].to_pylist() == ["unreadable"] * 3
    assert table["p_clean"].null_count == 0


def test_nan_becomes_null_and_groups_stay_whole_numbers():
    findings = make_findings(range(2), p_meta=np.array([np.nan, 0.5]), duplicate_group=np.array([-1, 3]))
    table = verdict_table(make_manifest(["a", "b"]), findings, {}, metadata={})
    assert table["p_meta"].to_pylist() == [None, 0.5]
    assert table["duplicate_group"].to_pylist() == [None, 3]


def test_columns_are_the_documented_ones_then_those_of_the_index():
    manifest = make_manifest(["a"], extra={"verdict": ["mine"], "input_verdict": ["older"], "size": [3]})
    table = verdict_table(manifest, make_findings([0]), {}, metadata={})
    assert table.schema.names == [*COLUMNS.names, "input_verdict", "input_input_verdict", "size"]
    assert table.schema.types[: len(COLUMNS)] == COLUMNS.types
    assert table["input_verdict"].to_pylist() == ["mine"]
    assert table["verdict"].to_pylist() == ["certain_clean"]


def test_metadata_describes_the_run():
    findings = make_findings(
        [0, 1],
        class_noise={1: Estimate(value=0.2, low=0.1, high=0.3)},
        recall=Estimate(value=0.5, low=0.4, high=0.6),
        p_clean=np.array([0.1, 0.55]),
        cut=0.55,
    )
    table = verdict_table(
        make_manifest(["ä", "b"]), findings, {}, metadata=provenance(FitConfig(seed=7), fingerprint="f00")
    )
    metadata = read_metadata(table)
    assert metadata["version"] == labelclean.__version__
    assert json.loads(metadata["class_names"]) == ["b", "ä"]
    assert json.loads(metadata["config"])["seed"] == 7
    assert (metadata["seed"], metadata["fingerprint"], metadata["schema_version"]) == ("7", "f00", "4")
    assert json.loads(metadata["cut"]) == table["p_clean"].to_pylist()[1] == np.float32(0.55)
    assert json.loads(metadata["noise_rate"]) == [0.25, 0.2, 0.3]
    assert json.loads(metadata["noise_by_class"]) == {"ä": [0.2, 0.1, 0.3]}
    assert json.loads(metadata["expected_precision"]) is None
    assert json.loads(metadata["expected_recall"]) == [0.5, 0.4, 0.6]


def test_file_reads_back_the_same_and_with_pandas(tmp_path: Path):
    manifest = make_manifest(
        ["a", "b"], extra={"boxes": [[1, 2], []], "who": pa.array(["x", None]).dictionary_encode()}
    )
    table = verdict_table(manifest, make_findings([0]), {1: Fault(kind="damaged", message="m")}, metadata={})
    file = tmp_path / "verdicts.parquet"
    write_verdicts(file, table)
    back = read_verdicts(file)
    assert back.equals(table)
    assert back.schema.types == table.schema.types
    assert back.schema.metadata == table.schema.metadata
    frame = pd.read_parquet(file)
    assert frame["verdict"].tolist() == ["certain_clean", "unreadable"]
    assert frame["verdict"].dtype == "category"
    assert frame["p_clean"].dtype == np.float32


def test_what_is_no_verdict_file_is_refused(tmp_path: Path, finished_run: RunFolder):
    other = tmp_path / "other.parquet"
    with pytest.raises(RunFolderError, match="no such file"):
        read_verdicts(other)
    pq.write_table(pa.table({"path": ["a"]}), other)
    with pytest.raises(RunFolderError, match="not a verdict file"):
        read_verdicts(other)
    other.write_bytes(b"text")
    with pytest.raises(RunFolderError, match="not readable"):
        read_verdicts(other)
    table = read_verdicts(finished_run.verdicts)
    later = {**table.schema.metadata, b"labelclean.schema_version": b"99"}
    pq.write_table(table.replace_schema_metadata(later), other)
    with pytest.raises(RunFolderError, match="version 99"):
        read_verdicts(other)


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    file = tmp_path / "data.txt"
    file.write_text("old")

    def fill_the_disk(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(ResourceError, match="No space left"):
        write_atomically(file, fill_the_disk)
    with pytest.raises(KeyError):
        write_atomically(file, lambda temporary: {}["missing"])
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]
