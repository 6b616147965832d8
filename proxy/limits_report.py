"""`weir limits` and `weir holds`: from what was read of Redis to JSON, and to tables. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import orjson
from rich.console import Group, RenderableType
from rich.table import Table

from metering import caps_choice
from metering.caps import BALANCE, CalendarWindow, Cap, Scope, ScopeKind, Vector
from metering.money import PPM, format_short, format_usd, usd_to_nano
from metering.scope_names import scope_text, shown
from metering.scope_reading import ScopeReading
from metering.tenant_caps import caps_under, with_balance
from metering.tenants import CapRule, Tenant
from metering.window import is_rate
from proxy.cli_times import rfc3339
from proxy.limit_words import rfc3339_ms, window_text
from proxy.stages_report import stage_rows, stage_text
from routing.upstreams import Model

_DIMENSIONS = ("usd", "tokens", "requests")
_STEPPED = (ScopeKind.SESSION, ScopeKind.RUN)


@dataclass(frozen=True, slots=True)
class Look:
    """What was read for one tenant: each scope, and the flags of its state hash."""

    tenant: Tenant
    scopes: tuple[Scope, ...]
    """Beside the tenant's own."""
    readings: Mapping[Scope, ScopeReading]
    flags: Mapping[str, str]
    now_ms: int
    is_rebuilding: bool = False
    models: Mapping[str, Model] = field(default_factory=dict)
    balance_nano: int | None = None
    """What a prepaid tenant may have spent ever, as the worker has published it."""

    def caps(self) -> tuple[Cap, ...]:
        """What stands over these scopes."""
        caps = caps_under(self.tenant, self.scopes)
        return caps if self.balance_nano is None else with_balance(caps, self.balance_nano)


def limits_body(look: Look) -> dict[str, Any]:
    """The body of `weir limits --json`."""
    caps = look.caps()
    named = {ScopeKind.TENANT, *(scope.kind for scope in look.scopes)}
    return {
        "tenant": look.tenant.id,
        "at": rfc3339(look.now_ms * 1_000_000),
        "rebuilding": look.is_rebuilding,
        "balance_unknown": look.tenant.is_stopped_by_balance and look.balance_nano is None,
        "caps": [_cap_row(look, cap) for cap in caps],
        "elsewhere": [_rule_row(rule) for rule in look.tenant.cap_rules if rule.kind not in named],
        "flags": _flag_rows(look),
        "degradation": stage_rows(
            look.tenant,
            look.models,
            next((each.id for each in look.scopes if each.kind is ScopeKind.PROJECT), None),
            [_counted(look, cap) for cap in caps],
            look.flags,
            now_ms=look.now_ms,
        ),
    }


def _counted(look: Look, cap: Cap) -> caps_choice.Look:
    reading = look.readings[cap.scope]
    return caps_choice.Look(cap, reading.windows[cap.window.label].spent, reading.held)


def _cap_row(look: Look, cap: Cap) -> dict[str, Any]:
    reading = look.readings[cap.scope]
    window = reading.windows[cap.window.label]
    held = reading.held
    if is_rate(cap.window):  # its requests have counted when they began
        held = Vector(held.nano, held.tokens, 0)
    is_balance = cap.window == BALANCE
    reset_ms = None if is_balance else window.reset_ms()
    left = cap.limit.nano
    if is_balance and left is not None:  # of a sum of all time what is left says more
        left = max(0, left - window.spent.nano)
    row = {
        "scope": scope_text(cap.scope, look.tenant.id),
        "window": window_text(cap.window),
        "timezone": cap.window.zone if isinstance(cap.window, CalendarWindow) else None,
        "mode": str(cap.mode),
        "alert_at": [mark / PPM for mark in cap.marks_ppm],
        "frees_at": None if reset_ms is None else rfc3339_ms(reset_ms),
        "usd": _usd(left, 0 if is_balance else window.spent.nano, held.nano),
        "nano": _count(left, 0 if is_balance else window.spent.nano, held.nano),
        "tokens": _count(cap.limit.tokens, window.spent.tokens, held.tokens),
        "requests": _count(cap.limit.requests, window.spent.requests, held.requests),
    }
    if cap.limit.concurrent is not None:
        row["concurrent"] = _count(cap.limit.concurrent, 0, reading.holds)
    return row


def _usd(limit: int | None, spent: int, held: int) -> dict[str, str | None]:
    return {
        "limit": None if limit is None else format_usd(limit),
        "spent": format_usd(spent),
        "held": format_usd(held),
        "remaining": None if limit is None else format_usd(max(0, limit - spent - held)),
    }


def _count(limit: int | None, spent: int, held: int) -> dict[str, int | None]:
    remaining = None if limit is None else max(0, limit - spent - held)
    return {"limit": limit, "spent": spent, "held": held, "remaining": remaining}


def _rule_row(rule: CapRule) -> dict[str, Any]:
    limit = rule.limit
    return {
        "scope": f"{rule.kind}:{rule.id or '*'}",
        "window": window_text(rule.window),
        "mode": str(rule.mode),
        "limits": {
            "usd": None if limit.nano is None else format_usd(limit.nano),
            "tokens": limit.tokens,
            "requests": limit.requests,
            "concurrent": limit.concurrent,
        },
    }


