"""What `check` finds in an index and in the files of its images."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from labelclean.data.inspect import FaultGroup, Inspection, as_json, inspect
from labelclean.records import UNKNOWN, Fault, Manifest
from tests.conftest import make_manifest


def inspected(manifest: Manifest, contents: str, faults: dict[int, Fault] | None = None) -> Inspection:
    """Contents: a letter per row, the same for identical files; a dash stands for a row without file."""
    files = np.array([UNKNOWN if letter == "-" else ord(letter) for letter in contents])
    return inspect(manifest, files, faults or {}, min_class_rows=2)


def test_sound_data():
    found = inspected(make_manifest(["a", "b", "a", "b"], golden=["a", None, None, None]), "wxyz")
    assert found.is_sound
    assert found.num_golden == 1
    assert found.classes == {"a": 2, "b": 2}
    assert not found.small_classes


def test_columns_are_told_in_words():
    manifest = dataclasses.replace(make_manifest(["a", "b"]), columns={"paths": "file", "labels": "class"})
    found = inspected(manifest, "xy")
    assert found.origin == "paths from column file, labels from class"
    assert as_json(found)["columns"] == {"paths": "file", "labels": "class"}
    assert inspected(make_manifest(["a", "b"]), "xy").origin == ""


def test_small_classes_do_not_make_data_unsound():
    found = inspected(make_manifest(["a", "a", "a", "b"]), "wxyz")
    assert found.small_classes == {"b": 1}
    assert found.is_sound


@pytest.mark.parametrize("labels", [["a", "a"], [None, "a"], [None, None]])
def test_no_label_can_be_wrong_where_there_are_fewer_than_two_classes(labels: list[str | None]):
    found = inspected(make_manifest(labels), "xy")
    assert found.refusal.startswith("fewer than two classes")
    assert not found.is_sound


def test_what_fit_refuses_is_announced():
    few = inspected(make_manifest(["a", "b"]), "xy")
    assert few.refusal == "fewer than 4 rows can be used"
    manifest = make_manifest(["a", "b", "a", "b"])
    assert inspected(manifest, "wxyz").refusal == ""
    for found in (
        inspected(manifest, "xxxx"),
        inspected(dataclasses.replace(manifest, group_ids=np.zeros(4, dtype=int)), "wxyz"),
        inspected(dataclasses.replace(manifest, group_ids=np.array([0, 0, UNKNOWN, UNKNOWN])), "wxww"),
    ):
        assert found.num_groups == 1
        assert found.refusal.startswith("all rows are in one group")
        assert not found.is_sound
        assert as_json(found)["refusal"] == found.refusal


def test_classes_that_hardly_differ_are_listed():
    found = inspected(make_manifest(["T-Shirt", "t-shirt", "t-shirt ", "t shirt", "T  shirt", "coat"]), "uvwxyz")
    assert found.alike_classes == (("T  shirt", "t shirt"), ("T-Shirt", "t-shirt", "t-shirt "))
    assert found.is_sound
    composed, decomposed = "\u00e9clair", "e\u0301clair"
    assert inspected(make_manifest([composed, decomposed]), "xy").alike_classes == ((decomposed, composed),)
    assert inspected(make_manifest(["a", "b"]), "xy").alike_classes == ()


def test_classes_that_may_be_no_class_are_listed():
    found = inspected(make_manifest(["NaN", "n/a", "nana", "a"]), "wxyz")
    assert found.nameless_classes == ("NaN", "n/a")
    assert found.is_sound


def test_classes_that_one_group_alone_shows_are_listed():
    """Of a, b and c with 20 rows each four fifths, less and half are in one group; of d too few to tell; e has none."""
    labels = [*"a" * 20, *"b" * 20, *"c" * 20, *"d" * 9, *"e" * 20]
    groups = [*[0] * 16, *[UNKNOWN] * 4, *[0] * 15, *[1] * 5, *[1] * 10, *[2] * 10, *[3] * 9, *[UNKNOWN] * 20]
    manifest = dataclasses.replace(make_manifest(labels), group_ids=np.array(groups))
    found = inspected(manifest, "-" * len(labels))
    assert found.confined_classes == ("a",)
    assert as_json(found)["confined_classes"] == ("a",)
    lost = {row: Fault(kind="missing_file", message="gone") for row in range(35, 40)}
    assert inspected(manifest, "-" * len(labels), lost).confined_classes == ("a", "b")
    assert inspected(make_manifest(labels), "-" * len(labels)).confined_classes == ()


def test_only_usable_rows_count_for_a_class():
    lost = {2: Fault(kind="missing_file", message="row 2"), 4: Fault(kind="missing_file", message="row 4")}
    found = inspected(make_manifest(["a", "b", "b", "a", "ghost"]), "wx-y-", lost)
    assert found.classes == {"a": 2, "b": 1, "ghost": 0}
    assert found.small_classes == {"b": 1, "ghost": 0}
    assert inspected(make_manifest(["a", "b"]), "x-", {1: lost[2]}).refusal


def test_faults_are_grouped_most_frequent_first():
    faults = {row: Fault(kind="missing_file", message=f"row {row}") for row in (5, 1, 2, 3)}
    faults[0] = Fault(kind="missing_label", message="row 0")
    found = inspected(make_manifest([None, "a", "a", "a", "a", "a"]), "x---y-", faults)
    assert found.faults == (
        FaultGroup(kind="missing_file", num_rows=4, messages=("row 1", "row 2", "row 3", "row 5")),
        FaultGroup(kind="missing_label", num_rows=1, messages=("row 0",)),
    )
    assert not found.is_sound


def test_doubled_paths_are_no_identical_images():
    manifest = make_manifest(["a", "b", "a", "a"], paths=["x", "x", "y", "y"])
    found = inspected(manifest, "1122")
    assert [(same.rows, same.is_conflicting) for same in found.doubled_paths] == [((0, 1), True), ((2, 3), False)]
    assert found.identical_images == ()
    assert len(found.conflicts) == 1


def test_picture_that_is_doubled_by_path_and_by_content_is_one_conflict():
    found = inspected(make_manifest(["a", "b", "a"], paths=["x", "x", "y"]), "111")
    assert [same.rows for same in found.conflicts] == [(0, 1, 2)]


def test_identical_images_with_several_labels_are_conflicts():
    found = inspected(make_manifest(["a", "b", "a", "a", "b", "b"]), "xyxyzz")
    assert [same.rows for same in found.identical_images] == [(0, 2), (1, 3), (4, 5)]
    (conflict,) = found.conflicts
    assert conflict.rows == (1, 3)
    assert conflict.labels == ("b", "a")
    assert not found.is_sound


def test_copies_that_agree_do_not_make_data_unsound():
    assert inspected(make_manifest(["a", "a", "a", "b"]), "xxyz").is_sound


def test_missing_files_paths_and_labels_are_no_copies_and_no_conflict():
    manifest = make_manifest(["a", None, "a", "b"], paths=["p", "q", None, None])
    found = inspected(manifest, "xx--")
    assert found.doubled_paths == ()
    assert [same.is_conflicting for same in found.identical_images] == [False]


def test_json_holds_plain_values():
    content = json.loads(json.dumps(as_json(inspected(make_manifest(["a", "b"]), "xx"))))
    assert content["identical_images"] == [
        {"rows": [0, 1], "paths": ["0.png", "1.png"], "labels": ["a", "b"], "is_conflicting": True}
    ]
    assert content["is_sound"] is False
    assert json.loads(json.dumps(as_json(inspected(make_manifest(["a", "A"]), "xy"))))["alike_classes"] == [["A", "a"]]
