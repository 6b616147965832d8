"""How many clients a process takes at once, and how much memory it lets them have.

Rules: what is over a bound is refused at once and by name, never queued; a few connections are kept
back for health checks, so that a full process still says it is alive; memory given back is noticed,
so that a process that was full for a moment serves again.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from metering.clock import monotonic_s

HEALTH_CONNECTIONS = 16
"""Connections over the bound that are still asked what they want; only health is answered."""

FILES_KEPT = 64
"""Descriptors that are no client's: listeners, Redis, the spool, logs, idle upstreams."""

STREAMS_UP_TO = 0.8
"""The share of the memory up to which new streams are begun: they last longest."""

EXCHANGES_UP_TO = 0.9
"""The share up to which anything is; the rest is for what has begun."""

BODIES_UP_TO = 0.25
"""The share that the bodies of requests may take as they came: each is there twice while it is
read, and then parsed beside itself."""

LOOK_EVERY_S = 0.25
TIDY_EVERY_S = 5.0

_CGROUP_FILES = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
_UNLIMITED = 2**60
"""What control groups write for no limit is about 2^63."""


class Place(Enum):
    """What a connection that has just come may do."""

    FULL = auto()
    """Anything."""
    HEALTH = auto()
    """Ask for our health: there are too many others."""
    NONE = auto()
    """Nothing: it is told so and closed."""


class Crowd:
    """The connections of one process, counted; `per_ip` of None bounds nobody."""

    def __init__(self, connections_max: int, per_ip: int | None = None) -> None:
        self._max = connections_max
        self._per_ip = per_ip
        self._from: Counter[str] = Counter()
        self._count = 0
        self._strangers: dict[Callable[[], None], None] = {}
        """Who has asked for nothing yet, the oldest first, and how to make them go."""

    def __len__(self) -> int:
        return self._count

    def adopt(self, connections_max: int, per_ip: int | None) -> None:
        """Hold who comes from now on to these; who is here stays."""
        self._max, self._per_ip = connections_max, per_ip

    def enter(self, address: str, make_way: Callable[[], None] | None = None) -> Place:
        """One more has come; unless it gets no place, `leave` has to follow.

        Who can be told to go, and has not asked for anything, is told so when all places are taken
        and somebody else comes: silence must not keep a health check out. `make_way` leaves.
        """
        if self._per_ip is not None and self._from[address] >= self._per_ip:
            return Place.NONE
        if self._count >= self._max + HEALTH_CONNECTIONS:
            if not self._strangers:
                return Place.NONE
            next(iter(self._strangers))()
        self._count += 1
        self._from[address] += 1
        if make_way is not None:
            self._strangers[make_way] = None
        return Place.FULL if self._count <= self._max else Place.HEALTH

    def has_asked(self, make_way: Callable[[], None]) -> None:
        """A request of it has come: it stays."""
        self._strangers.pop(make_way, None)

    def leave(self, address: str, make_way: Callable[[], None] | None = None) -> None:
        """It has gone."""
        if make_way is not None:
            self._strangers.pop(make_way, None)
        self._count -= 1
        self._from[address] -= 1
        if not self._from[address]:
            del self._from[address]


def raise_file_limit() -> None:
    """Let this process open as many files as its administrator allows, not as few as is usual."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def connections_bound(wanted: int) -> int:
    """As many connections as wanted, if there are two files for each: the client's and the
    upstream's."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, (soft - FILES_KEPT - HEALTH_CONNECTIONS) // 2))


def memory_bound(limit_mb: int | None, processes: int) -> int | None:
    """How many bytes one proxy process may use; None for no bound.

    Without a setting it is a half of the container's memory, shared by the proxies: Redis and the
    worker live on the rest.
    """
    if limit_mb is not None:
        return limit_mb * 1024 * 1024
    for path in _CGROUP_FILES:
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        if text.isdigit() and int(text) < _UNLIMITED:
            return int(text) // 2 // processes
    return None


@dataclass(slots=True)
class Memory:
    """What this process uses of the memory it may use; looked up a few times a second at most."""

    bound: int | None
    measure: Callable[[], int]
    clock: Callable[[], float] = monotonic_s
    _used: int = 0
    _looked_at: float = float("-inf")
    _tidied_at: float = float("-inf")
    _bodies: int = 0

    @contextlib.contextmanager
    def body(self) -> Iterator[BodyShare]:
        """The share of one request's body, until it is parsed and what it takes can be measured."""
        share = BodyShare(self)
        try:
            yield share
        finally:
            self._bodies -= share.taken

    def take(self, share: BodyShare, size: int) -> bool:
        """Count what has come of a body; False when the bodies have no room for it. One that is
        alone always has: it is bounded by itself."""
        is_alone = self._bodies == share.taken
        if self.bound is not None and not is_alone:
            over = self._bodies + size > self.bound * BODIES_UP_TO
            if over or not self.has_room(stream=False):
                return False
        self._bodies += size
        share.taken += size
        return True

    def has_room(self, *, stream: bool) -> bool:
        """Whether one more exchange may begin."""
        if self.bound is None:
            return True
        allowed = self.bound * (STREAMS_UP_TO if stream else EXCHANGES_UP_TO)
        return self._look(allowed) <= allowed

    def _look(self, allowed: float) -> int:
        now = self.clock()
        if now - self._looked_at >= LOOK_EVERY_S:
            self._used, self._looked_at = self.measure(), now
            if self._used > allowed and now - self._tidied_at >= TIDY_EVERY_S:
                # what was freed may still be counted as ours
                give_back()
                self._used, self._tidied_at = self.measure(), now
        return self._used


@dataclass(slots=True)
class BodyShare:
    """How many bytes of one body are counted."""

    memory: Memory
    taken: int = 0

    def grow(self, size: int) -> bool:
        """So many more have come; False when there is no room."""
        return self.memory.take(self, size)


def resident_bytes() -> int:
    """The memory that this process has in use."""
    pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def give_back() -> None:
    """Return freed memory to the system, as far as the C library can be asked to."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl has not
    if trim is not None:
        trim(0)
