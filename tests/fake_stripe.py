"""Stripe's meters on a real socket, as far as it matters to what is sent to them.

It knows an identifier for 24 hours, keeps an answer under its Idempotency-Key (an error of its own,
too), takes one request of a customer's meter at a time, overwrites within the hour where a meter is
pre-aggregated, and sums where it is raw. It fails as it is told: before or after it has applied a
request, with an answer or without, at once or later behind everybody's back.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from fake_stripe_payments import FakePayments

DAY_S = 86_400
KEY = "sk_test_fake"


@dataclass
class Applied:
    """An event that Stripe has."""

    identifier: str
    event_name: str
    customer: str
    value: int
    timestamp: int
    number: int


@dataclass
class FakeStripe:
    """`trouble(number)` says what goes wrong with the n-th event: see `_post_event`."""

    clock_s: Callable[[], int]
    trouble: Callable[[int], str | None] = lambda _number: None
    most_recent_by: str = "arrival"
    """Or `timestamp`: Stripe does not say which."""
    meters: dict[str, dict[str, Any]] = field(default_factory=dict)
    customers: set[str] = field(default_factory=set)
    applied: list[Applied] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    refuses_keys: bool = False
    retry_after_s: float = 2.0

    def __post_init__(self) -> None:
        self.payments = FakePayments(self.clock_s)
        self._known: dict[str, int] = {}
        self._answers: dict[str, tuple[str, int, dict[str, Any]]] = {}
        self._busy: set[tuple[str, str]] = set()
        self._late: list[dict[str, str]] = []
        self._number = 0
        self._lock = threading.Lock()
        self.collisions = 0
        self.server: ThreadingHTTPServer | None = None

    def add_meter(self, event_name: str, **changes: Any) -> None:
        self.meters[event_name] = {
            "id": f"mtr_{event_name}",
            "object": "billing.meter",
            "event_name": event_name,
            "display_name": event_name,
            "event_time_window": "hour",
            "default_aggregation": {"formula": "sum"},
            "customer_mapping": {"type": "by_id", "event_payload_key": "stripe_customer_id"},
            "value_settings": {"event_payload_key": "value"},
            "status": "active",
            **changes,
        }

    def start(self) -> str:
        """Listen; the address."""
        fake = self

        class Handler(_Handler):
            stripe = fake

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_port}"

    def stop(self) -> None:
        assert self.server is not None
        self.server.shutdown()
        self.server.server_close()

    # what there is

    def hours(self, event_name: str, customer: str) -> dict[int, int]:
        """What counts, by hour."""
        found: dict[int, int] = {}
        own = [
            each
            for each in self.applied
            if (each.event_name, each.customer) == (event_name, customer)
        ]
        if self.meters[event_name]["event_time_window"] is None:
            for each in own:
                hour = each.timestamp // 3_600 * 3_600
                found[hour] = found.get(hour, 0) + each.value
            return found
        if self.most_recent_by == "timestamp":
            own.sort(key=lambda each: (each.timestamp, each.number))
        for each in own:
            found[each.timestamp // 3_600 * 3_600] = each.value
        return found

    def total(self, event_name: str, customer: str) -> int:
        return sum(self.hours(event_name, customer).values())

    def deliver_late(self) -> None:
        """What got stuck on the way arrives now."""
        with self._lock:
            for params in self._late:
                self._apply(params)
            self._late.clear()

    # what it does

    def post_event(self, key: str, params: dict[str, str]) -> tuple[int, dict[str, Any]] | None:
        """The answer; None where the line goes dead."""
        place = params["payload[stripe_customer_id]"], params["event_name"]
        with self._lock:
            if place in self._busy:
                self.collisions += 1
                return _error(409, "too_many_concurrent_requests")
            self._busy.add(place)
        try:
            return self._post_event(key, params)
        finally:
            with self._lock:
                self._busy.discard(place)

    def _post_event(self, key: str, params: dict[str, str]) -> tuple[int, dict[str, Any]] | None:
        with self._lock:
            self._number += 1
            said = json.dumps(params, sort_keys=True)
            if key in self._answers:
                kept, status, body = self._answers[key]
                if kept != said:
                    return _error(400, "idempotency_error", kind="idempotency_error")
                return status, body
            what = self.trouble(self._number)
            self.seen[what or "fine"] += 1
            if what in ("409", "429"):
                return _error(int(what), "rate_limit" if what == "429" else "lock_timeout")
            if what == "500_before":
                return self._kept(key, said, _error(500, "api_error"))
            if what == "drop_before":
                return None
            if what == "straggles":
                self._late.append(params)
                return None
            answer = (200, {"object": "billing.meter_event"}) if what == "rejects" else None
            answer = answer or self._apply(params)
            if what == "drop_after":
                if answer[0] == 200:
                    self._kept(key, said, answer)
                return None
            if what == "500_after":
                return self._kept(key, said, _error(500, "api_error"))
            return self._kept(key, said, answer) if answer[0] == 200 else answer

    def _kept(self, key: str, said: str, answer: tuple[int, dict[str, Any]]) -> Any:
        self._answers[key] = (said, *answer)
        return answer

    def _apply(self, params: dict[str, str]) -> tuple[int, dict[str, Any]]:
        now_s, at = self.clock_s(), int(params["timestamp"])
        identifier, customer = params["identifier"], params["payload[stripe_customer_id]"]
        meter = self.meters.get(params["event_name"])
        if meter is None or meter["status"] != "active":
            return _error(400, "no_meter" if meter is None else "archived_meter")
        if customer not in self.customers:
            return _error(400, "meter_event_customer_not_found")
        if at < now_s - 35 * DAY_S:
            return _error(400, "timestamp_too_far_in_past")
        if at > now_s + 300:
            return _error(400, "timestamp_in_future")
        if now_s - self._known.get(identifier, -10 * DAY_S) < DAY_S:
            text = f"An event already exists with identifier {identifier}"
            return _error(400, None, message=text)
        self._known[identifier] = now_s
        self.applied.append(
            Applied(
                identifier,
                params["event_name"],
                customer,
                int(params["payload[value]"]),
                at,
                len(self.applied),
            )
        )
        return 200, {"object": "billing.meter_event", "identifier": identifier}

    def summaries(self, meter_id: str, asked: dict[str, str]) -> dict[str, Any]:
        name = next(name for name, each in self.meters.items() if each["id"] == meter_id)
        assert asked["value_grouping_window"] == "hour"
        start, end = int(asked["start_time"]), int(asked["end_time"])
        with self._lock:
            hours = self.hours(name, asked["customer"])
        rows = [
            {
                "id": f"mtrusg_{hour}",
                "object": "billing.meter_event_summary",
                "aggregated_value": float(Decimal(value)),
                "start_time": hour,
                "end_time": hour + 3_600,
                "meter": meter_id,
            }
            for hour, value in sorted(hours.items(), reverse=True)
            if start <= hour < end
        ]
        after = asked.get("starting_after")
        if after is not None:
            rows = rows[[row["id"] for row in rows].index(after) + 1 :]
        limit = int(asked["limit"])
        url = f"/v1/billing/meters/{meter_id}/event_summaries"
        return {"object": "list", "url": url, "data": rows[:limit], "has_more": len(rows) > limit}


def _error(
    status: int, code: str | None, *, kind: str = "invalid_request_error", message: str = "no"
) -> tuple[int, dict[str, Any]]:
    return status, {"error": {"type": kind, "code": code, "message": message}}


class _Handler(BaseHTTPRequestHandler):
    stripe: FakeStripe
    protocol_version = "HTTP/1.1"

    def log_message(self, *_args: Any) -> None:
        pass

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if not self._is_known():
            return
        if url.path == "/v1/billing/meters":
            data = list(self.stripe.meters.values())
            self._answer(200, {"object": "list", "url": url.path, "data": data, "has_more": False})
            return
        asked = dict(parse_qsl(url.query))
        if (found := self.stripe.payments.answer(url.path, asked)) is not None:
            self._answer(*found)
            return
        meter_id = url.path.split("/")[4]
        self._answer(200, self.stripe.summaries(meter_id, asked))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        if not self._is_known():
            return
        assert urlsplit(self.path).path == "/v1/billing/meter_events"
        found = self.stripe.post_event(self.headers["idempotency-key"], dict(parse_qsl(body)))
        if found is None:
            self.close_connection = True
            return
        self._answer(*found)

    def _is_known(self) -> bool:
        if self.headers["authorization"] == f"Bearer {KEY}" and not self.stripe.refuses_keys:
            return True
        self._answer(*_error(401, None))
        return False

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        if status == 429:
            self.send_header("retry-after", str(self.stripe.retry_after_s))
        self.end_headers()
        self.wfile.write(data)
