"""Margins at the door: what is served, goes elsewhere, or is throttled, over all processes."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from typing import Any

import orjson
import pytest
from caps_samples import RedisSubject
from cost_samples import FAT, THIN, under_margin
from fixtures_door import OpenDoor, rule
from fixtures_upstream import ScriptedUpstream, completion

from metering.caps import ROLLING_DAY, Cap, CapMode, Limit, Scope, ScopeKind
from metering.money import PPM
from metering.price_variants import Overlay, Variants
from metering.prices import PriceBook
from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink
from metering.window import is_rate
from proxy.admission import Routes, count_prompts
from proxy.pace import Asked, Pace, margin_cap, rerouted
from proxy.planning import Plan, plan
from proxy.settings import Settings
from proxy.wire.openai_chat.client import parse_request
from routing.cost_to_serve import CostRules, Mode, Verdict
from routing.fallback import Outcome
from routing.history import SAMPLES_MIN, History
from routing.upstreams import Model, Upstream

CAPS = (Cap(Scope(ScopeKind.TENANT), ROLLING_DAY, Limit()),)


def planned(made: Settings, model: str = "thin", **fields: Any) -> Plan:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], **fields}
    request = parse_request(orjson.dumps(body))
    route = Routes(made).find(next(iter(made.tenants.values())), model)
    return plan(route, request, count_prompts(request, route))


def pace_of(made: Settings) -> Pace:
    return Pace(made.cost_rules, History())


def test_without_rules_a_plan_stays_as_it_is() -> None:
    """Without the section nothing is looked at."""
    made = under_margin("http://x", mode=Mode.OFF)
    found = planned(made)

    judged = pace_of(made).judge(found, Asked(), 0.0)

    assert judged.plan is found
    assert judged.decision is None


def test_what_keeps_the_margin_is_served_as_it_is() -> None:
    """A model that sells for three times its cost is none of the throttle's business."""
    made = under_margin("http://x")
    found = planned(made, "fat")

    judged = pace_of(made).judge(found, Asked(), 0.0)

    assert judged.plan is found
    assert not judged.is_throttled
    assert judged.decision is not None
    assert judged.decision.verdict is Verdict.ALLOW


def test_a_request_goes_to_the_fallback_that_keeps_the_margin() -> None:
    """The cheaper model is asked first, and the one that was asked for comes after it."""
    made = under_margin("http://x", fallbacks=("dear", "fat"))

    judged = pace_of(made).judge(planned(made), Asked(), 0.0)

    assert judged.decision is not None
    assert judged.decision.verdict is Verdict.ROUTE
    order = [each.upstream.public_name for each in judged.plan.order(0)]
    assert order == ["fat", "dear", "thin"]
    assert judged.plan.admission.candidates[0].upstream == "one/fat"
    assert judged.plan.rerouted_by == "margin"


def test_a_request_that_keeps_its_model_is_throttled() -> None:
    """Whoever declines degradation does not go to another model."""
    made = under_margin("http://x")
    found = planned(made)

    judged = pace_of(made).judge(found, Asked(may_change_model=False), 0.0)

    assert judged.plan is found
    assert judged.is_throttled


def test_another_provider_of_the_same_model_is_no_other_model() -> None:
    """Between providers of one model the one that keeps the margin is asked first, whoever
    declines degradation; nothing is told as degraded."""
    made = under_margin("http://x", fallbacks=())
    both = (Upstream("one", "thin", "thin"), Upstream("one", "fat", "thin"))
    made = replace(made, models={"thin": replace(made.models["thin"], upstreams=both)})

    judged = pace_of(made).judge(planned(made), Asked(may_change_model=False), 0.0)

    assert [each.upstream.model for each in judged.plan.order(0)] == ["fat", "thin"]
    assert judged.plan.rerouted_by is None


