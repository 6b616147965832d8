"""An upstream's answer that came compressed although it was asked for plain.

Some servers and proxies compress whatever they are asked. Rules: gzip and deflate are unpacked as
they come, in pieces of bounded size, so that a small body cannot become a large one in memory
before anybody looks at its size; every other encoding is not an answer to what was asked.
"""

from __future__ import annotations

import zlib

from proxy.transport import Answer, Fault, TransportError

PIECE_BYTES = 64 * 1024
"""What is unpacked at once."""

_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_ENCODINGS = frozenset({"gzip", "x-gzip", "deflate"})


def unpacked(answer: Answer) -> Answer | None:
    """The answer as it is when nothing packed it; None when its encoding is not known here."""
    encoding = (answer.header("content-encoding") or "identity").strip().lower()
    if encoding == "identity":
        return answer
    return Inflated(answer) if encoding in _ENCODINGS else None


class Inflated:
    """An answer whose body is unpacked as it comes."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._inflater = zlib.decompressobj(_GZIP_OR_ZLIB)
        self._packed = b""
        self.status = answer.status

    def header(self, name: str) -> str | None:
        """As that of the packed answer, but for what is said of its packing."""
        if name.lower() in {"content-encoding", "content-length"}:
            return None
        return self._answer.header(name)

    async def chunk(self) -> bytes:
        """The next bytes of the body, b"" at its end; TransportError when it breaks off."""
        while True:
            if not self._packed:
                self._packed = await self._answer.chunk()
                if not self._packed:
                    return self._end()
            if piece := self._inflate():
                return piece

    async def read(self, limit: int) -> bytes:
        """The whole body; TransportError beyond `limit` bytes or when it breaks off."""
        body = bytearray()
        while piece := await self.chunk():
            body += piece
            if len(body) > limit:
                raise TransportError(Fault.TOO_LARGE, f"the unpacked body is over {limit} bytes")
        return bytes(body)

    def close(self) -> None:
        """Done with it."""
        self._answer.close()

    def _inflate(self) -> bytes:
        inflater = self._inflater
        try:
            if inflater.eof:  # gzip may have several members; what is no member is no body
                self._inflater = inflater = zlib.decompressobj(_GZIP_OR_ZLIB)
            piece = inflater.decompress(self._packed, PIECE_BYTES)
        except zlib.error as error:
            raise TransportError(Fault.NONSENSE, "its compressed body is broken") from error
        self._packed = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
        return piece

    def _end(self) -> bytes:
        if not self._inflater.eof and (rest := self._inflater.flush()):
            return rest  # at most what one match of the last input made
        if not self._inflater.eof:
            raise TransportError(Fault.BROKEN, "its compressed body breaks off")
        return b""
