"""What `weir doctor` goes by: what it was asked, what was gathered, and what it says. Pure values.

A part that could not be gathered is `Unknown` and says why, so that a check over it can say that it
was not made: what nobody looked at is never well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from metering.job_settings import JobSettings
from metering.plans import Assignment, Plan
from metering.tenants import Tenant


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing; may be as it should be."""
    TROUBLE = "trouble"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check says: a sentence, what to do next, and the numbers that it goes by."""

    level: Level
    said: str
    todo: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unknown:
    """This could not be gathered."""

    why: str


@dataclass(frozen=True, slots=True)
class Asked:
    """About which tenant (None: all) and UTC month; `now_ns` is this machine's clock."""

    tenant: str | None
    month: str
    start_ns: int
    end_ns: int
    now_ns: int


@dataclass(frozen=True, slots=True)
class SpoolFiles:
    """What lies in the spool of a process on this machine and is not known to be in Redis."""

    proxy_id: str
    records: int
    bytes: int
    waited_s: int
    damaged: int = 0
    """Files that hold damage."""
    unconfirmed: int = 0
    """Records that Redis took and the ledger does not confirm."""


@dataclass(frozen=True, slots=True)
class Place:
    """What this machine and its configuration say. `tenant` is the one that was asked about."""

    file: str
    warnings: tuple[str, ...] = ()
    data_dir: str = ""
    serving_pid: int | None = None
    settles: bool = True
    tenants: tuple[str, ...] = ()
    tenant: Tenant | None = None
    minted_keys: tuple[str, ...] = ()
    """Keys of that tenant which `serve` makes itself."""
    plans: Sequence[Plan] = ()
    assignments: Sequence[Assignment] = ()
    cost_version: str = ""
    sell_version: str = ""
    has_stripe: bool = False
    stripe_since_ns: int = 0
    customer: str | None = None
    """Stripe's id of the tenant that was asked about."""
    compared: tuple[str, ...] = ()
    """Providers with `reconcile`."""
    sinks: tuple[str, ...] = ()
    jobs: tuple[JobSettings, ...] = ()
    webhooks: tuple[str, ...] = ()
    prepaid: tuple[str, ...] = ()
    """Tenants that may spend no more than their credit; of those the one that was asked about."""
    spools: tuple[SpoolFiles, ...] = ()


@dataclass(frozen=True, slots=True)
class Reached:
    """A Redis that answered. `skew_ms` is its clock less ours, exact to `round_trip_ms` / 2."""

    address: str
    skew_ms: int
    round_trip_ms: int
    prefix: str
    shards: int
    meta: Mapping[str, str]
    """What the data says it was written with."""
    others: tuple[str, ...] = ()
    """Other prefixes that were seen there, looked for where this one has nothing."""
    without_epoch: tuple[int, ...] = ()
    without_balance: tuple[str, ...] = ()
    """Prepaid tenants of whom Redis does not say what they may spend."""


@dataclass(frozen=True, slots=True)
class ShardStream:
    """A shard's stream: entries kept, entries not settled, and since when (Unix ms of Redis)."""

    shard: int
    length: int
    waiting: int
    since_ms: int | None
    newest_ms: int
    dead: int = 0


@dataclass(frozen=True, slots=True)
class Streams:
    """The way from the proxies to the ledger, as Redis has it."""

    shards: tuple[ShardStream, ...]
    workers: Mapping[str, int]
    """By name, how long a worker has been silent, ms."""
    has_group: bool
    now_ms: int
    wanted_prices: Mapping[str, int] = field(default_factory=dict)
    """Price versions that waiting events name and Redis does not have: how many name it."""
    looked_at: int = 0
    """Of the waiting, how many were read."""
    of_tenant: int = 0
    """Of these, the tenant's that was asked about."""
    newest_of_tenant_ms: int | None = None
    spools: tuple[SpoolFiles, ...] = ()
    """As the proxies report them."""

    @property
    def waiting(self) -> int:
        """How many events the ledger does not have yet."""
        return sum(each.waiting for each in self.shards)

    @property
    def since_ms(self) -> int | None:
        """When the oldest of them came."""
        return min((each.since_ms for each in self.shards if each.since_ms), default=None)


@dataclass(frozen=True, slots=True)
class FlagUp:
    """Something of the tenant that is paused or killed; `scope` is empty for the tenant itself."""

    kind: str
    scope: str
    by: str
    why: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Book:
    """A ledger that could be read. `refuses` says why it takes no writes, empty when it does."""

    where: str
    revision: str
    head: str
    identity: str | None
    refuses: str
    events: int
    last_booked_ns: int | None


