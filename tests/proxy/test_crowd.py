"""How many there may be, and how much memory they may have."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy import crowd
from proxy.crowd import (
    HEALTH_CONNECTIONS,
    Crowd,
    Memory,
    Place,
    connections_bound,
    memory_bound,
    raise_file_limit,
    resident_bytes,
)

MIB = 1024 * 1024


def test_places_run_out_and_come_back() -> None:
    """Full, then health only, then none; who leaves makes room."""
    places = Crowd(2)
    given = [places.enter("a") for _ in range(2 + HEALTH_CONNECTIONS + 1)]

    assert given == [Place.FULL] * 2 + [Place.HEALTH] * HEALTH_CONNECTIONS + [Place.NONE]
    for _ in range(1 + HEALTH_CONNECTIONS):
        places.leave("a")
    assert len(places) == 1
    assert places.enter("b") is Place.FULL


def test_silence_makes_way() -> None:
    """T-17: the oldest that has asked for nothing goes; who has asked stays, and one that cannot be
    told to go does."""
    places, gone = Crowd(2), []

    def guest(name: int) -> Callable[[], None]:
        def make_way() -> None:
            gone.append(name)
            places.leave("a", make_way)

        return make_way

    guests = [guest(at) for at in range(2 + HEALTH_CONNECTIONS)]
    for each in guests:
        places.enter("a", each)
    places.has_asked(guests[0])
    given = [places.enter("b", guest(99)), places.enter("b")]

    assert gone == [1, 2]
    assert given == [Place.HEALTH, Place.HEALTH]
    assert len(places) == 2 + HEALTH_CONNECTIONS


def test_one_address_has_its_own_bound() -> None:
    """Another address does not pay for it, and what has left is not counted."""
    places = Crowd(10, per_ip=1)

    assert [places.enter(each) for each in "aba"] == [Place.FULL, Place.FULL, Place.NONE]
    places.leave("a")
    assert places.enter("a") is Place.FULL


def test_connections_are_bounded_by_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each exchange needs two files, and the process needs some for itself."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))

    assert connections_bound(10_000) == (1024 - crowd.FILES_KEPT - HEALTH_CONNECTIONS) // 2
    assert connections_bound(100) == 100


def test_the_soft_limit_of_files_goes_up_to_the_hard_one() -> None:
    """What the administrator allows is used."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1] // 2, before[1]))

    raise_file_limit()

    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize(
    ("text", "bound"),
    [("1073741824\n", 256 * MIB), ("max\n", None), ("9223372036854771712\n", None)],
)
def test_the_containers_memory_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, bound: int | None
) -> None:
    """Half of it, shared by the processes; a container without a limit gives none."""
    (tmp_path / "memory.max").write_text(text)
    files = (tmp_path / "none", tmp_path / "memory.max")
    monkeypatch.setattr(crowd, "_CGROUP_FILES", files)

    assert memory_bound(None, 2) == bound
    assert memory_bound(100, 2) == 100 * MIB


def test_streams_stop_before_the_rest() -> None:
    """80 % for streams, 90 % for all; what is given back is noticed."""
    used = [0]
    now = [0.0]
    memory = Memory(1000, lambda: used[0], lambda: now[0])
    seen = {}
    for used[0] in (800, 801, 900, 901, 100):
        now[0] += 1
        seen[used[0]] = (memory.has_room(stream=True), memory.has_room(stream=False))

    assert seen == {
        800: (True, True),
        801: (False, True),
        900: (False, True),
        901: (False, False),
        100: (True, True),
    }


def test_memory_is_not_looked_up_for_every_request() -> None:
    """Within a quarter of a second the last answer holds."""
    asked = []
    memory = Memory(1000, lambda: asked.append(1) or 10, lambda: 5.0)

    assert all(memory.has_room(stream=True) for _ in range(100))
    assert len(asked) == 1


def test_bodies_share_a_part_of_the_memory() -> None:
    """T-13: over it who comes later is refused, and who is alone never; all of it comes back."""
    memory = Memory(1000, lambda: 0)
    with memory.body() as first, memory.body() as second:
        assert first.grow(150) and second.grow(100)
        assert not second.grow(1) and not first.grow(1)
    with memory.body() as alone, memory.body() as other:
        assert alone.grow(900)
        assert not other.grow(1)

    assert memory._bodies == 0


def test_bodies_have_no_room_in_a_full_process() -> None:
    """T-13: what was let in before the process was full may not fill it further."""
    memory = Memory(1000, lambda: 950)
    with memory.body() as first, memory.body() as second:
        assert first.grow(1)
        assert not second.grow(1)


def test_without_a_bound_there_is_always_room() -> None:
    """Nothing is measured then."""
    assert Memory(None, lambda: 1 // 0).has_room(stream=True)


def test_memory_that_was_freed_is_given_back() -> None:
    """A process that was full for a moment is not full for ever."""
    held = [bytes(1000) + b"x" for _ in range(200_000)]
    full = resident_bytes()
    del held

    crowd.give_back()

    assert resident_bytes() < full - 100 * MIB
