"""Budgets that a LiteLLM file has, as caps; its virtual keys and teams live in its database. Pure.

A budget without a duration never resets there. A cap here has a window of 30 days at most, so such
a budget is not carried, rather than become a larger one in silence.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Protocol

from proxy.litellm_vendors import Params

TENANT = "default"


class _Report(Protocol):
    carried: list[str]
    changed: list[tuple[str, str]]
    dropped: list[tuple[str, str]]


_SOURCES = (
    ("litellm_settings", None, "tenant"),
    ("litellm_settings", "default_internal_user_params", "user"),
    ("litellm_settings", "default_key_generate_params", "key"),
    ("litellm_settings", "default_team_params", "project"),
)
"""Section, part of it, and the scope of ours that the budget becomes one of."""


def take_budgets(out: dict[str, Any], settings: dict[str, Params], report: _Report) -> None:
    """Takes what it uses out of `settings`; makes the tenant."""
    caps: list[dict[str, Any]] = []
    for section, part, scope in _SOURCES:
        body = settings[section] if part is None else settings[section].pop(part, None)
        where = section if part is None else f"{section}.{part}"
        if isinstance(body, dict):
            left = body if part is None else dict(body)
            _caps(left, scope, where, caps=caps, report=report)
            if part is not None:
                report.dropped += [(f"{where}.{key}", "has no counterpart here") for key in left]
    general = settings["general_settings"]
    most = general.get("global_max_parallel_requests")
    if isinstance(most, int) and most > 0:
        del general["global_max_parallel_requests"]
        caps.append({"scope": "tenant", "concurrent": most})
        report.carried.append("general_settings.global_max_parallel_requests (caps concurrent)")
    if caps:
        out["limits"] = {"caps": caps}
    out["tenants"] = [{"id": TENANT, "keys": [{"id": "first", "mint": True}]}]
    why = f"keys live in LiteLLM's database: tenant {TENANT!r} has a key for this machine only"
    report.changed.append(("virtual keys", why))


def _caps(
    body: Params, scope: str, where: str, *, caps: list[dict[str, Any]], report: _Report
) -> None:
    budget, duration = body.pop("max_budget", None), body.pop("budget_duration", None)
    if isinstance(budget, int | Decimal) and not isinstance(budget, bool):
        window = _window(duration)
        if window is None or budget <= 0:
            why = "a budget without an end" if duration is None else f"no window of {duration!r}"
            report.dropped.append((f"{where}.max_budget", f"{why}: write limits.caps yourself"))
        else:
            caps.append({"scope": scope, "window": window, "usd": budget})
            what = f"is a cap of each {scope} over {window}; windows slide"
            report.changed.append((f"{where}.max_budget", what))
    elif budget is not None or duration is not None:
        report.dropped.append(
            (f"{where}.budget_duration", "there is no max_budget that is a number")
        )
    for theirs, ours in (("rpm_limit", "requests"), ("tpm_limit", "tokens")):
        if isinstance(limit := body.get(theirs), int) and limit > 0:
            del body[theirs]
            caps.append({"scope": scope, "window": "1m", ours: limit})
            report.carried.append(f"{where}.{theirs} (caps, scope {scope})")


def _window(duration: Any) -> str | None:
    """`30d`, `24h`, `60s` as a window; `1mo` is the calendar month."""
    if duration in ("1mo", "monthly"):
        return "month"
    if duration in ("daily", "weekly"):
        return {"daily": "24h", "weekly": "7d"}[duration]
    match = re.fullmatch(r"(\d{1,9})([smhd])", str(duration))
    if match is None:
        return None
    seconds = int(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[match[2]]
    if not 60 <= seconds <= 30 * 86_400 or seconds % 60:
        return None
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return None
