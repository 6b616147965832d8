"""What to do next about an hour of a meter that Stripe should know, and what an answer changes.

Pure. Rules:
- One request of a customer's meter is under way at a time, and what it says was stored before it
  was sent. Until it is known what became of it, it is sent again as it was: Stripe takes an
  identifier once, so neither a repeat nor a straggler changes anything.
- Stripe forgets identifiers after 24 hours. A request older than 23 is not sent again: Stripe's
  summary decides whether it was taken.
- What Stripe no longer takes (35 days) and what it refuses is held for a person, never tried for
  ever.
- The timestamp rises with `rev` within the hour, so that the newest request is the most recent one
  by its arrival and by its timestamp alike: Stripe does not say which of them counts.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from enum import StrEnum

from metering.stripe_settings import StripeMode

HOUR_NS = 3_600_000_000_000
DAY_NS = 24 * HOUR_NS
REPEAT_NS = 23 * HOUR_NS
"""How long an identifier can be repeated: an hour less than Stripe promises to know it."""

OLDEST_NS = 35 * DAY_NS - 2 * HOUR_NS
"""How far back an hour may begin: two hours less than Stripe takes, for clocks and retries."""

GRACE_NS = HOUR_NS
"""Summaries lag behind what was taken: a difference counts after so long only."""

RETRY_FIRST_NS, RETRY_MAX_NS = 1_000_000_000, 600_000_000_000
REPAIRS_MAX = 3
TOO_OLD, CANNOT_TELL, KEEPS_DIFFERING = "too_old", "cannot_tell", "keeps_differing"


class State(StrEnum):
    """Where an hour stands."""

    IDLE = "idle"
    SENDING = "sending"
    HELD = "held"


@dataclass(frozen=True, slots=True)
class Hour:
    """A row of `stripe_hour`."""

    tenant: str
    event_name: str
    hour: int
    customer: str
    mode: str
    wanted: int = 0
    acked: int = 0
    state: str = State.IDLE
    rev: int = 0
    value: int | None = None
    aim: int | None = None
    identifier: str | None = None
    first_sent_at: int | None = None
    tries: int = 0
    answers: int = 0
    next_at: int = 0
    reason: str | None = None
    acked_at: int | None = None
    verified_at: int | None = None
    seen: int | None = None
    repairs: int = 0

    @property
    def key(self) -> tuple[str, str, int]:
        """What names it."""
        return self.tenant, self.event_name, self.hour

    @property
    def timestamp_s(self) -> int:
        """The time of the request under way: inside the hour, later with each `rev`."""
        return self.hour // 1_000_000_000 + min(self.rev, 3_599)

    @property
    def idempotency_key(self) -> str:
        """The same as long as nobody answered; Stripe would repeat an answer under its old key."""
        return f"{self.identifier}.{self.answers}"


class Next(StrEnum):
    """What an hour waits for."""

    NOTHING = "nothing"
    FREEZE = "freeze"
    """Decide what to send, and store it."""
    SEND = "send"
    COMPARE = "compare"
    """Ask Stripe what it has, for nobody can know any more what became of the request."""
    HOLD = "hold"
    """Stripe takes nothing so old."""


class Became(StrEnum):
    """What became of a request."""

    TAKEN = "taken"
    """Stripe has it, from this request or one before."""
    LATER = "later"
    """Stripe did nothing and wants it again: it is asked too much."""
    UNKNOWN = "unknown"
    REFUSED = "refused"
    """Stripe will not take it, however often it is sent."""
    STOPPED = "stopped"
    """Stripe takes nothing from us at all, which is not this request's fault."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request; `code` is Stripe's word for it and `has_answered` False when
    nothing was heard."""

    became: Became
    code: str = ""
    has_answered: bool = True
    retry_after_s: float | None = None
    is_for_all: bool = False
    """Whether every other request has to wait as well."""


def next_step(hour: Hour, now_ns: int) -> Next:
    """What to do about an hour now."""
    if hour.state == State.HELD or now_ns < hour.next_at:
        return Next.NOTHING
    if hour.state == State.SENDING:
        assert hour.first_sent_at is not None, "stored with the request"
        can_repeat = now_ns - hour.first_sent_at < REPEAT_NS and not _is_too_old(hour, now_ns)
        return Next.SEND if can_repeat else Next.COMPARE
    if hour.wanted == hour.acked:
        return Next.NOTHING
    return Next.HOLD if _is_too_old(hour, now_ns) else Next.FREEZE


def _is_too_old(hour: Hour, now_ns: int) -> bool:
    return now_ns - hour.hour > OLDEST_NS


def freeze(hour: Hour, now_ns: int) -> Hour:
    """The next request of an idle hour: what it says from now on, whatever the ledger gets."""
    assert hour.state == State.IDLE, "one request at a time"
    rev = hour.rev + 1
    value = hour.wanted if hour.mode == StripeMode.HOURLY else hour.wanted - hour.acked
    return replace(
        hour,
        state=State.SENDING,
        rev=rev,
        value=value,
        aim=hour.wanted,
        identifier=identifier_of(hour, value=value, rev=rev),
        first_sent_at=now_ns,
        tries=0,
        answers=0,
        next_at=0,
        reason=None,
    )


def identifier_of(hour: Hour, *, value: int, rev: int) -> str:
    """By what Stripe knows a request again: the same for the same, and for any other another."""
    said = (hour.event_name, hour.customer, str(hour.hour), str(value), str(rev))
    return hashlib.sha256("|".join(said).encode()).hexdigest()[:40]


def answered(hour: Hour, answer: Answer, now_ns: int, *, jitter: float = 0.0) -> Hour:
    """The hour after an answer. `jitter` (0 to 1) lengthens what is waited by up to a half."""
    if answer.became is Became.TAKEN:
        return _taken(hour, now_ns)
    tried = replace(hour, tries=hour.tries + 1, answers=hour.answers + answer.has_answered)
    if answer.became is Became.REFUSED:
        return hold(tried, answer.code)
    wait_ns = min(RETRY_FIRST_NS * 2 ** min(hour.tries, 16), RETRY_MAX_NS)
    wait_ns += int(wait_ns * jitter / 2)
    if answer.retry_after_s is not None:
        wait_ns = max(wait_ns, int(answer.retry_after_s * 1_000_000_000))
    return replace(tried, next_at=now_ns + wait_ns)


def _taken(hour: Hour, now_ns: int) -> Hour:
    assert hour.aim is not None, "stored with the request"
    return replace(
        _at_rest(hour), acked=hour.aim, acked_at=now_ns, verified_at=None, seen=None, reason=None
    )


def _at_rest(hour: Hour) -> Hour:
    return replace(
        hour,
        state=State.IDLE,
        value=None,
        aim=None,
        identifier=None,
        first_sent_at=None,
        tries=0,
        answers=0,
        next_at=0,
    )


def hold(hour: Hour, reason: str) -> Hour:
    """Leave it to a person. A request under way stays noted: it may yet have been taken."""
    return replace(hour, state=State.HELD, reason=reason)


def release(hour: Hour) -> Hour:
    """Try again what was held: with the same request, if there was one."""
    if hour.state != State.HELD:
        return hour
    state = State.IDLE if hour.identifier is None else State.SENDING
    return replace(hour, state=state, reason=None, next_at=0, repairs=0)


def compared(hour: Hour, seen: int, now_ns: int) -> Hour:
    """The hour whose request is too old to be repeated, when Stripe has `seen` of it."""
    assert hour.state == State.SENDING, "only a request's fate can be unknown"
    if seen == hour.aim:
        return replace(_taken(hour, now_ns), seen=seen)
    if hour.mode == StripeMode.HOURLY or seen == hour.acked:
        return replace(_at_rest(hour), acked=seen, seen=seen)
    return replace(hold(hour, CANNOT_TELL), seen=seen)


def can_verify(hour: Hour, now_ns: int) -> bool:
    """Whether what Stripe's summary shows of it has to be what it was told."""
    return hour.state == State.IDLE and now_ns - (hour.acked_at or 0) >= GRACE_NS


def verified(hour: Hour, seen: int, now_ns: int, *, repair: bool) -> Hour:
    """The hour after a look at Stripe's summary.

    With `repair` a difference is sent again: of an hourly meter the total, of a raw one what lacks.
    """
    if seen == hour.acked:
        return replace(hour, verified_at=now_ns, seen=seen, repairs=0)
    if not repair:
        return replace(hour, verified_at=None, seen=seen)
    if hour.repairs >= REPAIRS_MAX:
        return replace(hold(hour, KEEPS_DIFFERING), verified_at=None, seen=seen)
    return replace(hour, acked=seen, verified_at=None, seen=seen, repairs=hour.repairs + 1)
