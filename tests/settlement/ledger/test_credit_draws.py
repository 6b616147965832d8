"""Drawing: in order, once per event, given back with corrections, expired in its time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fixtures_ledger import KEYS, NOVEMBER_NS, NOW_NS, book, make_event, new_ledger
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from metering.events import Kind, UsageEvent
from metering.settlement.credits import GRACE_NS, Grant
from metering.settlement.ledger import credit_draws, tables
from metering.settlement.ledger.credit_books import (
    add_grant,
    balance_of,
    entries_of_grant,
    take_back,
)
from metering.settlement.ledger.credit_draws import draw_credits, expire_credits, limits_of
from metering.settlement.ledger.credit_tables import credit_watermark
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.verify import verify

SHARD = KEYS.shard("acme")
PRICE = make_event().admission_nano
DAY_NS = 86_400_000_000_000


def grant(name: str, prices: int = 10, **changes: Any) -> Grant:
    """A paid grant for so many events at the price of the samples."""
    made = Grant(name, "acme", "paid", 10, prices * PRICE, 0, None, "manual", "")
    return replace(made, **changes)


def correction(event: UsageEvent, share: int = 1) -> UsageEvent:
    """What takes back the whole event, or its `share`-th part."""
    return make_event(
        kind=Kind.CORRECTION,
        corrects=event.event_id,
        units={unit: -count // share for unit, count in event.units.items()},
    )


def draw(ledger: Ledger) -> int:
    """Draw for what was booked."""
    return draw_credits(ledger, [SHARD], now_ns=NOW_NS)


def left(ledger: Ledger, at_ns: int = NOVEMBER_NS) -> dict[str, int]:
    """By grant, for how many events the rest would pay, in whole ones."""
    held = balance_of(ledger, "acme", at_ns).grants
    return {each.grant.id: each.left_nano // PRICE for each in held}


def account(ledger: Ledger, name: str) -> int:
    """What stands in an account of the tenant."""
    table = tables.balance.c
    query = select(table.amount_nano).where(table.tenant == "acme", table.account == name)
    with ledger.read() as connection:
        return int(connection.execute(query).scalar() or 0)


def test_an_event_draws_once(ledger: Ledger) -> None:
    """A second look, and the same event again, draw nothing."""
    add_grant(ledger, grant("g"), NOW_NS)
    event = make_event()
    book(ledger, [event])

    assert draw(ledger) == 1
    book(ledger, [event])
    assert draw(ledger) == 0

    assert left(ledger) == {"g": 9}
    assert account(ledger, "receivable") == 0
    assert account(ledger, "customer_credit") == -9 * PRICE
    assert verify(ledger) == []


def test_a_second_grant_passes_over_nothing(ledger: Ledger) -> None:
    """A ledger's first grant came before its first event: the next one does not begin anew."""
    add_grant(ledger, grant("first"), NOW_NS)
    book(ledger, [make_event()])
    add_grant(ledger, grant("second"), NOW_NS)

    assert draw(ledger) == 1

    assert left(ledger) == {"first": 9, "second": 10}
    assert account(ledger, "receivable") == 0


def test_grants_burn_in_order(ledger: Ledger) -> None:
    """Priority, then the earliest expiry, then what was given before what was paid, then the
    earliest effect, then the id."""
    never, soon = None, NOVEMBER_NS + DAY_NS
    order = [
        grant("z", 1, priority=1),
        grant("y", 1, expires_at=soon),
        grant("x", 1, expires_at=soon + 1, kind="promo"),
        grant("w", 1, expires_at=soon + 1),
        grant("v", 1, expires_at=never, effective_at=1),
        grant("t", 1, expires_at=never, effective_at=2),
        grant("u", 1, expires_at=never, effective_at=2),
    ]
    for each in reversed(order):
        add_grant(ledger, each, NOW_NS)

    burnt = []
    for _ in order:
        before = left(ledger)
        book(ledger, [make_event()])
        draw(ledger)
        burnt += [name for name, count in left(ledger).items() if count < before[name]]
    assert burnt == ["z", "y", "x", "w", "v", "t", "u"]
    assert verify(ledger) == []


