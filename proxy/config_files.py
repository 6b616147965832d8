"""The files that make a configuration: the file itself, and those it names. Looked at, not read.

Rules:
- A look costs a `stat` for each file. Only what looks different is read, and only contents that are
  different count: touching a file changes nothing.
- A change counts once it has stood still for one look, so that half a file is not taken up.
- A file that is missing for a moment, while an editor puts the new one in its place, is no change.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from proxy.settings import Settings

LOOK_EVERY_S = 1.0

_Look = tuple[tuple[int, int, int] | None, ...]


def named_files(settings: Settings) -> tuple[Path, ...]:
    """The files whose contents count beside the configuration's own."""
    tls = settings.server.tls
    found = [] if tls is None else [tls.cert_file, tls.key_file]
    authorities = [settings.egress.ca_file, *(each.ca_file for each in settings.providers.values())]
    return tuple(dict.fromkeys([*found, *(path for path in authorities if path is not None)]))


def digest(paths: tuple[Path, ...]) -> str:
    """A hash of the contents; a file that cannot be read counts as such."""
    whole = hashlib.sha256()
    for path in paths:
        try:
            whole.update(b"+" + hashlib.sha256(path.read_bytes()).digest())
        except OSError:
            whole.update(b"-")
    return whole.hexdigest()


@dataclass(slots=True)
class ConfigFiles:
    """Looks at the files of one configuration. `taken` is what was read last, sound or faulty."""

    source: Path
    named: tuple[Path, ...]
    taken: str = ""
    taken_named: str = ""
    _before: _Look = field(default=())
    _settled: _Look = field(default=())
    _due_s: float = 0.0

    def take(self, named: tuple[Path, ...]) -> bool:
        """What lies there now is being read; whether the named files are others, or differ."""
        self.taken = digest((self.source,))
        fresh = digest(named)
        renews = (named, fresh) != (self.named, self.taken_named)
        self.named, self.taken_named = named, fresh
        return renews

    def has_changed(self, now_s: float) -> bool:
        """Whether something else lies there than was taken, and has for one look. Seldom reads."""
        if now_s < self._due_s:
            return False
        self._due_s = now_s + LOOK_EVERY_S
        seen = tuple(_look(path) for path in (self.source, *self.named))
        before, self._before = self._before, seen
        if seen[0] is None or seen != before or seen == self._settled:
            return False
        self._settled = seen
        return (digest((self.source,)), digest(self.named)) != (self.taken, self.taken_named)


def _look(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
