"""The children of `weir serve`: what each is given, in which order they start and stop.

What children run is handed in, so that nothing here loads the HTTP server or the worker. A child is
given the settings that hold when it is forked, and closes what it inherits of the others.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from proxy import children, sockets
from proxy.metrics_board import Board
from proxy.pulse import Pulse
from proxy.reloading import Reloads
from proxy.settings import Settings
from proxy.settings_line import ChildLine
from proxy.supervisor_open import CONSOLE, WORKER, Opened, proxy_name

DRAIN_S = 20.0
"""How long exchanges may go on after a stop; then they are cut, and billed as far as they came."""

READY_WAIT_S = 5.0
"""How long a proxy waits for our worker to make the windows whole before it says it is ready."""


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
    line: ChildLine | None = None
    generation: int = 1
    """Which settings these are, counted from the supervisor's start on."""

    def report_ready(self) -> None:
        """Tell the supervisor that requests are answered; harmless when said twice."""
        if self.ready_fd is not None:
            # The supervisor stops listening after the first.
            with contextlib.suppress(BrokenPipeError, BlockingIOError):
                os.write(self.ready_fd, b"1")


@dataclass(frozen=True, slots=True)
class ConsoleProcess:
    """All that the console needs."""

    settings: Settings
    sockets: Sequence[socket.socket]
    line: ChildLine | None = None


RunProxy = Callable[[ProxyProcess], int]
RunWorker = Callable[[Settings, Board | None, ChildLine | None], int]
RunSimulator = Callable[[socket.socket], int]
RunConsole = Callable[[ConsoleProcess], int]
RunMetrics = Callable[[Sequence[socket.socket], Mapping[str, Board]], int]


@dataclass(frozen=True, slots=True)
class Family:
    """The children, in the order in which they are stopped."""

    proxies: list[children.Child]
    worker: list[children.Child]
    simulator: list[children.Child]
    metrics: list[children.Child] = field(default_factory=list)
    console: list[children.Child] = field(default_factory=list)

    def all(self) -> list[children.Child]:
        """In the order in which they are started."""
        return [*self.metrics, *self.simulator, *self.proxies, *self.worker, *self.console]


def make_family(
    opened: Opened,
    reloads: Reloads,
    run_proxy: RunProxy,
    run_worker: RunWorker | None,
    run_simulator: RunSimulator,
    *,
    drain_s: float,
) -> Family:
    """None of them started yet; metrics server and console come later."""
    simulator = opened.simulator
    pulses = [Pulse() for _ in range(opened.settings.server.workers)]

    def proxy(index: int) -> int:
        sockets.close_all(each for at, each in enumerate(opened.listening) if at != index)
        sockets.close_all([opened.metrics, opened.console])
        proxy_id = f"{opened.proxy_id}-{index}"
        own = tuple(opened.listening[index])
        wait_s = READY_WAIT_S if run_worker is not None else 0.0
        return run_proxy(
            ProxyProcess(
                opened.settings,
                own,
                index,
                proxy_id,
                opened.ready_write_fd,
                wait_s,
                drain_s=drain_s,
                board=opened.boards.get(proxy_name(index)),
                pulse=pulses[index],
                line=reloads.taken_by(proxy_name(index)),
                generation=reloads.generation,
            )
        )

    def worker() -> int:
        sockets.close_all(opened.everything_listening)
        if run_worker is None:
            return 0
        line = reloads.taken_by(WORKER)
        return run_worker(opened.settings, opened.boards.get(WORKER), line)

    def simulate() -> int:
        sockets.close_all(opened.everything_listening)
        reloads.leave()
        return run_simulator(simulator) if simulator is not None else 0

    return Family(
        proxies=[
            children.Child(
                proxy_name(at), partial(proxy, at), pulse, reloads.before(proxy_name(at))
            )
            for at, pulse in enumerate(pulses)
        ],
        worker=[children.Child(WORKER, worker, prepare=reloads.before(WORKER))]
        if run_worker is not None
        else [],
        simulator=[children.Child("simulator", simulate)] if simulator is not None else [],
    )


def metrics_child(opened: Opened, reloads: Reloads, run: RunMetrics) -> children.Child:
    """The process that is asked for metrics; it reads the boards of the others."""

    def serve_metrics() -> int:
        sockets.close_all([*opened.listening, opened.console])
        reloads.leave()
        return run(opened.metrics, opened.boards)

    return children.Child("metrics", serve_metrics)


def console_child(opened: Opened, reloads: Reloads, run: RunConsole) -> children.Child:
    """The process of the admin API and the dashboard."""

    def serve_console() -> int:
        sockets.close_all([*opened.listening, opened.metrics])
        line = reloads.taken_by(CONSOLE)
        return run(ConsoleProcess(opened.settings, opened.console, line))

    return children.Child(CONSOLE, serve_console, prepare=reloads.before(CONSOLE))
