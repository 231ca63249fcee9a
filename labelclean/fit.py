"""The whole job of `labelclean fit`, from the index to the files of the run folder."""

from __future__ import annotations

from pathlib import Path

from labelclean.config import FitConfig
from labelclean.records import Reporter


def run_fit(
    images_dir: Path,
    index: Path | None,
    config: FitConfig,
    *,
    out: Path | None,
    golden: Path | None,
    resume: bool,
    overwrite: bool,
    reporter: Reporter,
) -> Path:
    """Judge every row of an index and write the run folder; returns the folder."""
    raise AssertionError
