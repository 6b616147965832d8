"""T-52 to T-54, T-56, T-61, T-64: what is held before a request is sent, and that it is enough."""

from __future__ import annotations

import base64
import random
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from config_samples import BASE, faults
from fixtures_door import OpenDoor, RunningDoor, held, rule, settings, tenant, usd
from fixtures_upstream import ScriptedUpstream, body, completion
from hypothesis import given
from hypothesis import strategies as st

from metering.caps import Candidate, Denial, Hold, Reservation, Vector
from metering.memory_caps import MemoryCaps
from metering.money import amount_nano, hold_nano, rate_pico_per_mtok
from metering.prompt import count_prompt
from metering.tokenizer import tokenizer_for
from routing.upstreams import Model, Upstream


class NotingCaps(MemoryCaps):
    """Remembers what was asked to be held, in order, swaps included."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Vector] = []

    async def reserve(
        self, hold: Hold, candidates: Sequence[Candidate], **options: Any
    ) -> Reservation | Denial:
        self.asked.append(candidates[0].vector)
        return await super().reserve(hold, candidates, **options)

    async def swap(self, hold: Hold, candidate: Candidate) -> Reservation | Denial:
        self.asked.append(candidate.vector)
        return await super().swap(hold, candidate)


def test_t52_an_unpriced_model_under_a_cap_does_not_load(tmp_path: Path) -> None:
    """The file has a fault at the upstream that names the rule to add."""
    text = BASE.replace("up-*", "up-big") + (
        "tenants: [{id: a, limits: {tenant: {daily_cap: 1}}, keys: []}]\n"
    )

    [fault] = faults(tmp_path, text)

    assert "no price for sim/up-small" in fault
    assert "pricing.rules" in fault


@pytest.mark.parametrize("free", [True, False])
def test_t52_a_rate_of_zero_must_be_meant(tmp_path: Path, *, free: bool) -> None:
    """A price of nothing is `free: true` or a fault; it is never a slip that nobody saw."""
    zero = f"pricing: {{rules: [{{model: 'up-*', input_rate: 0, output_rate: 0, free: {free}}}]}}"
    text = BASE.partition("pricing:")[0] + zero.replace("True", "true").replace("False", "false")
    path = tmp_path / "config.yaml"
    path.write_text(text)

    if free:
        from proxy.config import load

        assert load(path, {}).settings.prices.rules[0].input_rate_pico == 0
    else:
        assert any("free" in fault for fault in faults(tmp_path, text))


async def test_t52_an_unpriced_fallback_is_not_called(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """A priced model whose fallback has no price: under a cap the fallback does not exist."""
    priced = settings(
        {"one": upstream.url, "two": other_upstream.url}, rules=(rule("*", provider="one"),)
    )
    door = await open_door(priced)
    upstream.scripts = [[body(b"", 500)]]

    answer = await door.chat()

    assert answer.status == 500
    assert other_upstream.connections == 0


PRICES = (rule("*", "1.00", provider="one"), rule("*", "9.00", provider="two"))


@pytest.mark.parametrize(("cap", "is_served"), [("0.05", True), ("0.03", False)])
async def test_t53_a_dearer_fallback_holds_the_difference_first(
    open_door: OpenDoor,
    upstream: ScriptedUpstream,
    other_upstream: ScriptedUpstream,
    cap: str,
    *,
    is_served: bool,
) -> None:
    """What the first try holds is too little for the second: it is asked for, or not called."""
    caps = NotingCaps()
    both = settings(
        {"one": upstream.url, "two": other_upstream.url},
        who=tenant(cap),
        rules=PRICES,
        clamps=False,
    )
    door = await open_door(both, caps)
    upstream.scripts = [[body(b"", 500)]]
    other_upstream.scripts = [[completion(prompt=10, output=1000)]]

    answer = await door.chat(max_tokens=1000)

    assert answer.status == (200 if is_served else 500)
    assert len(other_upstream.received) == is_served
    first, second = caps.asked
    assert second.nano == 9 * first.nano
    assert held(door) == []
    spent = sum(event.admission_nano for event in door.events)
    assert spent == (usd("0.03609") if is_served else 0)


async def test_t53_a_fallback_of_another_model_is_priced_as_itself(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """A free primary does not make its paid fallback free."""
    models = {
        "m": Model("m", (Upstream("one", "up-m", "m"),), fallbacks=("dear",)),
        "dear": Model("dear", (Upstream("two", "up-dear", "dear"),)),
    }
    rules = (rule("up-m", "0.00"), rule("up-dear", "9.00"))
    door = await open_door(
        settings({"one": upstream.url, "two": other_upstream.url}, models=models, rules=rules)
    )
    upstream.scripts = [[body(b"", 500)]]
    other_upstream.scripts = [[completion(prompt=10, output=100)]]

    answer = await door.chat(max_tokens=100)

    assert answer.status == 200
    assert door.events[1].admission_nano == 10 * 9_000 + 100 * 36_000


@pytest.mark.parametrize(("cap", "is_served"), [("0.05", True), ("0.03", False)])
async def test_t53_a_dearer_name_for_the_same_upstream_holds_the_difference_first(
    open_door: OpenDoor, upstream: ScriptedUpstream, cap: str, *, is_served: bool
) -> None:
    """Two names of ours for one model there, each with its price: the second is not yet held."""
    caps = NotingCaps()
    models = {
        "m": Model("m", (Upstream("one", "up-m", "m"),), fallbacks=("dear",)),
        "dear": Model("dear", (Upstream("one", "up-m", "dear"),)),
    }
    rules = (rule("m", "1.00"), rule("dear", "9.00"))
    who = tenant(cap)
    one = settings({"one": upstream.url}, models=models, rules=rules, who=who, clamps=False)
    door = await open_door(one, caps)
    upstream.scripts = [[body(b"", 500)], [completion(prompt=10, output=1000)]]

    answer = await door.chat(max_tokens=1000)

    assert answer.status == (200 if is_served else 500)
    first, second = caps.asked
    assert second.nano == 9 * first.nano
    assert held(door) == []


HOLDS: dict[str, tuple[dict[str, Any], int]] = {
    "absent": ({}, 1000),
    "null": ({"max_tokens": None}, 1000),
    "both_the_larger": ({"max_tokens": 1, "max_completion_tokens": 500}, 500),
    "both_the_other_way": ({"max_tokens": 500, "max_completion_tokens": 1}, 500),
    "n": ({"max_tokens": 100, "n": 4}, 400),
    "n_absent_max": ({"n": 3}, 3000),
    "best_of": ({"max_tokens": 100, "best_of": 5}, 500),
    "n_and_best_of": ({"max_tokens": 100, "n": 2, "best_of": 5}, 500),
    "logprobs": ({"max_tokens": 100, "logprobs": True, "top_logprobs": 20}, 100),
    "prediction": ({"max_tokens": 100, "prediction": {"type": "content", "content": "x"}}, 100),
    "no_usage_please": ({"max_tokens": 100, "stream_options": {"include_usage": False}}, 100),
    "reasoning_effort": ({"max_completion_tokens": 900, "reasoning_effort": "high"}, 900),
}

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "zero": ({"max_tokens": 0}, "max_tokens"),
    "negative": ({"max_tokens": -1}, "max_tokens"),
    "text": ({"max_tokens": "10"}, "max_tokens"),
    "float": ({"max_tokens": 1.5}, "max_tokens"),
    "whole_float": ({"max_tokens": 10.0}, "max_tokens"),
    "bool": ({"max_completion_tokens": True}, "max_completion_tokens"),
    "list": ({"max_tokens": [1]}, "max_tokens"),
    "beyond_any_model": ({"max_tokens": 10**9 + 1}, "max_tokens"),
    "beyond_64_bits": ({"max_tokens": 2**63}, "max_tokens"),
    "n_zero": ({"n": 0}, "n"),
    "n_text": ({"n": "1"}, "n"),
    "n_huge": ({"n": 129}, "n"),
    "best_of_float": ({"best_of": 2.0}, "best_of"),
}


@pytest.mark.parametrize("name", HOLDS)
async def test_t54_the_hold_covers_all_that_may_be_generated(
    open_door: OpenDoor, upstream: ScriptedUpstream, name: str
) -> None:
    """Prompt and the largest output over all choices, each at its dearest rate."""
    fields, output_tokens = HOLDS[name]
    caps = NotingCaps()
    door = await open_door(settings({"one": upstream.url}), caps)
    upstream.scripts = [[completion()]]

    answer = await door.chat(**fields)

    assert answer.status == 200
    [asked] = caps.asked
    prompt_tokens = asked.tokens - output_tokens
    assert 0 < prompt_tokens < 50
    assert asked.nano == prompt_tokens * 1_000 + output_tokens * 4_000


@pytest.mark.parametrize("name", REFUSED)
async def test_t54_what_cannot_be_held_is_refused(
    door: RunningDoor, upstream: ScriptedUpstream, name: str
) -> None:
    """A number that is none is a 400 that names the field, and nothing is sent."""
    fields, param = REFUSED[name]

    answer = await door.chat(**fields)

    assert (answer.status, (await answer.json())["error"]["param"]) == (400, param)
    assert upstream.connections == 0


async def test_t54_the_largest_numbers_never_fit(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """10^9 tokens in each of 128 choices is more than any cap: refused as such, not overflowed."""
    door = await open_door(settings({"one": upstream.url}, clamps=False))

    answer = await door.chat(max_tokens=10**9, n=128)

    assert (answer.status, (await answer.json())["error"]["code"]) == (
        400,
        "request_exceeds_budget",
    )
    assert upstream.connections == 0


DICE = random.Random(56)
CORPUS = {
    "english": "The quick brown fox jumps over the lazy dog. " * 2_000,
    "cjk": "漢字仮名交じり文を数える。" * 4_000,
    "emoji": "🙂👩‍👩‍👧‍👦🏳️‍🌈🇩🇪" * 2_000,
    "base64": base64.b64encode(DICE.randbytes(60_000)).decode(),
    "digits": "".join(DICE.choices("0123456789", k=100_000)),
    "zero_width": "a\u200b\u200c\u200d\ufeff" * 10_000,
    "blanks": " " * 50_000 + "\n" * 50_000,
    "one_word": "a" * 50_000,
    "code": "for (let i = 0; i < n; i++) { x[i] += y[i]; }\n" * 2_000,
    "special_tokens": "<|endoftext|><|im_start|>" * 4_000,
}


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4", "claude-opus-4-7"])
@pytest.mark.parametrize("name", CORPUS)
def test_t56_an_estimate_is_not_far_below_the_truth(model: str, name: str) -> None:
    """At least 0.9 of what the family's encoding makes of the text; whole texts, hostile ones."""
    text = CORPUS[name]
    tokenizer = tokenizer_for(model)
    pieces = [text[at : at + 10_000] for at in range(0, len(text), 10_000)]
    truth = sum(len(tokenizer.encoding.encode_ordinary(piece)) for piece in pieces)

    estimate = count_prompt(
        tokenizer, {"model": model, "messages": [{"role": "user", "content": text}]}
    )

    assert estimate >= 0.9 * truth
    assert estimate <= 3 * truth + 100


@given(
    st.integers(0, 10**9),
    st.decimals(Decimal("0.000001"), Decimal(1000), places=6),
)
def test_t64_a_hold_covers_its_amount_and_rounding_is_half_a_nano(
    tokens: int, per_mtok: Decimal
) -> None:
    """Exact integers for any count and rate; each event is off by half a nano-USD at most."""
    rate = rate_pico_per_mtok(per_mtok)

    amount, room = amount_nano(tokens, rate), hold_nano(tokens, rate)

    assert amount <= room
    assert abs(2 * (1000 * amount - tokens * rate)) <= 1000
    assert 0 <= 1000 * room - tokens * rate < 1000


def test_t64_a_thousand_million_tiny_requests() -> None:
    """One token at the finest rate: the sum of the rounded is within half a nano each."""
    rate = rate_pico_per_mtok(Decimal("0.000001"))

    assert rate == 1
    assert 10**9 * amount_nano(1, rate) >= 10**9 * rate // 1000 - 10**9 // 2
    assert amount_nano(10**9, rate) == 10**6
