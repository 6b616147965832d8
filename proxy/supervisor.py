"""`weir serve`: one small process that opens what the others share, starts them, and stops them.

It forks the simulator, the metrics server, the proxies and the settlement worker, and waits;
`proxy.supervisor_open` opens what they need before. Rules it keeps:
- One thread and no event loop, so that it can fork at any time.
- Opened in order, closed in reverse: proxies drain first, then the worker, Redis last.
- It imports neither the HTTP server nor the worker; what children run is handed in.
- Whoever dies is started again, for ever. Only before the first request is answered does a proxy
  that cannot live end it all: then somebody is there to read why.
- Signals are blocked while children live and taken one at a time; nothing runs in a handler.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from metering.clock import monotonic_s
from proxy import banner, children, embedded_redis, sockets, telemetry
from proxy import data_dir as data_dirs
from proxy import metrics_catalogue as catalogue
from proxy.metrics import Metrics
from proxy.metrics_board import Board
from proxy.metrics_report import write_report
from proxy.pulse import Pulse
from proxy.settings import Settings
from proxy.supervisor_open import (
    REFUSALS,
    SUPERVISOR,
    WORKER,
    Opened,
    open_all,
    overridden,
    proxy_name,
)

DRAIN_S = 20.0
"""How long exchanges may go on after a stop; then they are cut, and billed as far as they came."""

PATIENCE_S = 10.0
"""How much longer a child may take that has to end: what was cut is settled in it."""

READY_WAIT_S = 5.0
"""How long a proxy waits for our worker to make the windows whole before it says it is ready."""

SIDE_STOP_S = 3.0
"""For the simulator and the metrics server, which have nothing to lose."""

REDIS_CHECK_S = 1.0

STUCK_S = 15.0
"""A proxy whose event loop stands still for so long is killed; its connections go nowhere."""

_log = telemetry.logger("supervisor")


class Loaded(Protocol):
    """What `proxy.config.load` returns, as far as it matters here."""

    @property
    def settings(self) -> Settings:
        """The decoded file."""

    @property
    def warnings(self) -> Sequence[object]:
        """What the person should know about it, as printable things."""


@dataclass(frozen=True, slots=True)
class ProxyProcess:
    """All that one proxy child needs.

    `proxy_id` names the machine's installation and the index, so it survives restarts. The child
    calls `report_ready` once it serves requests, or when `ready_wait_s` did not suffice for that.
    It reports on `board` when there is one, and beats from when it listens until it ends.
    """

    settings: Settings
    sockets: tuple[socket.socket, ...]
    index: int
    proxy_id: str
    ready_fd: int | None = None
    ready_wait_s: float = 0.0
    drain_s: float = DRAIN_S
    board: Board | None = None
    pulse: Pulse | None = None

    def report_ready(self) -> None:
        """Tell the supervisor that requests are answered; harmless when said twice."""
        if self.ready_fd is not None:
            # The supervisor stops listening after the first.
            with contextlib.suppress(BrokenPipeError, BlockingIOError):
                os.write(self.ready_fd, b"1")


RunProxy = Callable[[ProxyProcess], int]
RunWorker = Callable[[Settings, Board | None], int]
RunSimulator = Callable[[socket.socket], int]
RunMetrics = Callable[[Sequence[socket.socket], Mapping[str, Board]], int]


def serve(
    loaded: Loaded,
    *,
    host: str | None = None,
    port: int | None = None,
    data_dir: Path | None = None,
    workers: int | None = None,
    with_worker: bool = True,
    run_proxy: RunProxy | None = None,
    run_worker: RunWorker | None = None,
    run_simulator: RunSimulator | None = None,
    run_metrics: RunMetrics | None = None,
    drain_s: float = DRAIN_S,
) -> int:
    """Run until SIGTERM or Ctrl-C; returns the exit code. None keeps what the file says.

    Blocks, forks, and writes to stdout only once requests are answered.
    """
    telemetry.configure()
    for warning in loaded.warnings:
        _log.warning("configuration", detail=str(warning))
    settings = overridden(loaded.settings, host, port, data_dir, workers)
    settings = replace(settings, settles=with_worker and settings.settles)
    # Until the children live, a stop is an exception that unwinds what was opened.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with contextlib.ExitStack() as stack:
            opened = open_all(settings, stack)
            family = _family(
                opened,
                run_proxy or _imported("proxy.services", "run_proxy"),
                (run_worker or _imported("proxy.settling", "run_worker")) if with_worker else None,
                run_simulator or _imported("proxy.simulator", "serve_simulator"),
                drain_s=drain_s,
            )
            if opened.metrics:
                run = run_metrics or _imported("proxy.metrics_server", "serve_metrics")
                family.metrics.append(_metrics_child(opened, run))
            _preload(settings)
            hints = banner.options(settings, data_dir=data_dir)
            return _Supervisor(opened, family, hints, drain_s).run()
    except REFUSALS as refusal:
        sys.stderr.write(f"weir: {refusal}\n")
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        signal.signal(signal.SIGTERM, before)


@dataclass(frozen=True, slots=True)
class _Family:
    """The children, in the order in which they are stopped."""

    proxies: list[children.Child]
    worker: list[children.Child]
    simulator: list[children.Child]
    metrics: list[children.Child]

    def all(self) -> list[children.Child]:
        """In the order in which they are started."""
        return [*self.metrics, *self.simulator, *self.proxies, *self.worker]


class _Supervisor:
    """The waiting: takes signals, starts what died, and stops all in order."""

    def __init__(self, opened: Opened, family: _Family, hints: str, drain_s: float) -> None:
        self._opened = opened
        self._family = family
        self._hints = hints
        self._drain_s = drain_s
        self._is_ready = False
        self._redis_checked_s = 0.0
        self._metrics = Metrics()
        self._is_stopping = False
        self._is_told = self._has_complained = False

    def run(self) -> int:
        """Until a signal ends it (0), or before it is ready a proxy that cannot live (1)."""
        with children.signals_blocked():
            # What exists now stays shared with the children: the collector does not touch it.
            gc.collect()
            gc.freeze()
            try:
                return self._wait()
            finally:
                self._stop()
                data_dirs.clear_state(self._opened.settings.data_dir)

    def _wait(self) -> int:
        while True:
            now_s = monotonic_s()
            children.start_due(self._family.all(), now_s)
            self._report()
            taken = signal.sigtimedwait(children.WAITED_FOR, self._patience_s(now_s))
            number = taken.si_signo if taken is not None else None
            if number in (signal.SIGTERM, signal.SIGINT):
                _log.info("stopping", signal=signal.Signals(number).name)
                return 0
            if number == signal.SIGHUP:
                _log.info("SIGHUP ignored: restart to read the configuration again")
            now_s = monotonic_s()
            self._look_for_ready()
            self._tell_where()
            for child in children.kill_stuck(self._family.all(), now_s, stuck_s=STUCK_S):
                self._metrics.add(catalogue.STUCK, child.name)
            for child in children.reap(self._family.all(), now_s):
                self._metrics.add(catalogue.RESTARTS, child.name)
            failed = [child.name for child in self._family.proxies if child.has_failed()]
            if failed and not self._is_ready:
                _log.error("a proxy does not stay alive at the start, giving up", children=failed)
                return 1
            self._keep_redis_alive(now_s)

    def _patience_s(self, now_s: float) -> float:
        """How long nothing needs us, unless a signal comes."""
        if not self._is_ready:
            return 0.02
        due_s = [child.due_s for child in self._family.all() if child.pid is None]
        return max(0.0, min([now_s + REDIS_CHECK_S, *due_s]) - now_s)

    def _look_for_ready(self) -> None:
        if self._is_ready:
            return
        try:
            self._is_ready = bool(os.read(self._opened.ready_fd, 1))
        except BlockingIOError:
            return
        opened = self._opened
        self._tell_where()
        started = banner.Started(
            opened.url, opened.settings, opened.keys, opened.keys_refused, self._hints
        )
        sys.stdout.write(banner.render(started))
        sys.stdout.flush()

    def _tell_where(self) -> None:
        """Write down where we serve, for other commands; a full disk is no reason not to serve."""
        if not self._is_ready or self._is_told:
            return
        opened = self._opened
        try:
            data_dirs.write_state(opened.settings.data_dir, opened.url)
        except OSError as failure:
            if not self._has_complained:
                self._has_complained = True
                path = str(data_dirs.state_path(opened.settings.data_dir))
                _log.error("state_not_written", path=path, cause=failure.strerror)
        else:
            self._is_told = True

    def _keep_redis_alive(self, now_s: float) -> None:
        redis = self._opened.redis
        if redis is None or now_s - self._redis_checked_s < REDIS_CHECK_S:
            return
        self._redis_checked_s = now_s
        if not redis.is_alive():
            _log.error("the embedded Redis ended, starting it again")
            try:
                self._opened.redis = embedded_redis.start(redis.data_dir)
            except embedded_redis.RedisUnavailableError as failure:
                _log.error("the embedded Redis does not start", reason=str(failure))

    def _report(self) -> None:
        """Tell how things stand, for whoever asks the metrics port."""
        board = self._opened.boards.get(SUPERVISOR)
        if board is None:
            return
        redis = self._opened.redis
        standing = {
            "is_stopping": self._is_stopping,
            "children": {child.name: child.pid for child in self._family.all()},
            "embedded_redis": None if redis is None else redis.is_alive(),
        }
        write_report(board, self._metrics, standing)

    def _stop(self) -> None:
        opened, family = self._opened, self._family
        self._is_stopping = True
        self._report()
        # Our copies must go too, or the kernel goes on accepting for a proxy that has closed.
        sockets.close_all(opened.listening)
        patience_s = self._drain_s + PATIENCE_S
        if children.stop(family.proxies, timeout_s=patience_s, hurry=children.asked_again):
            patience_s = children.HURRY_S  # the worker goes on where it was at the next start
        children.stop(family.worker, timeout_s=patience_s, hurry=children.asked_again)
        children.stop(
            [*family.simulator, *family.metrics],
            timeout_s=SIDE_STOP_S,
            hurry=children.asked_again,
        )


def _family(
    opened: Opened,
    run_proxy: RunProxy,
    run_worker: RunWorker | None,
    run_simulator: RunSimulator,
    *,
    drain_s: float,
) -> _Family:
    settings, simulator = opened.settings, opened.simulator
    pulses = [Pulse() for _ in range(settings.server.workers)]

    def proxy(index: int) -> int:
        sockets.close_all(each for at, each in enumerate(opened.listening) if at != index)
        sockets.close_all([opened.metrics])
        proxy_id = f"{opened.proxy_id}-{index}"
        own = tuple(opened.listening[index])
        wait_s = READY_WAIT_S if run_worker is not None else 0.0
        return run_proxy(
            ProxyProcess(
                settings,
                own,
                index,
                proxy_id,
                opened.ready_write_fd,
                wait_s,
                drain_s=drain_s,
                board=opened.boards.get(proxy_name(index)),
                pulse=pulses[index],
            )
        )

    def worker() -> int:
        sockets.close_all(opened.everything_listening)
        return run_worker(settings, opened.boards.get(WORKER)) if run_worker is not None else 0

    def simulate() -> int:
        sockets.close_all(opened.everything_listening)
        return run_simulator(simulator) if simulator is not None else 0

    return _Family(
        proxies=[
            children.Child(proxy_name(at), partial(proxy, at), pulse)
            for at, pulse in enumerate(pulses)
        ],
        worker=[children.Child(WORKER, worker)] if run_worker is not None else [],
        simulator=[children.Child("simulator", simulate)] if simulator is not None else [],
        metrics=[],
    )


def _metrics_child(opened: Opened, run: RunMetrics) -> children.Child:
    def serve_metrics() -> int:
        sockets.close_all(opened.listening)
        return run(opened.metrics, opened.boards)

    return children.Child("metrics", serve_metrics)


def _preload(settings: Settings) -> None:
    """Load the encodings before forking: one copy of some 80 MB serves every process."""
    try:
        tokenizer = importlib.import_module("metering.tokenizer")
    except ModuleNotFoundError:
        return
    upstreams = [upstream for each in settings.models.values() for upstream in each.upstreams]
    tokenizer.preload(sorted({tokenizer.encoding_name(each.model) for each in upstreams}))


def _imported(module: str, name: str) -> Any:
    """Imported late and by name, but before the fork, so that every child shares the pages."""
    return getattr(importlib.import_module(module), name)
