"""What `weir prices` asks the ledger: another book to compare with, usage at other prices, margins.

Reads only.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import orjson

from metering.list_prices import packaged_list_prices
from metering.price_diff import RateChange, compare
from metering.prices import PriceBook, RatesByModel
from metering.settlement.ledger.price_books import Eras, publications
from metering.settlement.ledger.provider_books import list_runs
from metering.settlement.ledger.rerate_books import Asked, Outlook, list_reratings, outlook
from metering.settlement.ledger.standing import price_bodies
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.usage_report import Asked as AskedUsage
from metering.settlement.ledger.usage_report import usage_report
from metering.settlement.rerating import Era, eras_of
from proxy.cli_times import rfc3339
from proxy.config import ConfigFaults, load
from proxy.price_review import drifting, margin_rows, review_rows
from proxy.settings import Settings

_SIDES = ("cost", "sell")


class BookNotFoundError(Exception):
    """There is no such book; the message says where was looked."""


@dataclass(frozen=True, slots=True)
class Before:
    """What is compared with: bodies of (time, cost, sell), in the order of time. A side that is
    not known is not compared."""

    name: str
    eras: Sequence[tuple[int, bytes | None, bytes | None]]
    sides: Sequence[str] = _SIDES

    def at(self, time_ns: int) -> tuple[bytes | None, bytes | None]:
        """Both bodies in force at a time; nothing before the first one."""
        held = [each for each in self.eras if each[0] <= time_ns]
        return held[-1][1:] if held else (None, None)


def bodies_against(ledger: Ledger, against: str | None, now_ns: int) -> Before:
    """The book that was named: a file, a version in the ledger, or what was published last."""
    if against is None:
        published = publications(ledger)
        if not published:
            return Before("nothing: no prices were published yet", ())
        last = published[-1]
        return Before(
            f"number {last.id}, published {rfc3339(last.published_at)}", _kept(ledger, last.eras)
        )
    if "/" in against or "." in against:
        return _of_file(Path(against), now_ns)
    body = price_bodies(ledger, [against]).get(against)
    if body is None:
        raise BookNotFoundError(
            f"the ledger has no price version {against!r}, and no file is so called"
        )
    side = str(orjson.loads(body)["side"])
    eras = [(0, body if side == "cost" else None, body if side == "sell" else None)]
    return Before(f"version {against} ({side})", eras, (side,))


def differences(before: Before, prices: PriceBook, now_ns: int) -> list[dict[str, Any]]:
    """What changes now, and at each later time at which something begins; told once each.

    A change that began in the past says when; one without a date holds from now on.
    """
    starts = {each[0] for each in before.eras} | {each.effective_from_ns for each in prices.eras}
    past = sorted((each for each in starts if each <= now_ns), reverse=True)
    begun = [(each, _changes(before, prices, each)) for each in past]
    rows: list[dict[str, Any]] = []
    told: set[RateChange] = set()
    for time_ns in (now_ns, *sorted(each for each in starts if each > now_ns)):
        for change in _changes(before, prices, time_ns):
            if change in told:
                continue
            told.add(change)
            since = time_ns if time_ns > now_ns else _since(change, begun)
            body = {**asdict(change), "change_ppm": change.change_ppm}
            rows.append({"from": rfc3339(since) if since else None, **body})
    return rows


def _since(change: RateChange, begun: Sequence[tuple[int, Sequence[RateChange]]]) -> int:
    """Since when it has held without a break; `begun` goes back in time."""
    held = takewhile(lambda each: change in each[1], begun)
    return min((since for since, _ in held), default=0)


def _changes(before: Before, prices: PriceBook, time_ns: int) -> list[RateChange]:
    book = prices.at(time_ns)
    after = book.body(sell=False), book.body(sell=True)
    return [
        change
        for side, old, new in zip(_SIDES, before.at(time_ns), after, strict=True)
        if side in before.sides
        for change in compare(old, new)
    ]


def usage_change(ledger: Ledger, prices: PriceBook, since_ns: int, now_ns: int) -> dict[str, Any]:
    """What recent usage came to, and what it comes to by the book in force now."""
    now = PriceBook(prices.rules, prices.effective_from_ns)
    found = outlook(ledger, Asked(since_ns, now_ns), eras_of(now))
    return {"since": rfc3339(since_ns), "rows": outlook_rows(found)}


def outlook_rows(found: Outlook) -> list[dict[str, Any]]:
    """By tenant and model, in their order; amounts in nano-USD."""
    return [
        {"tenant": tenant, "model": model, **asdict(sums)}
        for (tenant, model), sums in sorted(found.by_model.items())
    ]


def price_history(ledger: Ledger) -> dict[str, Any]:
    """What was published, and what was rated again; newest first."""
    published = [
        {
            "id": each.id,
            "at": rfc3339(each.published_at),
            "cost_version": each.cost_version,
            "sell_version": each.sell_version,
            "by": each.by,
            "note": each.note,
        }
        for each in reversed(publications(ledger))
    ]
    rated = [{"at": rfc3339(each.pop("begun_at")), **each} for each in list_reratings(ledger)]
    return {"published": published, "rated_again": rated}


def reviewed(ledger: Ledger, settings: Settings, since_ns: int, now_ns: int) -> dict[str, Any]:
    """The whole review."""
    listed = packaged_list_prices()
    report = usage_report(ledger, AskedUsage(since_ns=since_ns, by=("model",)))
    rows = [] if report is None else report["rows"]
    runs = [{**each.body, **_named(each)} for each in list_runs(ledger)]
    return {
        "since": rfc3339(since_ns),
        "list_prices": {
            "version": listed.version,
            "source": listed.source,
            "generated": listed.generated,
        },
        "prices": review_rows(
            settings.prices, settings.models, settings.providers, listed, now_ns=now_ns
        ),
        "margins": margin_rows(rows),
        "drifting": drifting(runs),
    }


def _named(run: Any) -> dict[str, Any]:
    return {name: getattr(run, name) for name in ("id", "provider", "since", "until")}


def _kept(ledger: Ledger, eras: Eras) -> list[tuple[int, bytes | None, bytes | None]]:
    bodies = price_bodies(ledger, {name for each in eras for name in each[1:]})
    return [(since, bodies.get(cost), bodies.get(sell)) for since, cost, sell in eras]


def _of_file(path: Path, now_ns: int) -> Before:
    try:
        book = load(path, os.environ, now_ns=now_ns).settings.prices
    except ConfigFaults as faults:
        raise BookNotFoundError(f"{path} cannot be compared with: {faults}") from None
    eras = [
        (each.effective_from_ns, each.body(sell=False), each.body(sell=True)) for each in book.eras
    ]
    return Before(str(path), eras)


def target_of(
    ledger: Ledger, prices: PriceBook, versions: Sequence[str]
) -> tuple[tuple[Era, ...], dict[str, bytes]]:
    """What to rate by, and the bodies that it names: the file's prices, or versions of the ledger
    or of the file. ValueError for two versions of one side."""
    if not versions:
        return eras_of(prices), dict(prices.bodies)
    known = {**prices.bodies, **price_bodies(ledger, versions)}
    sides: dict[str, RatesByModel] = {}
    for version in versions:
        body = known.get(version)
        if body is None:
            raise BookNotFoundError(f"no price version {version!r}, in the file or the ledger")
        side = str(orjson.loads(body)["side"])
        if side in sides:
            raise ValueError(f"two versions of {side}: name one of cost and one of sell")
        sides[side] = RatesByModel(body, version=version)
    return (Era(0, sides.get("cost"), sides.get("sell")),), {name: known[name] for name in versions}
