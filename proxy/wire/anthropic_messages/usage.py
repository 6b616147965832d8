"""Usage as the Messages API reports it, taken apart into disjoint classes.

Totals of the input are exclusive here: `input_tokens` holds neither what was read from a cache nor
what was written to one. `output_tokens` is inclusive: `output_tokens_details.thinking_tokens` are
part of it, where they are told at all. In a stream numbers are running totals: the input comes with
`message_start`, and `message_delta` has the output and may tell the input again. What a compaction
used stands under `iterations` only, and is billed. How fast and where it was served decides on
prices, and is told here, too. Searches of the web are billed apart; fetching a
page costs no more than its tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from metering.price_variants import PLACE
from metering.usage import (
    INPUT_AUDIO,
    INPUT_CACHE_READ,
    INPUT_CACHE_WRITE_1H,
    INPUT_CACHE_WRITE_5M,
    INPUT_IMAGE,
    INPUT_UNCACHED,
    OUTPUT_REASONING,
    OUTPUT_TEXT,
    WEB_SEARCH,
    ReportedUsage,
    is_count,
    output_total,
)
from proxy.told_usage import count_of

_INPUT_FIELDS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
_FIELDS = frozenset(
    {
        *_INPUT_FIELDS,
        "cache_creation",
        "output_tokens",
        "output_tokens_details",
        "server_tool_use",
        "iterations",
        "speed",
        "inference_geo",
    }
)
"""What is kept from one event of a stream to the next: no upstream is given the memory for more."""

_ITERATIONS_MAX = 256
"""More samplings than one request can take."""


def read_usage(usage: Mapping[str, Any]) -> ReportedUsage:
    """Disjoint token classes from a `usage` object; a side whose numbers cannot be is None."""
    suspect: list[str] = []
    doubt = list(_notes(usage))
    given = _split_input(usage, suspect, doubt)
    made = _split_output(usage, suspect, doubt)
    for compaction in _compactions(usage):
        given = _sum(given, _split_input(compaction, suspect, doubt))
        made = _sum(made, _split_output(compaction, suspect, doubt))
    return ReportedUsage(
        input=given,
        output=made,
        suspect="; ".join(suspect) or None,
        doubt="; ".join(doubt) or None,
        tools=_tools(usage),
        speed=speed if isinstance(speed := usage.get("speed"), str) else "",
        region=_region(usage.get("inference_geo")),
    )


class RunningUsage:
    """What the events of one stream have told until now."""

    __slots__ = ("_told",)

    def __init__(self) -> None:
        self._told: dict[str, Any] = {}

    def take(self, usage: Mapping[str, Any]) -> ReportedUsage:
        """All that is known with this report, which replaces what came before it field by field.

        Zeros that would make the input less than it was are passed over: some servers send them
        with the last event. Input that is less all the same is billed, and doubted.
        """
        before = self._told
        told = {name: usage[name] for name in _FIELDS if usage.get(name) is not None}
        merged = {**before, **told}
        was, became = _input_total(before), _input_total(merged)
        if became < was:
            merged |= {name: before[name] for name in _INPUT_FIELDS if before.get(name)}
            merged |= {name: told[name] for name in _INPUT_FIELDS if told.get(name)}
            became = _input_total(merged)
        if "cache_creation" not in told and isinstance(before.get("cache_creation"), dict):
            merged["cache_creation"] = _stretched(merged)
        self._told = merged
        report = read_usage(merged)
        if became >= was:
            return report
        less = "reported input became less"
        doubt = less if report.doubt is None else f"{less}; {report.doubt}"
        return replace(report, doubt=doubt)


def usage_of(units: Mapping[str, int]) -> dict[str, Any]:
    """Token classes as this format tells usage. It has none for sounds and images: they are input
    like any other."""
    short, long = units.get(INPUT_CACHE_WRITE_5M, 0), units.get(INPUT_CACHE_WRITE_1H, 0)
    usage: dict[str, Any] = {
        "input_tokens": sum(
            units.get(name, 0) for name in (INPUT_UNCACHED, INPUT_AUDIO, INPUT_IMAGE)
        ),
        "cache_creation_input_tokens": short + long,
        "cache_read_input_tokens": units.get(INPUT_CACHE_READ, 0),
        "output_tokens": output_total(units),
    }
    if short or long:
        usage["cache_creation"] = {
            "ephemeral_5m_input_tokens": short,
            "ephemeral_1h_input_tokens": long,
        }
    if thinking := units.get(OUTPUT_REASONING, 0):
        usage["output_tokens_details"] = {"thinking_tokens": thinking}
    return usage


def _input_total(usage: Mapping[str, Any]) -> int:
    """The whole input, as far as it is numbers."""
    return sum(int(each) for name in _INPUT_FIELDS if is_count(each := usage.get(name, 0)))


def _stretched(usage: Mapping[str, Any]) -> dict[str, Any]:
    """How long caches are kept, as told with an earlier total: what came since is kept as the rest
    is, and for five minutes where the rest is kept for both times."""
    split = dict(usage["cache_creation"])
    names = ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
    total = usage.get("cache_creation_input_tokens")
    short, long = (split.get(name, 0) for name in names)
    if not all(map(is_count, (total, short, long))):
        return split
    if (more := total - short - long) > 0:
        kept = names[1] if long and not short else names[0]
        split[kept] = split.get(kept, 0) + more
    return split


def _split_input(
    usage: Mapping[str, Any], suspect: list[str], doubt: list[str]
) -> dict[str, int] | None:
    plain = count_of(usage, "input_tokens", suspect)
    read = count_of(usage, "cache_read_input_tokens", suspect)
    short, long = _split_writes(usage, suspect, doubt)
    if plain is None:
        return None
    return {
        INPUT_UNCACHED: plain,
        INPUT_CACHE_READ: read or 0,
        INPUT_CACHE_WRITE_5M: short,
        INPUT_CACHE_WRITE_1H: long,
    }


def _split_writes(
    usage: Mapping[str, Any], suspect: list[str], doubt: list[str]
) -> tuple[int, int]:
    """What was written to caches for five minutes and for an hour; the former where it is not told
    how long, as it is what the API does unless asked otherwise."""
    written = count_of(usage, "cache_creation_input_tokens", suspect)
    split = usage.get("cache_creation")
    if not isinstance(split, Mapping):
        return written or 0, 0
    short = count_of(split, "ephemeral_5m_input_tokens", suspect) or 0
    long = count_of(split, "ephemeral_1h_input_tokens", suspect) or 0
    if written is None or written == short + long:
        return short, long
    doubt.append("cache_creation is not the sum of its parts")
    long = min(long, written)
    return written - long, long


def _split_output(
    usage: Mapping[str, Any], suspect: list[str], doubt: list[str]
) -> dict[str, int] | None:
    made = count_of(usage, "output_tokens", suspect)
    if made is None:
        return None
    details = usage.get("output_tokens_details")
    told = details.get("thinking_tokens") if isinstance(details, Mapping) else None
    thinking = int(told) if is_count(told) else 0  # type: ignore[arg-type]  # is_count proved it
    if thinking > made:
        doubt.append("thinking_tokens are more than output_tokens holds")
        thinking = made
    return {OUTPUT_TEXT: made - thinking, OUTPUT_REASONING: thinking}


def _iterations(usage: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    told = usage.get("iterations")
    if isinstance(told, list):
        yield from (each for each in told[:_ITERATIONS_MAX] if isinstance(each, Mapping))


def _compactions(usage: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    return (each for each in _iterations(usage) if each.get("type") == "compaction")


def _sum(one: dict[str, int] | None, other: dict[str, int] | None) -> dict[str, int] | None:
    if one is None or other is None:
        return one
    return {name: tokens + other[name] for name, tokens in one.items()}


def _tools(usage: Mapping[str, Any]) -> dict[str, int] | None:
    """Uses of Anthropic's own tools that are billed; None where it does not speak of them."""
    told = usage.get("server_tool_use")
    searches = told.get("web_search_requests") if isinstance(told, Mapping) else None
    if not isinstance(searches, int) or not is_count(searches):
        return None
    return {WEB_SEARCH: searches} if searches else {}


def _region(told: object) -> str | None:
    """Where it was served; `not_available` is said of models that cannot be told where."""
    return told if isinstance(told, str) and PLACE.fullmatch(told) else None


def _notes(usage: Mapping[str, Any]) -> Iterator[str]:
    """What the provider bills beside these tokens."""
    kinds = {each.get("type") for each in _iterations(usage) if isinstance(each.get("type"), str)}
    for kind in ("advisor_message", "fallback_message"):
        if kind in kinds:
            yield f"iterations of type {kind} are of another model"
