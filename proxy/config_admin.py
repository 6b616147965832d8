"""`admin` of the file: where the console listens, and the keys that may use it."""

from __future__ import annotations

import re

from metering.ids import is_id
from proxy.config_admin_shape import AdminShape
from proxy.config_decode import Findings
from proxy.config_network import check_host
from proxy.config_shape import FileShape
from proxy.config_yaml import Path
from proxy.settings import AdminKey, AdminPort

SECTION: Path = ("admin",)

LOCAL = frozenset({"127.0.0.1", "::1", "localhost"})

MINTED_ID = "minted"
"""The id of the key that `serve` makes itself."""


def build_admin(shape: FileShape, findings: Findings) -> AdminPort | None:
    """Where it listens, sound or reported; None without the section."""
    written = shape.admin
    if written is None:
        return None
    check_host((*SECTION, "host"), written.host, findings)
    server = shape.server
    for name, port in (("server.port", server.port), ("server.metrics_port", server.metrics_port)):
        if written.port and written.port == port:
            findings.fault((*SECTION, "port"), f"is that of {name}, too", "give each its own")
    if written.host not in LOCAL:
        _warn_of_reach(written, findings)
    return AdminPort(written.host, written.port)


def build_admin_keys(shape: FileShape, findings: Findings) -> tuple[AdminKey, ...]:
    """The keys of the file, sound or reported; the one that `serve` makes comes later."""
    keys: list[AdminKey] = []
    taken: dict[str, str] = {}
    for index, written in enumerate(() if shape.admin is None else shape.admin.keys):
        path: Path = (*SECTION, "keys", index)
        ids = [each.id for each in keys]
        if not is_id(written.id):
            findings.fault((*path, "id"), f"{written.id!r} cannot be an id", "use letters, digits")
        elif written.id in ids or written.id == MINTED_ID:
            findings.fault((*path, "id"), f"the id {written.id!r} is taken", "ids are unique")
        sha256 = written.sha256.lower()
        if not re.fullmatch("[0-9a-f]{64}", sha256):
            hint = "copy it from `weir keys admin`"
            findings.fault((*path, "sha256"), "a SHA-256 has 64 hexadecimal digits", hint)
        elif sha256 in taken:
            message = f"the same key stands at {taken[sha256]!r}"
            findings.fault((*path, "sha256"), message, "give each its own key")
        taken.setdefault(sha256, written.id)
        keys.append(AdminKey(written.id, sha256, written.role))
    return tuple(keys)


def _warn_of_reach(written: AdminShape, findings: Findings) -> None:
    findings.warn(
        (*SECTION, "host"),
        f"the admin API can be reached under {written.host!r}, and speaks no TLS itself",
        "leave it on 127.0.0.1, or put a proxy with TLS in front of it",
    )
    if not written.keys:
        findings.warn(
            (*SECTION, "keys"),
            "no keys, and none is made where other machines can reach it: nobody can use it",
            "make one with `weir keys admin`",
        )
