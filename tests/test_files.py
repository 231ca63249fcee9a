"""Tables as they are written: what is read back is what was there."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pyarrow as pa
import pytest

from labelclean import files
from labelclean.data.tables import read_table
from labelclean.files import write_csv, write_text


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
