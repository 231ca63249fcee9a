"""What is wrong with a data set."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import RenderableType
from rich.text import Text

from labelclean.data.inspect import DIFFERENCES, Inspection, SamePicture, tell_passed_over
from labelclean.rendering.parts import bars, fault_table, new_table, remark, spaced, titled
from labelclean.rendering.words import number, shortened, shown

MAX_CLASSES = 20
"""More classes than that are summed up in a line."""
MAX_CASES = 5
"""Doubled rows and conflicts that are shown in full."""
HOW_ROWS_COUNT = "Rows count from 0: row 0 is the first below the header, and blank lines do not count."


def inspection_view(inspection: Inspection) -> RenderableType:
    """What is wrong with a data set."""
    counts = inspection.classes.values()
    title = Text.assemble((shown(inspection.source), "bold"), f"   {number(inspection.num_rows, 'row')}")
    title.append(f", {number(len(counts), 'class', 'classes')}")
    if counts:
        title.append(f" of {min(counts):,} to {max(counts):,} rows")
    if inspection.num_golden:
        title.append(f", {number(inspection.num_golden, 'golden row')}")
    if inspection.columns:
        title.append(f"\n{shown(inspection.origin)}", "dim")
    parts: list[RenderableType] = [title]
    if 0 < len(counts) <= MAX_CLASSES:
        parts.append(
            bars({shortened(name): count for name, count in inspection.classes.items()}, inspection.num_rows, {})
        )
    if inspection.faults:
        lines = [(group.kind, group.num_rows, group.messages[0]) for group in inspection.faults]
        parts.append(fault_table(lines))
    small = sorted(inspection.small_classes.items(), key=lambda item: item[1])
    if small:
        names = ", ".join(f"{shortened(name)} ({count})" for name, count in small[:MAX_CLASSES])
        more = ", ..." if len(small) > MAX_CLASSES else ""
        parts.append(remark(f"Classes with fewer than {inspection.min_class_rows} rows", names + more))
    parts.extend(_class_remarks(inspection))
    parts.extend(_cases("Rows that name the same image", inspection.doubled_paths))
    parts.extend(_cases("Different paths, identical images", inspection.identical_images))
    shows_rows = inspection.faults or inspection.doubled_paths or inspection.identical_images
    if shows_rows and inspection.source.lower().endswith((".csv", ".tsv")):
        parts.append(Text(HOW_ROWS_COUNT, style="dim"))
    if inspection.passed_over:
        parts.append(remark("Files passed over", shown(tell_passed_over(inspection.passed_over))))
    if inspection.refusal:
        parts.append(remark("`fit` will refuse", inspection.refusal))
    if inspection.is_sound:
        parts.append(Text("Every row can be used, and no picture carries two labels.", style="green"))
    return spaced(parts)


def _class_remarks(inspection: Inspection) -> list[Text]:
    """Classes that may be none or the same or are all in one group."""
    remarks = []
    if inspection.nameless_classes:
        names = ", ".join(_counted(inspection, inspection.nameless_classes))
        remarks.append(remark("Classes whose names may mean that there is no label", names))
    if inspection.alike_classes:
        groups = [" and ".join(_counted(inspection, same)) for same in inspection.alike_classes[:MAX_CLASSES]]
        more = "; ..." if len(inspection.alike_classes) > MAX_CLASSES else ""
        remarks.append(remark(f"Classes that differ only by {DIFFERENCES}", "; ".join(groups) + more))
    if inspection.confined_classes:
        names = ", ".join(_counted(inspection, inspection.confined_classes))
        remarks.append(remark("Classes with nearly all rows in one group, which can hardly be judged", names))
    return remarks


def _counted(inspection: Inspection, names: Iterable[str]) -> list[str]:
    """Names of classes, each with its rows."""
    return [f"{name!r} ({inspection.classes[name]:,})" for name in names]


def _cases(title: str, pictures: tuple[SamePicture, ...]) -> list[RenderableType]:
    """Doubled pictures: how many, and the first of them, conflicting ones before others."""
    if not pictures:
        return []
    conflicting = [same for same in pictures if same.is_conflicting]
    agreeing = [same for same in pictures if not same.is_conflicting]
    counts = f"{number(len(pictures), 'picture')}, {len(conflicting):,} with conflicting labels"
    table = new_table(("row", "right"), ("path", "left"), ("label", "left"))
    for same in [*conflicting, *agreeing][:MAX_CASES]:
        for row, path, label in zip(same.rows[:MAX_CASES], same.paths, same.labels, strict=False):
            style = "red" if same.is_conflicting else ""
            table.add_row(str(row), Text(shortened(path)), Text(shortened(label), style=style))
        table.add_section()
    return [titled(f"{title}: {counts}", table)]
