"""What a client is told when caps or flags refuse, and what the stock SDK makes of it."""

from __future__ import annotations

import orjson
import pytest
from fixtures_door import KEY, OpenDoor, RunningDoor, settings, tenant
from fixtures_upstream import ScriptedUpstream, completion
from openai import AsyncOpenAI, PermissionDeniedError, RateLimitError

from metering.caps import (
    ROLLING_DAY,
    AnyWindow,
    CalendarUnit,
    CalendarWindow,
    Cap,
    CapState,
    Denial,
    DenialReason,
    Limit,
    Reservation,
    Scope,
    ScopeKind,
    Vector,
)
from metering.memory_caps import MemoryCaps
from metering.window import is_rate, rolling
from proxy.refusals import denied, failed
from routing.fallback import Outcome

MINUTE, MONTH = rolling(60), CalendarWindow(CalendarUnit.MONTH, "Europe/Paris")
TENANT, RUN, USER = Scope(ScopeKind.TENANT), Scope(ScopeKind.RUN, "r1"), Scope(ScopeKind.USER, "al")


def denial(
    reason: DenialReason,
    scope: Scope,
    window: AnyWindow,
    limit: Limit,
    dimension: str = "nano",
    *,
    waits_ms: int | None = 1_500,
) -> Denial:
    now_ms = 1_000_000
    reset_ms = None if waits_ms is None else now_ms + waits_ms
    state = CapState(
        Cap(scope, window, limit),
        Vector(1, 2, 3),
        Vector(4, 5, 0 if is_rate(window) else 6),
        now_ms,
        reset_ms,
    )
    return Denial(reason, state, dimension)


SPENT, HELD, NEVER = DenialReason.SPENT, DenialReason.HELD, DenialReason.NEVER
USD = Limit(nano=10**9)

TOLD = {
    "spent day": (
        denial(SPENT, TENANT, ROLLING_DAY, USD),
        (429, "insufficient_quota", "false", None, None),
        (
            "This request does not fit under the 24h cap of $1.00 for tenant:acme (spent "
            "$0.000000, held $0.000000). Room for this request frees up at 1970-01-01T00:16:42Z."
        ),
    ),
    "spent month": (
        denial(SPENT, USER, MONTH, USD, waits_ms=None),
        (429, "insufficient_quota", "false", None, None),
        (
            "This request does not fit under the cap of $1.00 per calendar month (Europe/Paris) "
            "for user:al (spent $0.000000, held $0.000000)."
        ),
    ),
    "steps of a run": (
        denial(SPENT, RUN, ROLLING_DAY, Limit(requests=3), "requests"),
        (429, "insufficient_quota", "false", None, None),
        (
            "This request does not fit under the 24h cap of 3 steps for run:r1 (spent 3, held 6). "
            "Room for this request frees up at 1970-01-01T00:16:42Z."
        ),
    ),
    "requests a minute": (
        denial(SPENT, TENANT, MINUTE, Limit(requests=3), "requests"),
        (429, "rate_limit_exceeded", None, "2", "1500"),
        (
            "This request does not fit under the 1m cap of 3 requests for tenant:acme (spent 3, "
            "held 0). Room for this request frees up at 1970-01-01T00:16:42Z."
        ),
    ),
    "money a minute": (
        denial(SPENT, TENANT, MINUTE, USD, waits_ms=60_000),
        (429, "rate_limit_exceeded", None, "60", "60000"),
        (
            "This request does not fit under the 1m cap of $1.00 for tenant:acme (spent $0.000000, "
            "held $0.000000). Room for this request frees up at 1970-01-01T00:17:40Z."
        ),
    ),
    "a moment that has just passed": (
        denial(SPENT, TENANT, MINUTE, Limit(tokens=3), "tokens", waits_ms=-5),
        (429, "rate_limit_exceeded", None, "1", "1"),
        (
            "This request does not fit under the 1m cap of 3 tokens for tenant:acme (spent 2, held "
            "5). Room for this request frees up at 1970-01-01T00:16:40Z."
        ),
    ),
    "held by others": (
        denial(HELD, TENANT, ROLLING_DAY, USD, waits_ms=None),
        (429, "rate_limit_exceeded", None, "1", None),
        (
            "Requests in flight hold what is left of the 24h cap of $1.00 for tenant:acme (spent "
            "$0.000000, held $0.000000). Try again in a moment."
        ),
    ),
    "too many at once": (
        denial(HELD, RUN, ROLLING_DAY, Limit(concurrent=2), "concurrent", waits_ms=None),
        (429, "rate_limit_exceeded", None, "1", None),
        (
            "As many requests as the cap of 2 requests at once for run:r1 allows are in flight. "
            "Try again in a moment."
        ),
    ),
    "never, by money": (
        denial(NEVER, RUN, ROLLING_DAY, USD, waits_ms=None),
        (400, "request_exceeds_budget", None, None, None),
        "This request alone could cost more than the 24h cap of $1.00 for run:r1.",
    ),
    "never, by tokens": (
        denial(NEVER, RUN, MINUTE, Limit(tokens=7), "tokens", waits_ms=None),
        (400, "request_exceeds_budget", None, None, None),
        "This request alone could take more than the 1m cap of 7 tokens for run:r1.",
    ),
    "tenant paused": (
        Denial(DenialReason.PAUSED),
        (403, "tenant_paused", "false", None, None),
        "The tenant `acme` is paused; an administrator can resume it.",
    ),
    "key paused": (
        Denial(DenialReason.PAUSED, scope=Scope(ScopeKind.KEY, "k1")),
        (403, "key_paused", "false", None, None),
        "The key `k1` is paused; an administrator can resume it.",
    ),
    "run killed": (
        Denial(DenialReason.KILLED, scope=RUN),
        (403, "run_killed", "false", None, None),
        "The run `r1` was stopped; an administrator can allow it again.",
    ),
    "tenant killed": (
        Denial(DenialReason.KILLED),
        (403, "tenant_killed", "false", None, None),
        "The tenant `acme` was stopped; an administrator can allow it again.",
    ),
    "rebuilding": (
        Denial(DenialReason.REBUILDING),
        (503, "budget_backend_unavailable", "true", "1", None),
        (
            "Spend windows are being rebuilt from the ledger; nothing was sent. Try again in a "
            "moment."
        ),
    ),
}


