"""Bars for long work: on stderr, only where that is a terminal, and never with --json.

So what a program reads, and what is kept of a job's output, has none of it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from metering.progress import Tell, quiet

if TYPE_CHECKING:
    from rich.console import Console

_LOOK_S = 0.2


@contextlib.contextmanager
def progress(label: str, *, as_json: bool, screen: Console | None = None) -> Iterator[Tell]:
    """A bar for the time of the block, moved by what is told; it goes when the block ends."""
    if as_json:
        yield quiet
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    screen = Console(stderr=True) if screen is None else screen
    if not screen.is_terminal:
        yield quiet
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining())
    with Progress(*columns, console=screen, transient=True) as shown:
        task = shown.add_task(label, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)


@contextlib.contextmanager
def watched(measure: Callable[[], tuple[int, int | None]], tell: Tell) -> Iterator[None]:
    """Tell what is measured again and again, while work goes on that cannot tell by itself."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(_LOOK_S):
            tell(*measure())

    if tell is quiet:
        yield
        return
    thread = threading.Thread(target=look, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
