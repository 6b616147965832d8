"""Response objects of our own: what was asked for is repeated, what we do not do is not claimed."""

from __future__ import annotations

from typing import Any

from openai.types.responses import Response

from proxy.wire.openai_responses.answers import begun, ended
from proxy.wire.openai_responses.usage import usage_of


def of(**body: Any) -> dict[str, Any]:
    return begun(body, response_id="resp_1", model="m", created_s=5)


def test_what_was_asked_for_is_repeated() -> None:
    """Clients read their own settings back; nulls are what nobody asked for."""
    found = of(instructions="Be brief.", temperature=0.2, tools=None)

    assert (found["instructions"], found["temperature"], found["tools"]) == ("Be brief.", 0.2, [])


def test_nothing_is_claimed_to_be_kept() -> None:
    """What is translated is stored nowhere, and continues nothing."""
    found = of(store=True, previous_response_id="resp_0")

    assert (found["store"], found["previous_response_id"]) == (False, None)


def test_it_is_valid_at_every_stage() -> None:
    """OpenAI's own type accepts it begun, completed and incomplete."""
    first = of()
    last = ended(first, [], usage_of({}))
    short = ended(first, [], usage_of({}), incomplete="max_output_tokens")

    for each in (first, last, short):
        Response.model_validate(each)
    assert [each["status"] for each in (first, last, short)] == [
        "in_progress",
        "completed",
        "incomplete",
    ]
    assert first["usage"] is None
