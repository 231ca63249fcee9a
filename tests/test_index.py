"""Reading an index: every kind of table, every kind of damage, one row for each line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labelclean.data.index import read_manifest
from labelclean.data.tables import read_table
from labelclean.errors import InputError
from labelclean.records import Manifest

Read = Callable[..., Manifest]


@pytest.fixture
def read(tmp_path: Path, image_folder: Path) -> Read:
    """Writes an index of the given name and content and reads it."""

    def write_and_read(name: str, content: str | bytes | pa.Table, **options: object) -> Manifest:
        file = tmp_path / name
        if isinstance(content, pa.Table):
            pq.write_table(content, file)
        else:
            file.write_bytes(content.encode() if isinstance(content, str) else content)
        return read_manifest(image_folder, file, **options)  # type: ignore[arg-type]

    return write_and_read


CSV = "path,label,size\na.png,cat,3\nb.png,dog,4\n"
JSONL = '{"path": "a.png", "label": "cat", "size": 3}\n\n{"path": "b.png", "label": "dog", "size": 4}'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.csv", CSV),
        ("labels.CSV", CSV.replace("\n", "\r\n")),
        ("labels.csv", "\ufeff" + CSV),
        ("labels.csv", 'path,label,size\n"a.png","cat",3\n\nb.png,dog,4\n\n'),
        ("labels.tsv", CSV.replace(",", "\t")),
        ("labels.jsonl", JSONL),
        ("labels.ndjson", "\ufeff" + JSONL),
        ("labels.parquet", pa.table({"path": ["a.png", "b.png"], "label": ["cat", "dog"], "size": [3, 4]})),
    ],
)
def test_every_kind_of_table(read: Read, name: str, content: str | pa.Table):
    manifest = read(name, content)
    assert manifest.source == name
    assert manifest.paths.to_pylist() == ["a.png", "b.png"]
    assert manifest.labels.to_pylist() == ["cat", "dog"]
    assert manifest.label_ids.tolist() == [0, 1]
    assert manifest.class_names == ("cat", "dog")
    assert [str(value) for value in manifest.extra["size"].to_pylist()] == ["3", "4"]
    assert manifest.extra.num_columns == 1
    assert not manifest.faults


@pytest.mark.parametrize("header", ["file_name,target", "IMAGE,Class", "label,filename", " img , y "])
def test_columns_are_found_by_their_usual_names(read: Read, header: str):
    row = "cat,a.png" if header.startswith("label") else "a.png,cat"
    manifest = read("labels.csv", f"{header}\n{row}\n")
    assert (manifest.paths.to_pylist(), manifest.labels.to_pylist()) == (["a.png"], ["cat"])


def test_columns_can_be_named_and_others_pass_through(read: Read):
    content = "path,label,where,what\nx,y,a.png,cat\n"
    manifest = read("labels.csv", content, path_column="where", label_column="what")
    assert manifest.labels.to_pylist() == ["cat"]
    assert manifest.extra.column_names == ["path", "label"]


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("name,label\na,b\n", {}, "no path column found"),
        ("path,kind\na,b\n", {}, "no label column found"),
        ("path;label\na;b\n", {}, "no path column found"),
        (CSV, {"label_column": "kind"}, "no column kind"),
        ("path,label,label\na,b,c\n", {}, "several columns are called label"),
    ],
)
def test_missing_and_doubled_columns(read: Read, content: str, options: dict[str, str], message: str):
    with pytest.raises(InputError, match=message):
        read("labels.csv", content, **options)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("l.csv", "", "no rows"),
        ("l.csv", "\n\n", "no rows"),
        ("l.csv", "path,label\n", "no rows"),
        ("l.csv", "path,label", "no rows"),
        ("l.jsonl", "", "no rows"),
        ("l.csv", "path,label\na,b\n\nc\n", "line 4 has 1 fields, the header 2"),
        ("l.csv", "path,label\na,b\nc,d,e\n", "line 3 has 3 fields, the header 2"),
        ("l.csv", 'path,label\n"a\nb",c\nd\n', "line 4 has 1 fields"),
        ("l.csv", 'path,label\na,b\n"c,d\n', "line 3: unexpected end"),
        ("l.csv", "path,label\na,caf\u00e9\n".encode("latin1"), "line 2 is not UTF-8"),
        ("l.csv", "path,label\na,b\n".encode("utf-16"), "line 1 is not UTF-8"),
        ("l.jsonl", '{"path": "a", "label": "b"}\n{"path": "c"\n', "line 2 is not JSON"),
        ("l.jsonl", "[1]\n", "line 1 is not a JSON object"),
        ("l.jsonl", '{"path": "a", "label": "b"}\n{"path": "c", "label": 4}\n', "line 2: label is a number"),
        ("l.jsonl", '{"path": "a", "label": ["b"]}\n', "column label: values of type list"),
        ("l.parquet", "text", "arquet"),
        ("l.xlsx", "text", "cannot tell what kind of table"),
    ],
)
def test_damage_is_named_with_its_line(read: Read, name: str, content: str | bytes, message: str):
    with pytest.raises(InputError, match=message) as caught:
        read(name, content)
    assert "l." in caught.value.message
    assert caught.value.hint


def test_missing_folder_and_index(image_folder: Path, tmp_path: Path):
    with pytest.raises(InputError, match="no such folder"):
        read_manifest(tmp_path / "gone", None)
    with pytest.raises(InputError, match="no such file"):
        read_manifest(image_folder, tmp_path / "gone.csv")


def test_labels_of_a_csv_stay_as_they_are_spelt(read: Read):
    manifest = read("l.csv", "path,label\na,007\nb,7\nc,NaN\nd,été \ne,\nf,  \n")
    assert manifest.labels.to_pylist() == ["007", "7", "NaN", "été ", None, None]
    assert manifest.class_names == ("007", "7", "NaN", "été ")
    assert {row: fault.kind for row, fault in manifest.faults.items()} == {4: "missing_label", 5: "missing_label"}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([3, 10, None]), ["3", "10", None]),
        (pa.array([3.0, float("nan"), 2.5]), ["3", None, "2.5"]),
        (pa.array([True, False, None]), ["true", "false", None]),
        (pa.array(["b", None, "a"]).dictionary_encode(), ["b", None, "a"]),
        (pa.array(["b", "", "a"], pa.large_string()), ["b", None, "a"]),
        (pa.nulls(3), [None, None, None]),
    ],
)
def test_typed_labels_become_strings(read: Read, values: pa.Array, expected: list[str | None]):
    manifest = read("l.parquet", pa.table({"path": ["x", "y", "z"], "label": values}))
    assert manifest.labels.to_pylist() == expected
    assert manifest.class_names == tuple(sorted({label for label in expected if label}))


def test_json_strings_that_look_like_dates_stay_strings(read: Read):
    manifest = read("l.jsonl", '{"path": "a", "label": "2020-01-01", "taken": "2020-01-02"}\n')
    assert manifest.labels.to_pylist() == ["2020-01-01"]
    assert manifest.extra["taken"].to_pylist() == ["2020-01-02"]


def test_parquet_below_a_partition_folder_gets_no_column_from_it(tmp_path: Path):
    folder = tmp_path / "split=train"
    folder.mkdir()
    pq.write_table(pa.table({"path": ["a"]}), folder / "l.parquet")
    assert read_table(folder / "l.parquet").column_names == ["path"]


def test_doubled_rows_are_kept(read: Read):
    manifest = read("l.csv", "path,label\na,x\na,y\na,x\n")
    assert manifest.num_rows == 3
    assert not manifest.faults


@pytest.mark.parametrize("path", ["../a", "x/../../a", "/etc/passwd", "..", ".", "x/.."])
def test_paths_that_leave_the_folder_are_refused(read: Read, path: str):
    manifest = read("l.csv", f"path,label\n{path},x\nb,x\n")
    assert {row: fault.kind for row, fault in manifest.faults.items()} == {0: "path_outside"}
    assert path in manifest.faults[0].message


def test_paths_within_the_folder_are_taken_however_spelt(read: Read, image_folder: Path):
    manifest = read("l.csv", f"path,label\nx/../a,x\n./b,x\n..c,x\n{image_folder}/d,x\n")
    assert not manifest.faults


def test_missing_path_and_label_of_one_row_keep_the_row(read: Read):
    manifest = read("l.csv", "path,label\n,\na,x\n")
    assert manifest.num_rows == 2
    assert manifest.faults[0].kind == "missing_path"
    assert manifest.label_ids.tolist() == [-1, 0]


def test_golden_and_group_columns(read: Read):
    content = "path,label,Golden,group\na,x,x,g1\nb,x,z,\nc,y,,g1\nd,y,,g2\n"
    manifest = read("l.csv", content)
    assert manifest.class_names == ("x", "y", "z")
    assert manifest.golden_ids.tolist() == [0, 2, -1, -1]
    assert manifest.group_ids[0] == manifest.group_ids[2] != manifest.group_ids[3]
    assert manifest.group_ids[1] == -1
    assert manifest.extra.num_columns == 0


def test_golden_file_adds_to_the_column_and_wins(read: Read, tmp_path: Path):
    golden = tmp_path / "golden.csv"
    golden.write_text("file_name,label\nb,y\nc,x\nc,x\na,\n")
    manifest = read("l.csv", "path,label,golden\na,x,x\nb,x,x\nc,y,\n", golden=golden)
    assert [manifest.class_names[number] for number in manifest.golden_ids] == ["x", "y", "x"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,golden\nz,x\n", "z is not in the index"),
        ("path,golden\na,x\na,y\n", "a has the golden labels x and y"),
        ("path,size\na,x\n", "no golden label column found"),
    ],
)
def test_golden_file_that_does_not_fit(read: Read, tmp_path: Path, content: str, message: str):
    golden = tmp_path / "golden.csv"
    golden.write_text(content)
    with pytest.raises(InputError, match=message):
        read("l.csv", "path,label\na,x\nb,y\n", golden=golden)


def test_known_classes_number_the_labels(read: Read):
    manifest = read("l.csv", "path,label\na,y\nb,new\n", class_names=("x", "y"))
    assert manifest.label_ids.tolist() == [1, -1]
    assert manifest.faults[1].kind == "unknown_label"


def test_folder_per_class(image_folder: Path, draw: Callable[..., Path]):
    for name in ("cat/b.png", "cat/deep/a.JPG", "dog/ü.png", "loose.png", "dog/.hidden.png", ".cache/x.png"):
        draw(name)
    (image_folder / "dog/notes.txt").write_text("no image")
    manifest = read_manifest(image_folder)
    assert manifest.paths.to_pylist() == ["cat/b.png", "cat/deep/a.JPG", "dog/ü.png"]
    assert manifest.labels.to_pylist() == ["cat", "cat", "dog"]


def test_folder_without_classes_or_with_undecodable_names(image_folder: Path, draw: Callable[..., Path]):
    draw("loose.png")
    with pytest.raises(InputError, match="no folder per class"):
        read_manifest(image_folder)
    draw("cat/a\udcff.png")
    with pytest.raises(InputError, match="is not UTF-8"):
        read_manifest(image_folder)
