"""What a run found, gathered from its files alone. Printing it is someone else's task."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelclean.records import NO_CLASS, Estimate
from labelclean.results.run_folder import RunFolder, read_history, read_run
from labelclean.results.verdicts import (
    REJECTED,
    UNREADABLE,
    VERDICTS,
    is_golden,
    is_judged,
    read_estimate,
    read_metadata,
    read_verdicts,
)

TOP = 10
"""Lines in each of the lists of classes, confusions and rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassLine:
    """A class: judged rows, those rejected, and the estimated share of wrong labels."""

    label: str
    num_rows: int
    num_rejected: int
    noise: Estimate


@dataclass(frozen=True, kw_only=True, slots=True)
class GoldenLine:
    """A golden row that contradicts a label which the tool trusted without it; golden is `?` where it says no more."""

    row: int
    path: str
    label: str
    golden: str
    p_meta: float


@dataclass(frozen=True, kw_only=True, slots=True)
class GoldenRows:
    """What the golden rows say about the labels, and about the tool.

    Attributes:
        num_rows: golden rows.
        num_contradicting: those whose given label is another.
        num_foreseen: those of which the meta-classifier, which was not told, judged the given label as they do.
        surprises: contradictions that it did not foresee, the most trusted label first.
    """

    num_rows: int
    num_contradicting: int
    num_foreseen: int
    surprises: tuple[GoldenLine, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Confusion:
    """Rejected rows of one label for which the same other label is suggested, and is likelier than none."""

    given: str
    suggested: str
    num_rows: int


@dataclass(frozen=True, kw_only=True, slots=True)
class WorstRow:
    """A row whose label is probably wrong; suggested_label is None where it is likelier that no class is right."""

    row: int
    path: str
    label: str
    suggested_label: str | None
    p_clean: float
    verdict: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Contradicted:
    """Judged rows whose label is not what the model mostly predicted, and those of them that are rejected.

    The others are taken for pictures that look like either class. Wrong labels that lie among such alone cannot be told
    from them without golden rows.
    """

    num_rows: int
    num_rejected: int


@dataclass(frozen=True, kw_only=True, slots=True)
class OffTopic:
    """Pictures that show none of the classes: how many are expected, and the rows of which it is likelier than not."""

    expected: float
    num_rows: int


@dataclass(frozen=True, kw_only=True, slots=True)
class FaultLine:
    """Rows that could not be judged for the same kind of reason, and what is wrong with the first."""

    kind: str
    num_rows: int
    example: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Doubles:
    """Pictures that are there more than once: their rows, groups, and groups that carry several labels."""

    num_rows: int
    num_groups: int
    num_conflicting: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What the run was made with and what it took; None where run.json does not say."""

    backbone: str | None
    effort: str | None
    device: str | None
    seconds: float | None
    timings: dict[str, float]
    forward_passes: int | None
    backward_passes: int | None
    peak_memory_bytes: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """The findings of a run.

    Attributes:
        folder: the run folder.
        num_rows: rows of the index.
        verdicts: rows by verdict.
        noise: estimated share of wrong labels.
        precision: expected share of wrong labels among the rejected rows, None where there are none.
        recall: expected share of all wrong labels that are rejected, None where no label can be wrong; both are of
            what would be rejected without the golden labels.
        classes: those with the highest estimated share of wrong labels, worst first.
        confusions: the most frequent ones, most frequent first.
        worst: rows that are likelier wrong than right, by p_clean, lowest first; without golden rows, which are known.
        golden: the golden rows, None where there are none.
        contradicted: what the model's own predictions say.
        off_topic: pictures that show none of the classes.
        guards: what fired in the last round, in words.
        num_earlier_guards: how often guards fired in the rounds before.
        faults: rows that could not be judged, by kind, most frequent first.
        doubles: doubled pictures.
        cost: backbone, time, memory.
        files: the run's files.
    """

    folder: str
    num_rows: int
    verdicts: dict[str, int]
    noise: Estimate
    precision: Estimate | None
    recall: Estimate | None
    classes: tuple[ClassLine, ...]
    confusions: tuple[Confusion, ...]
    worst: tuple[WorstRow, ...]
    golden: GoldenRows | None
    contradicted: Contradicted
    off_topic: OffTopic
    guards: tuple[str, ...]
    num_earlier_guards: int
    faults: tuple[FaultLine, ...]
    doubles: Doubles
    cost: Cost
    files: tuple[str, ...]


def summarize(folder: RunFolder) -> Summary:
    """Gather the findings of a finished run.

    Raises:
        RunFolderError: a file of the run is missing or damaged.
    """
    table = read_verdicts(folder.verdicts)
    metadata = read_metadata(table)
    counts = _counts(table["verdict"])
    judged = _suggesting_classes(table.filter(pa.array(is_judged(table))))
    noise = read_estimate(metadata["noise_rate"])
    assert noise is not None  # every run estimates it
    *earlier, last = read_history(folder)["guards"].to_pylist() or [[]]
    return Summary(
        folder=str(folder.path),
        num_rows=table.num_rows,
        verdicts={verdict: counts.get(verdict, 0) for verdict in VERDICTS},
        noise=noise,
        precision=read_estimate(metadata["expected_precision"]),
        recall=read_estimate(metadata["expected_recall"]),
        classes=_classes(judged, json.loads(metadata["noise_by_class"])),
        confusions=_confusions(judged),
        worst=_worst(judged),
        golden=_golden(judged),
        contradicted=_contradicted(judged),
        off_topic=_off_topic(judged),
        guards=tuple(last),
        num_earlier_guards=sum(len(guards) for guards in earlier),
        faults=_faults(table),
        doubles=_doubles(table),
        cost=_cost(read_run(folder)),
        files=tuple(str(file) for file in folder.files if file.is_file()),
    )


def as_json(summary: Summary) -> dict[str, Any]:
    """The summary as plain dicts, lists, strings and numbers."""
    return dataclasses.asdict(summary)


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    """How often each value occurs, most frequent first, equally frequent ones in alphabetical order."""
    counts = {entry["values"]: entry["counts"] for entry in pc.value_counts(column).to_pylist()}
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _classes(judged: pa.Table, noise_by_class: dict[str, list[float]]) -> tuple[ClassLine, ...]:
    rejected = pc.equal(judged["verdict"], REJECTED).cast(pa.int64())
    columns = pa.table({"label": judged["label"], "rejected": rejected})
    grouped = columns.group_by("label").aggregate([("rejected", "count"), ("rejected", "sum")])
    lines = []
    for entry in grouped.to_pylist():
        label, num_rows, num_rejected = entry["label"], entry["rejected_count"], entry["rejected_sum"]
        noise = Estimate(*noise_by_class[label])
        lines.append(ClassLine(label=label, num_rows=num_rows, num_rejected=num_rejected, noise=noise))
    return tuple(sorted(lines, key=lambda line: (-line.noise.value, line.label))[:TOP])


def _golden(judged: pa.Table) -> GoldenRows | None:
    rows = judged.filter(pa.array(is_golden(judged)))
    if not rows.num_rows:
        return None
    contradicted, trusted = pc.equal(rows["verdict"], REJECTED), pc.greater(rows["p_meta"], 0.5)
    missed = rows.filter(pc.and_(contradicted, trusted)).sort_by([("p_meta", "descending")])
    return GoldenRows(
        num_rows=rows.num_rows,
        num_contradicting=pc.sum(contradicted).as_py(),
        num_foreseen=pc.sum(pc.not_equal(contradicted, trusted)).as_py(),
        surprises=tuple(
            GoldenLine(
                row=entry["row"],
                path=entry["path"],
                label=entry["label"],
                golden=entry["suggested_label"] or NO_CLASS,
                p_meta=entry["p_meta"],
            )
            for entry in missed.slice(0, TOP).to_pylist()
        ),
    )


def _confusions(judged: pa.Table) -> tuple[Confusion, ...]:
    is_confusion = pc.and_(
        pc.equal(judged["verdict"], REJECTED), pc.not_equal(judged["label"], judged["suggested_label"])
    )
    pairs = judged.filter(is_confusion).select(["label", "suggested_label"]).group_by(["label", "suggested_label"])
    lines = [
        Confusion(given=entry["label"], suggested=entry["suggested_label"], num_rows=entry["count_all"])
        for entry in pairs.aggregate([([], "count_all")]).to_pylist()
    ]
    return tuple(sorted(lines, key=lambda line: (-line.num_rows, line.given, line.suggested))[:TOP])


def _worst(judged: pa.Table) -> tuple[WorstRow, ...]:
    p_clean = judged["p_clean"].to_numpy()
    wrong = np.flatnonzero((p_clean < 0.5) & ~is_golden(judged))
    lowest = wrong[np.argsort(p_clean[wrong], kind="stable")][:TOP]
    names = [field.name for field in dataclasses.fields(WorstRow)]
    return tuple(WorstRow(**entry) for entry in judged.select(names).take(lowest).to_pylist())


def _suggesting_classes(judged: pa.Table) -> pa.Table:
    """Judged rows with no suggestion where it is likelier that the picture shows none of the classes."""
    is_class = pc.greater_equal(judged["p_suggested"], judged["p_off_topic"])
    suggested = pc.if_else(is_class, judged["suggested_label"], pa.scalar(None, pa.string()))
    return judged.set_column(judged.column_names.index("suggested_label"), "suggested_label", suggested)


def _contradicted(judged: pa.Table) -> Contradicted:
    rows = judged.filter(pc.greater(judged["wrong_event_rate"], 0.5))
    return Contradicted(num_rows=rows.num_rows, num_rejected=pc.sum(pc.equal(rows["verdict"], REJECTED)).as_py() or 0)


def _off_topic(judged: pa.Table) -> OffTopic:
    chance = judged["p_off_topic"].to_numpy()
    return OffTopic(expected=float(chance.sum(dtype=np.float64)), num_rows=int((chance > 0.5).sum()))


def _faults(table: pa.Table) -> tuple[FaultLine, ...]:
    unreadable = table.filter(pc.equal(table["verdict"], UNREADABLE))
    kinds = unreadable["reason"].cast(pa.string()).to_pylist()
    return tuple(
        FaultLine(kind=kind, num_rows=count, example=unreadable["error"][kinds.index(kind)].as_py())
        for kind, count in _counts(unreadable["reason"]).items()
    )


def _doubles(table: pa.Table) -> Doubles:
    rows = table.filter(pc.is_valid(table["duplicate_group"])).select(["duplicate_group", "label"])
    labels = rows.group_by("duplicate_group").aggregate([("label", "count_distinct")])["label_count_distinct"]
    return Doubles(
        num_rows=rows.num_rows,
        num_groups=len(labels),
        num_conflicting=pc.sum(pc.greater(labels, 1)).as_py() or 0,
    )


def _cost(run: dict[str, Any]) -> Cost:
    config, passes, timings = run.get("config", {}), run.get("image_passes", {}), run.get("timings", {})
    return Cost(
        backbone=config.get("backbone"),
        effort=config.get("effort"),
        device=run.get("device"),
        seconds=timings.get("total", sum(timings.values())) if timings else None,
        timings=timings,
        forward_passes=passes.get("forward"),
        backward_passes=passes.get("backward"),
        peak_memory_bytes=run.get("peak_memory_bytes"),
    )
