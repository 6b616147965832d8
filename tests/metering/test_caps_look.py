"""What a reserve would answer, from a reading: flags, floors under stages, shadow."""

from __future__ import annotations

from caps_samples import KEY, ask, cap, hold, stairs

from metering.caps import CapMode, Denial, DenialReason, Reservation, Scope, ScopeKind, Vector
from metering.caps_look import Reading, look
from metering.scope_reading import ScopeReading
from metering.window import NOTHING, SlidingWindow

TENANT = Scope(ScopeKind.TENANT)


def reading(made_of, spent=0, held=NOTHING, holds=0, **state: str) -> Reading:
    """The same spend in every window of every scope."""
    scopes = {}
    for each in made_of.caps:
        windows = {
            other.window.label: SlidingWindow(
                other.window,
                {1: Vector(spent, 0, 0)} if spent else {},
                Vector(spent, 0, 0),
            )
            for other in made_of.caps
            if other.scope == each.scope
        }
        scopes[each.scope] = ScopeReading(windows, held, holds)
    return Reading(1_000, scopes, state)


def test_what_fits_and_what_does_not() -> None:
    """The amount decides; the states are those of before the request."""
    exchange = hold(cap(1_000))
    now = reading(exchange, spent=900, held=Vector(40, 0, 1), holds=1)

    looked = look(exchange, [ask(60, 1)], None, now)
    refused = look(exchange, [ask(61, 1)], None, now).answer

    assert isinstance(looked.answer, Reservation)
    assert (looked.states[0].spent.nano, looked.states[0].held.nano) == (900, 40)
    assert isinstance(refused, Denial)
    assert refused.reason is DenialReason.HELD


def test_flags_of_the_tenant_and_of_scopes() -> None:
    """The tenant's flag goes first; one of a scope names it; `0` is none."""
    exchange = hold(cap(1_000), stops=(KEY,))
    name = f"killed:{KEY.kind}/{KEY.id}"

    def answer(**state: str) -> object:
        return look(exchange, [ask(1, 1)], None, reading(exchange, **state)).answer

    assert answer(paused="{}", **{name: "{}"}) == Denial(DenialReason.PAUSED)
    assert answer(paused="0", **{name: "{}"}) == Denial(DenialReason.KILLED, scope=KEY)
    assert isinstance(answer(**{name: "0"}), Reservation)


def test_stages_by_spend_by_memory_and_by_floor() -> None:
    """A stage is in force by what is spent, by what is remembered, or by the tenant's floor."""
    exchange = hold(cap(1_000))
    near = stairs(0.5, 0.8, leave=0.1, dwell_ms=60_000, name="s")
    asked = [ask(10, 1), ask(5, 1, stage=1), ask(1, 1, stage=2)]

    def stage(spent: int, **state: str) -> tuple[int, int]:
        found = look(exchange, asked, near, reading(exchange, spent=spent, **state)).answer
        assert isinstance(found, Reservation)
        return found.stage, found.index

    assert stage(0) == (0, 0)
    assert stage(500) == (1, 1)
    assert stage(0, **{"stage:s": "2 900"}) == (2, 2)
    assert stage(0, stage_min="1") == (1, 1)
    assert stage(0, stage_min="9") == (2, 2)


def test_shadow_refuses_nobody_and_is_told() -> None:
    """A cap in shadow lets through what it would have refused, and is named."""
    exchange = hold(cap(1_000), cap(5, scope=KEY, mode=CapMode.SHADOW))

    found = look(exchange, [ask(10, 1)], None, reading(exchange)).answer

    assert isinstance(found, Reservation)
    assert found.shadowed == (1,)
