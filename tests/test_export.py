"""What is exported, and that a wanted precision holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labelclean.data.tables import read_table
from labelclean.errors import InputError
from labelclean.records import Bin, BoolArray, FloatArray
from labelclean.results.cuts import CONFIDENCE, cut_at
from labelclean.results.export import Selection, select
from labelclean.results.run_folder import RunFolder
from labelclean.results.verdicts import verdict_table, write_verdicts
from tests.conftest import Run, make_findings, make_manifest


def write_run(folder: RunFolder, labels: list[str], p_clean: list[float], **changes: Any) -> None:
    """Replace a run's verdicts: rows with a p_clean below one half are rejected, the others certain."""
    of_manifest = {name: changes.pop(name) for name in ("golden", "extra") if name in changes}
    bins = np.where(np.array(p_clean) < 0.5, Bin.CERTAIN_NEGATIVE, Bin.CERTAIN_POSITIVE)
    findings = make_findings(range(len(labels)), bins=bins, p_clean=np.array(p_clean), **changes)
    write_verdicts(folder.verdicts, verdict_table(make_manifest(labels, **of_manifest), findings, {}, metadata={}))


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


@pytest.mark.parametrize(
    ("suggested", "p_suggested", "p_off_topic"),
    [(1, 0.6, 0.0), (0, 0.3, 0.0), (0, 0.45, 0.5)],
    ids=["its own", "another, less likely", "another, less likely than none"],
)
def test_rejected_rows_are_relabelled_only_with_a_likelier_label(
    run: Run, finished_run: RunFolder, suggested: int, p_suggested: float, p_off_topic: float
):
    """Rows 1 and 2 are rejected; only for row 2 another, likelier label is suggested."""
    write_run(
        finished_run,
        ["a", "b", "b"],
        [0.9, 0.4, 0.1],
        suggested_ids=np.array([1, suggested, 0]),
        p_suggested=np.array([0.1, p_suggested, 0.9]),
        p_off_topic=np.array([0.0, p_off_topic, 0.05]),
    )
    for words in (("--relabel",), ("--relabel", "--keep", "rejected,certain_clean")):
        code, out, _ = run("export", finished_run.path, "--out", "e.csv", *words, "--overwrite")
        assert code == 0
        assert "2 of 3 rows, 1 of them relabelled" in out
        assert "1 rejected row left out: no other label is likelier than the given one, or than none" in out
        frame = pd.read_csv("e.csv")
        assert frame["path"].tolist() == ["0.png", "2.png"]
        assert frame["label"].tolist() == ["a", "a"]
    assert "left out" not in run("export", finished_run.path, "--out", "e.csv", "--overwrite")[1]


def test_one_picture_keeps_its_likeliest_label(run: Run, finished_run: RunFolder):
    """Groups: rows 0 to 2, in which b is likeliest; 3 and 4, even; 5 and 6, of which the first is rejected."""
    labels = ["a", "b", "a", "a", "b", "a", "b", "a"]
    p_clean = [0.8, 0.9, 0.7, 0.6, 0.6, 0.1, 0.7, 0.7]
    groups = np.array([0, 0, 0, 4, 4, 2, 2, -1])
    write_run(finished_run, labels, p_clean, duplicate_group=groups, p_meta=np.array(p_clean))
    code, out, _ = run("export", finished_run.path, "--out", "e.csv")
    assert code == 0
    assert "4 of 8 rows" in out
    assert "3 left out: another label of the same picture is likelier" in out
    assert pd.read_csv("e.csv")["path"].tolist() == ["1.png", "3.png", "6.png", "7.png"]

    selected = select(pq.read_table(finished_run.verdicts), Selection(precision=0.7))
    assert selected.rows.tolist() == [1, 3, 6, 7]
    assert selected.num_contradicted == 3
    assert selected.cut is not None
    assert selected.cut.precision == pytest.approx((0.9 + 0.6 + 0.7 + 0.7) / 4)
    relabelled = select(pq.read_table(finished_run.verdicts), Selection(relabel=True))
    assert (relabelled.rows.tolist(), relabelled.num_contradicted) == ([1, 3, 6, 7], 3)


def test_golden_label_of_a_picture_wins(finished_run: RunFolder):
    """Row 1 is confirmed, with a lower score of its own than row 0 has."""
    write_run(
        finished_run,
        ["a", "b", "a"],
        [0.99, 0.6, 0.9],
        golden=[None, "b", None],
        duplicate_group=np.array([0, 0, -1]),
    )
    assert select(pq.read_table(finished_run.verdicts), Selection()).rows.tolist() == [1, 2]


