"""The console as a process of its own: `weir console`."""

from __future__ import annotations

import signal
import stat
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from config_samples import BASE, loaded
from fixtures_weir import COMMAND, environment

from proxy.admin_key_file import admin_key_path
from proxy.console_alone import banner, completed
from proxy.settings import AdminKey, AdminPort

CONFIG = BASE + "admin: {port: 8081}\n"


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """One without a Redis, without a ledger, and without a `weir serve`."""
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    words = ["console", "--config", str(config), "--data-dir", str(tmp_path / "d"), "--port", "0"]
    with (
        (tmp_path / "err").open("w") as log,
        subprocess.Popen(
            [*COMMAND, *words], stdout=subprocess.PIPE, stderr=log, text=True, env=environment()
        ) as started,
    ):
        yield started
        started.kill()


def ask(url: str, key: str = "") -> tuple[int, bytes]:
    asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"} if key else {})
    try:
        with urllib.request.urlopen(asked, timeout=8) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read()


@pytest.mark.slow(20)
@pytest.mark.timeout(30)
def test_it_serves_alone_and_says_how_to_get_in(
    process: subprocess.Popen[str], tmp_path: Path
) -> None:
    """It waits for no store, names the file of its first key, lives through SIGHUP, and ends at
    SIGTERM."""
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(3)]
    url = said[0].split()[-1].removesuffix("/admin/v1/")
    path = admin_key_path(tmp_path / "d")
    key = path.read_text().strip()

    assert str(path) in said[1] and key not in "".join(said)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ask(f"{url}/healthz") == (200, b'{"status":"ok"}')
    status, body = ask(f"{url}/admin/v1/whoami", key)
    assert (status, orjson.loads(body)["role"]) == (200, "admin")
    assert ask(f"{url}/admin/v1/tenants", key)[0] == 503  # no ledger, and it says so
    process.send_signal(signal.SIGHUP)
    while "SIGHUP" not in (tmp_path / "err").read_text():
        assert process.poll() is None
        assert ask(f"{url}/healthz")[0] == 200
    process.terminate()
    assert process.wait(10) == 0


def test_the_command_line_goes_before_the_file(tmp_path: Path) -> None:
    """And no key is made where others can reach it: the banner says what is missing."""
    settings = replace(loaded(tmp_path, CONFIG).settings, data_dir=tmp_path)
    reachable = completed(settings, "0.0.0.0", 9000)

    assert reachable.admin == AdminPort("0.0.0.0", 9000)
    assert reachable.admin_keys == ()
    assert not admin_key_path(tmp_path).exists()
    assert "weir keys admin" in banner(reachable)
    local = completed(settings, None, None)
    assert local.admin == AdminPort("127.0.0.1", 8081)
    assert str(admin_key_path(tmp_path)) in banner(local)
    keyed = replace(reachable, admin_keys=(AdminKey("ann", "ab" * 32, "admin"),))
    assert "a key of admin.keys" in banner(keyed)


def test_without_a_url_it_goes_to_the_neighbours_redis(tmp_path: Path) -> None:
    """That of the `weir serve --no-console` in the same directory."""
    settings = replace(loaded(tmp_path, CONFIG).settings, data_dir=tmp_path)
    found = completed(settings, None, None).redis.url

    assert found is not None
    assert found.reveal() == f"unix://{tmp_path}/redis.sock"
