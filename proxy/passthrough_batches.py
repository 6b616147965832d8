"""Batches at a provider, billed by what they used once their provider says so.

A batch is billed its flat amount when it is begun, and a note of that is kept. Whoever reads the
batch after its end, by itself or in a list, shows us what it used: then that is booked and the flat
amount is taken back, once, however often and by whomever it is read.

Rules: nothing is booked without the note, so that a flat amount always stands alone or is taken
back; it is attributed to whom the batch was begun for, and never to who reads it; what cannot be
believed, or has no price, leaves the flat amount as it is, and the log says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from metering.batch_notes import DONE, Made, made_note, open_note, read_note
from metering.caps import CapsUnavailableError, Hold, Vector
from metering.clock import now_ns
from metering.events import Kind, Reason, Status, UsageEvent, decode, encode
from metering.ids import derived_id
from metering.money import AMOUNT_NANO_MAX
from metering.price_variants import TierChoice
from metering.prices import Price, PriceBook
from metering.recovery import reversal
from metering.tenant_caps import Labels, caps_under, scopes_of
from metering.tenants import Tenant
from metering.usage import TOKEN_CLASSES, is_count
from proxy.billing import Bill
from proxy.door import Door
from proxy.errors import UsageNotRecorded
from proxy.passthrough_paths import ID, Row
from proxy.passthrough_usage import read_usage
from proxy.recording import record
from routing.upstreams import Model, Upstream

FAMILY = "batches"
BATCH = "batch"
"""The service tier of what is in a batch, and the `correction_reason` of what takes its flat amount
back."""

ENDED = frozenset({"completed", "expired", "cancelled"})
"""States of a batch in which nothing more is used. One that `failed` was never begun."""

_ENDED_AT = ("completed_at", "expired_at", "cancelled_at", "finished_at")
_DATED = re.compile(r"-\d{4}-\d\d-\d\d$")
"""OpenAI names the version of a model that ran a batch: `gpt-5-2025-08-07`."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A batch that is over, as its provider tells it."""

    id: str
    model: str
    units: Mapping[str, int]
    calls: int
    ended_at_s: int
    suspect: str | None = None


def read_ended(batch: object) -> Ended | None:
    """What a batch has used; None while it is under way, and where it does not tell."""
    if not isinstance(batch, dict) or batch.get("status") not in ENDED:
        return None
    name, model = batch.get("id"), batch.get("model")
    if not isinstance(name, str) or not ID.fullmatch(name):
        return None
    if not isinstance(model, str) or not 0 < len(model) <= 256 or not model.isprintable():
        return None
    calls = _calls(batch.get("request_counts"))
    usage = read_usage(batch.get("usage"))
    if not usage.is_told and (usage.suspect or calls != 0 or not _is_nothing(batch.get("usage"))):
        return None  # zero is believed only where no request was answered
    times = [batch.get(field) for field in _ENDED_AT]
    ended_at = next((int(each) for each in times if is_count(each) and each), 0)
    return Ended(name, model, usage.units, 1 if calls is None else calls, ended_at, usage.suspect)


def _is_nothing(usage: object) -> bool:
    """Whether it is told, and is told to be nothing."""
    return isinstance(usage, dict) and usage.get("input_tokens", usage.get("prompt_tokens")) == 0


def _calls(counts: object) -> int | None:
    """How many of its requests were answered, where it is told."""
    completed = counts.get("completed") if isinstance(counts, dict) else None
    return int(completed) if is_count(completed) else None  # type: ignore[arg-type] # is_count: an int


def price_of(
    models: Mapping[str, Model], prices: PriceBook, provider: str, ended: Ended
) -> tuple[Upstream, Price] | None:
    """The model that ran the batch, as it is configured or as it is called there, and its price;
    None where that has no rate for what was used."""
    names = dict.fromkeys((ended.model, _DATED.sub("", ended.model)))
    known = [
        upstream
        for name in names
        for model in models.values()
        for upstream in model.upstreams
        if (upstream.provider, upstream.model) == (provider, name)
    ]
    for upstream in (*known, *(Upstream(provider, name, name) for name in names)):
        price = prices.find(
            provider=provider, model=upstream.model, public_name=upstream.public_name
        )
        if price is not None and all(
            unit in rates.rates_pico for unit in ended.units for rates in (price.sell, price.cost)
        ):
            return upstream, price
    return None


