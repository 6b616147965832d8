"""From pure outcomes to what the client is told: cap denials and failed attempts.

Every number in a refusal is the tenant's own sell amount; what a provider charges never shows.
"""

from __future__ import annotations

from metering.caps import BALANCE, CapState, Denial, DenialReason, Scope, ScopeKind, Window
from metering.window import is_rate
from proxy.errors import (
    ApiError,
    BacklogFull,
    BudgetBackendUnavailable,
    InternalError,
    RateLimited,
    RequestExceedsBudget,
    ScopeKilled,
    ScopePaused,
    SpendExhausted,
    UpstreamAuth,
    UpstreamFailed,
    UpstreamQuota,
    UpstreamTimeout,
    UsageNotRecorded,
)
from proxy.limit_words import (
    cap_text,
    dimension_of,
    is_margin,
    limit_headers,
    limit_source,
    metadata_of,
    no_credit_text,
    rfc3339_ms,
    scope_text,
    use_text,
)
from proxy.stream_errors import Break
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


def balance_unknown() -> BudgetBackendUnavailable:
    """Nobody has told yet how much credit a prepaid tenant has."""
    return BudgetBackendUnavailable(
        "The credit of this account cannot be checked right now, so nothing was sent. "
        "Try again in a moment.",
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
        case DenialReason.PAUSED | DenialReason.KILLED:
            return stopped(denial.reason, denial.scope, tenant)
        case _:
            pass
    if denial.state is None:
        return InternalError("A cap refused without saying which.")
    return _over_cap(denial, denial.state, tenant)


def stopped(reason: DenialReason, scope: Scope | None, tenant: str) -> ApiError:
    """The refusal where a flag stands in the way, before a request or in the middle of a stream.

    `scope` is whose flag it is; None for the tenant's own.
    """
    kind = ScopeKind.TENANT if scope is None else scope.kind
    name = tenant if scope is None else scope.id
    metadata = {"scope": f"{kind}:{name}"}
    if reason is DenialReason.PAUSED:
        return ScopePaused(
            f"The {kind} `{name}` is paused; an administrator can resume it.",
            code=f"{kind}_paused",
            metadata=metadata,
        )
    return ScopeKilled(
        f"The {kind} `{name}` was stopped; an administrator can allow it again.",
        code=f"{kind}_killed",
        metadata=metadata,
    )


def _over_cap(denial: Denial, state: CapState, tenant: str) -> ApiError:
    if is_margin(state):
        return _throttled(state)
    dimension, scope = dimension_of(denial), scope_text(state, tenant)
    metadata = metadata_of(state, dimension, tenant=tenant, remedy=_remedy(denial, dimension))
    headers = {**limit_headers([state]), "x-weir-limit-source": limit_source(state, dimension)}
    if state.cap.window == BALANCE and denial.reason is not DenialReason.HELD:
        return SpendExhausted(no_credit_text(state), metadata=metadata, headers=headers)
    cap, use = cap_text(state, dimension, scope), use_text(state, dimension)
    if denial.reason is DenialReason.NEVER:
        verb = "cost" if dimension == "usd" else "take"
        return RequestExceedsBudget(
            f"This request alone could {verb} more than {cap}.",
            param="max_tokens",
            metadata=metadata,
            headers=headers,
        )
    if dimension == "concurrent":
        return RateLimited(
            f"As many requests as {cap} allows are in flight. Try again in a moment.",
            metadata=metadata,
            headers={**headers, **_retry_after(state)},
        )
    if denial.reason is DenialReason.HELD:
        return RateLimited(
            f"Requests in flight hold what is left of {cap}{use}. Try again in a moment.",
            metadata=metadata,
            headers={**headers, "Retry-After": str(HELD_RETRY_AFTER_S)},
        )
    resets_at = metadata["resets_at"]
    frees = f" Room for this request frees up at {resets_at}." if resets_at else ""
    message = f"This request does not fit under {cap}{use}.{frees}"
    if is_rate(state.cap.window):
        return RateLimited(message, metadata=metadata, headers={**headers, **_retry_after(state)})
    return SpendExhausted(message, metadata=metadata, headers=headers)


def _throttled(state: CapState) -> ApiError:
    """What a request costs us is no business of its tenant's: it is told the bound alone."""
    window, limit = state.cap.window, state.cap.limit.requests
    assert isinstance(window, Window)
    seconds = -(-window.bucket_ms * window.buckets // 1000)
    return RateLimited(
        f"Requests for this model are throttled to {limit} per {seconds} s for now. "
        "Try again in a moment, or ask another model.",
        metadata={
            "limit_source": "margin",
            "reason": "margin",
            "limit": limit,
            "window_ms": window.bucket_ms * window.buckets,
            "resets_at": None if state.reset_ms is None else rfc3339_ms(state.reset_ms),
            "remedy": "try again later, or ask another model",
        },
        headers={"x-weir-limit-source": "margin", **_retry_after(state)},
    )


def _retry_after(state: CapState) -> dict[str, str]:
    """When there is room, to the millisecond for those who read it so; never at once."""
    if state.reset_ms is None:
        return {"Retry-After": str(HELD_RETRY_AFTER_S)}
    waits_ms = max(1, state.reset_ms - state.now_ms)
    return {"Retry-After": str(-(-waits_ms // 1000)), "retry-after-ms": str(waits_ms)}


def _remedy(denial: Denial, dimension: str) -> str:
    if denial.state is not None and denial.state.cap.window == BALANCE:
        held = denial.reason is DenialReason.HELD
        return _REMEDIES[denial.reason] if held else "add credit, or lower max_tokens"
    if dimension in ("requests", "steps") and denial.reason is not DenialReason.HELD:
        return "wait until resets_at, or ask for a higher cap"
    return _REMEDIES[denial.reason]


_REMEDIES = {
    DenialReason.SPENT: "lower max_tokens, wait until resets_at, or ask for a higher cap",
    DenialReason.HELD: "try again when requests in flight have ended",
    DenialReason.NEVER: "lower max_tokens, shorten the prompt, or ask for a higher cap",
}


def failed(outcome: Outcome, *, upstream: str, word: str | None = None) -> ApiError:
    """What the client is told when every upstream failed without an answer worth relaying; `word`
    is what the upstream itself calls its failure."""
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
        case Outcome.UNTRANSLATED:
            return UpstreamFailed(
                f"The upstream {upstream} answered, but the answer is too large to be written in "
                "this request's format. Ask for less of it (logprobs, images, choices), or in the "
                "upstream's own format."
            )
        case _ if word is not None:
            return UpstreamFailed(f"The upstream {upstream} failed to make an answer ({word}).")
        case _:
            return UpstreamFailed(
                f"The upstream {upstream} broke off or sent what is not a valid answer."
            )


def too_late(*, deadline_s: float, attempts: int) -> ApiError:
    """The exchange has taken all the time that it had."""
    tried = "one attempt" if attempts == 1 else f"{attempts} attempts"
    return UpstreamTimeout(
        f"No upstream answered within the {deadline_s:g} s that this request had ({tried}). Its "
        "deadline is the least of `models.*.deadline_s`, `server.deadline_s` and the header "
        "`x-weir-deadline-ms`."
    )


def broken_off(*, upstream: str, by: Break | None = None) -> ApiError:
    """What a client is told in-band when a stream broke after it had seen bytes.

    One that has read of it already is told nothing more.
    """
    by = by or Break()
    error = _broken_off(upstream, by.bound, by.said)
    error.is_told = by.is_told
    return error


def _broken_off(upstream: str, bound: str | None, said: str | None) -> ApiError:
    if bound in _SILENCES:
        return UpstreamTimeout(
            f"The upstream {upstream} sent nothing for longer than `providers.*.{bound}`, and its "
            "stream was ended."
        )
    if bound is not None:
        return UpstreamFailed(
            f"The stream of the upstream {upstream} went past `providers.*.{bound}` and was ended."
        )
    if said is not None:
        return UpstreamFailed(f"The upstream {upstream} failed in mid-stream: {said}")
    return UpstreamFailed(f"The upstream {upstream} broke off in mid-stream.")


_SILENCES = frozenset({"timeout_s", "first_event_timeout_s", "stall_timeout_s"})
