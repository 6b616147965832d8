"""What a request meets that depends on the settings: all of it of one configuration, or none.

A process has one front at a time. Whoever replaces the settings makes a new one and puts it in the
place of the old with a single assignment. A request takes the front once, when it is first asked
for, and keeps it to its end: one that began before a reload is authenticated, routed, priced and
forwarded by what held when it came.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from aiohttp import web

from metering.clock import now_ns
from proxy.admission import Routes
from proxy.auth import Authenticator
from proxy.door import Door
from proxy.pace import Pace
from proxy.standing import Standings


@dataclass(frozen=True, slots=True)
class Front:
    """A door, and what is looked up before an exchange begins at it."""

    door: Door
    authenticator: Authenticator
    routes: Routes
    standings: Standings
    pace: Pace


def open_front(door: Door) -> Front:
    """The front of a door, made from its settings."""
    settings = door.settings
    return Front(
        door,
        Authenticator(settings.tenants.values(), now_ns),
        Routes(settings),
        Standings(),
        Pace(settings.cost_rules, door.history),
    )


@dataclass(slots=True)
class Reception:
    """Where requests find the front that holds now. `now` is replaced, never changed."""

    now: Front
    generation: int = field(default=0)
    """Which settings these are, counted by the supervisor from the start on."""


RECEPTION = web.AppKey("reception", Reception)
_TAKEN = web.RequestKey("front", Front)


def front_of(request: web.Request) -> Front:
    """The front of this request: the one that held when it was first asked for."""
    try:
        return request[_TAKEN]
    except KeyError:  # once per request; `get` would come to three calls each time
        taken = request[_TAKEN] = request.app[RECEPTION].now
        return taken
