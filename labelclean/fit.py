"""The whole job of `labelclean fit`: read, decode, judge in rounds, and write the run folder."""

from __future__ import annotations

import dataclasses
import platform
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from labelclean import __version__
from labelclean.config import FitConfig, as_dict, carry_on
from labelclean.data.images import median_side
from labelclean.data.index import read_manifest
from labelclean.errors import ResourceError, RunFolderError
from labelclean.files import as_unicode, write_atomically, write_json, write_text
from labelclean.inputs import Inputs, check_classes, data_fingerprint, index_digest, read_inputs
from labelclean.records import Findings, Manifest, Reporter, phase
from labelclean.results.claim import claim, clear_checkpoint
from labelclean.results.run_folder import RunFolder, read_config, write_config, write_history
from labelclean.results.verdicts import provenance, verdict_table, write_verdicts

if TYPE_CHECKING:
    import torch

    from labelclean.train.backbone import BackboneSpec
    from labelclean.train.loop import LoopResult


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
    golden: Sequence[Path],
    chosen: Collection[str],
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
        golden: files of trusted labels.
        chosen: names of the settings that were asked for; a run that is resumed must have the same.
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
    with claim(out, images_dir.resolve().name, overwrite=overwrite, resume=resume) as folder:
        _fit_in(folder, manifest, images_dir, config, chosen=chosen, resume=resume, reporter=reporter, watch=watch)
    return folder.path


def _fit_in(
    folder: RunFolder,
    manifest: Manifest,
    images_dir: Path,
    config: FitConfig,
    *,
    chosen: Collection[str],
    resume: bool,
    reporter: Reporter,
    watch: Stopwatch,
) -> None:
    """Judge every row and write the files of a finished run; see `run_fit`."""
    with _cleared_on_failure(folder, resume=resume):
        config = _begin(folder, manifest, images_dir, config, chosen, resume=resume)
        device, spec = _prepare_model(config, manifest, images_dir, reporter)
        watch.lap("prepare")
        inputs = read_inputs(manifest, images_dir, folder, config, size=spec.image_size, reporter=reporter)
    watch.lap("decode")
    config = _settle(folder, config, inputs, device, spec)
    watch.lap("settle")
    result, findings = _judge(inputs, device, spec, config, folder, reporter, watch)
    fingerprint = data_fingerprint(inputs.manifest, inputs.decoded)
    metadata = provenance(config, fingerprint=fingerprint)
    table = verdict_table(inputs.manifest, findings, inputs.decoded.faults, metadata=metadata)
    outcome = folder.outcome
    write_history(outcome, findings.history)
    write_config(outcome.config, config)
    _write_model(outcome, result)
    watch.lap("write")
    write_json(outcome.run, _about_run(inputs, device, spec, config, result, watch, fingerprint))
    write_verdicts(outcome.verdicts, table)
    folder.publish()


@contextmanager
def _cleared_on_failure(folder: RunFolder, *, resume: bool) -> Iterator[None]:
    """When a new run fails before anything is judged, as over its settings or its rows, there is nothing to resume."""
    try:
        yield
    except Exception:
        if not resume:
            with suppress(ResourceError):  # what went wrong first is what is told
                clear_checkpoint(folder)
        raise


def _begin(
    folder: RunFolder,
    manifest: Manifest,
    images_dir: Path,
    config: FitConfig,
    chosen: Collection[str],
    *,
    resume: bool,
) -> FitConfig:
    """Open the checkpoint; the settings of the run, which are its own earlier ones where it is resumed.

    Raises:
        RunFolderError: it is resumed with other settings, from another index, or by another version.
    """
    digest = index_digest(manifest)
    if resume and folder.settings.exists():
        from labelclean.train.checkpoint import Checkpoint

        version = folder.version.read_text(encoding="utf-8") if folder.version.exists() else "of an unknown version"
        if version != __version__:
            raise RunFolderError(
                f"{folder.path}: the unfinished run is of labelclean {version}, this is {__version__}",
                hint="Resume it with that version, or start anew with --overwrite.",
            )
        trained = Checkpoint(folder.checkpoint).round_file.exists()
        config, others = carry_on(config, read_config(folder.settings), chosen, trained=trained)
        if others:
            raise RunFolderError(
                f"{folder.path}: the unfinished run was begun with other settings: {', '.join(others)}",
                hint="Resume with the same settings, or none, or start anew with --overwrite.",
            )
        if folder.index.read_text(encoding="utf-8") != digest:
            raise RunFolderError(
                f"{folder.path}: the unfinished run was made from another index or other golden labels",
                hint="Resume with the same images, index, --path-column, --label-column and golden labels, or start "
                "anew with --overwrite.",
            )
    else:
        clear_checkpoint(folder)
        write_text(folder.version, __version__)
        write_text(folder.subject, as_unicode(images_dir.resolve().name))
        write_text(folder.index, digest)
    write_config(folder.settings, config)
    return config


def _prepare_model(
    config: FitConfig, manifest: Manifest, images_dir: Path, reporter: Reporter
) -> tuple[torch.device, BackboneSpec]:
    """The device and the backbone: what may be lacking is missed before hours are spent."""
    from labelclean.train.backbone import prepare_backbone
    from labelclean.train.device import choose_device, set_up

    device = choose_device(config.device)
    set_up(device)
    side = median_side(manifest, images_dir)
    with phase(reporter, "Getting weights") if config.weights == "auto" else nullcontext():
        spec = prepare_backbone(config, num_classes=len(manifest.class_names), median_side=side)
    reporter.note(f"{config.backbone} at {spec.image_size} px: {spec.loaded}")
    return device, spec


def _settle(
    folder: RunFolder, config: FitConfig, inputs: Inputs, device: torch.device, spec: BackboneSpec
) -> FitConfig:
    """The settings with what the training leaves to the device settled, and kept so."""
    from labelclean.train.device import settle_training

    if config.finetune:
        config = settle_training(config, spec, device, num_rows=len(inputs.rows))
        write_config(folder.settings, config)
    return config


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
    findings = conclude(result, labels, config, rows=rows, pixels=decoded.pixels, files=inputs.files, device=device)
    watch.lap("conclude")
    return result, findings


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
    inputs: Inputs,
    device: torch.device,
    spec: BackboneSpec,
    config: FitConfig,
    result: LoopResult,
    watch: Stopwatch,
    fingerprint: str,
) -> dict[str, Any]:
    """Versions, configuration, cost and memory, for run.json."""
    import timm
    import torch

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
        "fingerprint": fingerprint,
        "backbone_tensors": spec.loaded,
        "image_size": spec.image_size,
        "judge": result.judge,
        "training": _training(result),
        "class_names": list(inputs.manifest.class_names),
        "image_passes": {"forward": result.forward_passes, "backward": result.backward_passes},
        "timings": {**watch.seconds, "total": round(result.seconds_before + time.perf_counter() - watch.started, 3)},
        "peak_memory_bytes": _peak_memory(),
        "peak_gpu_memory_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0,
    }


def _training(result: LoopResult) -> dict[str, Any]:
    """The schedule by which the networks were trained; empty where they were not."""
    schedule = getattr(result.learner, "schedule", None)
    return {} if schedule is None else dataclasses.asdict(schedule)


def _peak_memory() -> int | None:
    """The most memory that the process has held, in bytes; None where the system does not tell."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
