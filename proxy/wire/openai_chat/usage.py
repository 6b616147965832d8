"""Usage as OpenAI's chat completions report it, taken apart into disjoint classes.

Totals are inclusive in this format: `prompt_tokens` holds cached, audio and image tokens,
`completion_tokens` holds reasoning and rejected predictions (OpenAI API description,
`CompletionUsage`). Some compatible servers leave reasoning out of `completion_tokens` and show it
in `total_tokens` only; the three numbers tell the two apart. Usage may come on any chunk, and a
later one replaces an earlier one: these are snapshots, never deltas.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metering.usage import (
    INPUT_AUDIO,
    INPUT_CACHE_READ,
    INPUT_CACHE_WRITE_5M,
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


def read_usage(usage: Mapping[str, Any]) -> ReportedUsage:
    """Disjoint token classes from a `usage` object; a side whose numbers cannot be is None."""
    suspect: list[str] = []
    doubt: list[str] = []
    prompt = count_of(usage, "prompt_tokens", suspect)
    completion = count_of(usage, "completion_tokens", suspect)
    given = None if prompt is None else _split_prompt(prompt, usage, suspect)
    made = None if completion is None else _split_completion(completion, prompt, usage, doubt)
    return reported(given, made, usage, "total_tokens", suspect=suspect, doubt=doubt)


def _detail(usage: Mapping[str, Any], group: str, name: str) -> int:
    details = usage.get(group)
    if details is None:
        return 0
    value = details.get(name) if isinstance(details, Mapping) else None
    return int(value) if is_count(value) else 0  # type: ignore[arg-type]  # is_count proved it


def _split_prompt(prompt: int, usage: Mapping[str, Any], suspect: list[str]) -> dict[str, int]:
    group = "prompt_tokens_details"
    split: dict[str, int] = {}
    left = prompt
    for unit, name in (
        (INPUT_CACHE_READ, "cached_tokens"),
        (INPUT_CACHE_WRITE_5M, "cache_write_tokens"),
        (INPUT_AUDIO, "audio_tokens"),
        (INPUT_IMAGE, "image_tokens"),
    ):
        part = _detail(usage, group, name)
        if part > left:
            suspect.append(f"{name} is more than prompt_tokens holds")
            part = left
        split[unit] = part
        left -= part
    split[INPUT_UNCACHED] = left
    return split


def _split_completion(
    completion: int, prompt: int | None, usage: Mapping[str, Any], doubt: list[str]
) -> dict[str, int]:
    group = "completion_tokens_details"
    reasoning = _detail(usage, group, "reasoning_tokens")
    audio = _detail(usage, group, "audio_tokens")
    image = _detail(usage, group, "image_tokens")
    total = usage.get("total_tokens")
    is_exclusive = reasoning > 0 and total == (prompt or 0) + completion + reasoning
    if reasoning + audio + image > completion and not is_exclusive:
        doubt.append("the details are more than completion_tokens holds")
    if not is_exclusive:
        reasoning = min(reasoning, completion)
    audio = min(audio, completion if is_exclusive else completion - reasoning)
    text = completion - audio - (0 if is_exclusive else reasoning)
    image = min(image, text)
    return {
        OUTPUT_TEXT: text - image,
        OUTPUT_REASONING: reasoning,
        OUTPUT_AUDIO: audio,
        OUTPUT_IMAGE: image,
    }
