"""The verdict file: one row per input row, in input order, whatever is wrong with an image.

# N rows of the index, M of them judged
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import labelclean
from labelclean.config import FitConfig, as_dict
from labelclean.errors import RunFolderError, why_unreadable
from labelclean.files import write_parquet
from labelclean.records import (
    UNKNOWN,
    Bin,
    BoolArray,
    Estimate,
    Fault,
    Findings,
    FloatArray,
    IntArray,
    Manifest,
    is_class,
)
from labelclean.tssd.rejection import is_rejected

SCHEMA_VERSION = "4"
PREFIX = "labelclean."
"""Begins the name of each of our entries in the Arrow schema's metadata."""

CERTAIN_CLEAN, PURIFIED, REJECTED, UNREADABLE = VERDICTS = ("certain_clean", "purified", "rejected", "unreadable")
NOT_JUDGED = Fault(kind="not_judged", message="The row was not judged.")

NUM_DECIMALS = 6
"""Of probabilities in tables for people."""

CATEGORY = pa.dictionary(pa.int32(), pa.string())
COLUMNS = pa.schema(
    {
        "row": pa.int64(),
        "path": pa.string(),
        "label": pa.string(),
        "verdict": CATEGORY,
        "reason": CATEGORY,
        "p_clean": pa.float32(),
        "suggested_label": pa.string(),
        "p_suggested": pa.float32(),
        "p_loss": pa.float32(),
        "p_feature": pa.float32(),
        "p_meta": pa.float32(),
        "p_off_topic": pa.float32(),
        "division": CATEGORY,
        "loss": pa.float32(),
        "margin": pa.float32(),
        "knn_agreement": pa.float32(),
        "wrong_event_rate": pa.float32(),
        "duplicate_group": pa.int64(),
        "outlier_score": pa.float32(),
        "error": pa.string(),
    }
)

OUTCOMES = (
    (CERTAIN_CLEAN, "streams_agree_clean"),
    (PURIFIED, "msp_accepted"),
    (REJECTED, "streams_agree_noisy"),
    (REJECTED, "msp_declined"),
    (CERTAIN_CLEAN, "golden_confirms"),
    (REJECTED, "golden_contradicts"),
)
"""Verdict and reason of a judged row; `_outcomes` gives positions in this table."""
TRUSTED, ACCEPTED, DISTRUSTED, DECLINED, CONFIRMED, CONTRADICTED = range(len(OUTCOMES))


def verdict_table(
    manifest: Manifest, findings: Findings, faults: Mapping[int, Fault], *, metadata: Mapping[str, str]
) -> pa.Table:
    """The content of the verdict file.

    A golden row is decided by its golden label: p_clean is 1 or 0, and the suggestion is the golden label, none where
    that only says that the given one is wrong. A row
    that could not be judged has no evidence, but still a p_clean: the prior, 1 - noise rate, since nothing is
    known about it.

    Args:
        manifest: the index, N rows.
        findings: what was found about M of them.
        faults: why rows could not be judged, by row.
        metadata: entries for the schema's metadata beside those that the arguments hold, without prefix, as from
            `provenance`.
    Returns:
        N rows with COLUMNS, then the index's other columns; one whose name is taken gets the prefix `input_`.
    """
    unjudged = np.ones(manifest.num_rows, dtype=bool)
    unjudged[findings.rows] = False
    because = {int(row): faults.get(int(row), NOT_JUDGED) for row in np.flatnonzero(unjudged)}

    columns = {
        "row": pa.array(np.arange(manifest.num_rows, dtype=np.int64)),
        "path": manifest.paths,
        "label": manifest.labels,
        **_judgement(manifest, findings, because),
        **_evidence(findings, manifest.num_rows),
        "error": _texts({row: fault.message for row, fault in because.items()}, manifest.num_rows),
    }
    table = pa.table([columns[name] for name in COLUMNS.names], names=COLUMNS.names).cast(COLUMNS)
    return add_columns(table, manifest.extra).replace_schema_metadata(
        {PREFIX + name: text for name, text in {**_self_description(manifest, findings), **metadata}.items()}
    )


