"""Usage as Gemini reports it (`usageMetadata`), taken apart into disjoint classes.

What includes what (API reference, `UsageMetadata`): `promptTokenCount` holds the cached tokens,
`toolUsePromptTokenCount` comes on top of it; `candidatesTokenCount` is without the thoughts, and
`totalTokenCount` is the sum of the four. Some servers have reported thoughts within the candidates:
the total tells the two apart. Every event of a stream has the running totals, never deltas. Zeros
are left out, as protobuf does: the total tells a zero from what is not known yet.

Images and sounds are told by modality, for the prompt with what is cached of it. Video and
documents are priced as text by Google, and are counted as such.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    ReportedUsage,
    is_count,
)
from proxy.told_usage import count_of, reported

OUTPUT_COUNTS = ("candidatesTokenCount", "thoughtsTokenCount")
_COUNTS = (
    "promptTokenCount",
    "cachedContentTokenCount",
    "toolUsePromptTokenCount",
    *OUTPUT_COUNTS,
    "totalTokenCount",
)
_NONE: Mapping[str, int] = {}
_DETAILS_MAX = 64  # there are half a dozen modalities; more is no list of them


def read_usage(usage: Mapping[str, Any]) -> ReportedUsage:
    """Disjoint token classes from `usageMetadata`; a side that is not told yet is None."""
    suspect: list[str] = []
    doubt: list[str] = []
    counts = {name: count_of(usage, name, suspect) for name in _COUNTS}
    given = _input(usage, counts, suspect, doubt)
    made = _output(usage, counts, doubt)
    return reported(given, made, usage, "totalTokenCount", suspect=suspect, doubt=doubt)


def _input(
    usage: Mapping[str, Any],
    counts: Mapping[str, int | None],
    suspect: list[str],
    doubt: list[str],
) -> dict[str, int] | None:
    prompt = counts["promptTokenCount"]
    if prompt is None:
        return None
    cached = counts["cachedContentTokenCount"] or 0
    if cached > prompt:
        suspect.append("cachedContentTokenCount is more than promptTokenCount holds")
        cached = prompt
    left = prompt - cached + (counts["toolUsePromptTokenCount"] or 0)
    split = {INPUT_CACHE_READ: cached}
    prompted = _modalities(usage, "promptTokensDetails")
    cached_of = _modalities(usage, "cacheTokensDetails")
    used = _modalities(usage, "toolUsePromptTokensDetails")
    for unit, modality in ((INPUT_AUDIO, "AUDIO"), (INPUT_IMAGE, "IMAGE")):
        part = prompted.get(modality, 0) - cached_of.get(modality, 0) + used.get(modality, 0)
        if not 0 <= part <= left:
            doubt.append(f"the {modality} tokens are more or less than the prompt can hold")
            part = max(0, min(part, left))
        split[unit] = part
        left -= part
    split[INPUT_UNCACHED] = left
    return split


def _output(
    usage: Mapping[str, Any], counts: Mapping[str, int | None], doubt: list[str]
) -> dict[str, int] | None:
    candidates, thoughts = counts["candidatesTokenCount"], counts["thoughtsTokenCount"]
    total = counts["totalTokenCount"]
    prompt = (counts["promptTokenCount"] or 0) + (counts["toolUsePromptTokenCount"] or 0)
    if candidates is None and thoughts is None and total != prompt:
        return None
    said, thought = candidates or 0, thoughts or 0
    if total == prompt + said and 0 < thought <= said:
        said -= thought  # they were within
    made = _modalities(usage, "candidatesTokensDetails")
    split = {OUTPUT_REASONING: thought}
    for unit, modality in ((OUTPUT_AUDIO, "AUDIO"), (OUTPUT_IMAGE, "IMAGE")):
        part = made.get(modality, 0)
        if part > said:
            doubt.append(f"the {modality} tokens are more than candidatesTokenCount holds")
            part = said
        split[unit] = part
        said -= part
    return {OUTPUT_TEXT: said, **split}


def _modalities(usage: Mapping[str, Any], name: str) -> Mapping[str, int]:
    """Tokens by modality."""
    details = usage.get(name)
    if not isinstance(details, list):
        return _NONE
    tokens: dict[str, int] = {}
    for each in details[:_DETAILS_MAX]:
        if isinstance(each, dict) and isinstance(modality := each.get("modality"), str):
            count = each.get("tokenCount")
            if count is not None and is_count(count):
                tokens[modality] = tokens.get(modality, 0) + count
    return tokens
