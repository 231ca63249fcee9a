"""Every failure that a user can cause, as one tree.

LabelcleanError
├── InputError        the user's own files: images, index, golden labels, truth
├── ConfigError       settings out of range or at odds with each other
├── BackboneError     a backbone or its weights cannot be had
├── RunFolderError    a run folder exists already, is incomplete, or is no run folder
└── ResourceError     the machine: disk full, memory, device

The command line catches the base class in one place, prints message and hint, and exits with 1.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path


class LabelcleanError(Exception):
    """A failure with a remedy.

    Args:
        message: place and cause, as in `labels.csv row 7: no image cat.png`.
        hint: what the user can do about it, one sentence.
    """

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InputError(LabelcleanError):
    """The images, the index, the golden labels or the truth cannot be used as they are."""


class ConfigError(LabelcleanError):
    """A setting is out of range, unknown, or at odds with another."""


class BackboneError(LabelcleanError):
    """The backbone or its weights cannot be had."""


class RunFolderError(LabelcleanError):
    """A run folder is in the way, incomplete, or not a run folder."""


class ResourceError(LabelcleanError):
    """The machine lacks what the run needs."""


class FitInterruptedError(KeyboardInterrupt):
    """The user stopped a fit that can be carried on.

    Args:
        folder: its run folder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder))
        self.folder = folder


def name_some(texts: Sequence[str], number: int, *, separator: str = ", ") -> str:
    """The first few of so many things, and how many more there are, as messages name them: `cat, dog, and 7 more`."""
    more = [f"and {number - len(texts):,} more"] if number > len(texts) else []
    return separator.join([*texts, *more])


def why_unreadable(error: Exception) -> str:
    """The cause in a few words: what the system says of a file, or the first line of what its reader does."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    told = error.strerror if isinstance(error, OSError) else None
    return told or next(iter(str(error).splitlines()), type(error).__name__)


def damaged_checkpoint(file: Path, error: Exception) -> RunFolderError:
    """A file of an unfinished run that cannot be read, by a fault of the disk: it was written whole or not at all."""
    return RunFolderError(
        f"{file}: the unfinished run cannot be read: {why_unreadable(error)}", hint="Start anew with --overwrite."
    )


def explain(error: Exception) -> LabelcleanError | None:
    """The error as one with a remedy; None for those that are our own mistakes."""
    if isinstance(error, LabelcleanError):
        return error
    if _is_out_of_memory(error):
        return ResourceError(
            f"out of memory: {str(error) or 'the machine has no more'}",
            hint="Lower --image-size, or --batch-size where the backbone is trained, or use a smaller --backbone.",
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ResourceError(
            f"{error.filename or 'the disk'}: {error.strerror}", hint="Free some space there, or write to another disk."
        )
    if isinstance(error, OSError) and error.filename and error.strerror:
        return ResourceError(f"{error.filename}: {error.strerror}", hint="Check the path, and that you may use it.")
    return None


def _is_out_of_memory(error: Exception) -> bool:
    """Also as torch says it, on a GPU by a class of its own, on the CPU in words alone."""
    if isinstance(error, RuntimeError):
        return type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
    return isinstance(error, MemoryError)
