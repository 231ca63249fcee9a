"""Verdicts against the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from labelclean.rendering.parts import new_table, spaced
from labelclean.rendering.words import number, percent

if TYPE_CHECKING:
    from labelclean.results.evaluate import Evaluation


def evaluation_view(evaluation: Evaluation) -> RenderableType:
    """Verdicts against the truth."""
    true = percent(evaluation.noise_rate_true)
    and_golden = ", with golden rows" if evaluation.num_golden else ""
    table = new_table(("figure", "fixed"), ("", "right"), ("meaning", "left"))
    for name, value, meaning in (
        ("precision", evaluation.precision, "rejected labels that are wrong"),
        ("recall", evaluation.recall, "wrong labels that are rejected"),
        ("F1", evaluation.f1, "harmonic mean of both"),
        ("average precision", evaluation.average_precision, "of 1 - p_clean as a ranking of wrong labels"),
        ("AUROC", evaluation.auroc, "chance to rank a wrong label above a right"),
        (
            "purity, certain_clean",
            evaluation.certain_purity,
            f"right labels; {percent(evaluation.certain_share)} of rows are certain",
        ),
        (
            "purity, purified",
            evaluation.purified_purity,
            f"right labels; {percent(evaluation.purified_share)} of rows are purified",
        ),
        *_corrections(evaluation),
        ("calibration error", evaluation.calibration_error, "how far p_clean is off, on average"),
        ("estimated noise", evaluation.noise_rate_estimated, f"wrong labels{and_golden}; true: {true}"),
    ):
        table.add_row(name, Text(percent(value), style="bold"), meaning)
    return spaced([_compared(evaluation), table])


def _compared(evaluation: Evaluation) -> Group:
    """Which rows were compared with the truth, and which left out."""
    lines = [
        f"{evaluation.num_wrong:,} labels wrong, {evaluation.num_rejected:,} rejected, "
        f"{evaluation.num_unreadable:,} unreadable"
    ]
    if evaluation.num_without_truth:
        lines.append(f"{evaluation.num_without_truth:,} left out: no truth known")
    if evaluation.num_golden:
        lines.append(f"{evaluation.num_golden:,} left out: decided by a golden label")
    if evaluation.num_foreign:
        lines.append(f"{evaluation.num_foreign:,} with a true label that no row is labelled with: spelt otherwise?")
    if evaluation.num_named < evaluation.num_rows and _corrections(evaluation):
        lines.append(f"Corrections and accuracy are of the {evaluation.num_named:,} rows whose truth is not `?`")
    title = Text(f"{number(evaluation.num_rows, 'row')} with known truth", style="bold")
    return Group(title, *(Text(line) for line in lines))


def _corrections(evaluation: Evaluation) -> list[tuple[str, float | None, str]]:
    """What suggestions mend; nothing where `?` is all that is known of the wrong labels."""
    before = evaluation.accuracy_before
    if evaluation.num_named < evaluation.num_rows and (before is None or before == 1):
        return []
    return [
        ("corrections", evaluation.correction_accuracy, "right suggestions for rejected wrong labels"),
        ("accuracy after", evaluation.accuracy_after, f"right labels once corrected; before: {percent(before)}"),
    ]
