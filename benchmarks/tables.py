"""The results as tables for people."""

from __future__ import annotations

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
COSTS = {"forward": "forward", "backward": "backward", "seconds": "s", "peak_memory_bytes": "GiB"}


def as_markdown(rows: pd.DataFrame) -> str:
    """A table for every cell, means over the seeds with their spread, best AP first."""
    parts = ["# Benchmarks\n"]
    for cell, part in rows.groupby(CELL, sort=False):
        parts.append(f"## {', '.join(map(str, cell))}\n")
        parts.append(f"{part['seed'].nunique()} seeds: mean ± standard deviation.\n")
        parts.append(_table(part))
    return "\n".join(parts)


def _table(part: pd.DataFrame) -> str:
    groups = part.groupby("way", sort=False)
    mean, spread = groups.mean(numeric_only=True), groups.std(numeric_only=True, ddof=0)
    lines = [
        "| way | " + " | ".join([*FIGURES.values(), *COSTS.values()]) + " |",
        "|---" * (1 + len(FIGURES) + len(COSTS)) + "|",
    ]
    for way in mean.sort_values(["average_precision", "f1"], ascending=False).index:
        cells = [_figure(mean.at[way, name], spread.at[way, name], part["seed"].nunique()) for name in FIGURES]
        cells += [f"{mean.at[way, name]:,.0f}" for name in ("forward", "backward", "seconds")]
        cells.append(f"{mean.at[way, 'peak_memory_bytes'] / 2**30:.1f}")
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _figure(mean: float, spread: float, num_seeds: int) -> str:
    if pd.isna(mean):
        return ""
    return f"{mean:.3f} ± {spread:.3f}" if num_seeds > 1 else f"{mean:.3f}"
