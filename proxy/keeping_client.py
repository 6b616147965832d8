"""The client of an exchange whose answer is to be kept: passes all on, and keeps a copy."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from proxy.relay import Client, ClientGoneError


class KeepingClient:
    """Stands between an exchange and its client.

    `named` are headers of every stream. `stays` is asked when the client has left: whether the
    exchange is to go on all the same, for whoever else wants its answer. Of a stream at most
    `bytes_max` are kept, or nothing.
    """

    def __init__(
        self,
        client: Client,
        *,
        named: Mapping[str, str],
        bytes_max: int,
        stays: Callable[[], bool],
    ) -> None:
        self._client, self._named = client, named
        self._bytes_max, self._stays = bytes_max, stays
        self._parts: list[bytes] | None = []
        self._size = 0
        self.is_gone = False
        self.headers: dict[str, str] | None = None
        """Those that the stream began with."""

    @property
    def sent(self) -> bytes | None:
        """What the stream has said; None where that is too much to be kept."""
        return None if self._parts is None else b"".join(self._parts)

    async def start_stream(self, headers: Mapping[str, str]) -> None:
        """See `relay.Client`."""
        self.headers = dict(headers)
        if self.is_gone:
            return
        try:
            await self._client.start_stream({**headers, **self._named})
        except ClientGoneError:
            self._leave()

    async def send(self, data: bytes) -> None:
        """See `relay.Client`."""
        self.keep(data)
        if self.is_gone:
            return
        try:
            await self._client.send(data)
        except ClientGoneError:
            self._leave()

    def ping(self, headers: Mapping[str, str]) -> None:
        """See `relay.Client`; no part of the answer."""
        if not self.is_gone:
            self._client.ping({**headers, **self._named})

    def keep(self, data: bytes) -> None:
        """This is part of the stream, whoever sends it."""
        self._size += len(data)
        if self._size > self._bytes_max:
            self._parts = None
        elif self._parts is not None:
            self._parts.append(data)

    def _leave(self) -> None:
        if not self._stays():
            raise ClientGoneError
        self.is_gone = True
