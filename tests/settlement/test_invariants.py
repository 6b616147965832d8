"""Each invariant holds over a sound run and is broken by exactly what it is there to find."""

from __future__ import annotations

from dataclasses import replace

import pytest

from metering.settlement import invariants
from metering.settlement.invariants import (
    Booked,
    Check,
    ClientOutcome,
    Sample,
    Scope,
    UpstreamCall,
    WindowPair,
)

EVENT = Booked(
    event_id="e1",
    exchange_id="x1",
    ref="r1",
    tenant="acme",
    kind="usage",
    attempt=1,
    corrects=None,
    billable=True,
    reason="served",
    usage_source="provider",
    input_tokens=11,
    output_tokens=40,
    sell_nano=500,
    admission_nano=500,
)
RECOVERED = replace(
    EVENT, event_id="e0", usage_source="recovered", reason="partial", output_tokens=12
)
REVERSAL = replace(
    RECOVERED, event_id="e2", kind="correction", corrects="e0", input_tokens=-11, output_tokens=-12
)
CALL = UpstreamCall("r1", sent_tokens=40, reported=(11, 40))
COMPLETE = ClientOutcome("r1", "complete", None, 1.0)
CUT = ClientOutcome("r1", "cut", None, 1.0)
DAY = "24h"


def scope(**changes: object) -> Scope:
    sound = Scope(
        key="weir:{s1}:c:tenant:acme",
        tenant="acme",
        kind="tenant",
        id="",
        held=(0, 0, 0),
        holds=0,
        leased=0,
        totals={DAY: (500, 51, 1)},
        buckets={DAY: {7: (500, 51, 1)}},
    )
    return replace(sound, **changes)  # type: ignore[arg-type]


def pair(in_ledger: tuple[int, int, int]) -> WindowPair:
    return WindowPair("tenant acme", {7: (500, 51, 1)}, {7: in_ledger})


@pytest.mark.parametrize(
    "check",
    [
        invariants.check_booked([EVENT]),
        invariants.check_booked([RECOVERED, REVERSAL, EVENT]),
        invariants.check_journal([CALL], [EVENT], [COMPLETE]),
        invariants.check_journal([CALL], [RECOVERED, REVERSAL, EVENT], [COMPLETE]),
        invariants.check_journal([CALL], [RECOVERED], [CUT]),
        invariants.check_bills([CALL], [EVENT], [COMPLETE]),
        invariants.check_bills([CALL], [RECOVERED], [CUT]),
        invariants.check_windows([pair((500, 51, 1))]),
        *invariants.check_scopes([scope()], []),
        invariants.check_samples([Sample("acme", 600, 400, 1_000)], 0),
        invariants.check_streams(0, 2, 2, 0, checked=1),
        invariants.check_outcomes([COMPLETE, CUT], frozenset(), 60.0),
        *invariants.check_growth(
            {"p": (100, 10)}, {"p": (109, 11)}, spare_bytes=0, spare_descriptors=1
        ),
    ],
)
def test_a_sound_run_has_no_findings(check: Check) -> None:
    assert check.findings == []


