"""Attempts in OpenTelemetry's words for generative AI: spans and histograms. Pure.

The names are those of its semantic conventions (in development there, so they may still change);
what they have no word for begins with `weir.`. There is no prompt, answer, credential, and nothing
that a client has chosen freely, but for the ids of its trace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from metering.usage import (
    INPUT_CACHE_READ,
    INPUT_CACHE_WRITE_1H,
    INPUT_CACHE_WRITE_5M,
    INPUT_CLASSES,
    OUTPUT_CLASSES,
    OUTPUT_REASONING,
)
from proxy.attempts import Attempt, Facts
from proxy.charging import Charge
from proxy.spans import Histograms, Instrument, Labels, Span, SpanKind, Value
from routing.fallback import Outcome

OTHER = "other"

FIRST_EVENT = "first event"

OPERATIONS: Mapping[str, str] = {
    "/v1/chat/completions": "chat",
    "/v1/responses": "chat",
    "/v1/messages": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
}
"""By path; what is relayed besides has no word there."""

PROVIDERS: Mapping[str, str] = {
    "openai": "openai",
    "anthropic": "anthropic",
    "azure_openai": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "vertex": "gcp.vertex_ai",
}
"""Our vendors by their well-known names; another one goes by its own."""

_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)

DURATION = Instrument(
    "gen_ai.client.operation.duration", "s", "From sending to an upstream to its end.", _SECONDS
)
FIRST_CHUNK = Instrument(
    "gen_ai.client.operation.time_to_first_chunk",
    "s",
    "From sending a streamed request to its first event.",
    _SECONDS,
)
TOKEN_USAGE = Instrument(
    "gen_ai.client.token.usage",
    "{token}",
    "Billed tokens of an operation, by type.",
    tuple(float(4**power) for power in range(14)),
)


def span_id_of(attempt: Attempt) -> str:
    """The span of an attempt: the random end of its event's id, so that one finds the other."""
    return attempt.event_id.replace("-", "")[-16:]


def attempt_span(
    facts: Facts,
    attempt: Attempt,
    charged: Charge,
    *,
    trace_id: str,
    parent_id: str,
    operation: str | None,
) -> Span:
    """One send to one upstream, with what it came to."""
    model = _model(attempt)
    start_ns = attempt.started_at
    first_ns = attempt.first_byte_at
    return Span(
        trace_id=trace_id,
        span_id=span_id_of(attempt),
        parent_id=parent_id,
        name=f"{operation or 'call'} {model}",
        kind=SpanKind.CLIENT,
        start_ns=start_ns,
        end_ns=attempt.ended_at or start_ns,
        attributes={
            **_genai(facts, attempt, charged, operation),
            **_weir(facts, attempt, charged),
        },
        events=() if first_ns is None else ((FIRST_EVENT, first_ns),),
        error=_error(attempt),
    )


def _genai(
    facts: Facts, attempt: Attempt, charged: Charge, operation: str | None
) -> dict[str, Value]:
    found: dict[str, Value] = {
        "gen_ai.provider.name": PROVIDERS.get(attempt.vendor, attempt.vendor),
        "gen_ai.request.model": _model(attempt),
        "gen_ai.request.stream": facts.stream,
    }
    if operation is not None:
        found["gen_ai.operation.name"] = operation
    if attempt.reply.model is not None:
        found["gen_ai.response.model"] = attempt.reply.model
    if attempt.reply.finish_reason is not None:
        found["gen_ai.response.finish_reasons"] = (attempt.reply.finish_reason,)
    if attempt.first_byte_at is not None and facts.stream:
        found["gen_ai.response.time_to_first_chunk"] = _seconds(
            attempt.started_at, attempt.first_byte_at
        )
    if charged.billable:
        found |= _tokens(charged)
    if attempt.http_status is not None:
        found["http.response.status_code"] = attempt.http_status
    if (error := _error(attempt)) is not None:
        found["error.type"] = error
    return found


