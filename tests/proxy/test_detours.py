"""Where a request goes that one model cannot serve."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fixtures_door import settings, tenant

from metering.caps import Vector
from metering.meter import Meter
from metering.tokenizer import tokenizer_for
from proxy.admission import Routes
from proxy.attempts import Attempt
from proxy.chat import ChatRequest
from proxy.choosing import NOWHERE
from proxy.detours import Detours, after, longer_route
from proxy.wire import client_format
from routing.abilities import Abilities
from routing.degrade import NO_CHANGES, Changes
from routing.fallback import Outcome
from routing.policy import Option
from routing.retries import OnFailure
from routing.upstreams import Model, Upstream

TOO_LONG, POLICY = Outcome.CONTEXT_TOO_LONG, Outcome.CONTENT_POLICY
ASKED = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"tools":[{"type":"function"}]}'


def model(name: str, *, abilities: Abilities | None = None, **own: tuple[str, ...]) -> Model:
    ups = tuple(Upstream(provider, f"up-{name}", name) for provider in ("one", "two"))
    return Model(name, ups, abilities=abilities or Abilities(), on_failure=OnFailure(**own))


MODELS = {
    each.name: each
    for each in (
        model("m", context_fallbacks=("large", "toolless"), content_policy_fallbacks=("free",)),
        model("plain"),
        model("large", abilities=Abilities(max_context_tokens=9_000)),
        model("toolless", abilities=Abilities(tools=False)),
        model("free", content_policy_fallbacks=("plain",)),
    )
}
ROUTES = Routes(settings({"one": "http://x", "two": "http://x"}, models=MODELS))


def request(raw: bytes = ASKED) -> ChatRequest:
    return client_format("openai_chat").parse_request(raw)


def named(outcome: Outcome, changes: Changes = NO_CHANGES) -> list[Option]:
    route = ROUTES.find(tenant(), "m")
    return Detours(route, request(), is_elastic=False, around=NOWHERE).options(outcome, changes)


def names(options: list[Option]) -> list[str]:
    return [f"{each.upstream.provider}:{each.upstream.public_name}" for each in options]


def test_a_detour_is_what_the_model_names() -> None:
    """Both upstreams of each model that has what the request uses, not those that these name."""
    assert names(named(TOO_LONG)) == ["one:large", "two:large"]
    assert names(named(POLICY)) == ["one:free", "two:free"]
    assert named(Outcome.REFUSED) == []


def test_a_detour_is_priced_with_the_changes_in_force() -> None:
    """Near a cap it stays what a step made of the request."""
    usual, changed = named(TOO_LONG)[0], named(TOO_LONG, Changes(max_tokens=7))[0]

    assert (usual.output_tokens, changed.output_tokens) == (1000, 7)
    assert 0 < changed.hold.nano < usual.hold.nano
    assert usual.context_tokens_max == 9_000


def test_embeddings_stay_with_their_model() -> None:
    """What is worth nothing beside another model's has no detour."""
    asked = client_format("openai_embeddings").parse_request(b'{"model":"m","input":"hi"}')
    route = ROUTES.find(tenant(), "m")

    assert (
        Detours(route, asked, is_elastic=False, around=NOWHERE).options(TOO_LONG, NO_CHANGES) == []
    )


def test_a_longer_route_is_that_of_its_fallbacks() -> None:
    """For who names them; others have none."""
    longer = longer_route(ROUTES.find(tenant(), "m"))

    assert longer is not None
    assert {place.upstream.public_name for place in longer.places} == {"large", "toolless"}
    assert longer_route(ROUTES.find(tenant(), "plain")) is None


@pytest.mark.parametrize(
    ("window", "left"), [(None, ["one:large", "two:large"]), (9_000, []), (10, ["one:large"] * 1)]
)
def test_no_detour_to_a_window_that_is_not_larger(window: int | None, left: list[str]) -> None:
    """Where both are known; what somebody named is asked where one is not."""
    options = named(TOO_LONG)
    failed = replace(options[0], upstream=MODELS["m"].upstreams[0], context_tokens_max=window)
    if window == 10:
        options = options[:1]

    assert names(after(TOO_LONG, [(failed, TOO_LONG)], named=options, waiting=[])) == left


def test_nobody_is_asked_twice() -> None:
    """Neither where the exchange has been, nor a model that has refused over its policy."""
    one, two = named(POLICY)
    elsewhere = replace(one, upstream=MODELS["plain"].upstreams[0])

    assert after(POLICY, [(one, POLICY)], named=[one, two], waiting=[elsewhere]) == []
    assert after(
        POLICY, [(one, Outcome.TIMEOUT), (elsewhere, POLICY)], named=[one, two, two], waiting=[]
    ) == [two]


def test_whether_another_model_is_left() -> None:
    """Those that were tried do not count, and no outcome without a key does."""
    route = ROUTES.find(tenant(), "m")
    detours = Detours(route, request(), is_elastic=False, around=NOWHERE)

    def tried(name: str) -> Attempt:
        option = Option(Upstream("one", "x", name), None, Vector())
        return Attempt(1, "e", option, "openai", Meter(tokenizer_for("x"), 1), 0)

    assert detours.has_left(POLICY, [tried("m")])
    assert not detours.has_left(POLICY, [tried("m"), tried("free")])
    assert not detours.has_left(Outcome.REFUSED, [])
