"""Keys and arguments of caps whose scopes are new with every request."""

from __future__ import annotations

import pytest
from caps_samples import PARIS_DAY, SHORT, ask, cap, hold, shrinking, stairs

from metering.caps import ROLLING_DAY, Cap, Limit, Scope, ScopeKind
from metering.redis_keys import RedisKeys
from metering.redis_layout import Layouts, admission_args, layout_of, stairs_args, stop_args

KEYS = RedisKeys(prefix="p", shards=4)
LIMIT = Limit(nano=100)


def run_caps(name: str) -> tuple[Cap, ...]:
    """The caps of a request of this run, as they are made for each."""
    run = Scope(ScopeKind.RUN, name)
    return (
        Cap(Scope(ScopeKind.TENANT), ROLLING_DAY, LIMIT),
        Cap(run, ROLLING_DAY, LIMIT, marks_ppm=(500_000,)),
        Cap(run, SHORT, LIMIT),
    )


def test_a_layout_made_from_a_shape_is_the_one_made_anew() -> None:
    """Whatever ids come with the same windows and limits; also when caps share a scope or not."""
    layouts = Layouts(KEYS)
    key = Scope(ScopeKind.KEY, "a")
    apart = (
        Cap(Scope(ScopeKind.TENANT), ROLLING_DAY, LIMIT),
        Cap(Scope(ScopeKind.RUN, "a"), ROLLING_DAY, LIMIT, marks_ppm=(500_000,)),
        Cap(key, SHORT, LIMIT),
    )
    for caps in (run_caps("a"), run_caps("b"), apart, run_caps("c")):
        for tenant in ("acme", "other"):
            found, anew = layouts.of(tenant, caps), layout_of(KEYS, tenant, caps)

            assert found.names == anew.names
            assert found.scope_keys == anew.scope_keys
            assert found.shape.places == anew.shape.places
            assert found.shape.cap_args == anew.shape.cap_args
            assert found.shape.mark_args == anew.shape.mark_args
            assert found.shape.args_at(0) == anew.shape.args_at(0)
            assert layouts.of(tenant, caps) is found


def test_the_keys_are_those_of_the_keys() -> None:
    """They are made by hand here, and must not drift from where everybody else looks."""
    caps = run_caps("r1")

    layout = layout_of(KEYS, "acme", caps)

    scopes = (Scope(ScopeKind.TENANT), Scope(ScopeKind.RUN, "r1"))
    assert layout.scope_keys == [
        name
        for scope in scopes
        for name in (KEYS.scope("acme", scope), KEYS.scope_holds("acme", scope))
    ]
    assert layout.tenant.notes == KEYS.notes(KEYS.shard("acme"))


def test_a_shape_is_found_by_its_limits_not_by_ids() -> None:
    """A thousand runs are one shape; other limits are another one."""
    layouts = Layouts(KEYS)

    shapes = {id(layouts.of("acme", run_caps(f"r{number}")).shape) for number in range(1_000)}
    other = layouts.of("acme", (Cap(Scope(ScopeKind.RUN, "r"), ROLLING_DAY, Limit(nano=100)),))

    assert len(shapes) == 1
    assert id(other.shape) not in shapes


@pytest.mark.parametrize("name", ["", "a/b", "a b", "x" * 65])
def test_what_cannot_be_part_of_a_key_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be part of a Redis key"):
        Layouts(KEYS).of("acme", run_caps(name))


def test_the_period_is_that_of_the_callers_clock() -> None:
    """Worked out once a day, not once a request."""
    [day] = [cap(1, window=PARIS_DAY)]
    shape = layout_of(KEYS, "acme", (day,)).shape

    first = shape.args_at(1_781_128_799_999)
    same = shape.args_at(1_781_128_799_998)
    after = shape.args_at(1_781_128_800_000)

    assert first[:4] == ("1", "day", "0", "Europe/Paris")
    assert first is same
    assert int(after[4]) == int(first[4]) + 1
    assert after[5] == first[6] == "1781128800000"
    assert shape.args_at(1_781_128_799_999) == first


def test_stages_that_cannot_last_are_not_remembered() -> None:
    """Without a name the script neither looks for them nor writes them down."""
    assert stairs_args(None) == ["0"]
    assert stairs_args(stairs(0.8)) == ["1", "", "0", "0", "800000", "800000"]
    slow = stairs(0.8, leave=0.1, dwell_ms=5, name="slow", is_shadow=True)
    assert stairs_args(slow) == ["1", "slow", "5", "1", "800000", "700000"]


def test_candidates_and_stops_follow_the_caps() -> None:
    what = hold(cap(7), stops=(Scope(ScopeKind.RUN, "r"), Scope(ScopeKind.KEY, "k")))
    layout = layout_of(KEYS, "acme", what.caps)

    asked = [ask(1, 2), shrinking(5, 9, rate_pico=1_000, least=3, stage=2)]
    args = admission_args(what, layout, asked)

    assert args[:8] == ["1", "1", "1", "enforce", "7", "", "", ""]
    assert args[8:15] == ["2", "acme/model", "1", "2", "1", "0", "0"]
    assert args[15:26] == ["acme/model", "14", "9", "1", "2", "1", "5", "0", "1", "1000", "3"]
    assert args[26:] == stop_args(what) == ["2", "run/r", "key/k"]
