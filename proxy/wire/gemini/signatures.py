"""Gemini's thought signatures on their way through a client that speaks another format.

Gemini signs parts of its answers (`thoughtSignature`) and wants the signature of a function call
back with that call; its third generation refuses a step of the current turn whose first call has
none. It travels where Google's own OpenAI-compatible API has it, `extra_content.google.
thought_signature` of a tool call or message; and, for clients that keep thinking and nothing else,
as the signature of a thinking block, marked as ours there: another vendor's is of no use to Gemini.
"""

from __future__ import annotations

import re
from typing import Any

MARK = "gemini:"
"""What the signature of a thinking block begins with when it is one of Gemini's."""

UNSIGNED = "skip_thought_signature_validator"
"""What Google documents for calls that another model made, or whose signature was lost."""

_GENERATION = re.compile(r"gemini-(\d+)")
_SIGNATURE_MAX = 1024 * 1024
_SIGNS_SINCE = 3


def extra_content(signature: str) -> dict[str, Any]:
    """A signature as it stands in a tool call, message or delta."""
    return {"google": {"thought_signature": signature}}


def signature_in(holder: dict[str, Any]) -> str | None:
    """The signature that a tool call or message was given back with."""
    extra = holder.get("extra_content")
    google = extra.get("google") if isinstance(extra, dict) else None
    return _signature(google.get("thought_signature")) if isinstance(google, dict) else None


def signature_in_blocks(blocks: object) -> str | None:
    """The last of Gemini's signatures among the thinking blocks of a message."""
    if not isinstance(blocks, list):
        return None
    for block in reversed(blocks):
        found = _signature(block.get("signature")) if isinstance(block, dict) else None
        if found is not None and found.startswith(MARK):
            return found.removeprefix(MARK) or None
    return None


def thinking_block(thinking: str, signature: str) -> dict[str, Any]:
    """A thinking block with a signature of Gemini's."""
    return {"type": "thinking", "thinking": thinking, "signature": MARK + signature}


def generation(model: str) -> int:
    """The generation of a Gemini model; names without a number (`gemini-flash-latest`, tuned ones)
    count as the third, in which the present ones are."""
    found = _GENERATION.search(model)
    return int(found[1][:4]) if found else _SIGNS_SINCE


def must_sign(model: str) -> bool:
    """Whether this model refuses calls without a signature."""
    return generation(model) >= _SIGNS_SINCE


def _signature(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= _SIGNATURE_MAX else None
