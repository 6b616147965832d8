"""What is held of an output, when more is asked for, and what answers are cut to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from fixtures_door import (
    OpenDoor,
    RunningDoor,
    settings,
)
from fixtures_upstream import (
    DONE,
    FINISH,
    ScriptedUpstream,
    completion,
)
from hypothesis import given
from hypothesis import strategies as st
from stream_samples import TOKEN_NANO, words

from metering.caps import (
    ROLLING_DAY,
    AdmittedBy,
    Candidate,
    Cap,
    CapMode,
    Denial,
    Elastic,
    Hold,
    Limit,
    Reservation,
    Scope,
    ScopeKind,
    Stairs,
    Vector,
)
from metering.memory_caps import MemoryCaps
from metering.price_variants import ContextTier, Overlay, Variants
from metering.prices import Rates
from metering.usage import TOKEN_CLASSES
from proxy.allowance import NEVER, Allowance, BilledAt, holding, is_bounded, output_of


class ShrinkingCaps(MemoryCaps):
    """There is room for so many tokens of output, beside the input."""

    def __init__(self, output: int) -> None:
        super().__init__()
        self.output = output

    async def reserve(
        self,
        hold: Hold,
        candidates: Sequence[Candidate],
        *,
        owner: str,
        ttl_ms: int,
        facts: bytes = b"",
        stairs: Stairs | None = None,
        runs: bool = False,
    ) -> Reservation | Denial:
        answer = await super().reserve(
            hold, candidates, owner=owner, ttl_ms=ttl_ms, facts=facts, stairs=stairs, runs=runs
        )
        assert isinstance(answer, Reservation)
        full = candidates[answer.index].vector
        spare = 1000 - self.output
        shrunk = Vector(full.nano - spare * TOKEN_NANO, full.tokens - spare, 1)
        return replace(answer, vector=shrunk)


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ({}, {"max_tokens": 100}),
        ({"max_tokens": 1000}, {"max_tokens": 100}),
        ({"max_completion_tokens": 1000}, {"max_completion_tokens": 100}),
        (
            {"max_tokens": 50, "max_completion_tokens": 1000},
            {"max_tokens": 50, "max_completion_tokens": 100},
        ),
        ({"n": 2, "max_tokens": 500}, {"n": 2, "max_tokens": 50}),
    ],
    ids=["none", "max_tokens", "max_completion_tokens", "both", "choices"],
)
async def test_max_tokens_is_cut_to_what_is_held(
    open_door: OpenDoor, upstream: ScriptedUpstream, asked: Any, sent: Any
) -> None:
    """In the field that the client used, per choice; the answer says so."""
    door = await open_door(settings({"one": upstream.url}), ShrinkingCaps(100))
    upstream.scripts = [[completion()]]

    answer = await door.chat(**asked)

    received = upstream.received[0].json
    assert {name: received[name] for name in received.keys() - {"model", "messages"}} == sent
    clamped = 100 // asked.get("n", 1)
    assert answer.headers["x-weir-max-tokens-clamped"] == str(clamped)
    assert door.events[0].max_tokens_sent == clamped
    assert door.door.metrics.metrics.counters["weir_clamped_total", "m"] == 1


async def test_what_fits_is_left_alone(door: RunningDoor, upstream: ScriptedUpstream) -> None:
    """A request that is held whole goes out as it came."""
    upstream.scripts = [[completion()]]

    answer = await door.chat(max_tokens=500)

    assert upstream.received[0].json["max_tokens"] == 500
    assert "x-weir-max-tokens-clamped" not in answer.headers


async def test_a_stream_is_not_cut_beforehand(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """A stream that begins with a small hold may still grow, so its limit stays."""
    door = await open_door(settings({"one": upstream.url}), ShrinkingCaps(16))
    upstream.scripts = [words(300)]

    answer = await door.chat(stream=True, max_tokens=1000)
    raw = await answer.read()

    assert raw.endswith(FINISH + DONE)
    assert upstream.received[0].json["max_tokens"] == 1000
    assert "x-weir-max-tokens-clamped" not in answer.headers
    assert door.events[0].admitted_by is not AdmittedBy.OPEN


async def test_who_sends_no_streams_is_cut_from_the_second_on(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """An upstream that answers a stream in one piece can be stopped no other way; once it has
    streamed, it is again."""
    door = await open_door(settings({"one": upstream.url}), ShrinkingCaps(100))
    upstream.scripts = [[completion()], [completion()], words(3), words(3)]

    answers = [await door.chat(stream=True) for _ in range(4)]

    bodies = [received.json for received in upstream.received]
    assert [body.get("max_tokens") for body in bodies] == [None, 100, 100, None]
    told = [answer.headers.get("x-weir-max-tokens-clamped") for answer in answers]
    assert told == [None, "100", "100", None]


# -- the arithmetic ----------------------------------------------------------------------------

RATE = 4_000_000
"""Pico-USD per token of output: four dollars per million."""

PART = Elastic(Vector(10_000, 10, 1), RATE, 0)


def test_a_hold_covers_what_it_was_made_for() -> None:
    """Output of a hold, and the hold for an output, are each other's reverse."""
    for output in (0, 1, 64, 1_000_000):
        assert output_of(PART, holding(PART, output)) == output


