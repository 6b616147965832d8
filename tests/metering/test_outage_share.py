"""A slice is there once for each answer of Redis, whatever ends in between."""

from __future__ import annotations

from caps_samples import NOW_MS, ask, cap, hold

from metering.caps import Cap, CapState, Hold, Vector
from metering.outage_share import KnownTenant, LocalExchange
from metering.window import NOTHING

CAP, OTHER = cap(1_000), cap(500)


def numbers(of: Cap, spent: int) -> CapState:
    return CapState(of, Vector(spent), NOTHING, NOW_MS, None)


def local(tenant: KnownTenant, nano: int, *caps: Cap) -> LocalExchange:
    made = LocalExchange(hold(*caps), tenant, ask(nano), {}, was_asked=False)
    made.use(Vector(nano))
    return made


def room(tenant: KnownTenant, of: Cap) -> int:
    """What still fits into a tenth of what was left."""
    what = Hold("acme", "1", (of,))
    return max(
        nano
        for nano in range(1_001)
        if tenant.fits(what, Vector(nano), share_ppm=100_000, processes=1)
    )


def test_what_redis_has_counts_until_its_numbers_show_it() -> None:
    tenant = KnownTenant()
    tenant.note([numbers(CAP, 0)])
    first, second = local(tenant, 60, CAP), local(tenant, 30, CAP)

    first.leave()
    before = room(tenant, CAP)
    tenant.note([numbers(CAP, 60)])

    assert before == 10
    assert room(tenant, CAP) == 94 - 30  # a tenth of 940, without what the second uses
    assert second.vector == Vector(30)


def test_each_cap_waits_for_its_own_numbers() -> None:
    """An answer need not be about every cap: a denial is about one."""
    tenant = KnownTenant()
    tenant.note([numbers(CAP, 0), numbers(OTHER, 0)])
    local(tenant, 40, CAP, OTHER).leave()

    tenant.note([numbers(CAP, 40)])

    assert room(tenant, CAP) == 96
    assert room(tenant, OTHER) == 10


def test_leaving_twice_counts_once() -> None:
    tenant = KnownTenant()
    tenant.note([numbers(CAP, 0)])
    exchange = local(tenant, 40, CAP)

    exchange.leave()
    exchange.leave()

    assert (room(tenant, CAP), exchange.vector) == (60, NOTHING)
    tenant.note([numbers(CAP, 0)])
    assert room(tenant, CAP) == 100


def test_what_moves_uses_what_it_moved_to() -> None:
    """And one that nothing was spent of leaves nothing behind."""
    tenant = KnownTenant()
    tenant.note([numbers(CAP, 0)])
    exchange = local(tenant, 40, CAP)

    exchange.use(Vector(70))
    moved = room(tenant, CAP)
    exchange.use(NOTHING)
    exchange.leave()

    assert (moved, room(tenant, CAP)) == (30, 100)
