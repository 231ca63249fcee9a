"""Reading an index: every kind of table, every kind of damage, one row for each line."""

from __future__ import annotations

import ntpath
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labelclean.data import index, tables
from labelclean.data.images import decode_all
from labelclean.data.index import read_manifest
from labelclean.data.tables import read_table
from labelclean.errors import ConfigError, InputError
from labelclean.records import REFUTED, UNKNOWN, Manifest, SilentReporter

Read = Callable[..., Manifest]
Write = Callable[[str, str], Path]


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


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a golden file of the given name and content."""

    def write_file(name: str, content: str) -> Path:
        file = tmp_path / name
        file.write_text(content)
        return file

    return write_file


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
        ("labels.csv", CSV.replace(",", ";")),
        ("labels.csv", CSV.replace(",", "\t")),
        ("labels.csv", "sep=;\r\n" + CSV.replace(",", ";").replace("\n", "\r\n")),
        ("labels.csv", "\ufeffsep=|\n" + CSV.replace(",", "|")),
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
        ("path|label\na|b\n", {}, "no path column found"),
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
        ("l.csv", "path,label\na.png,cat\nEmpty box.png,dog,extra\n", "line 3 has 3 fields"),
        ("l.jsonl", "", "no rows"),
        ("l.csv", "path,label\na,b\n\nc\n", "line 4 has 1 fields, the header 2"),
        ("l.csv", "path,label\na,b\nc,d,e\n", "line 3 has 3 fields, the header 2"),
        ("l.csv", 'path,label\n"a\nb",c\nd\n', "line 4 has 1 fields"),
        ("l.csv", 'path,label\na,b\n"c,d\n', "line 3: unexpected end"),
        ("l.csv", 'path,label\na,b\nc,"d\ne,f\n', "line 3: unexpected end"),
        ("l.tsv", 'path\tlabel\r\na\t"b\r\nc\td\r\n', "line 2: unexpected end"),
        ("l.csv", 'sep=;\npath;label\n\na;"b\nc;"d"\ne;f\n', "line 4: ';' expected after"),
        ("l.csv", 'path,label\ra,"17"" tv\rc,d\r', "line 2: unexpected end"),
        ("l.csv", "path,label,,\na,b,c,d\n", "columns 3 and 4 have no name"),
        ("l.csv", "path,label\na,caf\u00e9\n".encode("latin1"), "line 2 is not UTF-8"),
        ("l.csv", "path,caf\u00e9\na,b\n".encode("latin1"), "line 1 is not UTF-8"),
        ("l.csv", "path,label\na,caf\u00e9,c\nd,e\n".encode("latin1"), "line 2 is not UTF-8"),
        ("l.csv", "path,label\na,b\n".encode("utf-16"), "the file is UTF-16"),
        ("l.csv", "path\tlabel\na\tb\n".encode("utf-16"), "the file is UTF-16"),
        ("l.csv", b"\xfe\xff" + "path,label\r\na,b\r\n".encode("utf-16-be"), "the file is UTF-16"),
        ("l.jsonl", '{"path": "a", "label": "b"}\n'.encode("utf-16"), "the file is UTF-16"),
        ("l.csv", "path;label\na;b\nc,d\n", "line 3 has 1 fields, the header 2"),
        ("l.csv", "sep=;\npath;label\na;b\nc\n", "line 4 has 1 fields, the header 2"),
        ("l.csv", "sep=;\n", "no rows"),
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
    for name in ("folder.csv", "folder.jsonl", "folder.parquet", "folder"):
        (tmp_path / name).mkdir()
        with pytest.raises(InputError, match=f"{name}: a folder, no table"):
            read_manifest(image_folder, tmp_path / name)
    (tmp_path / "file.csv").write_text("path,label\n")
    for name in ("file.csv/within.csv", "file.csv/within.jsonl", "file.csv/within.parquet", f"{'x' * 300}.csv"):
        with pytest.raises(InputError, match=r"Not a directory|too long"):
            read_manifest(image_folder, tmp_path / name)


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        ('"a;b;c",d\n1,2\n', ["a;b;c", "d"]),
        ('a;"b,c,d"\n1;2\n', ["a", "b,c,d"]),
        ('a,"b;""c"";d"\n1,2\n', ["a", 'b;"c";d']),
        ("a b\n1;2\n", ["a b"]),
        ("\na;b\n1,5;2\n", ["a", "b"]),
    ],
)
def test_separator_is_what_splits_the_header_into_most_columns(tmp_path: Path, content: str, columns: list[str]):
    file = tmp_path / "l.csv"
    file.write_text(content)
    table = read_table(file)
    assert (table.column_names, table.num_rows) == (columns, 1)


def test_cells_may_have_several_lines_whatever_their_size(read: Read):
    lines = "one\n\ntwo\r\nthree" + "x" * 200_000
    manifest = read("l.csv", f'path,"la\nbel",note\na,"x\ny","{lines}"\n\n\nb,z,"17"""\n', label_column="la\nbel")
    assert manifest.labels.to_pylist() == ["x\ny", "z"]
    assert manifest.extra["note"].to_pylist() == [lines, '17"']


