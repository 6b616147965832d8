"""Objects at a provider that requests in a format of ours name and make: stored responses and
completions, files in a prompt, conversations.

Rules: an id that is not known as the tenant's own leads nowhere; a request that names objects goes
only where all of them are; what is stored for a tenant is noted before it gets its end.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace

from metering.background import spawn
from metering.tenants import Tenant
from proxy.admission import Place, Route
from proxy.attempts import Attempt
from proxy.chat import OPENAI_CHAT, ChatRequest
from proxy.door import Door
from proxy.passthrough_bodies import REFERENCES, references
from proxy.passthrough_errors import ObjectNotFound
from proxy.passthrough_objects import not_there
from routing.fallback import Outcome

RESPONSES = "openai_responses"

_MAY_REFER = re.compile(
    b'"(?:%s|item_reference)"|\\\\u00' % b"|".join(sorted(name.encode() for name in REFERENCES))
)
"""Names of fields as they stand in a body, also where one is spelled by escapes."""


def may_refer(raw: bytes) -> bool:
    """Whether a body may name objects; most are told by this that they do not."""
    return _MAY_REFER.search(raw) is not None


async def reachable(door: Door, tenant: Tenant, request: ChatRequest, route: Route) -> Route:
    """The route as far as the objects that the request names are the tenant's there; ObjectNotFound
    where they are nowhere."""
    ids = list(dict.fromkeys(references(request.body)))
    if not ids:
        return route
    rules = door.settings.passthrough
    providers = list(dict.fromkeys(place.upstream.provider for place in route.places))
    found = {name for name in providers if rules is not None and rules.is_own(tenant.id, name)}
    shared = [name for name in providers if name not in found]
    try:
        found |= set(await door.owned.holders(tenant.id, shared, ids)) if shared else set()
    except ObjectNotFound:
        if not found:
            raise

    def there(places: tuple[Place, ...]) -> tuple[Place, ...]:
        return tuple([place for place in places if place.upstream.provider in found])

    own, spare = there(route.own), there(route.spare)
    if not own and not spare:
        raise not_there(ids[0])
    if not own:
        name = spare[0].upstream.public_name
        own = tuple([place for place in spare if place.upstream.public_name == name])
        spare = tuple([place for place in spare if place.upstream.public_name != name])
    targets = {name: there(places) for name, places in route.targets.items()}
    detours = {outcome: left for outcome, all_ in route.detours.items() if (left := there(all_))}
    return replace(route, own=own, spare=spare, targets=targets, detours=detours)


def stored_id(request: ChatRequest, attempt: Attempt) -> str | None:
    """The id under which the provider keeps this answer for its tenant; None where it does not."""
    store = request.body.get("store")
    if request.format == RESPONSES:
        return attempt.reply.id if store is not False else None
    if request.format == OPENAI_CHAT:
        return attempt.reply.id if store is True else None
    return None


def noting_stored(
    door: Door, tenant: str, request: ChatRequest, attempt: Attempt
) -> asyncio.Task[None] | None:
    """Note whose an answer is that the provider keeps; Redis hears of it with the commit."""
    kept = stored_id(request, attempt) if attempt.outcome is Outcome.SERVED else None
    if kept is None:
        return None
    provider = attempt.option.upstream.provider
    noted = door.owned.note(tenant, provider, [kept], is_passing=True)
    return spawn(noted, name="note-object")
