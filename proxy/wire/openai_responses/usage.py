"""Usage as responses report it, taken apart into disjoint classes, and told in its words.

Totals are inclusive: `input_tokens` holds what was read from the cache or written to it,
`output_tokens` holds reasoning (OpenAI API description, `ResponseUsage`). It comes once, with the
event that ends a stream. What tools of the vendor cost beside tokens is told in `tool_usage`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metering.usage import (
    INPUT_CACHE_READ,
    INPUT_CACHE_WRITE_1H,
    INPUT_CACHE_WRITE_5M,
    INPUT_CLASSES,
    INPUT_UNCACHED,
    OUTPUT_REASONING,
    OUTPUT_TEXT,
    TOKEN_CLASSES,
    ReportedUsage,
    is_count,
)
from proxy.told_usage import count_of, reported


def read_usage(usage: Mapping[str, Any]) -> ReportedUsage:
    """Disjoint token classes from a `usage` object; a side whose numbers cannot be is None."""
    suspect: list[str] = []
    doubt: list[str] = []
    total_in = count_of(usage, "input_tokens", suspect)
    total_out = count_of(usage, "output_tokens", suspect)
    given = None if total_in is None else _split_input(total_in, usage, suspect)
    made = None if total_out is None else _split_output(total_out, total_in, usage, doubt)
    return reported(given, made, usage, "total_tokens", suspect=suspect, doubt=doubt)


def read_response_usage(response: Mapping[str, Any]) -> ReportedUsage | None:
    """The usage of a response object; in doubt where the vendor's tools cost more than it holds."""
    usage = response.get("usage")
    if not isinstance(usage, dict):
        return None
    found = read_usage(usage)
    if beside := _tools_beside(response.get("tool_usage")):
        doubt = f"billed apart and not in this usage: {beside}"
        return ReportedUsage(
            input=found.input,
            output=found.output,
            suspect=found.suspect,
            doubt=doubt if found.doubt is None else f"{found.doubt}; {doubt}",
        )
    return found


def usage_of(units: Mapping[str, int]) -> dict[str, Any]:
    """Token classes as this format tells usage."""
    given = sum(units.get(name, 0) for name in INPUT_CLASSES)
    every = sum(units.get(name, 0) for name in TOKEN_CLASSES)
    writes = units.get(INPUT_CACHE_WRITE_5M, 0) + units.get(INPUT_CACHE_WRITE_1H, 0)
    return {
        "input_tokens": given,
        "input_tokens_details": {
            "cached_tokens": units.get(INPUT_CACHE_READ, 0),
            "cache_write_tokens": writes,
        },
        "output_tokens": every - given,
        "output_tokens_details": {"reasoning_tokens": units.get(OUTPUT_REASONING, 0)},
        "total_tokens": every,
    }


def _detail(usage: Mapping[str, Any], group: str, name: str, odd: list[str]) -> int:
    details = usage.get(group)
    value = details.get(name) if isinstance(details, Mapping) else None
    if value is None:
        return 0
    if not is_count(value):
        odd.append(f"{name} is not a believable count")
        return 0
    return int(value)


def _split_input(total: int, usage: Mapping[str, Any], suspect: list[str]) -> dict[str, int]:
    split: dict[str, int] = {}
    left = total
    for unit, name in (
        (INPUT_CACHE_READ, "cached_tokens"),
        (INPUT_CACHE_WRITE_5M, "cache_write_tokens"),
    ):
        part = _detail(usage, "input_tokens_details", name, suspect)
        if part > left:
            suspect.append(f"{name} is more than input_tokens holds")
            part = left
        split[unit] = part
        left -= part
    split[INPUT_UNCACHED] = left
    return split


def _split_output(
    total_out: int, total_in: int | None, usage: Mapping[str, Any], doubt: list[str]
) -> dict[str, int]:
    """Some compatible servers leave reasoning out of `output_tokens` and show it in the total
    only; the three numbers tell the two apart."""
    reasoning = _detail(usage, "output_tokens_details", "reasoning_tokens", doubt)
    total = usage.get("total_tokens")
    if reasoning > 0 and type(total) is int and total == (total_in or 0) + total_out + reasoning:
        return {OUTPUT_TEXT: total_out, OUTPUT_REASONING: reasoning}
    if reasoning > total_out:
        doubt.append("reasoning_tokens is more than output_tokens holds")
        reasoning = total_out
    return {OUTPUT_TEXT: total_out - reasoning, OUTPUT_REASONING: reasoning}


def _tools_beside(tool_usage: object) -> str:
    told = tool_usage if isinstance(tool_usage, Mapping) else {}
    numbers = (
        ("web searches", told.get("web_search"), "num_requests"),
        ("image generation tokens", told.get("image_gen"), "total_tokens"),
    )
    found = []
    for words, group, name in numbers:
        value = group.get(name) if isinstance(group, Mapping) else None
        if is_count(value) and value:
            found.append(f"{value} {words}")
    return ", ".join(found)
