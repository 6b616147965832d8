"""The restore drill of docs/backup.md: backed up under load, brought up elsewhere, then audited."""

from __future__ import annotations

import hashlib
import shutil
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest
import yaml
from fixtures_needs import need
from fixtures_weir import Weir, serving

from metering.money import format_usd
from proxy import embedded_redis

KEY = "sk-weir-aaaaaaaaaaaa-" + "a" * 43
CONFIG = {
    "redis": {"timeout_ms": 5000},
    "metering": {"spool": "always"},
    "providers": {"sim": {"type": "simulator"}},
    "models": {"quick": {"upstreams": [{"provider": "sim", "model": "demo?tokens=4&chunk_ms=1"}]}},
    "pricing": {"rules": [{"model": "demo*", "input_per_mtok": 1, "output_per_mtok": 2}]},
    "tenants": [
        {
            "id": "acme",
            "limits": {"tenant": {"daily_cap": 100}},
            "keys": [{"id": "k", "sha256": hashlib.sha256(KEY.encode()).hexdigest()}],
        }
    ],
}
COPIED = ("redis", "spool", "local", "installation")
"""What a machine has beside its ledger, in the words of docs/backup.md."""


class Load:
    """Clients that ask one after the other; how many answers were whole, at any moment."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._ends = False
        self.changed = threading.Condition()
        self.answered = 0

    def ask(self) -> None:
        request = urllib.request.Request(
            f"{self._url}/v1/chat/completions",
            data=b'{"model": "quick", "messages": [{"role": "user", "content": "hello"}]}',
            headers={"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert orjson.loads(answer.read())["usage"]["completion_tokens"] == 4
        with self.changed:
            self.answered += 1
            self.changed.notify_all()

    def wait_for(self, more: int) -> int:
        """How many were answered, once there are so many more than now."""
        with self.changed:
            wanted = self.answered + more
            assert self.changed.wait_for(lambda: self.answered >= wanted, 60)
            return self.answered

    @contextmanager
    def running(self, clients: int = 4) -> Iterator[None]:
        def repeat() -> None:
            while not self._ends:
                self.ask()

        threads = [threading.Thread(target=repeat) for _ in range(clients)]
        for each in threads:
            each.start()
        try:
            yield
        finally:
            self._ends = True
            for each in threads:
                each.join(60)


def back_up(weir: Weir, target: Path) -> None:
    """By the page: the ledger first, then what is behind it."""
    target.mkdir()
    made = weir.json("ledger", "backup", str(target / "ledger.db"))
    assert made["bytes"] == (target / "ledger.db").stat().st_size
    socket = embedded_redis.socket_path(weir.data_dir)
    embedded_redis.command(socket, "CONFIG", "SET", "auto-aof-rewrite-percentage", "0")
    for name in COPIED:
        source = weir.data_dir / name
        if source.is_dir():
            shutil.copytree(source, target / name)
        elif source.exists():
            shutil.copy2(source, target / name)
    embedded_redis.command(socket, "CONFIG", "SET", "auto-aof-rewrite-percentage", "100")


def restore(backup: Path, folder: Path, names: tuple[str, ...]) -> None:
    data_dir = folder / "data"
    data_dir.mkdir(parents=True, mode=0o700)
    for name in names:
        if (backup / name).is_dir():
            shutil.copytree(backup / name, data_dir / name)
        elif (backup / name).exists():
            shutil.copy2(backup / name, data_dir / name)


def settled_under_load(weir: Weir, answered: int) -> int:
    """How many requests the ledger has, once it has those; more come all the time."""
    deadline = time.monotonic() + 60
    while True:
        requests: int = weir.json("usage", "--tenant", "acme")["totals"]["requests"]
        if requests >= answered:
            return requests
        assert time.monotonic() < deadline, requests


def audited(weir: Weir) -> tuple[int, int]:
    """Requests and nano-USD in the ledger; books and invariants hold, and the cap knows as much."""
    usage = weir.settled(1, "--tenant", "acme")
    assert weir.json("ledger", "verify")["ok"]
    verified = orjson.loads(weir.run("verify", "--json").stdout)
    found = {each["id"]: each["findings"] for each in verified["invariants"] if each["findings"]}
    assert found.keys() <= {"I3"}, found  # what was open at the backup is held for three minutes
    [cap] = [
        each
        for each in weir.json("limits", "--tenant", "acme")["caps"]
        if each["scope"] == "tenant:acme"
    ]
    spent = usage["totals"]["admission_nano"]
    assert cap["usd"]["spent"] == format_usd(spent)
    return usage["totals"]["requests"], spent


@pytest.mark.slow(150)
@pytest.mark.timeout(240)
def test_a_backup_under_load_is_restored_elsewhere(tmp_path: Path) -> None:
    """All that was answered before the backup is in the restored books, and counts under the cap.

    With the ledger's copy alone, what was settled by then is; Redis is built anew from it.
    """
    need("redis-server")
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(CONFIG))
    for name in ("first", "whole", "books"):
        (tmp_path / name).mkdir()
    backup = tmp_path / "backup"
    with serving(tmp_path / "first", config=config) as first:
        load = Load(first.url)
        with load.running():
            before = settled_under_load(first, load.wait_for(20))
            before_backup = load.wait_for(10)
            back_up(first, backup)
            load.wait_for(10)
        first.process.kill()
        first.process.wait()

    restore(backup, tmp_path / "whole", ("ledger.db", *COPIED))
    with serving(tmp_path / "whole", config=config) as whole:
        requests, _ = audited(whole)
        assert before_backup <= requests <= load.answered
        Load(whole.url).ask()
        assert audited(whole)[0] > requests

    restore(backup, tmp_path / "books", ("ledger.db",))
    with serving(tmp_path / "books", config=config) as books:
        requests, _ = audited(books)
        assert before <= requests <= load.answered
