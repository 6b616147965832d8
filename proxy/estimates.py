"""What a request would hold at each place it may go to. Pure."""

from __future__ import annotations

from metering.caps import Elastic, Vector
from metering.money import AMOUNT_NANO_MAX, amount_nano
from metering.prices import Price
from metering.usage import INPUT_UNCACHED, OUTPUT_TEXT
from proxy.admission import Place, PromptCount, Route
from proxy.allowance import elastic
from proxy.changes import instruction_tokens
from proxy.chat import ChatRequest
from proxy.passage import Passage, passage
from routing.degrade import NO_CHANGES, Changes, effective
from routing.policy import Option


class Estimates:
    """The estimates for one request on its route; `is_elastic` says whether its hold may shrink."""

    def __init__(
        self, route: Route, request: ChatRequest, prompt: PromptCount, *, is_elastic: bool
    ) -> None:
        self._route, self._request, self._prompt = route, request, prompt
        self._is_elastic = is_elastic
        self._costs: dict[str, int] = {}

    def option(self, place: Place, changes: Changes) -> Option:
        """The place with what it would hold for this request with these changes."""
        changes = self.possible(place, changes)
        input_tokens = self.input_tokens(place, changes)
        output_tokens = self._output(changes, place)
        nano = self._nano(place.price, input_tokens, output_tokens)
        return Option(
            place.upstream,
            place.price,
            Vector(nano, input_tokens + output_tokens, 1),
            changes,
            input_tokens,
            output_tokens,
            self._elastic(place, input_tokens, output_tokens),
            place.abilities.max_context_tokens,
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

    def _elastic(self, place: Place, input_tokens: int, output_tokens: int) -> Elastic | None:
        """How far the hold may shrink: not below a useful answer for every choice, nor below what a
        request may be cut to."""
        way = self.way(place)
        least = max(self._route.min_output_tokens, 1 if way is None else way.upstream.LIMIT_MIN)
        tokens_min = least * self._request.candidates
        if not self._is_elastic or output_tokens <= tokens_min:
            return None
        return elastic(place.price, input_tokens=input_tokens, tokens_min=tokens_min)

    def _nano(self, price: Price | None, input_tokens: int, output_tokens: int) -> int:
        if price is None:
            return 0
        nano = price.sell.hold_nano(input_tokens=input_tokens, output_tokens=output_tokens)
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
        changes = self.possible(place, changes)
        # plain rates, not the dearest of each side as for a hold: a rate for writing to a cache
        # says nothing about which upstream is cheaper
        rates = price.cost.rates_pico
        return amount_nano(self.input_tokens(place, changes), rates[INPUT_UNCACHED]) + amount_nano(
            self._output(changes, place), rates[OUTPUT_TEXT]
        )

    def cost(self, place: Place) -> int:
        """What the request would hold there as it was asked."""
        cost = self._costs.get(place.upstream.label)
        if cost is None:
            tokens = self._prompt.tokens(place.upstream)
            cost = self._nano(place.price, tokens, self._output(NO_CHANGES, place))
            self._costs[place.upstream.label] = cost
        return cost
