"""Identifiers: UUIDv7 for exchanges and events, and the rule for ids that enter a Redis key.

Pure: the clock and the random bits are arguments. UUIDv7 is RFC 9562 section 5.7.
"""

from __future__ import annotations

import hashlib
import re

ID_PATTERN = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,64}")
"""What a tenant, project, key or feature id may look like: it becomes part of a Redis key, so it
holds no colon, no slash and no brace, and is never empty (an empty hash tag moves the key). It
names files and stands in URLs, too, so it is none of the two names that every directory has."""


_UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
"""The digit with its upper two bits set to 10."""


def uuid7(now_ms: int, random: bytes) -> str:
    """A UUIDv7 as 36 characters from Unix milliseconds and ten random bytes."""
    time, bits = f"{now_ms & 0xFFFF_FFFF_FFFF:012x}", random[:10].hex()
    return f"{time[:8]}-{time[8:]}-7{bits[1:4]}-{_VARIANT[bits[4]]}{bits[5:8]}-{bits[8:]}"


def derived_id(text: str, purpose: str) -> str:
    """A UUIDv7 made from another and what it is for: the same two give the same one, always."""
    digest = hashlib.sha256(f"{purpose}:{text}".encode()).digest()
    return uuid7(uuid7_ms(text), digest)


def uuid7_ms(text: str) -> int:
    """The milliseconds inside a UUIDv7; ValueError when it is none."""
    if _UUID7.fullmatch(text) is None:
        raise ValueError(f"{text} is not a UUIDv7")
    return int(text[:8] + text[9:13], 16)


def is_id(text: str) -> bool:
    """Whether `text` may name a tenant, project, key or feature."""
    return ID_PATTERN.fullmatch(text) is not None


def scope_id(text: str) -> str:
    """The id of a scope that is named by any text, as a user is: the text itself where it is an
    id, else `h.` and 40 hexadecimal digits of its SHA-256."""
    data = text.encode("utf-8", "surrogatepass")
    return text if is_id(text) else f"h.{hashlib.sha256(data).hexdigest()[:40]}"
