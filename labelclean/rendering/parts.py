"""Parts that several views have.

Texts that come from the user's files go through `shown` and are never read as markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich import box
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from labelclean.rendering.words import percent, shown

BAR_WIDTH = 30


def spaced(parts: Iterable[RenderableType]) -> RenderableType:
    """Parts with an empty line after each; those that stand side by side bring their own."""
    return Group(*(item for part in parts for item in ((part,) if isinstance(part, Columns) else (part, Text()))))


def new_table(*columns: tuple[str, str]) -> Table:
    """A table with a plain head. Columns are given as name and side; `left` may break its text, `right` and `fixed`,
    which is on the left too, may not."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim")
    for name, side in columns:
        table.add_column(name, justify="right" if side == "right" else "left", overflow="fold", no_wrap=side != "left")
    return table


def titled(title: str, table: Table) -> Group:
    return Group(Text(title, style="bold"), table)


def bars(counts: Mapping[str, int], whole: int, styles: Mapping[str, str]) -> Table:
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


def fault_table(lines: Iterable[tuple[str, int, str]]) -> Group:
    table = new_table(("kind", "fixed"), ("rows", "right"), ("first of them", "left"))
    for kind, num_rows, example in lines:
        table.add_row(Text(kind, style="yellow"), f"{num_rows:,}", Text(shown(example)))
    return titled("Rows that cannot be judged", table)


def remark(title: str, text: str) -> Text:
    return Text.assemble((f"{title}: ", "bold"), text, overflow="fold")
