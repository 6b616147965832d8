"""What stands between a request and a place: what its format cannot carry, what its model lacks.

Pure: reasons by name, and the refusals that they come to at the door.
"""

from __future__ import annotations

from collections.abc import Sequence

from proxy.admission import Place, PromptCount, Route
from proxy.chat import ChatRequest
from proxy.errors import ContextTooLong, InvalidRequest, UnpricedModel, UnsupportedParameter
from proxy.estimates import Estimates
from proxy.needs import needs_of
from proxy.price_asks import NO_ASKS
from proxy.wire import client_format
from routing.abilities import ANY, Needs, is_too_long, lacks
from routing.degrade import NO_CHANGES, Changes

ENDPOINT = "endpoint"
"""What an upstream lacks whose vendor has nothing of the kind that was asked for."""

OWN_MODEL = "the_model_asked_for"
"""What every other model lacks for a request whose answers are worth nothing beside another's."""


class Obstacles:
    """What stands in the way of one request, place by place."""

    def __init__(
        self, route: Route, request: ChatRequest, prompt: PromptCount, estimates: Estimates
    ) -> None:
        self._route, self._request, self._prompt = route, request, prompt
        self._estimates = estimates
        self._needs: Needs | None = None
        """What the request uses; read from its body once somebody asks."""

    def uncarried(self, place: Place) -> tuple[str, ...]:
        """What of the request cannot be said to this upstream, or has no price there: fields by
        name."""
        if missing := self._unsaid(place):
            return missing
        return () if (unpriced := self._unpriced(place)) is None else (f"price:{unpriced[0]}",)

    def _unpriced(self, place: Place) -> tuple[str, str] | None:
        """What is asked for that costs more than tokens do and has no price there, under a cap."""
        if not self._route.is_capped or place.price is None:
            return None
        asks = self._estimates.asks_at(place)
        return None if asks is NO_ASKS else asks.unpriced(place.price)

    def _unsaid(self, place: Place) -> tuple[str, ...]:
        request = self._request
        if request.format in place.formats:
            return ()
        way = self._estimates.way(place)
        if way is None:
            return (ENDPOINT,)
        if place.drops and request.chat.get("messages"):
            return ()  # where nothing of the conversation can be said, there is nothing to ask
        return tuple(way.lacks(request))

    def not_carried(self, place: Place) -> InvalidRequest:
        """The refusal for what this place's format cannot carry, or has no price for."""
        missing, model = self._unsaid(place), self._route.model
        if not missing and (unpriced := self._unpriced(place)) is not None:
            name, what = unpriced
            return UnpricedModel(
                f"The model `{model}` has no price for {what}, and this tenant has a money cap. "
                f"Leave it out, or add its price to the rule for `{place.upstream.model}` in "
                "`pricing.rules`.",
                param=name,
            )
        if missing == (ENDPOINT,):
            return InvalidRequest(
                f"No upstream of the model `{model}` serves this endpoint.", param="model"
            )
        names = ", ".join([f"`{name}`" for name in missing])
        return UnsupportedParameter(
            f"The model `{model}` is served in another wire format, which cannot carry {names}. "
            "Leave it out, or ask for a model that takes it.",
            param=missing[0],
        )

    def lacks(self, place: Place, changes: Changes) -> tuple[str, ...]:
        """What the request needs and this place has not, by name, whichever model it serves."""
        is_other = place.upstream.public_name != self._route.model
        if is_other and client_format(self._request.format).KEEPS_MODEL:
            return (OWN_MODEL,)
        if uncarried := self.uncarried(place):
            return uncarried
        if place.abilities == ANY:
            return ()
        if self._needs is None:
            self._needs = needs_of(self._request.chat)
        return lacks(
            place.abilities,
            self._needs,
            prompt_tokens=self._estimates.input_tokens(
                place, self._estimates.possible(place, changes)
            ),
            output_tokens=self._estimates.choice_tokens(changes),
        )

    def check_context(self, place: Place) -> None:
        """Raise the refusal of a prompt that is too long for this place's model."""
        abilities, limit = place.abilities, self._request.output_limit
        longest = abilities.max_context_tokens
        if longest is None:
            return
        tokens = self._prompt.tokens(place.upstream)
        if not is_too_long(
            abilities, prompt_tokens=tokens, output_tokens=self._estimates.choice_tokens(NO_CHANGES)
        ):
            return
        if limit is None or tokens > longest:
            raise ContextTooLong(
                f"This model's maximum context length is {longest} tokens. However, your messages "
                f"resulted in {tokens} tokens. Please reduce the length of the messages.",
                param="messages",
            )
        raise ContextTooLong(
            f"This model's maximum context length is {longest} tokens. However, you requested "
            f"{tokens + limit} tokens ({tokens} in the messages, {limit} in the completion). "
            "Please reduce the length of the messages or completion.",
            param="messages",
        )


def lacks_text(missing: Sequence[str]) -> str:
    """The same in words for a header."""
    return f"lacks={','.join(missing)}"
