"""Rows chosen for a person to label: with known chances, and ready for `fit --golden`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from labelclean.data.index import read_manifest
from labelclean.errors import InputError
from labelclean.results.golden import NUM_ROWS, draw, draw_systematically, inclusion_chances, uncertainty
from labelclean.results.run_folder import RunFolder
from labelclean.results.verdicts import verdict_table, write_verdicts
from tests.conftest import Run, make_findings, make_manifest
from tests.pictures import CLASSES, NUM_IMAGES


def test_uncertain_rows_get_the_larger_shares():
    sizes = uncertainty(np.array([0.5, 0.9, 0.999, 0.1]))
    assert sizes.sum() == pytest.approx(1)
    assert sizes[0] > sizes[1] > sizes[2] > 0.5 / 4
    assert sizes[1] == pytest.approx(sizes[3])


@pytest.mark.parametrize("count", [1, 3, 7, 10])
def test_chances_sum_to_the_count_and_never_exceed_one(count: int):
    chances = inclusion_chances(np.array([0.5, 0.2, *np.full(8, 0.3 / 8)]), count)
    assert chances.sum() == pytest.approx(count)
    assert ((chances > 0) & (chances <= 1)).all()
    assert chances[0] == 1.0 or count == 1


def test_rows_are_drawn_with_their_chances_and_never_twice():
    rng = np.random.default_rng(0)
    chances = inclusion_chances(rng.uniform(0.1, 2, 40), 12)
    counts = np.zeros(40)
    for _ in range(3000):
        drawn = draw_systematically(chances, rng)
        assert len(drawn) == len(set(drawn)) == 12
        counts[drawn] += 1
    # four standard errors
    np.testing.assert_allclose(counts / 3000, chances, atol=4 * 0.5 / np.sqrt(3000))


def test_of_a_picture_one_row_is_drawn_and_the_chance_is_that_of_its_path():
    """Path 0 has two rows; picture 1 three, of two paths; the others are alone."""
    paths = np.array([0, 1, 0, 2, 1, *range(3, 20)])
    pictures = np.array([0, 1, 0, 1, 1, *range(2, 19)])
    p_clean = np.linspace(0.5, 0.99, len(paths))
    rng = np.random.default_rng(0)
    counts, told = np.zeros(20), np.zeros(20)
    for _ in range(3000):
        picked, chances = draw(p_clean, paths, pictures, 6, rng)
        assert len(set(pictures[picked])) == 6
        counts[paths[picked]] += 1
        told[paths[picked]] = chances
    np.testing.assert_allclose(counts / 3000, told, atol=4 * 0.5 / np.sqrt(3000))
    assert told[1] == pytest.approx(2 * told[2])
    assert told.sum() == pytest.approx(6)


def test_noise_rate_from_the_chosen_rows_is_unbiased_and_sharper_than_from_random_ones():
    rng = np.random.default_rng(1)
    p_clean = rng.beta(3, 0.4, 2000)
    is_wrong = rng.random(2000) > p_clean
    chances = inclusion_chances(uncertainty(p_clean), 150)
    weighted, plain = [], []
    for _ in range(600):
        drawn = draw_systematically(chances, rng)
        surprise = is_wrong[drawn] - (1 - p_clean[drawn])
        weighted.append(1 - p_clean.mean() + (surprise / chances[drawn]).sum() / 2000)
        plain.append(is_wrong[rng.choice(2000, 150, replace=False)].mean())
    assert np.mean(weighted) == pytest.approx(is_wrong.mean(), abs=4 * np.std(weighted) / np.sqrt(600))
    assert np.std(weighted) < 0.75 * np.std(plain)


def test_chosen_rows_can_be_filled_in_and_given_to_fit(data: Path, small_run: Path, run: Run):
    code, out, _ = run("golden", small_run, "--out", "golden.csv", "--count", 20)
    assert code == 0
    assert f"20 of {NUM_IMAGES} rows" in out
    frame = pd.read_csv("golden.csv", dtype=str)
    assert list(frame.columns) == ["path", "label", "suggested_label", "p_clean", "chance", "golden"]
    assert len(frame) == 20
    assert frame["golden"].isna().all()

    with pytest.raises(InputError, match="no golden label"):
        read_manifest(data / "images", data / "labels.csv", golden=(Path("golden.csv"),))
    frame.loc[:4, "golden"] = CLASSES[0]
    frame.to_csv("golden.csv", index=False)
    manifest = read_manifest(data / "images", data / "labels.csv", golden=(Path("golden.csv"),))
    named = {path for path, known in zip(manifest.paths.to_pylist(), manifest.golden_ids >= 0, strict=True) if known}
    assert named == set(frame["path"][:5])
    chances = manifest.golden_chances[manifest.golden_ids >= 0]
    assert sorted(chances) == sorted(frame["chance"][:5].astype(float))
    for wrong in ("2", "0", "often"):
        frame.assign(chance=wrong).to_csv("golden.csv", index=False)
        with pytest.raises(InputError, match="chance"):
            read_manifest(data / "images", data / "labels.csv", golden=(Path("golden.csv"),))


def test_same_seed_chooses_the_same_rows(finished_run: RunFolder, run: Run):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert run("golden", finished_run.path, "--out", f"{name}.csv", "--count", 4, "--seed", seed)[0] == 0
    assert Path("a.csv").read_text() == Path("b.csv").read_text() != Path("c.csv").read_text()


@pytest.mark.parametrize(("num_rows", "num_chosen"), [(NUM_ROWS + 50, NUM_ROWS), (NUM_ROWS - 50, NUM_ROWS - 50)])
def test_without_a_count_200_rows_are_chosen_or_all(finished_run: RunFolder, run: Run, num_rows: int, num_chosen: int):
    findings = make_findings(range(num_rows), p_clean=np.random.default_rng(0).random(num_rows))
    manifest = make_manifest(["a", "b"] * (num_rows // 2))
    write_verdicts(finished_run.verdicts, verdict_table(manifest, findings, {}, metadata={}))
    assert f"{num_chosen} of {num_rows} rows" in run("golden", finished_run.path, "--out", "g.csv")[1]
    frame = pd.read_csv("g.csv", dtype=str)
    assert frame["path"].nunique() == num_chosen
    for name in ("p_clean", "chance"):
        assert frame[name].str.len().max() <= len("0.123456")


def test_earlier_golden_rows_are_left_out_and_their_file_is_asked_for(finished_run: RunFolder, run: Run):
    assert "earlier" not in run("golden", finished_run.path, "--out", "g.csv")[1]
    for golden, code in ((["a", None, "a"], 0), (["a", "a", "b"], 1)):
        table = verdict_table(make_manifest(["a", "b", "a"], golden=golden), make_findings(range(3)), {}, metadata={})
        write_verdicts(finished_run.verdicts, table)
        done = run("golden", finished_run.path, "--out", "g.csv", "--overwrite")
        assert done[0] == code
        if not code:
            assert "Left out: 2 earlier golden rows" in done[1]
            assert "labelclean fit ... --golden OLD --golden NEW" in done[1]
        else:
            assert "no row can be chosen" in done[2]
        assert pd.read_csv("g.csv")["path"].tolist() == ["1.png"]


def test_rows_of_one_path_or_picture_are_chosen_once_and_not_where_one_is_golden(finished_run: RunFolder, run: Run):
    """Rows 0 and 1 have one path; 2 and 3 show one picture; so do 4 and 5, and 6 and 7, of which one is golden."""
    paths = ["a", "a", "b", "c", "d", "e", "f", "g", "h"]
    groups = np.array([-1, -1, 0, 0, 1, 1, 2, 2, -1])
    golden = [None, None, None, None, "x", None, None, "y", None]
    manifest = make_manifest(["x", "y"] * 4 + ["x"], paths=paths, golden=golden)
    findings = make_findings(range(9), duplicate_group=groups)
    write_verdicts(finished_run.verdicts, verdict_table(manifest, findings, {}, metadata={}))
    seen = set()
    for seed in range(8):
        code, out, _ = run("golden", finished_run.path, "--out", "g.csv", "--overwrite", "--seed", seed)
        assert (code, "3 of 3 rows" in out) == (0, True)
        frame = pd.read_csv("g.csv").set_index("path")
        assert set(frame.index) - {"b", "c"} == {"a", "h"}
        assert frame["chance"].to_dict() == {"a": 1, "h": 1} | {path: 0.5 for path in frame.index if path in "bc"}
        seen |= {*frame.index, frame["label"]["a"]}
    assert seen == {"a", "b", "c", "h", "x", "y"}


def test_golden_labels_of_the_index_itself_have_no_file_to_be_given(finished_run: RunFolder, run: Run):
    for own, asked in ((["a", " ", None], False), (["a", None, None], True)):
        golden = ["a", None, None if own[1] else "a"]
        manifest = make_manifest(["a", "b", "a"], golden=golden, extra={"Golden": own})
        write_verdicts(finished_run.verdicts, verdict_table(manifest, make_findings(range(3)), {}, metadata={}))
        _, out, _ = run("golden", finished_run.path, "--out", "g.csv", "--overwrite")
        assert ("give their file" in out, "--golden OLD" in out) == (asked, asked)
        assert ("Left out: 1 earlier golden row; the index has their labels" in out) != asked


@pytest.mark.parametrize("name", ["run/verdicts.parquet", "g", "g.tsv"])
def test_only_a_csv_is_written(finished_run: RunFolder, run: Run, name: str):
    before = finished_run.verdicts.read_bytes()
    code, _, err = run("golden", finished_run.path, "--out", name, "--overwrite")
    assert (code, "Use .csv as its ending" in err) == (1, True)
    assert finished_run.verdicts.read_bytes() == before
    assert not Path("g").exists()
    assert not Path("g.tsv").exists()


@pytest.mark.parametrize(("count", "message"), [(0, "--count 0"), (7, "only 6 rows can be chosen, not 7")])
def test_impossible_counts_are_refused(finished_run: RunFolder, run: Run, count: int, message: str):
    code, _, err = run("golden", finished_run.path, "--out", "g.csv", "--count", count)
    assert (code, message in err, Path("g.csv").exists()) == (1, True, False)


def test_filled_in_file_is_not_overwritten(finished_run: RunFolder, run: Run):
    Path("g.csv").write_text("an hour of work")
    code, _, err = run("golden", finished_run.path, "--out", "g.csv", "--count", 2)
    assert (code, "exists already" in err) == (1, True)
    assert Path("g.csv").read_text() == "an hour of work"
