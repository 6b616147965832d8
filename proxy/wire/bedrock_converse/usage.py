"""Usage as Converse reports it, taken apart into disjoint classes.

Totals are exclusive in this format: `inputTokens` holds neither what was read from the cache nor
what was written to it, and `totalTokens` is the sum of all four (AWS, "Prompt caching for faster
model inference"). `outputTokens` holds the reasoning, which is not told apart. `cacheDetails` says
how long what was written is kept; without it that is five minutes, which is what is written where
nothing else was asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metering.usage import (
    INPUT_CACHE_READ,
    INPUT_CACHE_WRITE_1H,
    INPUT_CACHE_WRITE_5M,
    INPUT_UNCACHED,
    OUTPUT_TEXT,
    ReportedUsage,
)
from proxy.told_usage import count_of, reported


def read_usage(usage: Mapping[str, Any]) -> ReportedUsage:
    """Disjoint token classes from a `usage` object; a side whose numbers cannot be is None."""
    suspect: list[str] = []
    doubt: list[str] = []
    output = count_of(usage, "outputTokens", suspect)
    given = _input(usage, suspect, doubt)
    made = None if output is None else {OUTPUT_TEXT: output}
    return reported(given, made, usage, "totalTokens", suspect=suspect, doubt=doubt)


def _input(usage: Mapping[str, Any], suspect: list[str], doubt: list[str]) -> dict[str, int] | None:
    uncached = count_of(usage, "inputTokens", suspect)
    read = count_of(usage, "cacheReadInputTokens", suspect) or 0
    told = count_of(usage, "cacheWriteInputTokens", suspect)
    if uncached is None:
        return None
    by_ttl = _by_ttl(usage.get("cacheDetails"), suspect)
    itemised = sum(by_ttl.values())
    written = itemised if told is None else told
    if by_ttl and itemised != written:
        doubt.append("cacheDetails are not the sum of cacheWriteInputTokens")
    long = min(by_ttl.get("1h", 0), written)
    return {
        INPUT_UNCACHED: uncached,
        INPUT_CACHE_READ: read,
        INPUT_CACHE_WRITE_5M: written - long,
        INPUT_CACHE_WRITE_1H: long,
    }


def _by_ttl(details: Any, suspect: list[str]) -> dict[str, int]:
    """Tokens written to the cache by how long they are kept."""
    found: dict[str, int] = {}
    for each in details if isinstance(details, list) else ():
        if not isinstance(each, Mapping):
            continue
        ttl = each.get("ttl")
        count = count_of(each, "inputTokens", suspect)
        if isinstance(ttl, str) and count is not None:
            found[ttl] = found.get(ttl, 0) + count
    return found
