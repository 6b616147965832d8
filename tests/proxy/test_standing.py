"""From a request to the caps it stands under: labels, pins, order, overrides, identity."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from fixtures_door import KEY as SECRET
from fixtures_door import OpenDoor, RunningDoor, settings
from fixtures_door import rule as price
from fixtures_door import tenant as acme
from fixtures_upstream import ScriptedUpstream, completion
from hypothesis import given
from hypothesis import strategies as st

from metering.caps import ROLLING_DAY, Cap, CapMode, Limit, Scope, ScopeKind
from metering.ids import is_id, scope_id
from metering.tenant_caps import Labels
from metering.tenants import (
    ANY_FEATURE,
    ApiKey,
    CapRule,
    FeatureLimits,
    SpendLimits,
    Tenant,
)
from metering.window import rolling
from proxy.errors import ContextTooLong, InvalidRequest, LabelPinned
from proxy.standing import (
    HEADERS,
    Standings,
    check_context,
    labels_of,
    refuse_contradictions,
)

KEY = ApiKey("k1", "0" * 64, "web")
MINUTE = rolling(60)


def tenant(*rules: CapRule, **fields: Any) -> Tenant:
    return Tenant(
        "acme", "Acme", SpendLimits(10**10, marks_ppm=(800_000,)), cap_rules=rules, **fields
    )


def rule(kind: ScopeKind, name: str | None = None, **limit: int) -> CapRule:
    return CapRule(kind, MINUTE, Limit(**(limit or {"requests": 5})), name)


EVERYTHING = Labels("search", "alice", "s1", "r1")


def test_every_scope_in_its_order() -> None:
    """The daily cap comes first, then each rule by its scope; every scope can be stopped."""
    kinds = reversed(ScopeKind)

    standing = Standings().find(tenant(*map(rule, kinds)), KEY, EVERYTHING)

    scopes = [
        Scope(ScopeKind.TENANT),
        Scope(ScopeKind.PROJECT, "web"),
        Scope(ScopeKind.KEY, "k1"),
        Scope(ScopeKind.FEATURE, "search"),
        Scope(ScopeKind.USER, "alice"),
        Scope(ScopeKind.SESSION, "s1"),
        Scope(ScopeKind.RUN, "r1"),
    ]
    assert standing.caps == (
        Cap(scopes[0], ROLLING_DAY, Limit(nano=10**10), marks_ppm=(800_000,)),
        *(Cap(scope, MINUTE, Limit(requests=5)) for scope in scopes),
    )
    assert list(standing.stops) == scopes[1:]


def test_spend_counts_without_any_cap() -> None:
    """A tenant without caps still has its daily window, unlimited."""
    free = replace(tenant(), limits=SpendLimits())

    standing = Standings().find(free, KEY, Labels())

    assert standing.caps == (Cap(Scope(ScopeKind.TENANT), ROLLING_DAY, Limit()),)
    assert [scope.kind for scope in standing.stops] == [ScopeKind.PROJECT, ScopeKind.KEY]


def test_a_rule_with_an_id_replaces_the_one_without() -> None:
    """For its own key, and in the same window only; its mode and marks come along."""
    loose = CapRule(ScopeKind.KEY, ROLLING_DAY, Limit(nano=9))
    own = CapRule(ScopeKind.KEY, MINUTE, Limit(requests=1), "k1", CapMode.SHADOW, (1,))
    rules = (loose, rule(ScopeKind.KEY), own)

    mine = Standings().find(tenant(*rules), KEY, Labels()).caps[1:]
    other = Standings().find(tenant(*rules), replace(KEY, id="k2"), Labels()).caps[1:]

    scope = Scope(ScopeKind.KEY, "k1")
    assert mine == (
        Cap(scope, ROLLING_DAY, Limit(nano=9)),
        Cap(scope, MINUTE, Limit(requests=1), CapMode.SHADOW, (1,)),
    )
    assert [cap.limit for cap in other] == [Limit(nano=9), Limit(requests=5)]


def test_the_same_caps_are_the_same_object() -> None:
    """Requests that differ in labels without caps share one tuple, found by its identity."""
    standings, capped = Standings(), tenant(rule(ScopeKind.USER))

    first = standings.find(capped, KEY, Labels(user="alice", run="r1"))
    second = standings.find(capped, KEY, Labels(user="alice", run="r2"))
    other = standings.find(capped, KEY, Labels(user="bob", run="r1"))

    assert first is standings.find(capped, KEY, Labels(user="alice", run="r1"))
    assert first.caps is second.caps
    assert first.stops != second.stops
    assert other.caps != first.caps


def test_what_is_remembered_is_bounded() -> None:
    """The oldest standings make room, and an entry keeps its tenant from being another's."""
    standings = Standings(kept_max=2)
    alice = standings.find(tenant(rule(ScopeKind.USER)), KEY, Labels(user="alice"))

    for number in range(50):
        one = tenant(rule(ScopeKind.USER, requests=number + 1))
        found = standings.find(one, KEY, Labels(user="alice"))
        assert found.caps[-1].limit.requests == number + 1

    assert alice.caps[-1].limit.requests == 5


