"""Sizes, names, and tests that mirror the source."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

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
"""Folders under tests/ and the packages that they mirror; tests/threats/ mirrors threats."""


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=_name)
def test_files_are_short(path: Path) -> None:
    """A file can be read in one sitting."""
    lines = len(path.read_text(encoding="utf-8").splitlines())

    assert lines <= FILE_LINES_MAX


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if path.parent.name != "versions"], ids=_name
)
def test_functions_are_short(path: Path) -> None:
    """A function fits on a screen; migrations, which are lists of columns and frozen, aside."""
    long = [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
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


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in TESTS
        if path.name.startswith("test_") and path.parent.name not in {"tests", "threats"}
    ],
    ids=_name,
)
def test_every_test_has_its_source(path: Path) -> None:
    """tests/<package>/test_x.py tests a module x of the package; test_x_contract.py does too."""
    folder, *inner = path.relative_to(ROOT / "tests").parent.parts
    package = ROOT / MIRRORED[folder] / Path(*inner)
    modules = {each.stem for each in package.rglob("*.py")} | {
        each.name for each in package.iterdir() if each.is_dir()
    }
    subject = path.stem.removeprefix("test_")

    assert any(subject == module or subject.startswith(f"{module}_") for module in modules)


def test_tests_are_no_packages() -> None:
    """An __init__.py under tests/ would shadow the packages of the same name."""
    assert list((ROOT / "tests").rglob("__init__.py")) == []
