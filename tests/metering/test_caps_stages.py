"""Stages near a cap, holds that shrink, caps that refuse nobody: on every `Caps`."""

from __future__ import annotations

from caps_samples import (
    KEY,
    TENANT,
    USER,
    Subject,
    ask,
    cap,
    hold,
    shrinking,
    stairs,
)
from fixtures_caps import denied, held, spend

from metering.caps import Candidate, CapMode, DenialReason, Elastic, ScopeKind, Vector

# -- stages -----------------------------------------------------------------------------------


async def test_the_highest_stage_in_force_decides(subject: Subject) -> None:
    """Candidates of lower stages are passed over; who has none for it keeps the higher ones."""
    bound, steps = cap(1_000), stairs(0.5, 0.8)
    asked = ask(10), ask(5, stage=1), ask(2, stage=2)

    found = []
    for nano in (499, 1, 299, 1):
        await spend(subject, bound, nano=nano)
        answer = await held(subject, hold(bound), *asked, stairs=steps)
        found.append((answer.index, answer.stage))
        await subject.caps.release(hold(bound))
        subject.clock.ms += 60_000  # what was held lapses

    assert found == [(0, 0), (1, 1), (1, 1), (2, 2)]


async def test_a_denial_says_the_stage_in_force(subject: Subject) -> None:
    """Whoever has to tell why nothing fitted knows whether steps were closed by then; of steps on
    trial it is the one that would be."""
    bound = cap(1_000)
    await spend(subject, bound, nano=850)

    plain = await denied(subject, hold(bound), ask(200))
    stepped = await denied(
        subject, hold(bound), ask(200), ask(160, stage=2), stairs=stairs(0.5, 0.8)
    )
    on_trial = await denied(
        subject, hold(bound), ask(200), stairs=stairs(0.5, 0.8, 0.9, is_shadow=True)
    )
    passed_over = await denied(subject, hold(bound), ask(1), stairs=stairs(0.5, 0.8))

    assert [each.stage for each in (plain, stepped, on_trial, passed_over)] == [0, 2, 2, 2]


async def test_a_stage_lasts_until_its_lower_share(subject: Subject) -> None:
    """Entered at 0.8, left under 0.5: one request more or less does not make it flap."""
    bound, steps = cap(1_000), stairs(0.8, leave=0.3, name="slow")
    near = hold(bound)
    asked = ask(0), ask(0, stage=1)

    async def stage() -> int:
        return (await held(subject, hold(bound), *asked, stairs=steps)).stage

    await spend(subject, bound, nano=499)
    below = await stage()
    await held(subject, near, ask(301))
    entered = await stage()
    await subject.caps.release(near)
    left = await stage()
    await spend(subject, bound, nano=1)
    not_again = await stage()
    await held(subject, near_two := hold(bound), ask(300))
    again = await stage()
    await subject.caps.release(near_two)
    kept = await stage()

    assert (below, entered, left, not_again, again, kept) == (0, 1, 0, 0, 1, 1)


async def test_a_stage_lasts_for_its_dwell(subject: Subject) -> None:
    """Once entered it stays for so long, however little is left of what caused it."""
    bound, steps = cap(1_000), stairs(0.5, 0.9, dwell_ms=10_000, name="slow")
    near, asked = hold(bound), (ask(0), ask(0, stage=1), ask(0, stage=2))
    await held(subject, near, ask(950))
    entered = await held(subject, hold(bound), *asked, stairs=steps)
    await subject.caps.release(near)

    subject.clock.ms += 9_999
    still = await held(subject, hold(bound), *asked, stairs=steps)
    subject.clock.ms += 1
    over = await held(subject, hold(bound), *asked, stairs=steps)

    assert [answer.stage for answer in (entered, still, over)] == [2, 2, 0]


async def test_stairs_are_remembered_by_their_name_and_tenant(subject: Subject) -> None:
    """One model's stage is not another's."""
    bound, steps = cap(1_000), stairs(0.5, dwell_ms=10_000, name="dear")
    near, asked = hold(bound), (ask(0), ask(0, stage=1))
    await held(subject, near, ask(600))
    await held(subject, hold(bound), *asked, stairs=steps)
    await subject.caps.release(near)

    same = await held(subject, hold(bound), *asked, stairs=steps)
    name = await held(subject, hold(bound), *asked, stairs=stairs(0.5, dwell_ms=10_000, name="x"))
    other = await held(subject, hold(bound, tenant="other"), *asked, stairs=steps)

    assert (same.stage, name.stage, other.stage) == (1, 0, 0)


