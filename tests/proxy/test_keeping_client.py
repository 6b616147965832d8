"""A copy of what a client gets, and what happens when it leaves."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from proxy.keeping_client import KeepingClient
from proxy.relay import ClientGoneError


class Leaving:
    """A client that leaves before its n-th piece."""

    def __init__(self, after: int) -> None:
        self.left, self.got, self.headers = after, b"", dict[str, str]()

    async def start_stream(self, headers: Mapping[str, str]) -> None:
        self.headers = dict(headers)

    async def send(self, data: bytes) -> None:
        if not self.left:
            raise ClientGoneError
        self.left -= 1
        self.got += data

    def ping(self, headers: Mapping[str, str]) -> None:
        self.got += b": ping"


def _keeper(client: Leaving, *, stays: bool, bytes_max: int = 100) -> KeepingClient:
    return KeepingClient(client, named={"n": "v"}, bytes_max=bytes_max, stays=lambda: stays)


async def test_all_is_passed_on_and_kept() -> None:
    """But for comments of ours, which are no part of the answer."""
    client = Leaving(9)
    keeper = _keeper(client, stays=False)

    await keeper.start_stream({"a": "b"})
    await keeper.send(b"one ")
    keeper.ping({})
    await keeper.send(b"two")

    assert (client.got, client.headers) == (b"one : pingtwo", {"a": "b", "n": "v"})
    assert (keeper.sent, keeper.headers) == (b"one two", {"a": "b"})


async def test_who_leaves_is_missed_by_nobody() -> None:
    """Then the exchange hears of it, as without a copy."""
    keeper = _keeper(Leaving(1), stays=False)
    await keeper.send(b"one ")

    with pytest.raises(ClientGoneError):
        await keeper.send(b"two")


async def test_who_leaves_is_not_told_of_where_others_wait() -> None:
    """The copy goes on."""
    client = Leaving(1)
    keeper = _keeper(client, stays=True)

    for part in (b"one ", b"two ", b"three"):
        await keeper.send(part)
    keeper.ping({})

    assert (client.got, keeper.sent, keeper.is_gone) == (b"one ", b"one two three", True)


async def test_too_much_is_not_kept() -> None:
    """Nor any part of it."""
    client = Leaving(9)
    keeper = _keeper(client, stays=False, bytes_max=5)

    await keeper.send(b"three")
    assert keeper.sent == b"three"
    await keeper.send(b"x")

    assert (keeper.sent, client.got) == (None, b"threex")
