"""Fits that are interrupted, killed, or run out of disk, and are carried on to the very same verdicts."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors import SafetensorError

from labelclean.results import claim, verdicts
from labelclean.results.run_folder import RunFolder, read_history, read_run
from labelclean.train import device, loop, trainer
from labelclean.train.checkpoint import Checkpoint
from tests.conftest import Run
from tests.pictures import RUN_FILES, fit_words, image_passes, same_verdicts


def keep_always(patch: pytest.MonkeyPatch) -> None:
    """The state is kept after every batch, whatever that costs."""
    patch.setattr(loop, "KEEP_EVERY", 0.0)
    patch.setattr(loop, "KEEP_SHARE", float("inf"))


def interrupt_after(
    patch: pytest.MonkeyPatch, method: str, *, times: int = 1, when: Callable[[Any], bool] = lambda _: True
) -> None:
    """An interrupt right after something such was kept for the so-manieth time."""
    keep, kept = getattr(Checkpoint, method), []

    def keep_and_stop(self: Checkpoint, content: Any) -> None:
        keep(self, content)
        kept.extend([content] if when(content) else [])
        if len(kept) == times:
            raise KeyboardInterrupt

    patch.setattr(Checkpoint, method, keep_and_stop)


class StepClock:
    """Tells the optimiser steps that were done, in place of seconds."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        update = trainer.update_average

        def tick(*args: Any, **options: Any) -> None:
            self.now += 1
            update(*args, **options)

        patch.setattr(trainer, "update_average", tick)
        patch.setattr(loop, "time", self)

    def perf_counter(self) -> float:
        return self.now


def stop(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def stop_after_one(unlink: Callable[..., None]) -> Callable[..., None]:
    """An interrupt at the second file that is to go from a checkpoint, but not for its lock."""
    gone: list[Path] = []

    def unlink_one(self: Path, missing_ok: bool = False) -> None:
        if self.parent.name == "checkpoint" and self.name != "lock":
            gone.append(self)
            if len(gone) > 1:
                raise KeyboardInterrupt
        unlink(self, missing_ok=missing_ok)

    return unlink_one


def assert_same_run(one: Path, other: Path) -> None:
    assert same_verdicts(one, other)
    assert {path.name for path in other.iterdir()} == RUN_FILES
    assert image_passes(one) == image_passes(other)
    histories = [read_history(RunFolder(folder)).to_pandas().drop(columns="seconds") for folder in (one, other)]
    pd.testing.assert_frame_equal(*histories)


@pytest.mark.parametrize(("judge", "pretrained"), [("crossfit", True), ("peer", True), ("self", False)])
def test_interrupt_after_a_round(data: Path, tmp_path: Path, run: Run, judge: str, pretrained: bool):
    flags = ("--judge", judge, "--weights", data / "weights.safetensors" if pretrained else "none")
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    assert run(*fit_words(data, straight, *flags))[0] == 0
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, "save_round")
        code, out, err = run(*fit_words(data, stopped, *flags))
    assert (code, out) == (130, "")
    assert "--resume" in err
    code, _, err = run("report", stopped)
    assert code == 1
    assert "has not finished" in err
    code, _, err = run(*fit_words(data, stopped, *flags, "--resume", "--seed", 77))
    assert code == 1
    assert "other settings: seed" in err
    Path("other.toml").write_text("folds = 7\n")
    where = ("fit", data / "images", data / "labels.csv", "--out", stopped)
    code, _, err = run(*where, "--resume", "--config", "other.toml")
    assert code == 1
    assert "other settings: folds" in err
    assert run(*fit_words(data, stopped, *flags, "--resume"))[0] == 0
    assert_same_run(straight, stopped)


