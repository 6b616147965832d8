"""Certificates made for one test run, and a forward proxy that knows CONNECT and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme


@dataclass(frozen=True)
class Authority:
    """A private authority: its own certificate in a file, and servers it vouches for."""

    ca: trustme.CA
    folder: Path

    @property
    def ca_file(self) -> Path:
        path = self.folder / "ca.pem"
        self.ca.cert_pem.write_to_path(path)
        return path

    def files(self, *names: str) -> tuple[Path, Path]:
        """A certificate for these names with its key."""
        issued = self.ca.issue_cert(*names)
        cert, key = self.folder / f"{names[0]}.pem", self.folder / f"{names[0]}.key"
        cert.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(key)
        return cert, key

    def server(self, *names: str) -> ssl.SSLContext:
        """What a server of these names listens with."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.files(*names))
        return context


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """An authority that nobody else trusts."""
    return Authority(trustme.CA(), tmp_path)


@dataclass
class ConnectProxy:
    """Tunnels every name to `port` on this machine; `answer` is said instead when it is set."""

    port: int = 0
    answer: bytes | None = None
    heads: list[str] = field(default_factory=list)
    passed: bytes = b""
    """What went through towards the upstream."""
    url: str = ""
    serving: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.serving.add(task)
        try:
            self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
            if self.answer is not None:
                writer.write(self.answer)
                await writer.drain()
                return
            there = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await asyncio.gather(self._up(reader, there[1]), self._down(there[0], writer))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.serving.discard(task)
            writer.close()

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                self.passed += data
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()


@pytest.fixture
async def connect_proxy() -> AsyncIterator[ConnectProxy]:
    """A forward proxy; set `port` to where its tunnels lead."""
    proxy = ConnectProxy()
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        serving = list(proxy.serving)
        for task in serving:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*serving, return_exceptions=True)
