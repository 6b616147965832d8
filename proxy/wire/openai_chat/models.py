"""What OpenAI's models differ in, told from their names as far as requests are written by it.

A name may stand behind a maker's (`openai/gpt-4o`) or a fine-tuning's (`ft:gpt-4o:...`). The open
models (`gpt-oss`) are served by others and have those servers' fields.
"""

from __future__ import annotations

import re

_OWN = re.compile(r"(?:^|[/:])(?:(?:chat)?gpt-\d|o\d(?!\d)|codex-)")
_UNREASONING = re.compile(r"(?:^|[/:])(?:chat)?gpt-(?:3\.5|35|4)(?!\d)")


def is_openai(model: str) -> bool:
    """Whether it is one of OpenAI's own, which know no field but theirs."""
    return _OWN.search(model.lower()) is not None


def is_unreasoning(model: str) -> bool:
    """Whether it is of a family that refuses `reasoning_effort`: GPT-3.5, 4, 4o and 4.1. What has
    another name, as deployments at Azure may, is not known."""
    return _UNREASONING.search(model.lower()) is not None