def test_what_no_grant_pays_stays_receivable(ledger: Ledger) -> None:
    """The last grant pays what it has; a later one does not pay for it."""
    add_grant(ledger, grant("g", 1), NOW_NS)
    book(ledger, [make_event() for _ in range(3)])

    draw(ledger)
    add_grant(ledger, grant("h", 5), NOW_NS)
    draw(ledger)

    assert left(ledger) == {"g": 0, "h": 5}
    assert account(ledger, "receivable") == 2 * PRICE


def test_a_grant_pays_for_what_occurred_while_it_held(ledger: Ledger) -> None:
    """Not before it took effect, and not from its expiry on, whenever that is settled."""
    spring = grant("g", effective_at=NOVEMBER_NS, expires_at=NOVEMBER_NS + 10)
    add_grant(ledger, spring, NOW_NS)
    times = (NOVEMBER_NS - 1, NOVEMBER_NS, NOVEMBER_NS + 9, NOVEMBER_NS + 10)
    book(ledger, [make_event(occurred_at=at) for at in times])

    draw(ledger)

    assert left(ledger) == {"g": 8}
    assert account(ledger, "receivable") == 2 * PRICE


def test_a_correction_gives_back(ledger: Ledger) -> None:
    """What no grant paid comes off first, then the grants in the opposite order."""
    half = replace(grant("first"), amount_nano=PRICE // 2)
    add_grant(ledger, replace(half, priority=1), NOW_NS)
    add_grant(ledger, replace(half, id="second", amount_nano=PRICE // 4, priority=2), NOW_NS)
    event = make_event()
    book(ledger, [event])
    draw(ledger)
    assert account(ledger, "receivable") == PRICE - PRICE // 2 - PRICE // 4

    book(ledger, [correction(event, 2)])
    draw(ledger)
    rest = {each.grant.id: each.left_nano for each in balance_of(ledger, "acme", NOW_NS).grants}
    assert rest == {"first": 0, "second": PRICE // 4}
    assert account(ledger, "receivable") == 0
    book(ledger, [correction(event, 2)])
    draw(ledger)

    rest = {each.grant.id: each.left_nano for each in balance_of(ledger, "acme", NOW_NS).grants}
    assert rest == {"first": PRICE // 2, "second": PRICE // 4}
    assert [row["kind"] for row in entries_of_grant(ledger, "first")] == ["draw", "back"]
    assert verify(ledger) == []


def test_a_correction_may_come_first(ledger: Ledger) -> None:
    """The event then draws for what is left of it: nothing."""
    add_grant(ledger, grant("g"), NOW_NS)
    event = make_event()

    book(ledger, [correction(event)])
    draw(ledger)
    book(ledger, [event])
    draw(ledger)

    assert left(ledger) == {"g": 10}
    assert account(ledger, "receivable") == 0


def test_a_correction_of_a_refunded_grant_clears_the_debt(ledger: Ledger) -> None:
    """Its money went back: what is not spent after all is owed no more, and no credit."""
    add_grant(ledger, grant("g"), NOW_NS)
    event = make_event()
    book(ledger, [event])
    draw(ledger)
    taken = take_back(ledger, "g", 10 * PRICE, idem_key="r", reason="refund", now_ns=NOW_NS)
    assert (taken.left_nano, taken.owed_nano) == (9 * PRICE, PRICE)
    assert account(ledger, "receivable") == PRICE

    book(ledger, [correction(event)])
    draw(ledger)

    assert left(ledger) == {"g": 0}
    assert account(ledger, "receivable") == account(ledger, "customer_credit") == 0
    assert account(ledger, "payments_clearing") == 0
    assert verify(ledger) == []


def test_what_expired_is_booked_after_its_grace(ledger: Ledger) -> None:
    """A paid one is income, a promotion takes its expense back; an event from before the expiry
    still draws in between."""
    over = NOVEMBER_NS + 10
    add_grant(ledger, grant("paid", 2, priority=1, expires_at=over), NOW_NS)
    add_grant(ledger, grant("promo", 2, kind="promo", expires_at=over), NOW_NS)

    def expire(settled_ns: int) -> int:
        return expire_credits(ledger, lambda _: True, settled_ns=settled_ns, now_ns=NOW_NS)

    assert expire(over + GRACE_NS - 1) == 0
    book(ledger, [make_event(occurred_at=over - 1)])
    draw(ledger)
    assert expire(over + GRACE_NS) == 2
    assert expire(over + GRACE_NS) == 0

    assert account(ledger, "breakage") == -PRICE
    assert account(ledger, "promo_expense") == account(ledger, "promo_credit") == 0
    assert account(ledger, "customer_credit") == 0
    assert verify(ledger) == []


def test_only_the_tenants_asked_for_expire(ledger: Ledger) -> None:
    """Whose events were not all drawn for keeps its grants."""
    add_grant(ledger, grant("g", expires_at=1), NOW_NS)

    assert expire_credits(ledger, lambda _: False, settled_ns=NOW_NS, now_ns=NOW_NS) == 0
    assert left(ledger) == {"g": 10}


def test_what_was_given_back_after_the_expiry_expires_again(ledger: Ledger) -> None:
    """Nothing is left in a grant that nobody can use."""
    add_grant(ledger, grant("g", 1, expires_at=NOVEMBER_NS + 10), NOW_NS)
    event = make_event()
    book(ledger, [event])
    draw(ledger)
    late = NOVEMBER_NS + 10 + GRACE_NS
    assert expire_credits(ledger, lambda _: True, settled_ns=late, now_ns=NOW_NS) == 0

    book(ledger, [correction(event)])
    draw(ledger)
    assert expire_credits(ledger, lambda _: True, settled_ns=late, now_ns=NOW_NS) == 1

    assert account(ledger, "breakage") == -PRICE


def test_without_grants_nothing_is_read_or_written(ledger: Ledger) -> None:
    """Not even a watermark: settling costs then what it did."""
    book(ledger, [make_event()])

    assert draw(ledger) == 0
    with ledger.read() as connection:
        assert connection.execute(select(func.count()).select_from(credit_watermark)).scalar() == 0


def test_the_limit_changes_with_grants_alone(ledger: Ledger) -> None:
    """What is drawn moves from what is left to what was counted; history counts from the start."""
    book(ledger, [make_event(), make_event()])
    assert limits_of(ledger, SHARD, ["acme", "none"], NOVEMBER_NS) == {"acme": 0, "none": 0}
    add_grant(ledger, grant("g"), NOW_NS)
    assert limits_of(ledger, SHARD, ["acme"], NOVEMBER_NS) == {}
    draw(ledger)
    assert limits_of(ledger, SHARD, ["acme"], NOVEMBER_NS) == {"acme": 12 * PRICE}

    book(ledger, [make_event() for _ in range(4)])
    draw(ledger)
    assert limits_of(ledger, SHARD, ["acme"], NOVEMBER_NS) == {"acme": 12 * PRICE}

    add_grant(ledger, grant("h", 3), NOW_NS)
    assert limits_of(ledger, SHARD, ["acme"], NOVEMBER_NS) == {"acme": 15 * PRICE}


def test_a_tenant_without_any_event_has_its_grant(ledger: Ledger) -> None:
    """Nothing was settled in its shard yet."""
    add_grant(ledger, grant("g"), NOW_NS)

    assert limits_of(ledger, SHARD, ["acme"], NOVEMBER_NS) == {"acme": 10 * PRICE}


def naive(grants: Iterable[Grant], events: Iterable[UsageEvent]) -> dict[str, int]:
    """By grant, what is left: written anew, one event after the other, without the ledger."""
    rest = {each.id: each.amount_nano for each in grants}
    far = 2**63
    order = sorted(
        grants,
        key=lambda g: (g.priority, g.expires_at or far, g.kind == "paid", g.effective_at, g.id),
    )
    sold: dict[str, int] = {}
    given: dict[str, dict[str, int]] = {}
    seen = set()
    for event in events:
        if event.event_id in seen:
            continue
        seen.add(event.event_id)
        root = event.corrects or event.event_id
        sold[root] = sold.get(root, 0) + event.admission_nano
        mine = given.setdefault(root, {})
        if event.admission_nano > 0:
            open_nano = min(event.admission_nano, sold[root] - sum(mine.values()))
            for each in order:
                if each.effective_at <= event.occurred_at < (each.expires_at or far):
                    part = max(min(open_nano, rest[each.id]), 0)
                    rest[each.id] -= part
                    mine[each.id] = mine.get(each.id, 0) + part
                    open_nano -= part
        else:
            back = sum(mine.values()) - max(sold[root], 0)
            for each in reversed(order):
                part = max(min(back, mine.get(each.id, 0)), 0)
                rest[each.id] += part
                mine[each.id] = mine.get(each.id, 0) - part
                back -= part
    return rest


_GRANTS = st.lists(
    st.builds(
        lambda prio, kind, amount, begin, lasts: (prio, kind, amount, begin, lasts),
        st.integers(1, 3),
        st.sampled_from(["paid", "promo"]),
        st.integers(1, 5 * PRICE),
        st.integers(-5, 5),
        st.one_of(st.none(), st.integers(1, 10)),
    ),
    min_size=1,
    max_size=5,
)
_STEPS = st.lists(
    st.tuples(st.sampled_from(["use", "correct", "repeat"]), st.integers(0, 9)), max_size=14
)


@pytest.mark.slow(60)
@pytest.mark.timeout(120)
@settings(max_examples=25, deadline=None)
@given(grants=_GRANTS, steps=_STEPS, cut=st.integers(1, 5), chunk=st.integers(1, 4))
def test_any_order_draws_as_one_event_after_the_other(
    tmp_path_factory: pytest.TempPathFactory, grants: Any, steps: Any, cut: int, chunk: int
) -> None:
    """Whatever repeats, is corrected, or comes first, and however batches and drawing are cut."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(credit_draws, "CHUNK", chunk)
        patch.setattr(credit_draws, "SPAN", chunk + 1)
        _compare(tmp_path_factory.mktemp("ledger"), grants, steps, cut)


def _compare(folder: Path, grants: Any, steps: Any, cut: int) -> None:
    ledger = new_ledger(folder)
    made = [
        Grant(
            f"g{number}",
            "acme",
            kind,
            priority,
            amount,
            NOVEMBER_NS + begin,
            None if lasts is None else NOVEMBER_NS + begin + lasts,
            "manual",
            "",
        )
        for number, (priority, kind, amount, begin, lasts) in enumerate(grants)
    ]
    originals = [make_event(occurred_at=NOVEMBER_NS + number) for number in range(10)]
    events = []
    for verb, number in steps:
        original = originals[number]
        if verb == "correct":
            events.append(correction(original, number % 3 + 1))
        else:
            events.append(original)
    for each in made:
        add_grant(ledger, each, NOW_NS)
    for start in range(0, len(events), cut):
        book(ledger, events[start : start + cut])
        draw(ledger)

    standing = balance_of(ledger, "acme", NOVEMBER_NS).grants
    assert {each.grant.id: each.left_nano for each in standing} == naive(made, events)
    assert all(each.is_whole for each in standing)
    for kind, name in (("paid", "customer_credit"), ("promo", "promo_credit")):
        rest = sum(each.left_nano for each in standing if each.grant.kind == kind)
        assert account(ledger, name) == -rest
    assert verify(ledger) == []
    ledger.close()
