"""Clients that go on asking a real `weir serve` while its Redis is broken, and what they saw."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from fixtures_weir import Weir, serving

CONFIG = """
server: {{host: 127.0.0.1}}
redis: {{url: "{url}", on_outage: closed}}
providers: {{simulator: {{type: simulator}}}}
models:
  demo: {{upstreams: [{{provider: simulator, model: "demo?tokens=5&chunk_ms=1"}}]}}
pricing:
  currency: USD
  rules: [{{model: demo, input_rate: 0.000005, output_rate: 0.000015}}]
tenants:
"""
TENANT = """
  - {{id: {id}, name: {id}, limits: {{tenant: {{daily_cap: 100}}}},
      keys: [{{id: k, key: "{key}"}}]}}
"""
TENANTS = [f"t{number}" for number in range(6)]
"""Of six different shards, which three masters share."""
PAUSE_S = 0.01
PATIENCE_S = 20.0


@dataclass(frozen=True)
class Answer:
    """What one request came to; `status` is 0 when there was no answer."""

    tenant: str
    asked_s: float
    done_s: float
    status: int
    request_id: str


@dataclass
class Callers:
    """A thread per tenant, each asking again when it was answered."""

    weir: Weir
    answers: list[Answer] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def served(self, tenant: str | None = None, *, since_s: float = 0.0) -> list[Answer]:
        """What was answered completely and was asked after that moment."""
        return [
            answer
            for answer in tuple(self.answers)
            if answer.status == 200
            and answer.asked_s >= since_s
            and tenant in (None, answer.tenant)
        ]

    def until_served(self, *tenants: str, since_s: float) -> float:
        """Wait until each tenant has an answer to what it asked later; when the last one came."""
        deadline = time.monotonic() + PATIENCE_S
        while not all(self.served(tenant, since_s=since_s) for tenant in tenants):
            assert time.monotonic() < deadline, self.statuses(since_s=since_s)
            time.sleep(0.01)
        return max(self.served(tenant, since_s=since_s)[0].done_s for tenant in tenants)

    def statuses(self, *, since_s: float = 0.0) -> Counter[tuple[str, int]]:
        """How often which tenant was answered how."""
        found = tuple(self.answers)
        return Counter((each.tenant, each.status) for each in found if each.asked_s >= since_s)

    def call(self, tenant: str) -> None:
        """One tenant's thread."""
        body = {"model": "demo", "max_tokens": 50, "messages": [{"role": "user", "content": "Hi"}]}
        while not self.stop.wait(PAUSE_S):
            request = urllib.request.Request(
                f"{self.weir.url}/v1/chat/completions",
                data=orjson.dumps(body),
                headers={
                    "Authorization": f"Bearer {key_of(tenant)}",
                    "Content-Type": "application/json",
                },
            )
            asked_s, status, request_id = time.monotonic(), 0, ""
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    answer.read()
                    status, request_id = answer.status, answer.headers["x-request-id"]
            except urllib.error.HTTPError as error:
                status = error.code
                error.close()
            except OSError:
                status = 0
            self.answers.append(Answer(tenant, asked_s, time.monotonic(), status, request_id))


def key_of(tenant: str) -> str:
    return f"sk-weir-{tenant}-0123456789abcdef0123456789abcdef"


@contextlib.contextmanager
def calling(folder: Path, redis_url: str) -> Iterator[Callers]:
    """`weir serve` over that Redis, with its worker, and every tenant calling it."""
    config = folder / "config.yaml"
    tenants = "".join(TENANT.format(id=tenant, key=key_of(tenant)) for tenant in TENANTS)
    config.write_text(CONFIG.format(url=redis_url) + tenants)
    with serving(folder, config=config) as weir:
        callers = Callers(weir)
        threads = [threading.Thread(target=callers.call, args=(tenant,)) for tenant in TENANTS]
        for thread in threads:
            thread.start()
        try:
            callers.until_served(*TENANTS, since_s=0.0)
            yield callers
        finally:
            callers.stop.set()
            for thread in threads:
                thread.join()


def settled(weir: Weir) -> Counter[str]:
    """How often the ledger has which request, once nothing waits in the streams."""
    weir.settled(1)
    with contextlib.closing(sqlite3.connect(weir.data_dir / "ledger.db")) as ledger:
        rows = ledger.execute("SELECT request_id FROM usage_event WHERE kind = 'usage'")
        return Counter(request_id for (request_id,) in rows)
