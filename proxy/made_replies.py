"""What an exchange has brought, as it may be kept: for the same request again, or for others. Pure.

Rule: for others only what was asked for: the whole answer, of the model that was named, with
nothing changed on its way, and one that its upstream did not cut for reasons of its own.
"""

from __future__ import annotations

from typing import Any

from metering.replies import Reply
from proxy.chat import ChatRequest
from proxy.errors import ApiError
from proxy.exchange import Exchange
from proxy.hit_billing import facts_of
from proxy.keeping_client import KeepingClient
from proxy.reply_names import EMBEDDINGS
from proxy.telling import Finished
from proxy.wire import ClientFormat
from routing.fallback import Outcome


def made(finished: Finished, keeper: KeepingClient, facts: dict[str, Any]) -> Reply | None:
    """The whole of what the client gets; None where that is too much."""
    if keeper.headers is None:
        body = finished.body or b""
        return Reply(finished.status, body, False, {**finished.headers}, facts)
    keeper.keep(finished.tail)
    return _streamed(keeper, facts)


def broken_off(
    error: ApiError,
    keeper: KeepingClient,
    facts: dict[str, Any],
    *,
    spoken: ClientFormat,
    request_id: str,
) -> Reply | None:
    """The same where it ended with an error of ours."""
    if keeper.headers is None:
        body = spoken.error_body(error.words, request_id)
        return Reply(error.status, body, False, error.headers(), facts)
    if not error.is_told:
        keeper.keep(spoken.error_event(error.words, request_id))
    return _streamed(keeper, facts)


def _streamed(keeper: KeepingClient, facts: dict[str, Any]) -> Reply | None:
    sent = keeper.sent
    if sent is None or keeper.headers is None:
        return None
    return Reply(200, sent, True, keeper.headers, facts)


def facts_kept(exchange: Exchange) -> dict[str, Any]:
    """What is kept beside its answer."""
    if not exchange.attempts or exchange.bill is None:
        return {}
    return facts_of(exchange.attempts[-1], exchange.bill.charges[-1])


def is_billed(exchange: Exchange) -> bool:
    """Whether anything of it is billed."""
    made_bill = exchange.bill
    return made_bill is not None and any(each.billable for each in made_bill.charges)


def is_for_others(
    reply: Reply, exchange: Exchange, request: ChatRequest, *, bytes_max: int
) -> bool:
    """Whether this is an answer for whoever asks the same."""
    last = exchange.attempts[-1] if exchange.attempts else None
    if last is None or last.outcome is not Outcome.SERVED or exchange.is_changed:
        return False
    if any(each.outcome is Outcome.TRUNCATED for each in exchange.attempts):
        return False  # two models have told it
    if last.option.upstream.public_name != request.model:
        return False
    if reply.status != 200 or len(reply.body) > bytes_max:
        return False
    if reply.is_stream is not request.stream:
        return False
    reason = last.reply.finish_reason
    is_whole = reason is not None or request.format == EMBEDDINGS
    return is_whole and reason != "content_filter"
