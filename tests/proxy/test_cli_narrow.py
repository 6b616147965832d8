"""Tables at 80 columns: no number is ever cut."""

from __future__ import annotations

import io

import pytest
from rich.console import Console, Group, RenderableType
from rich.table import Table

from proxy import cli_tables
from proxy.cli_narrow import fitted


def table(columns: int, *, no_wrap: bool = True) -> Table:
    """Amounts of 14 characters in columns."""
    made = Table(header_style="bold")
    for number in range(columns):
        made.add_column(f"Amount {number}", justify="right", no_wrap=no_wrap)
    for row in range(2):
        made.add_row(*(f"{row}.{number:012d}" for number in range(columns)))
    return made


def drawn(shown: RenderableType) -> str:
    screen = Console(file=io.StringIO(), width=80)
    screen.print(fitted(shown, screen))
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


@pytest.mark.parametrize("columns", [2, 4, 5, 9])
def test_no_amount_is_cut(columns: int) -> None:
    """What fits stays a table; what does not is written below each other, whole."""
    text = drawn(Group("before", table(columns), "after"))

    assert all(f"1.{number:012d}" in text for number in range(columns))
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert text.startswith("before")
    assert text.endswith("after\n")


def test_a_grid_is_as_wide_as_it_is() -> None:
    """Its columns share their padding, and there is none at its edges."""
    grid = Table.grid(padding=(0, 3))
    for _ in range(6):
        grid.add_column(no_wrap=True)
    grid.add_row(*(["x" * 10] * 6))

    assert drawn(grid).splitlines() == [("x" * 10 + "   ") * 5 + "x" * 10]


def test_words_are_broken_before_a_table_is_turned() -> None:
    """A long sentence in a cell is no reason to give up the table."""
    words = Table()
    words.add_column("Why")
    words.add_column("USD", no_wrap=True)
    words.add_row("because " * 30, "0.000000001")

    text = drawn(words)

    assert "Why" in text.splitlines()[1]
    assert "0.000000001" in text


def test_no_color_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    """$NO_COLOR takes the colours away, as everywhere."""
    monkeypatch.setenv("NO_COLOR", "1")

    assert cli_tables.console().no_color
