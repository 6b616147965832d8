"""Real Redis Clusters and Sentinels for tests: every server a process of its own on a free port."""

from __future__ import annotations

import contextlib
import itertools
import random
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fixtures_needs import need
from redis import Redis
from redis.exceptions import RedisError

from metering.redis_slots import SLOTS, slot_of

HOST = "127.0.0.1"
NODE_TIMEOUT_MS = 500
DOWN_AFTER_MS = 300
MASTER = "weir-master"
READY_S = 15.0


@dataclass
class Node:
    """A redis-server, or a Sentinel, on a port."""

    command: list[str]
    process: subprocess.Popen[bytes]
    port: int

    def restart(self) -> None:
        """Once more, after a kill; what it had in memory is gone."""
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL)

    def ask(self, *words: Any) -> Any:
        """One command on a connection of its own; texts are decoded."""
        with Redis(HOST, self.port, decode_responses=True, socket_timeout=5) as client:
            return client.execute_command(*words)

    @property
    def id(self) -> str:
        return str(self.ask("CLUSTER", "MYID"))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@dataclass
class Cluster:
    """Masters that have all slots among them, and replicas of the first ones."""

    masters: list[Node]
    replicas: list[Node]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"{HOST}:{node.port}" for node in self.masters)

    def owner(self, key: str) -> Node:
        """The master that has a key, as the first living node knows it."""
        slot = slot_of(key)
        alive = next(node for node in self.masters if node.process.poll() is None)
        for first, last, master, *_ in alive.ask("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(n for n in (*self.masters, *self.replicas) if n.port == master[1])
        raise AssertionError(f"slot {slot} has no master")


@dataclass
class Watched:
    """A master with a replica, and three Sentinels that watch it."""

    servers: list[Node]
    sentinels: list[Node]

    @property
    def url(self) -> str:
        places = ",".join(f"{HOST}:{node.port}" for node in self.sentinels)
        return f"redis+sentinel://{places}/{MASTER}"

    def master(self) -> Node:
        """The one that the first living Sentinel names."""
        alive = next(node for node in self.sentinels if node.process.poll() is None)
        _, port = alive.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER)
        return next(node for node in self.servers if node.port == int(port))


def until(holds: Callable[[], Any], *, within_s: float = READY_S) -> None:
    """Wait until it holds; a server that does not answer yet counts as no."""
    deadline = time.monotonic() + within_s
    while True:
        with contextlib.suppress(RedisError):
            if holds():
                return
        assert time.monotonic() < deadline, "it did not come to hold"
        time.sleep(0.02)


def free_port() -> int:
    """A port that is free together with the one of the cluster's bus, 10,000 above it."""
    while True:
        port = random.randrange(12_000, 32_000)
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for each in (port, port + 10_000):
                stack.enter_context(socket.socket()).bind((HOST, each))
            return port


@contextlib.contextmanager
def nodes() -> Iterator[Callable[..., Node]]:
    """Starts servers in a folder of their own; what was started is killed at the end."""
    binary = need("redis-server")
    started: list[Node] = []
    with tempfile.TemporaryDirectory(prefix="weir-") as folder:

        def start(*words: str, text: str | None = None) -> Node:
            port = free_port()
            if text is not None:  # a Sentinel keeps what it learns in its file
                path = Path(folder) / f"{port}.conf"
                path.write_text(text)
                words = (str(path), "--sentinel", *words)
            else:
                words = (*words, "--save", "", "--repl-diskless-sync-delay", "0")
            command = [str(binary), *words, "--port", str(port), "--bind", HOST, "--dir", folder]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            started.append(Node(command, process, port))
            return started[-1]

        try:
            yield start
        finally:
            for node in started:
                node.resume()
                node.kill()


@contextlib.contextmanager
def clustered(*, replicas: int = 0, **settings: str) -> Iterator[Cluster]:
    """Three masters with a third of the slots each; `settings` as redis.conf has them."""
    with nodes() as start:
        settings = {"cluster_node_timeout": str(NODE_TIMEOUT_MS), **settings}
        common = ["--cluster-enabled", "yes", *_words(settings)]
        made = [
            start(*common, "--cluster-config-file", f"nodes-{number}.conf")
            for number in range(3 + replicas)
        ]
        for node in made:
            until(lambda node=node: node.ask("PING"))
        cluster = Cluster(made[:3], made[3:])
        bounds = [0, SLOTS // 3, 2 * SLOTS // 3, SLOTS]
        for number, node in enumerate(made):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number < 3:
                node.ask("CLUSTER", "ADDSLOTS", *range(bounds[number], bounds[number + 1]))
            if number > 0:
                node.ask("CLUSTER", "MEET", HOST, made[0].port)
        for node in made:
            until(lambda node=node: _knows_all(node, len(made)))
        for replica, master in zip(cluster.replicas, itertools.cycle(cluster.masters)):
            replica.ask("CLUSTER", "REPLICATE", master.id)
            until(lambda node=replica: _follows(node))
        for node in made:
            until(lambda node=node: "cluster_state:ok" in node.ask("CLUSTER", "INFO"))
        yield cluster


@contextlib.contextmanager
def watched(**settings: str) -> Iterator[Watched]:
    """A master and its replica under three Sentinels; `settings` as redis.conf has them."""
    with nodes() as start:
        words = _words(settings)
        master = start(*words)
        until(lambda: master.ask("PING"))
        replica = start(*words, "--replicaof", HOST, str(master.port))
        until(lambda: _follows(replica))
        text = (
            f"sentinel monitor {MASTER} {HOST} {master.port} 2\n"
            f"sentinel down-after-milliseconds {MASTER} {DOWN_AFTER_MS}\n"
            f"sentinel failover-timeout {MASTER} 3000\n"
        )
        sentinels = [start(text=text) for _ in range(3)]
        for node in sentinels:
            until(lambda node=node: _sees(node, replicas=1, others=2))
        yield Watched([master, replica], sentinels)


def _words(settings: dict[str, str]) -> list[str]:
    return [w for name, value in settings.items() for w in (f"--{name.replace('_', '-')}", value)]


def _follows(replica: Node) -> bool:
    return bool(replica.ask("INFO", "replication").get("master_link_status") == "up")


def _knows_all(node: Node, count: int) -> bool:
    known = str(node.ask("CLUSTER", "NODES"))
    return len(known.splitlines()) == count and "handshake" not in known


def _sees(sentinel: Node, *, replicas: int, others: int) -> bool:
    facts = sentinel.ask("SENTINEL", "MASTER", MASTER)
    return int(facts["num-slaves"]) >= replicas and int(facts["num-other-sentinels"]) >= others


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[Cluster]:
    """Three masters, shared by the tests that do not break it."""
    with clustered() as cluster:
        yield cluster


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    """Three masters, the first with a replica, to be broken."""
    with clustered(replicas=1) as cluster:
        yield cluster


@pytest.fixture
def own_watched() -> Iterator[Watched]:
    """A master, a replica and three Sentinels, to be broken."""
    with watched() as servers:
        yield servers
