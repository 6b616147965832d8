"""When a silence is held against a child; processes that hang are met in test_supervisor."""

from __future__ import annotations

import os

import pytest

from proxy.pulse import STEP_MAX_S, Pulse


def listened(pulse: Pulse, seconds: int, *, from_s: float = 0.0) -> float:
    """What is known of the silence after looking once a second for so long."""
    return [pulse.silent_s(from_s + second) for second in range(seconds + 1)][-1]


def test_nobody_is_judged_before_the_first_beat() -> None:
    """A start may take as long as it takes."""
    assert listened(Pulse(), 600) == 0


def test_silence_grows_from_the_last_beat_on() -> None:
    """A second for a second, and the next beat ends it."""
    pulse = Pulse()
    pulse.beat()
    assert listened(pulse, 16) == 16
    pulse.beat()
    assert pulse.silent_s(17.0) == 0
    assert pulse.silent_s(18.0) == 1


@pytest.mark.parametrize("pause_s", [10.0, 86_400.0])
def test_a_pause_of_the_parent_is_no_silence_of_the_child(pause_s: float) -> None:
    """A suspended machine: nobody looked, so next to nothing is held against anybody."""
    pulse = Pulse()
    pulse.beat()
    listened(pulse, 1)

    assert pulse.silent_s(1.0 + pause_s) == 1 + STEP_MAX_S


def test_who_comes_after_is_judged_from_its_own_first_beat() -> None:
    """The old one's silence is not its successor's, however long that one needs to start."""
    pulse = Pulse()
    pulse.beat()
    assert listened(pulse, 20) == 20
    pulse.forget()
    assert listened(pulse, 60, from_s=21.0) == 0
    pulse.beat()
    assert listened(pulse, 3, from_s=82.0) == 3


def test_a_beat_crosses_a_fork() -> None:
    """What the child counts is what the parent hears."""
    pulse = Pulse()
    pulse.beat()
    assert listened(pulse, 5) == 5
    child = os.fork()
    if child == 0:
        pulse.beat()
        os._exit(0)
    os.waitpid(child, 0)

    assert pulse.silent_s(6.0) == 0
