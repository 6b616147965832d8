"""`weir upstreams`: from what was read of Redis to JSON, and to tables. Pure.

Says what was seen and how much of it: no traffic is not a success, three answers are no percentile.
Only words of ours and numbers are shown; an upstream's own words are never kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from metering.money import PPM, format_usd
from proxy.cli_times import rfc3339
from proxy.limit_words import rfc3339_ms
from proxy.settings import Provider
from routing.readiness import Figures, Spread, figures
from routing.samples import SLOT_S, SLOTS, Seen
from routing.upstreams import Model

WINDOW_S = SLOT_S * SLOTS


@dataclass(frozen=True, slots=True)
class UpstreamsLook:
    """What was read: each process' note, the breakers, what the last probes found; times are of
    Redis' clock."""

    models: Mapping[str, Model]
    providers: Mapping[str, Provider]
    notes: Sequence[Mapping[str, Seen]]
    """One for each process, also for those that have ended within the hour."""
    processes: int
    """How many of them run."""
    open_until_ms: Mapping[str, int]
    probes: Mapping[str, Mapping[str, Any]]
    now_ms: int
    unreadable: int = 0


@dataclass(slots=True)
class _Place:
    provider: str
    models: list[str] = field(default_factory=list)


def upstreams_body(look: UpstreamsLook) -> dict[str, Any]:
    """The body of `weir upstreams --json`."""
    places: dict[str, _Place] = {}
    for model in look.models.values():
        for upstream in model.upstreams:
            place = places.setdefault(upstream.label, _Place(upstream.provider))
            place.models.append(model.name)
    return {
        "at": rfc3339(look.now_ms * 1_000_000),
        "window_s": WINDOW_S,
        "processes": look.processes,
        "unreadable": look.unreadable,
        "upstreams": [_row(look, label, place) for label, place in places.items()],
    }


def _row(look: UpstreamsLook, label: str, place: _Place) -> dict[str, Any]:
    oldest = look.now_ms // 1000 // SLOT_S - SLOTS
    seen = [_recent(note[label], oldest) for note in look.notes if label in note]
    found = figures(seen)
    provider = look.providers.get(place.provider)
    return {
        "upstream": label,
        "models": place.models,
        "provider": place.provider,
        "vendor": None if provider is None else provider.type,
        **_state(look, label, provider, found),
        "known": _known(found),
        "attempts": found.attempts,
        "settled": found.settled,
        "failed": found.failed,
        "success_ratio": _ratio(found.success_ppm),
        "rate_limited": found.rate_limited,
        "outcomes": found.outcomes,
        "latency_ms": _spread(found.latency_ms),
        "first_event_ms": _spread(found.first_event_ms),
        "tokens_per_s": _spread(found.tokens_per_s),
        "in_flight": found.in_flight,
        "last_at": None if found.last_s is None else rfc3339_ms(int(found.last_s * 1000)),
        "last_failure": _failure(found),
        **_money(found),
        "probe": look.probes.get(place.provider),
    }


def _recent(seen: Seen, oldest: int) -> Seen:
    slots = {number: tally for number, tally in seen.slots.items() if number > oldest}
    return Seen(slots, seen.in_flight, seen.last_s, seen.failure)


def _state(
    look: UpstreamsLook, label: str, provider: Provider | None, found: Figures
) -> dict[str, Any]:
    """Where its breaker stands, by what processes have told each other, and why."""
    if provider is not None and provider.unavailable is not None:
        return {"state": "unavailable", "until": None, "why": provider.unavailable}
    until_ms = look.open_until_ms.get(label)
    if until_ms is None:
        return {"state": "closed", "until": None, "why": None}
    why = found.failure[0] if found.failure is not None else None
    if until_ms <= look.now_ms:
        return {"state": "half_open", "until": None, "why": why}
    return {"state": "open", "until": rfc3339_ms(until_ms), "why": why}


def _known(found: Figures) -> str:
    if not found.attempts:
        return "nothing"
    enough = found.latency_ms.is_enough or found.first_event_ms.is_enough
    return "enough" if enough else "too_few"


def _ratio(share_ppm: int | None) -> float | None:
    return None if share_ppm is None else share_ppm / PPM


def _spread(spread: Spread) -> dict[str, int | None]:
    return {"answers": spread.count, "p50": spread.p50, "p95": spread.p95}


def _failure(found: Figures) -> dict[str, str] | None:
    if found.failure is None:
        return None
    outcome, at_s = found.failure
    return {"outcome": outcome, "at": rfc3339_ms(int(at_s * 1000))}


