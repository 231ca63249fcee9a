"""The whole job of `labelclean fit`: read, decode, judge in rounds, and write the run folder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import resource
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from labelclean import __version__
from labelclean.config import FitConfig, as_dict, read_toml, resolve
from labelclean.data.images import Decoded, decode_all, median_side, open_map
from labelclean.data.index import read_manifest
from labelclean.errors import InputError, RunFolderError
from labelclean.records import Fault, Findings, IntArray, Manifest, Reporter
from labelclean.results.files import write_atomically, write_json
from labelclean.results.run_folder import RunFolder, choose, write_config, write_history
from labelclean.results.verdicts import provenance, verdict_table, write_verdicts

if TYPE_CHECKING:
    import torch

    from labelclean.train.backbone import BackboneSpec
    from labelclean.train.judge import Labels
    from labelclean.train.loop import LoopResult

SMALL_CLASS = 10
"""Classes with fewer rows are named in a note: little can be said about their labels."""


class Stopwatch:
    """Seconds of each phase, by name."""

    def __init__(self) -> None:
        self.started = self.last = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = round(now - self.last, 3)
        self.last = now


@dataclass(frozen=True, slots=True)
class Inputs:
    """What was read and decoded.

    Attributes:
        faults: why rows cannot be judged, of the index and of the images, by row.
        rows: positions of the rows that can be judged, ascending.
        labels: what is given about those.
    """

    manifest: Manifest
    decoded: Decoded
    faults: dict[int, Fault]
    rows: IntArray
    labels: Labels


def run_fit(
    images_dir: Path,
    index: Path | None,
    config: FitConfig,
    *,
    out: Path | None,
    golden: Path | None,
    resume: bool,
    overwrite: bool,
    reporter: Reporter,
) -> Path:
    """Judge every row of an index and write the run folder.

    Args:
        images_dir: folder to which the index's paths are relative.
        index: the index; None: a folder per class.
        config: how to go about it; an unfinished run that is resumed keeps its own.
        out: the run folder; None: a new one below runs/.
        golden: a file of trusted labels.
        resume: carry on an unfinished run.
        overwrite: replace an earlier run's files when this one is done.
        reporter: told how far the work is.
    Returns:
        The run folder's path.
    Raises:
        LabelcleanError: anything that the user can mend.
    """
    watch = Stopwatch()
    manifest = read_manifest(
        images_dir, index, path_column=config.path_column, label_column=config.label_column, golden=golden
    )
    check_classes(manifest)
    folder = choose(out, images_dir.resolve().name, overwrite=overwrite, resume=resume)
    with _traces_removed_on_failure(folder, resume=resume):
        config = _begin(folder, config, resume=resume)
        device, spec = _prepare_model(config, manifest, images_dir, reporter)
        watch.lap("prepare")
        inputs = _decode(manifest, images_dir, folder, config, size=spec.image_size, reporter=reporter)
        watch.lap("decode")
    result, findings = _judge(inputs, device, spec, config, folder, reporter, watch)
    _write_results(folder, inputs, findings, config)
    _write_model(folder, result)
    watch.lap("write")
    write_json(folder.run, _about_run(inputs, device, spec, config, result, watch))
    shutil.rmtree(folder.checkpoint)
    return folder.path


@contextmanager
def _traces_removed_on_failure(folder: RunFolder, *, resume: bool) -> Iterator[None]:
    """When a new run fails before its first round, there is nothing to resume: take its traces away."""
    try:
        yield
    except Exception:
        if not resume:
            shutil.rmtree(folder.checkpoint, ignore_errors=True)
            with suppress(OSError):
                folder.path.rmdir()  # stays where it holds an earlier run
        raise


def _begin(folder: RunFolder, config: FitConfig, *, resume: bool) -> FitConfig:
    """Open the checkpoint; the settings of the run, which are its own earlier ones where it is resumed."""
    stored = folder.checkpoint / "config.toml"
    if resume and stored.exists():
        return resolve(flags=read_toml(stored))
    folder.checkpoint.mkdir(exist_ok=True)
    write_config(stored, config)
    return config


def _prepare_model(
    config: FitConfig, manifest: Manifest, images_dir: Path, reporter: Reporter
) -> tuple[torch.device, BackboneSpec]:
    """The device and the backbone: what may be lacking is missed before hours are spent."""
    from labelclean.train.backbone import prepare_backbone
    from labelclean.train.device import choose_device

    device = choose_device(config.device)
    side = median_side(manifest, images_dir)
    spec = prepare_backbone(config, num_classes=len(manifest.class_names), median_side=side)
    reporter.note(f"{config.backbone} at {spec.image_size} px: {spec.loaded}")
    return device, spec


def _judge(
    inputs: Inputs,
    device: torch.device,
    spec: BackboneSpec,
    config: FitConfig,
    folder: RunFolder,
    reporter: Reporter,
    watch: Stopwatch,
) -> tuple[LoopResult, Findings]:
    """All rounds, and what they found."""
    from labelclean.train.checkpoint import Checkpoint
    from labelclean.train.device import ImageStore
    from labelclean.train.findings import conclude
    from labelclean.train.loop import RoundLoop

    decoded, rows, labels = inputs.decoded, inputs.rows, inputs.labels
    store = ImageStore(decoded.pixels, rows, device)
    loop = RoundLoop(labels, store, spec, config, checkpoint=Checkpoint(folder.checkpoint), reporter=reporter)
    result = loop.run()
    watch.lap("rounds")
    findings = conclude(result, labels, config, rows=rows, pixels=decoded.pixels, digests=decoded.digests[rows])
    watch.lap("conclude")
    return result, findings


def check_classes(manifest: Manifest) -> None:
    """Refuse an index in which nothing can be wrong.

    Raises:
        InputError: there are fewer than two classes.
    """
    names = manifest.class_names
    if len(names) < 2:
        found = f"one class, {names[0]!r}" if names else "no labels at all"
        raise InputError(
            f"{manifest.source}: {found}",
            hint="A label is only wrong against another: give rows of two classes or more, and check --label-column.",
        )


def judged_rows(manifest: Manifest, faults: dict[int, Fault]) -> IntArray:
    """Rows with a label and a decodable image, ascending.

    Raises:
        InputError: fewer than four rows, or fewer than two classes, are left.
    """
    usable = np.ones(manifest.num_rows, dtype=bool)
    usable[list(faults)] = False
    rows = np.flatnonzero(usable)
    num_classes = len(np.unique(manifest.label_ids[rows]))
    if len(rows) < 4 or num_classes < 2:
        found = f"{len(rows)} of {manifest.num_rows} rows can be judged, of {num_classes} classes"
        example = f", as in: {next(iter(faults.values())).message}" if faults else ""
        raise InputError(
            f"{manifest.source}: {found}{example}",
            hint="At least four readable images of two classes are needed; `labelclean check` lists what is wrong.",
        )
    return rows


def _note_small_classes(manifest: Manifest, rows: IntArray, reporter: Reporter) -> None:
    counts = np.bincount(manifest.label_ids[rows], minlength=len(manifest.class_names))
    small = [name for name, count in zip(manifest.class_names, counts, strict=True) if 0 < count < SMALL_CLASS]
    if small:
        reporter.note(f"classes with fewer than {SMALL_CLASS} rows, judged with little to go by: {', '.join(small)}")


def _decode(
    manifest: Manifest, images_dir: Path, folder: RunFolder, config: FitConfig, *, size: int, reporter: Reporter
) -> Inputs:
    """Decode the images and settle which rows are judged."""
    decoded = _decoded(manifest, images_dir, folder, config, size=size, reporter=reporter)
    faults = {**decoded.faults, **manifest.faults}
    if config.strict and faults:
        raise InputError(min(faults.items())[1].message, hint="Mend it, or leave --strict away to have it marked.")
    rows = judged_rows(manifest, faults)
    _note_small_classes(manifest, rows, reporter)
    return Inputs(manifest, decoded, faults, rows, given_labels(manifest, decoded, rows, config))


def _decoded(
    manifest: Manifest, images_dir: Path, folder: RunFolder, config: FitConfig, *, size: int, reporter: Reporter
) -> Decoded:
    """The decoded images: those that an interrupted run has left, or newly decoded ones."""
    cache, facts = folder.checkpoint / "images.u8", folder.checkpoint / "decoded.npz"
    index = _index_digest(manifest)
    if facts.exists():
        with np.load(facts, allow_pickle=False) as kept:
            if str(kept["index"]) != index:
                raise RunFolderError(
                    f"{folder.path}: the unfinished run was made from another index or other golden labels",
                    hint="Resume with the same images, index and golden labels, or start anew with --overwrite.",
                )
            faults = {int(row): Fault(**fault) for row, fault in json.loads(str(kept["faults"])).items()}
            pixels = open_map(cache, (manifest.num_rows, size, size, 3))
            return Decoded(pixels, kept["digests"], faults)
    decoded = decode_all(manifest, images_dir, cache, size=size, workers=config.workers, reporter=reporter)
    faults_json = json.dumps({row: dataclasses.asdict(fault) for row, fault in decoded.faults.items()})

    def write(file: Path) -> None:
        with open(file, "wb") as out:
            np.savez(out, index=index, faults=faults_json, digests=decoded.digests)

    write_atomically(facts, write)
    return decoded


def given_labels(manifest: Manifest, decoded: Decoded, rows: IntArray, config: FitConfig) -> Labels:
    """What is given about the judged rows, with folds that keep groups and identical files together.

    Raises:
        InputError: all rows are in one group.
    """
    from labelclean.train.folds import assign_folds, join_groups
    from labelclean.train.judge import Labels

    given = manifest.label_ids[rows]
    groups = join_groups(manifest.group_ids[rows], decoded.digests[rows])
    if not groups.any():
        raise InputError(
            f"{manifest.source}: all {len(rows)} rows are in one group, or show one file",
            hint="Rows are judged by what other groups teach: give two groups or more, or no column group.",
        )
    num_folds = min(config.folds, len(rows))
    rng = np.random.default_rng((config.seed, 0))
    return Labels(
        given=given,
        golden=manifest.golden_ids[rows],
        fold=assign_folds(given, groups, num_folds=num_folds, rng=rng),
        groups=groups,
        num_classes=len(manifest.class_names),
    )


def _index_digest(manifest: Manifest) -> str:
    """Digest of every row's path, label, golden label and group."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps([manifest.paths.to_pylist(), manifest.labels.to_pylist()]).encode())
    for ids in (manifest.golden_ids, manifest.group_ids):
        digest.update(np.ascontiguousarray(ids, dtype=np.int64).tobytes())
    return digest.hexdigest()


