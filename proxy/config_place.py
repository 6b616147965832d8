"""Where the configuration file is: quick to import, for a shell that wants words completed."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

WEIR_CONFIG = "WEIR_CONFIG"
"""The environment variable that names the file."""


class ConfigNotFound(Exception):
    """There is no configuration file; `tried` holds the paths in the order of looking."""

    def __init__(self, tried: Sequence[Path]) -> None:
        self.tried = tuple(tried)
        super().__init__("no configuration file; tried " + ", ".join(map(str, self.tried)))


def find_config(explicit: str | None, env: Mapping[str, str], cwd: Path) -> Path:
    """The file to load; ConfigNotFound names the paths tried.

    A path that was named (by --config or $WEIR_CONFIG) is the only one tried: falling back to
    another file would start with settings that nobody asked for.
    """
    named = explicit or env.get(WEIR_CONFIG)
    tried = [cwd / named] if named else [cwd / "config.yaml", *_usual_places(env)]
    for path in tried:
        with contextlib.suppress(OSError, ValueError):  # a name too long, say, is no file either
            if path.is_file():
                return path
    raise ConfigNotFound(tried)


def _usual_places(env: Mapping[str, str]) -> list[Path]:
    home = env.get("HOME")
    own = [Path(home) / ".config" / "tokenweir" / "config.yaml"] if home else []
    return [*own, Path("/etc/tokenweir/config.yaml")]
