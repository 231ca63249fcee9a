"""The main job from end to end, through the public command, on a few small patterns and a tiny backbone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from labelclean import cli
from labelclean.errors import LabelcleanError
from labelclean.train.checkpoint import Checkpoint

COLOURS = {"ash": (200, 60, 60), "birch": (60, 200, 60), "cedar": (60, 60, 200)}
TINY = ["--backbone", "test_resnet", "--weights", "none", "--image-size", "32", "--epochs", "6", "--batch-size", "16"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """images/ with 90 coloured squares and labels.csv in which every tenth label is wrong."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    names, lines = list(COLOURS), ["path,label,site"]
    for row in range(90):
        true = row % 3
        pixels = np.clip(np.array(COLOURS[names[true]]) + rng.normal(0, 25, (32, 32, 3)), 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "images" / f"{row}.png")
        lines.append(f"{row}.png,{names[(true + (row % 10 == 0)) % 3]},{row % 4}")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def fit(*arguments: str) -> int:
    """Exit code of a fit; expected errors leave as 1."""
    try:
        return CliRunner().invoke(cli.app, ["fit", "images", *arguments], catch_exceptions=False).exit_code
    except LabelcleanError:
        return 1


@pytest.mark.parametrize("judge", ["self", "peer", "crossfit"])
def test_every_row_gets_a_verdict_and_planted_errors_are_found(folder: Path, judge: str) -> None:
    assert fit("labels.csv", *TINY, "--rounds", "2", "--judge", judge, "--out", "run") == 0
    rows = pd.read_parquet("run/verdicts.parquet")
    assert rows["row"].tolist() == list(range(90))
    assert rows["site"].tolist() == [str(row % 4) for row in range(90)]
    filled = rows.drop(columns=["duplicate_group", "error"])
    assert not filled.isna().any().any()
    wrong = rows["row"] % 10 == 0
    assert rows.loc[wrong, "p_clean"].mean() < rows.loc[~wrong, "p_clean"].mean() - 0.3
    run = json.loads(Path("run/run.json").read_text())
    history = pd.read_parquet("run/history.parquet")
    assert run["image_passes"]["backward"] == history["backward_passes"].sum() > 0
    assert not Path("run/checkpoint").exists()


def test_damaged_rows_are_marked_and_never_lost(folder: Path) -> None:
    content = Path("images/1.png").read_bytes()
    Path("images/1.png").write_bytes(content[: len(content) // 2])
    Path("images/2.png").write_bytes(b"")
    with open("labels.csv", "a") as file:
        file.write("gone.png,ash,0\n../labels.csv,ash,0\n5.png,,0\n")
    assert fit("labels.csv", *TINY, "--rounds", "1", "--out", "run") == 0
    rows = pd.read_parquet("run/verdicts.parquet").astype({"verdict": str, "reason": str})
    assert len(rows) == 93
    bad = rows[rows["verdict"] == "unreadable"]
    assert bad["row"].tolist() == [1, 2, 90, 91, 92]
    assert bad["reason"].tolist()[1:] == ["empty_file", "missing_file", "path_outside", "missing_label"]
    assert bad["error"].notna().all()
    assert fit("labels.csv", *TINY, "--strict", "--out", "strict") == 1


def test_quick_effort_judges_on_frozen_features_of_a_weights_file(folder: Path) -> None:
    import timm
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(timm.create_model("test_resnet").state_dict(), "weights.pt")
    options = ["--effort", "quick", "--backbone", "test_resnet", "--weights", "weights.pt", "--rounds", "2"]
    assert fit("labels.csv", *options, "--out", "run") == 0
    run = json.loads(Path("run/run.json").read_text())
    assert run["image_passes"] == {"forward": 180, "backward": 0}
    assert "tensors from weights.pt" in run["backbone_tensors"]


def test_the_same_seed_and_the_saved_configuration_give_the_same_verdicts(folder: Path) -> None:
    assert fit("labels.csv", *TINY, "--rounds", "2", "--out", "one") == 0
    assert fit("labels.csv", "--config", "one/config.toml", "--out", "two") == 0
    one, two = (pd.read_parquet(f"{name}/verdicts.parquet") for name in ("one", "two"))
    pd.testing.assert_frame_equal(one, two)


def test_an_interrupted_fit_is_resumed_to_the_same_verdicts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fit("labels.csv", *TINY, "--rounds", "3", "--out", "whole") == 0
    save = Checkpoint.save_round

    def save_and_stop(self: Checkpoint, *arguments: object) -> None:
        save(self, *arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save_round", save_and_stop)
        with pytest.raises(cli.FitInterruptedError):
            fit("labels.csv", *TINY, "--rounds", "3", "--out", "cut")
    assert not Path("cut/verdicts.parquet").exists()
    assert fit("labels.csv", "--resume", "--out", "cut") == 0
    whole, cut = (pd.read_parquet(f"{name}/verdicts.parquet") for name in ("whole", "cut"))
    pd.testing.assert_frame_equal(whole, cut)


def test_golden_labels_decide_their_rows(folder: Path) -> None:
    Path("golden.csv").write_text("path,golden\n0.png,ash\n1.png,birch\n")
    assert fit("labels.csv", *TINY, "--rounds", "1", "--golden", "golden.csv", "--out", "run") == 0
    rows = pd.read_parquet("run/verdicts.parquet").astype({"verdict": str, "reason": str})
    assert rows["reason"].tolist()[:2] == ["golden_contradicts", "golden_confirms"]
    assert rows.loc[0, "suggested_label"] == "ash"


def test_a_finished_run_is_not_overwritten_unless_told_to(folder: Path) -> None:
    options = ["labels.csv", *TINY, "--rounds", "1", "--out", "run"]
    assert fit(*options) == 0
    assert fit(*options) == 1
    assert fit(*options, "--overwrite") == 0


@pytest.mark.parametrize(
    "lines", ["path,label\n", "path,label\n0.png,ash\n1.png,ash\n", "path,label\nno.png,a\nno2.png,b\n"]
)
def test_nothing_to_judge_is_a_clear_error(folder: Path, lines: str) -> None:
    Path("labels.csv").write_text(lines)
    assert fit("labels.csv", *TINY, "--out", "run") == 1
    assert not Path("run/verdicts.parquet").exists()
