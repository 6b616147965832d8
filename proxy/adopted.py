"""The spools and local journals of this data directory that no process writes any more, since there
are fewer processes.

Rules:
- The first proxy adopts what the proxies from `server.workers` on have left: the supervisor's lock
  on the directory says that none of them lives.
- What a journal has is recovered once the spools were replayed, as a proxy does with its own.
- An adopted spool keeps its name, which what the ledger confirms and the alerts go by; nothing is
  written to it but what its replay leaves.
- One that holds nothing is left alone; its folder stays, because its numbers must not come again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from metering.local_journal import LocalJournal
from metering.spool import Spool, SpoolDepth
from proxy.settings import Settings


def spools_of(settings: Settings, proxy_id: str, journal: LocalJournal, log: Any) -> list[Spool]:
    """The process' own, then those that nobody else will replay."""
    data_dir = settings.data_dir
    adopted = find_abandoned(data_dir, proxy_id, workers=settings.server.workers)
    if adopted:
        log.warning("spools_adopted", spools=adopted)
    own = Spool(data_dir, proxy_id, on_kept=journal.remove)
    return [own, *(Spool(data_dir, name) for name in adopted)]


def journals_of(settings: Settings, proxy_id: str, log: Any) -> list[LocalJournal]:
    """The same of the exchanges that were admitted without Redis."""
    data_dir = settings.data_dir
    adopted = find_abandoned_journals(data_dir, proxy_id, workers=settings.server.workers)
    if adopted:
        log.warning("journals_adopted", journals=adopted)
    return [LocalJournal(data_dir, name) for name in (proxy_id, *adopted)]


def find_abandoned(data_dir: Path, proxy_id: str, *, workers: int) -> list[str]:
    """The ids whose spools this proxy adopts: none unless it is the first of its installation."""
    return _find(data_dir / "spool", proxy_id, workers, _holds_records)


def find_abandoned_journals(data_dir: Path, proxy_id: str, *, workers: int) -> list[str]:
    """The same of those whose local journals it adopts."""
    return _find(data_dir / "local", proxy_id, workers, _holds_exchanges)


def total_depth(spools: Sequence[Spool]) -> SpoolDepth:
    """What waits in all of them."""
    depths = [spool.depth for spool in spools]
    return SpoolDepth(
        sum(depth.records for depth in depths),
        sum(depth.bytes for depth in depths),
        max((depth.oldest_s for depth in depths), default=0.0),
    )


def _find(
    parent: Path, proxy_id: str, workers: int, holds_something: Callable[[Path], bool]
) -> list[str]:
    installation, _, index = proxy_id.rpartition("-")
    if index != "0":
        return []
    found = []
    for folder in parent.glob(f"{installation}-*"):
        number = folder.name.removeprefix(f"{installation}-")
        if number.isdecimal() and int(number) >= workers and holds_something(folder):
            found.append((int(number), folder.name))
    return [name for _, name in sorted(found)]


def _holds_records(folder: Path) -> bool:
    """Whether there is a record that Redis lacks, or may lose; damage waits for a person."""
    return any(
        path.suffix != ".damaged" and path.stat().st_size for path in folder.glob("[0-9]*.*")
    )


def _holds_exchanges(folder: Path) -> bool:
    """Whether an exchange was left open; one that was not written whole was not begun."""
    return any(path.suffix not in {".damaged", ".tmp"} for path in folder.iterdir())
