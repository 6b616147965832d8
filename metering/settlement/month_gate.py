"""Whether the ledger can have everything of a month: what is still on its way to it. Pure.

Rules: the streams must have been settled up to an hour after the month's end, and no proxy may
have commits of before that hour on its disk. What is committed later is late by any rule, so a
busy installation does not wait for the traffic of today. Of a process that was not heard of since
the month's end nobody knows what is on its disk; who ends in order says so, and is not waited for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from metering.settlement.crossings import read_report
from metering.settlement.ledger.plan_books import GRACE_NS
from metering.settlement.redis_stream import StreamStanding
from metering.settlement.utc import utc_text

FRESH_MS = 60_000
"""A process that lives reports every ten seconds; its disk may hold other than an older report."""

_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Seen:
    """The streams by shard, what each proxy reported last, and what the disk of this machine holds:
    by proxy, commits that neither Redis nor the ledger is known to have."""

    standings: Sequence[StreamStanding]
    reports: Mapping[str, bytes] = field(default_factory=dict)
    here: Mapping[str, int] = field(default_factory=dict)


def lacking(seen: Seen, end_ns: int, now_ns: int) -> list[str]:
    """What may be missing of the month that ended then, in words; empty when nothing can be."""
    border_ms, now_ms = (end_ns + GRACE_NS) // _MS, now_ns // _MS
    found = _in_streams(seen.standings, border_ms)
    fresh = set()
    for proxy_id, report in sorted(seen.reports.items()):
        at_ms, records, _, oldest_s = read_report(report)
        if at_ms >= now_ms - FRESH_MS:
            fresh.add(proxy_id)
        elif seen.here.get(proxy_id):
            continue  # its disk knows better
        if records and at_ms - oldest_s * 1_000 < border_ms:
            found.append(_spooled(proxy_id, records))
        elif 0 < at_ms < end_ns // _MS and proxy_id not in seen.here:
            found.append(f"proxy {proxy_id} was last heard of at {utc_text(at_ms * 1_000_000)}")
    for proxy_id, records in sorted(seen.here.items()):
        if records and proxy_id not in fresh:
            found.append(_spooled(proxy_id, records))
    return found


def _in_streams(standings: Sequence[StreamStanding], border_ms: int) -> list[str]:
    late = [at for at in standings if at.since_ms is not None and at.since_ms < border_ms]
    if not late:
        return []
    waiting = sum(each.waiting for each in late)
    oldest_ms = min(each.since_ms or 0 for each in late)
    many = f"{waiting:,} event{'s wait' if waiting != 1 else ' waits'}"
    return [f"{many} for the ledger, the oldest since {utc_text(oldest_ms * 1_000_000)}"]


def _spooled(proxy_id: str, records: int) -> str:
    return f"{records:,} commit{'' if records == 1 else 's'} in the spool of proxy {proxy_id}"
