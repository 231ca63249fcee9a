"""Judges a grid of data sets, noise, efforts and seeds with labelclean and with its rivals, and prints a table.

    python -m benchmarks.grid GRID.toml --out RESULTS.parquet --markdown docs/benchmarks.md

Rivals get the same decoded images and the same backbone, and as many backward passes as labelclean had (`passes`), or
as much time (`time`); those that look at one training also as many epochs as a fold has (`short`), before it learns
wrong labels by heart. At quick effort they get logistic regression on the same frozen features. Rows that are in the
results already are not measured again. GRID.toml is described in benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from benchmarks.cells import Cell, DataSet, lay_out, read_grid
from benchmarks.rivals import (
    HELD_OUT_WAYS,
    WATCHED_WAYS,
    Cost,
    Found,
    HeldOut,
    Judgement,
    Trainer,
    hold_out_frozen,
    judge_held_out,
    judge_watched,
    watch_frozen,
)
from benchmarks.tables import OURS, as_markdown, publish
from labelclean.config import FitConfig, resolve
from labelclean.data.images import decode_all, median_side
from labelclean.data.index import read_manifest
from labelclean.fit import run_fit
from labelclean.records import FloatArray, SilentReporter
from labelclean.results.evaluate import evaluate
from labelclean.results.run_folder import RunFolder, read_run
from labelclean.results.verdicts import (
    CERTAIN_CLEAN,
    PREFIX,
    PURIFIED,
    REJECTED,
    read_estimate,
    read_metadata,
    read_verdicts,
)
from labelclean.train.backbone import BackboneSpec, prepare_backbone
from labelclean.train.device import ImageStore, choose_device, choose_precision
from labelclean.train.trainer import scan_images

ESTIMATES = ("noise_rate", "expected_precision", "expected_recall")
"""What a run says of itself with an interval, by its name in the metadata."""

FEATURES: dict[tuple[str, tuple[str, ...]], tuple[FloatArray, Cost]] = {}
"""Frozen features by data set and rows, and what they cost."""


def main() -> None:
    """Run what is missing of the grid, writing after each cell, then print the table."""
    args = _arguments()
    data_sets, seeds, efforts = read_grid(args.grid)
    rows = pd.read_parquet(args.out).to_dict("records") if args.out.exists() else []
    for seed, data, effort in product(seeds, data_sets, efforts):
        for noise in data.noise:
            where = {"data": data.name, "noise": noise, "seed": seed, "effort": effort}
            known = {(row["way"], row["budget"]): row for row in rows if where.items() <= row.items()}
            ours = known.get((OURS, "passes"))
            missing = [
                (budget, ways)
                for budget, ways in rivals_at(effort, args.budgets)
                if not all((way, budget) in known for way in ways)
            ]
            if ours and not missing:
                continue
            print(*where.values(), flush=True)
            for row in measure(data, where, missing, ours):
                print(f"  {row['budget']:6} {row['way']:22} AP {row['average_precision']:.3f} "
                      f"F1 {row['f1']:.3f} {row['seconds']:.0f} s", flush=True)  # fmt: skip
                rows.append(row)
            pd.DataFrame(rows).to_parquet(args.out)
    publish(as_markdown(pd.DataFrame(rows)), args.markdown)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--budgets", type=lambda text: set(text.split(",")), default={"passes", "short"})
    return parser.parse_args()


def rivals_at(effort: str, budgets: set[str]) -> list[tuple[str, tuple[str, ...]]]:
    """Rivals to be measured, by budget. On frozen features, which are there in no time, equal passes are all."""
    if effort == "quick":
        return [("passes", HELD_OUT_WAYS), ("passes", WATCHED_WAYS)]
    of_folds = [(budget, HELD_OUT_WAYS) for budget in sorted(budgets - {"short"})]
    return of_folds + [(budget, WATCHED_WAYS) for budget in sorted(budgets)]


def measure(
    data: DataSet, where: dict[str, Any], missing: list[tuple[str, tuple[str, ...]]], ours: dict[str, Any] | None
) -> Iterator[dict[str, Any]]:
    """A row for labelclean, where it is not given, and one for every rival that is missing.

    Args:
        where: the cell: data, noise, seed and effort.
        missing: budgets and rivals.
        ours: labelclean's row, if there is one already.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cell = lay_out(data, where["noise"], where["seed"], folder)
        config = resolve(flags={**data.settings, "effort": where["effort"], "seed": where["seed"]})
        if ours is None:
            ours = {**where, "budget": "passes", "way": OURS, **judge_cell(cell, config, folder / "run")}
            yield ours
        if not missing:
            return
        bench = Bench(cell, config, folder)
        for budget, ways in missing:
            found = bench.rivals(budget, ways, passes=ours["backward"], seconds=ours["seconds"])
            for way, (judgement, spent) in found.items():
                table = as_verdicts(judgement, cell)
                peak = {"peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
                yield {**where, "budget": budget, "way": way, **figures(table, cell), **asdict(spent), **peak}


def judge_cell(cell: Cell, config: FitConfig, out: Path) -> dict[str, Any]:
    """The figures and costs of a run of labelclean."""
    started = time.perf_counter()
    run_fit(
        cell.data.images,
        cell.index,
        config,
        out=out,
        golden=(),
        resume=False,
        overwrite=False,
        reporter=SilentReporter(),
    )
    seconds = time.perf_counter() - started
    run, verdicts = read_run(RunFolder(out)), read_verdicts(out / "verdicts.parquet")
    passes = run["image_passes"]
    cost = {"forward": passes["forward"], "backward": passes["backward"], "seconds": seconds}
    return {**figures(verdicts, cell), **cost, "peak_memory_bytes": run["peak_memory_bytes"]}


class Bench:
    """The rivals of one cell."""

    def __init__(self, cell: Cell, config: FitConfig, folder: Path) -> None:
        self.cell, self.config = cell, config
        manifest = read_manifest(cell.data.images, cell.index)
        side = median_side(manifest, cell.data.images)
        self.device = choose_device(config.device)
        self.spec: BackboneSpec = prepare_backbone(config, num_classes=len(cell.class_names), median_side=side)
        decoded = decode_all(
            manifest,
            cell.data.images,
            folder / "images.u8",
            size=self.spec.image_size,
            workers=0,
            reporter=SilentReporter(),
        )
        if decoded.faults:
            raise ValueError(f"{cell.data.name}: {len(decoded.faults)} images cannot be read; rivals need all of them")
        self.images = ImageStore(decoded.pixels, np.arange(manifest.num_rows), self.device)

    def rivals(self, budget: str, ways: tuple[str, ...], *, passes: int, seconds: float) -> Found:
        """Judgements and costs of HELD_OUT_WAYS or of WATCHED_WAYS.

        Args:
            passes, seconds: backward passes and time of labelclean.
        """
        labels, seed = self.cell.given, self.config.seed
        of_folds = ways == HELD_OUT_WAYS
        if not self.config.finetune:
            features, cost = self._frozen_features()
            if of_folds:
                return judge_held_out(self.hold_out_frozen(), labels)
            return judge_watched(watch_frozen(features, labels, cost=cost), labels, seed=seed)
        trainer = self._trainer()
        train = trainer.folds if of_folds else trainer.whole
        # each of five folds has four fifths of the rows; a short training has as many epochs as they
        per_epoch = 4 * len(labels) if of_folds or budget == "short" else len(labels)
        epochs = -(-passes // per_epoch)
        if budget == "time":
            epochs = max(1, round(seconds / train(1).cost.seconds))
        if of_folds:
            return judge_held_out(trainer.folds(epochs), labels)
        return judge_watched(trainer.whole(epochs), labels, seed=seed)

    def hold_out_frozen(self) -> HeldOut:
        """Out-of-fold predictions of logistic regression on the frozen features."""
        features, cost = self._frozen_features()
        return hold_out_frozen(features, self.cell.given, cost=cost, seed=self.config.seed)

    def _frozen_features(self) -> tuple[FloatArray, Cost]:
        """Features of the untouched backbone, (N, D), and what they cost.

        They are the same whatever the labels: computed once for all cells with the same rows.
        """
        key = self.cell.data.name, self.cell.paths
        if key not in FEATURES:
            started = time.perf_counter()
            network = self.spec.build(self.config.seed).to(self.device).eval()
            _, features = scan_images(network, self.images, bf16=False, advance=lambda _: None)
            FEATURES[key] = features, Cost(forward=2 * len(features), seconds=time.perf_counter() - started)
        return FEATURES[key]

    def _trainer(self) -> Trainer:
        return Trainer(
            self.spec,
            self.images,
            self.cell.given,
            learning_rate=self.cell.data.learning_rate,
            bf16=choose_precision(self.config.precision, self.spec, self.device, 128),
            seed=self.config.seed,
        )


def as_verdicts(found: Judgement, cell: Cell) -> pa.Table:
    """A rival's judgement in the form in which verdicts are evaluated; its noise rate is the share it flags."""
    names = np.array(cell.class_names)
    table = pa.table(
        {
            "path": list(cell.paths),
            "label": names[cell.given].tolist(),
            "verdict": np.where(found.flagged, REJECTED, CERTAIN_CLEAN).tolist(),
            "p_clean": found.p_clean.astype(np.float32),
            "suggested_label": names[found.suggested].tolist(),
        }
    )
    return table.replace_schema_metadata({f"{PREFIX}noise_rate": json.dumps([float(found.flagged.mean())] * 3)})


def figures(verdicts: pa.Table, cell: Cell) -> dict[str, Any]:
    """All figures of an evaluation, the run's intervals, and purification against simpler choices of uncertain rows."""
    found = asdict(evaluate(verdicts, cell.truth))
    metadata = read_metadata(verdicts)
    for name in ESTIMATES:
        estimate = read_estimate(metadata.get(name, "null"))
        found[f"{name}_low"], found[f"{name}_high"] = (estimate.low, estimate.high) if estimate else (None, None)
    if "division" in verdicts.column_names:
        uncertain = np.asarray(verdicts["division"].to_pylist()) == "uncertain"
        purified = np.asarray(verdicts["verdict"].to_pylist()) == PURIFIED
        is_right, loss = cell.given == cell.true, verdicts["loss"].to_numpy()
        rows = np.flatnonzero(uncertain)
        lowest = rows[np.argsort(loss[rows], kind="stable")[: purified.sum()]]
        found["purity_by_loss"] = float(is_right[lowest].mean()) if len(lowest) else None
        found["purity_at_random"] = float(is_right[rows].mean()) if len(rows) else None
    return {name: np.nan if value is None else value for name, value in found.items()}


if __name__ == "__main__":
    main()
