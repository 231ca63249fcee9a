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


def ablation_as_markdown(rows: pd.DataFrame, *, base: str) -> str:
    """Variants in their order, for each data set and effort: means over noise and seeds, and what changes against the
    base in the same cells.
    """
    rows = rows.assign(noise_error=(rows["noise_rate_estimated"] - rows["noise_rate_true"]).abs())
    parts = ["# Ablation\n"]
    for (data, effort), part in rows.groupby(["data", "effort"], sort=False):
        cells = part.groupby(["noise", "seed"]).ngroups
        parts.append(f"## {data}, {effort}\n")
        parts.append(f"{cells} cells: {', '.join(part['noise'].unique())}, {part['seed'].nunique()} seeds.\n")
        parts.append(_ablation_table(part, base))
    return "\n".join(parts)


def _ablation_table(part: pd.DataFrame, base: str) -> str:
    names = ["average_precision", "f1", "calibration_error", "noise_error", "certain_purity", "certain_share"]
    by_cell = part.set_index(["noise", "seed", "variant"])
    against = part[part["variant"] == base].set_index(["noise", "seed"])
    lines = [
        "| variant | AP | F1 | AP against base, mean (worst, best) | F1 against base, mean (worst, best) "
        "| ECE | noise off by | certain pure | certain share | rejected of clean | s |",
        "|---" * 11 + "|",
    ]
    for variant in part["variant"].unique():
        found = by_cell.xs(variant, level="variant")
        noisy = found[found["noise_rate_true"] > 0]
        clean = found[found["noise_rate_true"] == 0]
        change = noisy[names] - against.loc[noisy.index, names]
        cells = [f"{noisy[name].mean():.3f}" for name in names[:2]]
        cells += [f"{change[n].mean():+.3f} ({change[n].min():+.3f}, {change[n].max():+.3f})" for n in names[:2]]
        cells += [f"{found['calibration_error'].mean():.3f}", f"{found['noise_error'].mean():.3f}"]
        cells += [f"{noisy[name].mean():.3f}" for name in names[4:]]
        cells.append(f"{(clean['num_rejected'] / clean['num_rows']).mean():.3f}" if len(clean) else "")
        lines.append(f"| {variant} | " + " | ".join(cells) + f" | {found['seconds'].mean():.0f} |")
    return "\n".join(lines) + "\n"
