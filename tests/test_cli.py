"""The command line end to end: output, files, exit codes, and what `--help` may import."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import labelclean.fit
from labelclean import console
from labelclean.config import FitConfig
from labelclean.errors import (
    BackboneError,
    ConfigError,
    FitInterruptedError,
    InputError,
    LabelcleanError,
    ResourceError,
    RunFolderError,
)
from labelclean.records import phase
from labelclean.results import run_folder
from labelclean.results.run_folder import RunFolder
from tests.conftest import Run

HEAVY = {"torch", "timm", "sklearn", "faiss", "pandas", "pyarrow", "numpy", "PIL"}


@pytest.fixture
def dataset(tmp_path: Path, image_folder: Path, draw: Callable[..., Path]) -> Path:
    """An index of four pictures: two identical ones with different labels, and one file that is missing."""
    draw("a.png", (200, 0, 0))
    draw("b.png", (0, 200, 0))
    draw("c.png", (0, 200, 0))
    index = tmp_path / "labels.csv"
    index.write_text("path,label,size\na.png,cat,1\nb.png,cat,2\nc.png,dog,3\ngone.png,dog,4\n")
    return index


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch, finished_run: RunFolder) -> dict[str, object]:
    """Stands in for the fit: remembers what it was given, and gives the finished run or raises `raises`."""
    seen: dict[str, object] = {}

    def run_fit(images: Path, index: Path | None, config: FitConfig, **options: object) -> Path:
        seen.update(options, images=images, index=index, config=config)
        if "raises" in seen:
            raise seen["raises"]  # type: ignore[misc]
        return finished_run.path

    monkeypatch.setattr(labelclean.fit, "run_fit", run_fit)
    return seen


def test_help_is_light():
    code = f"""