def data_fingerprint(manifest: Manifest, decoded: Decoded) -> str:
    """Digest of every row's path, label, golden label, group and file content: equal data, equal fingerprint."""
    digest = hashlib.blake2b(_index_digest(manifest).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(decoded.digests).tobytes())
    return digest.hexdigest()


def _write_results(folder: RunFolder, inputs: Inputs, findings: Findings, config: FitConfig) -> None:
    metadata = provenance(config, fingerprint=data_fingerprint(inputs.manifest, inputs.decoded))
    table = verdict_table(inputs.manifest, findings, inputs.faults, metadata=metadata)
    write_verdicts(folder.verdicts, table)
    write_history(folder, findings.history)
    write_config(folder.config, config)


def _write_model(folder: RunFolder, result: LoopResult) -> None:
    """The fitted tensors: the moving averages of the networks, or the heads of the frozen stage."""
    from safetensors.torch import save

    if result.learner is not None:
        # cloned, since networks may share tensors within themselves, which the format does not allow
        tensors = {name: value.contiguous().cpu().clone() for name, value in result.learner.tensors().items()}
        content = save(tensors)

        def write(file: Path) -> None:
            file.write_bytes(content)

        write_atomically(folder.model, write)


def _about_run(
    inputs: Inputs, device: torch.device, spec: BackboneSpec, config: FitConfig, result: LoopResult, watch: Stopwatch
) -> dict[str, Any]:
    """Versions, configuration, cost and memory, for run.json."""
    import timm
    import torch

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "versions": {
            "labelclean": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "timm": timm.__version__,
            "numpy": np.__version__,
        },
        "config": as_dict(config),
        "device": str(device),
        "fingerprint": data_fingerprint(inputs.manifest, inputs.decoded),
        "backbone_tensors": spec.loaded,
        "image_size": spec.image_size,
        "class_names": list(inputs.manifest.class_names),
        "image_passes": {"forward": result.forward_passes, "backward": result.backward_passes},
        "timings": {**watch.seconds, "total": round(time.perf_counter() - watch.started, 3)},
        "peak_memory_bytes": peak * (1 if sys.platform == "darwin" else 1024),
        "peak_gpu_memory_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0,
    }