@pytest.mark.parametrize(
    ("check", "says"),
    [
        (
            invariants.check_booked([EVENT, replace(EVENT, event_id="e9")]),
            "exchange x1 is billed 2 times",
        ),
        (invariants.check_booked([RECOVERED, EVENT]), "exchange x1 is billed 2 times"),
        (invariants.check_journal([CALL], [], [CUT]), "r1: the upstream worked, no event"),
        (invariants.check_journal([], [EVENT], []), "r1: billed, and the upstream never saw it"),
        (
            invariants.check_journal([CALL], [replace(EVENT, billable=False)], [COMPLETE]),
            "r1: the client had it whole, billed 0 times",
        ),
        (
            invariants.check_journal([CALL], [RECOVERED], [COMPLETE]),
            "r1: the client had it whole, booked from a checkpoint",
        ),
        (
            invariants.check_bills([CALL], [replace(EVENT, output_tokens=39)], [COMPLETE]),
            "r1: billed (11, 39), the upstream reported [(11, 40)]",
        ),
        (
            invariants.check_bills([UpstreamCall("r1", 11, None)], [RECOVERED], [CUT]),
            "r1: billed 12 output tokens, the upstream wrote 11",
        ),
        (
            invariants.check_windows([pair((499, 51, 1))]),
            "tenant acme, bucket 7: Redis (500, 51, 1), the ledger (499, 51, 1)",
        ),
        (
            invariants.check_windows([replace(pair((1, 1, 1)), in_redis={})]),
            "tenant acme, bucket 7: Redis (0, 0, 0), the ledger (1, 1, 1)",
        ),
        (
            invariants.check_scopes([scope(held=(5, 0, 0), holds=1)], [])[0],
            "1 holds, held (5, 0, 0)",
        ),
        (invariants.check_scopes([], ["weir:{s1}:x"])[0], "weir:{s1}:x has no expiry"),
        (invariants.check_scopes([scope(held=(-1, 0, 0))], [])[1], "held (-1, 0, 0)"),
        (
            invariants.check_scopes([scope(buckets={DAY: {7: (500, -1, 1)}})], [])[1],
            "24h 7: (500, -1, 1)",
        ),
        (
            invariants.check_scopes([scope(totals={DAY: (1, 1, 1)})], [])[2],
            "total (1, 1, 1), its buckets sum to (500, 51, 1)",
        ),
        (
            invariants.check_samples([Sample("acme", 601, 400, 1_000)], 0),
            "tenant acme: 1 nano-USD over its cap",
        ),
        (invariants.check_streams(3, 0, 0, 0, checked=1), "3 events wait in the streams"),
        (invariants.check_streams(0, 1, 2, 0, checked=1), "1 dead letters in the ledger, 2 in"),
        (invariants.check_streams(0, 0, 0, 2, checked=1), "2 events came twice"),
        (
            invariants.check_outcomes([replace(COMPLETE, duration_s=61)], frozenset(), 60.0),
            "r1: took 61.0 s",
        ),
        (
            invariants.check_outcomes(
                [replace(COMPLETE, outcome="refused", code="odd")], frozenset({"known"}), 60.0
            ),
            "r1: refused with 'odd', which is not documented",
        ),
        (
            invariants.check_outcomes([replace(COMPLETE, outcome="hung")], frozenset(), 60.0),
            "r1: ended as 'hung'",
        ),
        (
            invariants.check_growth(
                {"p": (100 << 20, 10)},
                {"p": (200 << 20, 10)},
                spare_bytes=0,
                spare_descriptors=0,
            )[0],
            "p: 100 MiB became 200 MiB",
        ),
        (
            invariants.check_growth(
                {"p": (1, 10)}, {"p": (1, 30)}, spare_bytes=0, spare_descriptors=5
            )[1],
            "p: 10 descriptors became 30",
        ),
    ],
)
def test_what_is_broken_is_found_and_named(check: Check, says: str) -> None:
    assert check.state == "broken"
    assert any(says in text for text in check.findings), check.findings


def test_buckets_that_have_lapsed_are_not_compared() -> None:
    check = invariants.check_windows([replace(pair((0, 0, 0)), oldest=8)])

    assert (check.state, check.looked_at) == ("not checked", 0)


def test_an_exchange_is_net_of_what_was_taken_back() -> None:
    """A bill that was replaced counts neither as one too many nor as too high."""
    events = [replace(RECOVERED, output_tokens=50), replace(REVERSAL, output_tokens=-50), EVENT]

    assert invariants.check_bills([CALL], events, [COMPLETE]).findings == []
    assert invariants.check_bills([CALL], events[:1], [CUT]).findings != []


def test_each_invariant_is_told_once_in_order() -> None:
    first, second = Check("I2", 3, ["a"]), Check("I2", 4, ["b"], more=2)

    told = invariants.together([Check("I5", 1), first, second])

    assert [check.invariant for check in told] == list(invariants.NAMES)
    assert told[1] == Check("I2", 7, ["a", "b"], more=2)
    assert [check.state for check in told[:5]] == [
        "not checked",
        "broken",
        "not checked",
        "not checked",
        "holds",
    ]


def test_findings_are_bounded_and_the_rest_counted() -> None:
    check = Check("I1")
    for number in range(invariants.FINDINGS_MAX + 5):
        check.find(str(number))

    assert (len(check.findings), check.more) == (invariants.FINDINGS_MAX, 5)


def test_a_rate_is_compared_without_its_requests() -> None:
    """They count when they begin, and the ledger knows when they ended."""
    check = invariants.check_windows([replace(pair((500, 51, 9)), is_rate=True)])

    assert (check.state, check.looked_at) == ("holds", 1)


def test_what_was_on_its_way_is_no_finding() -> None:
    check = invariants.check_windows([replace(pair((499, 51, 1)), is_settled=False)])

    assert (check.state, len(check.notes)) == ("partly", 1)