def test_money_and_tokens_both_bound_the_output() -> None:
    """A hold that has tokens left and no money, or money and no tokens, covers the less of both."""
    assert output_of(PART, Vector(10_000 + 5 * 4_000, 1_000, 1)) == 5
    assert output_of(PART, Vector(10_000_000, 17, 1)) == 7
    assert output_of(PART, Vector(5, 5, 1)) == 0


@given(rate=st.integers(0, 10**9), output=st.integers(0, 10**6), held=st.integers(0, 2**50))
def test_what_is_covered_never_costs_more_than_is_held(rate: int, output: int, held: int) -> None:
    """Whatever the rate: the price of the covered output, rounded up, is within the hold."""
    part = Elastic(Vector(0, 3, 1), rate, 0)

    covered = output_of(part, Vector(held, 3 + output, 1))

    assert holding(part, covered).nano <= held or not rate
    assert covered <= output


@given(
    held=st.integers(0, 5_000), limit=st.none() | st.integers(1, 5_000), size=st.integers(1, 999)
)
def test_more_is_asked_for_before_it_is_needed(held: int, limit: int | None, size: int) -> None:
    """Never after the end; a stream that holds its own limit may reach it and is not asked for."""
    allowance = Allowance(PART, held, size, limit)

    assert 0 < allowance.asks_at <= max(1, allowance.ends_at)
    if limit is not None and held >= limit:
        assert allowance.asks_at > limit
    more = allowance.more("u", held + 3)
    assert output_of(PART, more.vector) == held + 3 + size
    assert more.elastic is not None
    assert held + 3 < more.elastic.tokens_min <= held + 3 + size


def test_what_bounds_an_output() -> None:
    """Caps that refuse by money or tokens; neither counts of requests nor caps that only tell."""
    scope = Scope(ScopeKind.TENANT)

    def cap(mode: CapMode = CapMode.ENFORCE, **limits: int) -> Cap:
        return Cap(scope, ROLLING_DAY, Limit(**limits), mode)

    assert is_bounded([cap(requests=1), cap(nano=1)])
    assert is_bounded([cap(tokens=1)])
    assert not is_bounded([cap(), cap(requests=1, concurrent=1)])
    assert not is_bounded([cap(CapMode.ALERT, nano=1), cap(CapMode.SHADOW, tokens=1)])


