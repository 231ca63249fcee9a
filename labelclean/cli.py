"""The commands: each reads its flags, calls what does the work, and has the result shown.

Heavy imports wait inside the commands, so that `--help` is quick. Exit codes: 0 done; 1 an error with cause and
remedy, or findings with `check --strict`; 2 an unreadable command line; 130 interrupted.
"""

from __future__ import annotations

import io
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import labelclean
from labelclean import console, options
from labelclean.config import FitConfig, read_toml, refuse_idle, resolve
from labelclean.errors import FitInterruptedError, explain

CHECK_SIZE = 8
"""Side in pixels to which `check` decodes: files are read to the end, little is kept."""


class _Commands(TyperGroup):
    """The commands; one that the user stops says so, also where typer would end without a word."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            console.show_interrupt("")
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=_Commands,
    epilog="Exit codes: 0 done, 1 an error with cause and remedy, or findings with check --strict, "
    "2 an unreadable command line, 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        console.show_line(f"labelclean {labelclean.__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Find the wrong labels in an image data set."""


@app.command()
def check(
    images: options.Images,
    index: options.Index = None,
    *,
    strict: options.ExitOnFindings = False,
    workers: options.Workers = None,
    path_column: options.PathColumn = None,
    label_column: options.LabelColumn = None,
    golden: options.Golden = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Read everything and train nothing: unusable and doubled rows, conflicting labels, class sizes."""
    import tempfile

    from labelclean.data import inspect
    from labelclean.data.images import decode_all
    from labelclean.data.index import read_manifest

    manifest = read_manifest(images, index, path_column=path_column, label_column=label_column, golden=golden or ())
    reporter = console.RichReporter(quiet=quiet)
    with tempfile.TemporaryDirectory(prefix="labelclean-") as scratch:
        cache = Path(scratch) / "pixels"
        decoded = decode_all(manifest, images, cache, size=CHECK_SIZE, workers=workers or 0, reporter=reporter)
        inspection = inspect.inspect(manifest, decoded.files, decoded.faults)
    if as_json:
        console.show_json(inspect.as_json(inspection))
    elif not quiet:
        console.render_inspection(inspection)
    if strict and not inspection.is_sound:
        raise typer.Exit(1)


@app.command()
def fit(
    context: typer.Context,
    images: options.Images,
    index: options.Index = None,
    *,
    out: options.Out = None,
    effort: options.Effort = None,
    device: options.Device = None,
    seed: options.Seed = None,
    workers: options.Workers = None,
    config_file: options.ConfigFile = None,
    strict: options.StopAtFault = None,
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    path_column: options.PathColumn = None,
    label_column: options.LabelColumn = None,
    golden: options.Golden = None,
    backbone: options.Backbone = None,
    weights: options.Weights = None,
    model_kwargs: options.ModelKwargs = None,
    stem: options.Stem = None,
    image_size: options.ImageSize = None,
    mean: options.Mean = None,
    std: options.Std = None,
    batch_size: options.BatchSize = None,
    rounds: options.Rounds = None,
    epochs: options.Epochs = None,
    judge: options.Judge = None,
    streams: options.Streams = None,
    trust: options.Trust = None,
    distrust: options.Distrust = None,
    certain: options.Certain = None,
    reject_precision: options.RejectPrecision = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Judge every row: train, and write a verdict per row into a run folder."""
    config, chosen = _settings(context.params, config_file)
    from labelclean.fit import run_fit

    reporter = console.RichReporter(quiet=quiet)
    try:
        run = run_fit(
            images,
            index,
            config,
            out=out,
            golden=golden or (),
            chosen=chosen,
            resume=resume,
            overwrite=overwrite,
            reporter=reporter,
        )
    except KeyboardInterrupt as error:
        console.show_interrupt(_how_to_resume(error, overwrite=overwrite))
        raise typer.Exit(130) from None
    if quiet:
        console.show_line(str(run))
    else:
        _show_run(run, verbose=verbose)


@app.command()
def report(run: options.AnyRun = None, *, as_json: options.Json = False, verbose: options.Verbose = False) -> None:
    """Show what a run found."""
    from labelclean.results import report as reports
    from labelclean.results.run_folder import open_run

    folder = open_run(run)
    if as_json:
        console.show_json(reports.as_json(reports.summarize(folder)))
    else:
        _show_run(folder.path, verbose=verbose)


@app.command()
def evaluate(
    run: options.Run,
    truth: options.Truth,
    *,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Compare the verdicts of a run with labels that are known to be true."""
    from labelclean.data.tables import read_table
    from labelclean.results import evaluate as evaluations
    from labelclean.results.run_folder import open_run
    from labelclean.results.verdicts import read_verdicts

    verdicts = read_verdicts(open_run(run).verdicts)
    evaluation = evaluations.evaluate(verdicts, read_table(truth), source=truth.name)
    if as_json:
        console.show_json(evaluations.as_json(evaluation))
    else:
        console.render_evaluation(evaluation)


@app.command()
def export(
    run: options.AnyRun = None,
    *,
    out: options.ExportOut,
    form: options.Form = None,
    keep: options.Keep = None,
    relabel: options.Relabel = False,
    budget: options.Budget = None,
    precision: options.Precision = None,
    overwrite: options.Replace = False,
    verbose: options.Verbose = False,
) -> None:
    """Write the cleaned index of a run, or the rows that are worth a look."""
    from labelclean.results import export as exports

    verdicts = exports.KEPT if keep is None else tuple(part.strip() for part in keep.split(",") if part.strip())
    selection = exports.Selection(keep=verdicts, relabel=relabel, budget=budget, precision=precision)
    console.render_exported(exports.export(run, out, form=form, selection=selection, overwrite=overwrite))


@app.command()
def golden(
    run: options.AnyRun = None,
    *,
    out: options.GoldenOut,
    count: options.Count = None,
    seed: options.AnySeed = 0,
    overwrite: options.Replace = False,
    verbose: options.Verbose = False,
) -> None:
    """Choose rows whose true label would teach the most, as a CSV to fill in for `fit --golden`."""
    from labelclean.results.golden import choose_golden

    console.render_chosen(choose_golden(run, out, count=count, seed=seed, overwrite=overwrite))


@app.command()
def index(
    name: options.SetName,
    folder: options.SetFolder,
    *,
    out: options.IndexOut,
    split: options.SetSplit = "train",
    labels: options.SetLabels = None,
    classes: options.Classes = None,
    overwrite: options.Replace = False,
    verbose: options.Verbose = False,
) -> None:
    """Write the index of a published data set: cifar10, cifar100, clothing1m, food101n, tiny-imagenet or webvision."""
    from labelclean.published.listing import write_listing
    from labelclean.published.sets import read_published

    listing = read_published(name, folder, split=split, labels=labels, num_classes=classes)
    written = write_listing(listing, out, overwrite=overwrite, reporter=console.RichReporter(quiet=False))
    console.render_indexed(written)


@app.command()
def corrupt(
    index: options.CleanIndex,
    *,
    out: options.CorruptOut,
    kind: options.Kind = "symmetric",
    rate: options.Rate = 0.2,
    seed: options.AnySeed = 0,
    observed: options.Observed = None,
    path_column: options.PathColumn = None,
    label_column: options.LabelColumn = None,
    overwrite: options.Replace = False,
    verbose: options.Verbose = False,
) -> None:
    """Write a copy of an index with wrong labels planted, and the truth, to try the tool on your own data."""
    from labelclean.results.corrupted import write_corrupted

    written = write_corrupted(
        index,
        out,
        kind=kind,
        rate=rate,
        seed=seed,
        observed=observed,
        path_column=path_column,
        label_column=label_column,
        overwrite=overwrite,
    )
    console.render_corrupted(written)


def main() -> None:
    """Run a command line; the one place where errors become messages and exit codes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a label must not break a terminal that is not UTF-8
    try:
        app(prog_name="labelclean")
    except KeyboardInterrupt:
        console.show_interrupt("")
        sys.exit(130)
    except Exception as error:
        explained = explain(error)
        if explained is None:
            raise
        if explained is not error:
            explained.__notes__ = getattr(error, "__notes__", [])
        if any(re.fullmatch("--verbose|-[a-z]*v[a-z]*", word) for word in sys.argv[1:]):
            console.show_traceback()
        console.show_error(explained)
        sys.exit(1)


def _settings(params: Mapping[str, Any], file: Path | None) -> tuple[FitConfig, set[str]]:
    """The settings of a fit, and the names of those that the user asked for: each has a flag of its name."""
    flags = {name: value for name, value in params.items() if name in options.DEFAULTS and value is not None}
    stored = read_toml(file) if file else {}
    config = resolve(flags=flags, stored=stored)
    refuse_idle(flags, config)
    return config, {*flags, *stored}


def _how_to_resume(error: KeyboardInterrupt, *, overwrite: bool) -> str:
    """Advice for a fit that was stopped; empty where there is nothing to resume."""
    if not isinstance(error, FitInterruptedError):
        return ""
    instead = " instead of --overwrite" if overwrite else ""
    return f"repeat the command with --resume --out {shlex.quote(str(error.folder))}{instead} to carry on"


def _show_run(run: Path, *, verbose: bool) -> None:
    from labelclean.results.report import summarize
    from labelclean.results.run_folder import RunFolder

    summary = summarize(RunFolder(run))
    console.render_summary(summary)
    if verbose:
        console.render_timings(summary)
