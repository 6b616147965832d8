"""The way out to upstreams: through a forward proxy, or directly. Pure.

Rules: the environment (`HTTPS_PROXY`) is never read, so that nobody who can set a variable gets to
see the traffic; hosts of this machine are always reached directly.
"""

from __future__ import annotations

import ipaddress
from base64 import b64encode
from urllib.parse import unquote, urlsplit

from proxy.settings import Egress, ForwardProxy, Secret


def proxy_for(egress: Egress, host: str) -> ForwardProxy | None:
    """The proxy on the way to this host; None when it is reached directly."""
    if egress.proxy is None or is_local(host):
        return None
    return None if any(_covers(each, host) for each in egress.no_proxy) else egress.proxy


def parse_forward_proxy(url: str) -> ForwardProxy:
    """The proxy behind a URL; ValueError, without the URL, which may hold a password."""
    wanted = "must be http://[user:password@]host:port"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(wanted) from None
    if parts.scheme == "https":
        raise ValueError("must begin with http: the way to the proxy itself is not encrypted")
    if parts.scheme != "http" or not parts.hostname or not port:
        raise ValueError(wanted)
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(wanted)
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = Secret(f"Basic {b64encode(pair.encode()).decode()}")
    return ForwardProxy(parts.hostname, port, authorization)


def check_no_proxy(entry: str) -> None:
    """ValueError unless `entry` is a host name, an address or a network."""
    if _network(entry) is not None:
        return
    name = entry.removeprefix("*").removeprefix(".")
    if not name or not name.isascii() or not all(c.isalnum() or c in "-._" for c in name):
        raise ValueError("must be a host name, an address, or a network like 10.0.0.0/8")


def is_local(host: str) -> bool:
    """Whether `host` is this machine by its very name."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def _covers(entry: str, host: str) -> bool:
    network, address = _network(entry), _address(host)
    if network is not None:
        return address is not None and address in network
    name = entry.removeprefix("*").removeprefix(".").lower()
    return host == name or host.endswith(f".{name}")


def _network(entry: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return None


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
