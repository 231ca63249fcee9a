"""What each part of the method is worth: labelclean on the cells of a grid with one part changed at a time.

    python -m benchmarks.ablation GRID.toml --out RESULTS.parquet --markdown docs/ablation.md [--only NAME ...]

The variants are in benchmarks/variants.py. Figures are about the rows without a golden label. Rows that are in the
results already are not measured again.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pyarrow as pa

from benchmarks.cells import Cell, DataSet, lay_out, read_grid
from benchmarks.grid import figures
from benchmarks.tables import ablation_as_markdown, publish
from benchmarks.variants import VARIANTS, Variant
from labelclean.config import FitConfig, resolve
from labelclean.data.images import median_side
from labelclean.data.index import read_manifest
from labelclean.inputs import read_inputs
from labelclean.records import UNKNOWN, Findings, FloatArray, IntArray, SilentReporter
from labelclean.results.golden import draw_systematically, inclusion_chances, uncertainty
from labelclean.results.run_folder import RunFolder
from labelclean.results.verdicts import verdict_table
from labelclean.train.backbone import prepare_backbone
from labelclean.train.checkpoint import Checkpoint
from labelclean.train.device import ImageStore, choose_device, keep_freed_memory, settle_training
from labelclean.train.findings import conclude
from labelclean.train.frozen import scan_frozen
from labelclean.train.loop import RoundLoop

KEY = ["data", "noise", "seed", "effort", "variant"]
BASE = VARIANTS[0]
COMPARED = ("average_precision", "f1", "calibration_error")
"""Figures that are told against those of the method as it is."""


def main() -> None:
    """Run what is missing, writing after each variant, then print the table."""
    args = _arguments()
    keep_freed_memory()
    data_sets, seeds, efforts = read_grid(args.grid)
    rows = pd.read_parquet(args.out).to_dict("records") if args.out.exists() else []
    known = {tuple(row[name] for name in KEY) for row in rows}
    for data in data_sets:
        for noise, seed, effort in product(data.noise, seeds, efforts):
            where = {"data": data.name, "noise": noise, "seed": seed, "effort": effort}
            wanted = [
                variant
                for variant in VARIANTS
                if effort in variant.efforts
                and (not args.only or variant.name in args.only)
                and (*where.values(), variant.name) not in known
            ]
            for variant, found in _measure(data, noise, seed, effort, wanted):
                print(*where.values(), variant, f"AP {found['average_precision']:.3f} F1 {found['f1']:.3f}",
                      flush=True)  # fmt: skip
                rows.append({**where, "variant": variant, **found})
                pd.DataFrame(rows).to_parquet(args.out)
    publish(ablation_as_markdown(pd.DataFrame(rows)), args.markdown)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--only", nargs="*", help="names of variants")
    return parser.parse_args()


def _measure(
    data: DataSet, noise: str, seed: int, effort: str, wanted: list[Variant]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Figures of each variant."""
    if not wanted:
        return
    with tempfile.TemporaryDirectory() as name:
        cell = lay_out(data, noise, seed, Path(name))
        workbench = Workbench(cell, resolve(flags={**data.settings, "effort": effort, "seed": seed}), Path(name))
        for variant in wanted:
            yield variant.name, workbench.measure(variant)