def _flag_rows(look: Look) -> list[dict[str, Any]]:
    """Those that stand in the way of the tenant or of one of the scopes."""
    rows = []
    for flag in ("paused", "killed"):
        for scope in (None, *look.scopes):
            value = look.flags.get(flag if scope is None else f"{flag}:{scope.kind}/{scope.id}")
            if value in (None, "0"):
                continue
            who = scope or Scope(ScopeKind.TENANT)
            rows.append(
                {"flag": flag, "scope": scope_text(who, look.tenant.id), **_flag_facts(value)}
            )
    return rows


def _flag_facts(value: str) -> dict[str, Any]:
    """Who raised it, why and when; nothing of a flag that was set by hand."""
    try:
        facts = orjson.loads(value)
    except orjson.JSONDecodeError:
        facts = None
    if not isinstance(facts, dict):
        return {"by": None, "why": None, "at": None}
    at_ms = facts.get("at_ms")
    return {
        "by": facts.get("by"),
        "why": facts.get("why"),
        "at": rfc3339(at_ms * 1_000_000) if isinstance(at_ms, int) else None,
    }


def _word(dimension: str, scope: str) -> str:
    """The dimension as refusals call it: a session and a run have steps."""
    if dimension == "requests" and scope.partition(":")[0] in _STEPPED:
        return "steps"
    return dimension


def limits_table(body: Mapping[str, Any]) -> RenderableType:
    """The same for people: one row per cap and dimension, then what stands elsewhere."""
    table = Table(header_style="bold")
    for heading in ("Scope", "Window", "Mode", "Of"):
        table.add_column(heading)
    for heading in ("Limit", "Spent", "Held", "Remaining", "Frees at"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in body["caps"]:
        zone = f" {row['timezone']}" if row["timezone"] else ""
        head = (row["scope"], row["window"] + zone, row["mode"])
        for dimension in (*_DIMENSIONS, "concurrent"):
            found = row.get(dimension)
            is_daily = dimension == "usd" and row is body["caps"][0]
            if found is None or (found["limit"] is None and not is_daily):
                continue
            texts = [
                "none" if found[each] is None else str(found[each])
                for each in ("limit", "spent", "held", "remaining")
            ]
            if dimension == "concurrent":  # frees up when requests end, and knows no window
                table.add_row(row["scope"], "", row["mode"], "at once", *texts, "")
                continue
            table.add_row(*head, _word(dimension, row["scope"]), *texts, row["frees_at"] or "")
    notes: list[RenderableType] = [table]
    if body["rebuilding"]:
        notes.append("Redis is being rebuilt from the ledger: what is spent is not known yet.")
    if body["balance_unknown"]:
        notes.append("What is left of its credit is not published yet: its requests get a 503.")
    for rule in body["elsewhere"]:
        limits = ", ".join(
            f"{value} {_word(name, rule['scope'])}"
            for name, value in rule["limits"].items()
            if value
        )
        notes.append(
            f"{rule['scope']} {rule['window']} ({rule['mode']}): {limits}; "
            f"name one with --{rule['scope'].partition(':')[0]}"
        )
    notes += [
        f"{flag['scope']} is {flag['flag']} by {flag['by']} since {flag['at']}: {flag['why']}"
        for flag in body["flags"]
    ]
    notes += [stage_text(row) for row in body["degradation"]]
    return Group(*notes)


def hold_row(tenant: str, exchange_id: str, raw: bytes, now_ms: int) -> dict[str, Any] | None:
    """One record of a hold as `weir holds --json` shows it; None for what cannot be read."""
    try:
        record = orjson.loads(raw)
        vector, created_ms = record["vector"], int(record["created_ms"])
        return {
            "exchange_id": exchange_id,
            "tenant": tenant,
            "state": _state(record["state"], int(record["expires_ms"]), now_ms),
            "age_s": max(0, now_ms - created_ms) // 1000,
            "created_at": rfc3339(created_ms * 1_000_000),
            "expires_at": rfc3339_ms(int(record["expires_ms"])),
            "owner": record["owner"],
            "upstream": record["upstream"],
            "usd": format_usd(int(vector["nano"]), places=9),
            "tokens": int(vector["tokens"]),
            "requests": int(vector["requests"]),
            "scopes": [shown(shape.partition(" ")[0], tenant) for shape in record["scopes"]],
        }
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None


def _state(state: str, expires_ms: int, now_ms: int) -> str:
    """A hold whose time is over counts no more, whether or not somebody has marked it."""
    return "lapsed" if state == "held" and expires_ms <= now_ms else str(state)


def holds_table(rows: Sequence[Mapping[str, Any]], unreadable: int, more: int) -> RenderableType:
    """The holds for people, the oldest first."""
    table = Table(header_style="bold")
    for heading in ("Exchange", "Tenant", "State", "Upstream", "Owner", "Scopes"):
        table.add_column(heading, no_wrap=heading == "Exchange")
    for heading in ("Age", "USD", "Tokens", "Expires"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            *(row[each] for each in ("exchange_id", "tenant", "state", "upstream", "owner")),
            " ".join(row["scopes"][1:]),
            f"{row['age_s']} s",
            row["usd"],
            str(row["tokens"]),
            row["expires_at"],
        )
    notes: list[RenderableType] = [table, _held_text(rows)]
    if unreadable:
        notes.append(f"{unreadable} records cannot be read; `weir verify` says more.")
    if more:
        notes.append(f"{more} more are not shown; raise --limit, or name a --tenant.")
    return Group(*notes)


def _held_text(rows: Iterable[Mapping[str, Any]]) -> str:
    held = [row for row in rows if row["state"] == "held"]
    nano = sum(usd_to_nano(Decimal(row["usd"])) for row in held)
    return f"{len(held)} held, ${format_short(nano)}"
