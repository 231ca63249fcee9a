"""The findings of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from labelclean.rendering.parts import bars, fault_table, new_table, remark, spaced, titled
from labelclean.rendering.words import duration, number, percent, shortened, shown

if TYPE_CHECKING:
    from labelclean.results.report import Cost, GoldenRows, Summary

STYLES = {"certain_clean": "green", "purified": "cyan", "rejected": "red", "unreadable": "yellow"}


def summary_view(summary: Summary) -> RenderableType:
    """The findings of a run."""
    title = Text.assemble((shown(summary.folder), "bold"), f"   {number(summary.num_rows, 'row')}")
    parts: list[RenderableType] = [title, bars(summary.verdicts, summary.num_rows, STYLES), _estimates(summary)]
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
        parts.append(fault_table([(line.kind, line.num_rows, line.example) for line in summary.faults]))
    parts.extend(_remarks(summary))
    files = Group(Text("Files", style="bold"), *(Text(f"  {shown(file)}", overflow="fold") for file in summary.files))
    return spaced([*parts, _cost(summary.cost), files])


def _estimates(summary: Summary) -> Group:
    """What the run expects to be true of itself."""
    table = new_table(("estimate", "fixed"), ("", "right"), ("from", "right"), ("to", "right"), ("of", "left"))
    for name, estimate, meaning in (
        ("wrong labels", summary.noise, "all judged rows"),
        ("precision", summary.precision, "wrong labels among rejected rows"),
        ("recall", summary.recall, "rejected rows among wrong labels"),
    ):
        if estimate is not None:
            limits = percent(estimate.low), percent(estimate.high)
            table.add_row(name, Text(percent(estimate.value), style="bold"), *limits, meaning)
    return titled("What to expect, with 95 % intervals", table)


def _classes(summary: Summary) -> Group:
    table = new_table(
        ("class", "left"),
        ("rows", "right"),
        ("rejected", "right"),
        ("wrong", "right"),
        ("from", "right"),
        ("to", "right"),
    )
    for line in summary.classes:
        shares = (percent(share) for share in (line.noise.value, line.noise.low, line.noise.high))
        table.add_row(Text(shortened(line.label)), f"{line.num_rows:,}", f"{line.num_rejected:,}", *shares)
    return titled("Noisiest classes", table)


def _confusions(summary: Summary) -> Group:
    table = new_table(("label", "left"), ("suggested", "left"), ("rows", "right"))
    for line in summary.confusions:
        table.add_row(Text(shortened(line.given)), Text(shortened(line.suggested)), f"{line.num_rows:,}")
    return titled("Most frequent confusions", table)


def _worst(summary: Summary) -> Group:
    table = new_table(
        ("row", "right"),
        ("path", "left"),
        ("label", "left"),
        ("suggested", "left"),
        ("p_clean", "right"),
        ("verdict", "fixed"),
    )
    for line in summary.worst:
        texts = (Text(shortened(text)) for text in (line.path, line.label, line.suggested_label))
        verdict = Text(line.verdict, style=STYLES[line.verdict])
        table.add_row(str(line.row), *texts, f"{line.p_clean:.3f}", verdict)
    return titled("Most probably wrong", table)


def _golden(golden: GoldenRows) -> RenderableType:
    """Golden rows against the labels, and against what was thought of the labels without them."""
    text = (
        f"{golden.num_contradicting:,} of {golden.num_rows:,} contradict their label; "
        f"the meta-classifier, not told, judged {golden.num_foreseen:,} of {golden.num_rows:,} as they do; precision "
        "and recall above are of what is rejected without them"
    )
    if not golden.surprises:
        return remark("Golden rows", text)
    table = new_table(("row", "right"), ("path", "left"), ("label", "left"), ("golden", "left"), ("p_meta", "right"))
    for line in golden.surprises:
        texts = (Text(shortened(text)) for text in (line.path, line.label, line.golden))
        table.add_row(str(line.row), *texts, f"{line.p_meta:.3f}")
    return Group(remark("Golden rows", text), titled("Contradictions that were not foreseen", table))


def _remarks(summary: Summary) -> list[Text]:
    remarks = []
    contradicted = summary.contradicted
    if contradicted.num_rows > contradicted.num_rejected:
        text = (
            f"{contradicted.num_rows:,}, {contradicted.num_rejected:,} of them rejected; "
            "the others may be pictures that look like both classes"
        )
        hint = "" if summary.golden else ", which golden rows tell (`labelclean golden`)"
        remarks.append(remark("Labels that the model contradicts", text + hint))
    off_topic = summary.off_topic
    if off_topic.expected >= 1:
        text = (
            f"about {off_topic.expected:,.0f}; of {number(off_topic.num_rows, 'row')} it is likelier than not "
            "(`p_off_topic`)"
        )
        remarks.append(remark("Pictures of none of the classes", text))
    doubles, earlier = summary.doubles, summary.num_earlier_guards
    if doubles.num_rows:
        pictures, conflicting = number(doubles.num_groups, "picture"), doubles.num_conflicting
        text = f"{number(doubles.num_rows, 'row')} show {pictures}; {conflicting:,} of these with conflicting labels"
        remarks.append(remark("Doubled pictures", text))
    if summary.guards:
        remarks.append(remark("Guards in the last round", "; ".join(summary.guards)))
    if earlier:
        remarks.append(remark("Guards in the rounds before", f"{earlier:,}, see history.parquet"))
    return remarks


def _cost(cost: Cost) -> Text:
    words = [shown(word) for word in (cost.backbone, cost.effort, cost.device) if word]
    if cost.seconds is not None:
        words.append(duration(cost.seconds))
    for count, direction in ((cost.forward_passes, "forward"), (cost.backward_passes, "backward")):
        if count is not None:
            words.append(f"{count:,} images {direction}")
    if cost.peak_memory_bytes is not None:
        words.append(f"{cost.peak_memory_bytes / 2**30:.1f} GiB at most")
    return remark("Cost", ", ".join(words) or "not recorded")
