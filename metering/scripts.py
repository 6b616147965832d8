"""The Lua scripts as values, and the small seam behind which Redis runs them.

`ScriptRunner` is what the caps need of Redis: one server (`redis_link`), and whatever follows a
cluster or a sentinel. A script's keys share one slot, so a runner may route by the first of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Protocol

FLAGS_SINCE = (7, 0)
"""The first version that reads `#!lua flags=...`; older ones refuse to compile the line."""

_SHARED = {
    "reserve": ("scopes", "holding", "admission"),
    "swap": ("scopes", "holding", "admission"),
    "commit": ("scopes", "spending"),
    "release": ("scopes", "spending"),
    "recover": ("scopes", "spending"),
    "renew": ("scopes", "holding"),
    "put_aside": (),
    "claim": (),
    "keep_claims": (),
    "look_owned": (),
    "note_owned": (),
    "forget_owned": (),
    "look_notes": (),
    "swap_note": (),
    "peek": (),
    "find_reply": (),
    "keep_reply": (),
    "claim_request": (),
    "hold_claim": (),
    "tell_history": (),
    "lease": (),
}


@dataclass(frozen=True, slots=True)
class ScriptBody:
    """One text as the server gets it, and the SHA-1 that Redis calls it by."""

    text: str
    sha: str


@dataclass(frozen=True, slots=True)
class Script:
    """A script with and without the line of flags."""

    name: str
    flagged: ScriptBody
    plain: ScriptBody

    def body(self, version: tuple[int, int]) -> ScriptBody:
        """The text for a server of this version."""
        return self.flagged if version >= FLAGS_SINCE else self.plain


class ScriptRunner(Protocol):
    """One Redis, of however many servers; CapsUnavailableError when it cannot be asked."""

    @property
    def generation(self) -> int:
        """Grows whenever a server behind this one was started anew or replaced by another.

        What was acknowledged shortly before may be lost then: whoever has a copy sends it again.
        """
        ...

    async def call(self, *args: str | bytes | int) -> Any:
        """Run one command; bytes, int, None or a list of these. Never retried."""
        ...

    async def call_each(self, *args: str | bytes | int) -> list[Any]:
        """Run one command on every server that holds data; the reply of each."""
        ...

    async def eval(
        self, script: Script, keys: Sequence[str], args: Sequence[str | bytes | int]
    ) -> Any:
        """Run a script; loads it where it is missing."""
        ...


@cache
def load_script(name: str) -> Script:
    """The verb of that name from package data, with what it shares put before it."""
    verb = _read(name)
    first, _, rest = verb.partition("\n")
    flags = first if first.startswith("#!") else "#!lua"
    text = "\n".join([*(_read(part) for part in _SHARED[name]), rest if flags == first else verb])
    return Script(name, flagged=_body(f"{flags}\n{text}"), plain=_body(text))


def _body(text: str) -> ScriptBody:
    return ScriptBody(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def _read(name: str) -> str:
    return files("metering").joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")
