"""What is remembered for the time without Redis."""

from __future__ import annotations

from caps_samples import KEY, ask, cap, hold, shrinking

from metering.caps import Scope, ScopeKind, Vector
from metering.outage_memory import KnownHolds, Stopped

RUN = Scope(ScopeKind.RUN, "r1")


def test_what_is_held_is_what_was_answered_last() -> None:
    """A hold that shrank is as small as it is; a move takes its place and keeps the rest."""
    known, what = KnownHolds(), hold(cap(10))

    known.held(what, shrinking(1, 5, rate_pico=1_000), Vector(3, 2, 1), "p", b"f")
    first = known.find(what)
    known.noted(what, b"seen")
    known.noted(what, None)
    known.moved(what, ask(9), None)
    second = known.find(what)

    assert first is not None and second is not None
    assert (first.candidate.vector, first.candidate.elastic) == (Vector(3, 2, 1), None)
    assert second.candidate.vector == Vector(9, 0, 1)
    assert (second.checkpoint, second.asked) == (b"seen", {"owner": "p", "facts": b"f"})


def test_what_has_ended_stays_ended() -> None:
    """An answer that comes late brings nothing back that nobody would take away again."""
    known, what = KnownHolds(), hold(cap(10))
    known.held(what, ask(1), None, "p", b"")

    known.ended(what)
    known.moved(what, ask(9), None)
    known.noted(what, b"late")

    assert (known.find(what), len(known)) == (None, 0)


def test_whoever_runs_in_a_stopped_scope_is_stopped() -> None:
    """Until Redis admits somebody there; the tenant itself stops all of its exchanges."""
    stopped = Stopped()
    inside, beside = hold(stops=(KEY, RUN)), hold(stops=(KEY,))
    stopped.add("acme", RUN)
    only_run = (stopped.stops(inside), stopped.stops(beside))

    stopped.clear(inside)
    none = stopped.stops(inside)
    stopped.add("acme", None)

    assert only_run == (True, False)
    assert not none
    assert stopped.stops(beside)
