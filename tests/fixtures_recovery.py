"""A real installation whose holds live for seconds, and what a test of its death asks of it."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from typing import Any

import aiohttp
import psutil
from fixtures_weir import ROOT, Weir

PROGRAM = [sys.executable, str(ROOT / "tests/proxy/programs/short_holds.py")]


def proxy_of(weir: Weir) -> psutil.Process:
    children = psutil.Process(weir.process.pid).children()
    return next(child for child in children if child.name() == "weir-proxy-0")


def booked(weir: Weir) -> list[sqlite3.Row]:
    with closing(sqlite3.connect(weir.data_dir / "ledger.db")) as ledger:
        ledger.row_factory = sqlite3.Row
        if not ledger.execute("SELECT 1 FROM sqlite_master WHERE name = 'usage_event'").fetchall():
            return []  # the file is there before its tables are
        return ledger.execute("SELECT * FROM usage_event ORDER BY seq").fetchall()


async def until(is_so: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not is_so():
            await asyncio.sleep(0.05)


async def ask(http: aiohttp.ClientSession, weir: Weir, model: str) -> aiohttp.ClientResponse:
    said = [{"role": "user", "content": "Say something long."}]
    return await http.post(
        f"{weir.url}/v1/chat/completions",
        json={"model": model, "messages": said, "stream": True},
        headers={"Authorization": f"Bearer {weir.key}"},
    )
