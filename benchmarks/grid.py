"""Judges a grid of data sets, noise, efforts and seeds with labelclean and with its rivals, and prints a table.

    python -m benchmarks.grid GRID.toml --out RESULTS.parquet --markdown docs/benchmarks.md

Rivals get the same decoded images and the same backbone, and as many backward passes as labelclean had (`passes`), or
as much time (`time`); those that look at one training also as many epochs as a fold has (`short`), before it learns
wrong labels by heart. At quick effort they get linear heads on the backbone's frozen output, or on what all its layers
see, as labelclean does (`layers`). All costs are from the image files to the judgement. Rows that are in the results
already are not measured again. GRID.toml is described in benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from benchmarks.cells import Cell, DataSet, lay_out, read_grid
from benchmarks.costs import Cost, Meter
from benchmarks.rivals import (
    HELD_OUT_WAYS,
    WATCHED_WAYS,
    Found,
    Judgement,
    Trainer,
    hold_out_frozen,
    judge_held_out,
    judge_watched,
    see_layers,
    see_output,
    watch_frozen,
)
from benchmarks.tables import OURS, as_markdown, publish
from labelclean.config import FitConfig, resolve
from labelclean.data.images import decode_all, median_side
from labelclean.data.index import read_manifest
from labelclean.fit import run_fit
from labelclean.records import SilentReporter
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
from labelclean.train.device import ImageStore, choose_device, choose_precision, keep_freed_memory
from labelclean.train.frozen import FrozenFeatures, scan_frozen
from labelclean.train.schedule import plan_schedule

ESTIMATES = ("noise_rate", "expected_precision", "expected_recall")
"""What a run says of itself with an interval, by its name in the metadata."""

FEATURES: dict[tuple[str, tuple[str, ...]], tuple[FrozenFeatures, float]] = {}
"""Frozen features, and the seconds that they took, by data set and rows."""


def main() -> None:
    """Run what is missing of the grid, writing each row as it comes, then print the table."""
    args = _arguments()
    keep_freed_memory()
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
                if (row["way"], row["budget"]) not in known:
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
        seen = ["passes", *sorted(budgets & {"layers"})]
        return [(budget, ways) for budget in seen for ways in (HELD_OUT_WAYS, WATCHED_WAYS)]
    of_folds = [(budget, HELD_OUT_WAYS) for budget in sorted(budgets - {"short", "layers"})]
    return of_folds + [(budget, WATCHED_WAYS) for budget in sorted(budgets - {"layers"})]


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
            found, cost = bench.rivals(budget, ways, passes=ours["backward"], seconds=ours["seconds"])
            for way, judgement in found.items():
                table = as_verdicts(judgement, cell)
                yield {**where, "budget": budget, "way": way, **figures(table, cell), **asdict(cost)}


def judge_cell(cell: Cell, config: FitConfig, out: Path) -> dict[str, Any]:
    """The figures and costs of a run of labelclean."""
    meter = Meter()
    run_fit(
        cell.data.images,
        cell.index,
        config,
        out=out,
        golden=(),
        chosen=(),
        resume=False,
        overwrite=False,
        reporter=SilentReporter(),
    )
    cost = meter.read(**read_run(RunFolder(out))["image_passes"])
    return {**figures(read_verdicts(out / "verdicts.parquet"), cell), **asdict(cost)}


class Bench:
    """The rivals of one cell."""

    def __init__(self, cell: Cell, config: FitConfig, folder: Path) -> None:
        meter = Meter()
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
        self.preparation = meter.seconds
        self.schedule = plan_schedule(
            config, num_rows=manifest.num_rows, num_networks=1, pretrained=self.spec.pretrained
        )

    def rivals(self, budget: str, ways: tuple[str, ...], *, passes: int, seconds: float) -> tuple[Found, Cost]:
        """Judgements of HELD_OUT_WAYS or of WATCHED_WAYS, and what they cost together.

        Args:
            passes, seconds: backward passes and time of labelclean.
        """
        labels, seed = self.cell.given, self.config.seed
        of_folds = ways == HELD_OUT_WAYS
        if not self.config.finetune:
            frozen, of_features = self.frozen_features()
            meter = Meter()
            inputs = see_layers(frozen) if budget == "layers" else see_output(frozen)
            if of_folds:
                found = judge_held_out(hold_out_frozen(inputs, labels, seed=seed), labels)
            else:
                seen = watch_frozen(inputs, labels, batch_size=self.schedule.batch_size, seed=seed)
                found = judge_watched(seen, labels, seed=seed)
            cost = meter.read(forward=2 * len(labels), backward=0)
            return found, replace(cost, seconds=cost.seconds + self.preparation + of_features)
        # each of five folds has four fifths of the rows; a short training has as many epochs as they
        per_epoch = 4 * len(labels) if of_folds or budget == "short" else len(labels)
        epochs = -(-passes // per_epoch)
        if budget == "time":
            epochs = max(1, round((seconds - self.preparation) / self._seconds_of_an_epoch(of_folds)))
        trainer, meter = self._trainer(), Meter()
        if of_folds:
            found = judge_held_out(trainer.folds(epochs), labels)
        else:
            found = judge_watched(trainer.whole(epochs), labels, seed=seed)
        cost = meter.read(forward=trainer.forward, backward=trainer.backward)
        return found, replace(cost, seconds=cost.seconds + self.preparation)

    def _seconds_of_an_epoch(self, of_folds: bool) -> float:
        trainer, meter = self._trainer(), Meter()
        if of_folds:
            trainer.folds(1)
        else:
            trainer.whole(1)
        return meter.seconds

    def frozen_features(self) -> tuple[FrozenFeatures, float]:
        """What the untouched backbone knows of the images, and the seconds that it took.

        They are the same whatever the labels: computed once for all cells with the same rows.
        """
        key = self.cell.data.name, self.cell.paths
        if key not in FEATURES:
            meter = Meter()
            found = scan_frozen(self.spec, self.images, seed=self.config.seed, advance=lambda _: None)
            FEATURES[key] = found, meter.seconds
        return FEATURES[key]

    def _trainer(self) -> Trainer:
        return Trainer(
            self.spec,
            self.images,
            self.cell.given,
            self.schedule,
            bf16=choose_precision(self.config.precision, self.spec, self.device, self.schedule.batch_size),
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
