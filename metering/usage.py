"""Token classes and the two shapes of usage: what a provider reported, and what is billed.

Classes are disjoint, so a total is a plain sum. Zero is a number; only None means "not reported".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

INPUT_UNCACHED = "input_uncached"
INPUT_CACHE_READ = "input_cache_read"
INPUT_CACHE_WRITE_5M = "input_cache_write_5m"
INPUT_CACHE_WRITE_1H = "input_cache_write_1h"
INPUT_AUDIO = "input_audio"
INPUT_IMAGE = "input_image"
OUTPUT_TEXT = "output_text"
OUTPUT_REASONING = "output_reasoning"
OUTPUT_AUDIO = "output_audio"
OUTPUT_IMAGE = "output_image"
INPUT_CLASSES: tuple[str, ...] = (
    INPUT_UNCACHED,
    INPUT_CACHE_READ,
    INPUT_CACHE_WRITE_5M,
    INPUT_CACHE_WRITE_1H,
    INPUT_AUDIO,
    INPUT_IMAGE,
)
OUTPUT_CLASSES: tuple[str, ...] = (
    OUTPUT_TEXT,
    OUTPUT_REASONING,
    OUTPUT_AUDIO,
    OUTPUT_IMAGE,
)
TOKEN_CLASSES: tuple[str, ...] = INPUT_CLASSES + OUTPUT_CLASSES
LATER_CLASSES: Mapping[str, str] = {OUTPUT_IMAGE: OUTPUT_TEXT}
"""Classes that are younger than the first published prices, with those whose rate they have where a
price does not name them. An event that has one says so by its schema."""
FIRST_CLASSES: tuple[str, ...] = tuple(
    [unit for unit in TOKEN_CLASSES if unit not in LATER_CLASSES]
)
IMAGE = "image"
OTHER_UNITS: tuple[str, ...] = (
    "api_call",
    "inference",
    IMAGE,
    "second",
    "compute_credit",
    "custom",
)
WEB_SEARCH = "web_search"
FILE_SEARCH = "file_search"
CODE_SESSION = "code_session"
TOOL_UNITS: tuple[str, ...] = (WEB_SEARCH, FILE_SEARCH, CODE_SESSION)
"""What providers charge for tools of their own, beside the tokens: searches of the web, searches of
stored files, sandboxes for code."""
UNITS: tuple[str, ...] = TOKEN_CLASSES + OTHER_UNITS
"""What may be reported from outside, too; a meter there may well be called as a tool is here."""

COUNT_MAX = 10**8
"""Tokens of one class in one answer; more is a fault. The largest context windows take 10 million,
and a provider that runs tools of its own may read one ten times over."""


@dataclass(frozen=True, slots=True)
class ReportedUsage:
    """What a provider reported, already disjoint; a side it did not report is None.

    `tools` are uses of the provider's own tools (`TOOL_UNITS`), None where it says nothing of them.
    `suspect` says why the numbers were not believed ("completion_tokens is negative"). Neither side
    of such a report is billed, nor what was reported before it.
    `doubt` says what is odd about numbers that are billed all the same ("total_tokens is not the
    sum of its parts").
    """

    input: Mapping[str, int] | None = None
    output: Mapping[str, int] | None = None
    suspect: str | None = None
    doubt: str | None = None
    tools: Mapping[str, int] | None = None
    speed: str | None = None
    """How fast it was served, in words of the format's; empty where a format that tells it did not,
    None of the others."""
    region: str | None = None
    """Where it was served, as far as it is told."""


@dataclass(frozen=True, slots=True)
class MeteredUsage:
    """What is billed (`units`) beside what we counted, and where the former came from.

    Classes of zero tokens are left out of both. `source` is "provider", "counted", or "mixed" when
    one side is the provider's and the other ours. `tokenizer` names what `counted` was counted
    with. `drift_tokens` is the provider's output minus our count of it, 0 when it gave none that
    could be compared. `suspect` is the last reason not to believe a report of this attempt, even
    when a later report was believed; or what is odd about one that was, or what was estimated.
    """

    units: Mapping[str, int]
    counted: Mapping[str, int]
    source: str
    tokenizer: str
    drift_tokens: int
    suspect: str | None


def is_count(value: object) -> bool:
    """Whether `value`, as parsed from a provider's JSON, is a believable number of tokens.

    A bool is not: JSON `true` would count as one token.
    """
    return type(value) is int and 0 <= value <= COUNT_MAX


def input_total(units: Mapping[str, int]) -> int:
    """Tokens of all input classes; outputs and other units are not looked at."""
    return sum(units.get(name, 0) for name in INPUT_CLASSES)


def output_total(units: Mapping[str, int]) -> int:
    """Tokens of all output classes; inputs and other units are not looked at."""
    return sum(units.get(name, 0) for name in OUTPUT_CLASSES)