@pytest.mark.parametrize(("judge", "place"), [("self", 0), ("crossfit", 0), ("crossfit", 1), ("peer", 1)])
def test_interrupt_in_the_midst_of_a_round(
    data: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, judge: str, place: int
):
    """The state is kept within rounds too: the first one of a random start is the most of the work."""
    clock = StepClock(monkeypatch)
    flags = ("--judge", judge, "--epochs", 8, "--rounds", 1)
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    assert run(*fit_words(data, straight, *flags))[0] == 0
    for times in (6, 16 if place else 6):  # interrupted twice; a network has 16 steps
        with pytest.MonkeyPatch.context() as patch:
            keep_always(patch)
            interrupt_after(patch, "save_round", times=times)
            more = ("--resume",) if stopped.exists() else ()
            assert run(*fit_words(data, stopped, *flags, *more))[0] == 130
        clock.now += 1000
        kept = Checkpoint(stopped / "checkpoint").load_round()
        assert kept is not None
        assert kept.number == 0
    stints = [network["stint"] for network in kept.learner["networks"]]
    begun = [stint is not None for stint in stints]
    assert begun == [number <= place for number in range(len(stints))]
    assert 0 < stints[place]["done"][0] < 16
    assert run(*fit_words(data, stopped, *flags, "--resume"))[0] == 0
    assert_same_run(straight, stopped)
    seconds = [read_history(RunFolder(folder))["seconds"].to_pylist() for folder in (straight, stopped)]
    assert seconds == [[0, 16 * len(stints)]] * 2  # none for patches, by this clock


def test_interrupt_in_the_midst_of_the_second_round_of_pretrained_networks(data: Path, tmp_path: Path, run: Run):
    flags = ("--judge", "peer", "--weights", data / "weights.safetensors")
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    assert run(*fit_words(data, straight, *flags))[0] == 0
    with pytest.MonkeyPatch.context() as patch:
        keep_always(patch)
        interrupt_after(patch, "save_round", when=lambda kept: kept.number == 1 and kept.seconds > 0)
        assert run(*fit_words(data, stopped, *flags))[0] == 130
    assert run(*fit_words(data, stopped, *flags, "--resume"))[0] == 0
    assert_same_run(straight, stopped)


def test_interrupt_in_the_frozen_stage(data: Path, tmp_path: Path, run: Run):
    flags = ("--weights", data / "weights.safetensors")
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    assert run(*fit_words(data, straight, *flags))[0] == 0
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, "save_features")
        assert run(*fit_words(data, stopped, *flags))[0] == 130
    # settings that are left out are those of the run
    words = ("fit", data / "images", data / "labels.csv", "--out", stopped, "--quiet", "--resume")
    assert run(*words)[0] == 0
    assert_same_run(straight, stopped)


def test_number_format_is_chosen_once(data: Path, tmp_path: Path, run: Run):
    """Both formats may be equally fast: a run that is resumed or repeated must not choose anew."""
    Path("fit.toml").write_text((data / "fit.toml").read_text().replace('precision = "fp32"', ""))
    words = ("fit", data / "images", data / "labels.csv", "--quiet", "--config")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device, "_seconds", lambda *_, bf16: 2.0 if bf16 else 1.0)
        assert run(*words, "fit.toml", "--out", "straight")[0] == 0
        interrupt_after(patch, "save_round")
        assert run(*words, "fit.toml", "--out", "stopped")[0] == 130
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device, "_seconds", lambda *_, bf16: 1.0 if bf16 else 2.0)
        assert run(*words, "fit.toml", "--out", "stopped", "--resume")[0] == 0
        assert run(*words, "straight/config.toml", "--out", "repeated")[0] == 0
    assert tomllib.loads(Path("straight/config.toml").read_text())["precision"] == "fp32"
    assert_same_run(tmp_path / "straight", tmp_path / "stopped")
    assert same_verdicts(tmp_path / "straight", tmp_path / "repeated")


