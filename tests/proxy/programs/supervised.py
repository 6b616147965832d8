"""A `weir serve` with children of a few lines: the program that test_supervisor starts.

Usage: supervised.py DATA_DIR [OPTION...], options being words that change what the children do.
Every child writes what happens to it as a line into DATA_DIR/events.
"""

import dataclasses
import os
import signal
import sys
import time
from pathlib import Path

from metering.prices import PriceBook
from metering.tenants import SpendLimits, Tenant
from proxy import supervisor
from proxy.config_registry import NOBODY
from proxy.settings import (
    AdminPort,
    Metering,
    MintedKey,
    Provider,
    RedisSettings,
    Secret,
    Server,
    Settings,
)

DATA_DIR = Path(sys.argv[1])
OPTIONS = sys.argv[2:]


def note(*words):
    with (DATA_DIR / "events").open("a") as file:
        file.write(" ".join(map(str, words)) + "\n")


def until_terminated(name):
    def leave(*_):
        if "stubborn" in OPTIONS and name == "proxy-0":
            note(name, "ignores SIGTERM")
            return
        time.sleep(0.05)  # finishes what it has begun
        note(name, "stopped")
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, leave)
    # As a program would that also runs alone: nobody must hear of it here.
    signal.signal(signal.SIGINT, lambda *_: note(name, "interrupted"))
    note(name, "started", os.getpid())


def run_proxy(process):
    name = f"proxy-{process.index}"
    if "dying" in OPTIONS:
        note(name, "died")
        return 3
    until_terminated(name)
    note(name, "id", process.proxy_id)
    provider = process.settings.providers["sim"]
    note(name, "sees", provider.base_url, process.settings.redis.url.reveal())
    note(name, "keys", *(key.sha256 for key in process.settings.tenants["demo"].keys))
    process.report_ready()
    process.sockets[0].settimeout(0.1)
    while True:
        process.pulse.beat()
        try:
            connection, _ = process.sockets[0].accept()
        except TimeoutError:
            continue
        connection.sendall(name.encode())
        connection.close()


def run_worker(settings, board, line):
    if "dying-worker" in OPTIONS:
        note("worker", "died")
        return 3
    until_terminated("worker")
    while True:
        signal.pause()


def run_simulator(sock):
    until_terminated("simulator")
    while True:
        signal.pause()


@dataclasses.dataclass
class Loaded:
    settings: Settings
    warnings: tuple = ("a warning from the file",)
    sha256: str = ""
    told: None = None
    text: str = ""
    registry: object = NOBODY


def option(name, default):
    return next((word.partition("=")[2] for word in OPTIONS if word.startswith(name)), default)


SETTINGS = Settings(
    source=None,
    server=Server(host=option("host=", "127.0.0.1"), port=int(option("port=", "0"))),
    data_dir=DATA_DIR,
    # A URL of their own keeps most tests from starting a Redis.
    redis=RedisSettings(url=None if "redis" in OPTIONS else Secret("redis://elsewhere")),
    ledger_url="sqlite://",
    providers={"sim": Provider(name="sim", type="simulator", base_url="")},
    models={},
    prices=PriceBook(),
    tenants={"demo": Tenant(id="demo", name="Demo", limits=SpendLimits())},
    metering=Metering(),
    minted_keys=(MintedKey("demo", "first", "default"),),
    admin=AdminPort(port=0) if "no-console" in OPTIONS else None,
)

if __name__ == "__main__":
    supervisor.PATIENCE_S = float(option("patience=", "10"))
    supervisor.STUCK_S = float(option("stuck=", "15"))
    sys.exit(
        supervisor.serve(
            Loaded(SETTINGS),
            workers=int(option("workers=", "1")),
            with_worker="no-worker" not in OPTIONS,
            with_console="no-console" not in OPTIONS,
            run_proxy=run_proxy,
            run_worker=run_worker,
            run_simulator=run_simulator,
            drain_s=float(option("drain=", "10")),
        )
    )