def test_a_clean_table_is_read_once(read: Read, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tables, "_place_of_fault", None)
    monkeypatch.setattr(tables, "CHUNK_BYTES", 7)
    for end in ("\n", "\r\n", "\r"):
        text = f'path,label{end}{end}a,"x"{end}b,5" y{end}{end}{end}c,z{end}'
        assert read("l.csv", text).labels.to_pylist() == ["x", '5" y', "z"]
        assert read("l.csv", text.removesuffix(end)).num_rows == 3


@pytest.mark.parametrize(
    ("header", "row", "columns"),
    [
        ("path,label,,", "a,b,,", ["path", "label"]),
        ("path,label, ,", "a,b, ,", ["path", "label"]),
        (",path,label,", "0,a,b,", ["", "path", "label"]),
        ("path,label,size", "a,b,", ["path", "label", "size"]),
    ],
)
def test_columns_without_name_and_content_are_dropped(tmp_path: Path, header: str, row: str, columns: list[str]):
    file = tmp_path / "l.csv"
    file.write_text(f"{header}\n{row}\n{row}\n")
    assert read_table(file).column_names == columns


def test_index_without_a_header_is_told_that_it_needs_one(read: Read):
    with pytest.raises(InputError, match="no path column") as caught:
        read("l.csv", "a.png,cat\nb.png,dog\n")
    assert "The first line must name the columns." in caught.value.hint
    with pytest.raises(InputError, match="no path column") as caught:
        read("l.jsonl", '{"a": 1}\n')
    assert "first line" not in caught.value.hint


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


def test_json_dates_within_lists_and_objects_stay_strings(read: Read):
    row = (
        '{"path": "a", "label": "x", "days": ["2020-01-02"], "of": {"when": "2020-01-03", "n": 4, "at": [{"d": null}]}}'
    )
    manifest = read("l.jsonl", f"{row}\n{row.replace('null', chr(34) + '2020-01-04' + chr(34))}\n")
    assert manifest.extra["days"].to_pylist() == [["2020-01-02"]] * 2
    assert manifest.extra["of"].to_pylist() == [
        {"when": "2020-01-03", "n": 4, "at": [{"d": day}]} for day in (None, "2020-01-04")
    ]


@pytest.mark.parametrize("content", ["{}", "[{}]", '{"a": {}}'])
def test_columns_that_parquet_cannot_hold_are_refused_before_anything_is_trained(read: Read, content: str):
    with pytest.raises(InputError, match=r"column meta, of type .*Parquet") as caught:
        read("l.jsonl", f'{{"path": "a", "label": "x", "meta": {content}}}\n')
    assert "Remove the column" in caught.value.hint


def test_views_become_usual_types(read: Read):
    views = pa.array(["x", None, "y"], pa.string_view())
    table = pa.table({"path": ["a", "b", "c"], "label": views, "note": views, "raw": views.cast(pa.binary_view())})
    manifest = read("l.parquet", table)
    assert manifest.labels.to_pylist() == ["x", None, "y"]
    assert manifest.extra.schema.types == [pa.string(), pa.binary()]
    assert manifest.extra["note"].take([2, 1]).to_pylist() == ["y", None]


