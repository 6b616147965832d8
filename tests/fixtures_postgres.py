"""A real PostgreSQL for tests: one server per worker process, a database of its own per test.

The server listens on a unix socket at a short path only. It does not sync to disk: what a killed
server loses by that is nothing, as long as the machine itself stays up.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from fixtures_needs import need

from metering.settlement.ledger.store import open_ledger

SUPERUSER = "weir"
TEMPLATE = "weir_template"

_names = itertools.count()
_OPTIONS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "40",
    "shared_buffers": "16MB",
    "autovacuum": "off",
}


@dataclass
class PostgresServer:
    """A server that can be stopped hard and started again."""

    bin: Path
    folder: Path
    user: dict[str, object]
    """How Popen is told to run as somebody else: PostgreSQL refuses to run as root."""
    process: subprocess.Popen[bytes] | None = field(default=None)

    def url(self, database: str, user: str = SUPERUSER) -> str:
        return f"postgresql://{user}@/{database}?host={self.folder}"

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        return psycopg.connect(
            host=str(self.folder), user=SUPERUSER, dbname=database, autocommit=True
        )

    def start(self) -> None:
        options = [f"-c{name}={value}" for name, value in _OPTIONS.items()]
        command = [self.bin / "postgres", "-D", self.folder / "data", "-k", self.folder, *options]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, **self.user)  # type: ignore[call-overload]
        deadline = time.monotonic() + 8
        while True:
            try:
                self.connect().close()
            except psycopg.OperationalError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self.folder / "log").read_text()) from None
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        """`pg_ctl stop -m immediate`: no checkpoint, no goodbye; the next start recovers."""
        assert self.process is not None
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(10)

    def new_database(self, template: str = TEMPLATE) -> str:
        name = f"t{next(_names)}"
        with closing(self.connect()) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop_database(self, name: str) -> None:
        with closing(self.connect()) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """A new server with a template database that holds an empty, current ledger."""
    folder = Path(tempfile.mkdtemp(prefix="weir-pg-"))  # a socket path has at most 107 bytes
    user: dict[str, object] = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    server = PostgresServer(need("postgres").resolve().parent, folder, user)
    command = [server.bin / "initdb", "-D", folder / "data", "--no-sync", "-A", "trust"]
    command += ["-U", SUPERUSER, "-E", "UTF8", "--locale", "C"]
    try:
        made = subprocess.run(command, capture_output=True, check=False, cwd="/", **user)  # type: ignore[call-overload]
        if made.returncode:
            raise RuntimeError(made.stderr.decode())
        server.start()
        with closing(server.connect()) as connection:
            connection.execute(f"CREATE DATABASE {TEMPLATE}")
        with closing(open_ledger(server.url(TEMPLATE))) as ledger:
            ledger.migrate()
        yield server
    finally:
        if server.process is not None and server.process.poll() is None:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The server that the tests of this worker process share."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def own_postgres_server() -> Iterator[PostgresServer]:
    """A server of the test's own, to be stopped."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def empty_postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A database without a ledger."""
    name = postgres_server.new_database("template0")
    yield postgres_server.url(name)
    postgres_server.drop_database(name)


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A database with an empty ledger."""
    name = postgres_server.new_database()
    yield postgres_server.url(name)
    postgres_server.drop_database(name)