PINNED = replace(KEY, pins={ScopeKind.FEATURE: "search", ScopeKind.USER: "Ann Lee"})

LABELS: dict[str, tuple[ApiKey, dict[str, str], str | None, Labels]] = {
    "nothing said": (KEY, {}, None, Labels()),
    "all said": (
        KEY,
        dict(zip(HEADERS.values(), ("f", "u v", "s", "r"), strict=True)),
        None,
        Labels("f", "u v", "s", "r"),
    ),
    "user of the body": (KEY, {}, "bob", Labels(user="bob")),
    "header before body": (KEY, {"x-weir-user": "alice"}, "bob", Labels(user="alice")),
    "pins count": (PINNED, {}, None, Labels("search", "Ann Lee")),
    "pins agreed with": (
        PINNED,
        {"x-weir-feature": "search"},
        "Ann Lee",
        Labels("search", "Ann Lee"),
    ),
    "beside pins": (PINNED, {"x-weir-run": "r"}, None, Labels("search", "Ann Lee", None, "r")),
}


@pytest.mark.parametrize(("key", "headers", "user", "labels"), LABELS.values(), ids=LABELS)
def test_labels(key: ApiKey, headers: Mapping[str, str], user: str | None, labels: Labels) -> None:
    """Headers go before the body, and pins stand in for what is not said."""
    assert labels_of(key, headers, user) == labels


CONTRADICTIONS = {
    "feature": ({"x-weir-feature": "chat"}, None, "x-weir-feature"),
    "user header": ({"x-weir-user": "bob"}, None, "x-weir-user"),
    "user of the body": ({}, "bob", "user"),
    "body behind a header that agrees": ({"x-weir-user": "Ann Lee"}, "bob", "user"),
}


