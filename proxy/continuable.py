"""What a request needs to have its stream continued by another upstream, once it breaks off. Pure.

The next upstream gets the conversation with the text so far: as the beginning of its answer where
its model takes one, else with the instruction to go on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from metering.calibration import Calibration
from metering.caps import Vector
from proxy.admission import Place, Route, count_prompts
from proxy.allowance import part_of
from proxy.chat import ChatRequest
from proxy.estimates import Estimates
from proxy.obstacles import Obstacles
from proxy.passage import passage
from proxy.wire import client_format, continuing
from routing.degrade import Changes
from routing.policy import Option

INSTRUCTION = (
    "Your answer was cut off. Continue it exactly where it ends, in the middle of a word if it "
    "ends there. Repeat nothing of it, and add no introduction or remark."
)


def may_continue(request: ChatRequest) -> bool:
    """Whether the answer to this request may be told by two models: one stream of text, in which
    nothing depends on what only the first of them knows."""
    chat = request.chat
    shape = chat.get("response_format")
    modalities = chat.get("modalities")
    return (
        request.stream
        and request.choices == request.candidates == 1
        and not request.may_refer
        and continuing(client_format(request.format)) is not None
        and isinstance(chat.get("messages"), list)
        and (not isinstance(shape, dict) or shape.get("type") in (None, "text"))
        and not (chat.get("logprobs") or chat.get("audio") or chat.get("top_logprobs"))
        and (not isinstance(modalities, list) or "audio" not in modalities)
    )


@dataclass(frozen=True, slots=True)
class Continuable:
    """One request whose answer may be continued; `is_elastic` as for its estimates."""

    route: Route
    request: ChatRequest
    is_elastic: bool

    def request_for(self, option: Option, text: str) -> ChatRequest:
        """The request with the text so far, as this upstream is asked to go on."""
        place = self._place(option)
        return self.request if place is None else self._request_at(place, text)

    def option(
        self,
        option: Option,
        text: str,
        *,
        left: int | None,
        spent: Vector,
        calibration: Calibration | None = None,
    ) -> Option | None:
        """The option to go on with: its hold covers `spent`, too. None where it cannot."""
        place = self._place(option)
        if place is None:
            return None
        request = self._request_at(place, text)
        route = replace(self.route, own=(place,), spare=(), targets={})
        prompt = count_prompts(request, route, calibration)
        estimates = Estimates(route, request, prompt, is_elastic=self.is_elastic)
        changes = Changes(left, option.changes.instruct)
        if Obstacles(route, request, prompt, estimates).lacks(place, changes):
            return None
        return _with_spent(estimates.option(place, changes), spent)

    def _place(self, option: Option) -> Place | None:
        detours = [place for found in self.route.detours.values() for place in found]
        for place in (*self.route.places, *detours):
            if place.upstream == option.upstream:
                return place
        return None

    def _request_at(self, place: Place, text: str) -> ChatRequest:
        said = text.rstrip()
        if not said:
            return self.request
        added: list[dict[str, Any]] = [{"role": "assistant", "content": said}]
        if not self._takes_beginning(place):
            added.append({"role": "user", "content": INSTRUCTION})
        request = self.request
        return replace(
            request,
            body=_with_messages(request.body, added),
            as_chat=None if request.as_chat is None else _with_messages(request.as_chat, added),
        )

    def _takes_beginning(self, place: Place) -> bool:
        """Whether the last message of a conversation may be the beginning of the answer there."""
        chat = self.request.chat
        if (
            chat.get("reasoning_effort")
            or chat.get("thinking")
            or self.request.body.get("thinking")
        ):
            return False  # thoughts would have to come first
        way = passage(self.request.format, place.formats)
        takes = None if way is None else getattr(way.upstream, "takes_beginning", None)
        return takes is not None and bool(takes(place.upstream.model))


def _with_messages(body: Mapping[str, Any], added: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {**body, "messages": [*body["messages"], *added]}


def _with_spent(option: Option, spent: Vector) -> Option:
    part, hold = part_of(option), option.hold
    base = Vector(part.base.nano + spent.nano, part.base.tokens + spent.tokens, part.base.requests)
    return replace(
        option,
        hold=Vector(hold.nano + spent.nano, hold.tokens + spent.tokens, hold.requests),
        elastic=replace(part, base=base),
        spent=spent,
    )
