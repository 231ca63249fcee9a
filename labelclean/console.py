"""The only module that prints: progress and errors go to stderr, results to stdout.

rich is imported when something is to be shown, so that `--help` stays quick.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from labelclean.errors import LabelcleanError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from labelclean.data.inspect import Inspection
    from labelclean.published.listing import Indexed
    from labelclean.results.corrupted import Corrupted
    from labelclean.results.cuts import Cut
    from labelclean.results.evaluate import Evaluation
    from labelclean.results.export import Exported
    from labelclean.results.golden import Chosen
    from labelclean.results.report import Summary

SECONDS_PER_LINE = 60.0
"""Without a terminal, a long phase tells so often how far it is."""


def _console(*, stderr: bool = False) -> Console:
    """A console that takes all text literally: no markup, no emoji codes, no guessed highlights."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


@dataclass(slots=True)
class _Phase:
    """A phase under way."""

    name: str
    total: int | None
    task: TaskID | None
    started: float = field(default_factory=time.monotonic)
    told: float = field(default_factory=time.monotonic)
    done: int = 0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def progress(self) -> str:
        """600, or 64 of 600 while it is under way."""
        if self.total is None or self.done == self.total:
            return f"{self.done:,}" if self.done else ""
        return f"{self.done:,} of {self.total:,}"


