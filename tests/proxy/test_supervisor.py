"""`weir serve` as a process among processes: real forks, signals, locks and sockets."""

import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from proxy.embedded_redis import command, socket_path

pytestmark = [pytest.mark.timeout(30)]

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).parent / "programs" / "supervised.py"
PATIENCE_S = 10


class Serve:
    """One run of the program, and what can be seen of it from outside."""

    def __init__(self, data_dir, *options):
        self.data_dir = data_dir
        self.out = data_dir.parent / f"{data_dir.name}.{time.monotonic_ns()}.out"
        self.err = self.out.with_suffix(".err")
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, PROGRAM, data_dir, *options],
                stdout=out,
                stderr=err,
                env=environment,
                start_new_session=True,
            )

    def until(self, holds):
        """Wait for a fact; whatever it returns when true."""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := holds()):
            assert time.monotonic() < deadline, self.err.read_text()
            time.sleep(0.01)
        return found

    def ready(self):
        self.until(lambda: "Ctrl-C" in self.out.read_text() or self.process.poll() is not None)
        assert self.process.poll() is None, self.err.read_text()
        return self

    def events(self):
        with contextlib.suppress(FileNotFoundError):
            return [line.split() for line in (self.data_dir / "events").read_text().splitlines()]
        return []

    def pids(self, name):
        return [int(event[2]) for event in self.events() if event[:2] == [name, "started"]]

    def said(self, name, what):
        return [event[2:] for event in self.events() if event[:2] == [name, what]]

    def address(self):
        url = json.loads((self.data_dir / "serve.json").read_text())["url"]
        host, _, port = url.removeprefix("http://").rpartition(":")
        return host.strip("[]"), int(port)

    def ask(self):
        with socket.create_connection(self.address(), timeout=5) as connection:
            return connection.recv(100).decode()

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.process.wait(timeout=PATIENCE_S)


@pytest.fixture
def serve(tmp_path):
    """Starts runs of the program on one data directory; nothing of them outlives the test."""
    runs = []

    def run(*options):
        runs.append(Serve(tmp_path / "data", *options))
        return runs[-1]

    yield run
    for each in runs:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(each.process.pid, signal.SIGKILL)
        each.process.wait()
    with contextlib.suppress(OSError, ValueError):  # it outlives a crash, as it should
        command(socket_path(tmp_path / "data"), "SHUTDOWN", "NOSAVE")


def test_the_banner_says_all_that_is_needed(serve):
    """URL, demo key, a curl line and the next commands, once requests are answered."""
    run = serve().ready()
    banner = run.out.read_text()
    key = (run.data_dir / "keys" / "demo.first").read_text().strip()

    host, port = run.address()
    assert f"http://{host}:{port}/v1/chat/completions" in banner
    assert re.fullmatch(r"sk-weir-[0-9A-Za-z]{12}-[0-9A-Za-z]{43}", key)
    assert f"demo key   {key}" in banner
    assert f"-H 'authorization: Bearer {key}'" in banner
    for line in ("weir usage", "weir invoice --tenant demo", "weir config check"):
        assert line in banner
    assert run.ask() == "proxy-0"
    assert "a warning from the file" in run.err.read_text()
    assert key not in run.err.read_text()


def test_serve_json_says_who_serves_while_somebody_does(serve):
    """Tools find the process and its URL; nothing stays behind."""
    run = serve().ready()
    state = json.loads((run.data_dir / "serve.json").read_text())

    assert state["pid"] == run.process.pid
    assert set(state) == {"pid", "url", "admin", "started_at"}
    assert run.stop() == 0
    assert not (run.data_dir / "serve.json").exists()


def test_children_get_complete_settings(serve):
    """The simulator's address, Redis' URL and the minted key's hash are filled in."""
    run = serve("redis").ready()
    key = (run.data_dir / "keys" / "demo.first").read_text().strip()

    [[base_url, redis_url]] = run.said("proxy-0", "sees")
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v1", base_url)
    assert redis_url == f"unix://{socket_path(run.data_dir)}"
    assert run.said("proxy-0", "keys") == [[hashlib.sha256(key.encode()).hexdigest()]]


def test_what_is_kept_is_private_and_stays(serve):
    """Directory 0700, key 0600; a second start has the same key and the same proxy id."""
    first = serve().ready()
    path = first.data_dir / "keys" / "demo.first"
    key = path.read_text()
    assert first.stop() == 0
    second = serve().ready()

    assert path.read_text() == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(first.data_dir.stat().st_mode) == 0o700
    [before], [after] = second.said("proxy-0", "id")
    assert before == after
    assert before.endswith("-0")