def test_what_sells_for_less_is_found_at_the_rates_of_the_request() -> None:
    """At the priority tier `thin` sells for 22 USD per million, and `mid` for 18: by the list price
    `thin` would be the cheaper one, and the request throttled."""
    made = under_margin("http://x", fallbacks=("mid",))
    dearer = Variants(tiers={"priority": Overlay(None, 2 * PPM, 2 * PPM)})
    rules = (
        rule("thin", "10.00", multiplier_ppm=THIN, variants=dearer),
        rule("mid", "6.00", multiplier_ppm=FAT, variants=Variants(tiers={"priority": Overlay()})),
    )
    mid = Model("mid", (Upstream("one", "mid", "mid"),))
    made = replace(made, prices=PriceBook(rules), models={**made.models, "mid": mid})
    usual, dear = planned(made), planned(made, service_tier="priority")

    at_list = pace_of(made).judge(usual, Asked(), 0.0)
    at_tier = pace_of(made).judge(dear, Asked(), 0.0)

    assert at_list.is_throttled
    assert at_tier.decision is not None
    assert at_tier.decision.verdict is Verdict.ROUTE
    assert at_tier.decision.asked.sell_nano == dear.options[0].hold.nano
    assert [each.upstream.model for each in at_tier.plan.order(0)] == ["mid", "thin"]


def test_shadow_changes_nothing_in_the_plan() -> None:
    """In shadow the decision is told and the plan is as it was."""
    made = under_margin("http://x", mode=Mode.SHADOW)
    found = planned(made)

    judged = pace_of(made).judge(found, Asked(), 0.0)

    assert judged.plan is found
    assert judged.decision is not None
    assert judged.decision.verdict is Verdict.ROUTE


def test_history_moves_a_margin() -> None:
    """Failures and missed targets that were observed bring a model under the margin."""
    made = under_margin("http://x")
    pace = pace_of(made)
    found = planned(made, "fat", max_tokens=10)
    for _ in range(SAMPLES_MIN * 10):
        is_cold = pace.history.begin("one/fat", 0.0)
        pace.history.end(
            "one/fat", Outcome.SERVER_ERROR, 0.0, took_ms=None, stream=False, is_cold=is_cold
        )

    judged = pace.judge(found, Asked(), 0.0)

    assert judged.is_throttled
    assert judged.decision is not None
    assert judged.decision.reason == "margin; failures"


def test_a_rerouted_plan_keeps_its_steps_and_its_other_upstreams() -> None:
    """No upstream is lost or doubled by going to another one first."""
    made = under_margin("http://x", fallbacks=("fat", "dear"))
    found = planned(made)

    moved = rerouted(found, found.spares[0][1])

    labels = [each.upstream.label for each in moved.order(0)]
    assert labels == ["one/dear", "one/fat", "one/thin"]


@pytest.mark.parametrize("window_ms", [1_000, 1_001, 59_999, 60_000, 3_600_000])
def test_the_window_is_a_rate_and_never_too_short(window_ms: int) -> None:
    """Its requests count when they begin, and it is longer than asked by at most a sixtieth."""
    cap = margin_cap(CostRules(throttle_window_ms=window_ms), "m")

    assert is_rate(cap.window)
    length_ms = cap.window.bucket_ms * cap.window.buckets  # type: ignore[union-attr]
    assert window_ms <= length_ms <= window_ms + cap.window.bucket_ms  # type: ignore[union-attr]


def test_models_have_windows_of_their_own() -> None:
    """Any name of a model makes a label that can be part of a key."""
    found = [margin_cap(CostRules(), name).window.label for name in ("a", "meta/llama 3", "a")]

    assert found[0] == found[2] != found[1]


def test_the_same_caps_are_the_same_object() -> None:
    """Caps are found by their identity: the same in, the same out."""
    pace = Pace(CostRules(mode=Mode.ENFORCE), History())

    made = pace.caps(CAPS, "m")

    assert pace.caps(CAPS, "m") is made
    assert pace.caps(CAPS, "n") is not made
    assert made[:1] == CAPS