@pytest.mark.parametrize("number", ["12345678901234567890", "9007199254740993.0"])
def test_numbers_that_were_rounded_are_no_labels(read: Read, number: str):
    with pytest.raises(InputError, match=r"l\.jsonl, column label: \d+ is so large") as caught:
        read("l.jsonl", f'{{"path": "a", "label": {number}}}\n{{"path": "b", "label": 2.0}}\n')
    assert "in quotes" in caught.value.hint
    exact = read("l.jsonl", '{"path": "a", "label": 9007199254740993}\n{"path": "b", "label": 9007199254740992}\n')
    assert exact.class_names == ("9007199254740992", "9007199254740993")


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


@pytest.mark.parametrize("path", ["..\\..\\a.png", "D:\\x\\a.png", "C:/other/a.png", "\\\\server\\share\\a.png"])
def test_paths_that_leave_the_folder_on_windows(read: Read, path: str, monkeypatch: pytest.MonkeyPatch):
    """Elsewhere a backslash is a letter like others."""
    content = f"path,label\n{path},x\nsub\\b.png,x\nsub/c.png,x\n"
    assert not read("l.csv", content).faults
    monkeypatch.setattr(index, "SYSTEM", ntpath)
    assert {row: fault.kind for row, fault in read("l.csv", content).faults.items()} == {0: "path_outside"}


def test_folder_that_paths_leave_is_named_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("l.csv").write_text("path,label\n../a,x\n")
    assert read_manifest(Path(), Path("l.csv")).faults[0].message.endswith("Give paths below ./.")


def test_a_path_with_a_nul_names_no_file(read: Read, image_folder: Path):
    manifest = read("l.csv", "path,label\na\0b.png,x\nc.png,y\n")
    assert (manifest.faults[0].kind, "NUL" in manifest.faults[0].message) == ("missing_file", True)
    found = decode_all(manifest, image_folder, image_folder / "cache", size=8, workers=1, reporter=SilentReporter())
    assert found.faults[0] == manifest.faults[0]


def test_paths_within_the_folder_are_taken_however_spelt(read: Read, image_folder: Path):
    manifest = read("l.csv", f"path,label\nx/../a,x\n./b,x\n..c,x\n{image_folder}/d,x\n")
    assert not manifest.faults


def test_missing_path_and_label_of_one_row_keep_the_row(read: Read):
    manifest = read("l.csv", "path,label\n,\na,x\n")
    assert manifest.num_rows == 2
    assert manifest.faults[0].kind == "missing_path"
    assert manifest.label_ids.tolist() == [-1, 0]


def test_golden_and_group_columns(read: Read):
    content = "path,label,Golden,group\na,x,x,g1\nb,x,z ,\nc,y,, g1\nd,z,,g2\n"
    manifest = read("l.csv", content)
    assert manifest.class_names == ("x", "y", "z")
    assert manifest.golden_ids.tolist() == [0, 2, -1, -1]
    assert manifest.group_ids[0] == manifest.group_ids[2] != manifest.group_ids[3]
    assert manifest.group_ids[1] == -1
    assert manifest.extra.column_names == ["Golden", "group"]  # for a fit on what is exported


def test_golden_column_of_the_index_may_have_chances(read: Read, write: Write):
    text = "path,label,golden,chance\na,x,x,0.5\nb,x,,none\nc,y,y,\n"
    manifest = read("l.csv", text)
    np.testing.assert_array_equal(manifest.golden_chances, [0.5, np.nan, np.nan])
    assert manifest.golden_draws.tolist() == [0, -1, 0]
    with pytest.raises(InputError, match="row 1 has the chance 'none'"):
        read("l.csv", text.replace("b,x,", "b,x,x"))
    assert read("l.csv", "path,label,chance\na,x,none\nb,y,2\n").extra.column_names == ["chance"]


def test_golden_file_adds_to_the_column_and_wins(read: Read, write: Write):
    golden = write("golden.csv", "file_name,label\nb,y\nc,x\nc,x \na,\n")
    manifest = read("l.csv", "path,label,golden\na,x,x\nb,x,x\nc,y,\n", golden=[golden])
    assert [manifest.class_names[number] for number in manifest.golden_ids] == ["x", "y", "x"]


