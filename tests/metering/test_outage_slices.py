"""What a process may spend of a cap by itself."""

from __future__ import annotations

import pytest
from caps_samples import KEY, NOW_MS, SHORT, TENANT, USER, ask, cap, hold, shrinking, stairs

from metering.caps import Cap, CapMode, CapState, Hold, Scope, ScopeKind, Vector
from metering.outage_slices import LocalExchange, OutagePolicy, Slices
from metering.window import NOTHING


def slices(*caps: Cap, spent: int = 0, processes: int = 1) -> Slices:
    """A tenth of what is left of each cap of the tenant acme."""
    made = Slices(OutagePolicy("local", 100_000, processes))
    made.note("acme", [CapState(each, Vector(spent), NOTHING, NOW_MS) for each in caps])
    return made


def use(made: Slices, what: Hold, vector: Vector) -> None:
    made.use(what, less=NOTHING, more=vector, running=1)


def test_each_cap_has_its_slice() -> None:
    """A tenth of 900 and of 400, and what was used of them is used."""
    wide, narrow = cap(1_000), cap(500, scope=KEY)
    made = slices(wide, narrow, spent=100)
    what = hold(wide, narrow)

    whole = made.choose(what, [ask(41), ask(40)], None)
    use(made, what, Vector(40))
    nothing = made.choose(hold(wide, narrow), [ask(1)], None)
    wide_only = made.choose(hold(wide), [ask(50)], None)

    assert whole is not None and whole.index == 1
    assert nothing is None
    assert wide_only is not None


def test_caps_that_refuse_nobody_have_no_slice() -> None:
    soft = cap(10, mode=CapMode.ALERT)

    assert slices(soft).choose(hold(soft), [ask(5_000)], None) is not None


def test_a_hold_shrinks_to_the_slice() -> None:
    bound = cap(1_000)

    found = slices(bound).choose(hold(bound), [shrinking(10, 500, rate_pico=1_000)], None)

    assert found is not None
    assert (found.vector, found.is_shrunk) == (Vector(100, 90, 1), True)


def test_exchanges_at_once_are_counted_here() -> None:
    """Four among two processes: two here, and one more once one has ended."""
    bound = cap(scope=KEY, concurrent=4)
    made = slices(bound, processes=2)
    first = hold(bound)
    for what in (first, hold(bound)):
        assert made.choose(what, [ask()], None) is not None
        use(made, what, NOTHING)

    full = made.choose(hold(bound), [ask()], None)
    made.use(first, less=NOTHING, more=NOTHING, running=-1)

    assert full is None
    assert made.choose(hold(bound), [ask()], None) is not None


@pytest.mark.parametrize(
    ("scope", "admitted"),
    [
        (Scope(ScopeKind.PROJECT, "p"), False),
        (KEY, False),
        (USER, True),
        (Scope(ScopeKind.RUN, "r"), True),
        (Scope(ScopeKind.SESSION, "s"), True),
        (Scope(ScopeKind.FEATURE, "f"), True),
    ],
)
def test_what_clients_name_may_begin_in_an_outage(scope: Scope, *, admitted: bool) -> None:
    """A run that nobody has seen is taken for new, and has its share; a key is not."""
    known, unseen = cap(10_000), cap(1_000, scope=scope)
    made = slices(known)

    found = made.choose(hold(known, unseen), [ask(100)], None)
    too_much = made.choose(hold(known, unseen), [ask(101)], None)

    assert (found is not None) == admitted
    assert too_much is None
    assert bool(made.states(hold(known, unseen))) == admitted


