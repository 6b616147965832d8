"""A file that is read in a process of its own, by real forks."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest
from fixtures_door import settings

from metering.clock import monotonic_s
from proxy import config_reading
from proxy.config import ConfigFaults, Fault, Loaded
from proxy.config_reading import Found, ReadApart, look

FRESH = replace(settings({"one": "http://one"}), data_dir=Path("/there"))


def nothing() -> None:
    """What a reader leaves behind that has nothing."""


def result(reading: ReadApart) -> Found:
    deadline_s = monotonic_s() + 8
    while (found := reading.found()) is None:
        assert monotonic_s() < deadline_s
        time.sleep(0.005)
    return found


def raises(error: Exception) -> Callable[[], Loaded]:
    def read() -> NoReturn:
        raise error

    return read


def ended() -> Loaded:
    os._exit(3)


def test_what_it_finds_comes_back() -> None:
    """Settings as they are, and warnings as people read them; whoever forked it goes on."""
    left: list[int] = []
    warning = Fault("models.m", 3, 7, "an odd thing")

    found = result(ReadApart(lambda: Loaded(FRESH, (warning,)), lambda: left.append(1)))

    assert found.settings == FRESH
    assert found.warnings == (str(warning),)
    assert left == []  # done in the child


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (raises(ConfigFaults(Path("f"), [Fault("models.m", 3, 7, "no")])), "no"),
        (raises(PermissionError(13, "not allowed")), "not allowed"),
        (raises(ZeroDivisionError("oops")), "a fault of ours"),
        (ended, "the process that reads it ended"),
    ],
    ids=["faults", "file", "bug", "death"],
)
def test_whatever_goes_wrong_is_told(read: Callable[[], Loaded], said: str) -> None:
    """In words, and with its place where it has one."""
    found = result(ReadApart(read, nothing))

    [fault] = found.faults
    assert found.settings is None
    assert said in fault["message"]
    if said == "no":
        assert (fault["key"], fault["line"], fault["column"]) == ("models.m", 3, 7)
        assert look(read) == found


def stands_still() -> Loaded:
    signal.pause()
    raise AssertionError


def test_one_that_stands_still_is_in_nobodys_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked without waiting, killed in the end, and leaves no process behind."""
    reading = ReadApart(stands_still, nothing)
    pid = reading._pid
    assert pid is not None

    began_s = monotonic_s()
    assert reading.found() is None
    assert monotonic_s() - began_s < 1
    reading.stop()
    reading.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)

    monkeypatch.setattr(config_reading, "READ_S", 0.0)
    [fault] = result(ReadApart(stands_still, nothing)).faults
    assert "within 0 s" in fault["message"]