@pytest.mark.parametrize(("what", "told", "message"), TOLD.values(), ids=TOLD)
def test_what_is_told(what: Denial, told: tuple[object, ...], message: str) -> None:
    """Status, code and what to do about waiting fit what stands in the way."""
    error = denied(what, "acme")

    headers, body = error.headers(), orjson.loads(error.body())["error"]
    retry = ("x-should-retry", "Retry-After", "retry-after-ms")
    assert (error.status, body["code"], *map(headers.get, retry)) == told
    assert body["message"] == message


class RefusingCaps(MemoryCaps):
    """Caps that refuse everything for one reason, and count how often they were asked."""

    def __init__(self, answer: Denial) -> None:
        super().__init__()
        self.answer = answer
        self.asked = 0

    async def reserve(self, *_args: object, **_options: object) -> Reservation | Denial:
        self.asked += 1
        return self.answer


async def refusing(open_door: OpenDoor, answer: Denial) -> tuple[RunningDoor, RefusingCaps]:
    caps = RefusingCaps(answer)
    return await open_door(settings({"one": "http://127.0.0.1:9/v1"}), caps), caps


HI = [{"role": "user", "content": "hi"}]


async def test_the_sdk_does_not_retry_a_spent_cap(open_door: OpenDoor) -> None:
    """A spent cap is a RateLimitError that the stock SDK raises at once."""
    door, caps = await refusing(open_door, denial(SPENT, TENANT, ROLLING_DAY, USD))

    async with AsyncOpenAI(base_url=f"{door.url}/v1", api_key=KEY, max_retries=2) as client:
        with pytest.raises(RateLimitError) as raised:
            await client.chat.completions.create(model="m", messages=HI)  # type: ignore[arg-type]

    assert (raised.value.code, raised.value.type) == ("insufficient_quota", "insufficient_quota")
    assert caps.asked == 1
    assert raised.value.body["metadata"]["limit_source"] == "tenant_daily_cap"  # type: ignore[index]


async def test_the_sdk_waits_for_a_rate(open_door: OpenDoor) -> None:
    """A rate is a RateLimitError that the stock SDK tries again after the time it was told."""
    answer = denial(SPENT, TENANT, MINUTE, Limit(requests=3), "requests", waits_ms=20)
    door, caps = await refusing(open_door, answer)

    async with AsyncOpenAI(base_url=f"{door.url}/v1", api_key=KEY, max_retries=2) as client:
        with pytest.raises(RateLimitError) as raised:
            await client.chat.completions.create(model="m", messages=HI)  # type: ignore[arg-type]

    assert raised.value.code == "rate_limit_exceeded"
    assert caps.asked == 3
    headers = raised.value.response.headers
    assert headers["x-ratelimit-limit-requests"] == "3"
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert headers["x-ratelimit-reset-requests"] == "20ms"
    assert headers["x-weir-limit-source"] == "tenant_1m_requests"


async def test_the_sdk_gives_up_on_a_killed_run(open_door: OpenDoor) -> None:
    """A run that was stopped is a PermissionDeniedError, at once."""
    door, caps = await refusing(open_door, Denial(DenialReason.KILLED, scope=RUN))

    async with AsyncOpenAI(base_url=f"{door.url}/v1", api_key=KEY, max_retries=2) as client:
        with pytest.raises(PermissionDeniedError) as raised:
            await client.chat.completions.create(model="m", messages=HI)  # type: ignore[arg-type]

    assert (raised.value.code, caps.asked) == ("run_killed", 1)
    assert raised.value.body["metadata"] == {"scope": "run:r1"}  # type: ignore[index]


async def test_refusals_are_counted(open_door: OpenDoor) -> None:
    """Metrics say the kind of scope and window and what ran out, and no id."""
    door, _ = await refusing(open_door, denial(SPENT, RUN, MONTH, Limit(requests=3), "requests"))

    await door.chat()

    counters = door.door.metrics.metrics.counters
    assert counters["weir_cap_denials_total", "run", "month", "steps"] == 1


async def test_a_shadow_cap_is_counted_and_refuses_nobody(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """What a cap in shadow would have refused is served, and counted."""

    class ShadowCaps(MemoryCaps):
        """Admits, and says that the first cap would not have."""

        async def reserve(self, *args: object, **options: object) -> Reservation | Denial:
            answer = await super().reserve(*args, **options)  # type: ignore[arg-type]
            assert isinstance(answer, Reservation)
            return Reservation(answer.exchange_id, answer.index, answer.states, shadowed=(0,))

    upstream.scripts = [[completion("hello")]]
    door = await open_door(settings({"one": upstream.url}, who=tenant()), ShadowCaps())

    answer = await door.chat()

    counters = door.door.metrics.metrics.counters
    assert answer.status == 200
    assert counters["weir_cap_shadow_denials_total", "tenant", "rolling"] == 1


def test_a_failure_is_told_in_the_word_of_its_upstream() -> None:
    """Where it has one; its message stays out, for it may hold what was said."""
    error = failed(Outcome.NONSENSE, upstream="google", word="malformed_function_call")

    assert "google failed to make an answer (malformed_function_call)" in str(error)
