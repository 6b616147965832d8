"""Reading the configuration while everything runs, in a process of its own.

Checking the file of a large installation takes a second of CPU and more. The supervisor has one
thread, and stops, deaths and signals must not wait for that: so it forks a reader, which says what
it found over a pipe and ends. Rules:
- The reader has nothing but the pipe: it opens nothing, and what it inherited ends with it.
- One that takes READ_S is killed, and so is one that is under way when all stops.
- Settings are pickled only between a process and its own child.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from metering.clock import monotonic_s
from proxy.children import Child, fork
from proxy.config import ConfigFaults, Loaded
from proxy.config_leaves import Told
from proxy.settings import Settings
from proxy.settings_line import pickled

READ_S = 60.0
"""Nobody's file takes so long; a network's file system may."""

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Found:
    """What a reader found: settings with warnings for people, or every fault."""

    settings: Settings | None = None
    warnings: tuple[str, ...] = ()
    faults: list[dict[str, Any]] = field(default_factory=list)
    told: Told | None = None
    text: str = field(default="", repr=False)
    """The file that was read."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Tenants of the registry that are not served, and why."""


class Reading(Protocol):
    """A reader at work."""

    def found(self) -> Found | None:
        """What it found; None as long as it reads."""
        ...

    def stop(self) -> None:
        """End it; nobody wants to know any more."""
        ...


Read = Callable[[], Loaded]
ReadAgain = Callable[[str], Loaded]
"""Reads what lies beside the file again, with the text that the file had."""
Begin = Callable[[Read, Callable[[], None]], Reading]
"""Begins to read; the second is done first in whatever other process does so."""


def look(read: Read) -> Found:
    """Read, here and now, and say what was found."""
    try:
        loaded = read()
    except ConfigFaults as failure:
        return Found(faults=[_fault(each) for each in failure.faults])
    except OSError as failure:
        return Found(faults=[{"message": str(failure)}])
    except Exception as failure:  # noqa: BLE001 - no file may end the process that keeps all
        cause = f"it cannot be read, by a fault of ours: {failure!r}"
        return Found(faults=[{"message": cause}])
    warnings = tuple(str(each) for each in loaded.warnings)
    left_out = loaded.registry.left_out
    return Found(loaded.settings, warnings, told=loaded.told, text=loaded.text, left_out=left_out)


class ReadHere:
    """Reads in this process, at once."""

    def __init__(self, read: Read, leave: Callable[[], None]) -> None:
        self._found = look(read)

    def found(self) -> Found:
        """What was found."""
        return self._found

    def stop(self) -> None:
        """It has ended."""


class ReadApart:
    """Reads in a child."""

    def __init__(self, read: Read, leave: Callable[[], None]) -> None:
        self._end, into = os.pipe()
        os.set_blocking(self._end, False)
        self._said = bytearray()
        self._deadline_s = monotonic_s() + READ_S

        def run() -> int:
            leave()
            os.close(self._end)
            with open(into, "wb") as pipe:  # noqa: PTH123 - a descriptor
                pipe.write(pickled(look(read)))
            return 0

        self._pid: int | None = fork(Child("config", run))
        os.close(into)

    def found(self) -> Found | None:
        """What was found; None as long as it reads."""
        try:
            while part := os.read(self._end, _CHUNK):
                self._said += part
        except BlockingIOError:
            if monotonic_s() < self._deadline_s:
                return None
            self.stop()
            cause = f"it was not read within {READ_S:g} s"
            return Found(faults=[{"message": cause}])
        self._wait()
        try:
            said = pickle.loads(self._said)  # noqa: S301 - from our own child
        except (pickle.UnpicklingError, EOFError):
            return Found(faults=[{"message": "the process that reads it ended; its log says why"}])
        assert isinstance(said, Found)
        return said

    def stop(self) -> None:
        """Kill it, if it is there."""
        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            self._wait()

    def _wait(self) -> None:
        if self._pid is not None:
            os.waitpid(self._pid, 0)
            os.close(self._end)
            self._pid = None


def _fault(found: Any) -> dict[str, Any]:
    return {
        "key": found.path,
        "line": found.line,
        "column": found.column,
        "message": found.message,
        "suggestion": found.suggestion,
    }
