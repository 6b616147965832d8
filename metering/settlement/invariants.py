"""What must hold after any trouble, as checks over plain values: I1 to I10 of docs/reliability.md.

Pure. Each check says how much it looked at, so that "holds" over nothing is seen for what it is,
and names what is broken in words that lead to the row, the key or the request.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

NAMES = {
    "I1": "every upstream call has its event, every event is booked once",
    "I2": "events, totals, invoices and Redis' windows agree",
    "I3": "no hold is left, and no key without an end",
    "I4": "what is spent and held stays under every cap",
    "I5": "nothing is negative",
    "I6": "the streams are settled, dead letters are counted",
    "I7": "every request ended, in a documented way",
    "I8": "a bill never exceeds what the upstream did, and equals what it reported",
    "I9": "memory is back where it was",
    "I10": "no descriptor leaks",
}

OUTCOMES = frozenset({"complete", "refused", "relayed", "cut", "unreachable"})
"""How a request may end: whole; with an error of ours or the upstream's; broken off in the middle;
or because nobody listened. Anything else is a fault."""

FINDINGS_MAX = 20
"""Findings that are told of one invariant; the rest is a number."""


@dataclass(slots=True)
class Check:
    """One invariant: how many things were looked at, and what is wrong with which."""

    invariant: str
    looked_at: int = 0
    findings: list[str] = field(default_factory=list)
    more: int = 0
    notes: list[str] = field(default_factory=list)
    """What could not be judged, and why: not settled yet, or nothing to hold it against."""

    def find(self, text: str) -> None:
        """Something does not hold."""
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(text)
        else:
            self.more += 1

    def note(self, text: str) -> None:
        """Something cannot be judged now."""
        if len(self.notes) < FINDINGS_MAX:
            self.notes.append(text)

    @property
    def state(self) -> str:
        """`broken`; `partly` when what was looked at holds and more could not be judged; `holds`;
        `not checked` when there was nothing to look at."""
        if self.findings:
            return "broken"
        if self.notes:
            return "partly"
        return "holds" if self.looked_at else "not checked"


@dataclass(frozen=True, slots=True)
class Booked:
    """An event of the ledger, as far as it is compared. `ref` is its session label."""

    event_id: str
    exchange_id: str
    ref: str | None
    tenant: str
    kind: str
    attempt: int
    corrects: str | None
    billable: bool
    reason: str
    usage_source: str
    input_tokens: int
    output_tokens: int
    sell_nano: int
    admission_nano: int


@dataclass(frozen=True, slots=True)
class UpstreamCall:
    """A request as the upstream saw it: one line of its journal.

    `sent_tokens` is what it wrote, `reported` what it gave as usage (input, output), None when the
    connection ended before.
    """

    ref: str
    sent_tokens: int
    reported: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class ClientOutcome:
    """A request as the client saw it; `outcome` is one of OUTCOMES."""

    ref: str
    outcome: str
    code: str | None
    duration_s: float


@dataclass(frozen=True, slots=True)
class Scope:
    """A scope's hash in Redis, taken apart: [nano, tokens, requests] everywhere."""

    key: str
    tenant: str
    kind: str
    id: str
    held: tuple[int, int, int]
    holds: int
    leased: int
    """Of the holds, those whose owner has renewed them: exchanges under way."""
    totals: Mapping[str, tuple[int, int, int]]
    buckets: Mapping[str, Mapping[int, tuple[int, int, int]]]


@dataclass(frozen=True, slots=True)
class WindowPair:
    """One window of one scope, as Redis and as the ledger remember it."""

    name: str
    in_redis: Mapping[int, tuple[int, int, int]]
    in_ledger: Mapping[int, tuple[int, int, int]]
    oldest: int = 0
    is_settled: bool = True
    is_rate: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """What a cap looked like at one moment, nano-USD."""

    tenant: str
    spent: int
    held: int
    limit: int


def check_booked(booked: Iterable[Booked]) -> Check:
    """I1 from the ledger alone: an exchange is billed once, whatever was corrected."""
    check = Check("I1")
    reversed_ids: set[str] = set()
    billed: dict[str, list[Booked]] = defaultdict(list)
    for event in booked:
        check.looked_at += 1
        if event.kind == "correction" and event.corrects:
            reversed_ids.add(event.corrects)
        elif event.billable:
            billed[event.exchange_id].append(event)
    for exchange_id, events in billed.items():
        left = [event for event in events if event.event_id not in reversed_ids]
        if len(left) > 1:
            check.find(f"exchange {exchange_id} is billed {len(left)} times")
    return check


