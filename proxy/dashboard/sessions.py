"""Sessions of the dashboard: a random cookie for an admin key, so that no page keeps the key.

Rules:
- A session is as good as its key is now: it names the key and the digest the key had, and whoever
  looks it up asks the keys of today, so a key that was revoked or replaced ends its sessions.
- Kept are digests of cookies, in `data_dir/sessions.json`, mode 0600: a restart logs nobody out, a
  logout is for good, and who reads the file can log in nowhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path

import orjson

COOKIE = "weir_session"
LIVES_S = 12 * 3600
SESSIONS_MAX = 1_000
"""The oldest give way."""
_FILE = "sessions.json"


@dataclass(frozen=True, slots=True)
class Session:
    """Which key it stands for, by its id and digest, and until when, Unix seconds."""

    key_id: str
    key_sha256: str
    until_s: int


@dataclass(slots=True)
class Sessions:
    """The sessions of one console, kept in a file."""

    data_dir: Path
    _known: dict[str, Session] = field(default_factory=dict)

    @classmethod
    def opened(cls, data_dir: Path, *, now_s: int) -> Sessions:
        """Those of before that are not over; a file that cannot be read logs everybody out."""
        sessions = cls(data_dir)
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
            raw = orjson.loads((data_dir / _FILE).read_bytes())
            sessions._known = {name: Session(**each) for name, each in raw.items()}
        sessions._drop(now_s)
        return sessions

    def begin(self, key_id: str, key_sha256: str, *, now_s: int) -> str:
        """A new session; the text of its cookie, which is kept nowhere."""
        self._drop(now_s)
        while len(self._known) >= SESSIONS_MAX:
            del self._known[next(iter(self._known))]
        cookie = secrets.token_urlsafe(32)
        self._known[_digest(cookie)] = Session(key_id, key_sha256, now_s + LIVES_S)
        self._write()
        return cookie

    def find(self, cookie: str, *, now_s: int) -> Session | None:
        """The session of a cookie, unless it is over."""
        found = self._known.get(_digest(cookie))
        return found if found is not None and found.until_s > now_s else None

    def end(self, cookie: str) -> None:
        """Log out."""
        if self._known.pop(_digest(cookie), None) is not None:
            self._write()

    def _drop(self, now_s: int) -> None:
        self._known = {name: each for name, each in self._known.items() if each.until_s > now_s}

    def _write(self) -> None:
        path = self.data_dir / _FILE
        unfinished = path.with_name(f"{_FILE}.{os.getpid()}.tmp")
        unfinished.unlink(missing_ok=True)
        body = orjson.dumps({name: asdict(each) for name, each in self._known.items()})
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(body)
        unfinished.replace(path)


def _digest(cookie: str) -> str:
    return hashlib.sha256(cookie.encode()).hexdigest()