@pytest.mark.parametrize("name", ["proxy-0", "worker", "simulator"])
def test_a_killed_child_comes_back(serve, name):
    """kill -9 of any child, and another one takes its place; the rest live on."""
    run = serve().ready()
    [pid] = run.until(lambda: run.pids(name))
    os.kill(pid, signal.SIGKILL)
    run.until(lambda: len(run.pids(name)) == 2)

    others = {"proxy-0", "worker", "simulator"} - {name}
    assert all(len(run.pids(other)) == 1 for other in others)
    run.until(lambda: run.ask() == "proxy-0")
    assert run.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_clean_and_in_order(serve, number):
    """Proxies first, then the worker, the simulator, and Redis last; exit code 0."""
    run = serve("redis", "workers=2").ready()
    run.until(lambda: len(run.pids("proxy-1")) == len(run.pids("worker")) == 1)
    redis = socket_path(run.data_dir)
    assert command(redis, "PING") == "PONG"

    assert run.stop(number) == 0
    order = [event[0] for event in run.events() if event[1] == "stopped"]
    assert sorted(order[:2]) == ["proxy-0", "proxy-1"]
    assert order[2:] == ["worker", "simulator"]
    with pytest.raises(OSError):  # noqa: PT011 - refused or gone: nobody answers
        command(redis, "PING")


def test_ctrl_c_on_a_terminal_reaches_everybody_and_still_drains(serve):
    """SIGINT to the whole group: children wait for their parent's word."""
    run = serve().ready()
    run.until(lambda: run.pids("worker") and run.pids("simulator"))
    os.killpg(run.process.pid, signal.SIGINT)

    assert run.process.wait(timeout=PATIENCE_S) == 0
    assert [event for event in run.events() if event[1] in ("stopped", "interrupted")] == [
        ["proxy-0", "stopped"],
        ["worker", "stopped"],
        ["simulator", "stopped"],
    ]


def test_a_drain_is_bounded(serve):
    """A proxy that does not end is killed when its time is over."""
    run = serve("stubborn", "drain=0.1", "patience=0.2").ready()

    assert run.stop() == 0
    assert run.said("proxy-0", "ignores")
    assert "killing what did not end in time" in run.err.read_text()


def test_a_second_signal_ends_the_waiting(serve):
    """Whoever asks twice does not wait for the drain."""
    run = serve("stubborn", "drain=60").ready()
    run.process.send_signal(signal.SIGINT)
    run.until(lambda: run.said("proxy-0", "ignores"))

    assert run.stop(signal.SIGINT) == 0


def test_a_second_start_is_refused(serve):
    """One directory, one supervisor: the second names the first and exits with 1."""
    run = serve().ready()
    second = serve()

    assert second.process.wait(timeout=PATIENCE_S) == 1
    assert f"in use by another weir serve (pid {run.process.pid})" in second.err.read_text()
    assert run.ask() == "proxy-0"


