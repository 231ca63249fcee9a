"""Settings are checked once, and combined by rank: flag, file, preset, default."""

from __future__ import annotations

import dataclasses
import inspect
import json
from pathlib import Path
from typing import Any

import pytest

from labelclean import cli
from labelclean.config import PRESETS, RANGES, FitConfig, as_dict, carry_on, read_toml, resolve
from labelclean.errors import ConfigError
from labelclean.results.run_folder import write_config
from tests.conftest import Run


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"effort": "huge"}, "effort: 'huge' is none of quick, standard, thorough"),
        ({"judge": "jury"}, "judge: 'jury' is none of"),
        ({"folds": 1}, "folds: 1 is not from 2 to 20"),
        ({"seed": -1}, "seed: -1 is not from 0 to 2147483647"),
        ({"folds": 2.5}, "folds: 2.5 is not a whole number"),
        ({"mixup": True}, "mixup: True is not a number"),
        ({"mixup": "0.3"}, "mixup: '0.3' is not a number"),
        ({"ema_decay": float("nan")}, "ema_decay: nan is not from 0 to 0.99999"),
        ({"finetune": "no"}, "finetune: 'no' is neither true nor false"),
        ({"backbone": 7}, "backbone: 7 is not a text"),
        ({"model_kwargs": 5}, "model_kwargs: 5 is not of the right kind"),
        ({"mean": ("a",)}, "mean"),
        ({"trust": 0.5, "distrust": 0.6}, "distrust 0.6 lies above trust 0.5"),
        ({"trust": 0.98}, "trust 0.98 lies above certain 0.975"),
        ({"image_size": 4}, "^image_size: 4 is too small"),
        ({"batch_size": 1}, "^batch_size: 1 is too small"),
        ({"mean": (0.1, 0.2)}, "mean"),
        ({"std": (0.0,)}, "std"),
        ({"mean": (127.0,)}, "mean: 127.0: not one or three numbers for pixels in"),
        ({"weights": "none", "finetune": False}, "weights none, and the backbone stays frozen"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message) as caught:
        FitConfig(**settings)
    assert caught.value.hint


def test_every_bounded_setting_exists_and_its_default_is_in_range():
    default = FitConfig()
    for name, (low, high) in RANGES.items():
        assert low <= getattr(default, name) <= high


def test_flag_beats_file_beats_preset_beats_default(tmp_path: Path):
    file = tmp_path / "fit.toml"
    file.write_text('effort = "thorough"\nwarm_rounds = 9\nseed = 5\n')
    found = resolve(flags={"seed": 7}, stored=read_toml(file))
    assert (found.seed, found.warm_rounds, found.rounds) == (7, 9, PRESETS["thorough"]["rounds"])
    assert found.batch_size == FitConfig().batch_size
    assert resolve(flags={"effort": "quick"}, stored=read_toml(file)).finetune is False


def test_another_effort_than_the_files_replaces_what_the_file_has_because_of_its_effort(tmp_path: Path):
    file = tmp_path / "config.toml"
    write_config(file, resolve(flags={"effort": "quick", "folds": 7}))
    thorough = resolve(flags={"effort": "thorough"}, stored=read_toml(file))
    assert (thorough.finetune, thorough.rounds, thorough.folds) == (True, PRESETS["thorough"]["rounds"], 7)
    write_config(file, resolve(flags={"effort": "standard", "rounds": 4}))
    assert resolve(flags={"effort": "thorough"}, stored=read_toml(file)).rounds == 4
    write_config(file, resolve(flags={}))
    assert resolve(flags={"effort": "quick"}, stored=read_toml(file)) == resolve(flags={"effort": "quick"})


def test_file_may_begin_with_a_byte_order_mark(tmp_path: Path):
    file = tmp_path / "fit.toml"
    file.write_text("\ufeffseed = 5\n", encoding="utf-8")
    assert read_toml(file) == {"seed": 5}


def test_a_single_mean_in_a_file_is_taken_as_on_the_command_line(tmp_path: Path):
    file = tmp_path / "fit.toml"
    file.write_text("mean = 0.5\nstd = [0.2, 0.2, 0.2]\n")
    found = resolve(flags={}, stored=read_toml(file))
    assert (found.mean, found.std) == ((0.5,), (0.2, 0.2, 0.2))