def check_journal(
    calls: Sequence[UpstreamCall], booked: Iterable[Booked], outcomes: Sequence[ClientOutcome]
) -> Check:
    """I1 against what really ran: no upstream call without an event, no event without a call."""
    check = Check("I1", looked_at=len(calls))
    of: dict[str | None, list[Booked]] = defaultdict(list)
    for event in booked:
        of[event.ref].append(event)
    called = {call.ref for call in calls}
    for ref in sorted(called):
        if not of.get(ref):
            check.find(f"{ref}: the upstream worked, no event is booked")
    for known, events in of.items():
        if known not in called and any(event.billable for event in events):
            check.find(f"{known}: billed, and the upstream never saw it")
    for outcome in outcomes:
        if outcome.outcome != "complete":
            continue
        net = _net(of.get(outcome.ref, []))
        if len(net) != 1:
            check.find(f"{outcome.ref}: the client had it whole, billed {len(net)} times")
        elif net[0].usage_source == "recovered":
            check.find(f"{outcome.ref}: the client had it whole, booked from a checkpoint")
    return check


def check_bills(
    calls: Sequence[UpstreamCall], booked: Iterable[Booked], outcomes: Sequence[ClientOutcome]
) -> Check:
    """I8: whole answers are billed as the upstream reported them, cut ones for no more than ran."""
    check = Check("I8")
    of: dict[str | None, list[Booked]] = defaultdict(list)
    for event in booked:
        of[event.ref].append(event)
    by_ref: dict[str, list[UpstreamCall]] = defaultdict(list)
    for call in calls:
        by_ref[call.ref].append(call)
    complete = {outcome.ref for outcome in outcomes if outcome.outcome == "complete"}
    for ref, ran in by_ref.items():
        check.looked_at += 1
        net = _net(of.get(ref, []))
        output = sum(event.output_tokens for event in net)
        reported = [call.reported for call in ran if call.reported is not None]
        if ref in complete and reported:
            exact = (sum(event.input_tokens for event in net), output)
            if exact not in reported:
                check.find(f"{ref}: billed {exact}, the upstream reported {reported}")
        elif output > sum(call.sent_tokens for call in ran):
            sent = sum(call.sent_tokens for call in ran)
            check.find(f"{ref}: billed {output} output tokens, the upstream wrote {sent}")
    return check


def _net(events: Sequence[Booked]) -> list[Booked]:
    """The billable events that stand: those that a correction took back left out."""
    gone = {event.corrects for event in events if event.kind == "correction"}
    return [
        event
        for event in events
        if event.kind == "usage" and event.billable and event.event_id not in gone
    ]


def check_outcomes(
    outcomes: Sequence[ClientOutcome], documented: frozenset[str], longest_s: float
) -> Check:
    """I7: complete, refused with a documented code, or cut; and nobody waited for ever."""
    check = Check("I7", looked_at=len(outcomes))
    for outcome in outcomes:
        if outcome.duration_s > longest_s:
            check.find(f"{outcome.ref}: took {outcome.duration_s:.1f} s")
        if outcome.outcome == "refused" and outcome.code not in documented:
            check.find(f"{outcome.ref}: refused with {outcome.code!r}, which is not documented")
        elif outcome.outcome not in OUTCOMES:
            check.find(f"{outcome.ref}: ended as {outcome.outcome!r}")
    return check


def check_windows(windows: Iterable[WindowPair]) -> Check:
    """I2: the buckets of each window in Redis are the ledger's sums; older buckets lapse.

    What differs where events of the shard were on their way is no finding.
    """
    check = Check("I2")
    for window in windows:
        for bucket in sorted(window.in_redis.keys() | window.in_ledger.keys()):
            if bucket < window.oldest:
                continue
            check.looked_at += 1
            here = window.in_redis.get(bucket, (0, 0, 0))
            there = window.in_ledger.get(bucket, (0, 0, 0))
            if window.is_rate:  # its requests count when they begin, which the ledger does not say
                here, there = (*here[:2], 0), (*there[:2], 0)
            if here == there:
                continue
            text = f"{window.name}, bucket {bucket}: Redis {here}, the ledger {there}"
            if window.is_settled:
                check.find(text)
            else:
                check.note(f"{text}; its shard has events that are not settled yet")
    return check