def test_batch_size_is_chosen_once(data: Path, tmp_path: Path, run: Run):
    """A GPU wants larger steps: a run that is carried on elsewhere goes on with those that it began with."""
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    assert run(*fit_words(data, straight))[0] == 0
    with pytest.MonkeyPatch.context() as patch:
        keep_always(patch)
        interrupt_after(patch, "save_round", times=2)
        assert run(*fit_words(data, stopped))[0] == 130
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device, "choose_batch_size", lambda config, **_: config.batch_size or 64)
        assert run(*fit_words(data, stopped, "--resume"))[0] == 0
    assert_same_run(straight, stopped)
    training = read_run(RunFolder(stopped))["training"]
    config = tomllib.loads((stopped / "config.toml").read_text())
    assert training["batch_size"] == config["batch_size"] > 0


def test_how_a_run_trains_may_change_until_it_has(data: Path, tmp_path: Path, run: Run):
    """As after too large a batch for the memory."""
    out = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device, "choose_precision", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(*fit_words(data, out, "--batch-size", 16))
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, "save_round")
        assert run(*fit_words(data, out, "--batch-size", 8, "--resume"))[0] == 130
    code, _, err = run(*fit_words(data, out, "--batch-size", 16, "--resume"))
    assert (code, "other settings: batch_size" in err) == (1, True)
    assert run(*fit_words(data, out, "--batch-size", 8, "--resume"))[0] == 0
    assert read_run(RunFolder(out))["training"]["batch_size"] == 8


@pytest.mark.parametrize("decoded", [True, False])
@pytest.mark.parametrize("other", ["label", "golden", "group", "column"])
def test_another_index_is_refused(data: Path, tmp_path: Path, run: Run, decoded: bool, other: str):
    """Also before anything was decoded, and where the column is not named again that was read."""
    out, table = tmp_path / "run", pd.read_csv(data / "labels.csv")
    backwards = table["label"].to_numpy()[::-1]
    table = table.assign(second=backwards, golden="", group=[f"g{row}" for row in range(len(table))])
    table.to_csv("labels.csv", index=False)
    column = ("--label-column", "second") if other == "column" else ()
    with pytest.MonkeyPatch.context() as patch:
        if decoded:
            interrupt_after(patch, "save_round")
        else:
            patch.setattr("labelclean.inputs.decode_all", stop)
        assert run(*fit_words(data, out, *column, index=Path("labels.csv")))[0] == 130
    if other != "column":
        table.loc[0, other] = {"label": "apple", "golden": table.loc[1, "label"], "group": "g1"}[other]
    table.to_csv("other.csv", index=False)
    code, _, err = run(*fit_words(data, out, "--resume", index=Path("other.csv")))
    assert code == 1
    assert "another index" in err
    # the unfinished run is still there
    assert run(*fit_words(data, out, "--resume", *column, index=Path("labels.csv")))[0] == 0


def test_what_no_settings_vouch_for_is_not_carried_on(data: Path, small_run: Path, tmp_path: Path, run: Run):
    """As where the clearing of a checkpoint was stopped: what it left is of other weights and other labels."""
    out = tmp_path / "run"
    Path("labels.csv").write_text((data / "labels.csv").read_text().replace("00.png,brick", "00.png,apple"))
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, "save_round")
        assert run(*fit_words(data, out, "--seed", 5, index=Path("labels.csv")))[0] == 130
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(claim.shutil, "rmtree", stop)
        patch.setattr(Path, "unlink", stop_after_one(Path.unlink))
        assert run(*fit_words(data, out, "--overwrite"))[0] == 130
    left = {path.name for path in (out / "checkpoint").iterdir()}
    assert {"features.safetensors", "round.pt", "images.u8"} <= left
    assert run(*fit_words(data, out, "--resume"))[0] == 0
    assert_same_run(small_run, out)