async def test_a_floor_is_under_every_stage(subject: Subject) -> None:
    """An anomaly degrades whatever is spent; more stages than there are means the last one."""
    bound, asked = cap(1_000), (ask(0), ask(0, stage=1), ask(0, stage=2))
    steps = stairs(0.8, 0.9)

    found = []
    for stage in (1, 7, 0):
        await subject.set_stage_min("acme", stage)
        found.append((await held(subject, hold(bound), *asked, stairs=steps)).stage)

    assert found == [1, 2, 0]


async def test_stairs_in_shadow_pass_nobody_over(subject: Subject) -> None:
    """The answer says which stage it would have been."""
    bound = cap(1_000)
    await spend(subject, bound, nano=900)

    answer = await held(
        subject, hold(bound), ask(1), ask(1, stage=1), stairs=stairs(0.8, is_shadow=True)
    )

    assert (answer.index, answer.stage) == (0, 1)


async def test_only_enforced_caps_make_a_stage(subject: Subject) -> None:
    """A soft limit at its end degrades nobody."""
    soft = cap(100, mode=CapMode.ALERT), cap(100, scope=KEY, mode=CapMode.SHADOW)
    await spend(subject, *soft, nano=100)

    answer = await held(subject, hold(*soft), ask(0), ask(0, stage=1), stairs=stairs(0.8))

    assert (answer.index, answer.stage) == (0, 0)