def check_scopes(scopes: Iterable[Scope], endless: Sequence[str]) -> tuple[Check, Check, Check]:
    """I3 nothing held; I5 nothing negative; and of I2 that totals are the sums of their buckets."""
    left, negative, sums = Check("I3"), Check("I5"), Check("I2")
    for scope in scopes:
        left.looked_at += 1
        negative.looked_at += 1
        if scope.holds and scope.holds <= scope.leased:
            left.note(f"{scope.key}: {scope.holds} exchanges under way, held {scope.held}")
        elif any(scope.held) or scope.holds:
            left.find(f"{scope.key}: {scope.holds} holds, held {scope.held}")
        if min(scope.held) < 0:
            negative.find(f"{scope.key}: held {scope.held}")
        for label, total in scope.totals.items():
            buckets = scope.buckets.get(label, {})
            sums.looked_at += 1
            summed = tuple(sum(bucket[d] for bucket in buckets.values()) for d in range(3))
            if summed != total:
                sums.find(f"{scope.key} {label}: total {total}, its buckets sum to {summed}")
            for number, bucket in [("total", total), *buckets.items()]:
                if min(bucket) < 0:
                    negative.find(f"{scope.key} {label} {number}: {bucket}")
    for key in endless:
        left.find(f"{key} has no expiry")
    return left, negative, sums


def check_samples(samples: Iterable[Sample], overshoot_nano: int) -> Check:
    """I4: at no sampled moment more than the cap, plus what is documented to pass it."""
    check = Check("I4")
    for sample in samples:
        check.looked_at += 1
        over = sample.spent + sample.held - sample.limit
        if over > overshoot_nano:
            check.find(f"tenant {sample.tenant}: {over} nano-USD over its cap")
    return check


def check_streams(
    waiting: int,
    dead_rows: int,
    dead_entries: int,
    conflicts: int,
    *,
    checked: int,
    is_late: bool = True,
) -> Check:
    """I6: nothing unread or unacknowledged, and the dead are counted twice alike.

    Events that wait are a finding when `is_late`: a worker that runs would have settled them.
    """
    check = Check("I6", looked_at=checked)
    if waiting and is_late:
        check.find(f"{waiting} events wait in the streams")
    elif waiting:
        check.note(f"{waiting} events in the streams are not settled yet")
    if dead_entries > dead_rows:  # the streams keep the newest, the ledger all
        check.find(f"{dead_rows} dead letters in the ledger, {dead_entries} in the streams")
    if conflicts:
        check.find(f"{conflicts} events came twice with different bodies")
    return check


def check_growth(
    before: Mapping[str, tuple[int, int]],
    after: Mapping[str, tuple[int, int]],
    *,
    spare_bytes: int,
    spare_descriptors: int,
) -> tuple[Check, Check]:
    """I9, I10: by process name, (resident bytes, descriptors) before and after."""
    memory, descriptors = Check("I9"), Check("I10")
    for name, (was_bytes, was_open) in before.items():
        if name not in after:
            continue
        now_bytes, now_open = after[name]
        memory.looked_at += 1
        descriptors.looked_at += 1
        if now_bytes > was_bytes + was_bytes // 10 + spare_bytes:
            memory.find(f"{name}: {was_bytes >> 20} MiB became {now_bytes >> 20} MiB")
        if now_open > was_open + spare_descriptors:
            descriptors.find(f"{name}: {was_open} descriptors became {now_open}")
    return memory, descriptors


def together(checks: Iterable[Check], *, at_rest: bool = False) -> list[Check]:
    """One check for each invariant, in their order; the parts of one added up.

    With `at_rest` nothing may be on its way any more, so what could not be judged is a finding.
    """
    found: dict[str, Check] = {name: Check(name) for name in NAMES}
    for check in checks:
        whole = found[check.invariant]
        whole.looked_at += check.looked_at
        whole.more += check.more
        for text in check.findings:
            whole.find(text)
        for text in check.notes:
            (whole.find if at_rest else whole.note)(text)
    return list(found.values())


def tally(booked: Iterable[Booked]) -> dict[str, int]:
    """What the ledger holds, for the report: events by kind and source of usage."""
    counts: Counter[str] = Counter()
    for event in booked:
        counts["events"] += 1
        counts[f"kind_{event.kind}"] += 1
        counts[f"source_{event.usage_source}"] += 1
        counts["sell_nano"] += event.sell_nano
    return dict(sorted(counts.items()))