@pytest.mark.parametrize("file", ["round.pt", "features.safetensors", "decoded.npz"])
def test_a_damaged_checkpoint_is_told(data: Path, tmp_path: Path, run: Run, file: str):
    out = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, "save_round")
        assert run(*fit_words(data, out))[0] == 130
    content = (out / "checkpoint" / file).read_bytes()
    (out / "checkpoint" / file).write_bytes(content[: len(content) // 2])
    code, _, err = run(*fit_words(data, out, "--resume"))
    assert (code, "Traceback" in err) == (1, False)
    assert f"{file}: the unfinished run cannot be read" in " ".join(err.split())
    assert "Start anew with --overwrite" in " ".join(err.split())


def test_files_of_two_runs_never_stand_beside_each_other(data: Path, small_run: Path, tmp_path: Path, run: Run):
    """Stopped while its files take the places of an earlier run's, a run has no verdicts until it is resumed."""
    out = tmp_path / "run"
    assert run(*fit_words(data, out, "--seed", 5))[0] == 0
    moved: list[Path] = []
    replace = Path.replace

    def replace_one(self: Path, target: Path) -> Path:
        if self.parent.name == "outcome":
            if moved and not self.name.startswith("."):
                raise KeyboardInterrupt
            moved.extend([] if self.name.startswith(".") else [target])
        return replace(self, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", replace_one)
        assert run(*fit_words(data, out, "--overwrite"))[0] == 130
    assert len(moved) == 1
    assert not (out / "verdicts.parquet").exists()
    code, _, err = run("report", out)
    assert (code, "has not finished" in err) == (1, True)
    assert run(*fit_words(data, out, "--resume"))[0] == 0
    assert_same_run(small_run, out)


def test_seconds_in_all_are_those_of_all_processes(data: Path, tmp_path: Path, run: Run):
    out = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, "save_round")
        assert run(*fit_words(data, out))[0] == 130
    path = out / "checkpoint" / "round.pt"
    kept = torch.load(path, weights_only=True)
    records = json.loads(kept["history"])
    records[0]["seconds"] = 5000.0
    torch.save({**kept, "history": json.dumps(records), "seconds": 300.0}, path)
    assert run(*fit_words(data, out, "--resume"))[0] == 0
    assert 5300 < read_run(RunFolder(out))["timings"]["total"] < 5400


def test_state_of_another_version_is_refused(data: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch):
    out = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("labelclean.fit.__version__", "0.0.1")
        interrupt_after(patch, "save_round")
        assert run(*fit_words(data, out))[0] == 130
    code, _, err = run(*fit_words(data, out, "--resume"))
    assert (code, "unfinished run is of labelclean 0.0.1" in " ".join(err.split())) == (1, True)
    assert "note: What was done is kept" in err


def test_images_that_are_gone_are_decoded_again(data: Path, small_run: Path, tmp_path: Path, run: Run):
    """As when the clearing of a finished run's checkpoint was interrupted."""
    out = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, "save_round")
        assert run(*fit_words(data, out))[0] == 130
    (out / "checkpoint" / "images.u8").unlink()
    assert run(*fit_words(data, out, "--resume"))[0] == 0
    assert_same_run(small_run, out)


def test_images_of_another_size_are_refused(data: Path, tmp_path: Path, run: Run):
    """The side is that of the images, where nobody says anything else: without them it would be another."""
    words = ("fit", tmp_path / "images", data / "labels.csv", "--out", "run", "--quiet", "--config", "fit.toml")
    Path("fit.toml").write_text(
        "".join(line for line in (data / "fit.toml").read_text().splitlines(keepends=True) if "image_size" not in line)
    )
    (tmp_path / "images").symlink_to(data / "images")
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, "save_round")
        assert run(*words)[0] == 130
    (tmp_path / "images").unlink()
    (tmp_path / "images").mkdir()
    code, _, err = run(*words, "--resume")
    assert code == 1
    assert "decoded its images to" in err
    (tmp_path / "images").rmdir()
    (tmp_path / "images").symlink_to(data / "images")
    assert run(*words, "--resume")[0] == 0


