"""What of a request decides on its price, beside its tokens: the service tier it names, and the
tools of the provider that it may use. Pure.

Read from the body as it came; what has the wrong type asks for nothing here, and is for the
upstream to judge. Rules: what has no price is refused under a money cap, and doubted without one;
what may be used without a bound is held for as often as the configuration says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from metering.money import hold_nano
from metering.price_variants import FAST, PLACE, is_standard
from metering.prices import Price
from metering.usage import CODE_SESSION, FILE_SEARCH, IMAGE, TOOL_UNITS, WEB_SEARCH
from proxy.chat import OPENAI_CHAT, ChatRequest

FEE_UNITS = frozenset({*TOOL_UNITS, IMAGE})
"""What tools of a provider are billed in."""

_TOOLS = {
    "openai_responses": (
        ("web_search", WEB_SEARCH),
        ("file_search", FILE_SEARCH),
        ("code_interpreter", CODE_SESSION),
        ("image_generation", IMAGE),
    ),
    "anthropic_messages": (("web_search", WEB_SEARCH),),
}
"""How the types of such tools begin (a date may follow), by the format of the request."""

MESSAGES = "anthropic_messages"
_TIER = "service_tier"
_ASKING = frozenset({"tools", "web_search_options", "speed", "inference_geo"})
"""Fields of any format that may ask for something with a price of its own."""

_SEARCH_MODELS = ("-search-preview", "-search-api")
"""Chat models of OpenAI that search the web for every answer."""

_ONE_SEARCH: Mapping[str, int] = {WEB_SEARCH: 1}

_USES_MAX = 10**6
"""A bound above it is held for by it: no cap is that large."""


@dataclass(frozen=True, slots=True)
class Asks:
    """What a request asks for. `tier` is its service tier, None for the list price; `uses` bounds
    each tool by its unit; `certain` is what every answer uses and none reports."""

    tier: str | None = None
    uses: Mapping[str, int] = field(default_factory=dict)
    certain: Mapping[str, int] | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    """Where in the request a unit is asked for; the tier, where that is not `service_tier`."""
    region: str | None = None
    """Where it is to be served."""

    def fees_nano(self, price: Price) -> int:
        """What the tools may come to at most."""
        rates = price.sell.rates_pico
        return sum(hold_nano(uses, rates.get(unit, 0)) for unit, uses in self.uses.items())

    def unpriced(self, price: Price) -> tuple[str, str] | None:
        """The first thing asked for that has no price: the field, and what it is in words."""
        if self.tier is not None and not is_standard(self.tier) and not price.takes_tier(self.tier):
            return self.fields.get(_TIER, _TIER), f"the service tier `{self.tier[:64]}`"
        for unit in self.uses:
            if unit not in price.sell.rates_pico or unit not in price.cost.rates_pico:
                return self.fields[unit], f"`{unit}`, a tool of the provider's"
        return None


NO_ASKS = Asks()


def asks_of(request: ChatRequest, default_uses: int) -> Asks:
    """What this request asks for in its own format; `default_uses` bounds a tool that it does not
    bound itself."""
    said, body = request.chat.get(_TIER), request.body
    if said is None and body.keys().isdisjoint(_ASKING):
        return NO_ASKS  # as nearly always
    if request.format == MESSAGES and (place := _placed(request, said, default_uses)) is not None:
        return place
    tools = body.get("tools")
    is_search = request.format == OPENAI_CHAT and body.get("web_search_options") is not None
    if said is None and not is_search and (tools is None or request.format not in _TOOLS):
        return NO_ASKS
    tier = said if isinstance(said, str) and said else None
    if is_search:
        return searching(tier, "web_search_options")
    uses, fields = _tools(request, tools, default_uses)
    return Asks(tier, uses, None, fields)


def _placed(request: ChatRequest, tier: object, default_uses: int) -> Asks | None:
    """How fast and where Anthropic is to serve it; None where it says nothing of that."""
    body = request.body
    geo, is_fast = body.get("inference_geo"), body.get("speed") == FAST
    region = geo if isinstance(geo, str) and PLACE.fullmatch(geo) else None
    if region is None and not is_fast:
        return None
    uses, fields = _tools(request, body.get("tools"), default_uses)
    if is_fast:
        return Asks(FAST, uses, None, {**fields, _TIER: "speed"}, region)
    return Asks(tier if isinstance(tier, str) and tier else None, uses, None, fields, region)


def searching(tier: str | None, named: str) -> Asks:
    """What is asked of a chat model that searches the web for every answer, as `named` says."""
    return Asks(tier, _ONE_SEARCH, _ONE_SEARCH, {WEB_SEARCH: named})


def is_search_model(model: str) -> bool:
    """Whether a chat model of this name searches the web for every answer."""
    return any(part in model for part in _SEARCH_MODELS)


def _tools(
    request: ChatRequest, tools: object, default_uses: int
) -> tuple[dict[str, int], dict[str, str]]:
    uses: dict[str, int] = {}
    fields: dict[str, str] = {}
    of_all = _bound(request.body.get("max_tool_calls"))
    for index, tool in enumerate(tools if isinstance(tools, list) else ()):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if not isinstance(kind, str):
            continue
        for begins, unit in _TOOLS.get(request.format, ()):
            if kind.startswith(begins):
                own = [_bound(tool.get("max_uses")), of_all]
                bounds = [each for each in own if each is not None]
                uses[unit] = uses.get(unit, 0) + min(bounds, default=default_uses)
                fields[unit] = f"tools[{index}].type"
    return uses, fields


def _bound(value: Any) -> int | None:
    return min(value, _USES_MAX) if type(value) is int and value >= 0 else None
