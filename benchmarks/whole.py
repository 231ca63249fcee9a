"""One run on all rows of a data set whose truth is known, and how right the fitted model is on images it never saw.

    python -m benchmarks.whole GRID.toml NAME --noise column:worse_label --test cifar10n_test --out RUN

GRID.toml and NAME say which data set, as for `benchmarks.grid`; `--test` is a folder beside the grid file with images/
and truth.csv (path, true_label). Prints one JSON object: the figures of the grid's tables, what the run cost, the
device, and the accuracy on the test images.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from benchmarks.cells import lay_out, numbered, read_grid
from benchmarks.grid import judge_cell
from labelclean.config import resolve
from labelclean.data.images import decode_all
from labelclean.data.index import read_manifest
from labelclean.data.tables import as_strings, read_table
from labelclean.records import SilentReporter
from labelclean.results.run_folder import RunFolder, read_config, read_run
from labelclean.train.backbone import prepare_backbone
from labelclean.train.device import ImageStore, choose_device
from labelclean.train.trainer import scan_images


def main() -> None:
    """Run, and print what came of it."""
    args = _arguments()
    data_sets, _, (effort, *_) = read_grid(args.grid)
    (data,) = (data for data in data_sets if data.name == args.name)
    args.out.mkdir(parents=True)
    cell = lay_out(data, args.noise, args.seed, args.out)
    config = resolve(flags={**data.settings, "effort": effort, "seed": args.seed})
    found: dict[str, Any] = {"data": data.name, "noise": args.noise, "seed": args.seed, "effort": effort}
    found |= judge_cell(cell, config, args.out / "run")
    run = read_run(RunFolder(args.out / "run"))
    found |= {"device": _name_of(run["device"]), "timings": run["timings"], "versions": run["versions"]}
    if args.test:
        found["test_accuracy"] = test_accuracy(RunFolder(args.out / "run"), args.grid.parent / args.test)
    print(json.dumps(found, indent=2))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path)
    parser.add_argument("name")
    parser.add_argument("--noise", required=True)
    parser.add_argument("--test")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="a folder that does not exist yet")
    return parser.parse_args()


def _name_of(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def test_accuracy(folder: RunFolder, test: Path) -> float:
    """Share of test images that the networks of a run, in the mean of their predictions, are right about.

    Args:
        folder: of a run that has trained networks.
        test: images/ and truth.csv.
    """
    config, run = read_config(folder.config), read_run(folder)
    class_names = tuple(run["class_names"])
    spec = prepare_backbone(
        dataclasses.replace(config, image_size=run["image_size"]), num_classes=len(class_names), median_side=0
    )
    manifest = read_manifest(test / "images", test / "truth.csv", label_column="true_label")
    truth = numbered(as_strings(read_table(test / "truth.csv")["true_label"]).to_pylist(), class_names)
    decoded = decode_all(
        manifest,
        test / "images",
        folder.path / "test.u8",
        size=spec.image_size,
        workers=0,
        reporter=SilentReporter(),
    )
    device = choose_device(config.device)
    store = ImageStore(decoded.pixels, np.arange(manifest.num_rows), device)
    tensors = load_file(folder.model)
    probs = []
    for place in sorted({name.split(".")[1] for name in tensors if name.startswith("networks.")}):
        network = spec.build(0)
        prefix = f"networks.{place}."
        network.load_state_dict(
            {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        )
        network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        probs.append(scan_images(network, store, bf16=config.precision == "bf16", advance=lambda _: None)[0])
    return float((np.mean(probs, axis=0).argmax(axis=1) == truth).mean())


if __name__ == "__main__":
    main()
