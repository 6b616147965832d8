"""From pure outcomes to what the client is told: cap denials and failed attempts.

Every number in a refusal is the tenant's own sell amount; what a provider charges never shows.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

from metering.caps import CapState, Denial, DenialReason, ScopeKind
from metering.money import format_short, format_usd
from proxy.errors import (
    ApiError,
    BacklogFull,
    BudgetBackendUnavailable,
    HeldByOthers,
    InternalError,
    RequestExceedsBudget,
    RunKilled,
    SpendExhausted,
    TenantPaused,
    UpstreamAuth,
    UpstreamFailed,
    UpstreamQuota,
    UpstreamTimeout,
    UsageNotRecorded,
)
from routing.fallback import Outcome

HELD_RETRY_AFTER_S = 1
"""Exchanges end all the time; a second later the room may be there."""

REBUILDING_RETRY_AFTER_S = 1

BACKLOG_RETRY_AFTER_S = 10
"""A worker that comes back settles thousands of events in a second; a person takes longer."""


def backend_unavailable() -> BudgetBackendUnavailable:
    """Redis did not answer in time, so nothing may be spent."""
    return BudgetBackendUnavailable(
        "Spend cannot be checked right now, so nothing was sent. Try again in a moment.",
        headers={"Retry-After": str(REBUILDING_RETRY_AFTER_S)},
    )


def backlog_full() -> BacklogFull:
    """More usage waits to be settled than `metering.backlog_high_water` allows."""
    return BacklogFull(
        "Usage waits to be settled and its backlog is full, so nothing was sent. "
        "Try again in a moment.",
        headers={"Retry-After": str(BACKLOG_RETRY_AFTER_S)},
    )


def memory_full() -> BacklogFull:
    """Redis has used nine tenths of its `maxmemory`, with whatever it may be."""
    return BacklogFull(
        "Redis has hardly any memory left to record usage in, so nothing was sent. "
        "Try again in a moment.",
        headers={"Retry-After": str(BACKLOG_RETRY_AFTER_S)},
    )


def not_recorded() -> UsageNotRecorded:
    """An answer that is withheld, because it could be neither billed nor put aside."""
    return UsageNotRecorded(
        "The upstream answered, but its usage could be recorded neither in Redis nor on disk, so "
        "the answer is withheld. The gateway's operator has to look after both."
    )


def denied(denial: Denial, tenant: str) -> ApiError:
    """The refusal for a denial; docs/http.md has the table."""
    match denial.reason:
        case DenialReason.REBUILDING:
            return BudgetBackendUnavailable(
                "Spend windows are being rebuilt from the ledger; nothing was sent. "
                "Try again in a moment.",
                headers={"Retry-After": str(REBUILDING_RETRY_AFTER_S)},
            )
        case DenialReason.PAUSED:
            return TenantPaused(f"Tenant `{tenant}` is paused; an administrator can resume it.")
        case DenialReason.KILLED:
            return RunKilled("This run was stopped; an administrator can allow it again.")
        case _:
            pass
    if denial.state is None:
        return InternalError("A cap refused without saying which.")
    return _over_cap(denial, denial.state, tenant)


def _over_cap(denial: Denial, state: CapState, tenant: str) -> ApiError:
    limit = state.cap.limit.nano or 0
    source = limit_source(state)
    scope = _scope_text(state, tenant)
    resets_at = None if state.reset_ms is None else rfc3339_ms(state.reset_ms)
    metadata = {
        "limit_source": source,
        "scope": scope,
        "window": f"rolling_{state.cap.window.label}",
        "limit_usd": format_usd(limit),
        "spent_usd": format_usd(state.spent.nano),
        "held_usd": format_usd(state.held.nano),
        "resets_at": resets_at,
        "remedy": _REMEDIES[denial.reason],
    }
    headers = {**cap_headers(state), "x-weir-limit-source": source}
    cap = f"the {state.cap.window.label} cap of ${format_short(limit)} for {scope}"
    spent = f"spent ${format_usd(state.spent.nano)}, held ${format_usd(state.held.nano)}"
    if denial.reason is DenialReason.NEVER:
        return RequestExceedsBudget(
            f"This request alone could cost more than {cap}.",
            param="max_tokens",
            metadata=metadata,
            headers=headers,
        )
    if denial.reason is DenialReason.HELD:
        return HeldByOthers(
            f"Requests in flight hold what is left of {cap} ({spent}). Try again in a moment.",
            metadata=metadata,
            headers={**headers, "Retry-After": str(HELD_RETRY_AFTER_S)},
        )
    frees = f" Room for this request frees up at {resets_at}." if resets_at else ""
    return SpendExhausted(
        f"This request does not fit under {cap} ({spent}).{frees}",
        metadata=metadata,
        headers=headers,
    )


_REMEDIES = {
    DenialReason.SPENT: "lower max_tokens, wait until resets_at, or ask for a higher cap",
    DenialReason.HELD: "try again when requests in flight have ended",
    DenialReason.NEVER: "lower max_tokens, shorten the prompt, or ask for a higher cap",
}


def limit_source(state: CapState) -> str:
    """A name for the cap that refused, for `limit_source`: `tenant_daily_cap`."""
    window = "daily" if state.cap.window.label == "24h" else state.cap.window.label
    return f"{state.cap.scope.kind}_{window}_cap"


def _scope_text(state: CapState, tenant: str) -> str:
    scope = state.cap.scope
    return f"tenant:{tenant}" if scope.kind is ScopeKind.TENANT else f"{scope.kind}:{scope.id}"


def cap_headers(state: CapState) -> dict[str, str]:
    """`x-weir-cap-*` for one cap; nothing for an unlimited one."""
    limit = state.cap.limit.nano
    if limit is None:
        return {}
    remaining = max(0, limit - state.spent.nano - state.held.nano)
    headers = {
        "x-weir-cap-limit-usd": format_usd(limit),
        "x-weir-cap-remaining-usd": format_usd(remaining),
    }
    if state.reset_ms is not None:
        headers["x-weir-cap-reset"] = rfc3339_ms(state.reset_ms)
    return headers


@lru_cache(maxsize=256)
def rfc3339_ms(unix_ms: int) -> str:
    """Unix milliseconds as RFC 3339 in UTC, to the second, rounded up."""
    return datetime.fromtimestamp(-(-unix_ms // 1000), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def failed(outcome: Outcome, *, upstream: str) -> ApiError:
    """What the client is told when every upstream failed without an answer worth relaying."""
    match outcome:
        case Outcome.AUTH:
            return UpstreamAuth(
                f"The upstream {upstream} refused the gateway's credentials; "
                "its operator has to check `providers.*.api_key`."
            )
        case Outcome.QUOTA:
            return UpstreamQuota(f"The gateway's account at {upstream} is out of quota.")
        case Outcome.TIMEOUT:
            return UpstreamTimeout(f"The upstream {upstream} did not answer in time.")
        case Outcome.UNREACHABLE:
            return UpstreamFailed(f"The upstream {upstream} could not be reached.")
        case _:
            return UpstreamFailed(
                f"The upstream {upstream} broke off or sent what is not a valid answer."
            )


def broken_off(*, upstream: str, bound: str | None = None) -> ApiError:
    """What a client is told in-band when a stream broke after it had seen bytes.

    `bound` is the key of `providers.*` by which we ended it ourselves.
    """
    if bound is not None:
        return UpstreamFailed(
            f"The stream of the upstream {upstream} went past `providers.*.{bound}` and was ended."
        )
    return UpstreamFailed(f"The upstream {upstream} broke off in mid-stream.")
