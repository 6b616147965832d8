"""How far long work is: told by whoever does it, shown by whoever asked for it.

Rules: telling costs nothing worth counting, changes nothing, and never fails; work that nobody
watches tells `quiet`. Counts only grow; a total that is not known is None.
"""

from __future__ import annotations

from collections.abc import Callable

Tell = Callable[[int, int | None], None]
"""Takes what is done and what there is to do, in the work's own unit."""

EVERY = 1_000
"""Work of many small parts tells every so many of them."""


def quiet(done: int, total: int | None) -> None:
    """For work that nobody watches."""
