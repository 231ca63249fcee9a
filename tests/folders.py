"""Run folders as fits leave them, made by hand."""

from __future__ import annotations

import os
from pathlib import Path

from labelclean.results.run_folder import RunFolder


def started(path: str, *, at: float = 1000.0) -> RunFolder:
    """A run that has come to a checkpoint."""
    folder = RunFolder(Path(path))
    folder.checkpoint.mkdir(parents=True)
    files = [folder.checkpoint / "state", folder.lock]  # the lock of a killed run is left, and free
    for file in files:
        file.write_text("")
    for file in (*files, folder.checkpoint):
        os.utime(file, (at, at))
    return folder


def ended(path: str, *, at: float = 1000.0) -> RunFolder:
    folder = RunFolder(Path(path))
    folder.path.mkdir(parents=True)
    folder.verdicts.write_text("old verdicts")
    os.utime(folder.verdicts, (at, at))
    return folder