def provenance(config: FitConfig, *, fingerprint: str) -> dict[str, str]:
    """What the verdict file's metadata says of the run: resolved configuration, seed, fingerprint of the data."""
    return {"config": json.dumps(as_dict(config)), "seed": str(config.seed), "fingerprint": fingerprint}


def add_columns(table: pa.Table, extra: pa.Table) -> pa.Table:
    """Append columns; one whose name is taken already gets the prefix `input_`."""
    for name, column in zip(extra.column_names, extra.columns, strict=True):
        while name in table.column_names:
            name = f"input_{name}"
        table = table.append_column(name, column)
    return table


def write_verdicts(file: Path, table: pa.Table) -> None:
    """Write the verdict file whole or not at all.

    Raises:
        ResourceError: the disk is full or cannot be written.
    """
    write_parquet(file, table)


def read_verdicts(file: Path) -> pa.Table:
    """Read a verdict file.

    Raises:
        RunFolderError: it is missing, not a verdict file, or of a version that is not known here.
    """
    try:
        table = pq.ParquetFile(file, memory_map=True).read()
    except (OSError, pa.ArrowException) as error:
        raise RunFolderError(
            f"{file}: not readable as a verdict file: {why_unreadable(error)}",
            hint="Name the folder of a finished run.",
        ) from error
    version = read_metadata(table).get("schema_version")
    if version not in (None, SCHEMA_VERSION):
        raise RunFolderError(
            f"{file}: written in version {version} of the format; this labelclean reads version {SCHEMA_VERSION}",
            hint="Read it with the labelclean that wrote it, or run fit again.",
        )
    if version is None or not set(COLUMNS.names) <= set(table.column_names):
        raise RunFolderError(f"{file}: not a verdict file", hint="Name the folder of a finished run.")
    return table


def is_golden(verdicts: pa.Table) -> BoolArray:
    """Rows that a golden label has decided, (N,)."""
    decided = pc.is_in(
        verdicts["reason"].cast(pa.string()), pa.array([OUTCOMES[place][1] for place in (CONFIRMED, CONTRADICTED)])
    )
    return np.asarray(decided.to_numpy(zero_copy_only=False))


def is_judged(verdicts: pa.Table) -> BoolArray:
    """Rows that are not unreadable, (N,)."""
    judged = pc.not_equal(verdicts["verdict"].cast(pa.string()), UNREADABLE)
    return np.asarray(judged.to_numpy())


def read_metadata(table: pa.Table) -> dict[str, str]:
    """Our entries in the schema's metadata, without their prefix."""
    entries = {name.decode(): text.decode() for name, text in (table.schema.metadata or {}).items()}
    return {name.removeprefix(PREFIX): text for name, text in entries.items() if name.startswith(PREFIX)}


def _self_description(manifest: Manifest, findings: Findings) -> dict[str, str]:
    by_class = {manifest.class_names[label]: _triple(share) for label, share in findings.class_noise.items()}
    return {
        "schema_version": SCHEMA_VERSION,
        "version": labelclean.__version__,
        "class_names": json.dumps(list(manifest.class_names)),
        "cut": json.dumps(float(np.float32(findings.cut))),  # to be compared with the column
        "noise_rate": json.dumps(_triple(findings.noise)),
        "noise_by_class": json.dumps(by_class),
        "expected_precision": json.dumps(_triple(findings.precision)),
        "expected_recall": json.dumps(_triple(findings.recall)),
    }


def _triple(estimate: Estimate | None) -> tuple[float, ...] | None:
    return None if estimate is None else dataclasses.astuple(estimate)


def read_estimate(entry: str) -> Estimate | None:
    """An estimate from its entry in the metadata: value, low and high as JSON, or null."""
    triple = json.loads(entry)
    return Estimate(*triple) if triple else None


