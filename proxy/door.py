"""What every exchange of a process shares, as the exchange sees it: protocols, no machinery."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from metering.batch_notes import BatchNotes, MemoryBatchNotes
from metering.calibration import Calibration
from metering.callbacks import Callbacks, MemoryCallbacks
from metering.caps import Candidate, Caps, Denial, Hold, Reservation, Vector
from metering.claims import Claims, MemoryClaims
from metering.fullness import Standing
from metering.memory_replies import MemoryReplies
from metering.replies import Replies
from proxy.balances import Balances
from proxy.drains import Drains
from proxy.flights import Flights
from proxy.metrics_exchange import ExchangeMetrics
from proxy.passthrough_objects import Ownership
from proxy.settings import Settings
from proxy.tracing import Tracer
from proxy.transport import Transport
from routing.health import Health
from routing.history import History
from routing.retry_budget import RetryBudgets

HOLD_TTL_MS = 180_000
"""A hold that nobody renews for so long is given back: its process is gone."""


@dataclass(frozen=True, slots=True)
class HoldTimes:
    """The clockwork of holds: how long they live, and when an open exchange says how it stands."""

    ttl_ms: int = HOLD_TTL_MS
    renew_every_s: float = 60.0
    first_checkpoint_s: float = 1.0
    """Most answers are over by then, and cost nothing extra."""
    checkpoint_every_s: float = 5.0
    """What a crash can lose of a stream: so much of its output is delivered and not billed."""


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
    def is_ending(self) -> bool:
        """Whether its usage is being recorded: from then on its hold is left alone."""
        ...

    @property
    def progress(self) -> tuple[int, ...]:
        """Differs when a checkpoint would say something new, () when there is nothing to say yet.

        Cheap: asked every few seconds.
        """
        ...

    def checkpoint(self) -> bytes:
        """What to record should our process end here."""
        ...

    @property
    def held(self) -> Candidate | None:
        """What to place again should the hold lapse: the upstream and the vector now held."""
        ...

    async def place(self, candidates: Sequence[Candidate]) -> Reservation | Denial:
        """Reserve the first of these that fits, with what was known before anything was sent.

        Called again when Redis has no record of the hold any more.
        """
        ...

    def stop(self, denial: Denial) -> None:
        """Somebody paused or killed a scope it runs in: end now, and settle what was used."""
        ...


class OpenExchanges(Protocol):
    """The exchanges of this process that hold something; their holds are renewed."""

    @property
    def ttl_ms(self) -> int:
        """How long a hold lives that nobody renews."""
        ...

    def add(self, exchange: Holding, task: asyncio.Task[Any] | None = None) -> None:
        """Start renewing the hold of this exchange, which `task` runs, by default this one."""
        ...

    def discard(self, exchange: Holding) -> None:
        """It has ended."""
        ...

    def look(self, exchange: Holding) -> None:
        """It has come far since it was looked at: renew it, and look at its flags, soon."""
        ...

    def give_back(self, hold: Hold) -> None:
        """Release a hold that nobody will use, as soon as Redis takes it."""
        ...


@dataclass(slots=True)
class Lifecycle:
    """Where the process is in its life.

    `is_draining` once nothing new is taken, `is_stopping` once exchanges are cut to end in time,
    `is_backlogged` while new ones are refused because the settlement worker does not keep up.
    """

    is_draining: bool = False
    is_stopping: bool = False
    is_backlogged: bool = False
    backlog: Standing | None = None
    """What the last look at the backlog found; None before the first."""


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
    drains: Drains = field(default_factory=Drains)
    health: Health = field(default_factory=Health)
    budgets: RetryBudgets = field(default_factory=RetryBudgets)
    history: History = field(default_factory=History)
    metrics: ExchangeMetrics = field(default_factory=ExchangeMetrics)
    calibration: Calibration = field(default_factory=Calibration)
    """How far our count of prompts is off, by upstream model."""
    claims: Claims = field(default_factory=MemoryClaims)
    """What is known of events from outside; in Redis, where every process sees it, when served."""
    callbacks: Callbacks = field(default_factory=MemoryCallbacks)
    """What payment providers say; in Redis, for the worker, when served."""
    owned: Ownership = field(default_factory=Ownership)
    """Whose objects at providers are; in Redis when served."""
    batches: BatchNotes = field(default_factory=MemoryBatchNotes)
    """What is to be billed of batches at providers; in Redis when served."""
    replies: Replies = field(default_factory=MemoryReplies)
    """Answers that are kept; in Redis, where every process sees them, when served."""
    balances: Balances = field(default_factory=Balances)
    """What prepaid tenants may have spent."""
    flights: Flights = field(default_factory=Flights)
    """Requests under way whose answers others wait for."""
    tracer: Tracer | None = None
    """Where `telemetry` is set; every stage asks for it, and for nothing else."""
