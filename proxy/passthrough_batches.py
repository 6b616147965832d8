"""Batches at a provider, billed by what they used once their provider says so.

A batch is billed its flat amount when it is begun, and a note of that is kept. Whoever reads the
batch after its end, by itself or in a list, shows us what it used: then that is booked and the flat
amount is taken back, once, however often and by whomever it is read.

Rules: nothing is booked without the note, so that a flat amount always stands alone or is taken
back; it is attributed to whom the batch was begun for, and never to who reads it; what cannot be
believed, or has no price, leaves the flat amount as it is, and the log says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from metering.batch_notes import DONE, Made, made_note, open_note, read_note
from metering.caps import CapsUnavailableError, Hold
from metering.clock import now_ns
from metering.events import UsageEvent, decode
from metering.tenant_caps import Labels, caps_under, scopes_of
from metering.tenants import Tenant
from proxy.batch_pricing import Ended, price_of, read_ended, settle
from proxy.billing import Bill
from proxy.door import Door
from proxy.errors import UsageNotRecorded
from proxy.passthrough_paths import ID, Row
from proxy.recording import record

FAMILY = "batches"


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
