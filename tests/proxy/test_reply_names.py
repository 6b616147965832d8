"""Which requests are the same, and of which no answer is kept."""

from __future__ import annotations

import random
from dataclasses import replace
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.chat import ChatRequest
from proxy.reply_names import (
    LABELS,
    question_digest,
    repeat_name,
    reply_name,
    why_not_kept,
)
from proxy.wire import client_format

SALT = b"0123456789abcdef"
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def parsed(body: dict[str, Any], spoken: str = "openai_chat") -> ChatRequest:
    return client_format(spoken).parse_request(orjson.dumps(body))


def name(request: ChatRequest, **other: Any) -> str:
    said = {"upstreams": ["one/up-m"], "scope": "", "owner": "t.acme", "salt": SALT, **other}
    upstreams, scope = said.pop("upstreams"), said.pop("scope")
    return reply_name(request, upstreams, scope, **said)


def shuffled(value: Any, chance: random.Random) -> Any:
    """The same with the names of every object in another order."""
    if isinstance(value, dict):
        names = list(value)
        chance.shuffle(names)
        return {each: shuffled(value[each], chance) for each in names}
    if isinstance(value, list):
        return [shuffled(each, chance) for each in value]
    return value


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = st.dictionaries(
    st.text(min_size=1, max_size=8).filter(lambda each: each not in LABELS), JSON, max_size=4
)


@given(FIELDS, st.randoms(use_true_random=False))
def test_order_and_space_say_nothing(fields: dict[str, Any], chance: random.Random) -> None:
    """The same request, however it is written down."""
    body = {**CHAT, "extra": fields}
    other = shuffled(body, chance)
    spoken = client_format("openai_chat")
    raw = orjson.dumps(other, option=orjson.OPT_INDENT_2)

    assert name(spoken.parse_request(raw)) == name(parsed(body))


@given(FIELDS, FIELDS)
def test_whatever_differs_is_another_request(one: dict[str, Any], two: dict[str, Any]) -> None:
    """Any field that is no label, at any depth, known to us or not."""
    first, second = parsed({**CHAT, "extra": one}), parsed({**CHAT, "extra": two})

    is_same = orjson.dumps(one, option=orjson.OPT_SORT_KEYS) == orjson.dumps(
        two, option=orjson.OPT_SORT_KEYS
    )
    assert (name(first) == name(second)) is is_same


@pytest.mark.parametrize(
    "field",
    [
        {"temperature": 0.5},
        {"max_tokens": 5},
        {"seed": 1},
        {"n": 2},
        {"tools": []},
        {"stream": True},
        {"service_tier": "flex"},
        {"model": "n"},
        {"messages": [{"role": "user", "content": "hi "}]},
        {"response_format": {"type": "json_object"}},
        {"something_new": 0},
    ],
    ids=lambda field: next(iter(field)),
)
def test_a_field_that_counts(field: dict[str, Any]) -> None:
    """It changes the answer, or the form it comes in."""
    assert name(parsed({**CHAT, **field})) != name(parsed(CHAT))


@pytest.mark.parametrize("label", sorted(LABELS - {"stream"}))
def test_a_label_does_not_count(label: str) -> None:
    """For whom it is, and how it is kept, makes no other answer."""
    values = {"metadata": {"a": "b"}, "store": False}

    assert name(parsed({**CHAT, label: values.get(label, "x")})) == name(parsed(CHAT))


def test_the_usage_of_a_stream_counts() -> None:
    """Who asked for it gets a stream that has it; in one piece it is always there."""
    usage = {"stream_options": {"include_usage": True}}
    plain, asked = parsed({**CHAT, "stream": True}), parsed({**CHAT, "stream": True, **usage})

    assert name(plain) != name(asked)
    assert name(parsed(CHAT)) == name(replace(parsed(CHAT), body={**CHAT, **usage}))


@pytest.mark.parametrize(
    "other",
    [
        {"owner": "t.other"},
        {"owner": "p.acme"},
        {"scope": "key/k1"},
        {"salt": b"another salt"},
        {"upstreams": ["two/up-m"]},
    ],
    ids=str,
)
def test_who_asks_and_where_it_leads_counts(other: dict[str, Any]) -> None:
    """Nobody meets the name of another's answer, nor one of a model that led elsewhere."""
    assert name(parsed(CHAT), **other) != name(parsed(CHAT))


