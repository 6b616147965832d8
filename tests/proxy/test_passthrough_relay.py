"""The pump: bytes as they come, events withheld from the one that tells the usage on."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.passthrough_relay import WITHHELD_BYTES_MAX, Pump
from proxy.relay import ClientGoneError
from proxy.transport import Fault, TransportError
from routing.fallback import Outcome


@dataclass
class CutAnswer:
    """Gives these chunks, then ends or fails."""

    chunks: Sequence[bytes]
    fault: Fault | None = None
    status: int = 200

    def __post_init__(self) -> None:
        self._left = list(self.chunks)

    def header(self, name: str) -> str | None:
        return None

    async def chunk(self) -> bytes:
        if self._left:
            return self._left.pop(0)
        if self.fault is not None:
            raise TransportError(self.fault, "cut")
        return b""

    async def read(self, limit: int) -> bytes:
        return b"".join(self._left)

    def close(self) -> None:
        self._left.clear()


@dataclass
class Reader:
    """A client that keeps what it gets, and leaves after so many pieces."""

    leaves_after: int | None = None
    got: list[bytes] = field(default_factory=list)

    async def start_stream(self, headers: Mapping[str, str]) -> None:
        self.got.append(b"")

    async def send(self, data: bytes) -> None:
        if self.leaves_after is not None and len(self.got) > self.leaves_after:
            raise ClientGoneError
        self.got.append(data)


def pump(answer: CutAnswer, *, is_events: bool = True, bytes_max: int = 10**7) -> Pump:
    return Pump(
        answer,
        begin=dict,
        hear=(lambda data: b"usage" in data) if is_events else None,
        bytes_max=bytes_max,
    )


STREAM = b"data: one\n\n: note\n\ndata: usage\n\ndata: after\r\n\r\ndata: half"


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_no_byte_changes_however_it_is_cut(cuts: list[int]) -> None:
    """What was sent and what is withheld are together what came."""
    edges = sorted({0, len(STREAM), *cuts})
    chunks = [STREAM[a:b] for a, b in pairwise(edges)]
    reader = Reader()

    ended = asyncio.run(pump(CutAnswer(chunks)).run(reader))

    assert ended.outcome is Outcome.SERVED
    assert b"".join(reader.got) == b"data: one\n\n: note\n\n"
    assert ended.tail == b"data: usage\n\ndata: after\r\n\r\ndata: half"


async def test_what_is_no_stream_is_passed_on() -> None:
    """A file that has the word in it is still a file."""
    reader = Reader()

    ended = await pump(CutAnswer([b"usage", b"\x00\n\n"]), is_events=False).run(reader)

    assert (b"".join(reader.got), ended.tail) == (b"usage\x00\n\n", b"")


async def test_an_empty_answer_begins_all_the_same() -> None:
    """Its headers are due before its end."""
    reader = Reader()

    await pump(CutAnswer([])).run(reader)

    assert reader.got == [b""]


async def test_so_much_is_withheld_and_no_more() -> None:
    """Memory stays bounded where a provider goes on for ever after its usage."""
    after = b"data: " + b"x" * 100_000 + b"\n\n"
    reader = Reader()

    ended = await pump(CutAnswer([b"data: usage\n\n", *[after] * 30])).run(reader)

    assert len(ended.tail) <= WITHHELD_BYTES_MAX
    assert b"".join(reader.got) + ended.tail == b"data: usage\n\n" + after * 30


@pytest.mark.parametrize(
    ("chunks", "fault", "outcome", "bound"),
    [
        ([b"x"], Fault.BROKEN, Outcome.TRUNCATED, None),
        ([], Fault.BROKEN, Outcome.NONSENSE, None),
        ([], Fault.TIMEOUT, Outcome.TIMEOUT, None),
        ([b"x"], Fault.ENDLESS, Outcome.TRUNCATED, "max_answer_s"),
        ([b"x", b"y" * 200], None, Outcome.TRUNCATED, "max_answer_mb"),
    ],
)
async def test_how_it_can_end(
    chunks: list[bytes], fault: Fault | None, outcome: Outcome, bound: str | None
) -> None:
    """Broken off, silent, endless and too large; before the first byte and after it."""
    answer = CutAnswer(chunks, fault)

    ended = await pump(answer, is_events=False, bytes_max=100).run(Reader())

    assert (ended.outcome, ended.bound) == (outcome, bound)


async def test_a_client_that_leaves() -> None:
    """The rest is not read."""
    answer = CutAnswer([b"a", b"b", b"c"])

    ended = await pump(answer, is_events=False).run(Reader(leaves_after=1))

    assert (ended.outcome, ended.is_client_gone) == (Outcome.CLIENT_GONE, True)
    assert await answer.read(10) == b"c"
