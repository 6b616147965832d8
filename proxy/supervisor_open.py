"""What `weir serve` opens before it forks, in order; closed in reverse, whatever happens.

The lock on the data directory, the listening sockets, the minted keys, the simulator's socket, the
boards that children report on, Redis. What children need to know is filled into the settings.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from proxy import data_dir as data_dirs
from proxy import demo_keys, embedded_redis, first_start, sockets, telemetry
from proxy.admin_key_file import with_admin_key
from proxy.metrics_board import Board
from proxy.settings import Secret, Settings
from proxy.settings_changes import is_simulated

SUPERVISOR = "supervisor"
WORKER = "worker"
CONSOLE = "console"

_log = telemetry.logger("supervisor")

REFUSALS = (
    data_dirs.DataDirError,
    demo_keys.KeyFileError,
    sockets.ListenError,
    embedded_redis.RedisUnavailableError,
)
"""Reasons not to start; the message of each is one line for the person who asked."""


def proxy_name(index: int) -> str:
    """How a proxy process is called in logs, metrics and the process list."""
    return f"proxy-{index}"


@dataclass(slots=True)
class Opened:
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
    metrics: list[socket.socket] = dataclasses.field(default_factory=list)
    console: list[socket.socket] = dataclasses.field(default_factory=list)
    """Where the admin API listens; nowhere when nobody asked for it."""
    boards: dict[str, Board] = dataclasses.field(default_factory=dict)
    """Where processes report, by their names; none when nobody asked for metrics."""

    @property
    def url(self) -> str:
        """Where clients reach us."""
        server = self.settings.server
        return sockets.url(server.host, server.port, is_tls=server.tls is not None)

    @property
    def admin_url(self) -> str | None:
        """Where the console is reached; None without one."""
        admin = self.settings.admin
        return None if admin is None else sockets.url(admin.host, admin.port)

    @property
    def everything_listening(self) -> list[list[socket.socket]]:
        """What a child that serves none of it closes."""
        return [*self.listening, self.metrics, self.console]


def open_all(settings: Settings, stack: contextlib.ExitStack) -> Opened:
    """Everything the children share, in order; `stack` closes it in reverse, whatever happens."""
    data_dirs.own(settings.data_dir)
    stack.enter_context(data_dirs.locked(settings.data_dir))
    server = settings.server
    listening = sockets.listen(server.host, server.port, processes=server.workers)
    stack.callback(sockets.close_all, listening)
    port = listening[0][0].getsockname()[1]
    settings = dataclasses.replace(settings, server=dataclasses.replace(server, port=port))
    settings, console = open_console(settings, stack)
    settings, keys, refused = mint_keys(settings)
    settings, simulator = _open_simulator(settings)
    if simulator is not None:
        stack.callback(simulator.close)
    ready_fd, ready_write_fd = os.pipe()
    for descriptor in (ready_fd, ready_write_fd):
        os.set_blocking(descriptor, False)
        stack.callback(os.close, descriptor)
    proxy_id = data_dirs.installation_id(settings.data_dir)
    opened = Opened(
        settings, listening, simulator, None, keys, refused, proxy_id, ready_fd, ready_write_fd
    )
    opened.console = console
    if server.metrics_port:
        _open_metrics(opened, stack)
    if settings.redis.url is None:
        stack.callback(_stop_redis, opened)
        redis = opened.redis = embedded_redis.start(settings.data_dir)
        filled = dataclasses.replace(settings.redis, url=Secret(redis.url))
        opened.settings = dataclasses.replace(settings, redis=filled)
        first = first_start.open_windows(opened.settings, redis.socket)
        _log.info("embedded Redis", socket=str(redis.socket), adopted=redis.adopted, first=first)
    return opened


def _stop_redis(opened: Opened) -> None:
    if opened.redis is not None and not opened.redis.stop():
        _log.warning(
            "the embedded Redis is still writing, or stands still: it ends by itself when it can, "
            "and until then the next start takes it over"
        )


def open_console(
    settings: Settings, stack: contextlib.ExitStack, *, option: str = "--admin-port"
) -> tuple[Settings, list[socket.socket]]:
    """The sockets of the admin API, and the settings with the port that it really has."""
    admin = settings.admin
    if admin is None:
        return settings, []
    remedy = f"Another port: {option} N, or admin.port"
    [bound] = sockets.listen(admin.host, admin.port, remedy=remedy)
    stack.callback(sockets.close_all, [bound])
    admin = dataclasses.replace(admin, port=bound[0].getsockname()[1])
    return dataclasses.replace(settings, admin=admin), bound


def _open_metrics(opened: Opened, stack: contextlib.ExitStack) -> None:
    server = opened.settings.server
    assert server.metrics_port is not None
    [opened.metrics] = sockets.listen(
        server.metrics_host, server.metrics_port, remedy="Another port: server.metrics_port"
    )
    stack.callback(sockets.close_all, [opened.metrics])
    names = [SUPERVISOR, *map(proxy_name, range(server.workers))]
    if opened.settings.settles:
        names.append(WORKER)
    opened.boards = {name: Board() for name in names}


def overridden(
    settings: Settings,
    host: str | None,
    port: int | None,
    data_dir: Path | None,
    workers: int | None,
    *,
    admin_port: int | None = None,
) -> Settings:
    """The settings with what the command line says instead; None keeps what the file says."""
    server = settings.server
    server = dataclasses.replace(
        server,
        host=server.host if host is None else host,
        port=server.port if port is None else port,
        workers=server.workers if workers is None else workers,
    )
    admin = settings.admin
    if admin is not None and admin_port is not None:
        admin = dataclasses.replace(admin, port=admin_port)
    directory = (settings.data_dir if data_dir is None else data_dir).resolve()
    return dataclasses.replace(settings, server=server, data_dir=directory, admin=admin)


def mint_keys(settings: Settings) -> tuple[Settings, list[Secret], bool]:
    """The settings with the keys that we make ourselves, those of tenants, and whether they are
    refused."""
    settings = with_admin_key(settings)
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

    if not any(is_simulated(provider) for provider in settings.providers.values()):
        return settings, None
    [[bound]] = sockets.listen("127.0.0.1", 0)
    return with_simulator(settings, bound), bound


def with_simulator(settings: Settings, bound: socket.socket | None) -> Settings:
    """The settings with the address of our simulator, where it listens."""
    if bound is None:
        return settings
    base_url = f"http://127.0.0.1:{bound.getsockname()[1]}/v1"
    providers = {
        name: dataclasses.replace(each, base_url=base_url) if is_simulated(each) else each
        for name, each in settings.providers.items()
    }
    return dataclasses.replace(settings, providers=providers)