def test_headers_and_formats_count() -> None:
    """What goes on to the upstream, and what the client speaks."""
    request = parsed(CHAT)

    assert name(replace(request, headers={"anthropic-beta": "x"})) != name(request)
    assert name(replace(request, format="openai_completions")) != name(request)


def test_a_question_is_told_by_all_of_it() -> None:
    """Labels too: a request is repeated only as it was."""
    one, two = parsed(CHAT), parsed({**CHAT, "user": "u"})

    def digest(request: ChatRequest, tenant: str = "acme") -> str:
        return question_digest(request, tenant=tenant, salt=SALT)

    assert digest(one) == digest(parsed(dict(reversed(CHAT.items()))))
    assert digest(one) != digest(two)
    assert digest(one) != digest(one, "other")
    names = {repeat_name("k", scope, tenant=tenant, salt=SALT) for tenant in "ab" for scope in "ab"}
    assert len(names) == 4


def test_names_say_nothing() -> None:
    """64 hexadecimal digits, whatever was asked."""
    long = parsed({**CHAT, "messages": [{"role": "user", "content": "secret" * 1000}]})

    assert {len(name(each)) for each in (parsed(CHAT), long)} == {64}


RESPONSE = {"model": "m", "input": "hi"}
WHY: dict[str, tuple[str, dict[str, Any], str | None]] = {
    "chat": ("openai_chat", CHAT, None),
    "chat stored": ("openai_chat", {**CHAT, "store": True}, "stored"),
    "functions": ("openai_chat", {**CHAT, "tools": [{"type": "function"}]}, None),
    "web search": ("openai_chat", {**CHAT, "web_search_options": {"a": 1}}, "acts_elsewhere"),
    "response": ("openai_responses", RESPONSE, "stored"),
    "response not stored": ("openai_responses", {**RESPONSE, "store": False}, None),
    "its predecessor": (
        "openai_responses",
        {**RESPONSE, "store": False, "previous_response_id": "resp_1"},
        "acts_elsewhere",
    ),
    "provider's tools": (
        "openai_responses",
        {**RESPONSE, "store": False, "tools": [{"type": "web_search"}]},
        "acts_elsewhere",
    ),
    "message": ("anthropic_messages", {**CHAT, "max_tokens": 5}, None),
    "text": ("openai_completions", {"model": "m", "prompt": "hi"}, None),
    "vectors": ("openai_embeddings", {"model": "m", "input": "hi"}, None),
}


@pytest.mark.parametrize(("spoken", "body", "why"), WHY.values(), ids=WHY)
def test_why_no_answer_is_kept(spoken: str, body: dict[str, Any], why: str | None) -> None:
    """Because something at the provider hangs on it, or makes another answer next time."""
    assert why_not_kept(parsed(body, spoken), None) == why


@pytest.mark.parametrize(
    ("asked", "is_kept"),
    [
        ({}, False),
        ({"temperature": 0}, True),
        ({"temperature": 0.2}, True),
        ({"temperature": 0.21}, False),
        ({"temperature": None}, False),
    ],
)
def test_chance(asked: dict[str, Any], *, is_kept: bool) -> None:
    """With `temperature_max` only what asks for little of it; an embedding has none."""
    at_most = Decimal("0.2")
    vectors = parsed({"model": "m", "input": "hi"}, "openai_embeddings")

    assert (why_not_kept(parsed({**CHAT, **asked}), at_most) is None) is is_kept
    assert why_not_kept(vectors, at_most) is None


def test_what_names_objects_is_not_kept() -> None:
    """A file may be another one tomorrow; a word that looks like it is none."""
    part = {"type": "file", "file": {"file_id": "file-1"}}
    messages = [{"role": "user", "content": [part]}]
    naming = replace(parsed({**CHAT, "messages": messages}), may_refer=True)

    assert why_not_kept(naming, None) == "refers"
    assert why_not_kept(replace(parsed(CHAT), may_refer=True), None) is None
