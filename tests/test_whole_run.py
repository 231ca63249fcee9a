"""`labelclean fit` end to end on small pictures: what is written, for every way to judge and every form of input."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
from PIL import Image
from safetensors.torch import load_file

from labelclean import inputs
from labelclean.data.images import DIGEST_BYTES, Decoded
from labelclean.inputs import data_fingerprint
from labelclean.results.run_folder import RunFolder, read_history
from labelclean.results.verdicts import read_metadata
from labelclean.tssd import level, verdict_odds
from labelclean.tssd.numbers import log_odds
from tests.conftest import Run, make_manifest
from tests.pictures import (
    CLASSES,
    FAULTS,
    NUM_FLIPPED,
    NUM_IMAGES,
    RUN_FILES,
    SETTINGS,
    assert_sound,
    call,
    fit_words,
    frame_of,
    image_passes,
    same_verdicts,
    sound_rows,
    table_of,
)


def test_every_row_gets_a_verdict(data: Path, small_run: Path):
    frame = frame_of(small_run)
    index = pd.read_csv(data / "labels.csv", keep_default_na=False)
    assert_sound(small_run, len(index))
    assert frame["path"].tolist() == index["path"].tolist()
    assert frame["label"].fillna("").tolist() == index["label"].tolist()
    assert frame["true_label"].tolist() == index["true_label"].tolist()
    unreadable = frame[frame["verdict"] == "unreadable"]
    assert dict(zip(unreadable["row"], unreadable["reason"], strict=True)) == FAULTS
    for row, error in zip(unreadable["row"], unreadable["error"], strict=True):
        assert error.startswith(f"labels.csv row {row}: ")


def test_certain_clean_are_those_of_which_both_streams_are_sure(data: Path, tmp_path: Path):
    words = ("--effort", "quick", "--weights", data / "weights.safetensors", "--rounds", 1)
    numbers = []
    for least in (0.95, 0.999):
        folder = tmp_path / str(least)
        assert call(*fit_words(data, folder, *words, "--certain", least)) == 0
        frame = frame_of(folder).query("verdict != 'unreadable'")
        certain = frame["verdict"] == "certain_clean"
        sure = frame[["p_loss", "p_feature", "p_clean"]].min(axis=1)
        assert sure[certain].min() > least > sure[~certain].max()
        numbers.append(certain.sum())
    assert numbers[0] > numbers[1] > 0


def test_rejection_reaches_as_far_as_its_precision_lets_it(data: Path, tmp_path: Path):
    """Half of the pictures show hardly anything, so that their labels are in doubt."""
    shutil.copytree(data, tmp_path / "data")
    rng = np.random.default_rng(3)
    for row in range(0, NUM_IMAGES, 2):
        file = tmp_path / "data" / "images" / f"{row:02}.png"
        grain = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        with Image.open(file) as picture:
            Image.blend(picture.resize((16, 16)), grain, rng.uniform(0.8, 1)).save(file)
    words = ("--effort", "quick", "--weights", data / "weights.safetensors", "--rounds", 1)
    words += ("--streams", "mixture", "--certain", 0.999)
    cuts, rejected = [], []
    for precision in (1, 0):
        folder = tmp_path / str(precision)
        assert call(*fit_words(tmp_path / "data", folder, *words, "--reject-precision", precision)) == 0
        frame = frame_of(folder).query("division == 'uncertain'")
        cuts.append(json.loads(read_metadata(table_of(folder))["cut"]))
        rejected.append(set(frame["row"][frame["verdict"] == "rejected"]))
        assert (frame["verdict"] == "rejected").tolist() == (frame["p_clean"] <= cuts[-1]).tolist()
    assert cuts[0] == 0.5 < cuts[1]
    assert rejected[0] < rejected[1] < set(frame["row"])


def test_doubts_are_softened_in_the_end(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    words = ("--effort", "quick", "--weights", data / "weights.safetensors", "--rounds", 1)
    monkeypatch.setattr(level, "MOST_UP", 0.0)
    monkeypatch.setattr(level, "MOST_DOWN", 0.0)
    odds = []
    for weight in (1.0, 0.5):
        monkeypatch.setattr(verdict_odds, "DOUBT_WEIGHT", weight)
        monkeypatch.setattr(verdict_odds, "DOUBT_SLOPES", (1.0, 1.0))
        assert call(*fit_words(data, tmp_path / str(weight), *words)) == 0
        frame = frame_of(tmp_path / str(weight)).query("verdict != 'unreadable'")
        assert frame["p_clean"].equals(frame["p_meta"])  # nothing is golden
        odds.append(log_odds(frame["p_clean"].to_numpy()))
    as_found, softened = odds
    assert (as_found < -1).sum() >= NUM_FLIPPED / 2
    np.testing.assert_allclose(softened, np.where(as_found < 0, as_found / 2, as_found), rtol=1e-3, atol=1e-4)


def test_run_folder_holds_what_it_should(small_run: Path):
    assert {path.name for path in small_run.iterdir()} == RUN_FILES
    about = json.loads((small_run / "run.json").read_text())
    history = read_history(RunFolder(small_run)).to_pandas()
    assert history["stage"].tolist() == ["frozen"] + ["finetune"] * 2
    assert about["image_passes"] == {
        "forward": history["forward_passes"].sum() + 2 * NUM_IMAGES,
        "backward": history["backward_passes"].sum(),
    }
    shares = history[["share_positive", "share_negative", "share_uncertain"]].sum(axis=1)
    assert shares.tolist() == pytest.approx([1, 1, 1])
    assert about["device"] == "cpu"
    assert about["image_size"] == 16
    assert about["class_names"] == list(CLASSES)
    assert "random start" in about["backbone_tensors"]
    assert about["peak_memory_bytes"] > 1e8
    timings = about["timings"]
    assert timings["total"] == pytest.approx(sum(timings.values()) - timings["total"], abs=0.05)
    metadata = read_metadata(table_of(small_run))
    assert metadata["fingerprint"] == about["fingerprint"]
    assert json.loads(metadata["config"]) == about["config"]
    rate, low, high = json.loads(metadata["noise_rate"])
    assert low <= rate <= high


def test_model_file_holds_both_networks(small_run: Path):
    tensors = load_file(small_run / "model.safetensors")
    assert tensors["networks.0.head.weight"].shape[0] == len(CLASSES)
    body = timm.create_model("test_resnet", num_classes=0).state_dict()
    for place in (0, 1):
        assert {name for name in tensors if name.startswith(f"networks.{place}.body")} == {
            f"networks.{place}.body.{name}" for name in body
        }
    assert all(tensor.isfinite().all() for tensor in tensors.values())


def test_saved_settings_give_the_same_verdicts(data: Path, small_run: Path, tmp_path: Path):
    """Also: the same seed, the same verdicts."""
    words = ("fit", data / "images", data / "labels.csv", "--config", small_run / "config.toml", "--quiet")
    assert call(*words, "--out", tmp_path / "same") == 0
    assert same_verdicts(small_run, tmp_path / "same")
    assert call(*words, "--out", tmp_path / "other", "--seed", 1) == 0
    assert (frame_of(small_run)["p_clean"] != frame_of(tmp_path / "other")["p_clean"]).any()


def test_report_and_evaluate_take_the_run(data: Path, small_run: Path, run: Run):
    code, out, _ = run("report", small_run, "--json")
    summary = json.loads(out)
    assert code == 0
    assert sum(summary["verdicts"].values()) == NUM_IMAGES + len(FAULTS)
    assert summary["cost"]["seconds"] == summary["cost"]["timings"]["total"]
    assert run("evaluate", small_run, data / "labels.csv", "--json")[0] == 0


# --- the ways to judge


def test_flipped_labels_are_found_with_enough_training(data: Path, tmp_path: Path):
    (tmp_path / "fit.toml").write_text(SETTINGS.replace("epochs = 3", "epochs = 30"))
    words = ("fit", data / "images", data / "labels.csv", "--config", tmp_path / "fit.toml", "--quiet")
    assert call(*words, "--out", tmp_path / "run") == 0
    frame = frame_of(tmp_path / "run")[:NUM_IMAGES]
    wrong = frame["label"] != frame["true_label"]
    assert wrong.sum() == NUM_FLIPPED
    assert set(frame.sort_values("p_clean")["row"][:NUM_FLIPPED]) == set(frame["row"][wrong])
    rejected = frame["verdict"] == "rejected"
    assert (rejected & wrong).sum() >= NUM_FLIPPED - 1
    assert (rejected & ~wrong).sum() <= 2
    assert (frame["suggested_label"] == frame["true_label"])[rejected & wrong].all()


@pytest.mark.parametrize("judge", ["self", "peer", "crossfit"])
def test_thorough_with_every_judge(data: Path, tmp_path: Path, judge: str):
    """From pre-trained weights: rounds on frozen features first."""
    out = tmp_path / "run"
    (tmp_path / "fit.toml").write_text(SETTINGS.replace("\nrounds = 2", ""))
    words = ("fit", data / "images", data / "labels.csv", "--config", tmp_path / "fit.toml", "--quiet", "--out", out)
    words += ("--weights", data / "weights.safetensors", "--effort", "thorough", "--judge", judge)
    assert call(*words) == 0
    assert_sound(out, NUM_IMAGES + len(FAULTS))
    history = read_history(RunFolder(out)).to_pandas()
    assert history["stage"].tolist() == ["frozen"] * 2 + ["finetune"] * 4
    frozen_passes = 2 * NUM_IMAGES
    assert image_passes(out)["forward"] == history["forward_passes"].sum() + frozen_passes
    assert image_passes(out)["backward"] == history["backward_passes"].sum() > 0
    assert json.loads((out / "run.json").read_text())["config"]["judge"] == judge


def test_quick_trains_heads_only(data: Path, tmp_path: Path):
    weights = ("--weights", data / "weights.safetensors")
    out = tmp_path / "run"
    assert call(*fit_words(data, out, "--effort", "quick", *weights)) == 0
    assert_sound(out, NUM_IMAGES + len(FAULTS))
    assert image_passes(out) == {"forward": 2 * NUM_IMAGES, "backward": 0}
    assert set(read_history(RunFolder(out))["stage"].to_pylist()) == {"frozen"}
    assert "heads.4.weight" in load_file(out / "model.safetensors")


def test_frozen_rounds_end_when_nothing_moves(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    words = ("--effort", "quick", "--weights", data / "weights.safetensors", "--rounds", 12)
    numbers = []
    for settled, rows in ((0.02, 1), (0.002, 10 * NUM_IMAGES), (0.0, 1)):
        monkeypatch.setattr("labelclean.train.loop.SETTLED", settled)
        monkeypatch.setattr("labelclean.train.loop.ROWS_OF_SETTLED", rows)
        folder = tmp_path / str(settled)
        assert call(*fit_words(data, folder, *words)) == 0
        numbers.append(read_history(RunFolder(folder)).num_rows)
    assert 2 <= numbers[0] == numbers[1] < numbers[2] == 12


@pytest.mark.parametrize("setting", ['streams = "mixture"', "purification = false", "mixup = 0", "batch_size = 7"])
def test_other_settings(data: Path, small_run: Path, tmp_path: Path, setting: str):
    (tmp_path / "fit.toml").write_text(f"{SETTINGS}\n{setting}\n")
    words = ("fit", data / "images", data / "labels.csv", "--config", tmp_path / "fit.toml", "--quiet")
    assert call(*words, "--out", tmp_path / "run") == 0
    assert_sound(tmp_path / "run", NUM_IMAGES + len(FAULTS))
    assert not same_verdicts(small_run, tmp_path / "run")


# --- the forms of the input


@pytest.mark.parametrize("form", ["column", "file"])
def test_golden_labels_decide_their_rows(data: Path, tmp_path: Path, form: str):
    index = sound_rows(data)
    trusted = index.index % 2 == 0
    more: tuple[object, ...] = ()
    if form == "column":
        index["golden"] = index["true_label"].where(trusted, "")
    else:
        golden = index[trusted][["path", "true_label"]].rename(columns={"true_label": "golden"})
        golden.to_csv(tmp_path / "golden.csv", index=False)
        more = ("--golden", tmp_path / "golden.csv")
    index.to_csv(tmp_path / "labels.csv", index=False)
    assert call(*fit_words(data, tmp_path / "run", *more, index=tmp_path / "labels.csv")) == 0
    frame = frame_of(tmp_path / "run")
    assert_sound(tmp_path / "run", NUM_IMAGES)
    known, right = frame[trusted], (frame["label"] == frame["true_label"])[trusted]
    assert known["reason"].tolist() == ["golden_confirms" if fine else "golden_contradicts" for fine in right]
    assert known["p_clean"].tolist() == right.astype(float).tolist()
    assert known["suggested_label"].tolist() == known["true_label"].tolist()
    assert not frame[~trusted]["reason"].str.startswith("golden").any()


def test_class_folders_need_no_index(data: Path, tmp_path: Path, run: Run):
    for row in range(30):
        (tmp_path / "fruit" / CLASSES[row % 3]).mkdir(parents=True, exist_ok=True)
        shutil.copy(data / "images" / f"{row:02}.png", tmp_path / "fruit" / CLASSES[row % 3])
    code, out, err = run("fit", "fruit", "--config", data / "fit.toml")
    assert code == 0, err
    assert "certain_clean" in out
    frame = frame_of(tmp_path / "runs" / "fruit")
    assert_sound(tmp_path / "runs" / "fruit", 30)
    assert frame["path"][0] == "apple/00.png"
    assert set(frame["label"]) == set(CLASSES)


def test_groups_are_taken_and_one_group_alone_is_refused(data: Path, tmp_path: Path, run: Run):
    index = sound_rows(data)
    index.assign(group=index.index // 6).to_csv("grouped.csv", index=False)
    index.assign(group="all").to_csv("one.csv", index=False)
    index.to_csv("single.csv", index=False)
    for name in ("grouped", "single"):
        assert run(*fit_words(data, tmp_path / name, index=Path(f"{name}.csv")))[0] == 0
    assert_sound(tmp_path / "grouped", NUM_IMAGES)
    assert (frame_of(tmp_path / "grouped")["p_clean"] != frame_of(tmp_path / "single")["p_clean"]).any()
    code, _, err = run(*fit_words(data, tmp_path / "one", index=Path("one.csv")))
    assert code == 1
    assert "one group" in err
    assert not (tmp_path / "one").exists()


def test_copies_are_told(data: Path, tmp_path: Path, run: Run):
    index = sound_rows(data)[:30]
    shutil.copytree(data / "images", tmp_path / "images")
    shutil.copy(tmp_path / "images" / "01.png", tmp_path / "images" / "copy.png")
    pd.concat([index, index[1:2].assign(path="copy.png", label="cloud")]).to_csv("labels.csv", index=False)
    assert run("fit", "images", "labels.csv", "--config", data / "fit.toml", "--out", "run")[0] == 0
    groups = frame_of(tmp_path / "run")["duplicate_group"]
    assert groups[1] == groups[30] == 0
    assert groups.notna().sum() == 2


def test_labels_that_look_like_something_else_stay_as_they_are(data: Path, tmp_path: Path, run: Run):
    names = dict(zip(CLASSES, ("007", "chien d'été 🐕", "nan"), strict=True))
    index = sound_rows(data)
    index["label"] = index["label"].map(names)
    index.to_csv("labels.csv", index=False)
    assert run(*fit_words(data, tmp_path / "run", index=Path("labels.csv")))[0] == 0
    frame = frame_of(tmp_path / "run")
    assert_sound(tmp_path / "run", NUM_IMAGES)
    assert frame["label"].tolist() == index["label"].tolist()
    assert set(frame["suggested_label"]) <= set(names.values())
    assert json.loads(read_metadata(table_of(tmp_path / "run"))["class_names"]) == sorted(names.values())


def test_numbers_as_labels_and_missing_ones(data: Path, tmp_path: Path, run: Run):
    index = sound_rows(data)
    numbers = index["label"].map({name: float(number) for number, name in enumerate(CLASSES)})
    numbers[5] = np.nan
    index.assign(label=numbers).to_parquet("labels.parquet")
    assert run(*fit_words(data, tmp_path / "run", index=Path("labels.parquet")))[0] == 0
    frame = frame_of(tmp_path / "run")
    assert_sound(tmp_path / "run", NUM_IMAGES)
    assert (frame["verdict"][5], frame["reason"][5]) == ("unreadable", "missing_label")
    assert set(frame["label"].dropna()) == {"0", "1", "2"}


def test_words_for_no_label_are_classes_with_a_note(data: Path, tmp_path: Path, run: Run):
    index = sound_rows(data)
    index.loc[index.index % 6 == 0, "label"] = "NaN"
    index.to_csv("labels.csv", index=False)
    words = [word for word in fit_words(data, tmp_path / "run", index=Path("labels.csv")) if word != "--quiet"]
    code, _, err = run(*words)
    assert code == 0
    assert "classes whose names may mean that there is no label" in " ".join(err.split())
    assert "'NaN'" in err
    assert (frame_of(tmp_path / "run")["label"] == "NaN").sum() == 11


def test_files_that_are_no_rows_and_too_little_memory_are_told(
    data: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
):
    for path, label in sound_rows(data).loc[:, ["path", "label"]].itertuples(index=False):
        (tmp_path / "pictures" / label).mkdir(parents=True, exist_ok=True)
        shutil.copy(data / "images" / path, tmp_path / "pictures" / label / Path(path).name)
    (tmp_path / "pictures" / "notes.txt").touch()
    monkeypatch.setattr("labelclean.inputs.physical_memory", lambda: 1000)
    words = ("fit", tmp_path / "pictures", "--out", tmp_path / "run", "--config", data / "fit.toml")
    code, _, err = run(*words)
    told = " ".join(err.split())
    assert code == 0
    assert "files passed over: 1, no images by their ending or in no class's folder: notes.txt" in told
    assert "rows of 3 classes, this machine has 0 GiB: judge a part of the rows" in told


def test_labels_at_random_are_told(data: Path, tmp_path: Path, run: Run):
    """The guard stands in the report; that of labels which mean something does not."""
    index = sound_rows(data)
    told = []
    for name, labels in (("sound", index["label"]), ("random", np.random.default_rng(1).permutation(index["label"]))):
        index.assign(label=labels).to_csv("labels.csv", index=False)
        words = ("--effort", "quick", "--weights", data / "weights.safetensors")
        assert run(*fit_words(data, tmp_path / name, *words, index=Path("labels.csv")))[0] == 0
        told.append("no better than by chance" in " ".join(run("report", tmp_path / name)[1].split()))
    assert told == [False, True]


def test_classes_that_are_all_in_one_group_are_told(data: Path, tmp_path: Path, run: Run):
    """As where each class is from a source of its own: nothing can say which labels are wrong."""
    index = sound_rows(data)
    index.assign(group=index["label"]).to_csv("labels.csv", index=False)
    words = [word for word in fit_words(data, tmp_path / "run", index=Path("labels.csv")) if word != "--quiet"]
    code, _, err = run(*words)
    assert code == 0
    told = " ".join(err.split())
    assert f"classes with nearly all rows in one group: {', '.join(CLASSES)}" in told
    assert "no column group" in told
    assert "in one group, which can hardly be judged" in " ".join(
        run("check", data / "images", "labels.csv")[1].split()
    )


def test_columns_and_rows_that_cannot_be_judged_are_told_before_training(data: Path, tmp_path: Path, run: Run):
    words = [word for word in fit_words(data, tmp_path / "run") if word != "--quiet"]
    code, _, err = run(*words)
    told = " ".join(err.split())
    assert code == 0
    assert "note: paths from column path, labels from label" in told
    assert "5 of 71 rows cannot be judged (1 empty_file, 1 truncated, " in told
    assert "as in: labels.csv row 66: empty.png: the file has 0 bytes" in told
    assert told.index("cannot be judged") < told.index("Finetune")


def test_class_of_which_no_row_can_be_judged(data: Path, tmp_path: Path, run: Run):
    index = sound_rows(data)
    lost = pd.DataFrame({"path": ["gone.png"], "label": ["unicorn"], "true_label": ["unicorn"]})
    pd.concat([index, lost]).to_csv("labels.csv", index=False)
    words = [word for word in fit_words(data, tmp_path / "run", index=Path("labels.csv")) if word != "--quiet"]
    code, _, err = run(*words)
    assert code == 0
    assert "classes of which no row can be judged: unicorn" in " ".join(err.split())
    frame = frame_of(tmp_path / "run")
    assert_sound(tmp_path / "run", NUM_IMAGES + 1)
    assert "unicorn" not in set(frame["suggested_label"].dropna())


def test_four_rows_are_enough(data: Path, tmp_path: Path, run: Run):
    sound_rows(data)[1:5].to_csv("labels.csv", index=False)
    for effort in ("quick", "standard"):
        weights = ("--weights", data / "weights.safetensors", "--effort", effort)
        code, _, err = run(*fit_words(data, tmp_path / effort, *weights, index=Path("labels.csv")))
        assert code == 0, err
        assert_sound(tmp_path / effort, 4)


# --- what cannot be done


def test_strict_stops_at_the_first_fault(data: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch):
    """What the index alone shows is told before hours of decoding."""
    rows = pd.read_csv(data / "labels.csv", dtype=str)
    rows[:68].to_csv("labels.csv", index=False)
    code, _, err = run(*fit_words(data, tmp_path / "run", "--strict", index=Path("labels.csv")))
    assert (code, "labels.csv row 66: empty.png" in err) == (1, True)
    monkeypatch.delattr(inputs, "decode_all")
    code, _, err = run(*fit_words(data, tmp_path / "run", "--strict"))
    assert (code, "labels.csv row 69: " in err) == (1, True)
    assert not (tmp_path / "run").exists()


def test_expected_precision_is_of_the_rejected_rows(small_run: Path):
    frame = frame_of(small_run)
    expected, _, _ = json.loads(read_metadata(table_of(small_run))["expected_precision"])
    assert expected == pytest.approx(1 - frame["p_clean"][frame["verdict"] == "rejected"].mean(), abs=1e-4)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["00.png,apple", "01.png,apple", "02.png,apple", "03.png,apple", "04.png,apple"], "one class, 'apple'"),
        (["00.png,", "01.png,"], "no labels at all"),
        (["empty.png,apple", "half.png,brick", "gone.png,cloud", "gone.png,apple"], "0 of 4 rows can be judged"),
        (["00.png,apple", "01.png,brick", "02.png,cloud"], "3 of 3 rows can be judged"),
        (["00.png,apple", "01.png,apple", "03.png,apple", "04.png,apple", "gone.png,brick"], "of 1 classes"),
    ],
)
def test_too_little_to_judge(data: Path, tmp_path: Path, run: Run, rows: list[str], words: str):
    Path("labels.csv").write_text("\n".join(["path,label", *rows]))
    code, out, err = run(*fit_words(data, tmp_path / "run", index=Path("labels.csv")))
    assert (code, out) == (1, "")
    assert words in " ".join(err.split())
    assert not (tmp_path / "run").exists()


def test_paths_from_the_folder_above_are_told(data: Path, tmp_path: Path, run: Run):
    rows = [f"images/{number:02}.png,{CLASSES[number % 3]}" for number in range(6)]
    Path("labels.csv").write_text("\n".join(["path,label", *rows]))
    code, _, err = run(*fit_words(data, tmp_path / "run", index=Path("labels.csv")))
    assert code == 1
    assert f"relative to {data.resolve()}: give that folder as IMAGES" in " ".join(err.split())


def test_empty_folder_and_empty_index(data: Path, tmp_path: Path, run: Run):
    Path("images").mkdir()
    Path("labels.csv").write_text("path,label\n")
    for words in (("images",), ("images", "labels.csv")):
        code, _, err = run("fit", *words, "--config", data / "fit.toml")
        assert code == 1
        assert "give" in err.lower()
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "flags",
    [("--backbone", "resnet1"), ("--weights", "gone.pth"), ("--device", "cuda:99"), ("--model-kwargs", '{"a": 1}')],
)
def test_fit_that_cannot_begin_leaves_no_folder(data: Path, tmp_path: Path, run: Run, flags: tuple[str, ...]):
    code, _, err = run(*fit_words(data, tmp_path / "run", *flags))
    assert code == 1
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


def test_old_run_is_kept_until_the_new_one_is_done(data: Path, small_run: Path, tmp_path: Path, run: Run):
    out = tmp_path / "run"
    shutil.copytree(small_run, out)
    code, _, err = run(*fit_words(data, out))
    assert code == 1
    assert "--overwrite" in err
    assert run(*fit_words(data, out, "--overwrite", "--weights", "gone.pth"))[0] == 1
    assert {path.name for path in out.iterdir()} == RUN_FILES
    assert same_verdicts(small_run, out)
    assert run(*fit_words(data, out, "--overwrite", "--seed", 3))[0] == 0
    assert read_metadata(table_of(out))["seed"] == "3"


def test_a_fingerprint_is_of_the_index_and_of_what_the_files_hold():
    manifest = make_manifest(["a", "b"])
    digests = np.arange(2 * DIGEST_BYTES, dtype=np.uint8).reshape(2, DIGEST_BYTES)
    same, other = (Decoded(np.empty(0), content, {}) for content in (digests, digests[::-1]))
    prints = [data_fingerprint(manifest, same), data_fingerprint(manifest, other)]
    for changes in (
        {"golden_ids": np.array([0, -1])},
        {"group_ids": np.array([0, 0])},
        {"golden_draws": np.array([1, -1])},
    ):
        prints.append(data_fingerprint(dataclasses.replace(manifest, **changes), same))
    assert len(set(prints)) == 5
    assert data_fingerprint(make_manifest(["a", "b"]), same) == prints[0]