@dataclass(frozen=True, slots=True)
class Behind:
    """What the worker makes of the ledger later than the books themselves."""

    unrolled: int
    """Events that are not in the rollups."""
    unrolled_since_ns: int | None
    dead: int
    dead_since_ns: int | None
    dead_reason: str
    conflicts: int
    """In the month."""
    missing_prices: tuple[str, ...]
    """Price versions that booked events name and the ledger does not keep."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """What the newest events say of the clocks of workers and proxies beside that of Redis.

    `received_early_ms`: by how much one was booked before it was committed. `begun_late_ms`: by how
    much one began after it was committed; `begun_late` are so many. `in_future` events of all begin
    after now.
    """

    looked_at: int
    received_early_ms: int
    begun_late_ms: int
    begun_late: int
    begun_late_tenants: tuple[str, ...]
    in_future: int


@dataclass(frozen=True, slots=True)
class Undelivered:
    """Alerts that a sink has not taken."""

    sink: str
    alerts: int
    since_ns: int
    attempts: int


@dataclass(frozen=True, slots=True)
class StripeHours:
    """How the hours that Stripe should know stand: of the tenant, or of all."""

    waiting: int
    waiting_since_ns: int | None
    held: Mapping[str, int]
    """By reason."""
    differing: int
    taken: int
    unsent_tenants: tuple[str, ...] = ()
    """Tenants with billable usage in the month and without a customer at Stripe."""


@dataclass(frozen=True, slots=True)
class Compared:
    """The newest comparison with a provider."""

    provider: str
    number: int
    since: str
    until: str
    ran_at: int
    over: tuple[str, ...]
    gaps: Mapping[str, int]
    corrections: int
    applied: bool


@dataclass(frozen=True, slots=True)
class Late:
    """Events that came after their month was closed, and are on no statement yet."""

    tenant: str
    month: str
    events: int


@dataclass(frozen=True, slots=True)
class JobStanding:
    """How the newest run of a job stands; `through_ns` is up to when its times were planned."""

    through_ns: int | None = None
    """None: no worker has taken the job up."""
    scheduled_for: int | None = None
    """None: it has had no run."""
    state: str = ""
    attempts: int = 0
    waits: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Untold:
    """What an endpoint of `webhooks` has not taken."""

    endpoint: str
    waiting: int
    since_ns: int | None
    dead: int
    reason: str


@dataclass(frozen=True, slots=True)
class MoneyIn:
    """Payments that are no credit yet, and callbacks that nothing came of yet."""

    unassigned: int = 0
    in_review: int = 0
    callbacks_in_review: int = 0
    callbacks: int = 0
    callbacks_since_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Undrawn:
    """Events that grants were not drawn for yet, where there are grants."""

    events: int = 0
    since_ns: int | None = None


@dataclass(frozen=True, slots=True)
class TenantUsage:
    """What the ledger has of the tenant in the month, and around it."""

    events: int
    billable: int
    sell_nano: int
    free: Mapping[str, int]
    """Events that are billed to nobody, by the reason."""
    unpriced: Mapping[str, int]
    """Models with a unit that has no rate: how many events."""
    models: Mapping[str, int]
    keys: Mapping[str, int]
    first_ns: int | None
    """Of all time, when the first and the last began."""
    last_ns: int | None
    months: tuple[str, ...]
    """Other months, near this one, that have usage."""
    cost_version: str | None
    sell_version: str | None
    """Of the newest event."""


@dataclass(frozen=True, slots=True)
class Billed:
    """What the month comes to for the tenant. `body` is the statement, None without a plan."""

    total_nano: int
    closed_at: int | None
    sha256: str
    body: Mapping[str, Any] | None
    fault: str = ""
    """Why there is no statement although there is a plan."""


@dataclass(frozen=True, slots=True)
class Facts:
    """All that was gathered; what is only about a tenant is None where none was asked about."""

    asked: Asked
    place: Place
    redis: Reached | Unknown
    streams: Streams | Unknown
    book: Book | Unknown
    behind: Behind | Unknown
    clocks: Clocks | Unknown
    alerts: tuple[Undelivered, ...] | Unknown
    stripe: StripeHours | Unknown
    comparisons: tuple[Compared, ...] | Unknown
    late: tuple[Late, ...] | Unknown
    jobs: Mapping[str, JobStanding] | Unknown
    webhooks: tuple[Untold, ...] | Unknown
    payments: MoneyIn | Unknown
    credits: Undrawn | Unknown
    flags: tuple[FlagUp, ...] | Unknown | None = None
    usage: TenantUsage | Unknown | None = None
    billed: Billed | Unknown | None = None


def count_of(number: int, noun: str) -> str:
    """`1 event`, `2,000 events`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def age_of(seconds: float) -> str:
    """`40 s`, `12 min`, `3 h`, `5 d`."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"
