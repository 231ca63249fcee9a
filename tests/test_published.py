"""Miniatures of the published layouts, through `labelclean index`: what becomes of them, and what may be wrong."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from labelclean.data.index import read_manifest
from labelclean.records import REFUTED, UNKNOWN
from tests.conftest import Run


def put(file: Path, *lines: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def picture(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(file, format="JPEG")


def index(run: Run, name: str, root: Path, *more: str) -> tuple[list[tuple[str, str]], dict[str, str] | None, str]:
    """(path, label) of every row, the known true labels, and what was printed; every path is below the images."""
    out = root.parent / "indexed"
    code, shown, errors = run("index", name, root, "--out", out, "--overwrite", *more)
    assert code == 0, errors
    labels = pd.read_csv(out / "labels.csv", dtype=str)
    truth = None
    if (out / "truth.csv").exists():
        table = pd.read_csv(out / "truth.csv", dtype=str)
        truth = dict(zip(table["path"], table["true_label"], strict=True))
    return list(zip(labels["path"], labels["label"], strict=True)), truth, " ".join(shown.split())


@pytest.fixture
def clothing1m(tmp_path: Path) -> Path:
    root = tmp_path / "clothing1m"
    a, b, c, d = (f"images/{place}/0/{place}.jpg" for place in range(4))
    for path in (a, b, c, d):
        picture(root / path)
    put(root / "category_names_eng.txt", "T-Shirt", "Down Coat")
    put(root / "noisy_label_kv.txt", f"{a} 0", f"{b} 1", f"{c} 1")
    put(root / "clean_label_kv.txt", f"{b} 0", f"{c} 1", f"{d} 1")
    put(root / "noisy_train_key_list.txt", a, b, c)
    put(root / "clean_val_key_list.txt", d)
    put(root / "clean_test_key_list.txt", c)
    return root


def test_clothing1m_has_shop_labels_and_the_checked_ones_as_truth(run: Run, clothing1m: Path):
    rows, truth, shown = index(run, "clothing1m", clothing1m)
    assert [label for _, label in rows] == ["T-Shirt", "Down Coat", "Down Coat"]
    assert truth == {"images/1/0/1.jpg": "T-Shirt", "images/2/0/2.jpg": "Down Coat"}
    assert "true labels of 2 rows are known, 1 of them labelled wrong" in shown
    assert f"Next: labelclean fit {clothing1m}" in shown
    assert all((clothing1m / path).is_file() for path, _ in rows)
    rows, truth, _ = index(run, "clothing1m", clothing1m, "--split", "val")
    assert rows == [("images/3/0/3.jpg", "Down Coat")]
    assert truth == dict(rows)


def test_clothing1m_lists_may_lie_in_annotations_and_lack_class_names(run: Run, clothing1m: Path):
    (clothing1m / "category_names_eng.txt").unlink()
    (clothing1m / "annotations").mkdir()
    for file in clothing1m.glob("*.txt"):
        file.rename(clothing1m / "annotations" / file.name)
    rows, _, _ = index(run, "clothing1m", clothing1m)
    assert [label for _, label in rows] == ["0", "1", "1"]


@pytest.fixture
def webvision(tmp_path: Path) -> Path:
    root = tmp_path / "webvision"
    put(root / "info/synsets.txt", "n1 tench, Tinca tinca", "n2 crane", "n3 crane")
    put(root / "info/train_filelist_google.txt", "google/q1/a b.jpg 0", "google/q2/b.jpg 2")
    put(root / "info/train_filelist_flickr.txt", "flickr/q1/c.jpg 1")
    put(root / "info/val_filelist.txt", "val1.jpg 1")
    for path in ("google/q1/a b.jpg", "google/q2/b.jpg", "flickr/q1/c.jpg", "val_images_256/val1.jpg"):
        picture(root / path)
    return root


def test_webvision_joins_both_engines_and_tells_classes_of_one_name_apart(run: Run, webvision: Path):
    rows, truth, _ = index(run, "webvision", webvision)
    assert rows == [("google/q1/a b.jpg", "n1 tench"), ("google/q2/b.jpg", "n3 crane"), ("flickr/q1/c.jpg", "n2 crane")]
    assert truth is None
    rows, truth, _ = index(run, "webvision", webvision, "--split", "val")
    assert rows == [("val_images_256/val1.jpg", "n2 crane")]
    assert truth == dict(rows)


def test_first_classes_alone(run: Run, webvision: Path):
    (webvision / "info/train_filelist_flickr.txt").unlink()
    rows, _, shown = index(run, "webvision", webvision, "--classes", "2")
    assert rows == [("google/q1/a b.jpg", "n1 tench")]
    assert shown.startswith("1 row of 2 classes")
    assert run("index", "webvision", webvision, "--out", webvision.parent / "x", "--classes", "4")[0] == 1


def test_food101n_knows_which_labels_are_wrong_but_not_what_is_right(run: Run, tmp_path: Path):
    root = tmp_path / "Food-101N_release"
    put(root / "meta/classes.txt", "class_name", "apple_pie", "ramen")
    put(
        root / "meta/imagelist.tsv",
        "class_name/key",
        "apple_pie/1.jpg",
        "apple_pie/2.jpg",
        "ramen/3.jpg",
        "ramen/4.jpg",
    )
    put(root / "meta/verified_train.tsv", "class_name/key\tverification_label", "apple_pie/1.jpg\t1", "ramen/3.jpg\t0")
    put(root / "meta/verified_val.tsv", "class_name/key\tverification_label", "ramen/4.jpg\t1")
    rows, truth, shown = index(run, "food101n", root)
    assert rows == [
        ("images/apple_pie/1.jpg", "apple_pie"),
        ("images/apple_pie/2.jpg", "apple_pie"),
        ("images/ramen/3.jpg", "ramen"),
        ("images/ramen/4.jpg", "ramen"),
    ]
    assert truth == {
        "images/apple_pie/1.jpg": "apple_pie", "images/ramen/3.jpg": "?", "images/ramen/4.jpg": "ramen"
    }  # fmt: skip
    assert "3 rows are known, 1 of them" in shown
    manifest = read_manifest(root, tmp_path / "indexed/labels.csv", golden=[tmp_path / "indexed/truth.csv"])
    assert manifest.golden_ids.tolist() == [0, UNKNOWN, REFUTED, 1]


def test_known_truth_serves_as_golden_labels(run: Run, clothing1m: Path):
    index(run, "clothing1m", clothing1m)
    indexed = clothing1m.parent / "indexed"
    manifest = read_manifest(clothing1m, indexed / "labels.csv", golden=[indexed / "truth.csv"])
    names = [manifest.class_names[label] if label >= 0 else None for label in manifest.golden_ids]
    assert names == [None, "T-Shirt", "Down Coat"]


def test_tiny_imagenet_has_true_labels(run: Run, tmp_path: Path):
    root = tmp_path / "tiny-imagenet-200"
    put(root / "wnids.txt", "n2", "n1")
    put(root / "words.txt", "n1\tcat, house cat", "n2\tegg", "n3\tnever used")
    for path in ("n1/images/n1_0.JPEG", "n1/images/n1_1.JPEG", "n2/images/n2_0.JPEG"):
        picture(root / "train" / path)
    put(root / "val/val_annotations.txt", "val_0.JPEG\tn1\t0\t0\t9\t9")
    rows, truth, shown = index(run, "tiny-imagenet", tmp_path)  # also from the folder above
    assert rows == [
        ("train/n2/images/n2_0.JPEG", "n2 egg"),
        ("train/n1/images/n1_0.JPEG", "n1 cat"),
        ("train/n1/images/n1_1.JPEG", "n1 cat"),
    ]
    assert truth == dict(rows)
    assert "3 rows are known, 0 of them" in shown
    assert f"labelclean fit {root}" in shown
    assert index(run, "tiny-imagenet", root, "--split", "val")[0] == [("val/images/val_0.JPEG", "n1 cat")]


PIXELS = np.arange(2 * 3072, dtype=np.int64).astype(np.uint8).reshape(2, 3072)


@pytest.fixture
def cifar(tmp_path: Path) -> Path:
    root = tmp_path / "cifar"
    ten, hundred = root / "cifar-10-batches-py", root / "cifar-100-python"
    ten.mkdir(parents=True)
    hundred.mkdir()
    for number in range(1, 6):
        pack(ten / f"data_batch_{number}", {b"data": PIXELS, b"labels": [number % 3, 0]})
    pack(ten / "test_batch", {b"data": PIXELS[:1], b"labels": [2]})
    pack(ten / "batches.meta", {b"label_names": [b"airplane", b"bird", b"cat"]})
    pack(hundred / "train", {b"data": PIXELS, b"fine_labels": [1, 0], b"coarse_labels": [0, 0]})
    pack(hundred / "meta", {b"fine_label_names": [b"apple", b"bowl"]})
    worse = np.array([2, 0, 2, 0, 0, 0, 1, 0, 2, 1])
    torch.save({"worse_label": worse, "aggre_label": worse * 0}, root / "CIFAR-10_human.pt")
    torch.save({"noisy_label": np.array([1, 1])}, root / "CIFAR-100_human.pt")
    return root


def pack(file: Path, content: object) -> None:
    """As the originals: in the second protocol, with byte strings as keys and the names of an old numpy."""
    file.write_bytes(pickle.dumps(content, protocol=2).replace(b"numpy._core", b"numpy.core"))


def test_cifar_becomes_pictures_and_an_index(run: Run, cifar: Path):
    rows, truth, _ = index(run, "cifar10", cifar)
    assert [path for path, _ in rows][:2] == ["00000.png", "00001.png"]
    assert [label for _, label in rows][::2] == ["bird", "cat", "airplane", "bird", "cat"]
    assert truth == dict(rows)
    stored = np.asarray(Image.open(cifar.parent / "indexed/images/00001.png"))
    np.testing.assert_array_equal(stored, PIXELS[1].reshape(3, 32, 32).transpose(1, 2, 0))
    assert index(run, "cifar10", cifar, "--split", "test")[0] == [("00000.png", "cat")]


def test_cifar_with_the_labels_that_people_gave(run: Run, cifar: Path):
    rows, truth, shown = index(run, "cifar10", cifar, "--labels", "worse")
    assert [label for _, label in rows][:4] == ["cat", "airplane", "cat", "airplane"]
    assert truth is not None
    assert list(truth.values())[::2] == ["bird", "cat", "airplane", "bird", "cat"]
    assert "10 rows are known, 2 of them labelled wrong" in shown
    rows, truth, _ = index(run, "cifar100", cifar, "--labels", "noisy")
    assert [label for _, label in rows] == ["bowl", "bowl"]
    assert truth == {"00000.png": "bowl", "00001.png": "apple"}


class Trap:
    """What a hostile pickle would be: it writes a file when it is opened."""

    def __reduce__(self) -> tuple[object, ...]:
        return exec, ("open('sprung', 'w').close()",)


def test_hostile_files_do_not_run(run: Run, cifar: Path, tmp_path: Path):
    torch.save({"worse_label": Trap()}, cifar / "CIFAR-10_human.pt")
    code, _, errors = run("index", "cifar10", cifar, "--labels", "worse", "--out", tmp_path / "out")
    assert code == 1
    assert "CIFAR-10_human.pt" in errors
    pack(cifar / "cifar-10-batches-py/data_batch_3", {b"data": Trap()})
    code, _, errors = run("index", "cifar10", cifar, "--out", tmp_path / "out")
    assert code == 1
    assert "data_batch_3" in errors
    assert "exec" in errors
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("clothing1m", "clean_label_kv.txt"),
        ("clothing1m", "noisy_train_key_list.txt"),
        ("webvision", "info/synsets.txt"),
        ("cifar10", "cifar-10-batches-py/data_batch_4"),
        ("cifar10", "cifar-10-batches-py/batches.meta"),
        ("cifar100", "cifar-100-python/train"),
    ],
)
def test_a_file_that_is_not_there_is_named(
    run: Run, name: str, lost: str, request: pytest.FixtureRequest, tmp_path: Path
):
    root: Path = request.getfixturevalue("cifar" if name.startswith("cifar") else name)
    (root / lost).unlink()
    code, _, errors = run("index", name, root, "--out", tmp_path / "out")
    assert code == 1
    assert "unpacked" in errors
    assert Path(lost).name in "".join(errors.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "spoilt", "by", "cause"),
    [
        ("clothing1m", "noisy_label_kv.txt", "images/0/0/0.jpg zero", "noisy_label_kv.txt"),
        ("clothing1m", "noisy_label_kv.txt", f"images/0/0/0.jpg {10**20}", "noisy_label_kv.txt"),
        ("webvision", "info/train_filelist_google.txt", f"google/q1/c.jpg {'9' * 5000}", "train_filelist_google.txt"),
        ("clothing1m", "noisy_train_key_list.txt", "images/9/9/unheard-of.jpg", "unheard-of.jpg"),
        ("clothing1m", "category_names_eng.txt", "T-Shirt", "number 1, but there are 1 class names"),
        ("clothing1m", "noisy_train_key_list.txt", "", "no rows"),
        ("webvision", "info/train_filelist_flickr.txt", "flickr/q1/c.jpg 3", "number 3, but there are 3"),
        ("cifar", "cifar-10-batches-py/data_batch_2", "<html>", "data_batch_2"),
        ("cifar", "cifar-10-batches-py/batches.meta", "<html>", "batches.meta"),
    ],
)
def test_a_file_that_is_not_as_published_is_named(
    run: Run, request: pytest.FixtureRequest, tmp_path: Path, name: str, spoilt: str, by: str, cause: str
):
    root: Path = request.getfixturevalue(name)
    put(root / spoilt, by)
    code, _, errors = run("index", "cifar10" if name == "cifar" else name, root, "--out", tmp_path / "out")
    assert code == 1
    assert cause in " ".join(errors.split())


@pytest.mark.parametrize(
    ("part", "changes", "cause"),
    [
        ("train", {b"data": PIXELS[:, :3000]}, "train: its data are no images of 32 x 32 pixels"),
        ("train", {b"data": PIXELS.astype(np.float32)}, "train: its data are no images of 32 x 32 pixels"),
        ("train", {b"data": PIXELS.ravel()}, "train: its data are no images of 32 x 32 pixels"),
        ("train", {b"data": None}, "train: its data are no images of 32 x 32 pixels"),
        ("train", {b"fine_labels": [1]}, "train: its fine_labels are not 2 whole numbers"),
        ("train", {b"fine_labels": [1, 0, 1]}, "train: its fine_labels are not 2 whole numbers"),
        ("train", {b"fine_labels": ["a", "b"]}, "train: its fine_labels are not 2 whole numbers"),
        ("train", {b"fine_labels": [1, [2, 3]]}, "train: its fine_labels are not 2 whole numbers"),
        ("train", {b"fine_labels": [1.5, 0.0]}, "train: its fine_labels are not 2 whole numbers"),
        ("train", {b"fine_labels": [1, 10**30]}, "train: its fine_labels are not 2 whole numbers"),
        ("train", {b"fine_labels": None}, "train: its fine_labels are not 2 whole numbers"),
        ("train", [1, 2], "train: not a CIFAR file"),
        ("train", PIXELS, "train: not a CIFAR file"),
        ("meta", {b"fine_label_names": ["apple", "bowl"]}, "meta: its fine_label_names are no names"),
        ("meta", {b"fine_label_names": 2}, "meta: its fine_label_names are no names"),
    ],
)
def test_cifar_content_that_is_not_as_published_is_named(
    run: Run, cifar: Path, tmp_path: Path, part: str, changes: object, cause: str
):
    file = cifar / "cifar-100-python" / part
    content = pickle.loads(file.read_bytes(), encoding="bytes")
    pack(file, content | changes if isinstance(changes, dict) else changes)
    code, _, errors = run("index", "cifar100", cifar, "--out", tmp_path / "out")
    assert code == 1
    assert cause in " ".join(errors.split())
    assert not (tmp_path / "out").exists()


def test_damaged_human_labels_are_named(run: Run, cifar: Path, tmp_path: Path):
    words = ("index", "cifar10", cifar, "--labels", "worse", "--out", tmp_path / "out")
    for content, cause in (
        (b"<html>", "not a file of tensors"),
        ([1, 2], "there is no worse_label"),
        ({"worse_label": np.arange(9)}, "its worse_label are not 10 whole numbers"),
        ({"worse_label": ["cat"] * 10}, "its worse_label are not 10 whole numbers"),
        ({"worse_label": torch.zeros(10)}, "its worse_label are not 10 whole numbers"),
    ):
        if isinstance(content, bytes):
            (cifar / "CIFAR-10_human.pt").write_bytes(content)
        else:
            torch.save(content, cifar / "CIFAR-10_human.pt")
        code, _, errors = run(*words)
        assert code == 1
        assert f"CIFAR-10_human.pt: {cause}" in " ".join(errors.split())


@pytest.mark.parametrize(("name", "file"), [("clothing1m", "noisy_label_kv.txt"), ("cifar", "test_batch")])
def test_a_file_that_cannot_be_read_is_named(
    run: Run, name: str, file: str, request: pytest.FixtureRequest, tmp_path: Path
):
    root: Path = request.getfixturevalue(name)
    place = next(root.rglob(file))
    place.unlink()
    place.mkdir()
    words = ("cifar10", root, "--split", "test") if name == "cifar" else (name, root)
    code, _, errors = run("index", *words, "--out", tmp_path / "out")
    assert (code, f"{file}: Is a directory" in " ".join(errors.split())) == (1, True)


def test_lists_from_other_systems(run: Run, clothing1m: Path):
    """A byte order mark, carriage returns, and blanks that are part of a path."""
    (clothing1m / "category_names_eng.txt").write_bytes(b"\xef\xbb\xbfT-Shirt\r\nDown Coat\r\n")
    odd = "images/a\u2028b.jpg"
    put(clothing1m / "noisy_train_key_list.txt", odd)
    put(clothing1m / "noisy_label_kv.txt", f"{odd} 0")
    assert index(run, "clothing1m", clothing1m)[0] == [(odd, "T-Shirt")]


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (("clothing1m", "--labels", "worse"), "one kind of labels"),
        (("webvision", "--split", "test"), "train, val"),
        (("cifar10", "--labels", "worse", "--split", "test"), "aggre, worse"),
        (("cifar10", "--labels", "best"), "random3"),
    ],
)
def test_what_a_set_does_not_have_is_refused(
    run: Run, request: pytest.FixtureRequest, tmp_path: Path, words: tuple[str, ...], cause: str
):
    root = request.getfixturevalue("cifar" if words[0].startswith("cifar") else words[0])
    code, _, errors = run("index", words[0], root, "--out", tmp_path / "out", *words[1:])
    assert code == 1
    assert cause in " ".join(errors.split())


def test_an_index_never_names_the_pictures_of_another_set(
    run: Run, cifar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Stopped while the pictures of an earlier one are written over, there is no index until it is made again."""
    index(run, "cifar10", cifar)
    indexed = tmp_path / "indexed"
    assert (indexed / "labels.csv").exists()
    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", stopped)
        assert run("index", "cifar10", cifar, "--out", indexed, "--overwrite")[0] == 130
    assert not (indexed / "labels.csv").exists()
    assert not (indexed / "truth.csv").exists()


def stopped(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_an_index_is_not_overwritten_unasked(run: Run, clothing1m: Path, tmp_path: Path):
    words = ("index", "clothing1m", clothing1m, "--out", tmp_path / "out")
    assert run(*words)[0] == 0
    code, _, errors = run(*words)
    assert code == 1
    assert "--overwrite" in errors
