"""Tables as they are written: what is read back is what was there."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labelclean import files
from labelclean.data.tables import read_table
from labelclean.files import as_unicode, write_csv, write_parquet, write_text


def test_csv_reads_back_as_it_was_and_its_lines_end_with_a_line_feed_alone(tmp_path: Path):
    texts = ["a", "b\rc", "d\r", "\re", "f\ng", "h\r\n", 'i"j', "k,l", "", "m "]
    table = pa.table({"path": texts, "la\rbel": texts[::-1], "size": [str(number) for number in range(10)]})
    file = tmp_path / "l.csv"
    write_csv(file, table)
    assert read_table(file).equals(table)
    content = file.read_bytes()
    assert content.startswith(b'path,"la\rbel",size\na,m ,0\n')
    assert content.endswith(b",9\n")
    assert content.count(b"\r\n") == 2  # in the two cells that have it


def test_files_may_be_read_by_whom_the_mask_allows_and_lie_where_names_are_not_utf_8(tmp_path: Path):
    mask = os.umask(0o027)
    try:
        folder = tmp_path / "caf\udce9"
        folder.mkdir()
        write_text(folder / "a.txt", "a")
        write_parquet(folder / "b.parquet", pa.table({"a": [1]}))
    finally:
        os.umask(mask)
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o640}
    with open(folder / "b.parquet", "rb") as content:
        assert pq.read_table(content).to_pydict() == {"a": [1]}


def test_folder_that_cannot_be_brought_to_disk_does_not_undo_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As on some file systems of a network."""
    sync = files.os.fsync

    def refuse_folders(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(handle)

    monkeypatch.setattr(files.os, "fsync", refuse_folders)
    write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"


def test_names_that_are_not_utf_8_can_be_told():
    assert as_unicode("caf\udce9.png") == "caf\\xe9.png"
    assert as_unicode("caf\u00e9.png") == "caf\u00e9.png"