def _money(found: Figures) -> dict[str, Any]:
    per_1000 = found.cost_nano * 1000 // found.billed if found.billed else None
    return {
        "billed": found.billed,
        "cost_usd_per_1000": None if per_1000 is None else format_usd(per_1000, places=6),
        "margin_ratio": _ratio(found.margin_ppm),
        "held_used_ratio": _ratio(found.held_used_ppm),
        "drift": {
            "exchanges": found.compared,
            "reported_usd": format_usd(found.reported_nano, places=9),
            "unexplained_usd": format_usd(found.unexplained_nano, places=9),
            "ratio": _ratio(found.drift_ppm),
        },
    }


def drifted(body: Mapping[str, Any], *, beyond: float, exchanges_min: int) -> list[dict[str, Any]]:
    """The rows whose cost has drifted without a reason, the furthest first."""
    rows = [
        row
        for row in body["upstreams"]
        if row["drift"]["ratio"] is not None
        and row["drift"]["exchanges"] >= exchanges_min
        and abs(row["drift"]["ratio"]) > beyond
    ]
    return sorted(rows, key=lambda row: -abs(row["drift"]["ratio"]))


def upstreams_table(body: Mapping[str, Any]) -> RenderableType:
    """The same for people: one row per upstream, then what stands beside the numbers."""
    table = Table(header_style="bold")
    for heading in ("Upstream", "Models", "State"):
        table.add_column(heading, overflow="fold")
    for heading in (
        "Attempts",
        "Success",
        "429",
        "In flight",
        "Latency p50/p95",
        "First event p50/p95",
        "Tokens/s",
        "USD per 1000",
        "Margin",
        "Drift",
        "Last used",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in body["upstreams"]:
        table.add_row(
            row["upstream"],
            ", ".join(row["models"]),
            _state_text(row),
            str(row["attempts"]),
            _percent(row["success_ratio"]),
            str(row["rate_limited"]),
            str(row["in_flight"]),
            _times(row["latency_ms"]),
            _times(row["first_event_ms"]),
            _or_dash(row["tokens_per_s"]["p50"]),
            _or_dash(row["cost_usd_per_1000"]),
            _percent(row["margin_ratio"]),
            _percent(row["drift"]["ratio"], is_signed=True),
            _or_dash(row["last_at"]),
        )
    return Group(table, *_notes(body))


def _notes(body: Mapping[str, Any]) -> list[RenderableType]:
    notes: list[RenderableType] = []
    for row in body["upstreams"]:
        label = row["upstream"]
        if row["last_failure"] is not None:
            failure = row["last_failure"]
            notes.append(f"{label}: failed last at {failure['at']} ({failure['outcome']}).")
        if row["probe"] is not None:
            probe = row["probe"]
            notes.append(f"{label}: probed at {probe['at']}: {probe['result']}.")
    few = [row["upstream"] for row in body["upstreams"] if row["known"] == "too_few"]
    if few:
        notes.append(f"Too few answers in the last hour to route by: {', '.join(few)}.")
    idle = [row["upstream"] for row in body["upstreams"] if row["known"] == "nothing"]
    if idle:
        notes.append(f"No traffic yet in the last hour, so nothing is known: {', '.join(idle)}.")
    count = body["processes"]
    notes.append(
        f"As {count} proxy process{'' if count == 1 else 'es'} saw it within the last hour."
        if count
        else "No proxy process runs."
    )
    if body["unreadable"]:
        notes.append(f"Notes of processes that cannot be read: {body['unreadable']}.")
    return notes


def drift_table(rows: Sequence[Mapping[str, Any]], beyond: float, least: int) -> RenderableType:
    """What has drifted, for people."""
    bound = f"more than {beyond * 100:g} % over at least {least} exchanges in the last hour"
    if not rows:
        return f"Nothing has drifted by {bound}."
    table = Table(header_style="bold")
    for heading in ("Upstream", "Models"):
        table.add_column(heading, overflow="fold")
    for heading in ("Exchanges", "Reported USD", "Unexplained USD", "Drift"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        drift = row["drift"]
        table.add_row(
            row["upstream"],
            ", ".join(row["models"]),
            str(drift["exchanges"]),
            drift["reported_usd"],
            drift["unexplained_usd"],
            _percent(drift["ratio"], is_signed=True),
        )
    return Group(table, f"Their providers' counts differ from ours by {bound}.")


def _state_text(row: Mapping[str, Any]) -> str:
    words = str(row["state"]).replace("_", "-")
    if row["until"] is not None:
        words += f" until {row['until']}"
    return f"{words} ({row['why']})" if row["why"] is not None else words


def _percent(share: float | None, *, is_signed: bool = False) -> str:
    if share is None:
        return "-"
    return f"{share * 100:+.1f} %" if is_signed else f"{share * 100:.1f} %"


def _times(spread: Mapping[str, int | None]) -> str:
    if not spread["answers"]:
        return "-"
    return f"{spread['p50']}/{spread['p95']} ms"


def _or_dash(value: Any) -> str:
    return "-" if value is None else str(value)
