"""The only place that speaks to Stripe: its SDK, and its answers in our own words.

Rules: nothing is repeated here (`max_network_retries=0`), because what may be repeated, and how, is
decided over a row that was stored first. The API's version is the one the SDK was made for. Status
before code before message. The key is in no message. Numbers are whole; a summary that is not is
nobody's usage of ours, and refused.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from metering.settlement.stripe_moves import Answer, Became, Hour
from metering.stripe_settings import StripeMode, StripeSettings

_PAGE = 100
_DUPLICATE = ("duplicate_meter_event", "meter_event_duplicate_identifier")
_DUPLICATE_TEXT = "already exists with identifier"
_IN_USE = frozenset({409, 423, 429})


class StripeAwayError(Exception):
    """A question could not be answered now; the message says how Stripe failed, without the key."""


class StripeMissingError(Exception):
    """The SDK is not installed."""


@dataclass(frozen=True, slots=True)
class MeterAtStripe:
    """A meter as Stripe has it."""

    id: str
    event_name: str
    window: str | None
    formula: str
    is_active: bool
    customer_key: str = "stripe_customer_id"
    value_key: str = "value"


class StripePort(Protocol):
    """What the driver needs of Stripe."""

    def meters(self) -> dict[str, MeterAtStripe]:
        """Every meter, by the name of its events; StripeAwayError."""

    def send(self, hour: Hour, meter: MeterAtStripe) -> Answer:
        """One attempt at the request that is under way."""

    def totals(
        self, meter: MeterAtStripe, customer: str, *, start_s: int, end_s: int
    ) -> dict[int, int]:
        """What Stripe has by hour (start, Unix s); hours of nothing are left out."""


class Sdk:
    """Stripe by its SDK. Threads may share it: each has a connection of its own."""

    def __init__(self, settings: StripeSettings) -> None:
        """StripeMissingError without the SDK."""
        self._stripe, self._client = open_client(settings)

    def meters(self) -> dict[str, MeterAtStripe]:
        """See `StripePort`. Of an event name's meters the active one, of which there is one."""
        found: dict[str, MeterAtStripe] = {}
        service = self._client.v1.billing.meters
        for each in self._all(service.list, {"limit": _PAGE}):
            meter = _meter(each)
            if meter.is_active or meter.event_name not in found:
                found[meter.event_name] = meter
        return found

    def send(self, hour: Hour, meter: MeterAtStripe) -> Answer:
        """See `StripePort`."""
        assert hour.identifier is not None, "frozen before it is sent"
        try:
            self._client.v1.billing.meter_events.create(
                {
                    "event_name": hour.event_name,
                    "identifier": hour.identifier,
                    "timestamp": hour.timestamp_s,
                    "payload": {
                        meter.customer_key: hour.customer,
                        meter.value_key: str(hour.value),
                    },
                },
                {"idempotency_key": hour.idempotency_key},
            )
        except self._stripe.StripeError as error:
            return answer_to(error)
        return Answer(Became.TAKEN)

    def totals(
        self, meter: MeterAtStripe, customer: str, *, start_s: int, end_s: int
    ) -> dict[int, int]:
        """See `StripePort`."""
        service = self._client.v1.billing.meters.event_summaries
        asked = {
            "customer": customer,
            "start_time": start_s,
            "end_time": end_s,
            "value_grouping_window": "hour",
            "limit": _PAGE,
        }
        return {
            int(each.start_time): _whole(each.aggregated_value)
            for each in self._all(lambda params: service.list(meter.id, params), asked)
        }

    def _all(self, ask: Any, params: dict[str, Any]) -> Iterator[Any]:
        try:
            yield from ask(params).auto_paging_iter()
        except self._stripe.StripeError as error:
            raise StripeAwayError(words_of(error)) from None


def open_client(settings: StripeSettings) -> tuple[Any, Any]:
    """The SDK, and a client of it that repeats nothing; StripeMissingError without the SDK."""
    try:
        import stripe  # noqa: PLC0415 - half a second, and an extra: for who uses it
    except ImportError:
        raise StripeMissingError(
            "`stripe` needs the SDK: pip install 'tokenweir[stripe]'"
        ) from None
    stripe.enable_telemetry = False
    logging.getLogger("stripe").setLevel(logging.WARNING)  # else two lines for each request
    client = stripe.StripeClient(
        settings.api_key,
        max_network_retries=0,
        http_client=stripe.RequestsClient(timeout=settings.timeout_s),
        base_addresses={"api": settings.api_base},
    )
    return stripe, client


def answer_to(error: Any) -> Answer:
    """What became of a request, from the SDK's error."""
    status, code = error.http_status, error.code or ""
    if status is None or status >= 500:  # no answer, or one that does not say what was done
        return Answer(Became.UNKNOWN, code or words_of(error), has_answered=status is not None)
    if code in _DUPLICATE or (status == 400 and _DUPLICATE_TEXT in (error.user_message or "")):
        return Answer(Became.TAKEN, code)
    after_s = _retry_after_s(error.headers or {})
    if status in _IN_USE or code == "rate_limit":
        is_rate = code == "rate_limit" or (status == 429 and code != "lock_timeout")
        return Answer(Became.LATER, code or str(status), retry_after_s=after_s, is_for_all=is_rate)
    if status in (401, 403):
        return Answer(Became.STOPPED, code or str(status))
    return Answer(Became.REFUSED, code or str(status))


def fault_of(meter: MeterAtStripe | None, mode: StripeMode) -> str | None:
    """Why usage must not be sent to this meter; None when it may.

    Totals sent to a meter that sums everything would be billed many times over.
    """
    if meter is None:
        return "there is no such meter"
    if not meter.is_active:
        return "the meter is archived"
    if meter.formula != "sum":
        return f"the meter's formula is {meter.formula}, and must be sum"
    wanted = "hour" if mode is StripeMode.HOURLY else None
    if meter.window != wanted:
        return (
            f"the meter's event_time_window is {meter.window or 'none'}, and `stripe.mode: {mode}` "
            f"needs {wanted or 'none'}"
        )
    return None


def _meter(found: Any) -> MeterAtStripe:
    return MeterAtStripe(
        found.id,
        found.event_name,
        found.event_time_window,
        found.default_aggregation.formula,
        found.status == "active",
        found.customer_mapping.event_payload_key,
        found.value_settings.event_payload_key,
    )


def _whole(value: float) -> int:
    exact = Decimal(str(value))
    if exact != exact.to_integral_value():
        raise StripeAwayError(f"a summary of {value} is no whole number: others send to this meter")
    return int(exact)


def words_of(error: Any) -> str:
    """The kind of failure; messages may quote what was sent."""
    if error.http_status is None:
        return type(error).__name__
    return f"{error.http_status} {error.code or type(error).__name__}"


def _retry_after_s(headers: Any) -> float | None:
    found = {str(name).lower(): value for name, value in dict(headers).items()}.get("retry-after")
    try:
        return None if found is None else max(0.0, float(found))
    except ValueError:  # a date: our own patience will do
        return None