def test_golden_label_of_the_column_is_of_every_row_of_its_path(read: Read, write: Write):
    content = "path,label,golden,chance\na,x,,\na,y,x,0.5\nb,y,,\n"
    manifest = read("l.csv", content)
    assert manifest.golden_ids.tolist() == [0, 0, -1]
    np.testing.assert_array_equal(manifest.golden_chances, [0.5, 0.5, np.nan])
    with pytest.raises(InputError, match=r"l\.csv: a has the golden labels y and x"):
        read("l.csv", content.replace("a,x,,", "a,x,y,"))


def test_index_is_not_its_own_golden_file(read: Read, write: Write):
    content = "path,label\na,x\nb,y\nc,x\n"
    with pytest.raises(InputError, match="leave nothing to judge") as caught:
        read("l.csv", content, golden=[write("golden.csv", content)])
    assert "not the index again" in caught.value.hint
    for other in ("path,label\na,x\n", content.replace("b,y", "b,x")):
        assert read("l.csv", content, golden=[write("golden.csv", other)]).golden_ids[0] == 0


@pytest.mark.parametrize("name", ["golden", "group"])
def test_column_that_is_named_as_the_labels_is_nothing_else(read: Read, name: str):
    manifest = read("l.csv", f"path,label,{name}\na,x,cat\nb,y,dog\n", label_column=name)
    assert manifest.class_names == ("cat", "dog")
    assert manifest.golden_ids.tolist() == manifest.group_ids.tolist() == [-1, -1]
    assert set(manifest.columns) == {"paths", "labels"}


def test_several_golden_files_are_joined(read: Read, write: Write):
    files = [
        write("one.csv", "path;golden;chance\na;x;0,25\nb; y ;\n"),
        write("two.csv", "path,golden,Chance\nb,y,1\nc,x,0.5\n"),
    ]
    manifest = read("l.csv", "path,label\na,x\nb,x\nc,y\nd,y\n", golden=files)
    assert manifest.golden_ids.tolist() == [0, 1, 0, -1]
    np.testing.assert_array_equal(manifest.golden_chances, [0.25, np.nan, 0.5, np.nan])
    assert manifest.golden_draws.tolist() == [1, 1, 2, -1]
    more = write("more.csv", "path,golden\na,y\n")
    with pytest.raises(InputError, match=r"one\.csv and .*more\.csv: a has the golden labels x and y"):
        read("l.csv", "path,label\na,x\nb,x\nc,y\nd,y\n", golden=[*files, more])


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        ("path,golden\nz,x\n", "z: not in the index", "very paths"),
        ("path,golden\na,x\na,y\n", r"golden\.csv: a has the golden labels x and y", "right one"),
        ("path,size\na,x\n", "no golden label column found", "golden"),
        ("path,golden,label\na,,x\nb,  ,y\n", "no golden label in column golden", "leave --golden away"),
        ("path,golden\n", "no golden label in column golden", "leave --golden away"),
        ("path,golden,chance\na,x,often\n", "a has the chance 'often'", "as it was written"),
        ("path,golden,chance\na,x,0\n", "a has the chance '0'", "as it was written"),
        ("path;golden;chance\na;x;1,5\n", "a has the chance '1,5'", "as it was written"),
        ("path,golden,chance\na,x,nan\n", "a has the chance 'nan'", "as it was written"),
    ],
)
def test_golden_file_that_does_not_fit(read: Read, write: Write, content: str, message: str, hint: str):
    with pytest.raises(InputError, match=message) as caught:
        read("l.csv", "path,label\na,x\nb,y\n", golden=[write("golden.csv", content)])
    assert hint in caught.value.hint


@pytest.mark.parametrize("column", ["chance", "suggested_label", "verdict", "P_clean"])
def test_given_labels_of_a_file_that_labelclean_wrote_are_not_golden(read: Read, write: Write, column: str):
    index = "path,label\na,x\nb,y\n"
    with pytest.raises(InputError, match=f"no column golden.*{column}") as caught:
        read("l.csv", index, golden=[write("golden.csv", f"path,label,{column}\na,y,1\n")])
    assert "column golden" in caught.value.hint
    for name in ("golden", "true_label", "truth"):
        golden = write("golden.csv", f"path,label,{column},{name}\na,x,1,y\n")
        assert read("l.csv", index, golden=[golden]).golden_ids.tolist() == [1, -1]


