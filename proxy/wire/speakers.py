"""Names of those who speak in a chat (`name` of a message), for formats that have no place for it.

A name tells apart who speaks in one role. Where all who do have the same name, or only some have
one, it may be left out; where two differ, the model would take them for one.
"""

from __future__ import annotations

from collections.abc import Mapping

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
"""Roles that speak, by the side they are on. The name of a tool is that of a function."""


def mixed_speaker(messages: object) -> str | None:
    """The path of the first name that differs from one before it in the same role."""
    seen: dict[str, str] = {}
    for at, message in enumerate(messages if isinstance(messages, list) else ()):
        if not isinstance(message, Mapping):
            continue
        role, name = message.get("role"), message.get("name")
        side = _ROLES.get(role) if isinstance(role, str) else None
        if side is None or not isinstance(name, str) or not name:
            continue
        if seen.setdefault(side, name) != name:
            return f"messages[{at}].name"
    return None
