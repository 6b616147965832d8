"""What the record of a hold says of its exchange, for whoever has to settle it in its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from metering.recovery import encode_facts
from proxy.attempts import Facts


def hold_facts(facts: Facts, upstreams: Sequence[tuple[Any, ...]]) -> bytes:
    """What the record of the hold says of an exchange that was never checkpointed.

    `upstreams` as in `metering.recovery.encode_facts`.
    """
    key = facts.principal.key
    labels = {
        "request_id": facts.request_id,
        "project": key.project,
        "api_key_id": key.id,
        "occurred_at": facts.occurred_at,
        "model_requested": facts.model_requested,
        "stream": facts.stream,
        "user": facts.user,
        "feature": facts.feature,
        "session": facts.session,
        "run": facts.run,
        "step": facts.step,
        "client_retry_count": facts.client_retry_count,
    }
    return encode_facts(labels, upstreams)