import sys
sys.argv = ["labelclean", sys.argv[1], "--help"] if sys.argv[1] else ["labelclean", "--help"]
from labelclean.cli import main
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
sys.stderr.write(",".join({HEAVY!r} & set(sys.modules)))
"""
    for command in ("", "fit"):
        done = subprocess.run([sys.executable, "-c", code, command], capture_output=True, text=True, check=True)
        assert done.stderr == ""
        assert "check" in done.stdout if not command else "--effort" in done.stdout


def test_module_and_version():
    words = [sys.executable, "-m", "labelclean", "--version"]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == (
        f"labelclean {labelclean.__version__}\n"
    )


def test_an_interrupt_while_the_command_is_loaded_is_one_like_any_other(tmp_path: Path):
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt")
    words = [sys.executable, "-m", "labelclean", "--version"]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(tmp_path)}
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize(
    "words",
    [
        ("nonsense",),
        ("check",),
        ("check", "images", "--nonsense"),
        ("fit", "images", "--effort", "huge"),
        ("fit", "images", "--rounds", "many"),
        ("fit", "images", "--mean", "0.5,x"),
        ("fit", "images", "--model-kwargs", "{"),
        ("fit", "images", "--model-kwargs", "[1]"),
        ("fit", "images", "--model-kwargs", '{"a": {"b": [null]}}'),
        ("corrupt", "labels.csv"),
        ("corrupt", "labels.csv", "--out", "x", "--rate", "2"),
    ],
)
def test_wrong_usage_exits_with_2(run: Run, words: tuple[str, ...]):
    code, out, err = run(*words)
    assert code == 2
    assert out == ""
    assert "Usage" in err


def test_check_tells_what_is_wrong(run: Run, image_folder: Path, dataset: Path):
    code, out, _ = run("check", image_folder, dataset)
    assert code == 0
    assert "4 rows, 2 classes" in out
    assert "missing_file" in out
    assert "labels.csv row 3: gone.png" in out
    assert "1 picture, 1 with conflicting labels" in out
    assert "row 0 is the first below the header" in out
    assert run("check", image_folder, dataset, "--strict")[0] == 1


def test_check_of_sound_class_folders(run: Run, image_folder: Path, draw: Callable[..., Path]):
    for number, name in enumerate(("cat/a.png", "cat/c.png", "dog/b.png", "dog/d.png")):
        draw(name, (number, 0, 0))
    code, out, err = run("check", image_folder, "--strict")
    assert (code, "Every row can be used" in out) == (0, True)
    assert "Decoding 4 ..." in err
    assert "header" not in out
    assert "passed over" not in out
    (image_folder / "cat/notes.txt").touch()
    draw("loose.png")
    passed_over = "2, no images by their ending or in no class's folder: cat/notes.txt, loose.png"
    assert f"Files passed over: {passed_over}" in run("check", image_folder, "--strict")[1].replace("\n", " ")
    assert json.loads(run("check", image_folder, "--json")[1])["passed_over"] == ["cat/notes.txt", "loose.png"]
    assert run("check", image_folder, "--quiet") == (0, "", "")


def test_check_tells_of_classes_that_are_one(run: Run, image_folder: Path, draw: Callable[..., Path], tmp_path: Path):
    for number, name in enumerate("abcd"):
        draw(f"{name}.png", (number, 0, 0))
    index = tmp_path / "labels.csv"
    index.write_text("path,label\na.png,coat\nb.png,Coat\nc.png,coat \nd.png,coat\n")
    code, out, _ = run("check", image_folder, index, "--strict")
    assert code == 0
    assert "'Coat' (1) and 'coat' (2) and 'coat ' (1)" in " ".join(out.split())
    index.write_text("path,label\na.png,coat\nb.png,coat\nc.png,coat\n")
    code, out, _ = run("check", image_folder, index, "--strict")
    assert (code, "`fit` will refuse: fewer than two classes" in out, "Every row can be used" in out) == (
        1,
        True,
        False,
    )


def test_check_takes_several_golden_files(run: Run, image_folder: Path, dataset: Path, tmp_path: Path):
    files = [tmp_path / "one.csv", tmp_path / "two.csv"]
    words = ("check", image_folder, dataset, "--golden", files[0], "--golden", files[1])
    for file, row in zip(files, ("a.png,cat", "b.png,dog"), strict=True):
        file.write_text(f"path,golden\n{row}\n")
    assert "2 golden rows" in run(*words)[1]
    files[1].write_text("path,golden\na.png,dog\n")
    code, _, err = run(*words)
    assert (code, "one.csv and" in err, "two.csv: a.png has the golden labels cat and dog" in err) == (1, True, True)


def test_check_as_json(run: Run, image_folder: Path, dataset: Path):
    code, out, _ = run("check", image_folder, dataset, "--json")
    content = json.loads(out)
    assert (code, content["num_rows"], content["is_sound"]) == (0, 4, False)
    assert content["identical_images"][0]["rows"] == [1, 2]


def test_report_of_a_run(run: Run, finished_run: RunFolder):
    code, out, _ = run("report", finished_run.path)
    assert code == 0
    for text in ("certain_clean", "25.0 %", "missing_file", "too few rows", "resnet10t", "1 min 3 s"):
        assert text in out
    code, out, _ = run("report", finished_run.path, "--json")
    assert json.loads(out)["verdicts"]["rejected"] == 3
    assert "61.0 s" in run("report", finished_run.path, "--verbose")[1]


def test_report_takes_the_newest_run(run: Run, finished_run: RunFolder):
    runs = finished_run.path.parent / "runs"
    runs.mkdir()
    finished_run.path.rename(runs / "pets")
    assert "runs/pets" in run("report")[1]


def test_evaluate_a_run(run: Run, finished_run: RunFolder, tmp_path: Path):
    truth = tmp_path / "truth.csv"
    truth.write_text("path,true_label\n" + "".join(f"{row}.png,cat\n" for row in range(10)))
    code, out, _ = run("evaluate", finished_run.path, truth)
    assert code == 0
    assert "precision" in out
    content = json.loads(run("evaluate", finished_run.path, truth, "--json")[1])
    assert (content["num_rows"], content["precision"]) == (9, pytest.approx(2 / 3))


def rows_of(file: Path) -> list[dict[str, str]]:
    with open(file, encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def test_corrupt_writes_labels_and_truth(run: Run, tmp_path: Path):
    index = tmp_path / "index.csv"
    names = ["007", "a,b", 'c"d', "é"]
    with open(index, "w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows([("file", "class", "label"), *((f"{n}.png", names[n % 4], n) for n in range(40))])
    code, out, _ = run("corrupt", index, "--out", "noisy", "--rate", "0.25", "--label-column", "class")
    assert code == 0
    assert "10 of 40 labels are wrong now" in out
    labels, truth = rows_of(tmp_path / "noisy/labels.csv"), rows_of(tmp_path / "noisy/truth.csv")
    assert list(labels[0]) == ["path", "label", "input_label"]
    assert [row["true_label"] for row in truth] == [names[n % 4] for n in range(40)]
    assert [row["label"] for row in truth] == [row["label"] for row in labels]
    assert [row["input_label"] for row in labels] == [str(n) for n in range(40)]
    assert sum(row["label"] != row["true_label"] for row in truth) == 10
    code, _, err = run("corrupt", index, "--out", "noisy")
    assert (code, "exists already" in err) == (1, True)
    assert run("corrupt", index, "--out", "noisy", "--overwrite", "--label-column", "class", "--rate", "0.5")[0] == 0
    assert sum(row["label"] != row["true_label"] for row in rows_of(tmp_path / "noisy/truth.csv")) == 20
    for more in (("--overwrite",), ()):
        code, _, err = run("corrupt", "noisy/labels.csv", "--out", "noisy", *more)
        assert (code, "noisy/labels.csv: this is the index itself" in err) == (1, True)


def test_corrupt_with_the_confusions_of_a_run(run: Run, finished_run: RunFolder, tmp_path: Path):
    """In that run two labels dog should be cat, and one label cat should be dog."""
    index = tmp_path / "index.csv"
    index.write_text("path,label\n" + "".join(f"{n},{('cat', 'dog', 'owl')[n % 3]}\n" for n in range(300)))
    words = ("corrupt", index, "--kind", "confusion", "--rate", "0.3")
    assert run(*words, "--from", finished_run.path, "--out", "one")[0] == 0
    truth = rows_of(tmp_path / "one/truth.csv")
    wrong = [(row["true_label"], row["label"]) for row in truth if row["label"] != row["true_label"]]
    assert set(wrong) == {("cat", "dog"), ("dog", "cat")}
    assert wrong.count(("cat", "dog")) / len(wrong) == pytest.approx(2 / 3, abs=0.12)
    table = tmp_path / "confusions.csv"
    table.write_text("given,true,count\nowl,cat,3\n")
    assert run(*words, "--from", table, "--out", "two")[0] == 0
    truth = rows_of(tmp_path / "two/truth.csv")
    assert {(row["true_label"], row["label"]) for row in truth if row["label"] != row["true_label"]} == {("cat", "owl")}
    code, _, err = run(*words, "--out", "three")
    assert (code, "--from belong together" in err) == (1, True)


def test_corrupt_keeps_rows_without_label_and_takes_class_folders(
    run: Run, image_folder: Path, draw: Callable[..., Path], tmp_path: Path
):
    index = tmp_path / "index.jsonl"
    index.write_text('{"path": "a", "label": 1, "n": null}\n{"path": "b", "label": null, "n": 5}\n' * 2)
    code, _, err = run("corrupt", index, "--out", "x")
    assert (code, "index.jsonl: the index has fewer than two classes" in err) == (1, True)
    index.write_text('{"path": "a", "label": 1}\n{"path": "b"}\n{"path": "c", "label": 2}\n')
    assert run("corrupt", index, "--out", "x", "--rate", 1)[0] == 0
    assert [row["label"] for row in rows_of(tmp_path / "x/labels.csv")] == ["2", "", "1"]
    for name in ("cat/a.png", "dog/b.png"):
        draw(name)
    assert run("corrupt", image_folder, "--out", "y", "--rate", 1)[0] == 0
    assert [row["label"] for row in rows_of(tmp_path / "y/labels.csv")] == ["dog", "cat"]


def test_fit_passes_flags_on_and_shows_the_run(run: Run, fitted: dict[str, object], tmp_path: Path):
    settings = tmp_path / "settings.toml"
    settings.write_text('seed = 5\nrounds = 9\nbackbone = "resnet18"\n')
    words = ("--config", settings, "--rounds", 3, "--mean", "0.5", "--std", "0.1,0.2,0.3", "--epochs", 7)
    code, out, _ = run("fit", "images", "labels.csv", *words, "--model-kwargs", '{"a": [1]}', "--out", "o", "--strict")
    assert code == 0
    assert "certain_clean" in out
    config = fitted["config"]
    assert isinstance(config, FitConfig)
    assert (config.seed, config.rounds, config.backbone, config.strict) == (5, 3, "resnet18", True)
    assert (config.mean, config.std, config.model_kwargs) == ((0.5,), (0.1, 0.2, 0.3), {"a": [1]})
    assert config.epochs == 7
    assert (fitted["images"], fitted["index"], fitted["out"]) == (Path("images"), Path("labels.csv"), Path("o"))
    assert (fitted["golden"], fitted["resume"], fitted["overwrite"]) == ((), False, False)
    assert run("fit", "images", "--golden", "a.csv", "--golden", "b.csv")[0] == 0
    assert fitted["golden"] == [Path("a.csv"), Path("b.csv")]


def test_fit_without_flags_uses_the_defaults(run: Run, fitted: dict[str, object], finished_run: RunFolder):
    assert run("fit", "images", "--quiet") == (0, f"{finished_run.path}\n", "")
    assert fitted["config"] == FitConfig()
    assert fitted["index"] is None


def test_every_setting_of_the_configuration_has_the_flag_that_is_promised(run: Run):
    out = run("fit", "--help")[1]
    flags = (
        "out seed device effort backbone weights model-kwargs stem image-size mean std batch-size rounds epochs judge "
        "streams trust distrust certain reject-precision"
    )
    more = "workers golden path-column label-column config strict resume overwrite quiet verbose"
    assert [flag for flag in f"{flags} {more}".split() if f"--{flag} " not in out] == []


@pytest.mark.parametrize(
    "error", [InputError, ConfigError, BackboneError, RunFolderError, ResourceError], ids=lambda kind: kind.__name__
)
def test_errors_show_message_and_hint(run: Run, fitted: dict[str, object], error: type[LabelcleanError]):
    fitted["raises"] = error("labels.csv row 7: [bold]no\x1b[31m image[/bold]", hint="Add [it].")
    code, out, err = run("fit", "images")
    assert (code, out) == (1, "")
    assert err == "error: labels.csv row 7: [bold]no\\x1b[31m image[/bold]\nhint: Add [it].\n"
    for words in (("--verbose",), ("-v",), ("-qv",)):
        assert "Traceback" in run("fit", "images", *words)[2]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "out of memory"),
        (torch.OutOfMemoryError("CUDA out of memory"), "CUDA out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "out of memory: DefaultCPUAllocator"),
        (RuntimeError("shapes differ"), None),
        (np.exceptions.AxisError("x"), None),
        (OSError(28, "No space left on device", "out/file"), "out/file: No space left on device"),
        (OSError(5, "Input/output error"), None),
        (PermissionError(13, "Permission denied", "images/cat"), "images/cat: Permission denied"),
        (OSError(36, "File name too long", "x" * 300), "xxx: File name too long"),
    ],
)
def test_what_the_machine_lacks_is_explained_and_bugs_are_not(
    run: Run, fitted: dict[str, object], error: Exception, message: str | None
):
    fitted["raises"] = error
    if message is None:
        with pytest.raises(type(error)):
            run("fit", "images")
    else:
        code, _, err = run("fit", "images")
        assert (code, message in err, "hint: " in err) == (1, True, True)


def test_every_command_says_that_it_was_interrupted(run: Run, monkeypatch: pytest.MonkeyPatch):
    def interrupt(*words: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run_folder, "open_run", interrupt)
    assert run("report", "runs/pets") == (130, "", "interrupted\n")


def test_interrupted_fit_says_how_to_carry_on(run: Run, fitted: dict[str, object]):
    fitted["raises"] = KeyboardInterrupt()
    assert run("fit", "images") == (130, "", "interrupted\n")
    fitted["raises"] = FitInterruptedError(Path("runs/pets"))
    assert run("fit", "images") == (
        130,
        "",
        "interrupted: repeat the command with --resume --out runs/pets to carry on\n",
    )
    assert "--out runs/pets instead of --overwrite to" in run("fit", "images", "--overwrite")[2]


def test_reader_that_leaves_early_is_no_error(finished_run: RunFolder):
    command = [sys.executable, "-m", "labelclean", "report", str(finished_run.path), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""


def test_progress_without_a_terminal_is_a_line_for_each_phase(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(console, "SECONDS_PER_LINE", -1.0)
    reporter = console.RichReporter()
    with phase(reporter, "Round [1/2]", 2000):
        reporter.advance(1000)
        with phase(reporter, "Scan"):
            reporter.note("no GPU")
    err = re.sub(r"[\d.]+ s", "T", capsys.readouterr().err)
    assert err.splitlines() == [
        "Round [1/2] 1,000 of 2,000 ... about T left",
        "note: no GPU",
        "  Scan ... T",
        "Round [1/2] 1,000 of 2,000 ... T",
    ]
    quiet = console.RichReporter(quiet=True)
    with phase(quiet, "Scan", 1):
        quiet.advance()
        quiet.note("no GPU")
    assert capsys.readouterr().err == ""
