"""What a process opens, seen from outside: a real `weir serve`, its start and its worker."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import sqlite3
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import orjson
import psutil
import pytest
from fixtures_needs import need
from fixtures_weir import Weir, serving

pytestmark = [pytest.mark.timeout(60), pytest.mark.xdist_group("weir")]

SHORT_DRAIN = [sys.executable, str(Path(__file__).parent / "programs" / "short_drain.py")]

ENDLESS = """
server: {{host: 127.0.0.1, on_disconnect: {on_disconnect}}}
providers: {{simulator: {{type: simulator}}}}
models:
  demo: {{upstreams: [{{provider: simulator, model: "demo?tokens=20000&chunk_ms=20"}}]}}
pricing:
  currency: USD
  rules: [{{model: demo, input_rate: 0.000005, output_rate: 0.000015, multiplier: 2.0}}]
metering: {{spool: {spool}}}
tenants:
  - {{id: acme, name: Acme, limits: {{tenant: {{daily_cap: 10}}}}, keys: [{{id: k, mint: true}}]}}
"""

"""What is promised of a warm installation: from the start to the first answer."""


def completion(weir: Weir, *, stream: bool = False) -> urllib.request.Request:
    """What a client sends."""
    body = {
        "model": "demo",
        "messages": [{"role": "user", "content": "Hi!"}],
        "stream": stream,
        "max_tokens": 20_000 if stream else 100,
    }
    return urllib.request.Request(
        f"{weir.url}/v1/chat/completions",
        data=orjson.dumps(body),
        headers={"Authorization": f"Bearer {weir.key}", "Content-Type": "application/json"},
    )


def ask(weir: Weir) -> int:
    """One completion; the status of the answer, an HTTPError when it is a refusal."""
    with urllib.request.urlopen(completion(weir), timeout=10) as answer:
        answer.read()
        return int(answer.status)


def log_of(folder: Path) -> list[dict[str, object]]:
    """What `weir serve` logged in this folder."""
    return [orjson.loads(line) for line in (folder / "serve.log").read_text().splitlines()]


def test_the_banner_is_followed_by_an_answer(tmp_path: Path) -> None:
    """Fresh or not: whoever reads it may ask at once. (How long a start takes: `make bench`.)"""
    need("redis-server")
    for _ in ("fresh", "again"):
        with serving(tmp_path, settles=False) as weir:
            assert ask(weir) == 200


def test_the_banner_waits_for_windows_that_must_be_rebuilt(tmp_path: Path) -> None:
    """Redis lost everything and the ledger did not: the first request is served."""
    need("redis-server")
    with serving(tmp_path) as weir:
        ask(weir)
        weir.settled(1)
    shutil.rmtree(tmp_path / "data" / "redis")

    with serving(tmp_path) as weir:
        assert ask(weir) == 200
    said = [line["message"] for line in log_of(tmp_path)]
    assert said.count("windows_rebuilt") == 1
    assert "not_ready_yet" not in said


@pytest.mark.slow(30)
def test_a_worker_that_cannot_work_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    """After some seconds the banner comes all the same; the log says why nothing is served."""
    need("redis-server")
    (tmp_path / "data" / "ledger.db").mkdir(parents=True)  # no database can be opened there

    with serving(tmp_path, settles=False) as weir:
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask(weir)
        refused.value.close()
        assert refused.value.code == 503
        assert weir.process.poll() is None
    said = [line["message"] for line in log_of(tmp_path)]
    assert "not_ready_yet" in said
    assert "settlement_retries" in said
    assert "child ended" not in said


def test_without_a_worker_nobody_is_waited_for(tmp_path: Path) -> None:
    """With --no-worker the banner comes at once, even where windows are to be rebuilt."""
    need("redis-server")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ledger.db").touch()

    with serving(tmp_path, words=("--no-worker",), settles=False) as weir:
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask(weir)
        refused.value.close()
        assert refused.value.code == 503
    assert "not_ready_yet" not in [line["message"] for line in log_of(tmp_path)]


def test_a_worker_of_its_own_settles_what_serve_left(tmp_path: Path) -> None:
    """`serve --no-worker`, one request, `worker --drain`, and `weir usage` shows it."""
    need("redis-server")
    with serving(tmp_path, words=("--no-worker",), settles=False) as weir:
        ask(weir)

        done = weir.run("worker", "--drain")
        usage = weir.json("usage")

    assert (done.returncode, done.stdout) == (0, "")
    assert (usage["pending"], usage["totals"]["requests"]) == (0, 1)


def test_a_drain_beside_a_running_worker_has_a_name_of_its_own(tmp_path: Path) -> None:
    """Two workers at once never share what they were given; each start finds its name again."""
    need("redis-server")
    with serving(tmp_path) as weir:
        ask(weir)
        weir.settled(1)
        drains = [weir.run("worker", "--drain") for _ in range(2)]

    names = [orjson.loads(each.stderr.splitlines()[0])["consumer"] for each in drains]
    [served] = [line["consumer"] for line in log_of(tmp_path) if line["message"] == "settling"]
    assert [each.returncode for each in drains] == [0, 0]
    assert names == [f"{str(served).removesuffix('-w0')}-w1"] * 2


@pytest.mark.slow(30)
def test_a_drain_without_redis_gives_up(tmp_path: Path) -> None:
    """`weir worker --drain` where nobody listens: one line that says so, and 1."""
    need("redis-server")
    with serving(tmp_path) as weir:
        assert weir.stop() == 0

        started_s = time.monotonic()
        done = weir.run("worker", "--drain")

    assert done.returncode == 1
    assert time.monotonic() - started_s < 20
    [line] = [each for each in done.stderr.splitlines() if each.startswith("weir: ")]
    assert line.startswith("weir: gave up after 1")
    assert str(tmp_path / "data" / "redis.sock") in line
    assert "Traceback" not in done.stderr


def test_a_worker_that_is_killed_comes_back_under_its_name(tmp_path: Path) -> None:
    """kill -9, and the next one finds what the first had not finished."""
    need("redis-server")
    with serving(tmp_path) as weir:
        ask(weir)
        weir.settled(1)
        [worker] = [
            each.pid
            for each in psutil.Process(weir.process.pid).children()
            if each.name() == "weir-worker"
        ]
        os.kill(worker, signal.SIGKILL)
        ask(weir)
        weir.settled(2)

    names = [line["consumer"] for line in log_of(tmp_path) if line["message"] == "settling"]
    assert len(names) == 2
    assert names[0] == names[1]


def booked(data_dir: Path) -> list[tuple[str, int]]:
    """Status and output tokens of every event in the ledger."""
    with contextlib.closing(sqlite3.connect(data_dir / "ledger.db")) as ledger:
        return ledger.execute("SELECT status, q_output_text FROM usage_event").fetchall()


@pytest.mark.parametrize("on_disconnect", ["abort", "drain"])
@pytest.mark.parametrize("spool", ["outage", "always"])
def test_a_stream_that_outlives_the_drain_is_billed(
    tmp_path: Path, on_disconnect: str, spool: str
) -> None:
    """It is cut, and what was counted until then is in the ledger when the stop is over."""
    need("redis-server")
    config = tmp_path / "config.yaml"
    config.write_text(ENDLESS.format(on_disconnect=on_disconnect, spool=spool))
    with serving(tmp_path, config=config, program=SHORT_DRAIN) as weir:
        with urllib.request.urlopen(completion(weir, stream=True), timeout=10) as answer:
            for _ in range(20):
                answer.readline()
            weir.process.terminate()
            with contextlib.suppress(OSError, http.client.HTTPException):
                answer.read()
        code = weir.process.wait(20)

    [(status, tokens)] = booked(tmp_path / "data")
    assert code == 0
    assert status in {"cancelled", "truncated"}
    assert tokens >= 5
    [cut] = [line for line in log_of(tmp_path) if line["message"] == "exchanges_cut"]
    assert (cut["exchanges"], cut["unsettled"]) == (1, 0)


def test_a_second_stop_does_not_wait_and_loses_nothing(tmp_path: Path) -> None:
    """Whoever asks twice gets the end at once, and the ledger has the usage after a restart."""
    need("redis-server")
    config = tmp_path / "config.yaml"
    config.write_text(ENDLESS.format(on_disconnect="abort", spool="outage"))
    with serving(tmp_path, config=config) as weir:
        with urllib.request.urlopen(completion(weir, stream=True), timeout=10) as answer:
            for _ in range(20):
                answer.readline()
            weir.process.terminate()
            answer.readline()
            started_s = time.monotonic()
            weir.process.terminate()
            with contextlib.suppress(OSError, http.client.HTTPException):
                answer.read()
        code = weir.process.wait(20)
        took_s = time.monotonic() - started_s
    with serving(tmp_path, config=config) as weir:
        weir.settled(1)

    [(status, tokens)] = booked(tmp_path / "data")
    assert (code, status in {"cancelled", "truncated"}) == (0, True)
    assert tokens >= 5
    assert took_s < 8


def test_a_clean_stop_has_settled_everything(tmp_path: Path) -> None:
    """Requests that ended just before the stop are in the ledger after it.

    The worker is held until its stop has been asked for, so that it cannot have settled before.
    """
    need("redis-server")
    with serving(tmp_path) as weir:
        family = {each.name(): each for each in psutil.Process(weir.process.pid).children()}
        family["weir-worker"].suspend()
        for _ in range(15):
            ask(weir)
        weir.process.terminate()
        family["weir-proxy-0"].wait(20)
        time.sleep(0.2)  # by now it has been told to stop
        family["weir-worker"].resume()
        assert weir.process.wait(20) == 0

        assert weir.json("usage")["totals"]["requests"] == 15


def test_a_spool_that_cannot_be_read_ends_nothing(tmp_path: Path) -> None:
    """The disk fails a replay: it is said, and requests are served."""
    need("redis-server")
    with serving(tmp_path) as weir:
        [spool] = (weir.data_dir / "spool").iterdir()
        (spool / "000000000000-00000000000000000001.ready").mkdir()
        deadline_s = time.monotonic() + 10
        while "spool_waits" not in [line["message"] for line in log_of(tmp_path)]:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)

        assert ask(weir) == 200
        assert weir.stop() == 0

    assert "cannot_run" not in [line["message"] for line in log_of(tmp_path)]