def settle(
    flat: UsageEvent, ended: Ended, upstream: Upstream, price: Price, *, now: int, proxy_id: str
) -> Made | None:
    """What takes the place of the flat amount; None where it comes to more than anything can.

    Every id is made from the flat event's and the batch's: whoever does this again does the same.
    """
    name = f"{flat.provider}/{ended.id}"
    exchange_id = derived_id(flat.exchange_id, f"{BATCH}:{name}")
    units = {unit: count for unit, count in ended.units.items() if count}
    if ended.calls:
        units |= {"api_call": ended.calls, "inference": ended.calls}
    choice = TierChoice(None, "batches have no price of their own: billed at the list price")
    if price.takes_tier(BATCH):
        choice = price.choose_tier(reported=BATCH, asked=None)
    priced = price.at(units, tier=choice.tier, region=upstream.region)
    sell_nano, cost_nano = priced.sell.total_nano(units), priced.cost.total_nano(units)
    if max(sell_nano, cost_nano) > AMOUNT_NANO_MAX:
        return None
    ended_at = max(flat.occurred_at, min(now, ended.ended_at_s * 10**9 or now))
    used = replace(
        flat,
        kind=Kind.USAGE,
        event_id=derived_id(exchange_id, BATCH),
        exchange_id=exchange_id,
        attempt=0,  # the request was counted when the batch was begun
        upstream_request_id=ended.id,
        occurred_at=ended_at,
        completed_at=ended_at,
        model_requested=upstream.public_name,
        model_public=upstream.public_name,
        model_upstream=upstream.model,
        model_answered=ended.model,
        region=upstream.region,
        service_tier=BATCH,
        price_tier=choice.tier,
        units=units,
        counted={},
        usage_source="provider",
        usage_suspect=ended.suspect or choice.doubt,
        cost_version=priced.cost.version,
        sell_version=priced.sell.version,
        cost_nano=cost_nano,
        admission_nano=sell_nano,
        latency_ms=0,
        ttft_ms=None,
        status=Status.SUCCESS,
        billable=True,
        reason_code=Reason.SERVED,
        emitted_at=now,
        proxy_id=proxy_id,
        spool_seq=None,
        spool_events=None,
    )
    back = replace(
        reversal(flat),
        event_id=derived_id(flat.event_id, BATCH),
        correction_reason=BATCH,
        emitted_at=now,
        proxy_id=proxy_id,
        spool_seq=None,
        spool_events=None,
    )
    tokens = sum(count for unit, count in units.items() if unit in TOKEN_CLASSES)
    return Made(Vector(nano=sell_nano, tokens=tokens), (encode(used), encode(back)))


def shown(row: Row, answer: Mapping[str, Any]) -> Sequence[object]:
    """The batches that an answer shows."""
    if row.family != FAMILY:
        return ()
    data = answer.get("data")
    return data if row.lists and isinstance(data, list) else (answer,)


class Batches:
    """The batches of one tenant at one provider, as an answer shows them."""

    def __init__(self, door: Door, tenant: Tenant, provider: str, log: Any) -> None:
        self._door, self._tenant, self._provider, self._log = door, tenant, provider, log

    async def begun(self, batch: object, event: bytes) -> None:
        """A batch was begun, and this event recorded for it."""
        if not isinstance(batch, str) or not ID.fullmatch(batch):
            return
        try:
            await self._swap(batch, was=b"", becomes=open_note(event))
        except CapsUnavailableError as error:
            self._log.warning("batch_note_lost", batch=batch, cause=str(error))

    async def look(self, batches: Sequence[object]) -> None:
        """Book what these have used, as far as they are over and it was not booked before."""
        found = [ended for batch in batches if (ended := read_ended(batch)) is not None]
        if not found:
            return
        try:
            names = [self._name(each.id) for each in found]
            notes = await self._door.batches.look(self._tenant.id, names)
            for ended, note in zip(found, notes, strict=True):
                if note and note != DONE:
                    await self._book(ended, note)
        except CapsUnavailableError as error:  # whoever reads it the next time finds it as it was
            self._log.info("batch_waits", cause=str(error))

    async def _book(self, ended: Ended, note: bytes) -> None:
        try:
            due = read_note(note)
        except ValueError as error:
            self._log.warning("batch_stays_flat", batch=ended.id, cause=f"its note: {error}")
            return
        if isinstance(due, UsageEvent):
            made = self._made(ended, due)
            if made is None:
                return
            note = await self._swap(ended.id, was=note, becomes=made_note(made))
            due = read_note(note)  # somebody else may have been faster
        if not isinstance(due, Made):
            return
        try:
            await record(self._door, self._hold(due), Bill(due.actual, [*due.events], []), ended.id)
        except UsageNotRecorded:
            return  # told by `record`; the note has it still
        await self._swap(ended.id, was=note, becomes=DONE)
        self._log.info("batch_booked", batch=ended.id, sell_nano=due.actual.nano)

    def _made(self, ended: Ended, flat: UsageEvent) -> Made | None:
        settings, made = self._door.settings, None
        found = price_of(settings.models, settings.prices, self._provider, ended)
        if found is not None:
            proxy_id = self._door.proxy_id
            made = settle(flat, ended, *found, now=now_ns(), proxy_id=proxy_id)
        if made is None:
            cause = "no price for what it used" if found is None else "more than anything costs"
            self._log.warning("batch_stays_flat", batch=ended.id, model=ended.model, cause=cause)
        return made

    def _hold(self, made: Made) -> Hold:
        """Nothing is held; it counts in every scope in which the batch was begun."""
        used = decode(made.events[0])
        labels = Labels(used.feature, used.user, used.session, used.run)
        stops = scopes_of(used.project, used.api_key_id, labels)
        return Hold(self._tenant.id, used.exchange_id, caps_under(self._tenant, stops), stops)

    def _name(self, batch: str) -> str:
        return f"{self._provider}/{batch}"

    async def _swap(self, batch: str, *, was: bytes, becomes: bytes) -> bytes:
        notes = self._door.batches
        return await notes.swap(self._tenant.id, self._name(batch), was=was, becomes=becomes)
