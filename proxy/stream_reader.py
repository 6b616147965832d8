"""Reads one streamed answer: meters it, and says which bytes may go on to the client.

Where client and upstream speak the same format, events pass untouched but for what is hidden in
those that are no part of an answer (an error may quote our credential); otherwise each is written
anew. Withheld until the usage is recorded is the end of the stream, and what follows it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from typing import Any

import orjson

from metering.meter import Meter
from proxy import json_bounds
from proxy.alike import Alike, pattern_of
from proxy.redaction import NOTHING, Redaction
from proxy.reply import Reply, read_object
from proxy.said import Said
from proxy.sse import DONE, Event
from proxy.wire import ClosingSource, Decoder, Reading, Source, StreamWriter

TRIES = 3
"""So many events are taken for the pattern of those to come while none has been alike."""

FINISH_REASON = "length"
"""How an answer ends that we end: clients know it, and neither retry nor fail."""


class StreamReader:
    """One streamed answer, fed as it comes; without a `writer` its bytes are relayed.

    After an event at which `must_wait` says so the rest is kept for the next call. `said` notes
    what the client has, so that another upstream may go on with it.
    """

    __slots__ = (
        "_alike",
        "_decoder",
        "_first",
        "_line",
        "_meter",
        "_must_wait",
        "_said",
        "_source",
        "_tail",
        "_tries",
        "_waiting",
        "_writer",
        "events",
        "has_told_failure",
        "reply",
    )

    def __init__(
        self,
        source: Source,
        decoder: Decoder,
        meter: Meter,
        *,
        writer: StreamWriter | None = None,
        choices: int = 1,
        redaction: Redaction = NOTHING,
        must_wait: Callable[[], bool] | None = None,
        said: Said | None = None,
    ) -> None:
        self._source = source
        self._decoder = decoder
        self._meter = meter
        self._writer = writer
        self._must_wait, self._said = must_wait, said
        self._waiting: deque[Event] = deque()
        self._alike: Alike | None = None
        self._tries = TRIES if writer is None and said is None else 0
        self._first: dict[str, Any] = {}
        self._tail: list[bytes] = []
        self._line = b""  # of an opaque event: the line in which its last piece ended, in short
        self.events = 0
        """How many have come that say anything."""
        self.has_told_failure = False
        """Whether what was relayed has an error in which clients' libraries see one."""
        is_written = writer is not None
        self.reply = Reply(choices=choices, redaction=redaction, needs_reason=is_written)

    @property
    def tail(self) -> bytes:
        """What is withheld until the commit: the end of the stream. A written end tells the usage
        that is billed, so it is asked for when everything has come."""
        if self._writer is not None and not self._tail and self.reply.is_finished:
            self._tail.append(self._writer.end(self._meter.final().units))
        return b"".join(self._tail)

    @property
    def must_wait(self) -> bool:
        """Whether the answer may not go on yet; one that has ended has nothing to wait for."""
        return self._must_wait is not None and not self.reply.is_finished and self._must_wait()

    def feed(self, chunk: bytes) -> bytes:
        """Meter the events these bytes complete; returns what to relay."""
        if len(events := self._decoder.feed(chunk)) == 1 and not self._waiting:  # as nearly always
            return self._read(events[0])
        self._waiting += events
        passed = []
        while self._waiting:
            if passing := self._read(self._waiting.popleft()):
                passed.append(passing)
            if self._waiting and self.must_wait:
                break
        return passed[0] if len(passed) == 1 else b"".join(passed)

    def end_softly(self) -> bytes:
        """End the answer here, as if its model had run out of tokens; gives the bytes for that.

        What is still withheld is forgotten, and the usage that is told is what is billed.
        """
        self._waiting.clear()
        self._tail.clear()
        open_choices = sorted(set(range(self.reply.choices)) - self.reply.finished)
        units = self._meter.final().units
        self.reply.finish_reason = FINISH_REASON
        if self._writer is None:
            return self._source.end_softly(open_choices, units)
        ends = [self._writer.write(self._last(index)) for index in open_choices]
        return b"".join([*ends, self._writer.end(units)])

    def flush(self) -> bytes:
        """The upstream closed: what is left to relay."""
        event = self._decoder.flush()
        if event is None or self._is_cut_off(event):
            return b"" if event is not None else self._closed()
        return self._read(event) + self._closed()

    def _closed(self) -> bytes:
        """What it means that the upstream has closed, in a format without a last event."""
        if not isinstance(self._source, ClosingSource) or self.reply.error is not None:
            return b""
        if self.reply.is_finished or not (chunks := self._source.closed()):
            return b""
        closing = Reading(chunks)
        self._take(closing)
        return b"" if self._writer is None else self._written(closing, self._writer)

    def _is_cut_off(self, event: Event) -> bool:
        """Whether this is half an event, of a stream with which another upstream may go on: what
        follows could not be told from it."""
        if self._said is None or not self._said.is_plain or not event.data:
            return False
        try:
            orjson.loads(event.data)
        except orjson.JSONDecodeError:
            return event.data.strip() != DONE
        return False

    @property
    def is_silent(self) -> bool:
        """Whether it may still turn out to be filtered: nothing was said, and it has not ended
        otherwise."""
        ended = bool(self.reply.finished) and not self.reply.is_filtered
        return self._meter.is_silent and not ended

    @property
    def has_failed(self) -> bool:
        """Whether it told an error that the client has not got, for somebody may go on with it."""
        return self._said is not None and self._said.is_plain and self.reply.error is not None

    def _read(self, event: Event) -> bytes:
        """Read an event; what of it may go on now. What follows the end goes out with the end."""
        data, raw = event.data, event.raw
        if self._alike is not None:
            if data is not None and (text := self._alike.text(data)) is not None:
                return self._like_the_last(raw, text, self._alike)
            self._alike = None
        self.events += event.is_opaque or data is not None
        is_end = data is not None and data.strip() == DONE
        read = None if is_end else self._object(event)
        reading = None if read is None else self._sourced(read, event)
        if reading is not None:
            is_end = self._take(reading)
        if self._said is not None:
            if self.has_failed:
                return b""
            self._said.hear(event, read, reading)
        self.reply.is_done |= is_end
        if self._writer is not None:
            return self._written(reading, self._writer)
        if not event.is_opaque and (reading is None or reading.is_odd):
            raw = self.reply.redaction.data(raw)
        if is_end or self._tail:
            self._tail.append(raw)
            return b""
        if reading is not None and reading.is_withheld:
            return b""
        if self.reply.error is not None:
            self._tell_failure(read)
        if self._tries and data is not None and reading is not None and reading.chunks:
            self._tries -= 1
            # the chunk is another object where it is of another format
            self._alike = pattern_of(data, read) if reading.chunks[0] is read else None
        return raw

    def _tell_failure(self, read: dict[str, Any] | None) -> None:
        """Note that the client gets to know. What stands beside `type` alone, or within a response
        that has failed, its library passes over."""
        self.has_told_failure |= read is not None and bool(read.get("error"))

    def _like_the_last(self, raw: bytes, text: str, alike: Alike) -> bytes:
        """Meter an event that says a text, and nothing that was not read with the one before."""
        self.events += 1
        self._tries = TRIES
        if text:
            self._meter.text(alike.channel, text)
            self.reply.said += len(text)
        return raw

    def _sourced(self, data: dict[str, Any], event: Event) -> Reading | None:
        """What the format reads in an event. One that breaks it is unread, and where it would have
        to be written anew it ends the answer."""
        try:
            return self._source.read(data)
        except Exception as error:  # noqa: BLE001 - whatever it is, the upstream's answer did it
            self._meter.unread(len(event.raw))
            if self._writer is not None:
                self.reply.error = _broken("read", error)
            return None

    def _take(self, reading: Reading) -> bool:
        """Meter what an event says; whether it is the last one."""
        for chunk in reading.chunks:
            read_object(chunk, self.reply, self._meter, "delta")
        if reading.usage is not None:
            self._meter.report(reading.usage)
        if reading.unread:
            self._meter.unread(reading.unread)
        return reading.is_end

    def _written(self, reading: Reading | None, writer: StreamWriter) -> bytes:
        if reading is None or not reading.chunks:
            return b""
        self._first = self._first or reading.chunks[0]
        return b"".join([self._told(chunk, writer) for chunk in reading.chunks])

    def _told(self, chunk: dict[str, Any], writer: StreamWriter) -> bytes:
        """The chunk in the client's format. One that has what nobody can write ends the answer as
        an error in it does: nothing is left out in silence."""
        try:
            return writer.write(chunk)
        except Exception as error:  # noqa: BLE001 - whatever it is, the upstream's answer did it
            self.reply.error = _broken("written", error)
            if self._said is not None:
                self._said.is_plain = False
            return b""

    def _last(self, index: int) -> dict[str, Any]:
        choice = {"index": index, "delta": {}, "logprobs": None, "finish_reason": FINISH_REASON}
        return {**self._first, "choices": [choice]}

    def _object(self, event: Event) -> dict[str, Any] | None:
        """The JSON object in an event's data; None for comments and for what is no object.

        What a client may understand better than we do is noted as unread: it is not for nothing.
        """
        if event.is_opaque:
            self._pass_by(self._opaque_size(event.raw), is_lost=True)
        else:
            self._line = b""
        if not event.data:
            return None
        load = json_bounds.load_event if self._writer is None else json_bounds.load_writable
        try:
            found = load(event.data)
        except ValueError as error:
            is_lost = isinstance(error, json_bounds.TooMuchError)
            self._pass_by(_weight(event.data), is_lost=is_lost)
            if self.events == 1 and not is_lost:
                self.reply.error = _UNREAD  # nobody has seen anything: another may still answer
            return None
        if isinstance(found, dict):
            return found
        if found is not None:
            self._pass_by(_weight(event.data), is_lost=False)
        return None

    def _pass_by(self, size: int, *, is_lost: bool) -> None:
        """Note what is not read. A client that gets every event anew misses it: that answer has
        failed, by our own fault where it `is_lost` for being too much."""
        if not size:
            return
        self._meter.unread(size)
        reply = self.reply
        if self._writer is not None and reply.error is None and not reply.is_finished:
            reply.error = _UNREAD
            reply.is_lost = is_lost

    def _opaque_size(self, raw: bytes) -> int:
        """How much of a piece of an event is said to anybody: not its comments."""
        line, text = self._line, self._line + raw.replace(b"\r", b"\n")
        last = text[text.rfind(b"\n") + 1 :]
        self._line = b":" if last.startswith(b":") else b"-" if last else b""
        return max(0, _weight(text, _UNSAID) - (line == b"-"))


def _broken(what: str, error: Exception) -> dict[str, str]:
    """The failure of an answer that broke whoever read or wrote it; no word of what it said."""
    return {"message": f"an event of the answer cannot be {what} ({type(error).__name__})"}


_UNREAD = "an event could not be read"

_BLANKS = re.compile(rb"[ \t\r\n]{16,}+")
"""More in a row than anybody writes."""

_UNSAID = re.compile(rb"(?m)^:[^\n]*+(?:\n++:[^\n]*+)*+\n*+|" + _BLANKS.pattern)
"""Comments, too: as many in a row as there are, since a bomb is nothing else."""


def _weight(data: bytes, unsaid: re.Pattern[bytes] = _BLANKS) -> int:
    """The size of data without long blanks, of which a megabyte packs a gigabyte."""
    if data.isspace():
        return 0
    return len(data) - sum(len(found[0]) for found in unsaid.finditer(data))
