"""Caps and holds: the values that go into admission and come out of it.

A cap bounds one scope in one window, as a vector of money, tokens and requests. An exchange holds
an estimate in every scope or in none (reserve), may move to a dearer upstream (swap), and ends by
having the hold replaced by the true amounts while its events are appended (commit), or by giving
the hold back (release). These values are what `redis_caps` sends and what Lua answers; the rule of
the window itself is `metering.window`, the specification that the scripts are tested against.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Vector:
    """What is held or spent: nano-USD (sell price), tokens, requests."""

    nano: int = 0
    tokens: int = 0
    requests: int = 0


@dataclass(frozen=True, slots=True)
class Limit:
    """The bound of each dimension; None leaves it unbounded (it is still counted)."""

    nano: int | None = None
    tokens: int | None = None
    requests: int | None = None
    concurrent: int | None = None
    """Exchanges that may hold room in the scope at once; no matter of the window."""


@dataclass(frozen=True, slots=True)
class Window:
    """A sliding window of `buckets` full buckets plus the current one; the oldest counts whole.

    One of an hour or less is a rate: its requests count when they begin, all else (and in longer
    windows the requests, too) when the exchange ends; until then it is held.
    """

    label: str
    bucket_ms: int
    buckets: int


class CalendarUnit(StrEnum):
    """The periods of a calendar window; a week begins on Monday."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class CalendarWindow:
    """What was spent since the current day, week or month began in a time zone (IANA name).

    `label` is the unit: one scope has at most one calendar window of a unit.
    """

    unit: CalendarUnit
    zone: str

    @property
    def label(self) -> str:
        """Its name among the windows of its scope."""
        return self.unit.value


AnyWindow = Window | CalendarWindow


ROLLING_DAY = Window(label="24h", bucket_ms=300_000, buckets=288)
"""24 hours in five-minute buckets: never over the cap, and within 0.11 % of exact admission."""


BALANCE = Window(label="balance", bucket_ms=10**14, buckets=1)
"""What a tenant has spent ever, against what it was ever credited: its bucket outlasts us all."""


class ScopeKind(StrEnum):
    """What a cap stands over. Each is within its tenant."""

    TENANT = "tenant"
    PROJECT = "project"
    KEY = "key"
    FEATURE = "feature"
    USER = "user"
    SESSION = "session"
    RUN = "run"


@dataclass(frozen=True, slots=True)
class Scope:
    """One thing that spends; `id` is empty for the tenant itself."""

    kind: ScopeKind
    id: str = ""


class CapMode(StrEnum):
    """What a cap does once it is reached."""

    ENFORCE = "enforce"
    """Refuses (a hard limit)."""
    ALERT = "alert"
    """Refuses nobody; what crosses its marks is told (a soft limit)."""
    SHADOW = "shadow"
    """Refuses nobody; says what it would have refused."""


@dataclass(frozen=True, slots=True)
class Cap:
    """A limit over one scope in one window.

    `marks_ppm` are shares of its money limit that are told once each time spend crosses them.
    """

    scope: Scope
    window: AnyWindow
    limit: Limit
    mode: CapMode = CapMode.ENFORCE
    marks_ppm: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Elastic:
    """The output of a hold may shrink to what is left, but not below `tokens_min`.

    Then the hold is `base` and as many output tokens as fit under every enforced cap, each of
    `rate_pico` (rounded up as a sum). `Candidate.vector` is the hold with all it asks for.
    """

    base: Vector
    rate_pico: int
    tokens_min: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """One upstream an exchange could be admitted to, with what it would hold there.

    `stage` is the degradation stage it belongs to (0: none): it is passed over while a higher one
    is in force. First each candidate is tried as it is, then, in the same order, shrunk.
    """

    upstream: str
    vector: Vector
    stage: int = 0
    elastic: Elastic | None = None
    facts: bytes = b""
    """For a swap to an upstream that the facts of its reserve do not name: takes their place."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A degradation stage: in force from `enter_ppm` of any enforced money cap on (spent + held,
    before this request), until all are under `leave_ppm`."""

    enter_ppm: int
    leave_ppm: int


@dataclass(frozen=True, slots=True)
class Stairs:
    """The stages 1, 2, ... near a cap, lowest first. Redis remembers per tenant, under `name`,
    which is in force and since when, where a stage can outlive the share that it began with.

    A stage that was entered lasts for `dwell_ms`. A tenant's `stage_min` flag is a floor under it.
    With `is_shadow` no candidate is passed over; the answer says which stage it would have been.
    """

    name: str
    stages: tuple[Stage, ...]
    dwell_ms: int = 0
    is_shadow: bool = False


@dataclass(frozen=True, slots=True)
class CapState:
    """One cap as the script saw it: amounts in the window, in nano-USD, tokens and requests."""

    cap: Cap
    spent: Vector
    held: Vector
    now_ms: int
    reset_ms: int | None = None
    """When room frees next (remaining-headers) or when the request would fit (denials), Unix ms."""


