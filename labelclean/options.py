"""The flags of the command line: their types, names and meanings, grouped in the panels of the help.

None as a default means: not given, so that the configuration file, the effort or the built-in default decides.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from labelclean import config

INDEX, RUN, MODEL, METHOD, OUTPUT = "Index", "Run", "Model and images", "Method", "Output"
DEFAULTS = {item.name: item.default for item in dataclasses.fields(config.FitConfig)}


def _setting(
    name: str, panel: str, meaning: str, *, metavar: str | None = None, parser: Callable[[str], Any] | None = None
) -> Any:
    """The flag of a setting of the configuration, which knows the default that the help shows."""
    default: Any = DEFAULTS[name]
    if any(name in preset for preset in config.PRESETS.values()):
        meaning += " Default: by --effort."
    elif isinstance(default, str | float):
        meaning += f" Default: {default}."
    return typer.Option(help=meaning, rich_help_panel=panel, metavar=metavar, parser=parser)


def _numbers(text: str) -> tuple[float, ...]:
    """0.5 or 0.4,0.5,0.6 as numbers."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not one number or three with commas.") from None


def _json_object(text: str) -> dict[str, Any]:
    """A JSON object without null, which a TOML file cannot hold."""
    try:
        content = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"not JSON, as '{{\"a\": 1}}' would be: {error}") from None
    if not isinstance(content, dict) or _holds_null(content):
        raise typer.BadParameter("not a JSON object, or null in it.")
    return content


def _holds_null(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_null, value.values()))
    return any(map(_holds_null, value)) if isinstance(value, list) else value is None


Images = Annotated[Path, typer.Argument(help="Folder to which the paths of the index are relative.")]
Index = Annotated[
    Path | None, typer.Argument(help="CSV, TSV, JSONL or Parquet; leave it out when images lie in a folder per class.")
]

PathColumn = Annotated[
    str | None, typer.Option(help="Column with the image paths; else found by name.", rich_help_panel=INDEX)
]
LabelColumn = Annotated[
    str | None, typer.Option(help="Column with the labels; else found by name.", rich_help_panel=INDEX)
]
Golden = Annotated[
    list[Path] | None,
    typer.Option(help="Table of paths and trusted labels for some of the rows. Repeatable.", rich_help_panel=INDEX),
]

Out = Annotated[Path | None, typer.Option(help="Run folder; else runs/NAME, numbered.", rich_help_panel=RUN)]
Effort = Annotated[
    config.Effort | None, _setting("effort", RUN, "What it may cost: quick trains heads only, the others the backbone.")
]
Device = Annotated[str | None, _setting("device", RUN, "auto, cpu, cuda, cuda:1 or mps.")]
Seed = Annotated[int | None, _setting("seed", RUN, "Start of every random choice.")]
Workers = Annotated[
    int | None,
    typer.Option(
        min=int(config.RANGES["workers"][0]),
        max=int(config.RANGES["workers"][1]),
        help="Threads that decode images; 0: one per core.",
        rich_help_panel=RUN,
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="TOML settings, as saved in a run folder; flags win.", rich_help_panel=RUN),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Carry on with the run in --out, or the newest.", rich_help_panel=RUN)
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the run in the folder.", rich_help_panel=RUN)]
StopAtFault = Annotated[
    bool | None,
    typer.Option("--strict", help="Stop before training where a row cannot be judged.", rich_help_panel=RUN),
]
ExitOnFindings = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Exit with 1 when a row is unusable or doubled, a picture has several labels, or there is one class.",
        rich_help_panel=RUN,
    ),
]

Backbone = Annotated[str | None, _setting("backbone", MODEL, "A timm image model.")]
Weights = Annotated[str | None, _setting("weights", MODEL, "auto: timm's; none: random; or a weights file.")]
ModelKwargs = Annotated[
    dict[str, Any] | None,
    _setting(
        "model_kwargs",
        MODEL,
        'Arguments for timm.create_model, as in \'{"pad_type": "same"}\'.',
        metavar="JSON",
        parser=_json_object,
    ),
]
Stem = Annotated[config.Stem | None, _setting("stem", MODEL, "small: keeps the resolution, for small images.")]
ImageSize = Annotated[int | None, _setting("image_size", MODEL, "Side in pixels; 0: by the model and the images.")]
Mean = Annotated[
    Any,  # a tuple would be so many words
    _setting("mean", MODEL, "Channel means of pixels in [0, 1].", metavar="A[,B,C]", parser=_numbers),
]
Std = Annotated[
    Any,
    _setting("std", MODEL, "Channel deviations likewise.", metavar="A[,B,C]", parser=_numbers),
]