class RichReporter:
    """Shows progress: bars with the remaining time on a terminal, and a line for every phase that ended.

    Args:
        quiet: show nothing at all.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._console = _console(stderr=True)
        self._phases: list[_Phase] = []
        self._bars: Progress | None = None

    def start(self, phase: str, total: int | None = None) -> None:
        """A phase begins, perhaps within another; total counts its units of work where that is known."""
        task = None
        if self._console.is_terminal and not self._quiet:
            if self._bars is None:
                self._bars = _progress_bars(self._console)
                self._bars.start()
            task = self._bars.add_task(self._indent() + phase, total=total, progress="")
        self._phases.append(_Phase(phase, total, task))

    def advance(self, units: int = 1) -> None:
        """So many units of the innermost phase are done."""
        if not self._phases:
            return
        phase = self._phases[-1]
        phase.done += units
        if self._bars is not None and phase.task is not None:
            self._bars.update(phase.task, advance=units, progress=phase.progress)
        elif time.monotonic() - phase.told > SECONDS_PER_LINE:
            phase.told = time.monotonic()
            indent = "  " * (len(self._phases) - 1)
            self._tell(f"{indent}{phase.name} {phase.progress} ... {_remaining(phase)}")

    def finish(self) -> None:
        """The innermost phase ended."""
        phase = self._phases.pop()
        if self._bars is not None and phase.task is not None:
            self._bars.remove_task(phase.task)
        self._tell(f"{self._indent()}{f'{phase.name} {phase.progress}'.rstrip()} ... {phase.seconds:.1f} s")
        if self._bars is not None and not self._phases:
            self._bars.stop()
            self._bars = None

    def note(self, text: str) -> None:
        """Something the user should read."""
        self._tell(f"note: {text}", style="yellow")

    def _indent(self) -> str:
        return "  " * len(self._phases)

    def _tell(self, text: str, style: str = "") -> None:
        if not self._quiet:
            _put_line(self._console, text, style=style)


def _progress_bars(console: Console) -> Progress:
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[progress]}", markup=False),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def _remaining(phase: _Phase) -> str:
    from labelclean.rendering.words import duration

    if not phase.total or not phase.done:
        return duration(phase.seconds)
    return f"about {duration(phase.seconds * max(phase.total - phase.done, 0) / phase.done)} left"


def _put_line(console: Console, text: str, *, style: str = "") -> None:
    """A line that the terminal may wrap but we do not break, so that paths can be copied."""
    from rich.text import Text

    from labelclean.rendering.words import shown

    console.print(Text(shown(text), style=style), soft_wrap=True)


def render_summary(summary: Summary) -> None:
    """Show the findings of a run."""
    from labelclean.rendering.summary import summary_view

    _console().print(summary_view(summary))


def render_timings(summary: Summary) -> None:
    """Show what each phase of a run took."""
    for phase, seconds in summary.cost.timings.items():
        show_line(f"  {seconds:9.1f} s  {phase}")


def render_inspection(inspection: Inspection) -> None:
    """Show what is wrong with a data set."""
    from labelclean.rendering.inspection import inspection_view

    _console().print(inspection_view(inspection))


def render_evaluation(evaluation: Evaluation) -> None:
    """Show how verdicts compare with the truth."""
    from labelclean.rendering.evaluation import evaluation_view

    _console().print(evaluation_view(evaluation))


def render_corrupted(corrupted: Corrupted) -> None:
    """Show what was written."""
    show_line(f"{corrupted.num_wrong:,} of {corrupted.num_rows:,} labels are wrong now")
    show_line(f"  {corrupted.labels}")
    show_line(f"  {corrupted.truth}")


def render_indexed(indexed: Indexed) -> None:
    """Show what was written, and the command that comes next."""
    from labelclean.rendering.words import number

    show_line(f"{number(indexed.num_rows, 'row')} of {number(indexed.num_classes, 'class', 'classes')}")
    show_line(f"  {indexed.labels}")
    if indexed.truth is not None:
        known = number(indexed.num_known, "row")
        show_line(f"  {indexed.truth}: true labels of {known} are known, {indexed.num_wrong:,} of them labelled wrong")
    show_line(f"Next: labelclean fit {shlex.quote(str(indexed.images))} {shlex.quote(str(indexed.labels))}")


def render_exported(exported: Exported) -> None:
    """Show what was written, and how far a wanted precision is sure."""
    from labelclean.rendering.words import number

    selected = exported.selected
    relabelled = f", {exported.num_relabelled:,} of them relabelled" if exported.num_relabelled else ""
    show_line(f"{len(selected.rows):,} of {number(exported.num_rows, 'row')}{relabelled}")
    if selected.num_contradicted:
        show_line(f"  {selected.num_contradicted:,} left out: another label of the same picture is likelier")
    if selected.num_without_better:
        same = number(selected.num_without_better, "rejected row")
        show_line(f"  {same} left out: no other label is likelier than the given one, or than none")
    if selected.cut is not None:
        show_line(f"  {_assurance(selected.cut)}")
    show_line(f"  {exported.file}")


def _assurance(cut: Cut) -> str:
    """What is expected of the rows above a cut, and what golden rows show of them."""
    tested = "not tested, no golden rows"
    if cut.confidence is not None:
        above = f"{cut.num_golden:,} above the cut, wrong ones left out"
        tested = f"golden rows show at least {100 * cut.wanted:g}% with {cut.confidence:.0%} confidence ({above})"
    return f"share of right labels: {cut.precision:.1%} expected by p_clean; {tested}"


def render_chosen(chosen: Chosen) -> None:
    """Show which rows were written, and what to do with them."""
    from labelclean.rendering.words import number

    show_line(f"{chosen.num_rows:,} of {chosen.num_candidates:,} rows, the uncertain ones more often than others")
    show_line(f"  {chosen.file}")
    given = "--golden FILE"
    if chosen.num_golden:
        of_file = chosen.num_golden > chosen.num_own_golden
        whence = "give their file as well as this one" if of_file else "the index has their labels"
        show_line(f"Left out: {number(chosen.num_golden, 'earlier golden row')}; {whence}")
        given = "--golden OLD --golden NEW" if of_file else given
    show_line("Write the true label into the column golden, ? where it is none of the classes, or leave it empty;")
    show_line(f"then: labelclean fit ... {given}")


def show_json(content: dict[str, Any]) -> None:
    """Write JSON to stdout, in ASCII, which every terminal and pipe leaves as it is."""
    sys.stdout.write(json.dumps(content, indent=2) + "\n")
    sys.stdout.flush()


def show_line(text: str) -> None:
    """Write one line to stdout."""
    _put_line(_console(), text)


def show_error(error: LabelcleanError) -> None:
    """Tell on stderr what went wrong and what can be done about it."""
    console = _console(stderr=True)
    _put_line(console, f"error: {error.message}", style="red")
    _put_line(console, f"hint: {error.hint}", style="cyan")
    for note in getattr(error, "__notes__", ()):
        _put_line(console, f"note: {note}")


def show_interrupt(advice: str) -> None:
    """Tell on stderr that the user stopped the work, and how to carry on."""
    _put_line(_console(stderr=True), f"interrupted{': ' * bool(advice)}{advice}", style="yellow")


def show_traceback() -> None:
    """The error being handled, with where it came from, on stderr."""
    import traceback

    sys.stderr.write(traceback.format_exc())
