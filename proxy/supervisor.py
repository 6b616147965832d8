"""`weir serve`: one small process that opens what the others share, starts them, and stops them.

It takes the lock on the data directory, starts Redis, opens the sockets, forks the simulator, the
proxies and the settlement worker, and waits. Rules it keeps:
- One thread and no event loop, so that it can fork at any time.
- Opened in order, closed in reverse: proxies drain first, then the worker, Redis last.
- It imports neither the HTTP server nor the worker; what children run is handed in.
- Signals are blocked while children live and taken one at a time; nothing runs in a handler.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import importlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from metering.clock import monotonic_s
from proxy import banner, children, demo_keys, embedded_redis, first_start, sockets, telemetry
from proxy import data_dir as data_dirs
from proxy.settings import Provider, Secret, Settings

DRAIN_S = 20.0
"""How long exchanges may go on after a stop; then they are cut, and billed as far as they came."""

PATIENCE_S = 10.0
"""How much longer a child may take that has to end: what was cut is settled in it."""

READY_WAIT_S = 5.0
"""How long a proxy waits for our worker to make the windows whole before it says it is ready."""

SIMULATOR_STOP_S = 3.0
REDIS_CHECK_S = 1.0

_log = telemetry.logger("supervisor")


_REFUSALS = (
    data_dirs.DataDirError,
    demo_keys.KeyFileError,
    sockets.ListenError,
    embedded_redis.RedisUnavailableError,
)
"""Reasons not to start; the message of each is one line for the person who asked."""


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
    """

    settings: Settings
    sockets: tuple[socket.socket, ...]
    index: int
    proxy_id: str
    ready_fd: int | None = None
    ready_wait_s: float = 0.0
    drain_s: float = DRAIN_S

    def report_ready(self) -> None:
        """Tell the supervisor that requests are answered; harmless when said twice."""
        if self.ready_fd is not None:
            # The supervisor stops listening after the first.
            with contextlib.suppress(BrokenPipeError, BlockingIOError):
                os.write(self.ready_fd, b"1")


RunProxy = Callable[[ProxyProcess], int]
RunWorker = Callable[[Settings], int]
RunSimulator = Callable[[socket.socket], int]


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
    drain_s: float = DRAIN_S,
) -> int:
    """Run until SIGTERM or Ctrl-C; returns the exit code. None keeps what the file says.

    Blocks, forks, and writes to stdout only once requests are answered.
    """
    telemetry.configure()
    for warning in loaded.warnings:
        _log.warning("configuration", detail=str(warning))
    settings = _overridden(loaded.settings, host, port, data_dir, workers)
    # Until the children live, a stop is an exception that unwinds what was opened.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with contextlib.ExitStack() as stack:
            opened = _open(settings, stack)
            family = _family(
                opened,
                run_proxy or _imported("proxy.services", "run_proxy"),
                (run_worker or _imported("proxy.services", "run_worker")) if with_worker else None,
                run_simulator or _imported("proxy.simulator", "serve_simulator"),
                drain_s=drain_s,
            )
            _preload(settings)
            hints = banner.options(settings, data_dir=data_dir)
            return _Supervisor(opened, family, hints, drain_s).run()
    except _REFUSALS as refusal:
        sys.stderr.write(f"weir: {refusal}\n")
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        signal.signal(signal.SIGTERM, before)


@dataclass(slots=True)
class _Opened:
    """What the parent holds open; `settings` are complete, as the children get them."""

    settings: Settings
    listening: list[list[socket.socket]]
    simulator: socket.socket | None
    redis: embedded_redis.EmbeddedRedis | None
    keys: list[Secret]
    keys_refused: bool
    proxy_id: str
    ready_fd: int
    ready_write_fd: int

    @property
    def url(self) -> str:
        server = self.settings.server
        return sockets.url(server.host, server.port, is_tls=server.tls is not None)


@dataclass(frozen=True, slots=True)
class _Family:
    """The children, in the order in which they are stopped."""

    proxies: list[children.Child]
    worker: list[children.Child]
    simulator: list[children.Child]

    def all(self) -> list[children.Child]:
        """In the order in which they are started."""
        return [*self.simulator, *self.proxies, *self.worker]


class _Supervisor:
    """The waiting: takes signals, starts what died, and stops all in order."""

    def __init__(self, opened: _Opened, family: _Family, hints: str, drain_s: float) -> None:
        self._opened = opened
        self._family = family
        self._hints = hints
        self._drain_s = drain_s
        self._is_ready = False
        self._redis_checked_s = 0.0

    def run(self) -> int:
        """Until a signal ends it (0) or a child cannot be kept alive (1)."""
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
            taken = signal.sigtimedwait(children.WAITED_FOR, self._patience_s(now_s))
            number = taken.si_signo if taken is not None else None
            if number in (signal.SIGTERM, signal.SIGINT):
                _log.info("stopping", signal=signal.Signals(number).name)
                return 0
            if number == signal.SIGHUP:
                _log.info("SIGHUP ignored: restart to read the configuration again")
            now_s = monotonic_s()
            for child in children.reap(self._family.all(), now_s):
                if child.has_failed():
                    _log.error("a child does not stay alive, giving up", child=child.name)
                    return 1
            self._look_for_ready()
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
        data_dirs.write_state(opened.settings.data_dir, opened.url)
        started = banner.Started(
            opened.url, opened.settings, opened.keys, opened.keys_refused, self._hints
        )
        sys.stdout.write(banner.render(started))
        sys.stdout.flush()

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

    def _stop(self) -> None:
        opened, family = self._opened, self._family
        # Our copies must go too, or the kernel goes on accepting for a proxy that has closed.
        sockets.close_all(opened.listening)
        patience_s = self._drain_s + PATIENCE_S
        if children.stop(family.proxies, timeout_s=patience_s, hurry=children.asked_again):
            patience_s = children.HURRY_S  # the worker goes on where it was at the next start
        children.stop(family.worker, timeout_s=patience_s, hurry=children.asked_again)
        children.stop(family.simulator, timeout_s=SIMULATOR_STOP_S, hurry=children.asked_again)