def test_every_form_holds_the_same_rows(run: Run, finished_run: RunFolder, draw: Callable[..., Path]):
    frame = exported(run, finished_run)
    assert run("export", finished_run.path, "--out", "e.parquet")[0] == 0
    pd.testing.assert_frame_equal(pd.read_parquet("e.parquet"), frame, check_dtype=False)
    for path in frame["path"]:
        draw(path)
    assert run("export", finished_run.path, "--to", "hf", "--out", "images")[0] == 0
    folder = pd.read_csv("images/metadata.csv")
    pd.testing.assert_frame_equal(folder.rename(columns={"file_name": "path"}), frame)


def test_hugging_face_gets_paths_without_detours(run: Run, finished_run: RunFolder, draw: Callable[..., Path]):
    verdicts = pq.read_table(finished_run.verdicts)
    paths = [f"./cats/../{path}" if row % 2 else path for row, path in enumerate(verdicts["path"].to_pylist())]
    write_verdicts(finished_run.verdicts, verdicts.set_column(verdicts.column_names.index("path"), "path", [paths]))
    for path in verdicts["path"].to_pylist():
        draw(path)
    Path("images/cats").mkdir()
    assert run("export", finished_run.path, "--to", "hf", "--out", "images")[0] == 0
    names = pd.read_csv("images/metadata.csv")["file_name"]
    assert set(names) <= set(verdicts["path"].to_pylist())
    assert "./cats/../1.png" in exported(run, finished_run)["path"].tolist()


def test_hugging_face_gets_paths_that_begin_in_its_folder(
    run: Run, finished_run: RunFolder, draw: Callable[..., Path], tmp_path: Path
):
    """Paths of the index may be relative to another folder, or absolute."""
    verdicts = pq.read_table(finished_run.verdicts)
    names = verdicts["path"].to_pylist()
    paths = [f"../images/{name}" if row % 2 else str(tmp_path / "images" / name) for row, name in enumerate(names)]
    write_verdicts(finished_run.verdicts, verdicts.set_column(verdicts.column_names.index("path"), "path", [paths]))
    for name in names:
        draw(name)
    assert run("export", finished_run.path, "--to", "hf", "--out", "images")[0] == 0
    assert set(pd.read_csv("images/metadata.csv")["file_name"]) <= set(names)
    Path("beside").mkdir()
    code, _, err = run("export", finished_run.path, "--to", "hf", "--out", "beside")
    assert (code, "images lie outside of it, the first is" in " ".join(err.split())) == (1, True)
    assert not any(Path("beside").iterdir())


def test_a_form_that_is_named_needs_no_ending(run: Run, finished_run: RunFolder):
    for name, form in (("e.csv", "csv"), ("e.dat", "csv"), ("e", "parquet")):
        assert run("export", finished_run.path, "--out", name, "--to", form)[0] == 0
    assert Path("e.dat").read_bytes() == Path("e.csv").read_bytes()
    assert len(pq.read_table("e")) == len(pd.read_csv("e.csv"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--out", "e.txt"), "--out e.txt: its ending"),
        (("--out", "e"), "--out e: its ending"),
        (("--out", "e.csv", "--to", "parquet"), "--to parquet and --out e.csv disagree"),
        (("--out", "e.parquet", "--to", "csv"), "--to csv and --out e.parquet disagree"),
        (("--out", "e.csv", "--to", "hf"), "--to hf and --out e.csv disagree"),
        (("--out", "nowhere", "--to", "hf"), "nowhere: no such folder"),
        (("--out", "images", "--to", "hf"), "images: 4 of 5 images are not there, the first is 1.png"),
    ],
)
def test_form_and_place_must_fit(
    run: Run, finished_run: RunFolder, draw: Callable[..., Path], words: tuple[str, ...], message: str
):
    draw("0.png")
    before = set(Path().iterdir())
    code, _, err = run("export", finished_run.path, *words)
    assert code == 1
    assert message in " ".join(err.split())
    assert ("images, to which the paths are relative" in err) == (words[1] in ("nowhere", "images"))
    assert set(Path().iterdir()) == before
    assert [path.name for path in Path("images").iterdir()] == ["0.png"]


def test_ending_may_be_in_capitals(run: Run, finished_run: RunFolder):
    assert run("export", finished_run.path, "--out", "E.CSV", "--to", "csv")[0] == 0
    assert run("export", finished_run.path, "--out", "E.PARQUET")[0] == 0
    assert len(pd.read_csv("E.CSV")) == len(pd.read_parquet("E.PARQUET"))


