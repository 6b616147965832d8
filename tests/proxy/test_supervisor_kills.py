"""Processes that die, hang and stop under load: a real `weir serve`, seen from outside."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import orjson
import psutil
import pytest
from fixtures_needs import need
from fixtures_weir import Weir, serving

from proxy.embedded_redis import command, socket_path

pytestmark = [pytest.mark.timeout(60), pytest.mark.xdist_group("weir")]

CONFIG = """
server: {{host: 127.0.0.1, workers: 2, metrics_port: {port}}}
providers:
  simulator: {{type: simulator}}
  dead: {{type: openai, base_url: "{dead}", api_key: x}}
models:
  demo: {{upstreams: [{{provider: simulator, model: demo-mini}}]}}
  slow: {{upstreams: [{{provider: simulator, model: "demo?tokens=400&chunk_ms=10"}}]}}
  shaky: {{upstreams: [{{provider: dead, model: m}}, {{provider: simulator, model: demo-mini}}]}}
pricing:
  currency: USD
  rules: [{{model: "*", input_rate: 0.000005, output_rate: 0.000015}}]
tenants:
  - {{id: acme, name: Acme, limits: {{tenant: {{daily_cap: 100}}}}, keys: [{{id: k, mint: true}}]}}
"""
PATIENCE_S = 20.0

_T = TypeVar("_T")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(holds: Callable[[], _T]) -> _T:
    """Wait for a fact; whatever it returns when true."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := holds()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


class Site:
    """A `weir serve` with two proxies and a metrics port."""

    def __init__(self, weir: Weir, metrics: str) -> None:
        self.weir = weir
        self.metrics = metrics

    def ask(self, model: str = "demo", *, stream: bool = False) -> http.client.HTTPResponse:
        body = {"model": model, "messages": [{"role": "user", "content": "Hi!"}], "stream": stream}
        request = urllib.request.Request(
            f"{self.weir.url}/v1/chat/completions",
            data=orjson.dumps(body),
            headers={"Authorization": f"Bearer {self.weir.key}"},
        )
        answer = urllib.request.urlopen(request, timeout=10)
        assert isinstance(answer, http.client.HTTPResponse)
        return answer

    def standing(self, path: str = "readyz") -> tuple[int, dict[str, Any]]:
        """Status and body of a page of the metrics port; 0 while it does not answer."""
        try:
            with urllib.request.urlopen(f"{self.metrics}/{path}", timeout=5) as answer:
                return int(answer.status), orjson.loads(answer.read())
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, orjson.loads(refusal.read())
        except OSError:
            return 0, {}

    def pid(self, child: str) -> int | None:
        """Of a child that is running."""
        children = self.standing()[1].get("processes", {}).get("supervisor", {})
        return children.get("children", {}).get(child)

    def metric(self, name: str) -> float:
        """The sum of a metric's series."""
        with urllib.request.urlopen(f"{self.metrics}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        return sum(float(n) for n in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))

    def redis_pid(self) -> int:
        answer = command(socket_path(self.weir.data_dir), "INFO", "server")
        found = re.search(r"process_id:(\d+)", str(answer))
        assert found is not None
        return int(found[1])


@contextlib.contextmanager
def site(folder: Path) -> Iterator[Site]:
    need("redis-server")
    port = free_port()
    config = folder / "config.yaml"
    config.write_text(CONFIG.format(port=port, dead=f"http://127.0.0.1:{free_port()}/v1"))
    with serving(folder, config=config) as weir:
        running = Site(weir, f"http://127.0.0.1:{port}")
        until(lambda: running.standing("healthz")[0] == 200)
        yield running


class Load:
    """Clients that go on asking; whole answers are counted, what breaks is asked again."""

    def __init__(self, site: Site, clients: int = 3) -> None:
        self._site = site
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]
        self.served = 0
        self._lock = threading.Lock()

    def _ask(self) -> None:
        while not self._stop.is_set():
            try:
                with self._site.ask(stream=True) as answer:
                    is_whole = answer.read().endswith(b"data: [DONE]\n\n")
            except (OSError, http.client.HTTPException):
                time.sleep(0.02)
                continue
            with self._lock:
                self.served += is_whole

    def more(self) -> None:
        """Wait until some more answers have come whole."""
        wanted = self.served + 5
        until(lambda: self.served >= wanted)

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


@pytest.mark.slow(60)
def test_whoever_is_killed_the_others_go_on(tmp_path: Path) -> None:
    """kill -9 of every kind of child and of Redis, under load: it comes back, answers go on, the
    counters do not fall, and every whole answer is in the ledger."""
    with site(tmp_path) as running:
        with Load(running) as load:
            load.more()
            time.sleep(1.1)  # a report
            before = running.metric("weir_requests_total")
            for child in ("proxy-0", "metrics", "worker", "proxy-1"):
                pid = running.pid(child)
                assert pid is not None
                os.kill(pid, signal.SIGKILL)
                until(lambda pid=pid, child=child: running.pid(child) not in {None, pid})
                load.more()
            os.kill(running.redis_pid(), signal.SIGKILL)
            until(lambda: running.metric("weir_redis_generations_total") == 2)  # both proxies saw
            until(lambda: running.metric("weir_ready") == 2)
            load.more()
            assert running.metric("weir_requests_total") >= before > 0
        assert running.metric("weir_child_restarts_total") == 4
        usage = running.weir.settled(load.served)
        assert usage["totals"]["requests"] >= load.served
        assert running.weir.stop() == 0


