"""Run folders: where a run's files lie, which folder a new run gets, and reading and writing the smaller files."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import tomli_w
from filelock import FileLock, Timeout

from labelclean.config import FitConfig, as_dict
from labelclean.errors import ConfigError, FitInterruptedError, LabelcleanError, ResourceError, RunFolderError
from labelclean.files import write_atomically, write_text
from labelclean.records import RoundRecord

RUNS = Path("runs")
"""Where runs go that are not told otherwise, below the working directory."""

LOCK = "lock"
"""Name of the file in the checkpoint folder by which a fit keeps others out."""

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
    def is_run(self) -> bool:
        """Whether a run has left anything here."""
        return any(file.exists() for file in (self.run, self.verdicts, self.checkpoint))


@contextmanager
def claim(out: Path | None, name: str, *, overwrite: bool, resume: bool) -> Iterator[RunFolder]:
    """The folder for a run: it can be written to, has a folder for checkpoints, and no other fit works in it.

    What there is to resume goes when the work in it ends well.

    Args:
        out: the folder that the user wants; None: runs/<name>, or the next free of runs/<name>-2, -3, ...
        name: what to call the run.
        overwrite: take the folder although it holds a run. Its checkpoint goes; its files stay until new ones
            replace them.
        resume: take the folder of an unfinished run; where `out` is None, the newest one of that name.
    Raises:
        ConfigError: both overwrite and resume.
        RunFolderError: the folder is in use, is no run folder, or there is nothing to resume.
        ResourceError: it cannot be created or written to.
        FitInterruptedError: the user stopped what was done in it.
    """
    if overwrite and resume:
        raise ConfigError("--overwrite and --resume exclude each other", hint="Give one of them.")
    name = name.strip(". ") or "run"
    if resume:
        folder = _unfinished(RunFolder(out)) if out else _newest_unfinished(name)
    elif out is None and not overwrite:
        folder = _next_free(name)
    else:
        folder = RunFolder(out or RUNS / name)
    _create(folder.path)
    if not resume and any(folder.path.iterdir()):
        _refuse_what_is_there(folder, overwrite=overwrite)
    if not os.access(folder.path, os.W_OK | os.X_OK):
        raise _not_writable(folder.path, "permission denied")
    with _locked(folder):
        if not resume:
            clear_checkpoint(folder)
        try:
            yield folder
        except KeyboardInterrupt as error:
            if _left_in(folder.checkpoint):
                raise FitInterruptedError(folder.path) from error
            raise
        clear_checkpoint(folder)


def clear_checkpoint(folder: RunFolder) -> None:
    """Take away what there is to resume; the folder with the lock goes when the lock is given back.

    Raises:
        ResourceError: it cannot be removed.
    """
    try:
        for path in _left_in(folder.checkpoint):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    except OSError as error:
        raise _not_writable(folder.checkpoint, error.strerror or str(error)) from error


def open_run(path: Path | None) -> RunFolder:
    """A finished run: the one at `path`, or the newest below runs/ when it is None.

    Raises:
        RunFolderError: there is none, or it has not finished.
    """
    if path is None:
        finished = [folder for folder in _runs(".*") if folder.verdicts.is_file()]
        if not finished:
            raise RunFolderError(f"{RUNS}/: no finished run", hint="Name the folder of a run, or run fit first.")
        return max(finished, key=lambda folder: folder.verdicts.stat().st_mtime)
    folder = RunFolder(path)
    if folder.verdicts.is_file():
        return folder
    if folder.checkpoint.is_dir():
        raise RunFolderError(
            f"{path}: this run has not finished",
            hint=f"Repeat its fit command with --resume --out {path} (and without --overwrite) to carry on.",
        )
    cause = "no verdicts.parquet in it" if path.is_dir() else "not a folder" if path.exists() else "no such folder"
    raise RunFolderError(f"{path}: {cause}", hint="Name the folder of a run that fit has written.")


def write_history(folder: RunFolder, history: tuple[RoundRecord, ...]) -> None:
    """Write history.parquet, a row per round.

    Raises:
        ResourceError: the disk is full or cannot be written.
    """
    table = pa.Table.from_pylist([dataclasses.asdict(record) for record in history], schema=HISTORY)
    write_atomically(folder.history, lambda temporary: pq.write_table(table, temporary))


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


def _runs(name: str) -> Iterator[RunFolder]:
    """Folders below runs/ whose name matches a regular expression, or does so before a number."""
    if RUNS.is_dir():
        for path in sorted(RUNS.iterdir()):
            if path.is_dir() and re.fullmatch(rf"{name}(-\d+)?", path.name):
                yield RunFolder(path)


def _last_worked_on(folder: RunFolder) -> float:
    """Time stamp of the newest file of the checkpoint, as far as its files do not vanish meanwhile."""
    newest = 0.0
    with suppress(FileNotFoundError):
        for path in (folder.checkpoint, *folder.checkpoint.iterdir()):
            newest = max(newest, path.stat().st_mtime)
    return newest


def _newest_unfinished(name: str) -> RunFolder:
    unfinished = [folder for folder in _runs(re.escape(name)) if folder.checkpoint.is_dir() and not _is_in_use(folder)]
    if not unfinished:
        raise RunFolderError(
            f"{RUNS / name}: no unfinished run to resume", hint="Name its folder with --out, or leave out --resume."
        )
    return max(unfinished, key=_last_worked_on)


def _unfinished(folder: RunFolder) -> RunFolder:
    if not folder.checkpoint.is_dir():
        cause = "this run has finished" if folder.verdicts.exists() else "no checkpoint in it"
        raise RunFolderError(
            f"{folder.path}: nothing to resume, {cause}", hint="Leave out --resume to start a new run."
        )
    return folder


def _next_free(name: str) -> RunFolder:
    """The first free name; creating the folder claims it, so that runs started together get one each."""
    number, path = 1, RUNS / name
    while not _create(path, exclusive=True):
        number += 1
        path = RUNS / f"{name}-{number}"
    return RunFolder(path)


def _create(path: Path, *, exclusive: bool = False) -> bool:
    """Make a folder and its parents; False when it is to be new and exists already."""
    try:
        path.mkdir(parents=True, exist_ok=not exclusive)
    except (FileExistsError, NotADirectoryError) as error:
        if exclusive and path.exists():
            return False
        raise RunFolderError(
            f"{path}: a file is in the way of this folder", hint="Move the file, or choose another folder with --out."
        ) from error
    except OSError as error:
        raise _not_writable(path, error.strerror or str(error)) from error
    return True


def _refuse_what_is_there(folder: RunFolder, *, overwrite: bool) -> None:
    """Stop where a folder holds something that must not be replaced."""
    if not folder.is_run:
        raise RunFolderError(
            f"{folder.path}: not empty, and not the folder of a run; it is left alone",
            hint="Choose another folder with --out.",
        )
    if not overwrite:
        carry_on = ", --resume to carry on with it" if folder.checkpoint.is_dir() else ""
        raise RunFolderError(
            f"{folder.path}: this folder holds a run",
            hint=f"Give --overwrite to replace it{carry_on}, or another --out.",
        )


@contextmanager
def _locked(folder: RunFolder) -> Iterator[None]:
    """Keep other processes out of a folder; the system opens the lock when this process ends, however it ends.

    Folders that are empty then are removed: a finished run has no checkpoint, one that failed at once no folder.
    """
    lock = FileLock(folder.checkpoint / LOCK, blocking=False)
    try:
        try:
            folder.checkpoint.mkdir(exist_ok=True)
            lock.acquire()
        except Timeout as error:
            raise RunFolderError(
                f"{folder.path}: another labelclean is at work in this folder",
                hint="Wait until it is done, or choose another folder with --out. If none is at work, delete "
                f"{lock.lock_file}.",
            ) from error
        except OSError as error:
            raise _not_writable(folder.checkpoint, error.strerror or str(error)) from error
        yield
    finally:
        if lock.is_locked and not _left_in(folder.checkpoint):
            with suppress(OSError):  # Windows removes no open file, but this one as it is closed
                Path(lock.lock_file).unlink()
        lock.release()
        with suppress(OSError):
            folder.checkpoint.rmdir()
            folder.path.rmdir()


def _is_in_use(folder: RunFolder) -> bool:
    """Whether a fit is at work in a folder."""
    lock = folder.checkpoint / LOCK
    if not lock.exists():
        return False
    try:
        with FileLock(lock, blocking=False):
            return False
    except Timeout:
        return True
    except OSError:
        return False  # who takes the folder is told why it cannot be locked


def _left_in(checkpoint: Path) -> list[Path]:
    """What there is to resume."""
    return [path for path in checkpoint.iterdir() if path.name != LOCK]


def _not_writable(path: Path, cause: str) -> LabelcleanError:
    return ResourceError(
        f"{path}: cannot be written to: {cause}", hint="Choose a folder that you may write to with --out."
    )


def _damaged(file: Path, error: Exception) -> LabelcleanError:
    cause = "no such file" if isinstance(error, FileNotFoundError) else str(error).splitlines()[0]
    return RunFolderError(f"{file}: not readable: {cause}", hint="Name the folder of a finished run, or run fit again.")
