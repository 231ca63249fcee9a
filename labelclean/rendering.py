"""What the terminal shows of findings, as rich renderables: layout only, nothing is printed here.

Texts that come from the user's files go through `shown` and are never read as markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from rich import box
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from labelclean.data.inspect import Inspection, SamePicture
    from labelclean.results.evaluate import Evaluation
    from labelclean.results.report import Cost, GoldenRows, Summary

STYLES = {"certain_clean": "green", "purified": "cyan", "rejected": "red", "unreadable": "yellow"}
BAR_WIDTH = 30
MAX_CLASSES = 20
"""More classes than that are summed up in a line."""
MAX_CASES = 5
"""Doubled rows and conflicts that are shown in full."""
JOINER = "\u200d"
"""Of emoji, as in those of families."""
HOW_ROWS_COUNT = "Rows count from 0: row 0 is the first below the header, and blank lines do not count."


def shown(text: str | None) -> str:
    """A user's text on one line, with control characters spelt out, but not what joins characters into one."""
    if text is None:
        return "-"
    return "".join(
        mark if mark.isprintable() or mark == JOINER else mark.encode("unicode_escape").decode() for mark in text
    )


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def duration(seconds: float) -> str:
    """3.1 s, 2 min 5 s, 1 h 12 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def number(count: int, one: str, many: str | None = None) -> str:
    """A count with its noun: 1 row, 2,000 rows."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def summary_view(summary: Summary) -> RenderableType:
    """The findings of a run."""
    title = Text.assemble((shown(summary.folder), "bold"), f"   {number(summary.num_rows, 'row')}")
    parts: list[RenderableType] = [title, _bars(summary.verdicts, summary.num_rows, STYLES), _estimates(summary)]
    tables = [_classes(summary)] if summary.classes else []
    if summary.confusions:
        tables.append(_confusions(summary))
    if tables:
        parts.append(Columns([Padding(table, (0, 0, 1, 0), expand=False) for table in tables], padding=(0, 5)))
    if summary.worst:
        parts.append(_worst(summary))
    if summary.golden:
        parts.append(_golden(summary.golden))
    if summary.faults:
        parts.append(_fault_table([(line.kind, line.num_rows, line.example) for line in summary.faults]))
    parts.extend(_remarks(summary))
    files = Group(Text("Files", style="bold"), *(Text(f"  {shown(file)}", overflow="fold") for file in summary.files))
    return _spaced([*parts, _cost(summary.cost), files])


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
        parts.append(_bars({shown(name): count for name, count in inspection.classes.items()}, inspection.num_rows, {}))
    if inspection.faults:
        lines = [(group.kind, group.num_rows, group.messages[0]) for group in inspection.faults]
        parts.append(_fault_table(lines))
    small = sorted(inspection.small_classes.items(), key=lambda item: item[1])
    if small:
        names = ", ".join(f"{shown(name)} ({count})" for name, count in small[:MAX_CLASSES])
        more = ", ..." if len(small) > MAX_CLASSES else ""
        parts.append(_remark(f"Classes with fewer than {inspection.min_class_rows} rows", names + more))
    parts.extend(_class_remarks(inspection))
    parts.extend(_cases("Rows that name the same image", inspection.doubled_paths))
    parts.extend(_cases("Different paths, identical images", inspection.identical_images))
    shows_rows = inspection.faults or inspection.doubled_paths or inspection.identical_images
    if shows_rows and inspection.source.lower().endswith((".csv", ".tsv")):
        parts.append(Text(HOW_ROWS_COUNT, style="dim"))
    if inspection.num_passed_over:
        parts.append(_remark("Files passed over", f"{inspection.num_passed_over:,}, no images or in no class's folder"))
    if inspection.refusal:
        parts.append(_remark("`fit` will refuse", inspection.refusal))
    if inspection.is_sound:
        parts.append(Text("Every row can be used, and no picture carries two labels.", style="green"))
    return _spaced(parts)


def evaluation_view(evaluation: Evaluation) -> RenderableType:
    """Verdicts against the truth."""
    true = percent(evaluation.noise_rate_true)
    and_golden = ", with golden rows" if evaluation.num_golden else ""
    table = _table(("figure", "fixed"), ("", "right"), ("meaning", "left"))
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
    return _spaced([_compared(evaluation), table])


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