BatchSize = Annotated[int | None, _setting("batch_size", METHOD, "Rows per training step; 0: by the number of rows.")]
Rounds = Annotated[int | None, _setting("rounds", METHOD, "Rounds of the loop; 0: as many as suit.")]
Epochs = Annotated[
    float | None, _setting("epochs", METHOD, "Passes over the data of each network; 0: as many as suit.")
]
Judge = Annotated[config.JudgeKind | None, _setting("judge", METHOD, "Which of the networks judges a row.")]
Streams = Annotated[config.StreamKind | None, _setting("streams", METHOD, "How scores become probabilities.")]
Trust = Annotated[float | None, _setting("trust", METHOD, "Both streams above it: the label is trusted.")]
Distrust = Annotated[float | None, _setting("distrust", METHOD, "Both streams below it: the label is wrong.")]
Certain = Annotated[
    float | None, _setting("certain", METHOD, "Both streams and p_clean above it at the end: certain_clean.")
]
RejectPrecision = Annotated[
    float | None,
    _setting(
        "reject_precision", METHOD, "Least share of wrong labels for rejecting beyond p_clean 0.5; 1: never beyond."
    ),
]

Json = Annotated[bool, typer.Option("--json", help="Write JSON to stdout.", rich_help_panel=OUTPUT)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no report.", rich_help_panel=OUTPUT)]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Tracebacks of errors; timings of a run.", rich_help_panel=OUTPUT)
]

Run = Annotated[Path, typer.Argument(help="Run folder.")]
AnyRun = Annotated[Path | None, typer.Argument(help="Run folder; by default the newest finished one below runs/.")]
ExportOut = Annotated[
    Path,
    typer.Option("--out", help="File, .csv or .parquet; for hf the folder of the images, which gets a metadata.csv."),
]
Form = Annotated[
    config.ExportForm | None,
    typer.Option("--to", help="Default: by the ending of --out. hf: for Hugging Face's image folders."),
]
Keep = Annotated[str | None, typer.Option(help="Verdicts to keep. Default: certain_clean,purified.", metavar="A,B")]
Relabel = Annotated[bool, typer.Option("--relabel", help="Keep rejected rows too, with the label suggested instead.")]
Budget = Annotated[int | None, typer.Option(help="Instead: so many rows likeliest to be wrong, worst first.")]
Precision = Annotated[
    float | None, typer.Option(help="Instead: as many rows as hold this share of right labels, as in 0.99.")
]
Replace = Annotated[bool, typer.Option("--overwrite", help="Replace an older file.")]

GoldenOut = Annotated[Path, typer.Option("--out", help="File to write and to fill in, .csv.")]
Count = Annotated[int | None, typer.Option(help="How many rows to look at. Default: 200, or all if there are fewer.")]

SetName = Annotated[config.PublishedSet, typer.Argument(help="Which data set.", metavar="SET")]
SetFolder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder into which it was unpacked.")]
IndexOut = Annotated[Path, typer.Option("--out", help="Folder for labels.csv, and truth.csv where it is known.")]
SetSplit = Annotated[config.Split, typer.Option(help="Which part of the set.")]
SetLabels = Annotated[
    str | None, typer.Option(help="CIFAR-N: worse, aggre, random1 to random3, or noisy. Default: the true labels.")
]
Classes = Annotated[int | None, typer.Option(help="Keep the first so many classes, as 50 for mini-WebVision.")]

Truth = Annotated[
    Path, typer.Argument(help="Table with paths and true labels: a column true_label, truth or golden, or else label.")
]

CleanIndex = Annotated[Path, typer.Argument(help="Table with paths and labels, or a folder with a folder per class.")]
CorruptOut = Annotated[Path, typer.Option("--out", help="Folder for labels.csv and truth.csv.")]
Kind = Annotated[
    config.NoiseKind,
    typer.Option(
        help="symmetric: any other class; asymmetric: the next class; pairs: two classes for each other; "
        "confusion: as observed, see --from."
    ),
]
Rate = Annotated[float, typer.Option(min=0, max=1, help="Share of the labels to make wrong.")]
AnySeed = Annotated[int, typer.Option("--seed", min=0, help="Start of every random choice.")]
Observed = Annotated[
    Path | None,
    typer.Option("--from", help="Which confusions to plant: a run, or a table with columns given, true and count."),
]
