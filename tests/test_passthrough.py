"""Paths that are relayed, with the real program behind it: two processes, one Redis, the ledger."""

from __future__ import annotations

import hashlib
import http.server
import sqlite3
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from fixtures_weir import serving

from metering.events import decode

pytestmark = pytest.mark.xdist_group("weir")

KEYS = {"acme": "sk-weir-acme-000000000000", "other": "sk-weir-other-00000000000"}

CONFIG = """
server: {{workers: 2}}
providers:
  one: {{type: openai, base_url: "{url}", api_key: "${{PATH}}"}}
models: {{}}
passthrough:
  provider: one
  paths: {{images: {{hold_usd: 0.25, price_usd: 0.04}}}}
limits: {{tenant: {{daily_cap: 5}}}}
tenants:
  - {{id: acme, name: Acme, keys: [{{id: a, sha256: {acme}}}]}}
  - {{id: other, name: Other, keys: [{{id: b, sha256: {other}}}]}}
"""


@dataclass
class Provider:
    """Makes files and images, and remembers who was asked for."""

    paths: list[str] = field(default_factory=list)
    url: str = ""

    def answer(self, method: str, path: str) -> dict[str, Any]:
        self.paths.append(f"{method} {path}")
        if path == "/v1/files" and method == "POST":
            return {"id": f"file-{len(self.paths)}", "object": "file"}
        if path.startswith("/v1/images"):
            return {"data": [{"url": "x"}, {"url": "y"}]}
        return {"id": path.rpartition("/")[2], "object": "file"}


@pytest.fixture
def provider() -> Iterator[Provider]:
    made = Provider()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def serve(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            said = orjson.dumps(made.answer(self.command, self.path))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def __getattr__(self, name: str) -> Any:
            if name in ("do_GET", "do_POST", "do_DELETE"):
                return self.serve
            raise AttributeError(name)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
            """Says nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_port}/v1"
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


def ask(url: str, tenant: str, method: str, path: str, body: object = None) -> tuple[int, Any]:
    """One request on a connection of its own, which either process may take."""
    sent = urllib.request.Request(
        f"{url}/v1/{path}",
        method=method,
        data=None if body is None else orjson.dumps(body),
        headers={"Authorization": f"Bearer {KEYS[tenant]}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(sent, timeout=10) as answer:
            return answer.status, orjson.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, orjson.loads(error.read())


@pytest.mark.slow(12)
@pytest.mark.timeout(90)
def test_owners_are_known_to_every_process(tmp_path: Path, provider: Provider) -> None:
    """What a tenant made by one process is its own at the other, nobody else's at either, and what
    it paid for images is in the ledger."""
    config = tmp_path / "config.yaml"
    hashes = {name: hashlib.sha256(key.encode()).hexdigest() for name, key in KEYS.items()}
    config.write_text(CONFIG.format(url=provider.url, **hashes))

    with serving(tmp_path, config=config, settles=False) as weir:
        made = ask(weir.url, "acme", "POST", "files", {"purpose": "x"})[1]["id"]
        own = [ask(weir.url, "acme", "GET", f"files/{made}")[0] for _ in range(16)]
        foreign = [ask(weir.url, "other", "GET", f"files/{made}")[0] for _ in range(16)]
        images = ask(weir.url, "acme", "POST", "images/generations", {"model": "d", "n": 2})
        deleted = ask(weir.url, "acme", "DELETE", f"files/{made}")[0]
        gone = [ask(weir.url, "acme", "GET", f"files/{made}")[0] for _ in range(16)]
        totals = weir.settled(19)["totals"]
        with closing(sqlite3.connect(weir.data_dir / "ledger.db")) as ledger:
            payloads = ledger.execute("SELECT payload FROM usage_event").fetchall()
    events = [decode(payload) for (payload,) in payloads]

    assert own == [200] * 16
    assert foreign == gone == [404] * 16
    assert (images[0], deleted) == (200, 200)
    assert len(provider.paths) == len(events) == 19
    assert len({event.proxy_id for event in events}) == 2
    assert totals["units"] == {"api_call": 19, "image": 2, "inference": 1}
    assert (totals["admission_nano"], totals["unpriced"]) == (80_000_000, 0)
