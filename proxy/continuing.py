"""Going on with a stream that broke off: the state of one exchange, part after part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from metering.calibration import Calibration
from metering.caps import Vector
from metering.usage import OUTPUT_CLASSES
from proxy.attempts import Attempt
from proxy.charging import charge
from proxy.chat import ChatRequest
from proxy.continuable import Continuable
from proxy.continued_writer import ContinuedWriter
from proxy.errors import ApiError
from proxy.passage import Passage
from proxy.refusals import broken_off
from proxy.relay import Relayed
from proxy.said import Said
from proxy.wire import StreamWriter, client_format, continuing
from routing.fallback import Outcome
from routing.policy import Option

_SILENCES = frozenset({None, "timeout_s", "stall_timeout_s", "first_event_timeout_s"})
"""What ends a stream by the upstream's fault; any other bound of ours holds for the answer."""

_FINAL = frozenset(
    {
        Outcome.SERVED,
        Outcome.TRUNCATED,
        Outcome.CLIENT_GONE,
        Outcome.EXHAUSTED,
        Outcome.STOPPED,
    }
)
"""How a continued stream ends for its client as any other does."""


class Continuing:
    """The parts of one exchange's stream."""

    def __init__(self, asked: Continuable) -> None:
        self._asked = asked
        self._said: Said | None = None
        self._inner: StreamWriter | None = None
        self._writer: ContinuedWriter | None = None
        self._units: dict[str, int] = {}
        self._shared: Mapping[str, Any] = {}
        self._text = ""
        self._spent = Vector()
        self._broken: ApiError | None = None
        self.is_due = False
        """Whether the last attempt broke off so that another may go on."""

    @property
    def is_on(self) -> bool:
        """Whether a first part was said, with which somebody goes on."""
        return self._broken is not None

    def ended(self, outcome: Outcome) -> ApiError | None:
        """What the client is told in-band where nobody went on to the end."""
        return None if outcome in _FINAL else self._broken

    # -- what is asked ------------------------------------------------------------------------

    def request_for(self, option: Option) -> ChatRequest:
        """The request as it is sent to this option now."""
        if not self.is_on:
            return self._asked.request
        return self._asked.request_for(option, self._text)

    def options(self, waiting: Sequence[Option], calibration: Calibration | None) -> list[Option]:
        """Of the upstreams that were not asked yet, those that may go on, in order."""
        found = []
        for option in waiting:
            left = self._left(option)
            if left is not None and left < 1:
                continue
            made = self._asked.option(
                option, self._text, left=left, spent=self._spent, calibration=calibration
            )
            if made is not None:
                found.append(made)
        return found

    def _left(self, option: Option) -> int | None:
        """What an answer may still say, of what it was bounded by."""
        bounds = [self._asked.request.output_limit, option.changes.max_tokens]
        bound = min([each for each in bounds if each is not None], default=None)
        return bound and bound - sum([self._units.get(name, 0) for name in OUTPUT_CLASSES])

    # -- what is said -------------------------------------------------------------------------

    def listen(self) -> Said:
        """What is to hear the stream of the attempt that begins."""
        self._said = Said()
        return self._said

    def writer(self, way: Passage) -> StreamWriter | None:
        """What writes the stream of the attempt that begins; None where it is relayed."""
        if self.is_on:
            assert self._inner is not None
            self._writer = ContinuedWriter(
                self._inner, shared=self._shared, text=self._text, units=self._units
            )
            return self._writer
        self._inner = None if way.is_same else way.client.writer(self._asked.request)
        return self._inner

    def after(self, attempt: Attempt, relayed: Relayed | None, *, is_over: bool) -> None:
        """Note how an attempt ended; `is_over` where the exchange may not go on, whatever it is."""
        self.is_due = False
        if attempt.outcome is not Outcome.TRUNCATED or relayed is None:
            return
        said, bound = self._said, relayed.bound
        if said is None or not said.is_plain or relayed.is_client_gone:
            return
        self._take(attempt, said)
        self._broken = broken_off(upstream=attempt.option.upstream.provider, by=relayed.broken_by)
        self.is_due = not is_over and bound in _SILENCES

    def _take(self, attempt: Attempt, said: Said) -> None:
        charged = charge(attempt)
        self._spent = Vector(
            self._spent.nano + charged.sell_nano, self._spent.tokens + charged.tokens
        )
        for name, count in charged.units.items():
            self._units[name] = self._units.get(name, 0) + count
        if self._writer is not None:
            self._text += self._writer.told
            return
        self._text, self._shared = said.text, said.shared
        if self._inner is None:
            spoken = continuing(client_format(self._asked.request.format))
            assert spoken is not None  # else nobody would listen
            self._inner = spoken.resumed(self._asked.request, said)
