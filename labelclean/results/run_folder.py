"""Run folders: where a run's files lie, which runs there are, and reading and writing the smaller files."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import tomli_w

from labelclean.config import FitConfig, as_dict, read_toml, resolve
from labelclean.errors import ConfigError, LabelcleanError, RunFolderError, why_unreadable
from labelclean.files import write_parquet, write_text
from labelclean.records import RoundRecord

RUNS = Path("runs")
"""Where runs go that are not told otherwise, below the working directory."""

HISTORY_TYPES = {"str": pa.string(), "int": pa.int64(), "float": pa.float64(), "tuple[str, ...]": pa.list_(pa.string())}
HISTORY = pa.schema([(item.name, HISTORY_TYPES[str(item.type)]) for item in dataclasses.fields(RoundRecord)])


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of one run."""

    path: Path

    @property
    def verdicts(self) -> Path:
        return self.path / "verdicts.parquet"

    @property
    def history(self) -> Path:
        return self.path / "history.parquet"

    @property
    def model(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def config(self) -> Path:
        return self.path / "config.toml"

    @property
    def run(self) -> Path:
        return self.path / "run.json"

    @property
    def files(self) -> tuple[Path, ...]:
        """What a finished run holds."""
        return self.verdicts, self.history, self.model, self.config, self.run

    @property
    def checkpoint(self) -> Path:
        """A folder that is there until the run ends."""
        return self.path / "checkpoint"

    @property
    def lock(self) -> Path:
        """In the checkpoint, by which a fit keeps others out."""
        return self.checkpoint / "lock"

    @property
    def version(self) -> Path:
        """In the checkpoint, of the labelclean that works here."""
        return self.checkpoint / "version"

    @property
    def subject(self) -> Path:
        """In the checkpoint, the name of the folder whose images are judged."""
        return self.checkpoint / "subject"

    @property
    def settings(self) -> Path:
        """In the checkpoint, those of the unfinished run; without them nothing else in there counts."""
        return self.checkpoint / "config.toml"

    @property
    def index(self) -> Path:
        """In the checkpoint, a digest of the index with its golden labels."""
        return self.checkpoint / "index"

    @property
    def images(self) -> Path:
        """In the checkpoint, the decoded images."""
        return self.checkpoint / "images.u8"

    @property
    def facts(self) -> Path:
        """In the checkpoint, what was found out as they were decoded."""
        return self.checkpoint / "decoded.npz"

    @property
    def outcome(self) -> RunFolder:
        """In the checkpoint, where the files of the finished run are written, before they take their places."""
        return RunFolder(self.checkpoint / "outcome")

    def publish(self) -> None:
        """Put the files of the finished run in their places, the verdicts last: they make it a finished one.

        Those of an earlier run go first. So whatever ends this, the files that are there belong together, or there are
        no verdicts.
        """
        self.verdicts.unlink(missing_ok=True)
        for own, new in reversed(list(zip(self.files, self.outcome.files, strict=True))):
            new.replace(own)

    @property
    def is_unfinished(self) -> bool:
        """Whether a fit has begun here and not ended; other tools have folders called checkpoint too."""
        return self.lock.exists() or self.version.exists()

    @property
    def is_run(self) -> bool:
        """Whether a run has left anything here."""
        return self.run.exists() or self.verdicts.exists() or self.is_unfinished


def open_run(path: Path | None) -> RunFolder:
    """A finished run: the one at `path`, or the newest below runs/ when it is None.

    Raises:
        RunFolderError: there is none, or it has not finished.
    """
    if path is None:
        finished = [folder for folder in runs_called(".*") if folder.verdicts.is_file()]
        if not finished:
            raise RunFolderError(f"{RUNS}/: no finished run", hint="Name the folder of a run, or run fit first.")
        return max(finished, key=lambda folder: folder.verdicts.stat().st_mtime)
    folder = RunFolder(path)
    if folder.verdicts.is_file():
        return folder
    if folder.is_unfinished:
        raise RunFolderError(
            f"{path}: this run has not finished",
            hint=f"Repeat its fit command with --resume --out {shlex.quote(str(path))} (and without --overwrite) to "
            "carry on.",
        )
    cause = "no verdicts.parquet in it" if path.is_dir() else "not a folder" if path.exists() else "no such folder"
    raise RunFolderError(f"{path}: {cause}", hint="Name the folder of a run that fit has written.")


def runs_called(name: str) -> Iterator[RunFolder]:
    """Folders below runs/ whose name matches a regular expression, or does so before a number."""
    if RUNS.is_dir():
        for path in sorted(RUNS.iterdir()):
            if path.is_dir() and re.fullmatch(rf"{name}(-\d+)?", path.name):
                yield RunFolder(path)


def write_history(folder: RunFolder, history: tuple[RoundRecord, ...]) -> None:
    """Write history.parquet, a row per round.

    Raises:
        ResourceError: the disk is full or cannot be written.
    """
    table = pa.Table.from_pylist([dataclasses.asdict(record) for record in history], schema=HISTORY)
    write_parquet(folder.history, table)


def read_history(folder: RunFolder) -> pa.Table:
    """The table that `write_history` wrote.

    Raises:
        RunFolderError: it is missing or damaged.
    """
    try:
        return pq.ParquetFile(folder.history).read()
    except (OSError, pa.ArrowException) as error:
        raise _damaged(folder.history, error) from error


def write_config(file: Path, config: FitConfig) -> None:
    """Write the resolved configuration as TOML, which `--config` takes back.

    Raises:
        ResourceError: the disk is full or cannot be written.
    """
    write_text(file, tomli_w.dumps(as_dict(config)))


def read_config(file: Path) -> FitConfig:
    """The configuration that `write_config` wrote.

    Raises:
        RunFolderError: it is missing or damaged.
    """
    try:
        return resolve(flags={}, stored=read_toml(file))
    except ConfigError as error:
        raise RunFolderError(
            f"{file.parent}: its settings cannot be read: {error.message}", hint="Start anew with --overwrite."
        ) from error


def read_run(folder: RunFolder) -> dict[str, Any]:
    """The content of run.json.

    Raises:
        RunFolderError: it is missing or damaged.
    """
    try:
        content = json.loads(folder.run.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(folder.run, error) from error
    if not isinstance(content, dict):
        raise _damaged(folder.run, ValueError("not a JSON object"))
    return content


def _damaged(file: Path, error: Exception) -> LabelcleanError:
    return RunFolderError(
        f"{file}: not readable: {why_unreadable(error)}", hint="Name the folder of a finished run, or run fit again."
    )
