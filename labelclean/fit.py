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
from pathlib import Path
from typing import Any

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
    stored = folder.checkpoint / "config.toml"
    if resume and stored.exists():
        config = resolve(flags=read_toml(stored))
    folder.checkpoint.mkdir(exist_ok=True)
    write_config(stored, config)

    from labelclean.train.backbone import prepare_backbone

    spec = prepare_backbone(
        config, num_classes=len(manifest.class_names), median_side=median_side(manifest, images_dir)
    )
    reporter.note(f"{config.backbone} at {spec.image_size} px: {spec.loaded}")
    watch.lap("prepare")
    decoded = _decoded(manifest, images_dir, folder, config, size=spec.image_size, reporter=reporter)
    faults = {**decoded.faults, **manifest.faults}
    if config.strict and faults:
        raise InputError(min(faults.items())[1].message, hint="Mend it, or leave --strict away to have it marked.")
    rows = judged_rows(manifest, faults)
    _note_small_classes(manifest, rows, reporter)
    watch.lap("decode")

    from labelclean.train.checkpoint import Checkpoint
    from labelclean.train.device import ImageStore, choose_device
    from labelclean.train.findings import conclude
    from labelclean.train.loop import RoundLoop

    device = choose_device(config.device)
    labels = given_labels(manifest, decoded, rows, config)
    store = ImageStore(decoded.pixels, rows, device)
    checkpoint = Checkpoint(folder.checkpoint)
    result = RoundLoop(labels, store, spec, config, checkpoint=checkpoint, reporter=reporter).run()
    watch.lap("rounds")
    findings = conclude(result, labels, config, rows=rows, pixels=decoded.pixels, digests=decoded.digests[rows])
    watch.lap("conclude")

    fingerprint = data_fingerprint(manifest, decoded)
    _write_results(folder, manifest, findings, faults, config, fingerprint=fingerprint)
    _write_model(folder, result.learner)
    watch.lap("write")
    about = {
        "device": str(device),
        "fingerprint": fingerprint,
        "backbone_tensors": spec.loaded,
        "image_size": spec.image_size,
        "class_names": list(manifest.class_names),
        "image_passes": {"forward": result.forward_passes, "backward": result.backward_passes},
        "timings": {**watch.seconds, "total": round(time.perf_counter() - watch.started, 3)},
    }
    write_json(folder.run, {**_about_run(config), **about})
    del store, decoded
    shutil.rmtree(folder.checkpoint)
    return folder.path


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
            hint="A label can only be wrong against another: give rows of two classes or more, and check --label-column.",
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
        example = f", as in: {next(iter(faults.values())).message}" if faults else ""
        raise InputError(
            f"{manifest.source}: of {manifest.num_rows} rows {len(rows)} can be judged, of {num_classes} classes{example}",
            hint="At least four readable images of two classes are needed; `labelclean check` lists what is wrong.",
        )
    return rows


def _note_small_classes(manifest: Manifest, rows: IntArray, reporter: Reporter) -> None:
    counts = np.bincount(manifest.label_ids[rows], minlength=len(manifest.class_names))
    small = [name for name, count in zip(manifest.class_names, counts, strict=True) if 0 < count < SMALL_CLASS]
    if small:
        reporter.note(f"classes with fewer than {SMALL_CLASS} rows, judged with little to go by: {', '.join(small)}")


def _decoded(
    manifest: Manifest, images_dir: Path, folder: RunFolder, config: FitConfig, *, size: int, reporter: Reporter
) -> Decoded:
    """The decoded images: those that an interrupted run has left, or newly decoded ones."""
    cache, facts = folder.checkpoint / "images.u8", folder.checkpoint / "decoded.npz"
    paths = hashlib.blake2b(json.dumps(manifest.paths.to_pylist()).encode(), digest_size=16).hexdigest()
    if facts.exists():
        with np.load(facts, allow_pickle=False) as kept:
            if str(kept["paths"]) != paths:
                raise RunFolderError(
                    f"{folder.path}: the unfinished run was made from another index",
                    hint="Resume with the same images and index, or start anew with --overwrite.",
                )
            faults = {int(row): Fault(**fault) for row, fault in json.loads(str(kept["faults"])).items()}
            pixels = open_map(cache, (manifest.num_rows, size, size, 3))
            return Decoded(pixels, kept["digests"], faults)
    decoded = decode_all(manifest, images_dir, cache, size=size, workers=config.workers, reporter=reporter)
    faults_json = json.dumps({row: dataclasses.asdict(fault) for row, fault in decoded.faults.items()})

    def write(file: Path) -> None:
        with open(file, "wb") as out:
            np.savez(out, paths=paths, faults=faults_json, digests=decoded.digests)

    write_atomically(facts, write)
    return decoded


def given_labels(manifest: Manifest, decoded: Decoded, rows: IntArray, config: FitConfig) -> Any:
    """What is given about the judged rows, with folds that keep groups and identical files together."""
    from labelclean.train.folds import assign_folds, join_groups
    from labelclean.train.judge import Labels

    given = manifest.label_ids[rows]
    groups = join_groups(manifest.group_ids[rows], decoded.digests[rows])
    num_folds = min(config.folds, len(rows))
    rng = np.random.default_rng((config.seed, 0))
    return Labels(
        given=given,
        golden=manifest.golden_ids[rows],
        fold=assign_folds(given, groups, num_folds=num_folds, rng=rng),
        groups=groups,
        num_classes=len(manifest.class_names),
    )


def data_fingerprint(manifest: Manifest, decoded: Decoded) -> str:
    """Digest of every row's path, label, golden label and file content: equal data, equal fingerprint."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps([manifest.paths.to_pylist(), manifest.labels.to_pylist()]).encode())
    digest.update(np.ascontiguousarray(manifest.golden_ids, dtype=np.int64).tobytes())
    digest.update(np.ascontiguousarray(decoded.digests).tobytes())
    return digest.hexdigest()


def _write_results(
    folder: RunFolder,
    manifest: Manifest,
    findings: Findings,
    faults: dict[int, Fault],
    config: FitConfig,
    *,
    fingerprint: str,
) -> None:
    table = verdict_table(manifest, findings, faults, metadata=provenance(config, fingerprint=fingerprint))
    write_verdicts(folder.verdicts, table)
    write_history(folder, findings.history)
    write_config(folder.config, config)


def _write_model(folder: RunFolder, learner: Any) -> None:
    """The fitted tensors: the moving averages of the networks, or the heads of the frozen stage."""
    from safetensors.torch import save_file

    tensors = {name: value.contiguous().cpu() for name, value in learner.tensors().items()}
    write_atomically(folder.model, lambda file: save_file(tensors, file))


def _about_run(config: FitConfig) -> dict[str, Any]:
    """Versions, configuration and memory, for run.json."""
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
        "peak_memory_bytes": peak * (1 if sys.platform == "darwin" else 1024),
        "peak_gpu_memory_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0,
    }