def test_the_oldest_of_what_roams_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded, whatever clients name."""
    monkeypatch.setattr("metering.outage_slices.ROAMING_MAX", 2)
    runs = [cap(100, scope=Scope(ScopeKind.RUN, name)) for name in "abc"]
    made = slices(*runs, spent=100)

    found = [made.choose(hold(each), [ask(10)], None) is not None for each in runs]

    assert found == [True, False, False]


def test_stages_are_by_the_last_numbers() -> None:
    """79 % when Redis was seen last, and 1 % since."""
    bound, steps = cap(1_000), stairs(0.8)
    made = slices(bound, spent=790)
    asked = ask(1), ask(1, stage=1)

    before = made.choose(hold(bound), asked, steps)
    use(made, hold(bound), Vector(10))
    after = made.choose(hold(bound), asked, steps)

    assert before is not None and after is not None
    assert [(each.index, each.stage) for each in (before, after)] == [(0, 0), (1, 1)]


def test_states_show_what_was_used_here_as_held() -> None:
    bound = cap(1_000)
    made = slices(bound, spent=300)
    what = hold(bound)
    use(made, what, Vector(20, 2, 1))

    assert made.states(what) == (CapState(bound, Vector(300), Vector(20, 2, 1), NOW_MS),)
    assert made.states(hold(cap(5, scope=TENANT), tenant="unseen")) == ()


CAP, OTHER = cap(1_000), cap(500, window=SHORT)


def numbers(of: Cap, spent: int) -> CapState:
    return CapState(of, Vector(spent), NOTHING, NOW_MS, None)


def local(made: Slices, nano: int, *caps: Cap) -> LocalExchange:
    exchange = LocalExchange(hold(*caps), made, ask(nano), {}, was_asked=False)
    exchange.use(Vector(nano))
    return exchange


def room(made: Slices, of: Cap) -> int:
    """What still fits into a tenth of what was left."""
    found = [nano for nano in range(1_001) if made.choose(hold(of), [ask(nano)], None)]
    return max(found, default=-1)


def told(*states: CapState) -> Slices:
    made = Slices(OutagePolicy("local", 100_000, 1))
    made.note("acme", states)
    return made


def test_what_redis_has_counts_until_its_numbers_show_it() -> None:
    """A slice is there once for each answer of Redis, whatever ends in between."""
    made = told(numbers(CAP, 0))
    first, second = local(made, 60, CAP), local(made, 30, CAP)

    first.leave()
    before = room(made, CAP)
    made.note("acme", [numbers(CAP, 60)])

    assert before == 10
    assert room(made, CAP) == 94 - 30  # a tenth of 940, without what the second uses
    assert second.vector == Vector(30)


def test_each_cap_waits_for_its_own_numbers() -> None:
    """An answer need not be about every cap: a denial is about one."""
    made = told(numbers(CAP, 0), numbers(OTHER, 0))
    local(made, 40, CAP, OTHER).leave()

    made.note("acme", [numbers(CAP, 40)])

    assert room(made, CAP) == 96
    assert room(made, OTHER) == 10


def test_leaving_twice_counts_once() -> None:
    made = told(numbers(CAP, 0))
    exchange = local(made, 40, CAP)

    exchange.leave()
    exchange.leave()

    assert (room(made, CAP), exchange.vector) == (60, NOTHING)
    made.note("acme", [numbers(CAP, 0)])
    assert room(made, CAP) == 100


def test_what_moves_uses_what_it_moved_to() -> None:
    """And one that nothing was spent of leaves nothing behind."""
    made = told(numbers(CAP, 0))
    exchange = local(made, 40, CAP)

    exchange.use(Vector(70))
    moved = room(made, CAP)
    exchange.use(NOTHING)
    exchange.leave()

    assert (moved, room(made, CAP)) == (30, 100)


def test_what_redis_has_not_shown_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs end and are never asked for again: what left the slice first is forgotten first."""
    monkeypatch.setattr("metering.outage_slices.UNSEEN_MAX", 3)
    made = told(numbers(CAP, 0))
    runs = [cap(1_000, scope=Scope(ScopeKind.RUN, f"r{number}")) for number in range(6)]

    for each in runs:
        local(made, 5, each).leave()
    local(made, 7, CAP).leave()

    assert len(made._unseen) == 3
    assert [room(made, each) for each in runs] == [100, 100, 100, 100, 95, 95]
    assert room(made, CAP) == 93
    assert len(made._used) == 3