def _open(settings: Settings, stack: contextlib.ExitStack) -> _Opened:
    """Everything the children share, in order; `stack` closes it in reverse, whatever happens."""
    data_dirs.own(settings.data_dir)
    stack.enter_context(data_dirs.locked(settings.data_dir))
    server = settings.server
    listening = sockets.listen(server.host, server.port, processes=server.workers)
    stack.callback(sockets.close_all, listening)
    port = listening[0][0].getsockname()[1]
    settings = dataclasses.replace(settings, server=dataclasses.replace(server, port=port))
    settings, keys, refused = _mint_keys(settings)
    settings, simulator = _open_simulator(settings)
    if simulator is not None:
        stack.callback(simulator.close)
    ready_fd, ready_write_fd = os.pipe()
    for descriptor in (ready_fd, ready_write_fd):
        os.set_blocking(descriptor, False)
        stack.callback(os.close, descriptor)
    proxy_id = data_dirs.installation_id(settings.data_dir)
    opened = _Opened(
        settings, listening, simulator, None, keys, refused, proxy_id, ready_fd, ready_write_fd
    )
    if settings.redis.url is None:
        stack.callback(_stop_redis, opened)
        redis = opened.redis = embedded_redis.start(settings.data_dir)
        filled = dataclasses.replace(settings.redis, url=Secret(redis.url))
        opened.settings = dataclasses.replace(settings, redis=filled)
        first = first_start.open_windows(opened.settings, redis.socket)
        _log.info("embedded Redis", socket=str(redis.socket), adopted=redis.adopted, first=first)
    return opened


def _stop_redis(opened: _Opened) -> None:
    if opened.redis is not None and not opened.redis.stop():
        _log.warning("the embedded Redis is still writing; the next start takes it over")


def _family(
    opened: _Opened,
    run_proxy: RunProxy,
    run_worker: RunWorker | None,
    run_simulator: RunSimulator,
    *,
    drain_s: float,
) -> _Family:
    settings, simulator = opened.settings, opened.simulator

    def proxy(index: int) -> int:
        sockets.close_all(each for at, each in enumerate(opened.listening) if at != index)
        proxy_id = f"{opened.proxy_id}-{index}"
        own = tuple(opened.listening[index])
        wait_s = READY_WAIT_S if run_worker is not None else 0.0
        return run_proxy(
            ProxyProcess(
                settings, own, index, proxy_id, opened.ready_write_fd, wait_s, drain_s=drain_s
            )
        )

    def worker() -> int:
        sockets.close_all(opened.listening)
        return run_worker(settings) if run_worker is not None else 0

    def simulate() -> int:
        sockets.close_all(opened.listening)
        return run_simulator(simulator) if simulator is not None else 0

    indices = range(settings.server.workers)
    return _Family(
        proxies=[children.Child(f"proxy-{at}", partial(proxy, at)) for at in indices],
        worker=[children.Child("worker", worker)] if run_worker is not None else [],
        simulator=[children.Child("simulator", simulate)] if simulator is not None else [],
    )


def _overridden(
    settings: Settings,
    host: str | None,
    port: int | None,
    data_dir: Path | None,
    workers: int | None,
) -> Settings:
    server = settings.server
    server = dataclasses.replace(
        server,
        host=server.host if host is None else host,
        port=server.port if port is None else port,
        workers=server.workers if workers is None else workers,
    )
    directory = (settings.data_dir if data_dir is None else data_dir).resolve()
    return dataclasses.replace(settings, server=server, data_dir=directory)


def _mint_keys(settings: Settings) -> tuple[Settings, list[Secret], bool]:
    if settings.minted_keys and not sockets.is_loopback(settings.server.host):
        _log.warning(
            "minted keys are not accepted: the address can be reached from other machines",
            host=settings.server.host,
            keys=[f"{each.tenant}.{each.key_id}" for each in settings.minted_keys],
        )
        return settings, [], True
    return (*demo_keys.mint(settings), False)


def _open_simulator(settings: Settings) -> tuple[Settings, socket.socket | None]:
    """The simulator's socket, and the settings that point to it; None when nobody needs it."""

    def is_ours(provider: Provider) -> bool:
        return provider.type == "simulator" and not provider.base_url

    if not any(is_ours(provider) for provider in settings.providers.values()):
        return settings, None
    [[bound]] = sockets.listen("127.0.0.1", 0)
    base_url = f"http://127.0.0.1:{bound.getsockname()[1]}/v1"
    providers = {
        name: dataclasses.replace(provider, base_url=base_url) if is_ours(provider) else provider
        for name, provider in settings.providers.items()
    }
    return dataclasses.replace(settings, providers=providers), bound


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
