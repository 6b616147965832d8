"""Recovery: what to record for an exchange whose process died, from what its hold left behind.

Rules:
- The same record gives the same bytes, whoever recovers it and however often: ids and times come
  from the record, so a repeat is absorbed by the ledger.
- A tenant pays for what was counted as delivered. Of an exchange that delivered nothing we know
  only that the upstream may have read its input: that is a cost of ours, and not billable.
- What is recovered can be taken back whole: each event comes with its reversal, made now, so that
  whoever finds out later that the process lived has only to append it.
- An event of a checkpoint is passed on as it is, whether we can read it or not: in the stream it
  is judged like every other, waits for an upgrade or becomes a dead letter, and nothing is lost.

Pure. `facts` are written when room is reserved, a `checkpoint` while the exchange is open; both
are opaque to whatever keeps them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from metering.caps import Hold, Vector
from metering.events import (
    RECOVERED,
    SUPERSEDED,
    Kind,
    Reason,
    Status,
    UnknownSchemaError,
    UsageEvent,
    decode,
    encode,
)
from metering.ids import derived_id
from metering.usage import INPUT_UNCACHED

_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class LostHold:
    """A hold whose time is over, as its record says. The caps of `hold` bound nothing: of these
    only the scopes and windows are known."""

    hold: Hold
    owner: str
    upstream: str
    expires_ms: int
    facts: bytes = b""
    checkpoint: bytes = b""
    record: bytes = b""
    """All the rest, as it was kept."""

    @property
    def raw(self) -> bytes:
        """Every byte that was kept, for whoever has to look at them."""
        return b"\n".join((self.record, self.facts, self.checkpoint))


@dataclass(frozen=True, slots=True)
class Recovery:
    """What is added to the windows and to the stream, and what would take the events back."""

    actual: Vector
    events: tuple[bytes, ...]
    reversals: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class UpstreamFacts:
    """One upstream an exchange may be sent to, as its facts name it."""

    vendor: str
    provider: str
    model_public: str
    model_upstream: str
    tokenizer: str
    cost_version: str | None
    sell_version: str | None
    input_tokens: int
    input_cost_nano: int
    region: str | None = None
    price_tier: str | None = None


def encode_checkpoint(actual: Vector, events: Sequence[bytes]) -> bytes:
    """What an exchange would come to now: the amounts and, one per line, the encoded events."""
    return b"\n".join([orjson.dumps(actual), *events])


def encode_facts(labels: dict[str, Any], upstreams: Sequence[tuple[Any, ...]]) -> bytes:
    """What is known before anything is sent.

    `labels` are fields of the event by their names, `upstreams` the fields of UpstreamFacts in
    their order: every request pays for this, and a tuple costs a tenth of a dataclass.
    """
    return orjson.dumps({"v": _SCHEMA, "labels": labels, "upstreams": upstreams})


def recovery(lost: LostHold) -> Recovery:
    """What to record for this hold; ValueError when its record does not say, UnknownSchemaError
    when a newer version can tell."""
    try:
        actual, events = _from_checkpoint(lost) if lost.checkpoint else _from_facts(lost)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        kind = UnknownSchemaError if isinstance(error, UnknownSchemaError) else ValueError
        raise kind(
            f"the hold of exchange {lost.hold.exchange_id} cannot be recovered: {error!r}"
        ) from error
    return Recovery(actual, events, tuple(filter(None, map(_reversal_of, events))))


def occurred_at(lost: LostHold) -> int | None:
    """When the exchange was admitted, by its facts or its checkpoint; None when neither says."""
    _, _, first = lost.checkpoint.partition(b"\n")
    for text, path in ((lost.facts, ("labels",)), (first.partition(b"\n")[0], ())):
        try:
            found: Any = orjson.loads(text)
            for name in (*path, "occurred_at"):
                found = found[name]
        except (ValueError, KeyError, TypeError):
            continue
        if type(found) is int:
            return found
    return None


def reversal(event: UsageEvent) -> UsageEvent:
    """The correction that takes a whole event back: every sum over both of them is zero."""
    return replace(
        event,
        kind=Kind.CORRECTION,
        event_id=derived_id(event.event_id, SUPERSEDED),
        corrects=event.event_id,
        correction_reason=SUPERSEDED,
        units={unit: -count for unit, count in event.units.items()},
        counted={unit: -count for unit, count in event.counted.items()},
        cost_nano=-event.cost_nano,
        admission_nano=-event.admission_nano,
    )


def _reversal_of(body: bytes) -> bytes:
    """What takes the event back; nothing for one we cannot read: the ledger does it then."""
    try:
        return encode(reversal(decode(body)))
    except ValueError:
        return b""


def _from_checkpoint(lost: LostHold) -> tuple[Vector, tuple[bytes, ...]]:
    head, *events = lost.checkpoint.split(b"\n")
    return Vector(**orjson.loads(head)), tuple(events)


def _from_facts(lost: LostHold) -> tuple[Vector, tuple[bytes, ...]]:
    """Nothing was noted since the reserve: input only, at the upstream that was admitted."""
    raw = orjson.loads(lost.facts)
    if raw["v"] != _SCHEMA:
        raise UnknownSchemaError(
            f"facts of schema {raw['v']} are not known to this version ({_SCHEMA})"
        )
    upstreams = [UpstreamFacts(*each) for each in raw["upstreams"]]
    known = {f"{each.provider}/{each.model_upstream}": each for each in reversed(upstreams)}
    upstream = known[lost.upstream]
    units = {INPUT_UNCACHED: upstream.input_tokens} if upstream.input_tokens else {}
    ended_at = max(lost.expires_ms * 1_000_000, raw["labels"]["occurred_at"])
    event = UsageEvent(
        **raw["labels"],
        event_id=derived_id(lost.hold.exchange_id, RECOVERED),
        exchange_id=lost.hold.exchange_id,
        tenant=lost.hold.tenant,
        proxy_id=lost.owner,
        completed_at=ended_at,
        emitted_at=ended_at,
        vendor=upstream.vendor,
        provider=upstream.provider,
        model_public=upstream.model_public,
        model_upstream=upstream.model_upstream,
        region=upstream.region,
        price_tier=upstream.price_tier,
        tokenizer=upstream.tokenizer,
        cost_version=upstream.cost_version,
        sell_version=upstream.sell_version,
        units=units,
        counted=units,
        usage_source=RECOVERED,
        cost_nano=upstream.input_cost_nano,
        status=Status.ERROR,
        billable=False,
        reason_code=Reason.RECOVERED_UNCONFIRMED,
    )
    return Vector(tokens=upstream.input_tokens, requests=1), (encode(event),)
