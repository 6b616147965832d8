"""The newest commits, in memory: what a Redis that died may have forgotten, to be sent again.

Redis writes to disk once a second, and a replica lags: an acknowledged commit can be lost with the
server that acknowledged it. With `metering.spool: outage` this is the only other copy; with
`always` it ends the holds that came back with older data, although the ledger has their events
and the disk need not send them. It is bounded three ways, and what the bounds cost is counted. A
commit is idempotent while Redis remembers it, for an hour: sending one again that was not lost adds
nothing. So what a server had for KEEP_S before it was last seen alive goes, whether or not another
commit comes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from metering.caps import Caps, CapsUnavailableError, Hold, Vector
from metering.clock import monotonic_s

KEEP_S = 10.0
"""Redis loses about two seconds at a power cut, a replica that lags a few."""
COUNT_MAX = 20_000
BYTES_MAX = 32 * 1024 * 1024
IN_FLIGHT = 64


class RecentCommit(NamedTuple):
    """One commit that Redis has acknowledged: when (monotonic s), and the bytes of its events."""

    hold: Hold
    actual: Vector
    events: tuple[bytes, ...]
    at_s: float
    size: int


class RecentCommits:
    """A ring of what one server took last. `generation` grows when it may have lost some."""

    def __init__(
        self,
        generation: Callable[[], int],
        *,
        keep_s: float = KEEP_S,
        count_max: int = COUNT_MAX,
        bytes_max: int = BYTES_MAX,
        clock_s: Callable[[], float] = monotonic_s,
    ) -> None:
        self._generation_now = generation
        self._generation = generation()
        self._keep_s, self._count_max, self._bytes_max = keep_s, count_max, bytes_max
        self._clock_s = clock_s
        self._ring: deque[RecentCommit] = deque()
        self._suspects: deque[RecentCommit] = deque()
        self._bytes = 0
        self.crowded_out = 0
        """Commits that were dropped before KEEP_S was over."""

    def __len__(self) -> int:
        return len(self._ring) + len(self._suspects)

    def add(self, hold: Hold, actual: Vector, events: Sequence[bytes]) -> None:
        """Redis has taken this commit just now."""
        self._notice()
        # a body fresh from the encoder lies in a buffer six times its length: copies keep BYTES_MAX
        # true, and a busy process out of the kernel, which gave it new pages for every request
        bodies = tuple([bytes(memoryview(body)) for body in events])
        now_s, size = self._clock_s(), sum(map(len, bodies))
        self._ring.append(RecentCommit(hold, actual, bodies, now_s, size))
        self._bytes += size
        self._forget_before(now_s - self._keep_s)
        while len(self) > self._count_max or self._bytes > self._bytes_max:
            self._bytes -= (self._suspects or self._ring).popleft().size
            self.crowded_out += 1

    def trust(self) -> None:
        """The server that took these is alive, and all of it: what it has had for long is safe."""
        self._notice()
        self._forget_before(self._clock_s() - self._keep_s)

    def suspect(self) -> None:
        """All that is here may be lost: it is kept until it was sent again."""
        self._suspects += self._ring
        self._ring.clear()

    async def replay(self, caps: Caps) -> int:
        """Commit again what may be lost; how many commits were sent.

        One that fails stops no other. Raises as `Caps.commit` did first; what was not answered is
        sent the next time.
        """
        self._notice()
        sent, failed = 0, list[RecentCommit]()
        failure: BaseException | None = None
        while batch := [self._suspects.popleft() for _ in range(self._next_batch())]:
            answers = await asyncio.gather(
                *(caps.commit(each.hold, each.actual, each.events) for each in batch),
                return_exceptions=True,
            )
            for commit, answer in zip(batch, answers, strict=True):
                if isinstance(answer, BaseException):
                    failure = failure or answer
                if isinstance(answer, CapsUnavailableError):
                    failed.append(commit)
                else:
                    self._bytes -= commit.size
                    sent += 1
        self._suspects.extendleft(reversed(failed))
        if failure is not None:
            raise failure
        return sent

    def _forget_before(self, since_s: float) -> None:
        while self._ring and self._ring[0].at_s < since_s:
            self._bytes -= self._ring.popleft().size

    def _next_batch(self) -> int:
        return min(IN_FLIGHT, len(self._suspects))

    def _notice(self) -> None:
        """From the moment the server is another, what the one before took is suspect."""
        generation = self._generation_now()
        if generation != self._generation:
            self._generation = generation
            self.suspect()
