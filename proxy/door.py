"""What every exchange of a process shares, as the exchange sees it: protocols, no machinery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from metering.caps import Candidate, Caps, Hold, Vector
from proxy.metrics_exchange import ExchangeMetrics
from proxy.settings import Settings
from proxy.transport import Transport
from routing.health import Health

HOLD_TTL_MS = 180_000
"""A hold that nobody renews for so long is given back: its process is gone."""

RENEW_EVERY_S = 60.0


class Spool(Protocol):
    """Where usage goes when Redis does not take it: durable once `append` returns."""

    def take_seq(self) -> int:
        """The next sequence number, for events that must carry it before they are encoded."""
        ...

    async def append(
        self, hold: Hold, actual: Vector, events: Sequence[bytes], *, seq: int | None = None
    ) -> int:
        """Write the commit down, fsync it, return its sequence number."""
        ...

    def committed(self, seq: int) -> None:
        """Redis has taken this record; it need not be replayed."""
        ...


class Holding(Protocol):
    """An exchange that holds something, as far as renewing it goes."""

    @property
    def hold(self) -> Hold:
        """What is held, and under which caps."""
        ...

    @property
    def checkpoint(self) -> dict[str, int]:
        """The units counted so far."""
        ...

    @property
    def held(self) -> Candidate | None:
        """What to place again should the hold lapse: the upstream and the vector now held."""
        ...


class OpenExchanges(Protocol):
    """The exchanges of this process that hold something; their holds are renewed."""

    def add(self, exchange: Holding) -> None:
        """Start renewing the hold of this exchange."""
        ...

    def discard(self, exchange: Holding) -> None:
        """It has ended."""
        ...

    def give_back(self, hold: Hold) -> None:
        """Release a hold that nobody will use, as soon as Redis takes it."""
        ...


@dataclass(slots=True)
class Lifecycle:
    """Where the process is in its life: `is_draining` once nothing new is taken, `is_stopping` once
    exchanges are cut to end in time."""

    is_draining: bool = False
    is_stopping: bool = False


@dataclass(frozen=True, slots=True)
class Door:
    """The open things and settings that an exchange works with."""

    settings: Settings
    caps: Caps
    transport: Transport
    spool: Spool
    open: OpenExchanges
    log: Any
    proxy_id: str
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    health: Health = field(default_factory=Health)
    metrics: ExchangeMetrics = field(default_factory=ExchangeMetrics)
