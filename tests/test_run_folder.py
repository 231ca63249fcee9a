"""Which run is opened, and the smaller files of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from labelclean.config import FitConfig, read_toml, resolve
from labelclean.errors import RunFolderError
from labelclean.results import run_folder
from labelclean.results.run_folder import RunFolder, open_run, read_config, read_history, read_run
from tests.conftest import make_round
from tests.folders import ended, started

pytestmark = pytest.mark.usefixtures("empty_folder")


def test_open_run_finds_the_newest_finished_one():
    with pytest.raises(RunFolderError, match="no finished run"):
        open_run(None)
    ended("runs/a", at=2000)
    ended("runs/b", at=1000)
    started("runs/c", at=9000)
    assert open_run(None).path == Path("runs/a")
    assert open_run(Path("runs/b")).path == Path("runs/b")


def test_open_run_says_how_to_finish_a_run():
    started("half")
    with pytest.raises(RunFolderError, match="has not finished") as caught:
        open_run(Path("half"))
    assert "--resume --out half" in caught.value.hint


def test_open_run_refuses_what_is_no_run():
    Path("empty").mkdir()
    Path("file").write_text("")
    for path, cause in (("empty", "no verdicts.parquet"), ("file", "not a folder"), ("gone", "no such folder")):
        with pytest.raises(RunFolderError, match=cause):
            open_run(Path(path))


def test_history_keeps_rounds_and_guards():
    folder = RunFolder(Path())
    run_folder.write_history(folder, (make_round(0), make_round(1, guards=("a", "b"))))
    table = read_history(folder)
    assert table.schema == run_folder.HISTORY
    assert table["guards"].to_pylist() == [[], ["a", "b"]]
    assert table["forward_passes"].to_pylist() == [100, 100]
    run_folder.write_history(folder, ())
    assert read_history(folder).num_rows == 0


def test_saved_configuration_can_be_fed_back():
    config = FitConfig(effort="quick", finetune=False, rounds=3, mean=(0.5,), model_kwargs={"drop_rate": 0.1})
    run_folder.write_config(Path("config.toml"), config)
    assert resolve(flags={}, stored=read_toml(Path("config.toml"))) == config
    assert read_config(Path("config.toml")) == config


@pytest.mark.parametrize("content", ["seed = ", "bananas = 3", "seed = -1"])
def test_damaged_configuration_of_a_run_is_no_mistake_in_a_flag(content: str):
    Path("config.toml").write_text(content)
    with pytest.raises(RunFolderError, match="settings cannot be read") as caught:
        read_config(Path("config.toml"))
    assert "--overwrite" in caught.value.hint


@pytest.mark.parametrize("content", ["{", "[1]", "\udc80"])
def test_damaged_run_file_is_reported(content: str):
    Path("run.json").write_bytes(content.encode("utf-8", errors="surrogateescape"))
    with pytest.raises(RunFolderError, match=r"run\.json: not readable"):
        read_run(RunFolder(Path()))