def _tokens(charged: Charge) -> dict[str, Value]:
    """The conventions' totals include what was read from and written to a cache; our classes are
    apart."""
    units = charged.units
    found: dict[str, Value] = {
        "gen_ai.usage.input_tokens": sum(units.get(each, 0) for each in INPUT_CLASSES),
        "gen_ai.usage.output_tokens": sum(units.get(each, 0) for each in OUTPUT_CLASSES),
    }
    written = units.get(INPUT_CACHE_WRITE_5M, 0) + units.get(INPUT_CACHE_WRITE_1H, 0)
    parts = {
        "gen_ai.usage.cache_read.input_tokens": units.get(INPUT_CACHE_READ, 0),
        "gen_ai.usage.cache_creation.input_tokens": written,
        "gen_ai.usage.reasoning.output_tokens": units.get(OUTPUT_REASONING, 0),
    }
    return found | {name: count for name, count in parts.items() if count}


def _weir(facts: Facts, attempt: Attempt, charged: Charge) -> dict[str, Value]:
    price = attempt.option.price
    found: dict[str, Value | None] = {
        "weir.exchange_id": facts.exchange_id,
        "weir.event_id": attempt.event_id,
        "weir.tenant": facts.principal.tenant.id,
        "weir.provider": attempt.option.upstream.provider,
        "weir.attempt": attempt.number,
        "weir.outcome": str(attempt.outcome or "internal"),
        "weir.usage_source": str(charged.usage.source),
        "weir.sell_nano": charged.sell_nano,
        "weir.cost_nano": charged.cost_nano,
        "weir.price_version": None if price is None else price.sell.version,
        "weir.fallback_reason": attempt.fallback_reason,
        "weir.retry_count": attempt.retry_count or None,
        "weir.degrade_step": attempt.degrade_step,
        "weir.client_disconnected": attempt.client_disconnected or None,
    }
    return {name: value for name, value in found.items() if value is not None}


def request_attributes(
    facts: Facts, attempts: Sequence[Attempt], charges: Sequence[Charge]
) -> dict[str, Value]:
    """What is told of the whole exchange, at the span of its request."""
    last = attempts[-1]
    return {
        "weir.exchange_id": facts.exchange_id,
        "weir.request_id": facts.request_id,
        "weir.tenant": facts.principal.tenant.id,
        "weir.project": facts.principal.key.project,
        "weir.key_id": facts.principal.key.id,
        "weir.model": last.option.upstream.public_name,
        "weir.outcome": str(last.outcome or "internal"),
        "weir.attempts": len(attempts),
        "weir.usage_source": str(charges[-1].usage.source),
        "weir.sell_nano": sum(each.sell_nano for each in charges),
        "weir.cost_nano": sum(each.cost_nano for each in charges),
    }


def count(
    kept: Histograms, facts: Facts, attempt: Attempt, charged: Charge, operation: str
) -> None:
    """The same as histograms, of every attempt, whether or not its trace is recorded."""
    labels: Labels = (
        ("gen_ai.operation.name", operation),
        ("gen_ai.provider.name", PROVIDERS.get(attempt.vendor, attempt.vendor)),
        ("gen_ai.request.model", _model(attempt)),
    )
    if charged.billable:
        for kind, classes in (("input", INPUT_CLASSES), ("output", OUTPUT_CLASSES)):
            tokens = sum(charged.units.get(each, 0) for each in classes)
            kept.observe(TOKEN_USAGE, (*labels, ("gen_ai.token.type", kind)), tokens)
    if attempt.first_byte_at is not None and facts.stream:
        waited_s = _seconds(attempt.started_at, attempt.first_byte_at)
        kept.observe(FIRST_CHUNK, labels, waited_s)
    if attempt.ended_at is not None:
        error = _error(attempt)
        ended: Labels = labels if error is None else (*labels, ("error.type", error))
        kept.observe(DURATION, ended, _seconds(attempt.started_at, attempt.ended_at))


def _model(attempt: Attempt) -> str:
    """As the upstream calls it; of what is relayed for a client under a name of the client's own,
    nothing is said."""
    return attempt.option.upstream.model if attempt.upstream_label is None else OTHER


def _error(attempt: Attempt) -> str | None:
    if attempt.outcome is Outcome.SERVED:
        return None
    return str(attempt.outcome or "internal")


def _seconds(start_ns: int, end_ns: int) -> float:
    return max(0, end_ns - start_ns) / 1e9