def _spaced(parts: Iterable[RenderableType]) -> RenderableType:
    """Parts with an empty line after each; those that stand side by side bring their own."""
    return Group(*(item for part in parts for item in ((part,) if isinstance(part, Columns) else (part, Text()))))


def _table(*columns: tuple[str, str]) -> Table:
    """A table with a plain head. Columns are given as name and side; `left` may break its text, `right` and `fixed`,
    which is on the left too, may not."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim")
    for name, side in columns:
        table.add_column(name, justify="right" if side == "right" else "left", overflow="fold", no_wrap=side != "left")
    return table


def _titled(title: str, table: Table) -> Group:
    return Group(Text(title, style="bold"), table)


def _bars(counts: Mapping[str, int], whole: int, styles: Mapping[str, str]) -> Table:
    """Counts with their share, drawn as bars."""
    grid = Table.grid(padding=(0, 2))
    for side in ("left", "right", "right", "left"):
        grid.add_column(justify="right" if side == "right" else "left", overflow="fold", no_wrap=side == "right")
    longest = max(counts.values(), default=0) or 1
    for name, count in counts.items():
        style = styles.get(name, "cyan")
        bar = ProgressBar(longest, count, width=BAR_WIDTH, complete_style=style, finished_style=style, style="dim")
        grid.add_row(Text(name, style=style), f"{count:,}", percent(count / max(whole, 1)), bar)
    return grid


def _estimates(summary: Summary) -> Group:
    """What the run expects to be true of itself."""
    table = _table(("estimate", "fixed"), ("", "right"), ("from", "right"), ("to", "right"), ("of", "left"))
    for name, estimate, meaning in (
        ("wrong labels", summary.noise, "all judged rows"),
        ("precision", summary.precision, "rejected rows: labels that are wrong"),
        ("recall", summary.recall, "wrong labels: those rejected"),
    ):
        if estimate is not None:
            limits = percent(estimate.low), percent(estimate.high)
            table.add_row(name, Text(percent(estimate.value), style="bold"), *limits, meaning)
    return _titled("What to expect, with 95 % intervals", table)


def _golden(golden: GoldenRows) -> RenderableType:
    """Golden rows against the labels, and against what was thought of the labels without them."""
    text = (
        f"{golden.num_contradicting:,} of {golden.num_rows:,} contradict their label; "
        f"the meta-classifier, not told, judged {golden.num_foreseen:,} of {golden.num_rows:,} as they do"
    )
    if not golden.surprises:
        return _remark("Golden rows", text)
    table = _table(("row", "right"), ("path", "left"), ("label", "left"), ("golden", "left"), ("p_meta", "right"))
    for line in golden.surprises:
        texts = (Text(shown(text)) for text in (line.path, line.label, line.golden))
        table.add_row(str(line.row), *texts, f"{line.p_meta:.3f}")
    return Group(_remark("Golden rows", text), _titled("Contradictions that were not foreseen", table))


def _classes(summary: Summary) -> Group:
    table = _table(
        ("class", "left"),
        ("rows", "right"),
        ("rejected", "right"),
        ("wrong", "right"),
        ("from", "right"),
        ("to", "right"),
    )
    for line in summary.classes:
        shares = (percent(share) for share in (line.noise.value, line.noise.low, line.noise.high))
        table.add_row(Text(shown(line.label)), f"{line.num_rows:,}", f"{line.num_rejected:,}", *shares)
    return _titled("Noisiest classes", table)


def _confusions(summary: Summary) -> Group:
    table = _table(("label", "left"), ("suggested", "left"), ("rows", "right"))
    for line in summary.confusions:
        table.add_row(Text(shown(line.given)), Text(shown(line.suggested)), f"{line.num_rows:,}")
    return _titled("Most frequent confusions", table)


def _worst(summary: Summary) -> Group:
    table = _table(
        ("row", "right"),
        ("path", "left"),
        ("label", "left"),
        ("suggested", "left"),
        ("p_clean", "right"),
        ("verdict", "fixed"),
    )
    for line in summary.worst:
        texts = (Text(shown(text)) for text in (line.path, line.label, line.suggested_label))
        verdict = Text(line.verdict, style=STYLES[line.verdict])
        table.add_row(str(line.row), *texts, f"{line.p_clean:.3f}", verdict)
    return _titled("Most probably wrong", table)


def _fault_table(lines: Iterable[tuple[str, int, str]]) -> Group:
    table = _table(("kind", "fixed"), ("rows", "right"), ("first of them", "left"))
    for kind, num_rows, example in lines:
        table.add_row(Text(kind, style="yellow"), f"{num_rows:,}", Text(shown(example)))
    return _titled("Rows that cannot be judged", table)


def _remark(title: str, text: str) -> Text:
    return Text.assemble((f"{title}: ", "bold"), text, overflow="fold")


def _remarks(summary: Summary) -> list[Text]:
    remarks = []
    contradicted = summary.contradicted
    if contradicted.num_rows > contradicted.num_rejected:
        text = (
            f"{contradicted.num_rows:,}, {contradicted.num_rejected:,} of them rejected; "
            "the others may be pictures that look like both classes"
        )
        hint = "" if summary.golden else ", which golden rows tell (`labelclean golden`)"
        remarks.append(_remark("Labels that the model contradicts", text + hint))
    doubles, earlier = summary.doubles, summary.num_earlier_guards
    if doubles.num_rows:
        pictures, conflicting = number(doubles.num_groups, "picture"), doubles.num_conflicting
        text = f"{number(doubles.num_rows, 'row')} show {pictures}; {conflicting:,} of these with conflicting labels"
        remarks.append(_remark("Doubled pictures", text))
    if summary.guards:
        remarks.append(_remark("Guards in the last round", "; ".join(summary.guards)))
    if earlier:
        remarks.append(_remark("Guards in the rounds before", f"{earlier:,}, see history.parquet"))
    return remarks


def _class_remarks(inspection: Inspection) -> list[Text]:
    """Classes that may be none or the same or are all in one group."""
    from labelclean.data.inspect import DIFFERENCES

    remarks = []
    if inspection.nameless_classes:
        names = ", ".join(_counted(inspection, inspection.nameless_classes))
        remarks.append(_remark("Classes whose names may mean that there is no label", names))
    if inspection.alike_classes:
        groups = [" and ".join(_counted(inspection, same)) for same in inspection.alike_classes[:MAX_CLASSES]]
        more = "; ..." if len(inspection.alike_classes) > MAX_CLASSES else ""
        remarks.append(_remark(f"Classes that differ only by {DIFFERENCES}", "; ".join(groups) + more))
    if inspection.confined_classes:
        names = ", ".join(_counted(inspection, inspection.confined_classes))
        remarks.append(_remark("Classes with nearly all rows in one group, which can hardly be judged", names))
    return remarks


def _counted(inspection: Inspection, names: Iterable[str]) -> list[str]:
    """Names of classes, each with its rows."""
    return [f"{name!r} ({inspection.classes[name]:,})" for name in names]


def _cost(cost: Cost) -> Text:
    words = [shown(word) for word in (cost.backbone, cost.effort, cost.device) if word]
    if cost.seconds is not None:
        words.append(duration(cost.seconds))
    for count, direction in ((cost.forward_passes, "forward"), (cost.backward_passes, "backward")):
        if count is not None:
            words.append(f"{count:,} images {direction}")
    if cost.peak_memory_bytes is not None:
        words.append(f"{cost.peak_memory_bytes / 2**30:.1f} GiB at most")
    return _remark("Cost", ", ".join(words) or "not recorded")


def _cases(title: str, pictures: tuple[SamePicture, ...]) -> list[RenderableType]:
    """Doubled pictures: how many, and the first of them, conflicting ones before others."""
    if not pictures:
        return []
    conflicting = [same for same in pictures if same.is_conflicting]
    agreeing = [same for same in pictures if not same.is_conflicting]
    counts = f"{number(len(pictures), 'picture')}, {len(conflicting):,} with conflicting labels"
    table = _table(("row", "right"), ("path", "left"), ("label", "left"))
    for same in [*conflicting, *agreeing][:MAX_CASES]:
        for row, path, label in zip(same.rows[:MAX_CASES], same.paths, same.labels, strict=False):
            style = "red" if same.is_conflicting else ""
            table.add_row(str(row), Text(shown(path)), Text(shown(label), style=style))
        table.add_section()
    return [_titled(f"{title}: {counts}", table)]
