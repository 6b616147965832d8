"""What Claude models differ in, told from their names as far as requests are written by it.

A Claude without a version is taken for a new one; what is no Claude, at a server that speaks this
format, for an old one: such servers know the older fields.
"""

from __future__ import annotations

import re

_ALWAYS = re.compile(r"claude\W*(?:mythos|fable)")
_VERSION = re.compile(r"claude\D*(\d{1,2})(?!\d)(?:[-.](\d{1,2})(?!\d))?")


def thinks_adaptively(model: str) -> bool:
    """Whether it decides itself how long to think, by an effort; older ones want a budget.

    The budget is deprecated on 4.6 and refused from 4.7 on (Anthropic, "Adaptive thinking").
    """
    return _is_since(model, (4, 6))


def always_thinks(model: str) -> bool:
    """Whether `thinking: disabled` is refused: Mythos and Fable think as little as their lowest
    effort has them, and no less (Amazon, "Adaptive thinking")."""
    return _ALWAYS.search(model.lower()) is not None


def refuses_sampling(model: str) -> bool:
    """Whether any temperature, `top_p` or `top_k` but the default is refused: from 4.7 on."""
    return _is_since(model, (4, 7))


def takes_beginning(model: str) -> bool:
    """Whether the last message may be the beginning of the answer: Claude takes one before 4.6,
    and refuses it from then on (Anthropic, "Prefill Claude's response")."""
    return "claude" in model.lower() and not _is_since(model, (4, 6))


def _is_since(model: str, version: tuple[int, int]) -> bool:
    name = model.lower()
    if "claude" not in name:
        return False
    found = _VERSION.search(name)
    return found is None or (int(found[1]), int(found[2] or 0)) >= version