@pytest.mark.slow(60)
def test_f27_all_killed_at_once_and_started_again(tmp_path: Path) -> None:
    """Supervisor, children and Redis die in one moment under load: the next start serves within
    ten seconds, and nothing that a client saw whole is missing."""
    with site(tmp_path) as running, Load(running) as load:
        load.more()
        tree = psutil.Process(running.weir.process.pid)
        doomed = [*tree.children(recursive=True), psutil.Process(running.redis_pid()), tree]
        for process in doomed:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(doomed, timeout=5)
    started_s = time.monotonic()

    with site(tmp_path) as running:
        with running.ask() as answer:
            assert answer.status == 200
        assert time.monotonic() - started_s < 10
        running.weir.settled(load.served + 1)
        assert running.weir.stop() == 0


@pytest.mark.slow(40)
def test_a_killed_supervisor_takes_no_stream_with_it(tmp_path: Path) -> None:
    """kill -9 of the supervisor alone: its children end by themselves, the open stream whole, and
    the next start adopts the Redis and has every exchange."""
    with site(tmp_path) as running:
        tree = psutil.Process(running.weir.process.pid).children(recursive=True)
        redis_pid = running.redis_pid()
        children = [each for each in tree if each.pid != redis_pid]
        assert len(children) == 5  # two proxies, worker, simulator, metrics
        with running.ask("demo") as answer:
            answer.read()
        with running.ask("slow", stream=True) as stream:
            stream.readline()
            os.kill(running.weir.process.pid, signal.SIGKILL)
            # the simulator ends with the others, so the stream may be cut; then it says so
            rest = stream.read()
        assert rest.endswith(b"data: [DONE]\n\n") or b'"error"' in rest
        assert psutil.wait_procs(children, timeout=PATIENCE_S)[1] == []
        assert psutil.pid_exists(redis_pid)

    with site(tmp_path) as running:
        assert running.redis_pid() == redis_pid
        running.weir.settled(2)
        assert running.weir.stop() == 0
    with pytest.raises(OSError):  # noqa: PT011 - refused or gone: nobody answers
        command(socket_path(running.weir.data_dir), "PING")


@pytest.mark.slow(40)
def test_a_stuck_proxy_is_named_and_then_replaced(tmp_path: Path) -> None:
    """A proxy that hangs: the metrics port answers, names it, is ready thanks to the other, and
    within 18 seconds another one stands in its place."""
    with site(tmp_path) as running:
        pid = running.pid("proxy-1")
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        _, said = until(lambda: found if (found := running.standing("healthz"))[0] == 503 else None)
        assert said["not_reporting"] == ["proxy-1"]
        assert running.standing()[0] == 200
        assert running.metric("weir_process_report_age_seconds") > 5
        until(lambda: running.pid("proxy-1") not in {None, pid})
        until(lambda: running.standing("healthz")[0] == 200)
        assert running.metric("weir_child_stuck_total") == 1
        assert running.metric("weir_child_restarts_total") == 1
        assert "child_stuck" in (tmp_path / "serve.log").read_text()


def test_f02_readiness_ends_with_the_stop_and_streams_do_not(tmp_path: Path) -> None:
    """SIGTERM under an open stream: not ready at once, nobody is let in, the stream ends whole."""
    with site(tmp_path) as running, running.ask("slow", stream=True) as stream:
        stream.readline()
        running.weir.process.send_signal(signal.SIGTERM)
        asked_s = time.monotonic()
        _, said = until(lambda: found if (found := running.standing())[0] == 503 else None)
        assert said["status"] == "draining"
        assert time.monotonic() - asked_s < 1.0
        until(lambda: not _lets_in(running.weir.url))
        rest = stream.read()

        assert running.weir.process.poll() is None
        assert rest.endswith(b"data: [DONE]\n\n")
        assert running.weir.process.wait(PATIENCE_S) == 0


@pytest.mark.slow(40)
def test_f02_a_stop_does_not_wait_for_a_redis_that_stands_still(tmp_path: Path) -> None:
    """SIGTERM under an open stream while Redis is stopped: the stream ends whole, all processes are
    gone soon after, and the next start has everything."""
    with site(tmp_path) as running:
        with running.ask() as answer:
            answer.read()
        running.weir.settled(1)
        redis_pid = running.redis_pid()
        with running.ask("slow", stream=True) as stream:
            stream.readline()
            os.kill(redis_pid, signal.SIGSTOP)
            running.weir.process.send_signal(signal.SIGTERM)
            rest = stream.read()
        ended_s = time.monotonic()
        assert running.weir.process.wait(PATIENCE_S) == 0
        assert time.monotonic() - ended_s < 12  # 2 s for the worker, 3 s for Redis, and a machine
        assert rest.endswith(b"data: [DONE]\n\n")
        assert "stop_leaves_events" in (tmp_path / "serve.log").read_text()
        os.kill(redis_pid, signal.SIGCONT)
        until(lambda: not psutil.pid_exists(redis_pid))

    with site(tmp_path) as running:
        assert running.weir.settled(2)["totals"]["requests"] == 2
        assert running.weir.stop() == 0


def _lets_in(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_breakers_are_shared(tmp_path: Path) -> None:
    """Nine failures are five at one proxy and too few at the other, which passes it over too."""
    with site(tmp_path) as running:
        for _ in range(9):
            with running.ask("shaky") as answer:
                assert answer.status == 200

        def states() -> list[str | None]:
            found = running.standing()[1]["processes"]
            return [found[f"proxy-{at}"]["upstreams"].get("dead/m") for at in range(2)]

        until(lambda: states() == ["open", "open"])
        assert running.metric("weir_upstream_open") == 2
