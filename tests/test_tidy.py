"""Sizes, names, and tests that mirror the source."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
EMPTY_NAMES = frozenset({"utils", "helpers", "common", "base", "core", "types", "manager"})

SOURCES = sorted(
    path for room in ("proxy", "routing", "metering") for path in (ROOT / room).rglob("*.py")
)
TESTS = sorted((ROOT / "tests").rglob("*.py"))

MIRRORED = {
    "proxy": "proxy",
    "routing": "routing",
    "metering": "metering",
    "settlement": "metering/settlement",
}
"""Folders under tests/ and the packages that they mirror."""

UNMIRRORED = (ROOT / "tests", ROOT / "tests" / "threats")
"""Tests of the whole: by topic, and by the numbers of docs/threat-model.md."""


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_files_are_short() -> None:
    """A file can be read in one sitting."""
    lengths = {
        _name(path): len(path.read_text(encoding="utf-8").splitlines())
        for path in [*SOURCES, *TESTS]
    }

    assert {name: lines for name, lines in lengths.items() if lines > FILE_LINES_MAX} == {}


def test_functions_are_short() -> None:
    """A function fits on a screen; migrations, which are lists of columns and frozen, aside."""
    long = [
        f"{_name(path)} {node.name}: {node.end_lineno - node.lineno + 1} lines"
        for path in SOURCES
        if path.parent.name != "versions"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > FUNCTION_LINES_MAX
    ]

    assert long == []


def test_modules_are_named_after_something() -> None:
    """No module is called what could be called anything."""
    parts = {
        part: _name(path)
        for path in SOURCES
        for part in path.relative_to(ROOT).with_suffix("").parts
    }

    assert {part: where for part, where in parts.items() if part in EMPTY_NAMES} == {}


def test_every_test_has_its_source() -> None:
    """tests/<package>/test_x.py tests a module x of the package; test_x_contract.py does too."""
    tests = [
        path for path in TESTS if path.name.startswith("test_") and path.parent not in UNMIRRORED
    ]
    modules = {folder: _modules(folder) for folder in {path.parent for path in tests}}

    assert [_name(path) for path in tests if not _is_of(path, modules[path.parent])] == []


def _modules(folder: Path) -> set[str]:
    room, *inner = folder.relative_to(ROOT / "tests").parts
    package = ROOT / MIRRORED[room] / Path(*inner)
    folders = {each.name for each in package.iterdir() if each.is_dir()}
    return {each.stem for each in package.rglob("*.py")} | folders


def _is_of(path: Path, modules: set[str]) -> bool:
    subject = path.stem.removeprefix("test_")
    return any(subject == module or subject.startswith(f"{module}_") for module in modules)


def test_tests_are_no_packages() -> None:
    """An __init__.py under tests/ would shadow the packages of the same name."""
    assert list((ROOT / "tests").rglob("__init__.py")) == []