@pytest.mark.parametrize("other", ["other picture", "no picture"])
def test_other_images_are_refused(data: Path, tmp_path: Path, run: Run, other: str):
    shutil.copytree(data / "images", tmp_path / "images")
    words = ("fit", tmp_path / "images", data / "labels.csv", "--out", "run", "--quiet", "--config", data / "fit.toml")
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, "save_round")
        assert run(*words)[0] == 130
    if other == "other picture":
        shutil.copy(tmp_path / "images" / "01.png", tmp_path / "images" / "07.png")
    else:
        (tmp_path / "images" / "07.png").unlink()
    code, _, err = run(*words, "--resume")
    assert code == 1
    cause = "not the image that the unfinished run run has" if other == "other picture" else "gone since run"
    assert f"07.png: {cause} decoded" in " ".join(err.split())
    shutil.copytree(data / "images", tmp_path / "images", dirs_exist_ok=True)
    assert run(*words, "--resume")[0] == 0


def test_nothing_to_resume(data: Path, small_run: Path, tmp_path: Path, run: Run):
    for folder in (tmp_path / "gone", small_run):
        code, _, err = run(*fit_words(data, folder, "--resume"))
        assert code == 1
        assert "nothing to resume" in err
    assert not (tmp_path / "gone").exists()


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
def test_killed_while_it_writes_its_state(data: Path, small_run: Path, tmp_path: Path, run: Run):
    script = """
import os, signal
import torch
from labelclean import cli
torch.set_num_threads(1)
save = torch.save
def save_half(content, out):
    save(content, out)
    os.truncate(out, out.stat().st_size // 2)
    os.kill(os.getpid(), signal.SIGKILL)
torch.save = save_half
cli.main()
"""
    out = tmp_path / "run"
    words = [str(word) for word in fit_words(data, out)]
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [file for file in (out / "checkpoint").glob(".round.pt.*") if file.stat().st_size]
    assert not (out / "checkpoint" / "round.pt").exists()
    assert run(*fit_words(data, out, "--resume"))[0] == 0
    assert_same_run(small_run, out)


# --- a full disk


def no_space(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def no_space_of_safetensors(*_: object, **__: object) -> None:
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


def no_space_for(name: str) -> Callable[[Path, str], None]:
    """Writes text, but only half of the file of that name."""

    def put(file: Path, text: str) -> None:
        full = file.name.startswith(f".{name}") and file.parent.name == "outcome"
        file.write_text(text[: len(text) // 2] if full else text)
        if full:
            no_space()

    return put


def test_disk_full_before_the_images_are_decoded(data: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "posix_fallocate", no_space)
    code, _, err = run(*fit_words(data, tmp_path / "run"))
    assert code == 1
    assert "no room for the decoded images" in " ".join(err.split())
    assert not (tmp_path / "run").exists()


SPOILED: dict[str, tuple[object, str, Any]] = {
    "features": ("labelclean.train.checkpoint.save_file", "", no_space_of_safetensors),
    "checkpoint": (torch, "save", no_space),
    "tables": (verdicts.pq, "write_table", no_space),
    "model": (Path, "write_bytes", no_space),
    "config": ("labelclean.files._put", "", no_space_for("config.toml")),
    "run": ("labelclean.files._put", "", no_space_for("run.json")),
}


@pytest.mark.parametrize("what", SPOILED)
def test_disk_full_leaves_nothing_half_written_and_is_mended_by_resume(
    data: Path, small_run: Path, tmp_path: Path, run: Run, what: str
):
    out = tmp_path / "run"
    place, name, spoiled = SPOILED[what]
    with pytest.MonkeyPatch.context() as patch:
        if isinstance(place, str):
            patch.setattr(place, spoiled)
        else:
            patch.setattr(place, name, spoiled)
        code, _, err = run(*fit_words(data, out))
    assert code == 1
    assert "No space left" in " ".join(err.split())
    assert "Traceback" not in err
    assert {path.name for path in out.iterdir()} == {"checkpoint"}
    assert run(*fit_words(data, out, "--resume"))[0] == 0
    assert_same_run(small_run, out)