@pytest.mark.parametrize(
    ("label", "hint"),
    [
        ("dresss", "is it 'dress'?"),
        ("Dress", "is it 'dress'?"),
        ("COAT ", "is it 'coat'?"),
        ("zzz", "Correct it, or leave the cell empty; ? says that the given label is wrong, and no more."),
    ],
)
def test_golden_labels_that_are_no_class_are_refused_wherever_they_are(read: Read, write: Write, label: str, hint: str):
    said = f"has the golden label '{label}'"
    with pytest.raises(InputError, match=f"l.csv row 1 {said}") as caught:
        read("l.csv", f"path,label,golden\na,dress,dress\nb,coat,{label}\n")
    assert hint in str(caught.value) + caught.value.hint
    golden = write("golden.csv", f"path,golden\na,dress\nb,{label}\n")
    with pytest.raises(InputError, match=rf"golden\.csv: b {said}") as caught:
        read("l.csv", "path,label\na,dress\nb,coat\n", golden=[golden])
    assert hint in str(caught.value) + caught.value.hint


@pytest.mark.parametrize("label", ["?", " ? "])
def test_a_golden_label_may_say_no_more_than_that_the_given_one_is_wrong(read: Read, write: Write, label: str):
    index = read("l.csv", f"path,label,golden\na,dress,dress\nb,coat,{label}\nc,coat,\n")
    assert index.golden_ids.tolist() == [1, REFUTED, UNKNOWN]
    golden = write("golden.csv", f"path,golden\na,dress\nb,{label}\n")
    index = read("l.csv", "path,label\na,dress\nb,coat\nc,coat\n", golden=[golden])
    assert index.golden_ids.tolist() == [1, REFUTED, UNKNOWN]


def test_whole_numbers_that_became_fractions_are_recognised(read: Read):
    with pytest.raises(InputError, match=r"'9\.0' \(is it '9'\?\)"):
        read("l.csv", "path,label,golden\na,9,9.0\nb,12,\n")


def test_all_golden_paths_that_are_not_there_are_told_at_once(read: Read, write: Write):
    golden = write("golden.csv", "path,golden\n" + "".join(f"z{number},x\n" for number in range(8)))
    with pytest.raises(InputError, match=r"golden\.csv: z0, .*z4, and 3 more: not in the index"):
        read("l.csv", "path,label\na,x\nb,y\n", golden=[golden])


def test_all_golden_labels_that_are_no_class_are_told_at_once(read: Read):
    rows = "".join(f"{row},dress,dres{row}\n{row}b,coat,coat\n" for row in range(7))
    with pytest.raises(InputError) as caught:
        read("l.csv", f"path,label,golden\n{rows}")
    told = str(caught.value)
    assert [f"row {2 * row} has the golden label 'dres{row}' (is it 'dress'?)" in told for row in range(6)] == [
        True
    ] * 5 + [False]
    assert "and 2 more: none of the classes" in told


def test_one_column_cannot_be_path_and_label(read: Read):
    with pytest.raises(InputError, match=r"column path would be both path and label"):
        read("l.csv", "path,label\na,x\nb,y\n", label_column="path")


def test_lines_that_hold_blanks_alone_are_no_rows(read: Read):
    manifest = read("l.csv", "path,label,note\na,x,1\n   \nb,y,2\n\t\n")
    assert manifest.paths.to_pylist() == ["a", "b"]
    with pytest.raises(InputError, match="line 3 has 1 fields, the header 2"):
        read("l.csv", "path,label\na,x\nb\n")


def test_golden_label_is_the_class_that_is_spelt_alike_before_another_up_to_space(read: Read):
    manifest = read("l.csv", "path,label,golden\na,x,x \nb,x ,x\nc, y,y\nd,x, x\n")
    assert manifest.class_names == (" y", "x", "x ")
    assert manifest.golden_ids.tolist() == [2, 1, 0, 1]


