"""Content in parts, as Mistral's thinking models answer, made plain for the writers of formats."""

from __future__ import annotations

from typing import Any

from proxy.reply import thought_of


def plain(answer: dict[str, Any], part: str) -> dict[str, Any]:
    """A completion or chunk whose content is text; the same object where it is so already.

    `part` is `message` or `delta`. Thinking becomes `reasoning_content`, as does what stands under
    `reasoning` alone; pictures become `images`, and what is none of these stays under `parts`, for
    the meter.
    """
    choices = answer["choices"]
    if not any(_is_odd(choice, part) for choice in choices):
        return answer
    told = [
        {**choice, part: _plain(choice[part])} if _is_odd(choice, part) else choice
        for choice in choices
    ]
    return {**answer, "choices": told}


def _is_odd(choice: object, part: str) -> bool:
    said = choice.get(part) if isinstance(choice, dict) else None
    if not isinstance(said, dict):
        return False
    if isinstance(said.get("content"), list):
        return True
    return isinstance(said.get("reasoning"), str) and not said.get("reasoning_content")


def _plain(said: dict[str, Any]) -> dict[str, Any]:
    made = dict(said)
    if isinstance(parts := said.get("content"), list):
        texts: list[str] = []
        thoughts: list[str] = []
        rest: dict[str, list[Any]] = {}
        for each in parts:
            _sort(each, texts, thoughts, rest)
        made["content"] = "".join(texts) if texts else None
        if thoughts and not isinstance(said.get("reasoning_content"), str):
            made["reasoning_content"] = "".join(thoughts)
        for name, found in rest.items():
            before = said.get(name)
            made[name] = [*before, *found] if isinstance(before, list) else found
    if not made.get("reasoning_content") and isinstance(said.get("reasoning"), str):
        made["reasoning_content"] = said["reasoning"]
    return made


def _sort(part: Any, texts: list[str], thoughts: list[str], rest: dict[str, list[Any]]) -> None:
    if isinstance(part, str):
        texts.append(part)
        return
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
        texts.append(part["text"])
    elif kind == "thinking" and (thought := thought_of(part)):
        thoughts.append(thought)
    else:
        rest.setdefault("images" if kind == "image_url" else "parts", []).append(part)
