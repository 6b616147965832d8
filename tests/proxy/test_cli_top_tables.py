"""The picture of `weir top`: what it shows, at 80 columns, and what programs get."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

from rich.console import Console

from metering.caps import ROLLING_DAY as DAY
from metering.caps import Cap, Limit, Scope, ScopeKind
from metering.live_rates import Degraded, Rate, Tick
from proxy.cli_top_tables import CapLook, Told, TopLook, top_body, top_picture

NOW_MS = 1_800_000_000_000
USD = 1_000_000_000


def cap(tenant: str, spent_usd: int, *, held_usd: int = 0, limit_usd: int = 10) -> CapLook:
    money = Cap(Scope(ScopeKind.TENANT), DAY, Limit(nano=limit_usd * USD))
    return CapLook(tenant, money, limit_usd * USD, spent_usd * USD, held_usd * USD)


def upstream(name: str, state: str = "closed", attempts: int = 10) -> dict[str, Any]:
    return {
        "upstream": name,
        "state": state,
        "attempts": attempts,
        "success_ratio": 0.9,
        "rate_limited": 1,
        "in_flight": 2,
        "latency_ms": {"answers": 9, "p50": 120, "p95": 900},
    }


LOOK = TopLook(
    tick=Tick(
        at_ms=NOW_MS,
        tokens_per_s=1234.5,
        requests_per_s=7.25,
        spend_nano=123_456_789,
        requests=435,
        errors=3,
        models=(Rate("demo", 1234.5, 123_456_789, 435, 3),),
        tenants=(Rate("acme", 1000.0, 100_000_000, 300, 3), Rate("free", 234.5, 0, 135, 0)),
        degradations=(Degraded(NOW_MS - 1000, "acme", "demo", "mini", "s1"),),
    ),
    in_flight=4,
    caps=(cap("acme", 8, held_usd=1), cap("over", 10), cap("calm", 1)),
    upstreams=(upstream("a/one"), upstream("b/two", "open"), upstream("c/idle", attempts=0)),
    processes=2,
    told=(
        Told(
            NOW_MS - 5000,
            "cap_refuses",
            {"tenant": "over", "scope": "tenant:over", "window": "24h"}
            | {"limit_nano": 10 * USD, "spent_nano": 10 * USD, "mark_ppm": 1_000_000},
        ),
    ),
    standing={"backlog": NOW_MS - 9000},
)


def drawn(look: TopLook, *, sort: str = "full", height: int = 24, width: int = 80) -> list[str]:
    screen = Console(file=io.StringIO(), width=width, height=height, no_color=True)
    screen.print(top_picture(look, height=height, width=width, sort=sort))
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue().splitlines()


def order(lines: list[str]) -> list[str]:
    names = ("acme", "over", "calm", "free")
    return [word for line in lines if (word := line.split()[0] if line.split() else "") in names]


def test_eighty_columns_are_enough() -> None:
    """Every number stands whole in 80 columns and 24 lines, and nothing is wider."""
    lines = drawn(replace(LOOK, caps=(*LOOK.caps, cap("a-tenant-with-a-long-name" * 2, 9))))
    text = "\n".join(lines)

    assert (max(map(len, lines)) <= 80, len(lines) <= 24) == (True, True)
    for part in ("1,234", "0.1235", "7.2", "90 %", "120/900", "a-tenant-with"):
        assert part in text, part
    assert "tenant:over 24h refuses: $10.00 (spent $10.00)" in text
    assert "acme degraded: demo -> mini (s1)" in text
    assert "backlog stands since then" in text
    assert "c/idle" not in text


def test_many_steps_of_a_kind_hide_no_alert() -> None:
    """One line says them, by the last; small amounts keep their digits."""
    steps = tuple(Degraded(NOW_MS - n, "acme", "demo", "mini", "mini") for n in range(20))
    small = CapLook("tiny", cap("tiny", 1).cap, 20_000_000, 15_400_000, 0)
    lines = drawn(replace(LOOK, tick=replace(LOOK.tick, degradations=steps), caps=(small,)))

    assert sum("degraded" in line for line in lines) == 1
    assert any(line.endswith("acme degraded: demo -> mini") for line in lines)
    assert any("tenant:over 24h refuses" in line for line in lines)
    assert next(line for line in lines if "tiny" in line).split()[3:6] == ["%", "0.0046", "0.02"]


def test_tenants_are_ordered_as_asked() -> None:
    """By how full they are, by what they spend, by name; who has no cap is there too."""
    assert order(drawn(LOOK)) == ["over", "acme", "calm", "free"]
    assert order(drawn(LOOK, sort="spend"))[0] == "acme"
    assert order(drawn(LOOK, sort="name")) == ["acme", "calm", "free", "over"]


def test_a_low_terminal_loses_rows_and_says_so() -> None:
    """What does not fit is counted, and the alerts keep their place."""
    many = replace(LOOK, caps=[cap(f"t{n}", n % 10) for n in range(40)])

    lines = drawn(many, height=24)

    assert len(lines) <= 24
    assert any("more" in line for line in lines)
    assert any("degraded" in line for line in lines)


def test_names_are_no_markup() -> None:
    """A tenant's name that looks like markup is shown as it is."""
    assert any("[red]x" in line for line in drawn(replace(LOOK, caps=[cap("[red]x", 1)])))


def test_nothing_is_said_of_nothing() -> None:
    """Without traffic there are zeros and sentences, no empty tables."""
    idle = Tick(NOW_MS, 0.0, 0.0, 0, 0, 0, (), (), ())

    text = "\n".join(drawn(TopLook(idle, whole_since_ms=NOW_MS - 1, unreadable=2)))

    assert "nobody spends" in text
    assert "No upstream was used in the last hour." in text
    assert "There was more in the last minute than is read." in text
    assert "2 events could not be read." in text


def test_programs_get_whole_amounts() -> None:
    """Amounts are decimal strings with their nano beside them; shares and speeds are numbers."""
    body = top_body(LOOK)

    assert (body["spend_usd_per_min"], body["spend_nano_per_min"]) == ("0.123456789", 123_456_789)
    assert body["caps"][0] == {
        "tenant": "acme",
        "window": "rolling_24h",
        "mode": "enforce",
        "cap_usd": "10.000000",
        "spent_usd": "8.000000000",
        "held_usd": "1.000000000",
        "remaining_usd": "1.000000000",
        "share": 0.9,
        "flag": None,
    }
    assert body["told"][0]["limit_usd"] == "10.000000000"
    assert body["is_whole"] is True
