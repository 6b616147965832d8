"""`weir top` as a command, and its keys."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterator
from pathlib import Path

from click.testing import CliRunner
from fixtures_redis import RedisServer
from rich.console import Console

from metering.live_rates import Tick
from metering.redis_keys import RedisKeys
from proxy.cli import weir
from proxy.cli_top import watch
from proxy.cli_top_tables import TopLook

FILE = """
redis: {{url: "{url}", prefix: {prefix}}}
tenants: [{{id: acme}}]
"""

IDLE = TopLook(Tick(1_800_000_000_000, 0.0, 0.0, 0, 0, 0, (), (), ()))


def test_one_picture(tmp_path: Path, redis_server: RedisServer, redis_keys: RedisKeys) -> None:
    """Without a terminal one picture is printed, and with --json it is one object."""
    path = tmp_path / "config.yaml"
    path.write_text(FILE.format(url=redis_server.url, prefix=redis_keys.prefix), encoding="utf-8")

    def run(*words: str) -> str:
        done = CliRunner().invoke(weir, ["top", *words, "--config", str(path)])
        assert done.exit_code == 0, done.output
        return done.stdout

    assert "tokens/s" in run()
    body = json.loads(run("--once", "--json"))
    assert (body["tokens_per_s"], body["spend_usd_per_min"]) == (0.0, "0.000000000")


def test_a_redis_that_is_not_there(tmp_path: Path) -> None:
    """It ends with what is the matter, as JSON for programs."""
    path = tmp_path / "config.yaml"
    path.write_text(FILE.format(url=f"unix://{tmp_path}/none.sock", prefix="weir"))

    done = CliRunner().invoke(weir, ["top", "--once", "--json", "--config", str(path)])

    assert done.exit_code == 1
    assert "cannot read Redis" in json.loads(done.stderr)["error"]["message"]


class Looks:
    """Counts the looks; those that are to fail do."""

    def __init__(self, faults: Iterator[Exception | None]) -> None:
        self.faults = faults

    async def __call__(self) -> TopLook:
        fault = next(self.faults)
        if fault is not None:
            raise fault
        return IDLE


async def test_keys_sort_and_quit_and_an_outage_is_said() -> None:
    """s changes the order, q ends it; Redis going away is shown and waited for."""
    pressed: asyncio.Queue[str] = asyncio.Queue()
    screen = Console(file=io.StringIO(), force_terminal=True, width=80, height=24)

    def faults() -> Iterator[Exception | None]:
        yield ConnectionRefusedError("gone")
        yield None
        for key in "sxq":
            pressed.put_nowait(key)
        while True:
            yield None

    await watch(Looks(faults()), IDLE, screen, pressed, every_s=0.001, sort="full")

    assert isinstance(screen.file, io.StringIO)
    shown = screen.file.getvalue()
    for part in ("(by full)", "Redis cannot be read: gone", "(by spend)"):
        assert part in shown, part
    assert pressed.empty()
