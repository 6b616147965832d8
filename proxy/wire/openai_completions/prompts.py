"""What stands under `prompt` (or `input`, of embeddings): a text, tokens, or a list of either.

Pure. Tokens are those of the model that is asked, so their number is exact whoever counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from metering.tokenizer import Tokenizer, count_text, tokenizer_for

Prompt = str | list[int]

TOKEN_MAX = 2**32 - 1
"""No vocabulary is near it; tokenizers take no wider number."""


def read_prompts(value: Any) -> list[Prompt] | None:
    """Every prompt in order; None for what is none, an empty list among that."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not value:
        return None
    if _is_tokens(value):
        return [value]
    if all(isinstance(each, str) for each in value):
        return list(value)
    if all(isinstance(each, list) and each and _is_tokens(each) for each in value):
        return list(value)
    return None


def _is_tokens(value: list[Any]) -> bool:
    # in C, all three: there may be some hundred thousand; a bool is no int here
    return set(map(type, value)) == {int} and min(value) >= 0 and max(value) <= TOKEN_MAX


def count_prompts(tokenizer: Tokenizer, prompts: Sequence[Prompt]) -> int:
    """Tokens of all of them. Nothing frames them, so this is exact where the tokenizer is."""
    of_encoding, given = 0, 0
    for prompt in prompts:
        if isinstance(prompt, str):
            of_encoding += count_text(tokenizer.encoding, prompt)
        else:
            given += len(prompt)
    return tokenizer.scale(of_encoding) + given


def text_of(prompt: Prompt, model: str) -> str | None:
    """The text that an echo of this prompt begins with; None where its tokens cannot be read."""
    if isinstance(prompt, str):
        return prompt
    tokenizer = tokenizer_for(model)
    if not tokenizer.is_exact:
        return None
    try:
        return tokenizer.encoding.decode(prompt)
    except (KeyError, OverflowError):
        return None
