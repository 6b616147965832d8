"""What a request would hold at each place it may go to. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from metering.money import AMOUNT_NANO_MAX, amount_nano
from metering.price_variants import ANYWHERE
from metering.prices import Rates
from metering.usage import INPUT_UNCACHED, OUTPUT_TEXT
from proxy.admission import Place, PromptCount, Route
from proxy.allowance import elastic, holding
from proxy.changes import instruction_tokens
from proxy.chat import ChatRequest
from proxy.passage import Passage, passage
from proxy.price_asks import MESSAGES, NO_ASKS, Asks, asks_of, searching
from routing.degrade import NO_CHANGES, Changes, effective
from routing.policy import Option

EXACT_PART = 64
"""Of a prompt that we count with the model's own tokenizer, the part that we may be off by: what a
provider puts around messages and tools."""

OTHER_PART = 8
"""The same for other tokenizers, whose counts are calibrated."""

WITHOUT_TIERS = frozenset({"gemini"})
"""Formats that are written without a service tier."""


class Estimates:
    """The estimates for one request on its route; `is_elastic` says whether its hold may shrink."""

    def __init__(
        self, route: Route, request: ChatRequest, prompt: PromptCount, *, is_elastic: bool
    ) -> None:
        self._route, self._request, self._prompt = route, request, prompt
        self._is_elastic = is_elastic
        self._costs: dict[str, int] = {}
        self._asks = asks_of(request, route.default_tool_uses)
        """What of the request decides on its price beside its tokens."""

    def option(self, place: Place, changes: Changes) -> Option:
        """The place with what it would hold for this request with these changes."""
        changes = self.possible(place, changes)
        input_tokens = self.input_tokens(place, changes)
        output_tokens = self._output(changes, place)
        asks = self._asks if not place.searches and self._asks is NO_ASKS else self.asks_at(place)
        rates = self._rates(place, asks, input_tokens)
        part = elastic(rates, input_tokens=input_tokens, tokens_min=self._least(place))
        return Option(
            place.upstream,
            place.price,
            holding(part, output_tokens),
            changes,
            input_tokens,
            output_tokens,
            part if self._is_elastic and output_tokens > part.tokens_min else None,
            place.abilities.max_context_tokens,
            rates,
            asks.tier,
            asks.certain,
            asks.region,
        )

    def asks_at(self, place: Place) -> Asks:
        """What of that reaches this place: tools in their own format only, no tier where the format
        has none."""
        asks = self._asks
        if place.searches and not asks.certain:
            return searching(asks.tier, "model")
        if asks is NO_ASKS:
            return NO_ASKS
        way = self.way(place)
        if way is None or way.is_same:
            return asks
        if asks.fields.get("service_tier"):  # how fast it is to be is said in its own format only
            return NO_ASKS
        is_told = way.format not in WITHOUT_TIERS and not (
            place.drops and "service_tier" in way.lacks(self._request)
        )
        return Asks(asks.tier) if is_told and asks.tier is not None else NO_ASKS

    def _rates(self, place: Place, asks: Asks, input_tokens: int) -> Rates | None:
        """What to hold by there: near a border between two prices the dearer one, because the
        provider may count more or less than we do."""
        price = place.price
        if price is None:
            return None
        if price.sell.variants is None and not asks.uses:
            return price.sell
        part = EXACT_PART if place.tokenizer.is_exact else OTHER_PART
        spread = input_tokens // part
        tier = price.choose_tier(reported=None, asked=asks.tier).tier
        return price.sell.dearest(
            tier=tier,
            region=asks.region or place.upstream.region,
            or_in=_may_be_in(place),
            tokens=(input_tokens - spread, input_tokens + spread),
            fees_nano=asks.fees_nano(price),
        )

    def possible(self, place: Place, changes: Changes) -> Changes:
        """What of the changes can be written in the format that is sent there: no instruction where
        there is no place for one, no bound below the least that is taken."""
        if changes is NO_CHANGES or (way := self.way(place)) is None:
            return changes
        max_tokens, instruct = changes.max_tokens, changes.instruct
        if max_tokens is not None:
            max_tokens = max(max_tokens, way.upstream.LIMIT_MIN)
        found = Changes(max_tokens, instruct if way.upstream.INSTRUCTS else None)
        return effective(found, self._request.output_limit)

    def way(self, place: Place) -> Passage | None:
        """How the request would get there; None where its format is not taken."""
        return passage(self._request.format, place.formats)

    def _least(self, place: Place) -> int:
        """To how much output a hold may shrink: not below a useful answer for every choice, nor
        below what a request may be cut to."""
        way = self.way(place)
        least = max(self._route.min_output_tokens, 1 if way is None else way.upstream.LIMIT_MIN)
        return least * self._request.candidates

    def _nano(self, rates: Rates | None, input_tokens: int, output_tokens: int) -> int:
        if rates is None:
            return 0
        nano = rates.hold_nano(input_tokens=input_tokens, output_tokens=output_tokens)
        # more than any cap can be: it is refused as what can never fit, not as a failure of ours
        return min(nano, AMOUNT_NANO_MAX)

    def input_tokens(self, place: Place, changes: Changes) -> int:
        """Tokens of the prompt there, with what the changes add to it."""
        tokens = self._prompt.tokens(place.upstream)
        if changes.instruct is not None:
            tokens += instruction_tokens(place.tokenizer, changes.instruct)
        return tokens

    def _output(self, changes: Changes, place: Place) -> int:
        """Output tokens that the hold must cover, over all choices; what is only assumed is no more
        than the model there can say."""
        default, most = self._route.default_output_tokens, place.abilities.max_output_tokens
        tokens = self._request.output_bound(default if most is None else min(default, most))
        if changes.max_tokens is None:
            return tokens
        return min(tokens, changes.max_tokens * self._request.candidates)

    def choice_tokens(self, changes: Changes) -> int:
        """Output tokens of one choice, as far as the request bounds them; at least one."""
        bounds = [self._request.output_limit, changes.max_tokens]
        return min([each for each in bounds if each is not None], default=1)

    def is_cheaper(self, place: Place, usual: Option) -> bool:
        """Cheaper than what was asked for, with the same output, whatever steps make of that.
        Nothing is known to be cheaper than what has no price."""
        return self.cost(place) < usual.hold.nano

    def charged(self, place: Place, changes: Changes) -> int | None:
        """What its provider would charge us, as far as it is estimated; None without a price."""
        price = place.price
        if price is None:
            return None
        tokens = self.input_tokens(place, self.possible(place, changes))
        asks = self.asks_at(place)
        tier = price.choose_tier(reported=None, asked=asks.tier).tier
        region = asks.region or place.upstream.region
        priced = price.at({INPUT_UNCACHED: tokens}, tier=tier, region=region)
        # plain rates, not the dearest of each side as for a hold: a rate for writing to a cache
        # says nothing about which upstream is cheaper
        rates = priced.cost.rates_pico
        output_nano = amount_nano(self._output(changes, place), rates[OUTPUT_TEXT])
        return amount_nano(tokens, rates[INPUT_UNCACHED]) + output_nano

    def cost(self, place: Place) -> int:
        """What the request would hold there as it was asked."""
        cost = self._costs.get(place.upstream.label)
        if cost is None:
            tokens = self._prompt.tokens(place.upstream)
            rates = self._rates(place, self.asks_at(place), tokens)
            cost = self._nano(rates, tokens, self._output(NO_CHANGES, place))
            self._costs[place.upstream.label] = cost
        return cost


def _may_be_in(place: Place) -> Sequence[str]:
    """Where else it may be served, by a provider that tells: Anthropic, whose workspaces have a
    place for the requests that name none. What is told is billed, whatever was asked for."""
    variants = None if place.price is None else place.price.sell.variants
    if variants is None or not variants.regions or MESSAGES not in place.formats:
        return ()
    return (ANYWHERE, *variants.regions)