class Workbench:
    """One cell, decoded once, with the frozen features computed once."""

    def __init__(self, cell: Cell, config: FitConfig, folder: Path) -> None:
        self.cell, self.config, self.folder = cell, config, folder
        self.manifest = read_manifest(cell.data.images, cell.index)
        side = median_side(self.manifest, cell.data.images)
        self.spec = prepare_backbone(config, num_classes=len(cell.class_names), median_side=side)
        run = RunFolder(folder / "run")
        run.checkpoint.mkdir(parents=True)
        size, reporter = self.spec.image_size, SilentReporter()
        self.inputs = read_inputs(self.manifest, cell.data.images, run, config, size=size, reporter=reporter)
        self.images = ImageStore(self.inputs.decoded.pixels, self.inputs.rows, choose_device(config.device))
        if config.finetune:  # as a fit settles it
            self.config = settle_training(config, self.spec, self.images.device, num_rows=len(self.inputs.rows))
        if len(self.inputs.rows) < len(cell.true):
            raise ValueError(f"{cell.data.name}: some images cannot be read; the ablation needs all of them")
        features = scan_frozen(self.spec, self.images, seed=config.seed, advance=lambda _: None)
        Checkpoint(run.checkpoint).save_features(features)
        self.base: tuple[Findings, float] | None = None

    def measure(self, variant: Variant) -> dict[str, Any]:
        """Judge the cell by a variant. Its figures, and those of the method as it is on the same rows as `base_...`.

        The seconds leave out what all variants share, the frozen features.
        """
        base, seconds = self._base()
        golden, chances = self._golden(variant, base.p_clean)
        findings = base
        if variant != BASE:
            findings, seconds = self._judge(variant, golden, chances)
        found = self._figures(findings, golden)
        of_base = self._figures(base, golden)
        return {**found, **{f"base_{name}": of_base[name] for name in COMPARED}, "seconds": seconds}

    def _base(self) -> tuple[Findings, float]:
        """The method as it is, without golden rows, and the seconds that it took."""
        if self.base is None:
            nobody = np.full(len(self.cell.true), UNKNOWN)
            self.base = self._judge(BASE, nobody, np.full(len(nobody), np.nan))
        return self.base

    def _golden(self, variant: Variant, p_clean: FloatArray) -> tuple[IntArray, FloatArray]:
        """True labels of the golden rows, UNKNOWN elsewhere, and the chances with which they were chosen, (N,) both."""
        golden, chances = np.full(len(self.cell.true), UNKNOWN), np.full(len(self.cell.true), np.nan)
        if variant.num_golden:
            sizes = uncertainty(p_clean) if variant.chosen else np.full(len(golden), 1 / len(golden))
            drawn_with = inclusion_chances(sizes, variant.num_golden)
            rows = draw_systematically(drawn_with, np.random.default_rng((self.config.seed, 7)))
            golden[rows], chances[rows] = self.cell.true[rows], drawn_with[rows]
        return golden, chances

    def _figures(self, findings: Findings, golden: IntArray) -> dict[str, Any]:
        """About the rows without a golden label; but the noise rate is that of all."""
        blind = np.flatnonzero(golden == UNKNOWN)
        verdicts = verdict_table(self.manifest, findings, self.inputs.decoded.faults, metadata={}).take(pa.array(blind))
        whole = self.cell
        paths = tuple(whole.paths[row] for row in blind)
        cell = dataclasses.replace(whole, given=whole.given[blind], true=whole.true[blind], paths=paths)
        return {**figures(verdicts, cell), "noise_rate_true": float((whole.given != whole.true).mean())}

    def _judge(self, variant: Variant, golden: IntArray, chances: FloatArray) -> tuple[Findings, float]:
        """What a variant finds, and the seconds that it takes."""
        checkpoint = Checkpoint(self.folder / "run" / "checkpoint")
        checkpoint.round_file.unlink(missing_ok=True)
        config = dataclasses.replace(self.config, **variant.settings)
        rows, decoded = self.inputs.rows, self.inputs.decoded
        labels = dataclasses.replace(
            self.inputs.labels,
            golden=golden[rows],
            golden_chances=chances[rows],
            golden_draws=np.where(golden[rows] == UNKNOWN, UNKNOWN, 0),
        )
        started = time.perf_counter()
        with ExitStack() as stack:
            for target, stand_in in variant.stand_ins.items():
                stack.enter_context(patch(target, stand_in))
            loop = RoundLoop(labels, self.images, self.spec, config, checkpoint=checkpoint, reporter=SilentReporter())
            found = conclude(loop.run(), labels, config, rows=rows, pixels=decoded.pixels, files=decoded.files[rows])
        return found, time.perf_counter() - started


if __name__ == "__main__":
    main()
