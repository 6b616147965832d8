"""How caps are told to a client: in words, in metadata, and in headers. Pure.

Every number is the tenant's own sell amount; what a provider charges never shows.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache

from metering import scope_names
from metering.caps import (
    BALANCE,
    AnyWindow,
    CalendarWindow,
    CapMode,
    CapState,
    Denial,
    ScopeKind,
    Vector,
)
from metering.money import format_short, format_usd
from metering.window import is_rate

MARGIN = "margin."
"""The label of a window begins so that counts requests served under the margin threshold."""

_STEPPED = (ScopeKind.SESSION, ScopeKind.RUN)


def window_kind(window: AnyWindow) -> str:
    """The window among few: `rate`, `rolling`, `day`, `week`, `month`."""
    if isinstance(window, CalendarWindow):
        return window.unit
    return "rate" if is_rate(window) else "rolling"


def dimension_of(denial: Denial) -> str:
    """What ran out, as it is called outside: usd, tokens, requests, steps or concurrent."""
    if denial.dimension == "nano":
        return "usd"
    if denial.dimension == "requests" and denial.state is not None:
        return "steps" if denial.state.cap.scope.kind in _STEPPED else "requests"
    return denial.dimension


def is_margin(state: CapState) -> bool:
    """Whether it is no cap of anybody's, but what throttles requests that cost too much."""
    return state.cap.window.label.startswith(MARGIN)


def limit_source(state: CapState, dimension: str = "usd") -> str:
    """A name for the cap that refused: `tenant_daily_cap`, `key_1m_requests`, `run_daily_steps`."""
    kind, window = state.cap.scope.kind, state.cap.window
    if window == BALANCE:
        return "prepaid_balance"
    if dimension == "concurrent":
        return f"{kind}_concurrent"
    label = "daily" if window.label == "24h" else window.label
    return f"{kind}_{label}_{'cap' if dimension == 'usd' else dimension}"


def scope_text(state: CapState, tenant: str) -> str:
    """The scope as `kind:id`."""
    return scope_names.scope_text(state.cap.scope, tenant)


def window_text(window: AnyWindow) -> str:
    """The window in one word: `rolling_24h`, `calendar_month`."""
    if window == BALANCE:
        return "prepaid_balance"
    kind = "calendar" if isinstance(window, CalendarWindow) else "rolling"
    return f"{kind}_{window.label}"


def cap_text(state: CapState, dimension: str, scope: str) -> str:
    """The cap in words: `the 24h cap of $5.00 for tenant:demo`."""
    window = state.cap.window
    if window == BALANCE:
        return f"the prepaid balance of {scope}"
    amount = _amount_text(limit_of(state, dimension), dimension)
    if dimension == "concurrent":
        return f"the cap of {amount} at once for {scope}"
    if isinstance(window, CalendarWindow):
        return f"the cap of {amount} per calendar {window.unit} ({window.zone}) for {scope}"
    return f"the {window.label} cap of {amount} for {scope}"


def use_text(state: CapState, dimension: str) -> str:
    """What is used up of it, in words; nothing for concurrency, whose use is its holds."""
    if dimension == "concurrent":
        return ""
    spent, held = used(state, dimension)
    if state.cap.window == BALANCE:
        return f" (left {_plain(balance_nano(state), dimension)}, held {_plain(held, dimension)})"
    return f" (spent {_plain(spent, dimension)}, held {_plain(held, dimension)})"


def _amount_text(amount: int, dimension: str) -> str:
    if dimension == "usd":
        return f"${format_short(amount)}"
    return f"{amount} {'requests' if dimension == 'concurrent' else dimension}"


def _plain(amount: int, dimension: str) -> str:
    return f"${format_usd(amount)}" if dimension == "usd" else str(amount)


def limit_of(state: CapState, dimension: str) -> int:
    """The bound of one dimension, in its own unit (nano-USD for usd); 0 when there is none."""
    limit = state.cap.limit
    found = {
        "usd": limit.nano,
        "tokens": limit.tokens,
        "requests": limit.requests,
        "steps": limit.requests,
        "concurrent": limit.concurrent,
    }
    return found[dimension] or 0


def used(state: CapState, dimension: str) -> tuple[int, int]:
    """What is spent and what is held. The requests of a rate count when they begin: they are spent
    and not held."""
    return _in(state.spent, dimension), _in(state.held, dimension)


def _in(vector: Vector, dimension: str) -> int:
    if dimension == "usd":
        return vector.nano
    return vector.tokens if dimension == "tokens" else vector.requests


