"""The console as a process of its own (`weir console`), without a `weir serve` around it.

Rules:
- What the supervisor does for it elsewhere, it does itself: it opens its port, makes its first key,
  and follows the file (`proxy.admin.own_file`): at SIGHUP, and a look each second.
- It waits for nobody: a ledger or a Redis that is away is told to whoever asks for something of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from metering.background import spawn
from proxy import data_dir as data_dirs
from proxy import sockets, telemetry
from proxy.admin_key_file import admin_key_path, is_minted, with_admin_key
from proxy.config_reading import Read
from proxy.console import serve
from proxy.embedded_redis import redis_url
from proxy.family import ConsoleProcess
from proxy.settings import Secret, Settings
from proxy.settings_changes import is_simulated
from proxy.supervisor_open import REFUSALS, open_console

if TYPE_CHECKING:
    from proxy.admin.opened import Console
    from proxy.admin.own_file import OwnFile

LOOK_EVERY_S = 1.0
"""How soon what was announced, and who was made a tenant elsewhere, is known here."""

_SOMEWHERE = "http://127.0.0.1/v1"


def run_console_alone(
    settings: Settings, read: Read, *, host: str | None = None, port: int | None = None
) -> int:
    """Serve until SIGTERM or Ctrl-C; returns the exit code. None keeps what the file says.

    The settings have the section `admin`. `read` reads the file again.
    """
    telemetry.configure()

    def complete(found: Settings) -> Settings:
        return completed(found, host, port)

    try:
        data_dirs.own(settings.data_dir)
        with contextlib.ExitStack() as stack:
            settings, bound = open_console(complete(settings), stack, option="--port")
            process = ConsoleProcess(settings, bound)

            def begin(console: Console) -> None:
                from proxy.admin.own_file import OwnFile  # noqa: PLC0415 - it loads the ledger

                begin_following(OwnFile(console, read, complete))
                sys.stdout.write(banner(settings))
                sys.stdout.flush()

            asyncio.run(serve(process, begin, signals=(signal.SIGTERM, signal.SIGINT)))
            return 0
    except REFUSALS as refusal:
        sys.stderr.write(f"weir: {refusal}\n")
        return 1


def completed(settings: Settings, host: str | None, port: int | None) -> Settings:
    """The settings with the command line's words, where Redis is, and the key that we make."""
    if (admin := settings.admin) is not None:
        admin = replace(
            admin,
            host=admin.host if host is None else host,
            port=admin.port if port is None else port,
        )
        settings = replace(settings, admin=admin)
    if settings.redis.url is None:  # that of a `weir serve` beside us
        url = Secret(redis_url(settings.data_dir))
        settings = replace(settings, redis=replace(settings.redis, url=url))
    # No upstream is called from here, so it does not matter where the simulator is.
    providers = {
        name: replace(each, base_url=_SOMEWHERE) if is_simulated(each) else each
        for name, each in settings.providers.items()
    }
    return with_admin_key(replace(settings, providers=providers))


def banner(settings: Settings) -> str:
    """Where it is, and how one gets in."""
    assert settings.admin is not None, "there is no console without the section"
    where = sockets.url(settings.admin.host, settings.admin.port)
    key = "a key of admin.keys"
    if is_minted(settings):
        key = f"the key in {admin_key_path(settings.data_dir)}"
    elif not settings.admin_keys:
        key = "a key of the ledger; admin.keys has none: `weir keys admin`"
    return f"Console   {where}/dashboard, {where}/admin/v1/\nKey       {key}\nStop      Ctrl-C\n"


def begin_following(file: OwnFile) -> None:
    """Keep the settings the newest, from now on."""
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, asked.set)
    spawn(_follow_hangups(file, asked), name="hangups")
    spawn(_follow_others(file), name="settings")


async def _follow_hangups(file: OwnFile, asked: asyncio.Event) -> None:
    while True:
        await asked.wait()
        asked.clear()
        await file.read_again("SIGHUP")


async def _follow_others(file: OwnFile) -> None:
    while True:
        await file.look()
        await asyncio.sleep(LOOK_EVERY_S)
