"""What passes between the layers: array names, frozen records, and the interface through which progress is told.

Knows no file format, no configuration and no torch.

# N rows, K classes, D features, V views
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]
BoolArray = NDArray[np.bool_]
ByteArray = NDArray[np.uint8]

EPSILON = 1e-6
UNKNOWN = -1
"""Stands for 'no label' or 'no group' in integer arrays."""

NO_CLASS = "?"
"""A true label of which only that much is known: it is not the given one."""

REFUTED = -2
"""Stands for NO_CLASS in integer arrays."""


def is_class(ids: IntArray) -> BoolArray:
    """Where class ids are those of a class, and not UNKNOWN or REFUTED; of any shape."""
    return np.asarray(ids >= 0)


def in_company(groups: IntArray) -> IntArray:
    """The rows that are not alone in their group, ascending.

    Args:
        groups: numbered from 0, (N,).
    """
    return np.flatnonzero(np.bincount(groups)[groups] > 1)


def of_label(table: FloatArray, labels: IntArray) -> FloatArray:
    """Each row's entry for its label: (N, K), (N,) -> (N,)."""
    picked: FloatArray = table[np.arange(len(labels)), labels]
    return picked


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """Why a row cannot be judged.

    Attributes:
        kind: short name, written to the verdict file's `reason`, as in `missing_file`.
        message: what, where and why, written to `error`.
    """

    kind: str
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """The index as read: one entry per input row, in input order, whatever is wrong with it.

    Attributes:
        source: how messages name the index, as in `labels.csv`.
        columns: the index's column of the paths, labels, golden labels, chances and groups, as far as it has them.
        paths: as given, strings, (N,).
        labels: as given, strings, null where missing, (N,).
        label_ids: position of the label in `class_names`, UNKNOWN where missing, (N,).
        golden_ids: the trusted label's position, REFUTED where it only says that the given one is wrong, UNKNOWN where
            there is none, (N,).
        golden_chances: probability with which the row was chosen to get its trusted label, NaN where unknown, (N,).
        golden_draws: rows with the same number were chosen together, UNKNOWN where there is no trusted label, (N,).
        group_ids: rows that must share a fold share a number; UNKNOWN: a group of its own, (N,).
        class_names: distinct given labels, sorted.
        extra: all columns but those of paths and labels, to be passed through.
        faults: what is wrong with rows, by row.
        passed_over: files of a folder per class that are none of its rows, ascending.
    """

    source: str
    columns: dict[str, str]
    paths: pa.ChunkedArray
    labels: pa.ChunkedArray
    label_ids: IntArray
    golden_ids: IntArray
    golden_chances: FloatArray
    golden_draws: IntArray
    group_ids: IntArray
    class_names: tuple[str, ...]
    extra: pa.Table
    faults: dict[int, Fault]
    passed_over: tuple[str, ...] = ()

    @property
    def num_rows(self) -> int:
        return len(self.label_ids)


class Bin(IntEnum):
    """Where the parallel division puts a row."""

    CERTAIN_POSITIVE = 0
    CERTAIN_NEGATIVE = 1
    UNCERTAIN = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Labels:
    """What is given about the judged rows.

    Attributes:
        given: the labels in question, (N,).
        golden: true labels where known, REFUTED where it is only known that the given one is wrong, UNKNOWN elsewhere,
            (N,).
        golden_chances: with which the golden rows were chosen, NaN where unknown, (N,).
        golden_draws: rows with the same number were chosen together, (N,).
        fold: each row's fold, (N,).
        groups: rows of a group share folds and halves and say nothing about each other, (N,).
        num_classes: K.
    """

    given: IntArray
    golden: IntArray
    golden_chances: FloatArray
    golden_draws: IntArray
    fold: IntArray
    groups: IntArray
    num_classes: int

    @property
    def true(self) -> IntArray:
        """The true labels where they are known, UNKNOWN elsewhere, (N,)."""
        return np.where(is_class(self.golden), self.golden, UNKNOWN)

    @property
    def refuted(self) -> BoolArray:
        """Rows whose label is known to be wrong, and no more, (N,)."""
        return np.asarray(self.golden == REFUTED)

    @property
    def best_known(self) -> IntArray:
        return np.where(is_class(self.golden), self.golden, self.given)

    @property
    def support(self) -> IntArray:
        """In how many other groups a row shows the class of the label, by what is best known, (N,)."""
        shown = np.unique(self.groups * self.num_classes + self.best_known)
        per_class = np.bincount(shown % self.num_classes, minlength=self.num_classes)
        in_own = np.isin(self.groups * self.num_classes + self.given, shown)
        return np.asarray(per_class[self.given] - in_own)


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """One set of class scores for every row, from models that are meant not to have learnt the row's own label.

    Attributes:
        probs: predicted class probabilities, (N, K).
        votes: share of the neighbours' votes for each class, corrected for class frequency, (N, K).
        affinity: cosine to each class's prototype, (N, K).
        agreement: share of the neighbours' trust-weighted votes for the given label, uncorrected, (N,).
    """

    probs: FloatArray
    votes: FloatArray
    affinity: FloatArray
    agreement: FloatArray


