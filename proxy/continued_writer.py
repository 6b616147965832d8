"""Writes the second part of a stream, by another upstream, as one with the first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from proxy.seam import Seam
from proxy.wire import StreamWriter

_OF_THE_ANSWER = ("id", "object", "created", "model", "system_fingerprint", "service_tier")
"""Fields by which clients tell answers apart: they are those of the first part."""


class ContinuedWriter:
    """Stands before the writer of the client's format.

    `shared` are the fields of the first part's chunks, `text` is what it said, `units` what is
    billed for it. Gives nothing for chunks that say nothing: the stream has long begun.
    """

    __slots__ = ("_inner", "_seam", "_shared", "_told", "_units")

    def __init__(
        self,
        inner: StreamWriter,
        *,
        shared: Mapping[str, Any],
        text: str,
        units: Mapping[str, int],
    ) -> None:
        self._inner, self._shared, self._units = inner, shared, units
        self._seam = Seam(text)
        self._told: list[str] = []

    @property
    def told(self) -> str:
        """The text that has gone on to the client."""
        return "".join(self._told)

    def write(self, chunk: dict[str, Any]) -> bytes:
        """The events for this chunk."""
        if chunk.get("error"):
            return b""
        choices = [
            told
            for choice in chunk.get("choices") or ()
            if isinstance(choice, dict) and (told := self._choice(choice)) is not None
        ]
        if not choices:
            return b""
        left_out = {"usage", "choices", *(_OF_THE_ANSWER if self._shared else ())}
        kept = {name: value for name, value in chunk.items() if name not in left_out}
        return self._inner.write({**self._shared, **kept, "choices": choices})

    def end(self, units: Mapping[str, int]) -> bytes:
        """The events that end the stream: its usage is that of all parts."""
        return self._inner.end(Counter(self._units) + Counter(units))

    def _choice(self, choice: dict[str, Any]) -> dict[str, Any] | None:
        delta = choice.get("delta")
        said = (
            {name: value for name, value in delta.items() if value and name != "role"}
            if (isinstance(delta, dict))
            else {}
        )
        content, is_end = said.pop("content", None), isinstance(choice.get("finish_reason"), str)
        text = self._seam.feed(content) if isinstance(content, str) else ""
        if is_end or said.keys() & {"tool_calls", "function_call", "refusal"}:
            text += self._seam.flush()
        if text:
            said = {"content": text, **said}
            self._told.append(text)
        elif content and not isinstance(content, str):
            said = {"content": content, **said}
        return {**choice, "delta": said} if said or is_end else None
