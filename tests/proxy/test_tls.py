"""HTTPS towards clients: served, with the versions that are allowed, by a real `weir serve`."""

from __future__ import annotations

import asyncio
import json
import ssl
import urllib.request
from pathlib import Path

import pytest
from fixtures_needs import need
from fixtures_tls import Authority
from fixtures_weir import serving

from proxy.settings import Tls
from proxy.tls import TlsFileError, server_context, upstream_context

CONFIG = """\
server: {{tls: {{cert_file: {cert}, key_file: {key}}}}}
providers: {{sim: {{type: simulator}}}}
models: {{demo: {{upstreams: [{{provider: sim, model: "demo?first_ms=1&chunk_ms=1"}}]}}}}
pricing: {{rules: [{{model: demo, input_per_mtok: 1, output_per_mtok: 2}}]}}
tenants: [{{id: acme, keys: [{{id: k, key: sk-weir-acme-0123456789}}]}}]
"""


@pytest.mark.slow(40)
@pytest.mark.timeout(40)
def test_weir_serves_https(tmp_path: Path, authority: Authority) -> None:
    """The banner's URL is https, a stream comes through it, and plain HTTP gets nothing."""
    need("redis-server")
    cert, key = authority.files("127.0.0.1")
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.format(cert=cert.name, key=key.name))
    trusting = ssl.create_default_context(cafile=authority.ca_file)
    asked = {"model": "demo", "stream": True, "messages": [{"role": "user", "content": "hi"}]}

    with serving(tmp_path, config=config) as weir:
        request = urllib.request.Request(
            f"{weir.url}/v1/chat/completions",
            data=json.dumps(asked).encode(),
            headers={
                "Authorization": "Bearer sk-weir-acme-0123456789",
                "Content-Type": "application/json",
            },
        )
        with urllib.request.urlopen(request, timeout=20, context=trusting) as answer:
            streamed = answer.read()
        plain = weir.url.replace("https:", "http:")
        with pytest.raises(OSError, match=r"(?i)reset|closed|disconnected|urlopen"):
            urllib.request.urlopen(f"{plain}/healthz", timeout=5)

    assert weir.url.startswith("https://127.0.0.1:")
    assert f"curl -N {weir.url}" in weir.banner or weir.url in weir.banner
    assert streamed.endswith(b"data: [DONE]\n\n")


async def shaken(server: ssl.SSLContext, authority: Authority, newest: ssl.TLSVersion) -> str:
    """The version that a client which goes up to `newest` gets from a server."""
    listening = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=server)
    client = ssl.create_default_context(cafile=authority.ca_file)
    client.maximum_version = newest
    port = listening.sockets[0].getsockname()[1]
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
        version = str(writer.get_extra_info("ssl_object").version())
        writer.transport.abort()
        return version
    finally:
        listening.close()


@pytest.mark.parametrize(
    ("least", "newest", "gets"),
    [
        ("TLSv1.2", ssl.TLSVersion.TLSv1_2, "TLSv1.2"),
        ("TLSv1.2", ssl.TLSVersion.TLSv1_3, "TLSv1.3"),
        ("TLSv1.3", ssl.TLSVersion.TLSv1_3, "TLSv1.3"),
        ("TLSv1.3", ssl.TLSVersion.TLSv1_2, None),
    ],
)
async def test_the_oldest_version(
    authority: Authority, least: str, newest: ssl.TLSVersion, gets: str | None
) -> None:
    """`min_version` is kept; a client that only speaks older ones is not served."""
    context = server_context(Tls(*authority.files("127.0.0.1"), least))  # type: ignore[arg-type]

    if gets is None:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await shaken(context, authority, newest)
    else:
        assert await shaken(context, authority, newest) == gets


def test_an_upstream_is_always_verified(authority: Authority, tmp_path: Path) -> None:
    """Certificate and name, whoever vouches; a file without authorities is refused."""
    for context in (upstream_context(None), upstream_context(authority.ca_file)):
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    empty = tmp_path / "empty.pem"
    empty.touch()
    with pytest.raises(TlsFileError, match="holds no certificate"):
        upstream_context(empty)