@dataclass(frozen=True, kw_only=True, slots=True)
class Streams:
    """What the two streams say about the given labels.

    Attributes:
        p_loss: P(label right) by the loss stream, (N,).
        p_feature: the same by the feature stream, (N,).
        guards: words for each guard that fired.
    """

    p_loss: FloatArray
    p_feature: FloatArray
    guards: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Division:
    """The parallel division.

    Attributes:
        bins: a `Bin` per row, (N,).
        guards: words for each guard that fired.
    """

    bins: IntArray
    guards: tuple[str, ...] = ()

    @property
    def positive(self) -> BoolArray:
        return np.asarray(self.bins == Bin.CERTAIN_POSITIVE)

    @property
    def negative(self) -> BoolArray:
        return np.asarray(self.bins == Bin.CERTAIN_NEGATIVE)

    @property
    def uncertain(self) -> BoolArray:
        return np.asarray(self.bins == Bin.UNCERTAIN)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A share in [0, 1] with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundRecord:
    """A row of history.parquet. Shares are of all judged rows; rates of wrong labels lie in [0, 1]."""

    stage: str
    round: int
    seconds: float
    share_positive: float
    share_negative: float
    share_uncertain: float
    share_accepted: float
    noise_rate: float
    noise_rate_loss: float
    noise_rate_feature: float
    agreement: float
    train_loss: float
    forward_passes: int
    backward_passes: int
    guards: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Findings:
    """What the method found about the rows that it could judge, in the order of the index.

    # M judged rows

    Attributes:
        rows: positions in the index, ascending, (M,).
        bins: a `Bin` per row by the last division, (M,).
        cut: p_clean up to which uncertain rows are rejected; those above it are purified.
        p_clean: calibrated P(label right), (M,).
        p_loss, p_feature, p_meta: posterior of each stream and of the meta-classifier, (M,).
        p_off_topic: P(the picture shows none of the classes), (M,).
        suggested_ids: most probable class, (M,).
        p_suggested: its probability, (M,).
        loss: mean loss of the given label over the last rounds in nats, (M,).
        margin: log-odds of the given label against the best other, (M,).
        knn_agreement: share of the neighbours' votes for the given label, (M,).
        wrong_event_rate: share of rounds in which the model disagreed with the label, (M,).
        outlier_score: cosine distance to the nearest neighbours, (M,).
        duplicate_group: rows showing the same picture share a number, UNKNOWN for single ones, (M,).
        noise: estimated share of wrong labels among the judged rows.
        class_noise: the same among the rows of a label, by its class id, for those that have rows.
        precision: estimated share of wrong labels among the rejected rows, None where there are none.
        recall: estimated share of all wrong labels that are rejected, None where no label can be wrong; for both a row
            counts as rejected by its scores, not by a golden label.
        history: a record per round, of all stages.
    """

    rows: IntArray
    bins: IntArray
    cut: float
    p_clean: FloatArray
    p_loss: FloatArray
    p_feature: FloatArray
    p_meta: FloatArray
    p_off_topic: FloatArray
    suggested_ids: IntArray
    p_suggested: FloatArray
    loss: FloatArray
    margin: FloatArray
    knn_agreement: FloatArray
    wrong_event_rate: FloatArray
    outlier_score: FloatArray
    duplicate_group: IntArray
    noise: Estimate
    class_noise: dict[int, Estimate]
    precision: Estimate | None
    recall: Estimate | None
    history: tuple[RoundRecord, ...]


class Reporter(Protocol):
    """Through this the work tells how far it is; who listens decides what becomes of it."""

    def start(self, phase: str, total: int | None = None) -> None:
        """A phase begins; total counts its units of work where that is known."""

    def advance(self, units: int = 1) -> None:
        """So many units of the phase are done."""

    def finish(self) -> None:
        """The phase ended."""

    def note(self, text: str) -> None:
        """Something the user should read."""


@dataclass(slots=True)
class SilentReporter:
    """Remembers the notes and shows nothing: for tests and for library use."""

    notes: list[str] = field(default_factory=list)

    def start(self, phase: str, total: int | None = None) -> None:
        pass

    def advance(self, units: int = 1) -> None:
        pass

    def finish(self) -> None:
        pass

    def note(self, text: str) -> None:
        self.notes.append(text)


@contextmanager
def phase(reporter: Reporter, name: str, total: int | None = None) -> Iterator[None]:
    """Start a phase and finish it also when the work fails."""
    reporter.start(name, total)
    try:
        yield
    finally:
        reporter.finish()
