"""Which folder a fit gets, and that it has it for itself as long as it works."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from labelclean.errors import ConfigError, FitInterruptedError, LabelcleanError, ResourceError, RunFolderError
from labelclean.files import as_unicode
from labelclean.results.run_folder import RUNS, RunFolder, runs_called


@contextmanager
def claim(out: Path | None, name: str, *, overwrite: bool, resume: bool) -> Iterator[RunFolder]:
    """The folder for a run: it can be written to, has a folder for checkpoints, and no other fit works in it.

    What there is to resume goes when the work in it ends well; when it fails, the error gets a note of what is left.

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
    name = _as_folder_name(name)
    is_new = out is None or not out.exists()
    if resume:
        folder = _unfinished(RunFolder(out)) if out else _newest_unfinished(name)
    elif out is None and not overwrite:
        folder = _next_free(name)
    else:
        folder = _replaceable(RunFolder(out or RUNS / name), overwrite=overwrite)
    _refuse_foreign_checkpoint(folder)
    with _locked(folder, is_new=is_new):
        if not resume:
            clear_checkpoint(folder)
        elif folder.verdicts.exists() and not _left_in(folder):
            raise _nothing_to_resume(folder)  # another fit has finished it meanwhile
        try:
            yield folder
        except KeyboardInterrupt as error:
            if _left_in(folder):
                raise FitInterruptedError(folder.path) from error
            raise
        except Exception as error:
            if _left_in(folder):
                place = shlex.quote(str(folder.path))
                error.add_note(
                    f"What was done is kept: --resume --out {place} carries on with the same settings, "
                    f"--overwrite --out {place} starts anew."
                )
            raise
        clear_checkpoint(folder)


def clear_checkpoint(folder: RunFolder) -> None:
    """Take away what there is to resume; the folder with the lock goes when the lock is given back.

    The settings go first: where this is stopped, nothing that is left is taken for the work of a run.

    Raises:
        ResourceError: it cannot be removed.
    """
    try:
        folder.settings.unlink(missing_ok=True)
        for path in _left_in(folder):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    except OSError as error:
        raise _not_writable(folder.checkpoint, error) from error


def _as_folder_name(name: str) -> str:
    return name.strip(". ") or "run"


def _newest_unfinished(name: str) -> RunFolder:
    """Of the runs of a name that nobody works on; pets-2 may be the second run of pets, or the first of pets-2."""
    unfinished = [
        run
        for run in runs_called(re.escape(name))
        if run.is_unfinished and _name_within(run) in (as_unicode(name), None)
    ]
    if not unfinished:
        raise RunFolderError(
            f"{RUNS / name}: no unfinished run to resume", hint="Name its folder with --out, or leave out --resume."
        )
    free = [run for run in unfinished if not _is_in_use(run)]
    if not free:
        raise _in_use(unfinished[-1])
    return max(free, key=_last_worked_on)


def _name_within(folder: RunFolder) -> str | None:
    """What an unfinished run is called, as far as it has come to be written down."""
    with suppress(OSError):
        return _as_folder_name(folder.subject.read_text(encoding="utf-8"))
    return None


def _last_worked_on(folder: RunFolder) -> float:
    """Time stamp of the newest file of the checkpoint, as far as its files do not vanish meanwhile."""
    newest = 0.0
    with suppress(FileNotFoundError):
        for path in (folder.checkpoint, *folder.checkpoint.iterdir()):
            newest = max(newest, path.stat().st_mtime)
    return newest


def _unfinished(folder: RunFolder) -> RunFolder:
    """The folder, if there is something to resume in it."""
    if not folder.is_unfinished:
        raise _nothing_to_resume(folder)
    return folder


def _nothing_to_resume(folder: RunFolder) -> RunFolderError:
    cause = "this run has finished" if folder.verdicts.exists() else "no checkpoint in it"
    return RunFolderError(f"{folder.path}: nothing to resume, {cause}", hint="Leave out --resume to start a new run.")


def _next_free(name: str) -> RunFolder:
    """The first free name; creating the folder claims it, so that runs started together get one each."""
    number, path = 1, RUNS / name
    while not _create(path, exclusive=True):
        number += 1
        path = RUNS / f"{name}-{number}"
    return RunFolder(path)


def _replaceable(folder: RunFolder, *, overwrite: bool) -> RunFolder:
    """The folder, made where it was missing, if it holds nothing that must not be replaced."""
    _create(folder.path)
    if any(folder.path.iterdir()):
        if not folder.is_run:
            raise RunFolderError(
                f"{folder.path}: not empty, and not the folder of a run; it is left alone",
                hint="Choose another folder with --out.",
            )
        if not overwrite:
            carry_on = ", --resume to carry on with it" if folder.is_unfinished else ""
            raise RunFolderError(
                f"{folder.path}: this folder holds a run",
                hint=f"Give --overwrite to replace it{carry_on}, or another --out.",
            )
    return folder


def _refuse_foreign_checkpoint(folder: RunFolder) -> None:
    """Stop where the place of the checkpoint is taken: what is in there goes when a run ends."""
    if not folder.is_unfinished and _left_in(folder):
        raise RunFolderError(
            f"{folder.checkpoint}: not the checkpoint of a run; it is left alone",
            hint="Choose another folder with --out.",
        )


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
        raise _not_writable(path, error) from error
    return True


@contextmanager
def _locked(folder: RunFolder, *, is_new: bool) -> Iterator[None]:
    """Keep other processes out of a folder; the system opens the lock when this process ends, however it ends.

    Folders that are empty then are removed: a finished run has no checkpoint, and a new one that failed at once no
    folder.
    """
    lock = FileLock(folder.lock, blocking=False)
    try:
        _acquire(lock, folder)
        yield
    finally:
        if lock.is_locked and not _left_in(folder):
            with suppress(OSError):  # Windows removes no open file, but this one as it is closed
                Path(lock.lock_file).unlink()
        lock.release()
        with suppress(OSError):
            folder.checkpoint.rmdir()
            if is_new:
                folder.path.rmdir()


def _acquire(lock: FileLock, folder: RunFolder) -> None:
    """Take the lock of a folder."""
    try:
        if not os.access(folder.path, os.W_OK | os.X_OK):
            raise PermissionError(None, "permission denied")
        folder.checkpoint.mkdir(exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise _in_use(folder) from error
    except OSError as error:
        raise _not_writable(folder.checkpoint, error) from error


def _in_use(folder: RunFolder) -> RunFolderError:
    return RunFolderError(
        f"{folder.path}: another labelclean is at work in this folder",
        hint=f"Wait until it is done, or choose another folder with --out. If none is at work, delete {folder.lock}.",
    )


def _is_in_use(folder: RunFolder) -> bool:
    """Whether a fit is at work in a folder."""
    if not folder.lock.exists():
        return False
    try:
        with FileLock(folder.lock, blocking=False):
            return False
    except Timeout:
        return True
    except OSError:
        return False  # who takes the folder is told why it cannot be locked


def _left_in(folder: RunFolder) -> list[Path]:
    """What there is to resume; nothing where the checkpoint is gone."""
    with suppress(FileNotFoundError):
        return [path for path in folder.checkpoint.iterdir() if path != folder.lock]
    return []


def _not_writable(path: Path, error: OSError) -> LabelcleanError:
    return ResourceError(
        f"{path}: cannot be written to: {error.strerror or error}",
        hint="Choose a folder that you may write to with --out.",
    )
