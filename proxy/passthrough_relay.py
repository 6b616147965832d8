"""The pump for answers that are relayed as they are: audio, files, streams of events.

Bytes are passed on as they come, and the upstream is not read faster than the client takes them.
Events are looked at for what was used; from the one that tells it on, they are withheld until it is
recorded. What is no stream of events ends with its connection, which the exchange closes after the
commit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from proxy import sse
from proxy.relay import OUTCOME_OF_FAULT, Client, ClientGoneError
from proxy.transport import Answer, Fault, TransportError
from routing.fallback import Outcome

WITHHELD_BYTES_MAX = 1024 * 1024
"""Of events behind the one with the usage: two or three follow. More are passed on."""


@dataclass(slots=True)
class Pumped:
    """How it ended; `tail` is what the client still has to get."""

    outcome: Outcome
    tail: bytes = b""
    cause: str = ""
    is_client_gone: bool = False
    bound: str | None = None


class Pump:
    """Relays one answer once. `begin` is called at the first byte and gives the headers; `hear` is
    given the data of each event, and says whether it told what was used: None for bytes that are no
    events."""

    def __init__(
        self,
        answer: Answer,
        *,
        begin: Callable[[], Mapping[str, str]],
        hear: Callable[[bytes], bool] | None,
        bytes_max: int,
    ) -> None:
        self._answer, self._begin, self._hear = answer, begin, hear
        self._bytes_max = bytes_max
        self._decoder = None if hear is None else sse.Decoder()
        self._tail: list[bytes] = []
        self._tail_bytes = 0
        self._holds_back = False
        self.has_started = False

    async def run(self, client: Client) -> Pumped:
        """Pump until the answer ends, breaks, or the client leaves."""
        try:
            await self._pump(client)
        except ClientGoneError:
            return Pumped(Outcome.CLIENT_GONE, is_client_gone=True)
        except TransportError as error:
            outcome = Outcome.TRUNCATED if self.has_started else OUTCOME_OF_FAULT[error.fault]
            bound = _BOUNDS.get(error.fault)
            return Pumped(outcome, b"".join(self._tail), cause=str(error), bound=bound)
        return Pumped(Outcome.SERVED, b"".join(self._tail))

    async def _pump(self, client: Client) -> None:
        size = 0
        while chunk := await self._answer.chunk():
            size += len(chunk)
            if size > self._bytes_max:
                raise TransportError(Fault.TOO_LARGE, f"the answer is over {self._bytes_max} bytes")
            await self._send(client, self._passed(chunk))
        if self._decoder is not None and (rest := self._decoder.flush()) is not None:
            await self._send(client, self._sort([rest]))
        if not self.has_started:
            await self._start(client)

    def _passed(self, chunk: bytes) -> bytes:
        return chunk if self._decoder is None else self._sort(self._decoder.feed(chunk))

    def _sort(self, events: list[sse.Event]) -> bytes:
        """What of these events may go on now."""
        assert self._hear is not None
        passed = []
        for event in events:
            if event.data is not None and self._hear(event.data):
                self._holds_back = True
            if self._holds_back and self._tail_bytes + len(event.raw) <= WITHHELD_BYTES_MAX:
                self._tail.append(event.raw)
                self._tail_bytes += len(event.raw)
            elif self._holds_back:
                passed += [*self._tail, event.raw]
                self._tail.clear()
                self._tail_bytes = 0
            else:
                passed.append(event.raw)
        return b"".join(passed)

    async def _send(self, client: Client, data: bytes) -> None:
        if data:
            await self._start(client)
            await client.send(data)

    async def _start(self, client: Client) -> None:
        if not self.has_started:
            headers = self._begin()
            self.has_started = True
            await client.start_stream(headers)


_BOUNDS = {Fault.ENDLESS: "max_answer_s", Fault.TOO_LARGE: "max_answer_mb"}
