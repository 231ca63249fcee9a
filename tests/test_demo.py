"""The demo keeps its promise: what `make demo` does finds the wrong labels of the sample data."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.conftest import Run

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "sample_data"


def words_of(command: str, out: Path) -> list[str]:
    """The words of a labelclean command of the Makefile's demo, with another run folder."""
    recipe = re.search(rf"^\t\$\(BIN\)/labelclean ({command} .*\$\(DEMO\).*)$", (ROOT / "Makefile").read_text(), re.M)
    assert recipe
    return [word.replace("$(DEMO)", str(out)) for word in recipe[1].split()]


def test_demo_finds_the_wrong_labels(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    assert run(*words_of("fit", tmp_path / "demo"), "--quiet")[0] == 0
    code, out, _ = run(*words_of("evaluate", tmp_path / "demo"), "--json")
    found = json.loads(out)
    assert (code, found["num_rows"], found["num_unreadable"], found["num_wrong"]) == (0, 600, 2, 120)
    assert found["f1"] >= 0.90
