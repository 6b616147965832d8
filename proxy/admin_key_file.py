"""The first admin key, which `serve` makes itself so that the console can be used at once.

Rules: only where the file configures none and only this machine can reach the console. It lies in
`data_dir/admin_key`, mode 0600, is never printed, and a file that exists wins.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from proxy import demo_keys, sockets
from proxy.api_keys import key_sha256, new_admin_key
from proxy.config_admin import MINTED_ID
from proxy.settings import AdminKey, Settings

_FORM = re.compile(r"weir_admin_[0-9A-Za-z]{12}_[0-9A-Za-z]{43}")


def admin_key_path(data_dir: Path) -> Path:
    """Where it lies."""
    return data_dir / "admin_key"


def is_minted(settings: Settings) -> bool:
    """Whether the key of the file is one of those that may use the console."""
    return any(key.id == MINTED_ID for key in settings.admin_keys)


def with_admin_key(settings: Settings) -> Settings:
    """The settings with that key, where they want one; a KeyFileError when it cannot be had."""
    admin = settings.admin
    if admin is None or settings.admin_keys or not sockets.is_loopback(admin.host):
        return settings
    key = demo_keys.read_or_write(admin_key_path(settings.data_dir), new_admin_key, _FORM)
    minted = AdminKey(MINTED_ID, key_sha256(key), "admin")
    return dataclasses.replace(settings, admin_keys=(minted,))
