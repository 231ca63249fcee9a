"""Shared fixtures: small manifests, findings, images and a finished run, all made by hand."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from labelclean import cli
from labelclean.config import FitConfig
from labelclean.files import write_json
from labelclean.records import (
    NO_CLASS,
    REFUTED,
    UNKNOWN,
    Bin,
    ByteArray,
    Estimate,
    Fault,
    Findings,
    FloatArray,
    IntArray,
    Labels,
    Manifest,
    RoundRecord,
)
from labelclean.results.run_folder import RunFolder, write_config, write_history
from labelclean.results.verdicts import provenance, verdict_table, write_verdicts
from labelclean.train.frozen import FrozenFeatures
from tests.pictures import call, fit_words, write_data

torch.set_num_threads(1)  # tests are small, and the same on every machine

Outcome = tuple[int, str, str]
Run = Callable[..., Outcome]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest test first: the others go on beside it."""
    items.sort(key=lambda item: item.path.name != "test_demo.py")


def make_manifest(
    labels: Sequence[str | None],
    *,
    paths: Sequence[str | None] | None = None,
    golden: Sequence[str | None] | None = None,
    extra: dict[str, Any] | None = None,
    faults: dict[int, Fault] | None = None,
) -> Manifest:
    """A manifest of the rows' labels; paths are 0.png, 1.png, ... unless given."""
    num_rows = len(labels)
    golden = golden or [None] * num_rows
    names = tuple(sorted({label for label in (*labels, *golden) if label not in (None, NO_CLASS)}))
    ids = {name: number for number, name in enumerate(names)} | {None: UNKNOWN, NO_CLASS: REFUTED}
    return Manifest(
        columns={},
        source="labels.csv",
        paths=pa.chunked_array([pa.array(paths or [f"{row}.png" for row in range(num_rows)], pa.string())]),
        labels=pa.chunked_array([pa.array(labels, pa.string())]),
        label_ids=np.array([ids[label] for label in labels]),
        golden_ids=np.array([ids[label] for label in golden]),
        golden_chances=np.full(num_rows, np.nan),
        golden_draws=np.full(num_rows, UNKNOWN),
        group_ids=np.full(num_rows, UNKNOWN),
        class_names=names,
        extra=pa.table(extra or {}),
        faults=faults or {},
    )


def make_labels(given: IntArray, **changes: Any) -> Labels:
    """Labels of three classes, none of them golden, in five folds, each row in a group of its own."""
    num_rows = len(given)
    content: dict[str, Any] = {
        "given": given,
        "golden": np.full(num_rows, UNKNOWN),
        "golden_chances": np.full(num_rows, np.nan),
        "golden_draws": np.full(num_rows, UNKNOWN),
        "fold": np.arange(num_rows) % 5,
        "groups": np.arange(num_rows),
        "num_classes": 3,
    }
    return Labels(**(content | changes))