async def test_who_has_nothing_for_a_stage_waits_for_its_end(subject: Subject) -> None:
    """Told as spent with the time when enough has left; or as held where it only lasts."""
    bound, slow = cap(1_000), stairs(0.5, dwell_ms=10_000, name="slow")
    near = hold(bound)
    await held(subject, near, ask(600))
    await held(subject, hold(bound), ask(0, stage=1), stairs=slow)
    await subject.caps.release(near)

    lasting = await denied(subject, hold(bound), ask(1), stairs=slow)
    await spend(subject, bound, nano=600)
    spent = await denied(subject, hold(bound), ask(1), stairs=slow)

    assert (lasting.reason, spent.reason) == (DenialReason.HELD, DenialReason.SPENT)
    assert lasting.state is not None and spent.state is not None
    assert (lasting.state.cap, lasting.state.reset_ms) == (bound, None)
    assert spent.state.reset_ms == (subject.clock.ms // 300_000 + 289) * 300_000


# -- holds that shrink ------------------------------------------------------------------------


async def test_a_hold_shrinks_to_what_is_left(subject: Subject) -> None:
    """As many output tokens as every enforced cap pays for, and not one more."""
    bounds = cap(1_000), cap(scope=KEY, tokens=500), cap(10, scope=USER, mode=CapMode.ALERT)
    wide = shrinking(100, 2_000, rate_pico=3_333)

    by_money = await held(subject, hold(*bounds), wide)
    await subject.caps.commit(hold(cap(scope=KEY)), Vector(0, 200, 1), [])
    by_tokens = await held(subject, hold(bounds[1]), shrinking(100, 400, rate_pico=1))

    assert by_money.vector == Vector(100 + 900, 270, 1)
    assert by_money.states[0].held == Vector(1_000, 270, 1)
    assert by_tokens.vector == Vector(101, 30, 1)


async def test_everything_asked_is_held_if_it_fits(subject: Subject) -> None:
    answer = await held(subject, hold(cap(1_000)), shrinking(100, 270, rate_pico=3_333))

    assert answer.vector is None
    assert answer.states[0].held == Vector(1_000, 270, 1)


async def test_candidates_are_tried_whole_before_any_shrinks(subject: Subject) -> None:
    """A cheaper model that can say all of it comes before a dear one that cannot."""
    dear = shrinking(100, 1_000, rate_pico=5_000)

    cheap = await held(subject, hold(cap(1_000)), dear, ask(900))
    alone = await held(subject, hold(cap(1_950)), dear, ask(2_000))

    assert (cheap.index, cheap.vector) == (1, None)
    assert (alone.index, alone.vector) == (0, Vector(1_050, 190, 1))


async def test_below_its_least_output_a_request_is_refused(subject: Subject) -> None:
    """The denial is about the least it could have had: spent, not never."""
    bound = cap(1_000)
    await spend(subject, bound, nano=900)

    answer = await denied(subject, hold(bound), shrinking(50, 5_000, rate_pico=1_000, least=64))
    fitting = await held(subject, hold(bound), shrinking(50, 5_000, rate_pico=1_000, least=50))

    assert answer.reason is DenialReason.SPENT
    assert answer.state is not None and answer.state.reset_ms is not None
    assert fitting.vector == Vector(100, 50, 1)


async def test_a_repeat_says_what_was_held(subject: Subject) -> None:
    what, wide = hold(cap(500)), shrinking(0, 1_000, rate_pico=1_000)

    first = await held(subject, what, wide)
    again = await held(subject, what, wide)

    assert (first.vector, again.vector) == (Vector(500, 500, 1),) * 2
    assert (first.repeat, again.repeat) == (False, True)


async def test_a_slice_is_taken_as_far_as_it_fits(subject: Subject) -> None:
    """Mid-stream: a swap that asks for more tokens gets those there are, or nothing."""
    what = hold(cap(1_000))
    await held(subject, what, shrinking(0, 600, rate_pico=1_000))
    other = hold(cap(1_000))
    await held(subject, other, ask(300))

    part = await subject.caps.swap(what, shrinking(0, 800, rate_pico=1_000, least=601))
    none = await subject.caps.swap(what, shrinking(0, 900, rate_pico=1_000, least=701))

    assert getattr(part, "vector", None) == Vector(700, 700, 1)
    assert getattr(none, "reason", None) is DenialReason.HELD
    after = await subject.caps.commit(what, Vector(700, 700, 1), [])
    assert after.states[0].held == Vector(300, 0, 1)


async def test_the_largest_amounts_shrink_to_the_token(subject: Subject) -> None:
    """2^53 - 1 nano-USD and rates whose products are not: exact all the same."""
    limit, rate = 2**53 - 2, 999_999_999_999_999
    wide = Candidate("u", Vector(2**53 - 1, 9_500, 1), elastic=Elastic(Vector(0, 0, 1), rate, 1))

    answer = await held(subject, hold(cap(limit)), wide)

    assert answer.vector == Vector(9_006_999_999_999_991, 9_007, 1)
    assert answer.vector.nano == -(-9_007 * rate // 1_000) <= limit


# -- caps that refuse nobody ------------------------------------------------------------------


async def test_soft_caps_and_shadows_let_everybody_pass(subject: Subject) -> None:
    """A shadow says whom it would have refused; a soft limit says nothing."""
    bounds = (
        cap(1_000),
        cap(100, scope=KEY, mode=CapMode.SHADOW),
        cap(100, scope=USER, mode=CapMode.ALERT),
        cap(10_000, scope=USER, mode=CapMode.SHADOW, requests=0),
    )
    what = hold(*bounds)

    answer = await held(subject, what, ask(200))
    again = await held(subject, what, ask(200))
    grown = await subject.caps.swap(what, ask(90, requests=0))

    assert (answer.shadowed, again.shadowed) == ((1, 3), (1, 3))
    assert getattr(grown, "shadowed", None) == ()


async def test_exchanges_at_once_are_bounded_per_scope(subject: Subject) -> None:
    """Holds are counted, their expiry included; no room is no matter of money."""
    bounds = cap(1_000), cap(scope=KEY, concurrent=2)
    first = hold(*bounds)
    await held(subject, first, ask(1))
    await held(subject, hold(*bounds), ask(1))

    full = await denied(subject, hold(*bounds), ask(1))
    moved = await subject.caps.swap(first, ask(2))
    await subject.caps.commit(first, Vector(1), [])
    free = await held(subject, hold(*bounds), ask(1))
    subject.clock.ms += 60_000
    lapsed = await held(subject, hold(*bounds), ask(1))

    assert (full.reason, full.dimension) == (DenialReason.HELD, "concurrent")
    assert full.state is not None and full.state.cap.scope.kind is ScopeKind.KEY
    assert not hasattr(moved, "reason")
    assert (free.repeat, lapsed.repeat) == (False, False)


async def test_no_exchange_at_once_is_never(subject: Subject) -> None:
    answer = await denied(subject, hold(cap(scope=TENANT, concurrent=0)), ask(0))

    assert (answer.reason, answer.dimension) == (DenialReason.NEVER, "concurrent")
