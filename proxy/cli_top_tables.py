"""`weir top`: from what was read to JSON, and to a picture that fits a terminal. Pure.

The picture is readable at 80 columns: what gives way are names, not numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from metering.caps import Cap
from metering.live_rates import MINUTE_S, Degraded, Rate, Tick
from metering.money import PPM, format_cents, format_short, format_usd
from proxy.cli_times import rfc3339
from proxy.limit_words import rfc3339_ms, window_text

SORTS = ("full", "spend", "name")
"""What tenants are ordered by: how full their cap is, what they spend now, their name."""

_BAR = 14

_FRAME = 9
"""Lines that are there whatever there is to show."""

_USD_NANO = 10**9

_WIDTH_MAX = 120
"""Beyond this the eye loses the row between a name and its numbers."""


@dataclass(frozen=True, slots=True)
class CapLook:
    """The money cap that leaves a tenant the least."""

    tenant: str
    cap: Cap
    limit_nano: int
    spent_nano: int
    held_nano: int
    flag: str | None = None
    """`paused` or `killed`, where somebody has raised it for the whole tenant."""

    @property
    def share(self) -> float:
        """How much of it is spent and held; a limit of nothing is full."""
        used = self.spent_nano + self.held_nano
        return used / self.limit_nano if self.limit_nano else 1.0


@dataclass(frozen=True, slots=True)
class Told:
    """What a cap had to tell."""

    at_ms: int
    kind: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TopLook:
    """What was read at one moment."""

    tick: Tick
    in_flight: int = 0
    caps: Sequence[CapLook] = ()
    upstreams: Sequence[Mapping[str, Any]] = ()
    """Rows of `weir upstreams --json`."""
    processes: int = 0
    told: Sequence[Told] = ()
    standing: Mapping[str, int] = field(default_factory=dict)
    whole_since_ms: int = 0
    """Before this something of the last minute was not read, as there was too much of it."""
    unreadable: int = 0


def top_body(look: TopLook) -> dict[str, Any]:
    """The body of `weir top --json`."""
    tick = look.tick
    return {
        "at": rfc3339(tick.at_ms * 1_000_000),
        "tokens_per_s": tick.tokens_per_s,
        "requests_per_s": tick.requests_per_s,
        "requests_per_min": tick.requests,
        "errors_per_min": tick.errors,
        **_spend(tick.spend_nano),
        "in_flight": look.in_flight,
        "processes": look.processes,
        "is_whole": _is_whole(look),
        "unreadable": look.unreadable,
        "models": [{"model": each.name} | _rate(each) for each in tick.models],
        "tenants": [{"tenant": each.name} | _rate(each) for each in tick.tenants],
        "caps": [_cap(each) for each in look.caps],
        "upstreams": list(look.upstreams),
        "degradations": [
            {
                "at": rfc3339_ms(each.at_ms),
                "tenant": each.tenant,
                "model_requested": each.model_requested,
                "model": each.model,
                "step": each.step,
            }
            for each in tick.degradations
        ],
        "told": [
            {"at": rfc3339_ms(each.at_ms), "kind": each.kind, **_amounts(each.body)}
            for each in look.told
        ],
        "standing": [
            {"alert": name, "since": rfc3339_ms(at_ms)} for name, at_ms in look.standing.items()
        ],
    }


def _spend(nano: int) -> dict[str, Any]:
    return {"spend_usd_per_min": format_usd(nano, places=9), "spend_nano_per_min": nano}


def _rate(rate: Rate) -> dict[str, Any]:
    counts = {"requests_per_min": rate.requests, "errors_per_min": rate.errors}
    return {"tokens_per_s": rate.tokens_per_s, **_spend(rate.spend_nano), **counts}


def _cap(look: CapLook) -> dict[str, Any]:
    left_nano = max(0, look.limit_nano - look.spent_nano - look.held_nano)
    return {
        "tenant": look.tenant,
        "window": window_text(look.cap.window),
        "mode": str(look.cap.mode),
        "cap_usd": format_usd(look.limit_nano),
        "spent_usd": format_usd(look.spent_nano, places=9),
        "held_usd": format_usd(look.held_nano, places=9),
        "remaining_usd": format_usd(left_nano, places=9),
        "share": round(look.share, 4),
        "flag": look.flag,
    }


def _amounts(body: Mapping[str, Any]) -> dict[str, Any]:
    named = {name: body[name] for name in ("tenant", "scope", "window") if name in body}
    for name in ("limit", "spent"):
        if f"{name}_nano" in body:
            named[f"{name}_usd"] = format_usd(body[f"{name}_nano"], places=9)
    return named | ({"mark": body["mark_ppm"] / PPM} if "mark_ppm" in body else {})


def _is_whole(look: TopLook) -> bool:
    return look.tick.at_ms - look.whole_since_ms >= MINUTE_S * 1000


def top_picture(
    look: TopLook, *, height: int = 24, width: int = 80, sort: str = "full"
) -> RenderableType:
    """All of it for people; tables give up rows where the terminal is low."""
    width = min(width, _WIDTH_MAX)
    room = max(6, height - _FRAME)
    spending = {each.name for each in look.tick.tenants} | {each.tenant for each in look.caps}
    tenants = max(3, min(len(spending) + 1, room // 2))
    upstreams = max(2, min(len(look.upstreams) + 1, (room - tenants) // 2))
    return Group(
        _headline(look),
        "",
        _tenants(look, sort, tenants - 1, width),
        "",
        _upstreams(look, upstreams - 1, width),
        "",
        _news(look, max(1, room - tenants - upstreams)),
    )


def _headline(look: TopLook) -> Table:
    tick = look.tick
    table = Table.grid(padding=(0, 3))
    figures = (
        ("tokens/s", f"{tick.tokens_per_s:,.0f}"),
        ("USD/min", format_short(_round(tick.spend_nano))),
        ("requests/s", f"{tick.requests_per_s:,.1f}"),
        ("in flight", f"{look.in_flight:,}"),
        ("errors/min", f"{tick.errors:,}"),
        ("proxies", f"{look.processes}"),
    )
    for _ in figures:
        table.add_column(justify="right", no_wrap=True)
    table.add_row(*(Text(name, style="dim") for name, _ in figures))
    is_bad = {"errors/min": tick.errors > 0, "proxies": look.processes == 0}
    table.add_row(
        *(Text(value, style="bold red" if is_bad.get(name) else "bold") for name, value in figures)
    )
    return table


def _round(nano: int) -> int:
    """An amount as far as a glance needs it: a hundredth of a cent."""
    return int(format_usd(nano, places=4).replace(".", "")) * 100_000


def _glance(nano: int) -> str:
    """An amount in cents; in hundredths of one where it is less than a dollar."""
    return format_cents(nano) if nano >= _USD_NANO else format_short(_round(nano))


def _tenants(look: TopLook, sort: str, rows_max: int, width: int) -> RenderableType:
    table = Table(header_style="bold", width=width, padding=(0, 1), box=None)
    table.add_column("Tenant", no_wrap=True, ratio=1)
    table.add_column("", no_wrap=True, width=_BAR)
    for heading in ("Full", "Left USD", "Cap USD", "Window", "USD/min"):
        table.add_column(heading, justify="left" if heading == "Window" else "right", no_wrap=True)
    rates = {each.name: each for each in look.tick.tenants}
    looks: dict[str, CapLook | None] = {each.tenant: each for each in look.caps}
    rows = [*looks.items(), *((name, None) for name in rates if name not in looks)]
    rows.sort(key=lambda row: _place(row, rates, sort))
    for name, found in rows[:rows_max]:
        rate = rates.get(name)
        spend = "" if rate is None else format_short(_round(rate.spend_nano))
        if found is None:
            table.add_row(Text(name), Text("no cap", style="dim"), "", "", "", "", spend)
            continue
        left = max(0, found.limit_nano - found.spent_nano - found.held_nano)
        flag = "" if found.flag is None else f" ({found.flag})"
        table.add_row(
            Text(name + flag, style="red" if found.flag else ""),
            _bar(found),
            f"{found.share * 100:.0f} %",
            _glance(left),
            _glance(found.limit_nano),
            window_text(found.cap.window).partition("_")[2],
            spend,
        )
    if len(rows) > rows_max:
        table.add_row(Text(f"and {len(rows) - rows_max} more", style="dim"))
    return (
        table if rows else Text("\nNo tenant has a cap in money, and nobody spends.", style="dim")
    )


def _place(
    row: tuple[str, CapLook | None], rates: Mapping[str, Rate], sort: str
) -> tuple[float, str]:
    name, found = row
    if sort == "name":
        return (0.0, name)
    if sort == "spend":
        rate = rates.get(name)
        return (0.0 if rate is None else -rate.spend_nano, name)
    return (0.0 if found is None else -found.share, name)


def _bar(look: CapLook) -> Text:
    """What is spent, what is held and what is left."""
    limit = look.limit_nano or 1
    spent = min(_BAR, look.spent_nano * _BAR // limit) if look.limit_nano else _BAR
    held = min(_BAR - spent, -(-look.held_nano * _BAR // limit))
    style = "red" if look.share >= 1 else "yellow" if look.share >= 0.8 else "green"
    bar = Text("█" * spent, style=style)
    bar.append("▒" * held, style=style)
    bar.append("·" * (_BAR - spent - held), style="dim")
    return bar


def _upstreams(look: TopLook, rows_max: int, width: int) -> RenderableType:
    table = Table(header_style="bold", width=width, padding=(0, 1), box=None)
    table.add_column("Upstream", no_wrap=True, ratio=1)
    table.add_column("State", no_wrap=True)
    for heading in ("Success", "429", "In flight", "p50/p95 ms"):
        table.add_column(heading, justify="right", no_wrap=True)
    rows = [row for row in look.upstreams if row["attempts"] or row["state"] == "open"]
    rows.sort(key=lambda row: (row["state"] == "closed", -row["attempts"], row["upstream"]))
    for row in rows[:rows_max]:
        ratio, latency = row["success_ratio"], row["latency_ms"]
        table.add_row(
            Text(row["upstream"]),
            Text(row["state"].replace("_", "-"), style=_STATE_STYLES.get(row["state"], "")),
            "-" if ratio is None else f"{ratio * 100:.1f} %",
            str(row["rate_limited"]),
            str(row["in_flight"]),
            f"{latency['p50']}/{latency['p95']}" if latency["answers"] else "-",
        )
    if not rows:
        return Text("\nNo upstream was used in the last hour.", style="dim")
    if len(rows) > rows_max:
        table.add_row(Text(f"and {len(rows) - rows_max} more", style="dim"))
    return table


_STATE_STYLES = {"closed": "green", "half_open": "yellow", "open": "red"}


def _news(look: TopLook, rows_max: int) -> RenderableType:
    """Alerts that stand, then what was told last and who was degraded, the newest first."""
    lines = [
        (at_ms, Text(f"{_clock(at_ms)}  {name} stands since then", style="red"))
        for name, at_ms in look.standing.items()
    ]
    lines += [(each.at_ms, Text(f"{_clock(each.at_ms)}  {_told(each)}")) for each in look.told]
    lines += [
        (at_ms, Text(f"{_clock(at_ms)}  {text}"))
        for text, at_ms in _degraded(look.tick.degradations).items()
    ]
    lines.sort(key=lambda line: -line[0])
    shown = [line for _, line in lines[:rows_max]]
    for line in shown:
        line.no_wrap, line.overflow = True, "ellipsis"
    if not _is_whole(look):
        shown.insert(0, Text("There was more in the last minute than is read.", style="dim"))
    if look.unreadable:
        shown.append(Text(f"{look.unreadable} events could not be read.", style="dim"))
    if not shown:
        shown = [Text("Nothing to tell.", style="dim")]
    return Group(Text("Last alerts and degradations", style="bold"), *shown)


def _degraded(steps: Iterable[Degraded]) -> dict[str, int]:
    """What was done to whom, and when last; one line of a kind, else they would hide the alerts."""
    found: dict[str, int] = {}
    for each in steps:
        by = "" if each.step == each.model else f" ({each.step})"
        text = f"{each.tenant} degraded: {each.model_requested} -> {each.model}{by}"
        found[text] = max(found.get(text, 0), each.at_ms)
    return found


def _told(told: Told) -> str:
    body = told.body
    limit, spent = format_short(body["limit_nano"]), _glance(body["spent_nano"])
    place = f"{body['scope']} {body['window']}"
    if told.kind == "cap_mark":
        return f"{place} reached {body['mark_ppm'] // 10_000} % of ${limit} (spent ${spent})"
    return f"{place} refuses: ${limit} (spent ${spent})"


def _clock(at_ms: int) -> str:
    return rfc3339_ms(at_ms)[11:19]