def _judgement(manifest: Manifest, findings: Findings, because: Mapping[int, Fault]) -> dict[str, pa.Array]:
    """Verdict, reason, p_clean, suggestion and p_off_topic of every row."""
    num_rows, rows = manifest.num_rows, findings.rows
    golden_ids = manifest.golden_ids[rows]
    outcomes = _outcomes(findings, manifest.label_ids[rows], golden_ids)
    checked, shown = golden_ids != UNKNOWN, is_class(golden_ids)

    p_clean = np.full(num_rows, 1.0 - findings.noise.value)
    p_clean[rows] = np.where(checked, outcomes == CONFIRMED, findings.p_clean)
    suggested_ids = np.full(num_rows, UNKNOWN)
    suggested_ids[rows] = np.where(checked, golden_ids, findings.suggested_ids)

    verdicts, reasons = (np.array(names, dtype=object) for names in zip(*OUTCOMES, strict=True))
    verdict, reason = np.full(num_rows, UNREADABLE, dtype=object), np.full(num_rows, "", dtype=object)
    verdict[rows], reason[rows] = verdicts[outcomes], reasons[outcomes]
    for row, fault in because.items():
        reason[row] = fault.kind
    return {
        "verdict": pa.array(verdict).dictionary_encode(),
        "reason": pa.array(reason).dictionary_encode(),
        "p_clean": pa.array(p_clean.astype(np.float32)),
        "suggested_label": _names_of(suggested_ids, manifest.class_names),
        "p_suggested": _spread(np.select([shown, checked], [1.0, np.nan], findings.p_suggested), rows, num_rows),
        "p_off_topic": _spread(np.where(shown, 0.0, findings.p_off_topic), rows, num_rows),
    }


def _outcomes(findings: Findings, label_ids: IntArray, golden_ids: IntArray) -> IntArray:
    """Position in OUTCOMES of each judged row, (M,)."""
    rejected = is_rejected(findings.bins, findings.p_clean, findings.cut)
    by_bin = np.select(
        [findings.bins == Bin.CERTAIN_POSITIVE, rejected & (findings.bins == Bin.CERTAIN_NEGATIVE), rejected],
        [TRUSTED, DISTRUSTED, DECLINED],
        ACCEPTED,
    )
    by_gold = np.where(golden_ids == label_ids, CONFIRMED, CONTRADICTED)
    return np.where(golden_ids == UNKNOWN, by_bin, by_gold)


def _evidence(findings: Findings, num_rows: int) -> dict[str, pa.Array]:
    """The columns that are null in rows that could not be judged."""
    numbers = ["p_loss", "p_feature", "p_meta", "loss", "margin", "knn_agreement", "wrong_event_rate", "outlier_score"]
    groups = np.full(num_rows, UNKNOWN, dtype=np.int64)
    groups[findings.rows] = findings.duplicate_group
    bins = np.full(num_rows, UNKNOWN)
    bins[findings.rows] = findings.bins
    return {
        "division": _names_of(bins, tuple(item.name.lower() for item in Bin)).dictionary_encode(),
        "duplicate_group": pa.array(groups, mask=groups == UNKNOWN),
        **{name: _spread(getattr(findings, name), findings.rows, num_rows) for name in numbers},
    }


def _spread(values: FloatArray, rows: IntArray, num_rows: int) -> pa.Array:
    """Numbers of the judged rows in their places, null elsewhere and where they are NaN, (N,)."""
    spread = np.full(num_rows, np.nan, dtype=np.float32)
    spread[rows] = values
    return pa.array(spread, from_pandas=True)


def _names_of(ids: IntArray, names: tuple[str, ...]) -> pa.Array:
    """The name at each position, null where it is UNKNOWN or REFUTED, (N,)."""
    return pc.take(pa.array(names, pa.string()), pa.array(ids, pa.int64(), mask=~is_class(ids)))


def _texts(by_row: Mapping[int, str], num_rows: int) -> pa.Array:
    texts = np.full(num_rows, None, dtype=object)
    for row, text in by_row.items():
        texts[row] = text
    return pa.array(texts, pa.string())