def as_batch(pictures: ByteArray) -> torch.Tensor:
    """Pictures (B, S, S, 3) as networks take them, (B, 3, S, S)."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float()


def as_frozen(features: FloatArray) -> FrozenFeatures:
    """Features as if they were all that a backbone sees, and on its principal axes, (N, D)."""
    mean, axes = features.mean(axis=0), np.eye(features.shape[1], dtype=np.float32)
    return FrozenFeatures(output=features, scores=features - mean, mean=mean, axes=axes)


def make_round(number: int, *, guards: tuple[str, ...] = ()) -> RoundRecord:
    """A round whose figures mean nothing."""
    shares = {"share_positive": 0.5, "share_negative": 0.2, "share_uncertain": 0.3, "share_accepted": 0.1}
    rates = {"noise_rate": 0.25, "noise_rate_loss": 0.2, "noise_rate_feature": 0.3}
    passes = {"forward_passes": 100, "backward_passes": 50}
    return RoundRecord(
        stage="frozen",
        round=number,
        seconds=1.5,
        agreement=0.8,
        train_loss=0.4,
        guards=guards,
        **shares,
        **rates,
        **passes,
    )


def make_findings(rows: Sequence[int], **changes: Any) -> Findings:
    """Findings on some rows: all certain positives with p_clean .9 that suggest class 0, unless changed."""
    count = len(rows)
    numbers = ("p_loss", "p_feature", "p_meta", "p_suggested", "loss", "margin", "knn_agreement", "wrong_event_rate")
    content: dict[str, Any] = {
        "rows": np.array(rows, dtype=np.int64),
        "bins": np.full(count, Bin.CERTAIN_POSITIVE),
        "cut": 0.5,
        "p_clean": np.full(count, 0.9),
        "p_off_topic": np.zeros(count),
        "suggested_ids": np.zeros(count, dtype=np.int64),
        "outlier_score": np.full(count, 0.1),
        "duplicate_group": np.full(count, UNKNOWN),
        "noise": Estimate(value=0.25, low=0.2, high=0.3),
        "class_noise": {},
        "precision": None,
        "recall": None,
        "history": (make_round(0, guards=("one", "two")), make_round(1, guards=("too few rows",))),
        **{name: np.linspace(0.1, 0.9, count) for name in numbers},
    }
    return Findings(**(content | changes))


@pytest.fixture
def finished_run(tmp_path: Path) -> RunFolder:
    """A run on ten rows: cats, dogs and an owl, of which row 8 has no file and row 9 no label."""
    labels = ["cat", "cat", "cat", "dog", "dog", "dog", "dog", "owl", "owl", None]
    faults = {
        8: Fault(kind="missing_file", message="labels.csv row 8: 8.png: no such image."),
        9: Fault(kind="missing_label", message="labels.csv row 9: no label."),
    }
    manifest = make_manifest(labels)
    findings = make_findings(
        range(8),
        bins=np.array([0, 2, 1, 0, 0, 2, 1, 0]),
        p_clean=np.array([0.99, 0.7, 0.05, 0.9, 0.95, 0.4, 0.1, 0.8]),
        suggested_ids=np.array([0, 0, 1, 1, 1, 0, 0, 2]),
        duplicate_group=np.array([5, -1, 5, 6, 6, -1, -1, -1]),
        class_noise={label: Estimate(value=0.1 * (3 - label), low=0.05, high=0.4) for label in range(3)},
        precision=Estimate(value=0.8, low=0.7, high=0.9),
        recall=Estimate(value=0.6, low=0.5, high=0.75),
    )
    folder = RunFolder(tmp_path / "run")
    config = FitConfig(effort="quick")
    metadata = provenance(config, fingerprint="abc")
    folder.path.mkdir()
    write_verdicts(folder.verdicts, verdict_table(manifest, findings, faults, metadata=metadata))
    write_history(folder, findings.history)
    write_config(folder.config, config)
    passes = {"forward": 1200, "backward": 300}
    run = {"config": {"backbone": "resnet10t", "effort": "quick"}, "timings": {"Decoding": 2.0, "Rounds": 61.0}}
    write_json(folder.run, {**run, "image_passes": passes, "peak_memory_bytes": 2**30, "device": "cpu"})
    return folder


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """An empty folder for images."""
    folder = tmp_path / "images"
    folder.mkdir()
    return folder


@pytest.fixture
def draw(image_folder: Path) -> Callable[..., Path]:
    """Writes a picture of one colour into the image folder."""

    def write(name: str, colour: Any = (200, 30, 30), *, mode: str = "RGB", size: tuple[int, int] = (12, 8)) -> Path:
        file = image_folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, size, colour).save(file)
        return file

    return write


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory is empty."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(empty_folder: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line in an empty folder; gives exit code, stdout and stderr."""
    monkeypatch.setenv("COLUMNS", "100")

    def command(*words: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["labelclean", *map(str, words)])
        capsys.readouterr()
        try:
            cli.main()
            code: object = 0
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        assert isinstance(code, int)
        return code, captured.out, captured.err

    return command


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images/, labels.csv, fit.toml and weights.safetensors: see `pictures.write_data`."""
    root = tmp_path_factory.mktemp("data")
    write_data(root)
    return root


@pytest.fixture(scope="session")
def small_run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with fit.toml as it is: a random start, cross-fitted. Only to be read."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert call(*fit_words(data, folder)) == 0
    return folder
