"""`weir explain` in pure code: where a request would go, and what stands in its way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from choice_samples import choosing, up
from fixtures_door import tenant
from plan_samples import three_models
from rich.console import Console

from metering.steps import Step, Steps
from metering.tenant_caps import caps_under
from metering.tenants import BALANCE_RULE, Prepaid, Principal
from proxy.choosing import Around
from proxy.explain import Question, Seen, explanation
from proxy.explain_table import explain_table
from proxy.settings import Settings
from proxy.wire.openai_chat.client import parse_request
from routing.abilities import Abilities
from routing.conditions import Traits
from routing.fallback import Outcome
from routing.health import Health
from routing.retries import OnFailure
from routing.upstreams import Model, Strategy

NO_REDIS = Seen(cause="connection refused")
TWO = (up("a", "large"), up("b", "small", tags=frozenset({"eu"})))


def explained(
    made: Settings, *, model: str = "auto", seen: Seen = NO_REDIS, **fields: Any
) -> dict[str, Any]:
    """The explanation of a request with these fields; `health` is what is known of upstreams."""
    who = next(iter(made.tenants.values()))
    health = fields.pop("health", None)
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], **fields}
    asked = Question(
        Principal(who, who.keys[0]),
        parse_request(orjson.dumps(body)),
        Around("x", Traits({"tenant": who.id}), None, 1.0, None, health),
        caps_under(who, ()),
    )
    return explanation(made, asked, seen)


def test_credit_that_is_not_published_is_refused_and_not_unlimited() -> None:
    """As the proxy refuses it: 503."""
    who = replace(tenant(None), cap_rules=(BALANCE_RULE,), prepaid=Prepaid(hard_stop=True))
    made = replace(three_models(), tenants={who.id: who})
    unknown = Seen({**(limits_of("1.0").limits or {}), "balance_unknown": True})

    refused, unread = explained(made, model="dear", seen=unknown), explained(made, model="dear")

    assert (refused["allowed"], refused["refusal"]["status"]) == (False, 503)
    assert "prepaid_balance (enforce): what is left Redis alone knows" in text_of(unread)


def limits_of(remaining: str) -> Seen:
    usd = {"limit": "10.000000", "remaining": remaining}
    none = {"limit": None, "remaining": None}
    cap = {"scope": "tenant:acme", "window": "rolling_24h", "mode": "enforce", "usd": usd}
    return Seen({"caps": [{**cap, "tokens": none, "requests": none}], "flags": []})


def text_of(body: dict[str, Any]) -> str:
    console = Console(width=250)
    with console.capture() as caught:
        console.print(explain_table(body))
    return caught.get()


def test_every_upstream_is_explained() -> None:
    """In the order of asking, with reason, price, abilities and what would be held."""
    small = Model("spare", (up("c", "medium", "spare", abilities=Abilities(tools=False)),))
    made = choosing(*TWO, strategy=Strategy.LEAST_COST, others=(small,), fallbacks=("spare",))

    body = explained(made, max_tokens=100)
    rows = {row["upstream"]: row for row in body["upstreams"]}

    assert [(row["asked"], row["upstream"], row["reason"]) for row in body["upstreams"]] == [
        (1, "b/small", "cheapest"),
        (2, "a/large", "dearer"),
        (3, "c/medium", "fallback"),
    ]
    assert rows["b/small"]["tags"] == ["eu"]
    assert rows["b/small"]["price"]["sell_input_per_mtok"] == "1.0000"
    assert rows["a/large"]["price"]["cost_output_per_mtok"] == "16.0000"
    assert rows["c/medium"]["abilities"] == {"tools": False}
    assert body["held"] == rows["b/small"]["held"]
    assert body["allowed"]
    assert body["strategy"] == {"strategy": "least_cost", "affinity": "none"}


def test_without_redis_it_says_so() -> None:
    """What was not read is not guessed: no spend, no breaker."""
    body = explained(choosing(*TWO))

    assert body["redis"] == {"is_read": False, "cause": "connection refused"}
    assert body["caps"][0]["usd"] == {"limit": "10.000000"}
    assert {row["breaker"] for row in body["upstreams"]} == {None}
    assert body["fits"] is None
    assert "Redis was not read (connection refused)" in text_of(body)


def test_the_first_that_fits_is_named() -> None:
    """By what is left of every enforced cap."""
    made = choosing(*TWO)

    plenty = explained(made, seen=limits_of("10.000000"), max_tokens=1000)
    little = explained(made, seen=limits_of("0.005000"), max_tokens=1000)
    nothing = explained(made, seen=limits_of("0.000001"), max_tokens=1000)

    assert [each["fits"] for each in (plenty, little, nothing)] == ["a/large", "b/small", None]
    assert "nothing fits whole" in text_of(nothing)
    assert "b/small is the first that fits" in text_of(little)


def test_a_breaker_that_is_open_is_shown() -> None:
    """And its upstream is not asked first."""
    health = Health()
    health.record("a/large", Outcome.RATE_LIMITED, 1.0, retry_after_s=30.0)

    body = explained(choosing(*TWO), health=health)

    assert [(row["upstream"], row["breaker"]) for row in body["upstreams"]] == [
        ("b/small", "closed"),
        ("a/large", "open"),
    ]


def test_a_fallback_that_is_asked_first_is_shown_first() -> None:
    """While all upstreams of the model itself are passed over, as the proxy does."""
    health = Health()
    health.record("a/large", Outcome.RATE_LIMITED, 1.0, retry_after_s=30.0)
    spare = Model("spare", (up("c", "medium", "spare"),))
    made = choosing(up("a", "large"), others=(spare,), fallbacks=("spare",))

    body = explained(made, health=health, seen=limits_of("10.000000"))

    assert [(row["asked"], row["upstream"], row["reason"]) for row in body["upstreams"]] == [
        (1, "c/medium", "healthy"),
        (2, "a/large", "failing"),
    ]
    assert body["fits"] == "c/medium"


def test_a_prompt_that_is_too_long_goes_where_it_fits() -> None:
    """To `context_fallbacks`, as in the proxy; the model asked for is told with what it lacks."""
    roomy = Model("roomy", (up("b", "medium", "roomy"),))
    small = up("a", "large", abilities=Abilities(max_context_tokens=50))
    ways = OnFailure(context_fallbacks=("roomy",))
    long = [{"role": "user", "content": "word " * 100}]

    body = explained(choosing(small, others=(roomy,), on_failure=ways), messages=long)
    without = explained(choosing(small), messages=long)

    assert body["allowed"]
    assert [(row["asked"], row["upstream"], row["reason"]) for row in body["upstreams"]] == [
        (1, "b/medium", "only"),
        (None, "a/large", "lacks=context"),
    ]
    assert body["detours"] == {"context_too_long": ["b/medium"]}
    assert "after a prompt that is too long: b/medium" in text_of(body)
    assert without["refusal"]["code"] == "context_length_exceeded"


def test_a_refusal_is_an_answer() -> None:
    """With what the client would get, and the upstreams all the same."""
    blind = Abilities(vision=False)
    made = choosing(up("a", "large", abilities=blind))
    image = [{"role": "user", "content": [{"type": "image_url"}]}]

    body = explained(made, messages=image)

    assert not body["allowed"]
    assert body["refusal"]["code"] == "unsupported_by_model"
    assert body["request"]["uses"] == ["vision"]
    assert [(row["upstream"], row["reason"]) for row in body["upstreams"]] == [
        ("a/large", "lacks=vision")
    ]
    assert "refused, 400 unsupported_by_model" in text_of(body)


def test_a_model_that_is_not_allowed() -> None:
    """Nothing of its route is told, but that it is not for this tenant."""
    made = choosing(*TWO)
    who = replace(tenant(), models=("other",))

    body = explained(replace(made, tenants={"acme": who}))

    assert body["refusal"]["code"] == "model_not_allowed"
    assert body["upstreams"] == []


def test_who_is_paused_is_not_allowed() -> None:
    """Flags stand in the way whatever is left."""
    seen = limits_of("10.000000")
    flag = {"flag": "paused", "scope": "tenant:acme", "by": "ann", "why": "audit", "at": None}
    assert seen.limits is not None
    paused = Seen({**seen.limits, "flags": [flag]})

    body = explained(choosing(*TWO), seen=paused)

    assert not body["allowed"]
    assert "tenant:acme is paused: audit" in text_of(body)


def test_stages_are_told() -> None:
    """What the request comes to near a cap, and what it would not step down to."""
    steps = (Step(500_000, to="middle"), Step(800_000, to="cheap"), Step(900_000, cache_only=True))
    made = three_models(*steps, cheap=Abilities(tools=False))
    assert isinstance(made.tenants["acme"].limits.steps, Steps)

    body = explained(made, model="dear", tools=[{"type": "function", "function": {"name": "f"}}])

    assert [(row["at"], row["becomes"], row["skipped"]) for row in body["stages"]] == [
        (0.5, "middle", []),
        (0.8, "middle", ["cheap: lacks=tools"]),
        (0.9, "only what is cached", []),
    ]
    assert "from 0.8 of a cap on: middle (not cheap: lacks=tools)" in text_of(body)


@pytest.mark.parametrize(
    ("stage", "mode", "fits"),
    [
        (0, "enforce", "dear"),
        (1, "enforce", "middle"),
        (2, "enforce", "cheap"),
        (3, "enforce", None),
        (2, "shadow", "dear"),
    ],
)
def test_the_stage_that_holds_now_decides_what_fits(
    stage: int, mode: str, fits: str | None
) -> None:
    """As far as it is not on trial: what is above it is not asked."""
    steps = (Step(500_000, to="middle"), Step(800_000, to="cheap"), Step(900_000, cache_only=True))
    made = three_models(*steps)
    seen = limits_of("10.000000")
    assert seen.limits is not None
    row = {
        "steps": "tenant",
        "mode": mode,
        "stage": stage,
        "of": 3,
        "since": None,
        "by_floor": False,
        "in_force": [],
    }
    others = {**row, "steps": "model:dear", "stage": 3}

    body = explained(
        made, model="dear", seen=Seen({**seen.limits, "degradation": [others, row]}), max_tokens=10
    )

    found = body["fits"] and next(
        each["serves"] for each in body["upstreams"] if each["upstream"] == body["fits"]
    )
    assert found == fits
    assert f"now: degradation (tenant, {mode}): stage {stage} of 3" in text_of(body)
