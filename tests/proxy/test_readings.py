"""What billed attempts say of their upstreams: speed, cost, and whose count is right."""

from __future__ import annotations

import pytest
from fixtures_door import RunningDoor
from fixtures_upstream import (
    DONE,
    FINISH,
    LAST_CHUNK,
    Act,
    ScriptedUpstream,
    chunk,
    completion,
    delta,
    stream_head,
    usage_event,
)

from metering.usage import MeteredUsage, input_total, output_total
from proxy.readings import compare
from routing.readiness import Figures, figures

RATES = {"input_uncached": 1_000, "input_cache_read": 100, "output_text": 4_000}
RATES["output_reasoning"] = 4_000


def drift(units: dict[str, int], counted: dict[str, int]) -> int | None:
    """In nano-USD, at rates of one for input and four for output."""
    usage = MeteredUsage(units, counted, "provider", "t", 0, None)
    totals = input_total(counted), output_total(counted)
    found = compare(usage, totals, RATES)
    return None if found is None else found[1]


OURS = {"input_uncached": 100, "output_text": 50}


@pytest.mark.parametrize(
    ("units", "counted", "expected"),
    [
        pytest.param(OURS, OURS, 0, id="alike"),
        pytest.param({**OURS, "input_uncached": 120}, OURS, 20, id="more-input"),
        pytest.param({**OURS, "output_text": 40}, OURS, -40, id="less-output"),
        pytest.param(
            {"input_uncached": 20, "input_cache_read": 80, "output_text": 50},
            OURS,
            0,
            id="from-a-cache",
        ),
        pytest.param({**OURS, "output_reasoning": 500}, OURS, 0, id="hidden-reasoning"),
        pytest.param(
            {**OURS, "output_reasoning": 500},
            {**OURS, "output_reasoning": 400},
            400,
            id="reasoning-that-was-shown",
        ),
        pytest.param({"input_uncached": 100}, {"input_uncached": 100}, 0, id="no-output"),
        pytest.param({"output_text": 50}, OURS, None, id="no-input"),
    ],
)
def test_drift_is_what_nothing_explains(
    units: dict[str, int], counted: dict[str, int], expected: int | None
) -> None:
    """The difference of counts at the prices of what was reported."""
    assert drift(units, counted) == expected


def seen(door: RunningDoor) -> Figures:
    return figures(door.door.history.seen("one/up-m"))


async def test_an_exchange_is_read_once_it_is_billed(
    door: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """Its cost, what it held, and by how much the counts differ; an error says nothing of these."""
    upstream.scripts = [[completion("Hello", prompt=1000, output=2)]]
    await (await door.chat()).read()

    found = seen(door)
    (event,) = door.events
    assert (found.billed, found.compared, found.attempts) == (1, 1, 1)
    assert found.cost_nano == found.reported_nano == event.cost_nano
    assert found.unexplained_nano > 900_000
    assert found.held_nano > found.sold_nano
    assert found.tokens_per_s.count == 0


async def test_a_stream_is_timed_after_its_first_event(
    door: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """What it says in the time after that; the upstream's own wait is no matter of speed."""
    words = [chunk(delta(f"word{number} ")) for number in range(20)]
    paced = [step for word in words for step in (word, Act.PAUSE)]
    end = [chunk(each) for each in (FINISH, usage_event(10, 40), DONE)]
    upstream.scripts = [[stream_head(), *paced, *end, LAST_CHUNK]]
    await (await door.chat(stream=True)).read()

    speed = seen(door).tokens_per_s
    series = door.door.metrics.metrics.histograms
    assert speed.count == 1
    assert speed.p50 is not None
    assert 10 < speed.p50 < 8_000
    assert sum(series["weir_upstream_tokens_per_second", "one/up-m"][:-1]) == 1
    assert sum(series["weir_upstream_seconds", "one/up-m"][:-1]) == 1


async def test_what_no_provider_reported_is_not_compared(
    door: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """Our own count is no word on ours."""
    upstream.scripts = [
        [stream_head(), *(chunk(each) for each in (delta("hi"), FINISH, DONE)), LAST_CHUNK]
    ]
    await (await door.chat(stream=True)).read()

    assert (seen(door).billed, seen(door).compared) == (1, 0)
