"""Models, errors and what was booked, for the course of an exchange over sockets."""

from __future__ import annotations

from typing import Any

from fixtures_door import RunningDoor
from fixtures_upstream import body

from routing.retries import OnFailure, Retries
from routing.upstreams import Model, Upstream

QUICK = Retries(max=1, max_wait_s=1.0, backoff_s=0.01)
USUAL = OnFailure(retries=QUICK)
ERROR = {"error": {"message": "slow down", "type": "requests", "code": None}}
TOO_LONG = body(
    {"error": {"message": "too long", "code": "context_length_exceeded", "param": "messages"}}, 400
)
FLAGGED = body({"error": {"message": "no", "code": "content_policy_violation"}}, 400)
NO_MODEL = body({"error": {"message": "gone", "code": "model_not_found"}}, 404)


def limited(headers: str = "", status: int = 429) -> bytes:
    return body(ERROR, status, headers)


def models(*providers: str, own: OnFailure = USUAL, **fields: Any) -> Any:
    """A model `m` on the first provider, and `spare` on the second."""
    first, *others = providers
    made = {"m": Model("m", (Upstream(first, "up-m", "m"),), on_failure=own, **fields)}
    for other in others:
        made["spare"] = Model("spare", (Upstream(other, "up-s", "spare"),))
    return made


def told(door: RunningDoor) -> list[tuple[str, int, str | None, bool]]:
    """Of each event: its upstream, the retries, why it was made, and whether it was billed."""
    return [
        (each.model_upstream, each.retry_count, each.fallback_reason, each.billable)
        for each in door.events
    ]
