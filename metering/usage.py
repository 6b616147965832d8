"""Token classes and the two shapes of usage: what a provider reported, and what is billed."""

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
INPUT_CLASSES = (
    INPUT_UNCACHED,
    INPUT_CACHE_READ,
    INPUT_CACHE_WRITE_5M,
    INPUT_CACHE_WRITE_1H,
    INPUT_AUDIO,
    INPUT_IMAGE,
)
OUTPUT_CLASSES = (OUTPUT_TEXT, OUTPUT_REASONING, OUTPUT_AUDIO)
TOKEN_CLASSES = INPUT_CLASSES + OUTPUT_CLASSES
OTHER_UNITS = ("api_call", "inference", "image", "second", "compute_credit", "custom")
UNITS = TOKEN_CLASSES + OTHER_UNITS


@dataclass(frozen=True, slots=True)
class ReportedUsage:
    """What a provider reported, already disjoint; a side it did not report is None."""

    input: Mapping[str, int] | None = None
    output: Mapping[str, int] | None = None
    suspect: str | None = None


@dataclass(frozen=True, slots=True)
class MeteredUsage:
    """What is billed (`units`) beside what we counted, and where the former came from."""

    units: Mapping[str, int]
    counted: Mapping[str, int]
    source: str
    tokenizer: str
    drift_tokens: int
    suspect: str | None
