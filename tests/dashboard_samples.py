"""What the admin API answers, in its own shapes, for the screens of the dashboard."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fixtures_dashboard import NASTY

THOUSAND = 1_000
_AT = "2026-11-21T10:00:00Z"


def stand_in(page: Any) -> None:
    """Answer for the resources that need a long past: what is live comes from the console."""
    for path, answer in ANSWERS.items():
        page.route(f"**/admin/v1/{path}", _answering(answer))


def _answering(answer: Callable[[dict[str, str]], Any]) -> Callable[[Any], None]:
    def handle(route: Any) -> None:
        asked = {
            name: values[0] for name, values in parse_qs(urlsplit(route.request.url).query).items()
        }
        route.fulfill(status=200, content_type="application/json", body=json.dumps(answer(asked)))

    return handle


def _measures(number: int = 1) -> dict[str, Any]:
    return {
        "requests": 120 * number,
        "attempts": 130 * number,
        "tokens": {"total": 84_000 * number, "input_uncached": 60_000 * number},
        "sell_usd": f"{number}.250000000",
        "sell_nano": number * 10**9 + 250_000_000,
        "cost_usd": f"{number}.000000000",
        "cost_nano": number * 10**9,
        "margin_usd": "0.250000000",
        "margin_nano": 250_000_000,
        "errors": 2,
        "error_rate": 0.0166,
        "cache_hits": 12,
        "cache_hit_rate": 0.1,
        "latency_ms": {"p50": 420, "p95": 1800, "p99": 4000},
        "ttft_ms": {"p50": 180, "p95": 600, "p99": 900},
    }


def _usage(asked: dict[str, str]) -> Any:
    names = {"model": ["gpt-4o", "gpt-4o-mini", NASTY], "tenant": ["acme", "globex", NASTY]}
    by = asked.get("by", "model")
    values = names.get(by, ["a", "b", NASTY])
    rows = [{by: value, **_measures(3 - at)} for at, value in enumerate(values)]
    if "by" not in asked:
        rows = [_measures(6)]
    if asked.get("interval") != "none":
        starts = (asked["from"], asked["from"].replace("T00", "T01"))
        rows = [{"start": start, **row} for start in starts for row in rows]
    totals = _measures(6)
    return {
        "data": rows,
        "totals": totals,
        "settled_through": _AT,
        "source": "rollup",
        "next_cursor": None,
    }


def _exchange(number: int) -> dict[str, Any]:
    return {
        "exchange_id": f"exchange-{number}",
        "request_id": f"req_{number}",
        "at": _AT,
        "tenant": NASTY if number % 2 else "acme",
        "project": "default",
        "key": "k1",
        "model_requested": "gpt-4o",
        "model": "gpt-4o-mini" if number % 3 else "gpt-4o",
        "status": "success",
        "http_status": 200,
        "tokens": {"total": 700},
        "sell_usd": "0.003250000",
        "cost_usd": "0.002600000",
        "latency_ms": 900,
        "ttft_ms": 210,
        "attempts": 1,
        "finish_reason": "stop",
        "degrade_step": None,
        "cache": None,
    }


def _explained(asked: dict[str, str]) -> Any:
    event = {
        "event_id": "e1",
        "kind": "usage",
        "attempt": 1,
        "reason": "served",
        "billable": True,
        "usage_source": "provider",
        "price_versions": {"cost": "cost:0123", "sell": "sell:0123"},
        "provider": "openai",
        "model": "gpt-4o",
        "event": {"model_public": "gpt-4o", "finish_reason": "stop"},
        "sell_usd": "0.003250000",
        "cost_usd": "0.002600000",
        "amounts": [
            {
                "unit": "input_uncached",
                "quantity": 500,
                "rate_pico": 2_500_000,
                "sell_usd": "0.001250000",
                "cost_usd": "0.001000000",
            },
            {
                "unit": "output_text",
                "quantity": 200,
                "rate_pico": 10_000_000,
                "sell_usd": "0.002000000",
                "cost_usd": "0.001600000",
            },
        ],
    }
    return {**_exchange(0), "events": [event]}


def _page(rows: list[dict[str, Any]], asked: dict[str, str]) -> Any:
    limit, start = int(asked.get("limit", "50")), int(asked.get("cursor", "0"))
    end = start + limit
    return {"data": rows[start:end], "next_cursor": str(end) if end < len(rows) else None}


def _tenants(asked: dict[str, str]) -> Any:
    rows = [
        {"id": f"tenant-{number:04}", "name": f"Tenant {number}", "source": "registry"}
        for number in range(THOUSAND - 1)
    ]
    return _page([{"id": "acme", "name": NASTY, "source": "config"}, *rows], asked)


_REVIEW = {
    "id": 1,
    "tenant": "acme",
    "api_key_id": NASTY,
    "mode": "pause",
    "cause": "spend",
    "since": _AT,
    "seen_nano": 5 * 10**9,
    "usual_nano": 10**9,
    "bound_nano": 3 * 10**9,
    "judged_by": "own_past",
    "waits": True,
    "steps": {},
    "decisions": [],
}
_INVOICE = {
    "number": "INV-2026-10-acme",
    "tenant": NASTY,
    "period": "2026-10",
    "correction": 0,
    "corrects": None,
    "issued_on": "2026-11-01",
    "due_on": "2026-11-15",
    "currency": "USD",
    "total": "12.35",
    "total_nano": 12_350_000_000,
}
_RECORD = {
    "at": _AT,
    "who": "admin",
    "role": "admin",
    "action": "tenant.create",
    "target": NASTY,
    "before": None,
    "after": {"name": NASTY},
    "request_id": "req_1",
}

ANSWERS: dict[str, Callable[[dict[str, str]], Any]] = {
    "usage?*": _usage,
    "exchanges?*": lambda asked: _page([_exchange(number) for number in range(60)], asked),
    "exchanges/*": _explained,
    "tenants?*": _tenants,
    "reviews?*": lambda asked: _page([_REVIEW], asked),
    "invoices?*": lambda asked: _page([_INVOICE], asked),
    "audit?*": lambda asked: _page([_RECORD], asked),
    "upstreams": lambda asked: {
        "data": [
            {
                "upstream": "sim/up-big",
                "models": ["big"],
                "provider": "sim",
                "vendor": "simulator",
                "state": "closed",
                "until": None,
                "why": None,
                "attempts": 3,
                "success_ratio": 1.0,
                "rate_limited": 0,
                "in_flight": 0,
                "latency_ms": {"p50": 20, "p95": 40},
                "first_event_ms": {"p50": 9},
                "tokens_per_s": {"p50": 80},
                "last_failure": None,
            }
        ],
        "processes": 1,
    },
}
