"""What is looked at before a hold is placed."""

from __future__ import annotations

from caps_samples import KEY, NOW_MS, SHORT, TENANT, cap, hold

from metering.caps import CapState, Vector
from metering.caps_book import CapsBook, counted, scopes_of, windows_of
from metering.window import NOTHING


def test_the_tenant_is_a_scope_even_when_nothing_caps_it() -> None:
    """It knows all holds; each other scope comes once."""
    assert scopes_of([cap(1, scope=KEY), cap(2, scope=KEY, window=SHORT)]) == (TENANT, KEY)


def test_two_caps_over_one_window_share_its_counters() -> None:
    """What is used counts once in it."""
    what = hold(cap(1), cap(2), cap(3, window=SHORT))
    book = CapsBook()

    book.commit_spend(what, Vector(5, 1, 1), was_held=False, now_ms=NOW_MS)

    assert len(windows_of(what, TENANT)) == 2
    assert [state.spent for state in book.states(what, NOW_MS)] == [Vector(5, 1, 1)] * 3


def test_what_an_exchange_holds_is_not_in_its_own_way() -> None:
    """Nor is its request in a rate that counted it when it began."""
    bounds = cap(100), cap(100, window=SHORT)
    mine, other = hold(*bounds), hold(*bounds)
    book = CapsBook()
    for what, nano in ((mine, 30), (other, 20)):
        book.scope(what, TENANT).place(what.exchange_id, Vector(nano, 0, 1), NOW_MS + 1)

    day, short = book.looks(mine, has_begun=True)

    assert (day.held, short.held) == (Vector(20, 0, 1), Vector(20, 0, 0))
    assert (day.running, day.has_begun, short.has_begun) == (1, False, True)
    assert book.states(mine, NOW_MS)[1] == CapState(bounds[1], NOTHING, Vector(50, 0, 0), NOW_MS)


def test_in_a_rate_requests_have_begun() -> None:
    assert counted(SHORT, Vector(1, 2, 3)) == Vector(1, 2, 0)
    assert counted(cap().window, Vector(1, 2, 3)) == Vector(1, 2, 3)