def metadata_of(state: CapState, dimension: str, *, tenant: str, remedy: str) -> dict[str, object]:
    """What a refusal by a cap says to programs."""
    spent, held = used(state, dimension)
    limit = limit_of(state, dimension)
    found: dict[str, object] = {
        "limit_source": limit_source(state, dimension),
        "scope": scope_text(state, tenant),
        "window": window_text(state.cap.window),
        "dimension": dimension,
    }
    if isinstance(state.cap.window, CalendarWindow):
        found["timezone"] = state.cap.window.zone
    if state.cap.window == BALANCE:
        found |= {"balance_usd": format_usd(balance_nano(state)), "held_usd": format_usd(held)}
    elif dimension == "usd":
        found |= {
            "limit_usd": format_usd(limit),
            "spent_usd": format_usd(spent),
            "held_usd": format_usd(held),
        }
    elif dimension == "concurrent":
        found["limit"] = limit
    else:
        found |= {"limit": limit, "spent": spent, "held": held}
    found["resets_at"] = resets_at(state)
    found["remedy"] = remedy
    return found


def limit_headers(states: Iterable[CapState]) -> dict[str, str]:
    """`x-weir-cap-*` of the enforced money cap with the least left, and `x-ratelimit-*` of the
    enforced rates with the least left; nothing of what there is no cap for."""
    money: tuple[int, CapState] | None = None
    requests: tuple[int, CapState] | None = None
    tokens: tuple[int, CapState] | None = None
    for state in states:
        cap = state.cap
        limit = cap.limit
        if cap.mode is not CapMode.ENFORCE:
            continue
        if limit.nano is not None:
            left = limit.nano - state.spent.nano - state.held.nano
            money = (left, state) if money is None or left < money[0] else money
        if (limit.requests is None and limit.tokens is None) or not is_rate(cap.window):
            continue
        if limit.requests is not None:
            left = limit.requests - state.spent.requests
            requests = (left, state) if requests is None or left < requests[0] else requests
        if limit.tokens is not None:
            left = limit.tokens - state.spent.tokens - state.held.tokens
            tokens = (left, state) if tokens is None or left < tokens[0] else tokens
    found = {} if money is None else cap_headers(money[1])
    if requests is not None:
        found |= _rate_headers(*requests, "requests")
    if tokens is not None:
        found |= _rate_headers(*tokens, "tokens")
    return found


def cap_headers(state: CapState) -> dict[str, str]:
    """`x-weir-cap-*` for one cap; nothing for an unlimited one."""
    limit = state.cap.limit.nano
    if limit is None:
        return {}
    remaining = max(0, limit - state.spent.nano - state.held.nano)
    headers = {
        "x-weir-cap-limit-usd": _limit_usd(
            limit if state.cap.window != BALANCE else balance_nano(state)
        ),
        "x-weir-cap-remaining-usd": format_usd(remaining),
    }
    if (reset := resets_at(state)) is not None:
        headers["x-weir-cap-reset"] = reset
    return headers


def resets_at(state: CapState) -> str | None:
    """When room frees next; never by itself of a balance."""
    if state.reset_ms is None or state.cap.window == BALANCE:
        return None
    return rfc3339_ms(state.reset_ms)


def balance_nano(state: CapState) -> int:
    """What is left of a prepaid balance, what is held of it included."""
    return max(0, (state.cap.limit.nano or 0) - state.spent.nano)


def no_credit_text(state: CapState) -> str:
    """The refusal of a request that a prepaid balance does not cover."""
    left, held = format_usd(balance_nano(state)), format_usd(state.held.nano)
    return (
        f"This request costs more than what is left of the prepaid balance (left ${left}, of it "
        f"held ${held}). Add credit to go on."
    )


_limit_usd = lru_cache(maxsize=1024)(format_usd)


def _rate_headers(remaining: int, state: CapState, dimension: str) -> dict[str, str]:
    waits_ms = 0 if state.reset_ms is None else max(0, state.reset_ms - state.now_ms)
    return {
        f"x-ratelimit-limit-{dimension}": str(limit_of(state, dimension)),
        f"x-ratelimit-remaining-{dimension}": str(max(0, remaining)),
        f"x-ratelimit-reset-{dimension}": duration_text(waits_ms),
    }


def duration_text(duration_ms: int) -> str:
    """A duration as OpenAI (and Go) writes it: `6m0s`, `28.7s`, `120ms`, `0s`."""
    if duration_ms < 1_000:
        return f"{duration_ms}ms" if duration_ms else "0s"
    minutes, rest_ms = divmod(duration_ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    seconds, part_ms = divmod(rest_ms, 1_000)
    part = f".{part_ms:03d}".rstrip("0") if part_ms else ""
    head = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{head}{seconds}{part}s"


@lru_cache(maxsize=256)
def rfc3339_ms(unix_ms: int) -> str:
    """Unix milliseconds as RFC 3339 in UTC, to the second, rounded up."""
    return datetime.fromtimestamp(-(-unix_ms // 1000), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