def test_folder_per_class(image_folder: Path, draw: Callable[..., Path]):
    for name in ("cat/b.png", "cat/deep/a.JPG", "dog/ü.png", "loose.png", "dog/.hidden.png", ".cache/x.png"):
        draw(name)
    draw("__MACOSX/cat/b.png")
    (image_folder / "dog/notes.txt").write_text("no image")
    manifest = read_manifest(image_folder)
    assert manifest.paths.to_pylist() == ["cat/b.png", "cat/deep/a.JPG", "dog/ü.png"]
    assert manifest.labels.to_pylist() == ["cat", "cat", "dog"]
    assert list(manifest.passed_over) == ["dog/notes.txt", "loose.png"]


def test_links_of_class_folders_are_followed_but_not_in_circles(
    image_folder: Path, draw: Callable[..., Path], tmp_path: Path
):
    draw("cat/a.png")
    draw("dog/deep/b.png")
    (tmp_path / "elsewhere/deeper").mkdir(parents=True)
    (tmp_path / "elsewhere/deeper/c.png").touch()
    for link in ("cat/more", "dog/more", "owl"):
        (image_folder / link).symlink_to(tmp_path / "elsewhere")
    (image_folder / "cat/up").symlink_to(image_folder)
    (tmp_path / "elsewhere/back").symlink_to(image_folder / "dog")
    (image_folder / "dog/gone.png").symlink_to(tmp_path / "gone.png")
    (image_folder / "dog/round.png").symlink_to(image_folder / "dog/round.png")
    paths = read_manifest(image_folder).paths.to_pylist()
    assert paths == [
        "cat/a.png",
        "cat/more/back/deep/b.png",
        "cat/more/back/gone.png",
        "cat/more/back/round.png",
        "cat/more/deeper/c.png",
        "dog/deep/b.png",
        "dog/gone.png",
        "dog/more/deeper/c.png",
        "dog/round.png",
        "owl/back/deep/b.png",
        "owl/back/gone.png",
        "owl/back/round.png",
        "owl/deeper/c.png",
    ]


@pytest.mark.parametrize("name", ["owl", "cat/more"])
def test_link_to_a_folder_that_is_gone_is_named(image_folder: Path, draw: Callable[..., Path], name: str):
    draw("cat/a.png")
    (image_folder / name).symlink_to(image_folder.parent / "gone")
    with pytest.raises(InputError, match=f"{name}: this link leads nowhere"):
        read_manifest(image_folder)


def test_folder_that_cannot_be_read_is_named(
    image_folder: Path, draw: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
):
    draw("cat/a.png")
    draw("dog/b.png")
    scandir = os.scandir

    def refuse_dogs(folder: Path) -> object:
        if folder.name == "dog":
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse_dogs)
    with pytest.raises(InputError, match="dog: Permission denied"):
        read_manifest(image_folder)


def test_folder_without_classes(image_folder: Path, draw: Callable[..., Path]):
    draw("loose.png")
    with pytest.raises(InputError, match="no folder per class"):
        read_manifest(image_folder)


def test_a_name_that_is_not_utf_8_is_the_fault_of_its_row_alone(image_folder: Path, draw: Callable[..., Path]):
    for name in ("cat/a\udce9.png", "cat/b.png", "d\udce9/c.png"):
        draw(name)
    manifest = read_manifest(image_folder)
    assert manifest.paths.to_pylist() == ["cat/a\\xe9.png", "cat/b.png", "d\\xe9/c.png"]
    assert manifest.labels.to_pylist() == ["cat", "cat", "d\\xe9"]
    found = decode_all(manifest, image_folder, image_folder / "cache", size=8, workers=1, reporter=SilentReporter())
    assert sorted(found.faults) == [0, 2]
    assert found.faults[0].message.endswith("no such image. Its name is not UTF-8: rename the file.")


def test_columns_that_were_read_are_named(read: Read):
    table = "file,class,golden,group,image\na.png,cat,cat,1,x\nb.png,dog,,2,y\n"
    assert read("labels.csv", table, path_column="file").columns == {
        "paths": "file",
        "labels": "class",
        "golden labels": "golden",
        "groups": "group",
    }


def test_columns_of_a_folder_per_class_are_refused(image_folder: Path):
    (image_folder / "cat").mkdir()
    (image_folder / "cat/a.png").touch()
    assert read_manifest(image_folder).columns == {}
    with pytest.raises(ConfigError, match="--label-column: a folder per class has no columns"):
        read_manifest(image_folder, label_column="label")
