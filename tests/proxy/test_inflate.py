"""What came compressed although nobody asked: unpacked in pieces, or told apart as broken."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.inflate import PIECE_BYTES, Inflated, unpacked
from proxy.transport import Fault, TransportError


class Canned:
    """An answer whose body comes in these pieces."""

    def __init__(self, pieces: Sequence[bytes], encoding: str | None = "gzip") -> None:
        self.status = 200
        self._pieces = [piece for piece in pieces if piece]
        self._headers = {"content-encoding": encoding, "content-length": "7", "x-a": "b"}
        self.is_closed = False

    def header(self, name: str) -> str | None:
        return self._headers.get(name.lower())

    async def chunk(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""

    async def read(self, limit: int) -> bytes:
        return b"".join(self._pieces)[:limit]

    def close(self) -> None:
        self.is_closed = True


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


@given(st.binary(max_size=3000), st.integers(1, 700), st.sampled_from(["gzip", "zlib", "two"]))
async def test_whatever_the_cuts_the_body_is_the_same(body: bytes, size: int, kind: str) -> None:
    """gzip, also of several members, and zlib, which is what servers mean by deflate."""
    half = len(body) // 2
    packed = {
        "gzip": gzip.compress(body),
        "zlib": zlib.compress(body),
        "two": gzip.compress(body[:half]) + gzip.compress(body[half:]),
    }[kind]
    answer = Inflated(Canned(cut(packed, size)))

    assert await answer.read(10_000) == body


async def test_a_small_body_does_not_become_a_large_one_at_once() -> None:
    """T-23: pieces are bounded, so that whoever reads can stop in time."""
    answer = Inflated(Canned([gzip.compress(bytes(50 * 1024 * 1024))]))

    assert len(await answer.chunk()) <= PIECE_BYTES
    with pytest.raises(TransportError) as caught:
        await answer.read(1024 * 1024)
    assert caught.value.fault is Fault.TOO_LARGE


@pytest.mark.parametrize(
    ("packed", "fault"),
    [
        (b"no gzip at all", Fault.NONSENSE),
        (gzip.compress(b"a" * 100)[:-12], Fault.BROKEN),
        (gzip.compress(b"a" * 100) + b"rubbish", Fault.NONSENSE),
    ],
    ids=["nonsense", "cut", "rubbish_behind"],
)
async def test_a_broken_body_is_no_end(packed: bytes, fault: Fault) -> None:
    with pytest.raises(TransportError) as caught:
        await Inflated(Canned([packed])).read(1000)

    assert caught.value.fault is fault


def test_only_what_is_known_is_unpacked() -> None:
    """Plain answers stay what they are; other encodings are nobody's answer."""
    plain = Canned([], None)
    packed = unpacked(Canned([]))

    assert unpacked(plain) is plain
    assert unpacked(Canned([], "br")) is None
    assert packed is not None
    assert (packed.header("Content-Encoding"), packed.header("X-A")) == (None, "b")
    packed.close()