@pytest.mark.parametrize("name", ["run/verdicts.parquet", "run/history.parquet", "run/../run/Verdicts.parquet"])
def test_files_of_the_run_are_not_replaced(run: Run, finished_run: RunFolder, name: str):
    before = {path.name: path.read_bytes() for path in finished_run.path.iterdir()}
    code, _, err = run("export", finished_run.path, "--out", name, "--overwrite")
    assert (code, "this is a file of the run itself" in err) == (1, True)
    assert {path.name: path.read_bytes() for path in finished_run.path.iterdir()} == before
    assert run("export", finished_run.path, "--out", "verdicts.parquet")[0] == 0
    assert run("export", finished_run.path, "--out", "run/clean.parquet")[0] == 0


@pytest.mark.parametrize("words", [("--relabel",), ("--keep", "certain_clean,purified,rejected")])
def test_columns_of_an_earlier_export_come_along_with_a_prefix(
    run: Run, finished_run: RunFolder, draw: Callable[..., Path], words: tuple[str, ...]
):
    """An index that is an export, with a column file_name beside the path."""
    first = exported(run, finished_run, *words)
    extra = read_table(Path("e.csv")).drop_columns(["path", "label"])
    extra = extra.append_column("file_name", pa.array(["mine"] * len(first)))
    p_clean = [0.9] * (len(first) - 1) + [0.1]
    write_run(finished_run, first["label"].tolist(), p_clean, extra=extra)
    second = exported(run, finished_run, *words, "--overwrite")
    for name in ("verdict", "p_clean", "suggested_label", "p_suggested"):
        assert second[f"input_{name}"].tolist() == first[name].tolist()
    assert second["p_clean"].tolist()[:-1] == p_clean[:-1]
    assert second["p_clean"].iloc[-1] == (second["p_suggested"].iloc[-1] if "--relabel" in words else p_clean[-1])
    assert second["file_name"].tolist() == ["mine"] * len(first)
    assert ("input_given_label" in second) == ("given_label" in second) == ("--relabel" in words)
    if "--relabel" in words:
        assert second["input_given_label"].tolist() == first["given_label"].tolist()
        assert second["given_label"].tolist() == first["label"].tolist()
    for path in second["path"]:
        draw(path)
    assert run("export", finished_run.path, "--to", "hf", "--out", "images", *words)[0] == 0
    folder = pd.read_csv("images/metadata.csv")
    assert folder["file_name"].tolist() == second["path"].tolist()
    assert folder["input_file_name"].tolist() == second["file_name"].tolist()


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
        (("--keep", ","), "--keep: it names no verdict"),
        (("--budget", 0), "--budget 0"),
        (("--precision", 1.5), "--precision 1.5"),
        (("--precision", 0.9, "--budget", 2), "exclude each other"),
        (("--precision", 0.9, "--relabel"), "choose the rows themselves"),
        (("--precision", 0.9999), "no cut holds a precision of 0.9999: the highest that p_clean expects at any cut is"),
    ],
)
def test_what_cannot_be_exported_is_told(run: Run, finished_run: RunFolder, words: tuple[object, ...], message: str):
    code, _, err = run("export", finished_run.path, "--out", "e.csv", *words)
    assert code == 1
    assert message in " ".join(err.split())
    assert "hint: " in err
    assert not Path("e.csv").exists()


def test_a_budget_of_rows_that_are_all_decided_is_told(run: Run, finished_run: RunFolder):
    decided = verdict_table(make_manifest(["a", "b"], golden=["a", "a"]), make_findings(range(2)), {}, metadata={})
    write_verdicts(finished_run.verdicts, decided)
    code, _, err = run("export", finished_run.path, "--out", "e.csv", "--budget", 2)
    assert (code, "has a golden label" in err, "--keep" in err) == (1, True, False)


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
    assert (cut.wanted, cut.num_golden, cut.confidence) == (0.96, 0, None)
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


def test_precision_holds_in_a_million_rows():
    p_clean = np.random.default_rng(0).uniform(0.9, 1, 1_000_000).astype(np.float32)
    of_all = pa.table({"label": ["a"], "verdict": ["purified"], "reason": ["msp_accepted"]})
    table = of_all.take(pa.array(np.zeros(len(p_clean), dtype=int)))
    table = table.append_column("duplicate_group", pa.nulls(len(p_clean), pa.int64()))
    for name in ("p_clean", "p_meta"):
        table = table.append_column(name, pa.array(p_clean))
    selected = select(table, Selection(precision=0.97))
    best = np.sort(p_clean.astype(np.float64))[::-1]
    num_kept = len(selected.rows)
    assert best[:num_kept].mean() >= 0.97 > best[: num_kept + 1].mean()
    assert selected.cut is not None
    assert selected.cut.precision == pytest.approx(best[:num_kept].mean(), abs=1e-9)