@pytest.mark.parametrize("workers", ["workers=1", "workers=2"])
def test_an_address_in_use_is_one_line(serve, workers):
    """With one proxy and with several, who share a port with each other and nobody else."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        run = serve(f"port={port}", workers)

        assert run.process.wait(timeout=PATIENCE_S) == 1
    refusals = [line for line in run.err.read_text().splitlines() if line.startswith("weir: ")]
    assert refusals == [
        f"weir: cannot listen on 127.0.0.1:{port}: Address already in use. Another port: --port N"
    ]
    assert "Traceback" not in run.err.read_text()


def test_a_child_that_cannot_live_ends_it_all(serve):
    """Five quick deaths in a row: exit 1 and everything else is stopped."""
    run = serve("dying")

    assert run.process.wait(timeout=PATIENCE_S) == 1
    assert len(run.said("proxy-0", "died")) == 5
    assert run.said("worker", "stopped")
    assert run.out.read_text() == ""


def test_a_worker_that_cannot_live_ends_nothing(serve):
    """From the first start on: requests are answered, it is tried again, and one line says so."""
    run = serve("dying-worker").ready()
    run.until(lambda: len(run.said("worker", "died")) >= 7)

    assert run.ask() == "proxy-0"
    assert run.err.read_text().count("child_does_not_stay_alive") == 1
    assert run.err.read_text().count("child ended") == 5
    assert run.stop() == 0


def test_a_proxy_that_is_killed_again_and_again_ends_nothing(serve):
    """Six quick deaths after it had served: the other goes on, and it comes back itself."""
    run = serve("workers=2").ready()
    run.until(lambda: run.pids("proxy-1"))
    for deaths in range(1, 7):
        os.kill(run.pids("proxy-1")[-1], signal.SIGKILL)
        run.until(lambda deaths=deaths: len(run.pids("proxy-1")) == deaths + 1)

    run.until(lambda: run.ask() == "proxy-1")
    assert len(run.pids("proxy-0")) == 1
    assert run.err.read_text().count("child_does_not_stay_alive") <= 1
    assert run.stop() == 0


def test_a_stuck_proxy_is_killed_and_started_again(serve):
    """One that stands still answers nobody; one that merely waits for connections is left alone."""
    run = serve("workers=2", "stuck=2.5").ready()
    run.until(lambda: run.pids("proxy-1"))
    os.kill(run.pids("proxy-1")[0], signal.SIGSTOP)
    run.until(lambda: len(run.pids("proxy-1")) == 2)

    [said] = [line for line in run.err.read_text().splitlines() if "child_stuck" in line]
    assert '"child":"proxy-1"' in said
    assert len(run.pids("proxy-0")) == 1
    run.until(lambda: run.ask() == "proxy-1")
    assert run.stop() == 0


def test_a_pause_of_the_whole_machine_kills_nobody(serve):
    """All stand still and go on, as after a suspend: nobody was waited for meanwhile."""
    run = serve("workers=2", "stuck=2.5").ready()
    run.until(lambda: run.pids("proxy-1"))
    os.killpg(run.process.pid, signal.SIGSTOP)
    time.sleep(3.5)
    run.process.send_signal(signal.SIGCONT)  # the parent first: it sees old beats after a long time
    time.sleep(0.2)
    os.killpg(run.process.pid, signal.SIGCONT)

    run.until(lambda: run.ask() == "proxy-1")
    assert "child_stuck" not in run.err.read_text()
    assert len(run.pids("proxy-0")) == len(run.pids("proxy-1")) == 1
    assert run.stop() == 0


def test_a_minted_key_opens_nothing_from_elsewhere(serve):
    """Listening on more than loopback, the demo key is neither made nor accepted."""
    run = serve("host=0.0.0.0").ready()

    assert not (run.data_dir / "keys").exists()
    assert run.said("proxy-0", "keys") == [[]]
    assert "switched off" in run.out.read_text()
    assert "minted keys are not accepted" in run.err.read_text()


def test_children_die_with_their_parent(serve):
    """kill -9 of the supervisor: children finish by themselves, and the next start waits for it."""
    run = serve().ready()
    run.until(lambda: run.pids("worker") and run.pids("simulator"))
    run.process.kill()
    run.process.wait()

    second = serve().ready()
    assert {event[0] for event in run.events() if event[1] == "stopped"} == {
        "proxy-0",
        "worker",
        "simulator",
    }
    assert second.ask() == "proxy-0"


def test_redis_outlives_a_crash_and_is_adopted(serve):
    """kill -9 of the supervisor leaves Redis, and its data, to the next start."""
    run = serve("redis").ready()
    command(socket_path(run.data_dir), "SET", "held", "1")
    run.process.kill()
    run.process.wait()
    second = serve("redis").ready()

    assert command(socket_path(run.data_dir), "GET", "held") == "1"
    assert '"adopted":true' in second.err.read_text()
    assert second.stop() == 0


def test_redis_is_started_again(serve):
    """The embedded server dies: within seconds it answers again, with its data."""
    run = serve("redis").ready()
    path = socket_path(run.data_dir)
    pid = int(re.search(r"process_id:(\d+)", command(path, "INFO", "server"))[1])
    os.kill(pid, signal.SIGKILL)

    def answers():
        with contextlib.suppress(OSError, ValueError):
            return command(path, "PING") == "PONG"
        return False

    run.until(answers)
    assert "the embedded Redis ended" in run.err.read_text()
    assert run.stop() == 0


def test_several_proxies_share_the_port(serve):
    """Every one of them answers, each on a socket of its own."""
    run = serve("workers=2").ready()
    run.until(lambda: run.pids("proxy-1"))

    run.until(lambda: run.ask() == "proxy-1")
    run.until(lambda: run.ask() == "proxy-0")


def test_ipv6(serve):
    """An IPv6 address is listened on, and written in brackets."""
    run = serve("host=::1").ready()

    assert "http://[::1]:" in run.out.read_text()
    assert run.ask() == "proxy-0"


def test_sighup_without_a_file_changes_nothing(serve):
    """Settings that came from no file are not read again, and children go on as they are."""
    run = serve().ready()
    os.killpg(run.process.pid, signal.SIGHUP)
    run.until(lambda: "configuration_not_reloaded" in run.err.read_text())

    assert run.ask() == "proxy-0"
    assert run.stop() == 0


def test_without_a_worker_and_a_console(serve):
    """--no-worker and --no-console leave these to others, whatever the file says."""
    run = serve("no-worker", "no-console").ready()

    assert run.pids("worker") == []
    assert json.loads((run.data_dir / "serve.json").read_text())["admin"] is None
    assert run.stop() == 0
