"""Listening sockets, opened by the supervisor and handed to the children it forks.

The supervisor keeps them open, so that a child that dies takes no waiting connection with it.
Several proxies get a socket each (SO_REUSEPORT): with one shared socket the kernel wakes the
busiest process first and long streams pile up in it.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from collections.abc import Iterable, Sequence

BACKLOG = 1024
"""Connections the kernel keeps while a proxy restarts; more are refused by the kernel."""


class ListenError(Exception):
    """We cannot listen there; the message is one line for the person who asked for it."""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`; a name counts when all its addresses do."""
    return all(ipaddress.ip_address(address).is_loopback for address in _addresses(host))


def listen(
    host: str, port: int, *, processes: int = 1, remedy: str = "Another port: --port N"
) -> list[list[socket.socket]]:
    """The listening sockets of each process: one for every address that `host` stands for.

    Port 0 lets the kernel choose one port, which then holds for all of them. `remedy` ends the
    message of the ListenError for an address that cannot be had.
    """
    opened: list[list[socket.socket]] = [[] for _ in range(processes)]
    try:
        for address in _addresses(host):
            for index in range(processes):
                bound = _bind(address, port, first=index == 0, shared=processes > 1)
                opened[index].append(bound)
                port = bound.getsockname()[1]
        for each in opened:
            for bound in each:
                bound.listen(BACKLOG)
    except OSError as failure:
        close_all(opened)
        why = os.strerror(failure.errno) if failure.errno else str(failure)
        raise ListenError(f"cannot listen on {display(host, port)}: {why}. {remedy}") from failure
    return opened


def close_all(sockets: Iterable[Sequence[socket.socket]]) -> None:
    """Close them; whoever inherited a copy keeps it."""
    for each in sockets:
        for bound in each:
            with contextlib.suppress(OSError):
                bound.close()


def url(host: str, port: int, *, is_tls: bool = False) -> str:
    """Where a client on this machine reaches us: a wildcard address becomes loopback."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared only
    return f"http{'s' if is_tls else ''}://{display(reachable, port)}"


def display(host: str, port: int) -> str:
    """host:port, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _addresses(host: str) -> list[str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as failure:
        raise ListenError(f"cannot listen on {host!r}: {failure.strerror}") from failure
    except UnicodeError:
        raise ListenError(f"cannot listen on {host!r}: it cannot be the name of a host") from None
    # IPv4 first, so that port 0 is chosen there; a name may stand for both families.
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _bind(address: str, port: int, *, first: bool, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # The first of a port is bound without sharing, so that another server there is an error
        # and not a partner who takes half of our connections; then it lets the others in.
        if shared and not first:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind((address, port))
        if shared and first:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError:
        bound.close()
        raise
    return bound