def test_too_few_golden_rows_say_what_they_can_show():
    """Of 120 rows half are golden, all of them right, so that the cut at all rows shows most."""
    p_clean = np.linspace(0, 1, 120)
    is_golden = np.arange(120) % 2 == 0
    known = np.where(is_golden, 1.0, p_clean)
    highest = 0.005 ** (1 / 60)  # of 60 right rows, with a tenth of 5 %
    with pytest.raises(InputError, match=r"60 golden rows cannot show a precision of 0\.95: .* is 0\.915$") as caught:
        cut_at(p_clean, known, is_golden, precision=0.95)
    assert 0.915 < highest < 0.916
    assert "`labelclean golden`" in caught.value.hint
    assert "ask for less" in caught.value.hint
    assert "With all labels right it takes 104:" in caught.value.hint
    assert 0.005 ** (1 / 103) < 0.95 <= 0.005 ** (1 / 104)
    kept, cut = cut_at(p_clean, known, is_golden, precision=0.915)
    assert (kept.all(), cut.num_golden, cut.wanted) == (True, 60, 0.915)
    few_right = np.where(is_golden, np.arange(120) % 4 == 0, p_clean)
    with pytest.raises(InputError) as caught:
        cut_at(p_clean, few_right, is_golden, precision=0.9)
    assert caught.value.hint.startswith("Check more rows")  # 60 would do, if they were right


def test_golden_rows_are_kept_by_their_label_wherever_they_stand():
    """Row 0 is golden and wrong, above the cut; below it are 40 such rows, a golden one that is right, and another."""
    p_meta = np.concatenate([np.linspace(0.99, 0.9, 200), np.full(40, 0.3), [0.1, 0.2]])
    is_golden = np.concatenate([np.arange(200) % 2 == 0, np.ones(41, dtype=bool), [False]])
    p_clean = np.where(is_golden, 1.0, p_meta)
    p_clean[[0, *range(200, 240)]] = 0.0
    kept, _ = cut_at(p_meta, p_clean, is_golden, precision=0.9)
    np.testing.assert_array_equal(kept[is_golden], p_clean[is_golden] > 0.5)
    assert kept[1:150].all()
    assert not kept[241]
    everyone = np.ones(len(p_meta), dtype=bool)
    known = (np.arange(len(p_meta)) > 100).astype(float)
    kept, cut = cut_at(p_meta, known, everyone, precision=0.99)  # nothing is left to be said of others
    assert kept.tolist() == (known > 0).tolist()
    assert cut.precision == 1


def test_golden_rows_that_are_all_wrong_show_nothing():
    p_clean = np.array([0.9, 0.0, 0.8, 0.0])
    with pytest.raises(InputError, match=r"at any cut is 0\.000$"):
        cut_at(p_clean, p_clean, np.array([False, True, False, True]), precision=0.5)


def test_precision_beyond_p_clean_says_what_can_be_had():
    p_clean = np.array([0.9, 0.7, 0.8])
    with pytest.raises(InputError, match=r"no cut holds a precision of 0\.95: .* is 0\.900$") as caught:
        cut_at(p_clean, p_clean, np.zeros(3, bool), precision=0.95)
    assert "`labelclean golden`" in caught.value.hint
    assert cut_at(p_clean, p_clean, np.zeros(3, bool), precision=0.9)[0].tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("has_golden", "tested"),
    [
        (False, "not tested, no golden rows"),
        (True, "golden rows show at least 60% with 95% confidence (21 above the cut, wrong ones left out)"),
    ],
)
def test_terminal_says_how_far_a_precision_is_sure(run: Run, finished_run: RunFolder, has_golden: bool, tested: str):
    """Of 21 golden rows the last, which has the lowest score, is wrong."""
    scores = np.linspace(1, 0.8, 100)
    golden = ["a" if row % 5 == 0 else None for row in range(99)] + ["b"]
    labels = ["a"] * 99 + ["a" if has_golden else "b"]
    write_run(finished_run, labels, scores.tolist(), golden=golden if has_golden else None, p_meta=scores)
    code, out, _ = run("export", finished_run.path, "--out", "e.csv", "--precision", 0.6)
    assert code == 0
    assert f"{100 - has_golden} of 100 rows" in out
    assert f"  share of right labels: 90.0% expected by p_clean; {tested}\n" in out
