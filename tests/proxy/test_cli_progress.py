"""Bars are for people at a terminal, and for nobody else."""

from __future__ import annotations

import io
import threading

import pytest
from rich.console import Console

from metering.progress import quiet
from proxy.cli_progress import progress, watched


def test_a_terminal_has_a_bar() -> None:
    """What is told moves it; with a total, how much of it."""
    screen = Console(file=io.StringIO(), force_terminal=True, width=80)

    with progress("Counting stars", as_json=False, screen=screen) as tell:
        tell(5, None)
        tell(7, 10)

    assert isinstance(screen.file, io.StringIO)
    assert "Counting stars" in screen.file.getvalue()
    assert "7/10" in screen.file.getvalue()


@pytest.mark.parametrize("as_json", [True, False])
def test_programs_see_nothing(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """With --json, and where stderr is a file, work goes on unwatched and nothing is printed."""
    with progress("Counting stars", as_json=as_json) as tell:
        tell(1, 2)

    assert tell is quiet
    assert capsys.readouterr() == ("", "")


def test_what_cannot_tell_is_measured() -> None:
    """It is measured while it goes on; not at all where nobody looks, and not after its end."""
    told, seen = [], threading.Event()

    def tell(done: int, total: int | None) -> None:
        told.append((done, total))
        seen.set()

    with watched(lambda: (3, 4), tell):
        assert seen.wait(5)
    with watched(lambda: pytest.fail("measured"), quiet):
        pass

    assert set(told) == {(3, 4)}
