"""Usage as responses report it, taken apart into disjoint classes, and told in its words.

Totals are inclusive: `input_tokens` holds what was read from the cache or written to it,
`output_tokens` holds reasoning (OpenAI API description, `ResponseUsage`). It comes once, with the
event that ends a stream. What tools of the vendor cost beside tokens is told in `tool_usage`, or
can be seen from the calls in `output`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from metering.usage import (
    CODE_SESSION,
    FILE_SEARCH,
    IMAGE,
    INPUT_CACHE_READ,
    INPUT_CACHE_WRITE_1H,
    INPUT_CACHE_WRITE_5M,
    INPUT_CLASSES,
    INPUT_UNCACHED,
    OUTPUT_IMAGE,
    OUTPUT_REASONING,
    OUTPUT_TEXT,
    TOKEN_CLASSES,
    WEB_SEARCH,
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
    """The usage of a response object with the uses of the vendor's tools."""
    usage, tools = response.get("usage"), read_tools(response)
    if not isinstance(usage, dict):
        return None if tools is None else ReportedUsage(tools=tools)
    found = read_usage(usage)
    return found if tools is None else replace(found, tools=tools)


def read_tools(response: Mapping[str, Any]) -> dict[str, int] | None:
    """Uses of the vendor's tools: searches as they are told, else as many as there are calls."""
    calls = ToolCalls()
    output = response.get("output")
    for item in output if isinstance(output, list) else ():
        if isinstance(item, Mapping):
            calls.add(item)
    tools = calls.uses()
    if (searches := _told(response, "web_search", "num_requests")) is not None:
        tools[WEB_SEARCH] = searches
    if _told(response, "image_gen", "total_tokens"):
        tools.setdefault(IMAGE, 1)
    return {unit: count for unit, count in tools.items() if count} or None


def _told(response: Mapping[str, Any], tool: str, name: str) -> int | None:
    told = response.get("tool_usage")
    group = told.get(tool) if isinstance(told, Mapping) else None
    value = group.get(name) if isinstance(group, Mapping) else None
    return value if isinstance(value, int) and is_count(value) else None


class ToolCalls:
    """The calls of the vendor's tools among the items of one response.

    A container that code runs in is billed once for each response that uses it: whether it was
    opened for an earlier one is not told.
    """

    __slots__ = ("_containers", "_uses")

    def __init__(self) -> None:
        self._uses: dict[str, int] = {}
        self._containers: set[str] = set()

    def add(self, item: Mapping[str, Any]) -> bool:
        """Count an item that is done; whether it is such a call. To open a page, or to look for
        something in it, costs nothing: only searches do."""
        kind = item.get("type")
        unit = _CALLS.get(kind) if isinstance(kind, str) else None
        if unit is None or item.get("status") == "failed":
            return False
        action = item.get("action")
        kind = action.get("type") if isinstance(action, Mapping) else None
        if unit == WEB_SEARCH and kind not in (None, "search"):
            return False
        if unit == CODE_SESSION:
            container = item.get("container_id")
            if len(self._containers) < _CONTAINERS_MAX:
                self._containers.add(container if isinstance(container, str) else "")
            self._uses[unit] = len(self._containers)
        else:
            self._uses[unit] = self._uses.get(unit, 0) + 1
        return True

    def uses(self) -> dict[str, int]:
        """How often each was used, by unit."""
        return dict(self._uses)


_CALLS = {
    "web_search_call": WEB_SEARCH,
    "file_search_call": FILE_SEARCH,
    "code_interpreter_call": CODE_SESSION,
    "image_generation_call": IMAGE,
}
_CONTAINERS_MAX = 256
"""More than any response runs."""


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
        total_out += reasoning
    if reasoning > total_out:
        doubt.append("reasoning_tokens is more than output_tokens holds")
        reasoning = total_out
    left = total_out - reasoning
    image = _detail(usage, "output_tokens_details", "image_tokens", doubt)
    if image > left:
        doubt.append("image_tokens is more than output_tokens holds")
        image = left
    return {OUTPUT_TEXT: left - image, OUTPUT_REASONING: reasoning, OUTPUT_IMAGE: image}
