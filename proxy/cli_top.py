"""`weir top`: what happens right now, live in a terminal, read from Redis.

Nothing is written, and no proxy is asked: it shows all machines that share the Redis.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from proxy.cli_options import FAILED, echo_json, fail, load_config, shared_options

if TYPE_CHECKING:
    import asyncio

    from rich.console import Console

    from proxy.cli_top_tables import TopLook
    from proxy.settings import Settings

_TIMEOUT_S = 5.0

_ROWS = 60
"""Where nobody's terminal bounds the height."""

_KEYS = "q quits, s sorts"


@click.command()
@click.option("--once", is_flag=True, help="Print one picture and end, as without a terminal.")
@click.option(
    "--every",
    "every_s",
    type=click.FloatRange(0.2, 3600),
    default=1.0,
    show_default=True,
    help="Seconds between two looks.",
)
@click.option(
    "--sort",
    type=click.Choice(["full", "spend", "name"]),
    default="full",
    show_default=True,
    help="How tenants are ordered at first; the key s changes it.",
)
@shared_options
def top(
    *,
    once: bool,
    every_s: float,
    sort: str,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Live: tokens/s, spend, requests, the fullest caps, upstreams, alerts. q quits, s sorts.

    With --json a line of JSON at each look, until Ctrl-C.
    """
    import asyncio

    settings = load_config(config_file, data_dir, as_json).settings
    from redis.exceptions import RedisError

    has_screen = sys.stdout.isatty() and sys.stdin.isatty()
    if has_screen and not once and not as_json:
        work = _live(settings, every_s, sort)
    else:
        work = _printed(settings, every_s, sort, once=once or not as_json, as_json=as_json)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(work)
    except (RedisError, OSError, ValueError) as error:  # ValueError: a path too long for a socket
        fail(FAILED, f"cannot read Redis: {error or type(error).__name__}", as_json)


async def _printed(
    settings: Settings, every_s: float, sort: str, *, once: bool, as_json: bool
) -> None:
    import asyncio

    from proxy.cli_tables import console
    from proxy.cli_top_tables import top_body, top_picture

    async with _looking(settings) as look:
        while True:
            found = await look()
            if not as_json:
                screen = console()
                picture = top_picture(found, height=_ROWS, width=screen.width, sort=sort)
                screen.print(picture)
            elif once:
                echo_json(top_body(found))
            else:
                click.echo(json.dumps(top_body(found)))
            if once:
                return
            await asyncio.sleep(every_s)


async def _live(settings: Settings, every_s: float, sort: str) -> None:
    import asyncio

    from proxy.cli_tables import console

    pressed: asyncio.Queue[str] = asyncio.Queue()
    async with _looking(settings) as look:
        first = await look()  # what cannot be read at all is said on a whole screen
        with _each_key(pressed):
            await watch(look, first, console(), pressed, every_s=every_s, sort=sort)


async def watch(
    look: Callable[[], Awaitable[TopLook]],
    first: TopLook,
    screen: Console,
    pressed: asyncio.Queue[str],
    *,
    every_s: float,
    sort: str,
) -> None:
    """Picture after picture until q is pressed; a Redis that goes away is said and waited for."""
    from redis.exceptions import RedisError
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from proxy.cli_top_tables import SORTS, top_picture

    found, trouble = first, ""
    with Live(console=screen, screen=True, auto_refresh=False) as live:
        while True:
            foot = Text(f"{_KEYS} (by {sort}), every {every_s:g} s", style="dim")
            foot.append(trouble, style="bold red")
            width, height = screen.size
            picture = top_picture(found, height=height - 1, width=width, sort=sort)
            live.update(Group(picture, foot), refresh=True)
            key = await _key(pressed, every_s)
            if key == "q":
                return
            if key == "s":
                sort = SORTS[(SORTS.index(sort) + 1) % len(SORTS)]
                continue
            try:
                found, trouble = await look(), ""
            except (RedisError, OSError) as error:  # a TimeoutError is one of these
                trouble = f"  Redis cannot be read: {error or type(error).__name__}"


async def _key(pressed: asyncio.Queue[str], wait_s: float) -> str | None:
    import asyncio

    try:
        async with asyncio.timeout(wait_s):
            return await pressed.get()
    except TimeoutError:
        return None


@contextlib.asynccontextmanager
async def _looking(settings: Settings) -> AsyncIterator[Callable[[], Awaitable[TopLook]]]:
    import asyncio

    from proxy.cli_limits import client_of
    from proxy.cli_top_reading import TopReader

    async with client_of(settings) as client:
        reader = TopReader(settings, client)

        async def look() -> TopLook:
            async with asyncio.timeout(_TIMEOUT_S):
                return await reader.look()

        yield look


@contextlib.contextmanager
def _each_key(pressed: asyncio.Queue[str]) -> Iterator[None]:
    """Keys as they are pressed, without Enter; the terminal is as before afterwards."""
    import asyncio
    import termios
    import tty

    stdin, loop = sys.stdin.fileno(), asyncio.get_running_loop()
    before = termios.tcgetattr(stdin)

    def read() -> None:
        text = os.read(stdin, 64).decode(errors="replace")
        for key in text or "q":  # whose terminal is gone looks no more
            pressed.put_nowait(key)

    try:
        tty.setcbreak(stdin)
        loop.add_reader(stdin, read)
        yield
    finally:
        loop.remove_reader(stdin)
        termios.tcsetattr(stdin, termios.TCSADRAIN, before)