SELL = Rates(dict.fromkeys(TOKEN_CLASSES, RATE) | {"input_cache_read": RATE // 10}, "v")


def shrunk(read: dict[str, int], *, rates: Rates | None = SELL, held: int = 100) -> Allowance:
    """With 10 tokens and 10,000 nano-USD held for the input, after the upstream has read this."""
    allowance = Allowance(PART, held, 32, 200, rates=rates)
    allowance.has_read(read)
    return allowance


@pytest.mark.parametrize(
    ("read", "held"),
    [
        ({"input_uncached": 2}, 100),
        ({"input_uncached": 3}, 100 - 1),  # 2,000 more than were held: half a token of output
        ({"input_cache_read": 10}, 100),
        ({"input_cache_read": 15}, 100 - 5),  # no dearer, and five tokens more
        ({"input_uncached": 50}, 100 - 48),
        ({"input_uncached": 100_000_000}, 0),
    ],
)
def test_input_beyond_its_hold_takes_room_from_the_output(read: dict[str, int], held: int) -> None:
    """In money or in tokens, whichever takes more; input that is cheaper gives none."""
    assert shrunk(read).held_tokens == held


BORDERED = replace(
    SELL,
    variants=Variants(
        context=(ContextTier(20, Overlay(None, 2_000_000, 3_000_000)),),
        regions={"eu": Overlay(None, 2_000_000, 2_000_000)},
    ),
)


def bordered(read: dict[str, int], *, region: str | None = None, held: int = 100) -> Allowance:
    """As `shrunk`, with twice the price for prompts above 20 tokens, and three times for output."""
    base = SELL if region is None else BORDERED.at({}, tier=None, region=region)
    part = Elastic(Vector(base.hold_nano(input_tokens=10, output_tokens=0), 10, 1), 4_000_000, 0)
    part = replace(part, rate_pico=base.output_rate_pico)
    at = BilledAt(BORDERED, None, region)
    allowance = Allowance(part, held, 32, 200, rates=base, billed_at=at)
    allowance.has_read(read)
    return allowance


@pytest.mark.parametrize(
    ("read", "held"),
    [
        ({"input_uncached": 10}, 100),
        ({"input_uncached": 20}, 100 - 10),
        # 440,000 nano-USD were held: 21 at 8,000 leave 272,000 for output at 12,000
        ({"input_uncached": 21}, 22),
        ({"input_uncached": 1, "input_cache_read": 20}, 33),  # input is no cheaper than its hold
    ],
)
def test_input_beyond_a_border_makes_output_dearer(read: dict[str, int], held: int) -> None:
    """What is held for the output is then worth less of it."""
    assert bordered(read).held_tokens == held


def test_beyond_a_border_more_is_asked_for_at_the_dearer_rate() -> None:
    """The next hold covers all of the output at it, what was said before too."""
    allowance = bordered({"input_uncached": 21})

    more = allowance.more("u", 30)
    allowance.grown(more.vector)

    assert more.vector.nano == 21 * 8_000 + (30 + 32) * 12_000
    assert allowance.held_tokens == 30 + 32
    assert bordered({"input_uncached": 21}, region="eu").part.rate_pico == 24_000_000


@given(st.integers(0, 60), st.integers(0, 60), st.sampled_from([None, "eu"]), st.integers(0, 300))
def test_what_is_held_pays_for_what_was_read(
    plain: int, cached: int, region: str | None, held: int
) -> None:
    """Whatever border the input passes: the price of it with the allowed output is within the hold,
    unless the input alone is more."""
    read = {"input_uncached": plain, "input_cache_read": cached}
    before = bordered({}, region=region, held=held)
    hold = holding(before.part, held).nano

    after = bordered(read, region=region, held=held)

    billed = BORDERED.at(read, tier=None, region=region)
    total = billed.total_nano({**read, "output_text": after.held_tokens})
    assert total <= hold or not after.held_tokens


def test_what_is_asked_for_then_covers_the_input_that_was_read() -> None:
    """The next hold is the price of all that was read and of the output with a slice more."""
    allowance = shrunk({"input_uncached": 100_000})

    more = allowance.more("u", 7)
    allowance.grown(more.vector)

    assert more.vector == Vector((100_000 + 7 + 32) * 4_000, 100_000 + 7 + 32, 1)
    assert allowance.held_tokens == 7 + 32


def test_input_without_a_price_counts_in_tokens() -> None:
    """Caps on tokens hold for models that nobody has priced."""
    assert shrunk({"input_uncached": 50}, rates=None).held_tokens == 60


def test_a_prompt_that_was_counted_a_little_short_asks_for_nothing() -> None:
    """A stream that may say 30 tokens does not ask Redis after its first for the sake of three."""
    allowance = Allowance(PART, 30, 32, 30)

    allowance.has_read({"input_cache_read": 13})

    assert (allowance.held_tokens, allowance.asks_at, allowance.ends_at) == (27, 27, 27)


def test_where_nothing_bounds_it_nothing_is_asked() -> None:
    """An output that no cap bounds goes on for ever."""
    allowance = Allowance(PART, 0, 1, is_bounded=False)

    assert (allowance.asks_at, allowance.ends_at) == (NEVER, NEVER)


def test_what_was_spent_before_is_no_input_of_this_answer() -> None:
    """A second part is held beside the first: what it reads is added to what that came to."""
    part = replace(PART, base=Vector(PART.base.nano + 5_000, PART.base.tokens + 7, 1))
    allowance = Allowance(part, 100, 32, 200, rates=SELL, spent=Vector(5_000, 7))
    allowance.has_read({"input_uncached": 50})
    assert allowance.held_tokens == 100 - 48