def test_a_decision_takes_microseconds() -> None:
    """Rerouting one of three models with a full history is decided in far less than 2 ms."""
    made = under_margin("http://x", fallbacks=("dear", "fat"))
    pace = pace_of(made)
    for number in range(2_000):
        for name in ("thin", "fat", "dear"):
            is_cold = pace.history.begin(f"one/{name}", number / 100)
            pace.history.end(
                f"one/{name}",
                Outcome.SERVED,
                number / 100,
                took_ms=number % 400,
                stream=False,
                is_cold=is_cold,
            )
    found, took_ns = planned(made), []
    for number in range(200):
        began = time.perf_counter_ns()
        judged = pace.judge(found, Asked(target_ms=300), 20.0 + number / 1000)
        took_ns.append(time.perf_counter_ns() - began)
        assert judged.decision is not None

    assert statistics.median(took_ns) < 2_000_000


# -- through the door --------------------------------------------------------------------------


async def test_the_fallback_serves_and_the_answer_says_so(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Under the margin the cheaper model answers, and header and event name the reason."""
    upstream.scripts = [[completion()]]
    door = await open_door(under_margin(upstream.url))

    answer = await door.chat(model="thin")

    assert answer.status == 200
    assert answer.headers["x-weir-model"] == "fat"
    assert answer.headers["x-weir-degraded"] == "from=thin; to=fat; reason=margin"
    assert upstream.received[0].json["model"] == "fat"
    assert [event.degrade_step for event in door.events] == ["fat"]
    assert [fields["verdict"] for name, fields in door.log.lines if name == "margin"] == ["route"]


async def test_what_is_throttled_is_told_a_time_and_no_cost(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """So many requests pass, the next is a 429 with Retry-After whose reason is the margin."""
    upstream.scripts = [[completion()] for _ in range(2)]
    door = await open_door(under_margin(upstream.url, fallbacks=(), allowed=2))

    assert [(await door.chat(model="thin")).status for _ in range(2)] == [200, 200]
    answer = await door.chat(model="thin")

    assert answer.status == 429
    assert 1 <= int(answer.headers["Retry-After"]) <= 61
    assert answer.headers["x-weir-limit-source"] == "margin"
    error = (await answer.json())["error"]
    assert error["code"] == "rate_limit_exceeded"
    assert error["metadata"]["reason"] == "margin"
    assert error["metadata"]["limit"] == 2
    assert "usd" not in (await answer.text()).lower()


async def test_shadow_serves_and_counts(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """In shadow all are served, and the metrics say what would have been refused."""
    upstream.scripts = [[completion()] for _ in range(3)]
    made = under_margin(upstream.url, fallbacks=(), allowed=2, mode=Mode.SHADOW)
    door = await open_door(made)

    assert [(await door.chat(model="thin")).status for _ in range(3)] == [200] * 3

    counters = door.door.metrics.metrics.counters
    assert counters["weir_margin_decisions_total", "thin", "would_throttle"] == 3
    assert counters["weir_cap_shadow_denials_total", ScopeKind.TENANT, "rate"] == 1


async def test_what_keeps_the_margin_does_not_count(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Requests with margin enough are served beyond the bound."""
    upstream.scripts = [[completion()] for _ in range(4)]
    door = await open_door(under_margin(upstream.url, fallbacks=(), allowed=1))

    assert [(await door.chat(model="dear")).status for _ in range(4)] == [200] * 4


async def test_processes_share_the_window(
    open_door: OpenDoor, upstream: ScriptedUpstream, redis_link: RedisLink, redis_keys: RedisKeys
) -> None:
    """Two proxies with one Redis let through as many as one, and more once the window is over."""
    subject = RedisSubject(redis_link, redis_keys)
    await subject.mark()
    made = under_margin(upstream.url, fallbacks=(), allowed=3)
    doors = [await open_door(made, subject.caps) for _ in range(2)]
    upstream.scripts = [[completion()] for _ in range(4)]

    statuses = [(await doors[turn % 2].chat(model="thin")).status for turn in range(6)]
    subject.clock.ms += 62_000
    later = await doors[0].chat(model="thin")

    assert statuses == [200, 200, 200, 429, 429, 429]
    assert later.status == 200


def test_a_margin_in_shadow_is_a_cap_in_shadow() -> None:
    """The cap that throttles refuses only where the rules are enforced."""
    modes = [margin_cap(CostRules(mode=mode), "m").mode for mode in (Mode.ENFORCE, Mode.SHADOW)]

    assert modes == [CapMode.ENFORCE, CapMode.SHADOW]
