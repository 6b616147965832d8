"""What a realtime session uses, from the events that pass by. Pure.

`response.done` carries the usage of one response, `...input_audio_transcription.completed` that of
the model that wrote down what was said. Both are summed: the session is billed as one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.passthrough_usage import Usage, usage_in_event


@dataclass(slots=True)
class SessionUsage:
    """The sum so far."""

    units: dict[str, int] = field(default_factory=dict)
    suspect: str | None = None
    has_answered: bool = False
    """Whether the provider has begun a response, of which it should tell the usage."""

    def hear(self, frame: str) -> bool:
        """Take note of an event of the provider's; whether it spoke of what was used."""
        self.has_answered = self.has_answered or '"response.' in frame
        if '"usage"' not in frame:
            return False
        usage = usage_in_event(frame.encode("utf-8", "surrogatepass"))
        self.suspect = usage.suspect or self.suspect
        for unit, count in usage.units.items():
            self.units[unit] = self.units.get(unit, 0) + count
        return usage.is_told or usage.suspect is not None

    @property
    def usage(self) -> Usage:
        """All of it."""
        return Usage(dict(self.units), self.suspect)
