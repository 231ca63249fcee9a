"""Sets that come as image files with lists: Clothing-1M, WebVision, Food-101N, Tiny-ImageNet.

Each reader takes the set's folder and the part that is wanted; no image is opened.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from labelclean.config import Split
from labelclean.errors import InputError
from labelclean.published.listing import Listing
from labelclean.published.text import UNPACK, fields_of, folder_with, lines_of, numbered_paths, positions
from labelclean.records import REFUTED, UNKNOWN


def read_clothing1m(root: Path, split: Split) -> Listing:
    """Clothing-1M (Xiao et al., CVPR 2015): a million rows with the labels of shops, and some with checked ones.

    The part `train` has the shops' labels, and as truth the checked label of those rows that have one too; the others
    have checked labels. Classes are numbers where category_names_eng.txt is not there.
    """
    folder = folder_with(root, "clean_label_kv.txt", below=("", "annotations"))
    checked = dict(numbered_paths(folder / "clean_label_kv.txt"))
    labels_of = dict(numbered_paths(folder / "noisy_label_kv.txt")) if split == "train" else checked
    paths = lines_of(folder / ("noisy_train_key_list.txt" if split == "train" else f"clean_{split}_key_list.txt"))
    unlabelled = next((path for path in paths if path not in labels_of), None)
    if unlabelled is not None:
        raise InputError(f"{folder}: {unlabelled} is listed, but has no label", hint="Unpack the lists again.")
    given = np.array([labels_of[path] for path in paths], dtype=np.int64)
    names = folder / "category_names_eng.txt"
    highest = max([*labels_of.values(), *checked.values()], default=-1)
    class_names = lines_of(names) if names.is_file() else [str(number) for number in range(highest + 1)]
    true = np.array([checked.get(path, UNKNOWN) for path in paths], dtype=np.int64)
    return Listing(images=root, paths=paths, given=given, true=true, class_names=tuple(class_names))


def read_webvision(root: Path, split: Split) -> Listing:
    """WebVision 1.0 (Li et al., 2017): search results for the classes of ImageNet; the part `val` is checked.

    The training part takes the lists that are there: train_filelist_google.txt, train_filelist_flickr.txt, or both.
    """
    info = folder_with(root, "synsets.txt", below=("info", ""))
    class_names = tuple(readable(line) for line in lines_of(info / "synsets.txt"))
    if split == "train":
        lists = [info / f"train_filelist_{engine}.txt" for engine in ("google", "flickr")]
        rows = [row for file in lists if file.is_file() for row in numbered_paths(file)]
        if not rows:
            raise InputError(f"{lists[0]}: no such file", hint=UNPACK)
    else:
        folder = next((path.name for path in sorted(root.glob("val_images*")) if path.is_dir()), None)
        if folder is None:
            raise InputError(f"{root}/val_images_256: no such folder", hint="Unpack the validation images there.")
        rows = [(f"{folder}/{path}", label) for path, label in numbered_paths(info / "val_filelist.txt")]
    given = np.array([label for _, label in rows], dtype=np.int64)
    true = given if split == "val" else np.full(len(rows), UNKNOWN)
    return Listing(images=root, paths=[path for path, _ in rows], given=given, true=true, class_names=class_names)


def read_food101n(root: Path, split: Split) -> Listing:
    """Food-101N (Lee et al., CVPR 2018): search results; of some rows it is known whether the label is right."""
    meta = folder_with(root, "imagelist.tsv", below=("meta", ""))
    class_names = tuple(name for name in lines_of(meta / "classes.txt") if name != "class_name")
    keys = [key for (key,) in fields_of(meta / "imagelist.tsv", 1, header=True)]
    checked: dict[str, bool] = {}
    for file in (meta / "verified_train.tsv", meta / "verified_val.tsv"):
        if file.is_file():
            checked |= {key: is_right == "1" for key, is_right in fields_of(file, 2, header=True)}
    given = positions([key.split("/")[0] for key in keys], class_names, meta / "classes.txt")
    known = np.array([key in checked for key in keys])
    is_right = np.array([checked.get(key, False) for key in keys])
    true = np.select([known & is_right, known], [given, REFUTED], UNKNOWN)
    paths = [f"images/{key}" for key in keys]
    return Listing(images=root, paths=paths, given=given, true=true, class_names=class_names)


def read_tiny_imagenet(root: Path, split: Split) -> Listing:
    """Tiny-ImageNet (Le and Yang, 2015): 200 classes at 64 px, with true labels, on which noise can be planted."""
    folder = folder_with(root, "wnids.txt", below=("", "tiny-imagenet-200"))
    wnids = lines_of(folder / "wnids.txt")
    if split == "train":
        files = [file for wnid in wnids for file in sorted((folder / "train" / wnid / "images").glob("*.JPEG"))]
        rows = [(file.relative_to(folder).as_posix(), file.parts[-3]) for file in files]
    else:
        rows = [(f"val/images/{name}", wnid) for name, wnid in fields_of(folder / "val" / "val_annotations.txt", 2)]
    if not rows:
        raise InputError(f"{folder / split}: no images", hint=UNPACK)
    given = positions([wnid for _, wnid in rows], wnids, folder / "wnids.txt")
    words = dict(fields_of(folder / "words.txt", 2))
    class_names = tuple(readable(f"{wnid} {words.get(wnid, '')}") for wnid in wnids)
    return Listing(images=folder, paths=[path for path, _ in rows], given=given, true=given, class_names=class_names)


def readable(synset: str) -> str:
    """A WordNet id and its first name, as in `n02012849 crane`: names alone are not unique."""
    return synset.split(",")[0].strip()