@pytest.mark.parametrize("trained", [False, True])
def test_a_run_that_is_carried_on_keeps_its_settings_and_names_others(trained: bool):
    stored = FitConfig(seed=3, rounds=5, precision="bf16", batch_size=64)
    assert carry_on(FitConfig(), stored, (), trained=trained) == (stored, [])
    assert carry_on(FitConfig(seed=3), stored, ("seed",), trained=trained) == (stored, [])
    names = ("seed", "certain", "rounds")
    assert carry_on(FitConfig(certain=0.8), stored, names, trained=trained) == (stored, ["certain", "rounds", "seed"])
    of_file = {"effort": "quick"}
    assert carry_on(resolve(flags={}, stored=of_file), stored, of_file, trained=trained)[1] == ["effort"]


def test_where_a_run_is_carried_on_may_change_and_how_it_trains_until_it_has():
    stored = FitConfig(device="cuda", workers=8, precision="bf16", batch_size=64, judge="peer")
    asked = FitConfig(device="cpu", workers=2, precision="fp32", batch_size=16)
    names = ("device", "workers", "precision", "batch_size", "judge")
    moved = dataclasses.replace(stored, device="cpu", workers=2)
    assert carry_on(asked, stored, names, trained=True) == (moved, ["batch_size", "precision"])
    anew = dataclasses.replace(moved, precision="fp32", batch_size=16, judge="auto")
    assert carry_on(asked, stored, names, trained=False) == (anew, [])
    left_open = ("batch_size", "judge", "precision")
    assert carry_on(FitConfig(), stored, left_open, trained=True) == (stored, [])


def test_an_effort_that_is_no_word_is_refused(tmp_path: Path):
    file = tmp_path / "fit.toml"
    file.write_text('effort = ["quick"]\n')
    with pytest.raises(ConfigError, match="effort"):
        resolve(flags={}, stored=read_toml(file))


def test_settings_survive_the_way_into_a_file_and_back(tmp_path: Path):
    config = FitConfig(mean=(0.5,), std=(0.1, 0.2, 0.3), model_kwargs={"layers": [1, 2]}, path_column="file")
    write_config(tmp_path / "config.toml", config)
    assert resolve(flags={}, stored=read_toml(tmp_path / "config.toml")) == config
    assert set(as_dict(config)) <= {item.name for item in dataclasses.fields(FitConfig)}


@pytest.mark.parametrize(
    ("content", "message"),
    [("bananas = 3", "no setting is called bananas"), ("seed = ", "fit.toml: "), (None, "fit.toml: no such file")],
)
def test_settings_file_that_cannot_be_used_is_named(tmp_path: Path, content: str | None, message: str):
    file = tmp_path / "fit.toml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=message):
        resolve(flags={}, stored=read_toml(file))


def test_flags_of_a_training_that_there_is_none_of_are_refused(tmp_path: Path, run: Run):
    file = tmp_path / "fit.toml"
    file.write_text('judge = "peer"\nepochs = 3\n')
    for words, named in (
        (("--judge", "self"), "--judge"),
        (("--epochs", 2, "--batch-size", 8), "--epochs, --batch-size"),
    ):
        told = [
            " ".join(run("fit", "gone", "--effort", effort, "--config", file, *more)[2].split())
            for effort, more in (("quick", words), ("quick", ()), ("standard", words))
        ]
        assert f"{named}: the backbone stays frozen" in told[0]
        assert "--effort standard" in told[0]
        assert all("gone: no such folder" in other for other in told[1:])
    assert "gone: no such folder" in run("fit", "gone", "--effort", "quick", "--judge", "auto")[2]  # as without it
    file.write_text("finetune = false\n")
    told_by_file = " ".join(run("fit", "gone", "--config", file, "--judge", "self")[2].split())
    assert "finetune = true" in told_by_file
    assert "--effort" not in told_by_file


def test_settings_page_tells_every_setting_with_its_default_and_which_have_a_flag():
    page = (Path(__file__).parent.parent / "docs" / "settings.md").read_text(encoding="utf-8")
    told: dict[str, tuple[str, bool]] = {}
    for line in page.splitlines():
        if line.startswith("| `"):
            names, default, _ = (cell.strip() for cell in line.strip("|").split(" | ", 2))
            for name in names.removesuffix(" ·").split(", "):
                told[name.strip("`")] = default.strip("`"), not names.endswith("·")
    parameters = inspect.signature(cli.fit).parameters
    defaults = dataclasses.asdict(FitConfig())
    assert told.keys() == defaults.keys()
    for name, (default, has_flag) in told.items():
        assert has_flag == (name in parameters), name
        value = defaults[name]
        text = "none" if value is None else json.dumps(value)
        assert default == text, name