class AdmittedBy(StrEnum):
    """On whose word an exchange was admitted."""

    CAPS = "caps"
    """Its estimate was held under every cap."""
    LOCAL = "local"
    """Redis was away: out of this process' share of what was left when it answered last."""
    OPEN = "open"
    """Redis was away, and nothing was checked."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """Room was held: `index` is the candidate that was admitted, in the order they were given.

    `repeat` says that this exchange already held (the first answer is given again).
    `states` has one entry per cap, in the order asked, after the hold.
    """

    exchange_id: str
    index: int
    states: tuple[CapState, ...]
    stage: int = 0
    """The stage in force (what it would be, of stairs in shadow)."""
    vector: Vector | None = None
    """What is held where that is less than the candidate asked for: its elastic part shrank."""
    shadowed: tuple[int, ...] = ()
    """Caps in shadow, by their place, that would have refused this."""
    repeat: bool = False
    admitted_by: AdmittedBy = AdmittedBy.CAPS


class DenialReason(StrEnum):
    """Why no candidate fitted."""

    SPENT = "spent"
    """What is spent leaves too little room, holds aside: wait for the window."""
    HELD = "held"
    """It would fit but for the holds of exchanges in flight: try again soon."""
    NEVER = "never"
    """The request is larger than the whole cap."""
    PAUSED = "paused"
    """The tenant, or a scope of this exchange, is paused."""
    KILLED = "killed"
    """The tenant, or a scope of this exchange (its run, session, key), was stopped."""
    REBUILDING = "rebuilding"
    """Redis is empty or new and its windows are being rebuilt from the ledger."""


@dataclass(frozen=True, slots=True)
class Denial:
    """Nothing was held. `state` and `dimension` name the cap that refused the cheapest one,
    `scope` the one whose flag stands in the way (None: the tenant's own), `stage` the degradation
    stage in force."""

    reason: DenialReason
    state: CapState | None = None
    dimension: str = "nano"
    scope: Scope | None = None
    stage: int = 0


@dataclass(frozen=True, slots=True)
class Looked:
    """What a reserve would have answered, and every cap as it stands, in the order asked (none
    while they are rebuilt). Nothing was held."""

    answer: Reservation | Denial
    states: tuple[CapState, ...] = ()


class CommitResult(StrEnum):
    """What a commit did."""

    COMMITTED = "committed"
    REPEAT = "repeat"
    """This exchange was committed before; nothing was added."""
    LATE = "late"
    """The hold had lapsed; the true amounts were added all the same."""
    CORRECTED = "corrected"
    """The exchange had been recovered: what was recovered is taken back, the true amounts count."""


@dataclass(frozen=True, slots=True)
class Commit:
    """The answer to a commit; `states` as in a reservation (empty on a repeat)."""

    result: CommitResult
    states: tuple[CapState, ...] = ()


class CapsUnavailableError(Exception):
    """Redis did not answer in time, refused, or cannot be reached; what it did is unknown."""

    @property
    def is_its_own(self) -> bool:
        """Whether this is about what was asked for (one tenant's broken key), not about Redis."""
        return False


class CapsNotAskedError(CapsUnavailableError):
    """Nothing was sent, so nothing was done: there is nothing to give back."""


class WindowsRebuildingError(CapsUnavailableError):
    """Redis answers, but does not know yet what is spent: what is to be held has to wait."""


class HoldEndedError(Exception):
    """The exchange has no hold to work on: it was never held, was committed, released or lapsed."""


@dataclass(frozen=True, slots=True)
class Hold:
    """What an exchange needs to be found again: who holds, under which caps.

    `stops` are all scopes it runs in but the tenant's, capped or not: those that can be paused or
    killed.
    """

    tenant: str
    exchange_id: str
    caps: tuple[Cap, ...]
    stops: tuple[Scope, ...] = ()


@dataclass(frozen=True, slots=True)
class Renewal:
    """`is_held` is False when the hold is gone; `stop` says that a flag stands in the way now, and
    `scope` whose (None: the tenant's)."""

    is_held: bool
    stop: DenialReason | None = None
    scope: Scope | None = None


class Caps(Protocol):
    """Admission and settlement of holds; Redis in production, memory in tests, one contract suite.

    Every method is idempotent on the exchange id and raises CapsUnavailableError when the store
    cannot be asked within its time limit (what it did is then unknown). Released is an end: reserve
    and swap raise HoldEndedError on an exchange that has ended, commit still takes what was used.
    So is recovered: the process was taken for dead and its usage recorded from the hold's record; a
    commit or release that comes later reverses that record.
    ValueError means that we were asked nonsense: an amount outside 0 .. 2^53-1, a malformed id.
    """

    async def reserve(
        self,
        hold: Hold,
        candidates: Sequence[Candidate],
        *,
        owner: str,
        ttl_ms: int,
        facts: bytes = b"",
        stairs: Stairs | None = None,
        runs: bool = False,
    ) -> Reservation | Denial:
        """Hold the first candidate that fits in every cap, or nothing.

        `runs` says that the exchange is under way and its hold was lost: the first candidate is
        held whatever the caps say, also while windows are being rebuilt, so that it counts and can
        be recovered. Only a flag stands in its way.
        `facts` is kept beside the hold for whoever has to recover it (`metering.recovery`).
        """
        ...

    async def look(
        self, hold: Hold, candidates: Sequence[Candidate], *, stairs: Stairs | None = None
    ) -> Looked:
        """What `reserve` would answer, with nothing held and nothing changed.

        Nothing is known of an outage: it is raised.
        """
        ...

    async def swap(self, hold: Hold, candidate: Candidate) -> Reservation | Denial:
        """Replace what is held by this candidate's vector, in every cap or in none.

        So a hold moves to a dearer upstream, and grows by a slice in mid-stream. Its stage is not
        looked at; paused and killed are. Facts of the candidate's replace those of the reserve.
        """
        ...

    async def commit(self, hold: Hold, actual: Vector, events: Sequence[bytes]) -> Commit:
        """End the hold, add the true amounts, append the events: one atomic step."""
        ...

    async def release(self, hold: Hold) -> None:
        """Give the hold back; no events. Unknown or ended holds are left alone."""
        ...

    async def renew(self, hold: Hold, *, ttl_ms: int, checkpoint: bytes | None = None) -> Renewal:
        """Push the expiry out, and look whether somebody has paused or killed it.

        `checkpoint` (`metering.recovery`) replaces what was noted before; None leaves it.
        """
        ...
