"""A small data set of drawn pictures with flipped labels and rows that cannot be judged, and fits on it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from labelclean import cli
from labelclean.results.run_folder import RunFolder
from labelclean.results.verdicts import COLUMNS, read_metadata

NUM_IMAGES, NUM_FLIPPED = 66, 7
CLASSES = ("apple", "brick", "cloud")
FAULTS = {66: "empty_file", 67: "truncated", 68: "missing_file", 69: "path_outside", 70: "missing_label"}
SETTINGS = """
backbone = "test_resnet"
weights = "none"
image_size = 16
device = "cpu"
precision = "fp32"
judge = "crossfit"
epochs = 3
warm_rounds = 2
rounds = 2
"""
RUN_FILES = {"verdicts.parquet", "history.parquet", "model.safetensors", "config.toml", "run.json"}


def draw_picture(kind: int, seed: int) -> Image.Image:
    """Stripes across in red, stripes down in green, or squares in blue, on grey noise."""
    rng = np.random.default_rng(seed)
    stripe = (np.arange(32) // 4 % 2) * rng.uniform(60, 120)
    pattern = (stripe[:, None] + 0 * stripe, stripe + 0 * stripe[:, None], np.abs(stripe[:, None] - stripe))[kind]
    image = 90 + rng.normal(0, 15, (32, 32, 3))
    image[..., kind] += pattern
    return Image.fromarray(image.clip(0, 255).astype(np.uint8))


def write_data(root: Path) -> None:
    """images/, labels.csv with a column of the truth, fit.toml, and weights.safetensors."""
    (root / "images").mkdir()
    truth = [CLASSES[row % 3] for row in range(NUM_IMAGES)]
    labels = [CLASSES[(row + 1) % 3] if row % 10 == 0 else truth[row] for row in range(NUM_IMAGES)]
    for row in range(NUM_IMAGES):
        draw_picture(row % 3, row).save(root / "images" / f"{row:02}.png")
    content = (root / "images" / "00.png").read_bytes()
    (root / "images" / "empty.png").write_bytes(b"")
    (root / "images" / "half.png").write_bytes(content[: len(content) // 2])
    paths = [f"{row:02}.png" for row in range(NUM_IMAGES)]
    index = {
        "path": [*paths, "empty.png", "half.png", "gone.png", "../labels.csv", "01.png"],
        "label": [*labels, *CLASSES, "apple", ""],
        "true_label": [*truth, *CLASSES, "apple", "brick"],
    }
    pd.DataFrame(index).to_csv(root / "labels.csv", index=False)
    (root / "fit.toml").write_text(SETTINGS)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(timm.create_model("test_resnet").state_dict(), root / "weights.safetensors")


def sound_rows(data: Path) -> pd.DataFrame:
    """The rows of the index that can be judged."""
    return pd.read_csv(data / "labels.csv", keep_default_na=False)[:NUM_IMAGES]


def fit_words(data: Path, out: Path, *more: object, index: Path | None = None) -> tuple[object, ...]:
    """The command line of a fit."""
    settings = ("--config", data / "fit.toml", "--out", out, "--quiet")
    return ("fit", data / "images", index or data / "labels.csv", *settings, *more)


def call(*words: object) -> int:
    """Run a command line in this process; its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["labelclean", *map(str, words)])
        try:
            cli.main()
        except SystemExit as stop:
            return int(stop.code or 0)
    return 0


def table_of(folder: Path) -> pa.Table:
    return pq.read_table(folder / "verdicts.parquet")


def frame_of(folder: Path) -> pd.DataFrame:
    frame: pd.DataFrame = table_of(folder).to_pandas()
    return frame


def same_verdicts(one: Path, other: Path) -> bool:
    """Equal to the last bit, in all columns and in the metadata."""
    return bool(table_of(one).equals(table_of(other), check_metadata=True))


def image_passes(folder: Path) -> dict[str, int]:
    passes: dict[str, int] = json.loads(RunFolder(folder).run.read_text())["image_passes"]
    return passes


def assert_sound(folder: Path, num_rows: int) -> None:
    """A row for every row; judged ones with all evidence, and a verdict that follows from it."""
    frame = frame_of(folder)
    assert frame["row"].tolist() == list(range(num_rows))
    judged = frame[frame["verdict"] != "unreadable"]
    filled = [name for name in COLUMNS.names if name not in ("duplicate_group", "error")]
    assert judged[filled].notna().all(axis=None)
    for name in ("p_clean", "p_suggested", "p_loss", "p_feature", "p_meta", "knn_agreement", "wrong_event_rate"):
        assert judged[name].between(0, 1).all()
    assert judged["error"].isna().all()
    certain = {
        "certain_positive": ("certain_clean", "streams_agree_clean"),
        "certain_negative": ("rejected", "streams_agree_noisy"),
    }
    cut = json.loads(read_metadata(table_of(folder))["cut"])
    assert cut >= 0.5
    for _, row in judged[~judged["reason"].str.startswith("golden")].iterrows():
        purified = ("purified", "msp_accepted") if row["p_clean"] > cut else ("rejected", "msp_declined")
        assert (row["verdict"], row["reason"]) == certain.get(row["division"], purified)
