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
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from metering.clock import monotonic_s
from proxy import banner, children, embedded_redis, sockets, telemetry
from proxy import data_dir as data_dirs
from proxy import metrics_catalogue as catalogue
from proxy.config_leaves import Told
from proxy.config_reading import Read, ReadAgain, ReadApart
from proxy.config_registry import Registered
from proxy.family import (
    DRAIN_S,
    Family,
    RunConsole,
    RunMetrics,
    RunProxy,
    RunSimulator,
    RunWorker,
    console_child,
    make_family,
    metrics_child,
)
from proxy.metrics import Metrics
from proxy.metrics_report import write_report
from proxy.preload import preload
from proxy.registry_reloads import RegistryReloads
from proxy.reloading import Reloads
from proxy.settings import Settings
from proxy.settings_line import Line
from proxy.supervisor_open import (
    CONSOLE,
    REFUSALS,
    SUPERVISOR,
    WORKER,
    Opened,
    open_all,
    overridden,
    proxy_name,
)

PATIENCE_S = 10.0
"""How much longer a child may take that has to end: what was cut is settled in it."""

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

    @property
    def sha256(self) -> str:
        """Of the file, as it was right before it was read; empty where there is none."""

    @property
    def told(self) -> Told | None:
        """Its values without secrets, where they were asked for."""

    @property
    def text(self) -> str:
        """The file itself; empty where there is none."""

    @property
    def registry(self) -> Registered:
        """What became of the tenants that stand in no file."""


def serve(
    loaded: Loaded,
    *,
    host: str | None = None,
    port: int | None = None,
    data_dir: Path | None = None,
    workers: int | None = None,
    admin_port: int | None = None,
    with_worker: bool = True,
    with_console: bool = True,
    read: Read | None = None,
    read_again: ReadAgain | None = None,
    run_proxy: RunProxy | None = None,
    run_worker: RunWorker | None = None,
    run_simulator: RunSimulator | None = None,
    run_metrics: RunMetrics | None = None,
    run_console: RunConsole | None = None,
    drain_s: float = DRAIN_S,
) -> int:
    """Run until SIGTERM or Ctrl-C; returns the exit code. None keeps what the file says.

    Blocks, forks, and writes to stdout only once requests are answered. `read` reads the file
    again, for a reload, and `read_again` what lies beside it.
    """
    telemetry.configure()
    for warning in loaded.warnings:
        _log.warning("configuration", detail=str(warning))

    def complete(found: Settings) -> Settings:
        found = overridden(found, host, port, data_dir, workers, admin_port=admin_port)
        admin = found.admin if with_console else None
        return replace(found, settles=with_worker and loaded.settings.settles, admin=admin)

    settings = complete(loaded.settings)
    # Until the children live, a stop is an exception that unwinds what was opened.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with contextlib.ExitStack() as stack:
            opened = open_all(settings, stack)
            lines = _lines(opened, with_worker=with_worker)
            reloads = _reloads(loaded, read_again)(opened, lines, Metrics(), read, complete)
            family = make_family(
                opened,
                reloads,
                run_proxy or _imported("proxy.services", "run_proxy"),
                (run_worker or _imported("proxy.settling", "run_worker")) if with_worker else None,
                run_simulator or _imported("proxy.simulator", "serve_simulator"),
                drain_s=drain_s,
            )
            _add_lookers(family, opened, reloads, run_metrics, run_console)
            preload(settings)
            hints = banner.options(settings, data_dir=data_dir)
            return _Supervisor(opened, family, reloads, hints, drain_s).run()
    except REFUSALS as refusal:
        sys.stderr.write(f"weir: {refusal}\n")
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        signal.signal(signal.SIGTERM, before)


def _lines(opened: Opened, *, with_worker: bool) -> dict[str, Line]:
    """A line to each process that takes new settings."""
    names = [proxy_name(index) for index in range(opened.settings.server.workers)]
    names += [WORKER] * with_worker + [CONSOLE] * bool(opened.console)
    return {name: Line(name) for name in names}


def _add_lookers(
    family: Family,
    opened: Opened,
    reloads: Reloads,
    run_metrics: RunMetrics | None,
    run_console: RunConsole | None,
) -> None:
    """The processes that people look at, where they are asked for."""
    if opened.metrics:
        run = run_metrics or _imported("proxy.metrics_server", "serve_metrics")
        family.metrics.append(metrics_child(opened, reloads, run))
    if opened.console:
        start = run_console or _imported("proxy.console", "run_console")
        family.console.append(console_child(opened, reloads, start))


def _reloads(loaded: Loaded, read_again: ReadAgain | None) -> Callable[..., Reloads]:
    """Reloads that begin with what was read."""
    registry = RegistryReloads(read_again, loaded.text, loaded.registry.left_out)
    begun = partial(Reloads, begin=ReadApart, sha256=loaded.sha256, told=loaded.told)
    return partial(begun, registry=registry)


class _Supervisor:
    """The waiting: takes signals, starts what died, and stops all in order."""

    def __init__(
        self, opened: Opened, family: Family, reloads: Reloads, hints: str, drain_s: float
    ) -> None:
        self._opened = opened
        self._family = family
        self._reloads = reloads
        self._hints = hints
        self._drain_s = drain_s
        self._is_ready = False
        self._redis_checked_s = 0.0
        self._metrics = reloads.metrics
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
                self._reloads.ask("SIGHUP")
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
            if self._is_ready:
                self._reloads.turn()
            self._keep_redis_alive(now_s)

    def _patience_s(self, now_s: float) -> float:
        """How long nothing needs us, unless a signal comes."""
        if not self._is_ready:
            return 0.02
        due_s = [child.due_s for child in self._family.all() if child.pid is None]
        if (reload_s := self._reloads.patience_s()) is not None:
            due_s.append(now_s + reload_s)
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
            data_dirs.write_state(opened.settings.data_dir, opened.url, opened.admin_url)
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
            "config": {"generation": self._reloads.generation, "sha256": self._reloads.hash},
        }
        write_report(board, self._metrics, standing)

    def _stop(self) -> None:
        opened, family = self._opened, self._family
        self._is_stopping = True
        self._reloads.stop()
        self._report()
        # Our copies must go too, or the kernel goes on accepting for a proxy that has closed.
        sockets.close_all(opened.listening)
        patience_s = self._drain_s + PATIENCE_S
        if children.stop(family.proxies, timeout_s=patience_s, hurry=children.asked_again):
            patience_s = children.HURRY_S  # the worker goes on where it was at the next start
        children.stop(family.worker, timeout_s=patience_s, hurry=children.asked_again)
        children.stop(
            [*family.simulator, *family.metrics, *family.console],
            timeout_s=SIDE_STOP_S,
            hurry=children.asked_again,
        )


def _imported(module: str, name: str) -> Any:
    """Imported late and by name, but before the fork, so that every child shares the pages."""
    return getattr(importlib.import_module(module), name)
