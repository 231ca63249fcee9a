"""Which folder a fit gets, that it has it for itself, and what is left in it when the fit ends."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from filelock import FileLock

from labelclean.errors import ConfigError, FitInterruptedError, ResourceError, RunFolderError
from labelclean.results.claim import claim
from labelclean.results.run_folder import RunFolder
from tests.folders import ended, started

pytestmark = pytest.mark.usefixtures("empty_folder")


class StoppedError(Exception):
    """A run goes no further."""


def chosen(out: Path | None, name: str, *, overwrite: bool, resume: bool) -> RunFolder:
    """The folder of a run that begins, and stops with something to resume."""
    with suppress(StoppedError), claim(out, name, overwrite=overwrite, resume=resume) as folder:
        (folder.checkpoint / "begun").write_text("")
        raise StoppedError
    return folder


def test_every_new_run_gets_a_folder_of_its_own():
    names = [str(chosen(None, "pets", overwrite=False, resume=False).path) for _ in range(3)]
    assert names == ["runs/pets", "runs/pets-2", "runs/pets-3"]


@pytest.mark.parametrize("name", ["", ".", "..", " "])
def test_names_that_are_no_names_do_not_leave_runs(name: str):
    assert chosen(None, name, overwrite=False, resume=False).path == Path("runs/run")


def test_given_folder_is_made_and_must_be_free():
    out = Path("deep/er")
    assert chosen(out, "x", overwrite=False, resume=False).path == out
    with pytest.raises(RunFolderError, match="holds a run") as caught:
        chosen(out, "x", overwrite=False, resume=False)
    assert "--overwrite" in caught.value.hint
    assert "--resume" in caught.value.hint
    with pytest.raises(RunFolderError, match="holds a run") as caught:
        chosen(ended("done").path, "x", overwrite=False, resume=False)
    assert "--resume" not in caught.value.hint  # there is nothing to carry on with


def test_overwrite_removes_the_checkpoint_and_keeps_finished_files():
    folder = started("out")
    folder.verdicts.write_text("old verdicts")
    assert chosen(Path("out"), "x", overwrite=True, resume=False) == folder
    assert {path.name for path in folder.checkpoint.iterdir()} == {"begun", "lock"}
    assert folder.verdicts.read_text() == "old verdicts"


def left_in(path: Path) -> set[str]:
    return {file.name for file in path.rglob("*")}


def test_checkpoint_goes_before_others_may_take_the_folder(monkeypatch: pytest.MonkeyPatch):
    out, seen, release = Path("out"), list[set[str]](), FileLock.release

    def watched(lock: FileLock, force: bool = False) -> None:
        seen.append(left_in(out))
        release(lock, force)

    monkeypatch.setattr(FileLock, "release", watched)
    with claim(out, "x", overwrite=False, resume=False) as folder:
        (folder.checkpoint / "state").write_text("hours of work")
        folder.verdicts.write_text("verdicts")
    assert seen[0] == {"checkpoint", "verdicts.parquet"}
    assert left_in(out) == {"verdicts.parquet"}


def test_run_that_leaves_nothing_leaves_no_folder():
    with pytest.raises(StoppedError), claim(None, "pets", overwrite=False, resume=False):
        raise StoppedError
    assert left_in(Path()) == {"runs"}


def test_folder_that_the_user_made_stays():
    Path("mine").mkdir()
    with pytest.raises(StoppedError), claim(Path("mine"), "x", overwrite=False, resume=False):
        raise StoppedError
    assert left_in(Path()) == {"mine"}


@pytest.mark.parametrize("ending", [None, StoppedError, KeyboardInterrupt])
def test_checkpoint_that_was_deleted_meanwhile_hides_no_ending(ending: type[BaseException] | None):
    caught: BaseException | None = None
    try:
        with claim(Path("out"), "x", overwrite=False, resume=False) as folder:
            folder.verdicts.write_text("verdicts")
            shutil.rmtree(folder.checkpoint)
            if ending is not None:
                raise ending
    except BaseException as error:
        caught = error
    assert (type(caught) if caught else None) is ending
    assert left_in(Path("out")) == {"verdicts.parquet"}


def test_what_fails_with_something_to_resume_tells_where():
    with pytest.raises(StoppedError) as caught:
        stop_in_claim(StoppedError(), state="hours of work")
    assert "--resume --out runs/pets carries on" in caught.value.__notes__[0]
    with pytest.raises(StoppedError) as caught:
        stop_in_claim(StoppedError(), state=None)
    assert not hasattr(caught.value, "__notes__")


def test_run_that_another_fit_has_finished_meanwhile_is_not_resumed():
    folder = ended("out")
    folder.checkpoint.mkdir()  # as it is while the other one gives back its lock
    with pytest.raises(RunFolderError, match="this run has finished"):
        chosen(Path("out"), "x", overwrite=False, resume=True)
    assert folder.verdicts.read_text() == "old verdicts"


def test_file_system_without_locks_is_told_and_no_folder_left(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.raises(ResourceError, match="No locks available"):
        chosen(Path("out"), "x", overwrite=False, resume=False)
    assert left_in(Path()) == set()


def test_who_is_interrupted_learns_the_folder_if_there_is_something_to_resume():
    with pytest.raises(FitInterruptedError) as caught:
        stop_in_claim(KeyboardInterrupt(), state="hours of work")
    assert caught.value.folder == Path("runs/pets")
    with pytest.raises(KeyboardInterrupt) as plain:
        stop_in_claim(KeyboardInterrupt(), state=None)
    assert not isinstance(plain.value, FitInterruptedError)


def stop_in_claim(ending: BaseException, *, state: str | None) -> None:
    with claim(None, "pets", overwrite=False, resume=False) as folder:
        if state is not None:
            (folder.checkpoint / "state").write_text(state)
        raise ending


@pytest.mark.parametrize("other", [{"overwrite": True, "resume": False}, {"overwrite": False, "resume": True}])
def test_nobody_else_may_take_a_folder_that_is_worked_in(other: dict[str, bool]):
    out = Path("out")
    with suppress(StoppedError), claim(out, "x", overwrite=False, resume=False) as folder:
        (folder.checkpoint / "state").write_text("hours of work")
        with pytest.raises(RunFolderError, match="another labelclean is at work"):
            chosen(out, "x", **other)
        assert (folder.checkpoint / "state").exists()
        raise StoppedError
    assert chosen(out, "x", **other) == folder  # as soon as it is done
    assert (folder.checkpoint / "state").exists() == other["resume"]


def test_overwrite_without_out_takes_the_first_name():
    ended("runs/pets")
    assert chosen(None, "pets", overwrite=True, resume=False).path == Path("runs/pets")


@pytest.mark.parametrize("overwrite", [True, False])
def test_folders_that_hold_something_else_are_left_alone(overwrite: bool):
    Path("photos").mkdir()
    Path("photos/a.jpg").write_text("precious")
    with pytest.raises(RunFolderError, match="not the folder of a run"):
        chosen(Path("photos"), "x", overwrite=overwrite, resume=False)
    assert Path("photos/a.jpg").exists()


@pytest.mark.parametrize("flags", [{"overwrite": True, "resume": False}, {"overwrite": False, "resume": True}])
@pytest.mark.parametrize("is_run", [False, True])
def test_folders_called_checkpoint_are_not_taken_for_ours(flags: dict[str, bool], *, is_run: bool):
    if is_run:
        ended("project")
    Path("project/checkpoint/epoch9").mkdir(parents=True)
    Path("project/checkpoint/epoch9/best.pt").write_text("precious")
    Path("project/train.py").write_text("")
    with pytest.raises(RunFolderError) as caught:
        chosen(Path("project"), "x", **flags)
    if not flags["resume"]:
        assert "left alone" in caught.value.message
    assert Path("project/checkpoint/epoch9/best.pt").exists()


def test_resume_takes_the_newest_unfinished_run_of_that_name():
    started("runs/pets", at=3000)
    started("runs/pets-2", at=2000)
    started("runs/pets-dogs", at=9000)
    ended("runs/pets-3", at=9000)
    assert chosen(None, "pets", overwrite=False, resume=True).path == Path("runs/pets")
    with pytest.raises(RunFolderError, match="no unfinished run"):
        chosen(None, "cats", overwrite=False, resume=True)


def test_resume_takes_no_run_of_a_folder_whose_name_ends_with_a_number():
    started("runs/pets", at=1000).subject.write_text("pets")
    started("runs/pets-2", at=2000).subject.write_text("pets-2")
    assert chosen(None, "pets", overwrite=False, resume=True).path == Path("runs/pets")
    assert chosen(None, "pets-2", overwrite=False, resume=True).path == Path("runs/pets-2")


def test_resume_does_not_take_a_run_that_is_worked_on():
    started("runs/pets", at=1000)
    with claim(None, "pets", overwrite=False, resume=False) as working:
        (working.checkpoint / "state").write_text("")
        assert working.path == Path("runs/pets-2")
        assert chosen(None, "pets", overwrite=False, resume=True).path == Path("runs/pets")


def test_resume_tells_of_the_only_run_that_it_is_worked_on():
    with claim(None, "pets", overwrite=False, resume=False) as working:
        (working.checkpoint / "state").write_text("")
        with pytest.raises(RunFolderError, match="runs/pets: another labelclean is at work"):
            chosen(None, "pets", overwrite=False, resume=True)
    with claim(Path("runs/pets-2"), "pets-2", overwrite=False, resume=False) as other:
        (other.checkpoint / "state").write_text("")
        other.subject.write_text("pets-2")
        with pytest.raises(RunFolderError, match="runs/pets: no unfinished run"):
            chosen(None, "pets", overwrite=False, resume=True)


def test_resume_is_not_confused_by_files_that_vanish(monkeypatch: pytest.MonkeyPatch):
    """Another fit replaces its files while their age is looked up."""
    for path in ("runs/pets", "runs/pets-2"):
        (started(path).checkpoint / "gone").symlink_to("nowhere")
    assert chosen(None, "pets", overwrite=False, resume=True).path.parent == Path("runs")


def test_resume_needs_a_checkpoint():
    ended("done")
    with pytest.raises(RunFolderError, match="has finished"):
        chosen(Path("done"), "x", overwrite=False, resume=True)
    with pytest.raises(RunFolderError, match="no checkpoint"):
        chosen(Path("nowhere"), "x", overwrite=False, resume=True)
    assert not Path("nowhere").exists()
    assert chosen(started("half").path, "x", overwrite=False, resume=True).path == Path("half")


def test_overwrite_and_resume_exclude_each_other():
    with pytest.raises(ConfigError):
        chosen(Path("out"), "x", overwrite=True, resume=True)


def test_files_in_the_way_are_named():
    Path("taken").write_text("a file")
    for out in (Path("taken"), Path("taken/below")):
        with pytest.raises(RunFolderError, match="in the way"):
            chosen(out, "x", overwrite=False, resume=False)
    Path("runs").write_text("a file")
    with pytest.raises(RunFolderError, match="in the way"):
        chosen(None, "x", overwrite=False, resume=False)


def test_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch):
    Path("locked").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ResourceError, match="permission denied"):
        chosen(Path("locked"), "x", overwrite=False, resume=False)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(ResourceError, match="Permission denied"):
        chosen(None, "x", overwrite=False, resume=False)
