"""One request at the places of its route: which can serve it, and in which order they are asked.

The rules are `routing.choice`'s; here they meet a request. What depends on the route alone was
found with it: a model with one upstream, or with several that are simply asked in the order of the
file, costs a request next to nothing here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import orjson

from metering.tenant_caps import Labels
from metering.tenants import ApiKey, Tenant
from proxy.admission import Place, PromptCount, Route
from proxy.chat import ChatRequest
from proxy.estimates import Estimates
from proxy.obstacles import Obstacles, lacks_text
from routing.affinity import home_key
from routing.choice import ONLY, Dice, Entrant, choose
from routing.conditions import NO_TRAITS, Traits
from routing.degrade import Changes
from routing.health import Health
from routing.history import NOTHING_KNOWN, History
from routing.policy import Loser
from routing.upstreams import AS_WRITTEN, Policy, Strategy

TAGS_REASON, WHEN_REASON = "tags=", "when="
"""What reasons against an upstream begin with that is not what the request asks for, or that does
not take such requests."""

_MEASURED = frozenset({Strategy.LEAST_LATENCY, Strategy.LEAST_BUSY})

_HEAD_MESSAGES_MAX = 8
_HEAD_CHARS_MAX = 8_192
"""So much of a prompt tells conversations apart; providers compare their caches from the start."""


@dataclass(frozen=True, slots=True)
class Around:
    """What a choice depends on beside the route and the body: who asks, and how things stand."""

    exchange_id: str = ""
    traits: Traits = NO_TRAITS
    target_ms: int | None = None
    now_s: float = 0.0
    history: History | None = None
    health: Health | None = None

    @property
    def failing(self) -> frozenset[str]:
        """The labels of upstreams that go last now."""
        return frozenset() if self.health is None else self.health.passed_over(self.now_s)


NOWHERE = Around()
"""Nobody asks, and nothing is known of any upstream."""


def traits_of(
    tenant: Tenant, key: ApiKey, labels: Labels, request: ChatRequest, tags: frozenset[str]
) -> Traits:
    """What conditions can be put on."""
    metadata = request.body.get("metadata")
    return Traits(
        labels={
            "feature": labels.feature,
            "user": labels.user,
            "session": labels.session,
            "project": key.project,
            "tenant": tenant.id,
            "key": key.id,
        },
        tags=tags,
        stream=request.stream,
        metadata=metadata if isinstance(metadata, dict) else {},
    )


@dataclass(frozen=True, slots=True)
class Picked:
    """The places of one model that can serve, the first to ask first; why that is first, and why
    every other one is not. `reasons` has those that cannot serve, by their place in the route."""

    places: tuple[Place, ...]
    word: str = ONLY
    losers: tuple[Loser, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)


class Chooser:
    """The choices for one request on its route."""

    def __init__(
        self,
        route: Route,
        request: ChatRequest,
        prompt: PromptCount,
        around: Around,
        *,
        estimates: Estimates,
        obstacles: Obstacles,
    ) -> None:
        self._route, self._request, self._prompt = route, request, prompt
        self._around = around
        self._estimates, self._obstacles = estimates, obstacles
        self._failing: frozenset[str] | None = None
        self._dice: dict[Policy, Dice] = {}

    def pick(self, places: Sequence[Place], changes: Changes) -> Picked:
        """Of the places of one public model those that can serve the request with these changes."""
        able: list[Place] = []
        reasons: dict[str, str] = {}
        for place in places:
            reason = self.against(place, changes)
            if reason is None:
                able.append(place)
            else:
                reasons[place.upstream.label] = reason
        losers = tuple(
            [
                Loser(each.upstream, reasons[each.upstream.label])
                for each in (places if reasons else ())
                if each.upstream.label in reasons
            ]
        )
        if len(able) < 2:
            return Picked(tuple(able), ONLY, losers, reasons)
        return self._ordered(able, changes, losers, reasons)

    def against(self, place: Place, changes: Changes) -> str | None:
        """Why a place cannot serve this request: `lacks=tools`, `tags=eu`, `when=stream`."""
        terms, traits = place.upstream.terms, self._around.traits
        if traits.tags and not traits.tags <= terms.tags:
            return TAGS_REASON + ",".join(sorted(traits.tags - terms.tags))
        if terms.when is not None:
            unmet = terms.when.unmet(traits, self._prompt.tokens(place.upstream))
            if unmet is not None:
                return WHEN_REASON + unmet
        missing = self._obstacles.lacks(place, changes)
        return lacks_text(missing) if missing else None

    def _ordered(
        self,
        able: list[Place],
        changes: Changes,
        losers: tuple[Loser, ...],
        reasons: Mapping[str, str],
    ) -> Picked:
        around = self._around
        policy = self._route.policies.get(able[0].upstream.public_name, AS_WRITTEN)
        if self._failing is None:
            self._failing = around.failing
        if policy is AS_WRITTEN and around.target_ms is None and not self._failing:
            behind = [
                Loser(each.upstream, _behind(able[0], each)) for each in islice(able, 1, None)
            ]
            return Picked(tuple(able), "first", (*losers, *behind), reasons)
        entrants = [self._entrant(each, changes, policy) for each in able]
        found = choose(policy, entrants, self._dice_of(policy), target_ms=around.target_ms)
        behind = [Loser(able[index].upstream, found.reasons[index]) for index in found.order[1:]]
        places = tuple([able[index] for index in found.order])
        return Picked(places, found.word, (*losers, *behind), reasons)

    def _entrant(self, place: Place, changes: Changes, policy: Policy) -> Entrant:
        around, label = self._around, place.upstream.label
        observed = NOTHING_KNOWN
        is_timed = policy.strategy in _MEASURED or around.target_ms is not None
        if is_timed and around.history is not None:
            observed = around.history.look(label, around.now_s, stream=self._request.stream)
        by_cost = policy.strategy is Strategy.LEAST_COST
        assert self._failing is not None
        return Entrant(
            label,
            place.upstream.terms,
            nano=self._estimates.charged(place, changes) if by_cost else None,
            observed=observed,
            is_failing=label in self._failing,
        )

    def _dice_of(self, policy: Policy) -> Dice:
        found = self._dice.get(policy)
        if found is None:
            labels = self._around.traits.labels
            home = home_key(
                policy.affinity,
                labels.get("tenant") or "",
                session=labels.get("session"),
                user=labels.get("user"),
                cache_key=cache_key(self._request),
                prompt=lambda: prompt_head(self._request.chat),
            )
            found = self._dice[policy] = Dice(self._around.exchange_id.encode(), home)
        return found


def cache_key(request: ChatRequest) -> str | None:
    """The client's own name for its prompt cache, in OpenAI's formats."""
    key = request.body.get("prompt_cache_key")
    return key if isinstance(key, str) and key else None


def prompt_head(chat: Mapping[str, Any]) -> bytes:
    """How a conversation begins, as far as that tells it from others: what comes before its first
    turn, and that turn. Later turns have the same head, so that a conversation stays where its
    prompt is cached."""
    head: list[object] = []
    messages = chat.get("messages")
    for message in islice(messages if isinstance(messages, list) else (), _HEAD_MESSAGES_MAX):
        if not isinstance(message, dict):
            break
        head.append(_piece(message.get("content")))
        if message.get("role") not in ("system", "developer"):
            break
    return orjson.dumps(head) if head else b""


def _piece(content: object) -> object:
    """The beginning of a message: its text, and of an image the beginning of where it is."""
    if isinstance(content, str):
        return content[:_HEAD_CHARS_MAX]
    if not isinstance(content, list):
        return None
    parts = [part for part in content[:_HEAD_MESSAGES_MAX] if isinstance(part, dict)]
    return [str(part.get("text") or part.get("image_url"))[:_HEAD_CHARS_MAX] for part in parts]


def _behind(first: Place, other: Place) -> str:
    is_lower = first.upstream.terms.priority < other.upstream.terms.priority
    return "priority" if is_lower else "later"
