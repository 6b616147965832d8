"""The shape of `admin` in the configuration file; the rules are those of `config_shape`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BeforeValidator

from proxy.config_values import FORBID, Port, Text
from proxy.config_values import text as _text


@dataclass(frozen=True, kw_only=True)
class AdminKeyShape:
    """A key of the admin API."""

    __pydantic_config__ = FORBID

    id: Text
    """Its name in the audit trail."""
    sha256: Text
    """SHA-256 of the key, 64 hexadecimal digits; `weir keys admin` makes both."""
    role: Annotated[Literal["viewer", "billing", "admin"], BeforeValidator(_text)] = "viewer"
    """What it may: `viewer` reads, `billing` also changes what concerns money, `admin` all."""


@dataclass(frozen=True, kw_only=True)
class AdminShape:
    """The admin API and the dashboard."""

    __pydantic_config__ = FORBID

    host: Text = "127.0.0.1"
    """Address to listen on."""
    port: Port = 8081
    """Port to listen on; 0 picks a free one."""
    keys: tuple[AdminKeyShape, ...] = ()
    """Who may use it; without any, `weir serve` makes one that works on this machine alone."""
