"""What a process opens, seen from outside: a real `weir serve`, its start and its worker."""

from __future__ import annotations

import os
import shutil
import signal
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

FIRST_ANSWER_S = 2.0
"""What is promised of a warm installation: from the start to the first answer."""


def ask(weir: Weir) -> int:
    """One completion; the status of the answer, an HTTPError when it is a refusal."""
    body = {"model": "demo", "messages": [{"role": "user", "content": "Hi!"}]}
    request = urllib.request.Request(
        f"{weir.url}/v1/chat/completions",
        data=orjson.dumps(body),
        headers={"Authorization": f"Bearer {weir.key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        answer.read()
        return int(answer.status)


def log_of(folder: Path) -> list[dict[str, object]]:
    """What `weir serve` logged in this folder."""
    return [orjson.loads(line) for line in (folder / "serve.log").read_text().splitlines()]


def test_the_first_answer_comes_within_two_seconds(tmp_path: Path) -> None:
    """Fresh or not, the banner is followed by an answer, in time; the best of three starts."""
    need("redis-server")
    took_s: dict[str, list[float]] = {"fresh": [], "again": []}
    for folder in (tmp_path / "a", tmp_path / "b", tmp_path / "c"):
        folder.mkdir()
        for times in took_s.values():
            started_s = time.monotonic()
            with serving(folder, settles=False) as weir:
                assert ask(weir) == 200
                times.append(time.monotonic() - started_s)

    assert {name for name, times in took_s.items() if min(times) > FIRST_ANSWER_S} == set(), took_s


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
