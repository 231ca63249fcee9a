"""The house keeps its order: imports run downwards, and only the console prints."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "labelclean"
GROUND = {"records", "config", "errors", "files", "__version__"}
BELOW: dict[str, set[str]] = {
    "records": set(),
    "errors": set(),
    "config": {"errors"},
    "files": {"errors"},
    "tssd": {"tssd", *GROUND} - {"config", "files"},
    "data": {"data", "tssd", *GROUND},
    "published": {"published", *GROUND},
    "train": {"train", "data", "tssd", *GROUND},
    "results": {"results", "data", "tssd", *GROUND},
    "inputs": {"results", "train", "data", *GROUND},
    "fit": {"inputs", "results", "train", "data", *GROUND},
    "options": {"config"},
    "rendering": {"rendering", "results", "data", *GROUND},
    "console": {"rendering", "results", "data", "published", *GROUND},
    "cli": {"fit", "options", "console", "results", "data", "published", *GROUND},
}
"""What each module or folder of modules may import."""


def imported(file: Path) -> set[str]:
    """The parts of labelclean that a module imports, at its head or inside functions."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("labelclean.")}
    return found


@pytest.mark.parametrize("layer", sorted(BELOW))
def test_imports_run_downwards(layer: str) -> None:
    files = [PACKAGE / f"{layer}.py"] if (PACKAGE / f"{layer}.py").exists() else sorted((PACKAGE / layer).glob("*.py"))
    assert files
    assert {str(file): imported(file) - BELOW[layer] for file in files if imported(file) - BELOW[layer]} == {}


def test_only_the_console_prints() -> None:
    printing = [
        file.name
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
    ]
    assert set(printing) <= {"console.py"}


def test_every_room_has_its_place() -> None:
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert rooms - {"__init__", "__main__"} == set(BELOW)
