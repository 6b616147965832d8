"""By when an exchange has to be over: what the configuration says, and what the client shortens.
Pure."""

from __future__ import annotations

from proxy.errors import InvalidRequest
from proxy.settings import Settings

DEADLINE = "x-weir-deadline-ms"


def is_clients(settings: Settings, model: str, asked_ms: int | None) -> bool:
    """Whether the end is the client's own: shorter than what the configuration says."""
    if asked_ms is None:
        return False
    bound_s = deadline_s(settings, model, None)
    return bound_s is None or asked_ms / 1000 < bound_s


def deadline_s(settings: Settings, model: str, asked_ms: int | None) -> float | None:
    """Seconds from the arrival of a request for this model; None where nobody set an end.

    `asked_ms` is what the request says in its header: it can shorten the time, and not prolong it.
    """
    found = settings.models.get(model)
    own_s = None if found is None else found.on_failure.deadline_s
    bound_s = settings.server.deadline_s if own_s is None else own_s
    if asked_ms is None:
        return bound_s
    if asked_ms < 1:
        raise InvalidRequest(
            f"The header `{DEADLINE}` must be a whole number of milliseconds, from 1.",
            param=DEADLINE,
        )
    return asked_ms / 1000 if bound_s is None else min(asked_ms / 1000, bound_s)
