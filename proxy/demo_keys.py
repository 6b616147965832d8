"""Keys that `serve` mints at its first start, so that the first request needs no set-up.

Rules it keeps:
- The key is written once, to `data_dir/keys/<tenant>.<key id>`, mode 0600; a file that exists wins.
- It opens the door from this machine only. Listening elsewhere, it is neither minted nor accepted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from collections.abc import Callable
from pathlib import Path

from metering.tenants import ApiKey, Tenant
from proxy.api_keys import key_sha256, new_key
from proxy.settings import MintedKey, Secret, Settings

_KEY = re.compile(r"sk-weir-[0-9A-Za-z]{12}-[0-9A-Za-z]{43}")


class KeyFileError(Exception):
    """A key file cannot be used; the message names it and what to do."""


def key_path(data_dir: Path, tenant: str, key_id: str) -> Path:
    """Where the minted key of a tenant lies; both ids are safe as file names."""
    return data_dir / "keys" / f"{tenant}.{key_id}"


def mint(settings: Settings) -> tuple[Settings, list[Secret]]:
    """The settings with the minted keys among their tenants' keys, and the keys themselves.

    Idempotent over restarts: what an earlier start wrote is read again.
    """
    tenants = dict(settings.tenants)
    minted: list[Secret] = []
    for wanted in settings.minted_keys:
        tenant = tenants.get(wanted.tenant)
        if tenant is None:
            continue  # `config` has said so
        path = key_path(settings.data_dir, wanted.tenant, wanted.key_id)
        key = read_or_write(path, new_key, _KEY)
        minted.append(Secret(key))
        tenants[tenant.id] = _with_key(tenant, wanted, key)
    return dataclasses.replace(settings, tenants=tenants), minted


def _with_key(tenant: Tenant, wanted: MintedKey, key: str) -> Tenant:
    made = ApiKey(wanted.key_id, key_sha256(key), wanted.project, wanted.pins)
    others = tuple(each for each in tenant.keys if each.id != wanted.key_id)
    return dataclasses.replace(tenant, keys=(*others, made))


def read_or_write(path: Path, make: Callable[[], str], form: re.Pattern[str]) -> str:
    """The key in this file, which is made with one when it is not there."""
    try:
        if not path.exists():  # where it does, a disk that is full is no reason not to read it
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                _write_once(path, make())
        key = path.read_text(encoding="ascii", errors="replace").strip()
    except OSError as failure:
        raise KeyFileError(f"cannot use the key file {path}: {failure.strerror}") from failure
    if form.fullmatch(key) is None:
        raise KeyFileError(f"{path} holds no key: remove it and a new one is made")
    return key


def _write_once(path: Path, key: str) -> None:
    """Appears whole or not at all: a crash in between leaves no empty key file behind."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(key + "\n")
        os.link(unfinished, path)  # unlike rename, fails when the key exists
    finally:
        unfinished.unlink()
