"""Settings on their way to a child, and its word on the way back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from proxy.config import load
from proxy.settings import Settings
from proxy.settings_line import Answer, Change, ChildLine, Hint, Line

ROOT = Path(__file__).parents[2]


@pytest.fixture
def shipped() -> Settings:
    return load(ROOT / "config.yaml", {}).settings


def _both() -> tuple[Line, ChildLine]:
    line = Line("proxy-0")
    line.renew()
    assert line._ends is not None
    return line, ChildLine(line._ends[1])


def test_settings_arrive_as_they_were_sent(shipped: Settings) -> None:
    """All of them, also what is read-only and what was looked up before."""
    shipped.prices.find(provider="openai", model="gpt-4o", public_name="gpt-4o")
    line, child = _both()

    assert line.send(Change(7, shipped, renews_files=True))
    assert child.receive() == Change(7, shipped, renews_files=True)
    assert child.receive() is None
    line.close()


def test_only_the_newest_counts(shipped: Settings) -> None:
    """What was overtaken before it was read is never applied."""
    line, child = _both()
    for generation in (2, 3, 4):
        line.send(Change(generation, shipped))
    newest = child.receive()

    assert newest is not None
    assert newest.generation == 4
    line.close()


def test_a_child_that_reads_nothing_holds_nobody_up(shipped: Settings) -> None:
    """Its socket fills; the supervisor is told so and goes on. No descriptor is left open."""
    line, _ = _both()
    before = len(os.listdir("/proc/self/fd"))
    sent = 0
    while line.send(Change(sent, shipped)):
        sent += 1
        assert sent < 10_000

    assert len(os.listdir("/proc/self/fd")) == before
    line.close()


def test_answers_and_hints_come_back(shipped: Settings) -> None:
    """In order, with the cause cut to a length that always fits."""
    line, child = _both()
    child.say(Answer(2))
    child.say(Answer(3, "x" * 100_000))
    child.say(Hint("1:abc"))

    assert list(line.heard()) == [Answer(2), Answer(3, "x" * 1_000), Hint("1:abc")]
    assert list(line.heard()) == []
    line.close()


def test_a_new_life_begins_with_an_empty_line(shipped: Settings) -> None:
    """What an earlier life left unread never reaches the next."""
    line, _ = _both()
    line.send(Change(2, shipped))
    line.renew()
    assert line._ends is not None

    assert ChildLine(line._ends[1]).receive() is None
    line.close()
    assert line.send(Change(3, shipped)) is False
