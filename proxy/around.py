"""What a choice among upstreams depends on beside the request, put together."""

from __future__ import annotations

from metering.clock import monotonic_s
from metering.tenant_caps import Labels
from metering.tenants import Principal
from proxy.admission import Route
from proxy.chat import ChatRequest
from proxy.choosing import NOWHERE, Around, traits_of
from proxy.door import Door
from proxy.wishes import Wishes


def around_of(
    door: Door,
    route: Route,
    request: ChatRequest,
    wishes: Wishes,
    *,
    who: Principal,
    labels: Labels,
    exchange_id: str,
    target_ms: int | None,
) -> Around:
    """How things stand for this request; NOWHERE where there is nothing to choose."""
    if not route.chooses and not wishes.tags:
        return NOWHERE
    return Around(
        exchange_id,
        traits_of(who.tenant, who.key, labels, request, wishes.tags),
        target_ms,
        monotonic_s(),
        door.history,
        door.health,
    )
