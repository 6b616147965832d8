"""What an answer says it used, whichever path it came from: `usage` in OpenAI's shapes. Pure.

The totals of these shapes are inclusive: cached, audio and image tokens are part of the input.
Here they become disjoint classes. Seconds are rounded up. What cannot be believed is left out and
named.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from metering.usage import (
    INPUT_AUDIO,
    INPUT_CACHE_READ,
    INPUT_IMAGE,
    INPUT_UNCACHED,
    OUTPUT_AUDIO,
    OUTPUT_IMAGE,
    OUTPUT_REASONING,
    OUTPUT_TEXT,
    TOKEN_CLASSES,
    MeteredUsage,
    is_count,
)
from proxy.json_bounds import load_event

_DETAILS = ("input_token_details", "input_tokens_details", "prompt_tokens_details")
_OUTPUT_DETAILS = ("output_token_details", "output_tokens_details", "completion_tokens_details")


@dataclass(frozen=True, slots=True)
class Usage:
    """Units, and what is odd about them. `is_told` is set where there were numbers at all."""

    units: Mapping[str, int] = field(default_factory=dict)
    suspect: str | None = None

    @property
    def is_told(self) -> bool:
        """Whether there is anything to bill by."""
        return bool(self.units)


NOTHING_TOLD = Usage()


def read_usage(usage: object) -> Usage:
    """The units of a `usage` object."""
    if not isinstance(usage, dict):
        return NOTHING_TOLD
    if usage.get("type") == "duration":
        return _seconds(usage.get("seconds"))
    inputs = _first(usage, ("input_tokens", "prompt_tokens"))
    outputs = _first(usage, ("output_tokens", "completion_tokens"))
    if inputs is None and outputs is None:
        return NOTHING_TOLD
    for side, total in (("input", inputs), ("output", outputs)):
        if total is not None and not is_count(total):
            return Usage(suspect=f"reported {side} is not a count of tokens")
    units: dict[str, int] = {}
    suspect = _input(int(inputs or 0), usage, units) or _output(int(outputs or 0), usage, units)
    return Usage({name: count for name, count in units.items() if count}, suspect)


def usage_in(answer: object) -> Usage:
    """What a JSON answer or an event of a stream says it used."""
    if not isinstance(answer, dict):
        return NOTHING_TOLD
    found = read_usage(answer.get("usage"))
    if found.is_told or found.suspect:
        return found
    response = answer.get("response")
    return read_usage(response.get("usage")) if isinstance(response, dict) else NOTHING_TOLD


def usage_in_event(data: bytes) -> Usage:
    """The same of the text of an event; what is no JSON says nothing."""
    if b'"usage"' not in data:
        return NOTHING_TOLD
    try:
        return usage_in(load_event(data))
    except ValueError:
        return Usage(suspect="an event with usage could not be read")


def images_in(answer: Mapping[str, Any]) -> int:
    """How many images a JSON answer brings."""
    data = answer.get("data")
    return len(data) if isinstance(data, list) else 0


def _first(usage: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((usage[name] for name in names if usage.get(name) is not None), None)


def _details(usage: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    found = _first(usage, names)
    return found if isinstance(found, dict) else {}


def _parts(details: Mapping[str, Any], *names: str) -> Iterator[int]:
    for name in names:
        value = details.get(name)
        yield value if is_count(value) else 0  # type: ignore[misc] # is_count: an int


def _input(total: int, usage: Mapping[str, Any], units: dict[str, int]) -> str | None:
    details = _details(usage, _DETAILS)
    audio, image, cached = _parts(details, "audio_tokens", "image_tokens", "cached_tokens")
    within = details.get("cached_tokens_details")
    if isinstance(within, dict):
        cached_audio, cached_image = _parts(within, "audio_tokens", "image_tokens")
        audio, image = audio - cached_audio, image - cached_image
    text = total - audio - image - cached
    if min(text, audio, image) < 0:
        units[INPUT_UNCACHED] = total
        return "the parts of the reported input are more than its total"
    units |= {
        INPUT_UNCACHED: text,
        INPUT_CACHE_READ: cached,
        INPUT_AUDIO: audio,
        INPUT_IMAGE: image,
    }
    return None


def _output(total: int, usage: Mapping[str, Any], units: dict[str, int]) -> str | None:
    details = _details(usage, _OUTPUT_DETAILS)
    audio, image, reasoning = _parts(details, "audio_tokens", "image_tokens", "reasoning_tokens")
    if audio + image + reasoning > total:
        units[OUTPUT_TEXT] = total
        return "the parts of the reported output are more than its total"
    units |= {OUTPUT_TEXT: total - audio - image - reasoning, OUTPUT_AUDIO: audio}
    units |= {OUTPUT_IMAGE: image, OUTPUT_REASONING: reasoning}
    return None


def _seconds(value: object) -> Usage:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Usage(suspect="reported seconds are no number")
    if not math.isfinite(value) or not 0 <= value <= 1_000_000:
        return Usage(suspect="reported seconds are no duration")
    return Usage({"second": math.ceil(value)} if value else {})


class FlatMeter:
    """The meter of an attempt whose answer is not read for its text: holds what was told, or the
    units of a flat price. As `metering.meter.Meter`, as far as attempts ask it."""

    __slots__ = ("_counted", "_is_provider", "_suspect", "_units", "is_in_thread")

    reported_speed: str | None = None
    reported_region: str | None = None

    def __init__(self, units: Mapping[str, int]) -> None:
        """`units` are what is billed where nothing is told."""
        self._units: Mapping[str, int] = dict(units)
        self._counted: Mapping[str, int] = {}
        self._suspect: str | None = None
        self._is_provider = False
        self.is_in_thread = False

    def bill(
        self, units: Mapping[str, int], *, told: Mapping[str, int], suspect: str | None = None
    ) -> None:
        """Bill these from now on; `told` is what was reported, which may be something else."""
        self._units, self._counted = dict(units), dict(told)
        self._is_provider = bool(told)
        self.doubt(suspect)

    def doubt(self, suspect: str | None) -> None:
        """Note what is odd."""
        self._suspect = suspect or self._suspect

    @property
    def output_tokens(self) -> int:
        """Grows with what is billed."""
        return sum(count for unit, count in self._units.items() if unit in TOKEN_CLASSES)

    def final(self) -> MeteredUsage:
        """What this attempt used."""
        return MeteredUsage(
            units=self._units,
            counted=self._counted,
            source="provider" if self._is_provider else "counted",
            tokenizer="none",
            drift_tokens=0,
            suspect=self._suspect,
        )

    def so_far(self) -> MeteredUsage:
        """What it has used until now."""
        return self.final()
