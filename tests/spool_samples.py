"""Records for a spool, what is left on its disk, and a disk that is full."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from caps_samples import cap, hold

from metering.caps import Vector
from metering.spool import Spool


def body(number: int) -> bytes:
    return b'{"n":%d}' % number


async def fill(spool: Spool, count: int, start: int = 0) -> None:
    for number in range(start, start + count):
        await spool.append(hold(cap(100)), Vector(1), (body(number),))


def files(folder: Path) -> list[str]:
    return sorted(path.suffix for path in (folder / "spool" / "p1").iterdir())


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """A disk that is full from `size` on: the kernel refuses to make files longer."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
