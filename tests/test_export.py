"""What is exported, and that a wanted precision holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from labelclean.errors import InputError
from labelclean.records import BoolArray, FloatArray
from labelclean.results.export import CONFIDENCE, cut_at
from labelclean.results.run_folder import RunFolder
from tests.conftest import Run


def exported(run: Run, finished_run: RunFolder, *words: object) -> pd.DataFrame:
    code, _, err = run("export", finished_run.path, "--out", "e.csv", *words)
    assert (code, err) == (0, "")
    return pd.read_csv("e.csv", dtype={"label": str})


def test_trusted_rows_are_exported_in_their_order(run: Run, finished_run: RunFolder):
    frame = exported(run, finished_run)
    verdicts = pq.read_table(finished_run.verdicts).to_pandas()
    kept = verdicts[verdicts["verdict"].isin(["certain_clean", "purified"])]
    assert 0 < len(frame) < len(verdicts)
    assert frame["path"].tolist() == kept["path"].tolist()
    assert frame["label"].tolist() == kept["label"].tolist()
    np.testing.assert_allclose(frame["p_clean"], kept["p_clean"], atol=1e-6)
    extra = [name for name in verdicts.columns if name not in frame.columns]
    assert "p_loss" in extra


def test_other_verdicts_are_kept_as_told(run: Run, finished_run: RunFolder):
    frame = exported(run, finished_run, "--keep", "rejected, purified")
    assert set(frame["verdict"]) == {"rejected", "purified"}


def test_rejected_rows_get_their_suggested_label(run: Run, finished_run: RunFolder):
    frame = exported(run, finished_run, "--relabel")
    changed = frame["label"] != frame["given_label"]
    assert changed.any()
    assert set(frame["verdict"][changed]) == {"rejected"}
    assert (frame["label"] == frame["suggested_label"])[frame["verdict"] == "rejected"].all()
    assert (frame["label"] == frame["given_label"])[frame["verdict"] != "rejected"].all()


def test_budget_takes_the_worst_rows_worst_first(run: Run, finished_run: RunFolder):
    frame = exported(run, finished_run, "--budget", 3)
    verdicts = pq.read_table(finished_run.verdicts).to_pandas()
    judged = verdicts[verdicts["verdict"] != "unreadable"]
    assert frame["path"].tolist() == judged.sort_values("p_clean")["path"].tolist()[:3]
    assert frame["p_clean"].is_monotonic_increasing


def test_every_form_holds_the_same_rows(run: Run, finished_run: RunFolder):
    frame = exported(run, finished_run)
    assert run("export", finished_run.path, "--to", "parquet", "--out", "e.parquet")[0] == 0
    pd.testing.assert_frame_equal(pd.read_parquet("e.parquet"), frame, check_dtype=False)
    assert run("export", finished_run.path, "--to", "hf", "--out", "pictures")[0] == 0
    folder = pd.read_csv("pictures/metadata.csv")
    pd.testing.assert_frame_equal(folder.rename(columns={"file_name": "path"}), frame)


def test_older_file_is_kept_unless_told(run: Run, finished_run: RunFolder):
    Path("e.csv").write_text("mine")
    code, _, err = run("export", finished_run.path, "--out", "e.csv")
    assert (code, "exists already" in err) == (1, True)
    assert Path("e.csv").read_text() == "mine"
    assert run("export", finished_run.path, "--out", "e.csv", "--overwrite")[0] == 0
    assert Path("e.csv").read_text() != "mine"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--keep", "good"), "good is no verdict"),
        (("--keep", ","), "nothing is no verdict"),
        (("--budget", 0), "--budget 0"),
        (("--precision", 1.5), "--precision 1.5"),
        (("--precision", 0.9, "--budget", 2), "exclude each other"),
        (("--precision", 0.9, "--relabel"), "choose the rows themselves"),
        (("--precision", 0.9999), "no cut holds a precision of 0.9999"),
    ],
)
def test_what_cannot_be_exported_is_told(run: Run, finished_run: RunFolder, words: tuple[object, ...], message: str):
    code, _, err = run("export", finished_run.path, "--out", "e.csv", *words)
    assert code == 1
    assert message in " ".join(err.split())
    assert "hint: " in err
    assert not Path("e.csv").exists()


# --- a wanted precision


def planted(rng: np.random.Generator, *, num_rows: int = 3000) -> tuple[FloatArray, BoolArray]:
    """Calibrated p_clean, and whether the labels drawn with it are right."""
    p_clean = rng.beta(4, 0.5, num_rows)
    return p_clean, rng.random(num_rows) < p_clean


def test_precision_without_golden_rows_rests_on_p_clean():
    p_clean = np.array([0.99, 0.5, 0.97, 0.95, 0.2])
    kept, cut = cut_at(p_clean, p_clean, np.zeros(5, bool), precision=0.96)
    assert kept.tolist() == [True, False, True, True, False]
    assert cut.precision == pytest.approx(0.97)
    assert (cut.num_golden, cut.confidence) == (0, None)
    p_clean, is_right = planted(np.random.default_rng(0), num_rows=20_000)
    kept, _ = cut_at(p_clean, p_clean, np.zeros(len(p_clean), bool), precision=0.95)
    assert is_right[kept].mean() == pytest.approx(0.95, abs=0.006)


def test_golden_rows_hold_the_precision_as_often_as_promised_though_p_clean_is_too_sure():
    held, sizes = [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        p_right, is_right = planted(rng)
        too_sure = p_right**0.3
        is_golden = rng.random(len(p_right)) < 0.25
        known = np.where(is_golden, is_right, too_sure)
        kept, cut = cut_at(too_sure, known, is_golden, precision=0.93)
        held.append(is_right[kept & ~is_golden].mean() >= 0.93)
        sizes.append(kept.mean())
        assert cut.confidence == CONFIDENCE
        assert cut.num_golden > 0
        assert is_right[kept & is_golden].all()
    assert np.mean(held) >= CONFIDENCE
    assert np.mean(sizes) > 0.5
    for seed in range(5):
        p_right, is_right = planted(np.random.default_rng(seed))
        blind, _ = cut_at(p_right**0.3, p_right**0.3, np.zeros(len(p_right), bool), precision=0.93)
        assert is_right[blind].mean() < 0.93


def test_too_few_golden_rows_say_how_many_it_takes():
    p_clean = np.linspace(0, 1, 100)
    is_golden = np.arange(100) % 2 == 0
    with pytest.raises(InputError, match=r"50 golden rows do not show a precision of 0\.99") as caught:
        cut_at(p_clean, np.where(is_golden, 1.0, p_clean), is_golden, precision=0.99)
    assert "528 right ones" in caught.value.hint  # 0.99 ** 528 <= 0.05 / 10
