"""What `weir serve` tells the person who started it, on stdout, once requests are answered."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from proxy.admin_key_file import admin_key_path, is_minted
from proxy.settings import Secret, Settings
from proxy.sockets import display, url


@dataclass(frozen=True, slots=True)
class Started:
    """What there is to say: where we listen, the minted keys, what needs attention."""

    url: str
    settings: Settings
    keys: Sequence[Secret]
    keys_refused: bool
    options: str


def render(started: Started) -> str:
    """The lines: URL, demo key, a curl line that works as it stands, and what to try next."""
    tenants = [minted.tenant for minted in started.settings.minted_keys] or ["TENANT"]
    weir = program()
    lines = ["", *_addresses(started), ""]
    if started.keys:
        key = started.keys[0].reveal()
        lines += [*_keys(started), "", "Try it:", "", *_curl(started, key), ""]
    elif started.keys_refused:
        lines += ["  The demo key works on 127.0.0.1 only and is switched off here.", ""]
        lines += [f"  Make a key: {weir} keys new --tenant {tenants[0]}{started.options}", ""]
    server = started.settings.server
    if server.metrics_port:
        port = url(server.metrics_host, server.metrics_port)
        lines += [f"  Metrics: {port}/metrics, and {port}/readyz with details", ""]
    lines += _console(started)
    lines += [
        "Then:",
        "",
        f"  {weir} usage{started.options}",
        f"  {weir} invoice --tenant {tenants[0]}{started.options}",
        f"  {weir} config check{started.options}",
        "",
        *_unsettled(started, weir),
        "Ctrl-C stops everything.",
        "",
    ]
    return "\n".join(lines)


def _console(started: Started) -> list[str]:
    """Where the admin API is, and where the key to it lies; the key itself is not printed."""
    admin = started.settings.admin
    if admin is None:
        return []
    lines = [f"  Admin API: {url(admin.host, admin.port)}/admin/v1/"]
    if is_minted(started.settings):
        lines += [f"  Its key lies in {admin_key_path(started.settings.data_dir)}"]
    return [*lines, ""]


def _keys(started: Started) -> list[str]:
    """Each minted key; which tenant and id it is of where there are several."""
    minted = started.settings.minted_keys
    if len(started.keys) == 1 or len(minted) != len(started.keys):
        return [f"  demo key   {started.keys[0].reveal()}"]
    names = [f"{each.tenant}/{each.key_id}" for each in minted]
    width = max(map(len, names))
    return [
        f"  demo key   {name:{width}}  {key.reveal()}"
        for name, key in zip(names, started.keys, strict=True)
    ]


def _addresses(started: Started) -> list[str]:
    """Where we listen; where that is more than this machine, also how to reach it from here."""
    server = started.settings.server
    if server.host not in EVERYWHERE:
        return [f"Tokenweir listens on {started.url}"]
    port = display(server.host, server.port)
    return [
        f"Tokenweir listens on {port}: {EVERYWHERE[server.host]} of this machine",
        f"From this machine it is {started.url}",
    ]


def _unsettled(started: Started, weir: str) -> list[str]:
    """What has to run elsewhere when no settlement worker runs here."""
    if started.settings.settles:
        return []
    return [
        f"No settlement worker runs here. Start one: {weir} worker{started.options}",
        UNSETTLED,
        "",
    ]


EVERYWHERE = {"0.0.0.0": "every IPv4 address", "::": "every IPv6 address"}  # noqa: S104 - compared
"""What a host stands for that is no address of its own."""

UNSETTLED = (
    "Until one has run, usage waits in Redis, and while windows are to be rebuilt "
    "(a redis.url that is new or lost its data) requests get 503; /readyz tells."
)
"""What goes on without a settlement worker, and what does not."""


def options(settings: Settings, *, data_dir: Path | None) -> str:
    """The options that the next commands need in order to find what this process uses."""
    words = []
    source = settings.source
    if source is not None and source.resolve() != Path("config.yaml").resolve():
        words += ["--config", str(source)]
    if data_dir is not None:
        words += ["--data-dir", str(data_dir)]
    return "".join(f" {shlex.quote(word)}" for word in words)


def program() -> str:
    """How to call us from the same shell: `weir` when it is on PATH, else where it lies."""
    called = Path(sys.argv[0])
    if shutil.which("weir") is not None or called.name != "weir":
        return "weir"
    return os.path.relpath(called) if called.is_absolute() else str(called)


def _curl(started: Started, key: str) -> list[str]:
    models = started.settings.models
    model = "demo" if "demo" in models else next(iter(models), "MODEL")
    body = f'{{"model":"{model}","stream":true,"messages":[{{"role":"user","content":"Hi!"}}]}}'
    return [
        f"  curl -N {started.url}/v1/chat/completions \\",
        f"    -H 'authorization: Bearer {key}' -H 'content-type: application/json' \\",
        f"    -d '{body}'",
    ]