@pytest.mark.parametrize(("headers", "user", "param"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_a_pin_is_not_contradicted(
    headers: Mapping[str, str], user: str | None, param: str
) -> None:
    """A request that names another value than its key's is refused, and told where it did."""
    with pytest.raises(LabelPinned) as refused:
        labels_of(PINNED, headers, user)

    assert refused.value.param == param
    assert f"`{param}`" in refused.value.message


MALFORMED = {
    "feature": ("x-weir-feature", "a/b"),
    "session": ("x-weir-session", ""),
    "run": ("x-weir-run", "x" * 65),
    "user": ("x-weir-user", "a\tb"),
    "long user": ("x-weir-user", "x" * 257),
    "surrogate": ("x-weir-user", "a\udcff"),
}


@pytest.mark.parametrize(("header", "value"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_labels_are_named(header: str, value: str) -> None:
    """What cannot be a label is a 400 that names its header."""
    with pytest.raises(InvalidRequest) as refused:
        labels_of(KEY, {header: value}, None)

    assert (refused.value.status, refused.value.param) == (400, header)


@given(st.text(min_size=1, max_size=300))
def test_any_user_has_a_scope(user: str) -> None:
    """A user of any name has a scope whose id can stand in a key, the same each time."""
    [scope] = [
        each
        for each in Standings().find(tenant(), KEY, Labels(user=user)).stops
        if each.kind is ScopeKind.USER
    ]

    assert is_id(scope.id)
    assert scope.id == scope_id(user)


CONTEXT = {ANY_FEATURE: FeatureLimits(100), "chat": FeatureLimits(10), "free": FeatureLimits(None)}


@pytest.mark.parametrize(("feature", "allowed"), [(None, 100), ("other", 100), ("chat", 10)])
def test_a_prompt_over_its_feature(feature: str | None, allowed: int) -> None:
    """The limit of the feature holds, else that of any; the words are OpenAI's."""
    limited = tenant(feature_limits=CONTEXT)
    check_context(limited, feature, allowed)

    with pytest.raises(ContextTooLong) as refused:
        check_context(limited, feature, allowed + 1)

    assert refused.value.message == (
        f"This model's maximum context length is {allowed} tokens. However, your messages "
        f"resulted in {allowed + 1} tokens. Please reduce the length of the messages."
    )
    assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "messages")


def test_a_feature_without_a_bound() -> None:
    """A feature may be without a bound, and so may a tenant."""
    check_context(tenant(feature_limits=CONTEXT), "free", 10**6)
    check_context(tenant(), None, 10**6)


HI = [{"role": "user", "content": "hi"}]


async def ask(door: RunningDoor, headers: dict[str, str], **fields: object) -> tuple[int, Any]:
    """Status and body of one chat completion."""
    async with door.http.post(
        f"{door.url}/v1/chat/completions",
        json={"model": "m", "messages": HI, **fields},
        headers={"Authorization": f"Bearer {SECRET}", **headers},
    ) as answer:
        return answer.status, await answer.json()


async def test_each_user_has_a_cap_of_its_own(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """What one user has spent is in nobody else's way; the refusal names the user's scope."""
    upstream.scripts = [[completion()]]
    daily = CapRule(ScopeKind.USER, rolling(2 * 86_400), Limit(requests=1))
    door = await open_door(settings({"one": upstream.url}, who=replace(acme(), cap_rules=(daily,))))

    first = await ask(door, {}, user="ann@example.com")
    again = await ask(door, {"x-weir-user": "ann@example.com"})
    other = await ask(door, {}, user="bob")
    nobody = await ask(door, {})

    assert [each[0] for each in (first, again, other, nobody)] == [200, 429, 200, 200]
    metadata = again[1]["error"]["metadata"]
    assert metadata["scope"] == f"user:{scope_id('ann@example.com')}"
    assert (metadata["window"], metadata["dimension"]) == ("rolling_2d", "requests")


async def test_pins_stand_in_the_event(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """What a key is pinned to is what is recorded; who says otherwise is refused unserved."""
    upstream.scripts = [[completion()]]
    who = acme()
    pinned = replace(who.keys[0], pins={ScopeKind.FEATURE: "search", ScopeKind.USER: "Ann Lee"})
    door = await open_door(settings({"one": upstream.url}, who=replace(who, keys=(pinned,))))

    served = await ask(door, {"x-weir-run": "r1"})
    refused = await ask(door, {"x-weir-feature": "chat"})

    assert served[0] == 200
    [event] = door.events
    assert (event.feature, event.user, event.run) == ("search", "Ann Lee", "r1")
    assert (refused[0], refused[1]["error"]["code"]) == (403, "label_pinned")


async def test_a_long_prompt_is_refused_before_anything_is_held(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """The feature's bound goes for the prompt as the upstream's model counts it."""
    limits = {"chat": FeatureLimits(max_context_tokens=20)}
    who = replace(acme(), feature_limits=limits)
    door = await open_door(settings({"one": upstream.url}, who=who, rules=(price("*"),)))
    long = [{"role": "user", "content": "word " * 50}]

    status, body = await ask(door, {"x-weir-feature": "chat"}, messages=long)

    assert (status, body["error"]["code"]) == (400, "context_length_exceeded")
    assert body["error"]["type"] == "invalid_request_error"
    assert upstream.received == []


async def test_answers_tell_of_the_tightest_rate(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Every answer says what is left of a rate and when room frees, as OpenAI writes it."""
    upstream.scripts = [[completion()]]
    rates = (
        CapRule(ScopeKind.TENANT, MINUTE, Limit(requests=5, tokens=100_000)),
        CapRule(ScopeKind.KEY, MINUTE, Limit(requests=3)),
    )
    door = await open_door(settings({"one": upstream.url}, who=replace(acme(), cap_rules=rates)))

    answers = [await door.chat() for _ in range(4)]

    remaining = [each.headers["x-ratelimit-remaining-requests"] for each in answers]
    assert [each.status for each in answers] == [200, 200, 200, 429]
    assert remaining == ["2", "1", "0", "0"]
    assert {each.headers["x-ratelimit-limit-requests"] for each in answers} == {"3"}
    served, refused = answers[0].headers, answers[-1].headers
    assert int(served["x-ratelimit-remaining-tokens"]) == 100_000 - 15
    assert re.fullmatch(r"(1m)?[0-9.]+m?s", served["x-ratelimit-reset-requests"])
    assert 1 <= int(refused["Retry-After"]) <= 61


def test_a_label_is_named_once_or_alike() -> None:
    """Two values of one header: whoever stands in front of us may have believed the other."""
    once = {"x-weir-run": ["a", "a"], "x-weir-session": ["b"]}
    twice = {"x-weir-run": ["a", "b"]}

    refuse_contradictions(lambda name: once.get(name, []))
    with pytest.raises(InvalidRequest, match="x-weir-run"):
        refuse_contradictions(lambda name: twice.get(name, []))
