"""Forked child processes: started, reaped, started again, stopped.

Rules it keeps:
- Nothing here knows what a child does; it is a name and a callable that returns an exit code.
- A child never returns into its parent's code: whatever happens, it leaves through `os._exit`.
- A child dies with its parent. SIGTERM, not SIGKILL: it may finish what it serves first.
- HURRY tells a child that was asked to end that nobody waits any more.
- SIGINT and SIGHUP go to a whole terminal; they never reach a child, their parent decides.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from metering.clock import monotonic_s
from proxy.pulse import Pulse
from proxy.telemetry import logger

QUICK_DEATH_S = 1.0
"""A child that lives shorter than this has not worked at all."""

QUICK_DEATHS_MAX = 5
"""So many in a row are a series: one that cannot work, for now or at all."""

WAITED_FOR = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}
"""The signals that a parent takes one at a time."""

HURRY = signal.SIGUSR1
"""A child that hears it leaves what it waits for, keeps what it has, and ends."""

HURRY_S = 5.0
"""How long it may take over that; a third signal ends the waiting."""

_BACKOFF_FIRST_S = 0.1
_BACKOFF_MAX_S = 5.0

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PR_SET_NAME = 15

_log = logger("supervisor")


@dataclass(slots=True)
class Child:
    """One child, alive or due to be started again. `pid` is None while it is not running.

    It is tried again for ever; whoever holds that to be pointless asks `has_failed`.
    """

    name: str
    run: Callable[[], int]
    pulse: Pulse | None = None
    prepare: Callable[[], None] | None = None
    """Done in the parent right before each fork."""
    pid: int | None = None
    started_s: float = 0.0
    quick_deaths: int = 0
    due_s: float = 0.0

    def has_failed(self) -> bool:
        """Whether it has died fast so often that it cannot be said to work."""
        return self.quick_deaths >= QUICK_DEATHS_MAX


def backoff_s(quick_deaths: int) -> float:
    """How long to wait before a start after so many quick deaths in a row: 0, 0.1, 0.2, ... 5."""
    if quick_deaths == 0:
        return 0.0
    return min(_BACKOFF_MAX_S, _BACKOFF_FIRST_S * 2.0 ** (quick_deaths - 1))


def start_due(children: Iterable[Child], now_s: float) -> None:
    """Fork every child that is not running and whose time has come."""
    for child in children:
        if child.pid is None and child.due_s <= now_s:
            if child.pulse is not None:
                child.pulse.forget()
            if child.prepare is not None:
                child.prepare()
            child.pid = fork(child)
            child.started_s = now_s


def reap(children: Iterable[Child], now_s: float) -> list[Child]:
    """Collect those that have ended, say why, and set when they are due again.

    Of a series its beginning is logged, and that it is one; no line every five seconds for ever.
    """
    ended = []
    for child in children:
        if child.pid is None:
            continue
        pid, status = os.waitpid(child.pid, os.WNOHANG)
        if pid == 0:
            continue
        lived_s = now_s - child.started_s
        child.quick_deaths = child.quick_deaths + 1 if lived_s < QUICK_DEATH_S else 0
        child.due_s = now_s + backoff_s(child.quick_deaths)
        how = {"child": child.name, "pid": pid, "lived_s": round(lived_s, 3), "how": _how(status)}
        if child.quick_deaths <= QUICK_DEATHS_MAX:
            _log.warning("child ended", **how)
        if child.quick_deaths == QUICK_DEATHS_MAX:
            _log.error("child_does_not_stay_alive", **how, next_start_at_most_s=_BACKOFF_MAX_S)
        child.pid = None
        ended.append(child)
    return ended


def kill_stuck(children: Iterable[Child], now_s: float, *, stuck_s: float) -> list[Child]:
    """SIGKILL to those whose pulse has been silent for `stuck_s`; they are reaped like any other.

    SIGTERM would reach nobody: the loop that would take it is what stands still.
    """
    stuck = []
    for child in children:
        if child.pid is None or child.pulse is None:
            continue
        silent_s = child.pulse.silent_s(now_s)
        if silent_s < stuck_s:
            continue
        _log.error(
            "child_stuck",
            child=child.name,
            pid=child.pid,
            silent_s=round(silent_s, 1),
            how="killed",
        )
        child.pulse.forget()  # until it is reaped; the kernel may take a while
        _signal([child], signal.SIGKILL)
        stuck.append(child)
    return stuck


def stop(
    children: Iterable[Child],
    *,
    timeout_s: float,
    hurry: Callable[[float], bool],
) -> bool:
    """SIGTERM to all of them, and SIGKILL to those that are left after `timeout_s`.

    `hurry` waits for up to so many seconds for a child to end, and says whether the person has
    asked again: then they get HURRY and HURRY_S, and at the next time SIGKILL. Returns whether the
    person has asked.
    """
    alive = [child for child in children if child.pid is not None]
    _signal(alive, signal.SIGTERM)
    deadline_s = monotonic_s() + timeout_s
    asked = 0
    while alive := _still_alive(alive):
        left_s = deadline_s - monotonic_s()
        if left_s > 0 and hurry(min(left_s, 0.1)):
            asked += 1
            if asked == 1:
                _log.info("stopping at once", children=[c.name for c in alive])
                _signal(alive, HURRY)
                deadline_s = monotonic_s() + min(left_s, HURRY_S)
                continue
        if left_s <= 0 or asked > 1:
            _log.warning("killing what did not end in time", children=[c.name for c in alive])
            _signal(alive, signal.SIGKILL)
            break
    for child in alive:
        if child.pid is not None:
            os.waitpid(child.pid, 0)
            child.pid = None
    return asked > 0


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Keep what the parent waits for from reaching it otherwise."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, WAITED_FOR)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def asked_again(timeout_s: float) -> bool:
    """Wait for a child to end; True when the person has asked for the end once more."""
    taken = signal.sigtimedwait(WAITED_FOR, timeout_s)
    return taken is not None and taken.si_signo in (signal.SIGTERM, signal.SIGINT)


def _still_alive(children: list[Child]) -> list[Child]:
    for child in children:
        if child.pid is not None and os.waitpid(child.pid, os.WNOHANG)[0] != 0:
            child.pid = None
    return [child for child in children if child.pid is not None]


def _signal(children: Iterable[Child], number: signal.Signals) -> None:
    for child in children:
        if child.pid is not None:
            os.kill(child.pid, number)  # not reaped yet, so the pid is still its own


def fork(child: Child) -> int:
    """Run it in a process of its own; its pid, which the caller waits for."""
    # What lies unwritten in a buffer would be written by both.
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    pid = os.fork()
    if pid != 0:
        return pid
    code = 1
    try:
        _become(child.name, parent)
        code = child.run()
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:  # noqa: BLE001 - the top of a process: logged, then it ends
        _log.exception("child failed", child=child.name)
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _become(name: str, parent: int) -> None:
    """In the child: signals as at the start of a program, a name, and the parent's fate."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_NAME, f"weir-{name}"[:15].encode(), 0, 0, 0)
        libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != parent:  # it died before we asked to be told
        raise SystemExit(1)
    # Blocked and not only ignored: what runs here may set handlers, for when it runs alone.
    signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGINT, signal.SIGHUP})


def _how(status: int) -> str:
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return f"exit {os.WEXITSTATUS(status)}"
