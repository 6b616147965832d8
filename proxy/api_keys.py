"""The form of a client's key: `sk-weir-<12 characters public>-<43 characters secret>`.

A key of the admin API has the same parts: `weir_admin_<12 characters>_<43 characters>`.
The public part tells keys apart in logs and lists; the secret has 256 bits. Kept is the SHA-256
of the whole: with that much chance in it, a slow hash would protect nothing more.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string

_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
_PUBLIC_LENGTH = 12
_SECRET_LENGTH = 43


def new_key() -> str:
    """A new key; show it once and keep only `key_sha256` of it."""
    return f"sk-weir-{_letters(_PUBLIC_LENGTH)}-{_letters(_SECRET_LENGTH)}"


def new_admin_key() -> str:
    """A new key of the admin API; no client's key looks like it."""
    return f"weir_admin_{_letters(_PUBLIC_LENGTH)}_{_letters(_SECRET_LENGTH)}"


def public_id(key: str) -> str:
    """The part of a key made by `new_key` that may be shown."""
    return re.split("[-_]", key)[2]


def key_sha256(key: str) -> str:
    """What the configuration holds of a key: 64 hexadecimal digits."""
    return hashlib.sha256(key.encode()).hexdigest()


def _letters(count: int) -> str:
    return "".join(secrets.choice(_BASE62) for _ in range(count))
