"""The results as tables for people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

CELL = ["data", "noise", "effort", "budget"]
FIGURES = {
    "average_precision": "AP",
    "auroc": "AUROC",
    "f1": "F1",
    "precision": "precision",
    "recall": "recall",
    "certain_purity": "certain pure",
    "certain_share": "certain share",
    "correction_accuracy": "corrected",
    "calibration_error": "ECE",
    "noise_rate_estimated": "noise est.",
    "noise_rate_true": "noise",
}
OURS = "labelclean"
"""The way that is told against the others; its rows are those of the budget `passes`."""
BY_MARGIN = ("confident learning", "disagreement")
"""Ways that rank by a margin: as it is no probability, there is no telling how well it is calibrated."""
# memory is labelclean's alone: what it left in the process cannot be told from what its rivals take
COSTS = {"forward": "forward", "backward": "backward", "seconds": "s", "peak_memory_bytes": "GiB"}


INTERVALS = {
    "noise": ("noise_rate", "noise_rate_true"),
    "precision": ("expected_precision", "precision"),
    "recall": ("expected_recall", "recall"),
}
"""What a run estimates, and the column of the true value."""


def as_markdown(rows: pd.DataFrame) -> str:
    """What labelclean reaches against the best rival, what its verdicts are worth, and a table for every cell."""
    parts = [
        "# Benchmarks\n",
        "Means ± standard deviations over the seeds, whose small number is allowed for (n - 1).\n",
        "## Against the best rival\n",
        _contest(rows),
        _upsets(rows),
        "## What the verdicts are worth\n",
        _worth(rows[rows["way"] == OURS]),
    ]
    for cell, part in rows.groupby(CELL, sort=False):
        parts.append(f"## {', '.join(map(str, cell))}\n")
        parts.append(f"Seeds: {part['seed'].nunique()}.\n")
        parts.append(_table(part))
    return "\n".join(parts)


def _contest(rows: pd.DataFrame) -> str:
    """AP and F1 beside those of the rival that is best in the mean, on the seeds that it has, by cell with noise."""
    ours = rows[rows["way"] == OURS].set_index([*CELL[:-1], "seed"])
    lines = _head("cell", "seeds", "AP", "best rival's AP", "F1", "best rival's F1")
    noisy = rows[(rows["way"] != OURS) & (rows["noise_rate_true"] > 0)]
    for cell, part in noisy.groupby(CELL, sort=False):
        here = ours.index.isin([(*cell[:-1], seed) for seed in part["seed"].unique()])
        if not here.any():
            continue
        cells = [", ".join(map(str, cell)), str(part["seed"].nunique())]
        for name in ("average_precision", "f1"):
            best = part.groupby("way")[name].mean().idxmax()
            cells.append(_mean(ours.loc[here, name]))
            cells.append(f"{_mean(part.loc[part['way'] == best, name])} ({best})")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _upsets(rows: pd.DataFrame) -> str:
    """Single runs with noise in which a rival of any budget is level with labelclean in AP or F1, or ahead."""
    lines = _head("run", "figure", "labelclean", "rival")
    noisy = rows[rows["noise_rate_true"] > 0]
    runs = [part for _, part in noisy.groupby([*CELL[:-1], "seed"], sort=False) if (part["way"] == OURS).any()]
    for part in runs:
        is_ours = part["way"] == OURS
        ours, rivals = part[is_ours].iloc[0], part[~is_ours]
        for name in ("average_precision", "f1"):
            if rivals[name].max() >= ours[name]:
                best = rivals.loc[rivals[name].idxmax()]
                run = f"{ours['data']}, {ours['noise']}, {ours['effort']}, seed {ours['seed']}"
                found = f"{ours[name]:.4f} | {best[name]:.4f} ({best['way']}, {best['budget']})"
                lines.append(f"| {run} | {FIGURES[name]} | {found} |")
    table = "\n".join(lines) if len(lines) > 2 else "none."
    return f"Of {len(runs)} single runs with noise, those in which a rival is level or ahead:\n\n{table}\n"


def _worth(rows: pd.DataFrame) -> str:
    """Purity, calibration and estimates by cell."""
    right = 1 - rows["noise_rate_true"]
    rows = rows.assign(
        certain_of_right=rows["certain_share"] * rows["certain_purity"] / right,
        rejected_share=rows["num_rejected"] / rows["num_rows"],
    )
    columns = {
        "certain_purity": "certain: right",
        "certain_of_right": "certain: of all right labels",
        "purified_purity": "purified: right",
        "purity_by_loss": "as many by loss",
        "purity_at_random": "at random",
        "correction_accuracy": "corrected",
        "calibration_error": "ECE",
        "rejected_share": "rejected",
        "noise_rate_estimated": "noise est.",
        "noise_rate_true": "noise",
    }
    lines = _head("cell", *columns.values(), *(f"in the interval: {name}" for name in INTERVALS))
    for cell, part in rows.groupby(CELL[:-1], sort=False):
        cells = [_mean(part[name]) for name in columns] + [_held(part, *names) for names in INTERVALS.values()]
        lines.append(f"| {', '.join(map(str, cell))} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _held(rows: pd.DataFrame, estimate: str, truth: str) -> str:
    """In how many of the runs an interval holds the true value."""
    rows = rows[rows[truth].notna() & rows[f"{estimate}_low"].notna()]
    holds = rows[truth].between(rows[f"{estimate}_low"], rows[f"{estimate}_high"])
    return f"{holds.sum()} of {len(rows)}" if len(rows) else ""


def _head(*columns: str) -> list[str]:
    """The first two lines of a table."""
    return [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]


def _mean(values: pd.Series[float]) -> str:
    return _figure(values.mean(), values.std(), len(values))


def _table(part: pd.DataFrame) -> str:
    groups = part.groupby("way", sort=False)
    mean, spread = groups.mean(numeric_only=True), groups.std(numeric_only=True)
    mean.loc[mean.index.isin(BY_MARGIN), "calibration_error"] = np.nan
    mean.loc[mean.index != OURS, "peak_memory_bytes"] = np.nan
    lines = _head("way", *FIGURES.values(), *COSTS.values())
    for way in mean.sort_values(["average_precision", "f1"], ascending=False).index:
        cells = [_figure(mean.at[way, name], spread.at[way, name], part["seed"].nunique()) for name in FIGURES]
        costs = mean.loc[way, list(COSTS)] / [1, 1, 1, 2**30]
        cells += [
            "" if pd.isna(cost) else f"{cost:,.{digits}f}" for cost, digits in zip(costs, (0, 0, 0, 1), strict=True)
        ]
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _figure(mean: float, spread: float, num_seeds: int) -> str:
    if pd.isna(mean):
        return ""
    return f"{mean:.3f} ± {spread:.3f}" if num_seeds > 1 else f"{mean:.3f}"


def ablation_as_markdown(rows: pd.DataFrame) -> str:
    """Variants in their order, for each data set and effort: means over noise and seeds, and what changes against the
    method as it is on the same rows of the same cells.
    """
    parts = ["# Ablation\n"]
    for (data, effort), part in rows.groupby(["data", "effort"], sort=False):
        cells = part.groupby(["noise", "seed"]).ngroups
        parts.append(f"## {data}, {effort}\n")
        parts.append(f"{cells} cells: {', '.join(part['noise'].unique())}; seeds: {part['seed'].nunique()}.\n")
        parts.append(_ablation_table(part))
    return "\n".join(parts)


def _ablation_table(part: pd.DataFrame) -> str:
    lines = _head(
        "variant",
        "cells",
        "AP: mean change (worst, best)",
        "F1: mean change (worst, best)",
        "ECE",
        "noise off by",
        "certain pure",
        "certain share",
        "rejected of clean",
        "s",
    )
    for variant, found in part.groupby("variant", sort=False):
        noisy, clean = found[found["noise_rate_true"] > 0], found[found["noise_rate_true"] == 0]
        cells = [str(len(found)), *(_change(noisy, name) for name in ("average_precision", "f1"))]
        cells.append(f"{found['calibration_error'].mean():.3f} ({found['base_calibration_error'].mean():.3f})")
        cells.append(f"{(found['noise_rate_estimated'] - found['noise_rate_true']).abs().mean():.3f}")
        cells += [f"{noisy[name].mean():.3f}" for name in ("certain_purity", "certain_share")]
        cells.append(f"{(clean['num_rejected'] / clean['num_rows']).mean():.3f}" if len(clean) else "")
        cells.append(f"{found['seconds'].mean():.0f}" if found["seconds"].notna().any() else "")
        lines.append(f"| {variant} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n\nECE: in brackets, of the method as it is on the same rows.\n"


def _change(rows: pd.DataFrame, name: str) -> str:
    change = rows[name] - rows[f"base_{name}"]
    return f"{rows[name].mean():.3f}: {change.mean():+.3f} ({change.min():+.3f}, {change.max():+.3f})"


def publish(text: str, file: Path | None) -> None:
    """Print the text, and write it where that is wanted."""
    print(text)
    if file is not None:
        file.write_text(text, encoding="utf-8")
