"""The usage of a session: the sum of what its events tell."""

from __future__ import annotations

import orjson
from hypothesis import given
from hypothesis import strategies as st

from proxy.realtime_usage import SessionUsage


def test_events_are_summed() -> None:
    """Responses and transcriptions; what tells nothing changes nothing."""
    session = SessionUsage()
    transcribed = {
        "type": "conversation.item.input_audio_transcription.completed",
        "usage": {"type": "duration", "seconds": 1.5},
    }
    done = {"type": "response.done", "response": {"usage": {"input_tokens": 3}}}

    told = [
        session.hear(orjson.dumps(each).decode())
        for each in (done, transcribed, done, {"type": "x", "delta": '"usage"'})
    ]

    assert told == [True, True, True, False]
    assert session.usage.units == {"input_uncached": 6, "second": 2}


def test_a_lie_is_remembered() -> None:
    """Whatever follows, the session is suspect."""
    session = SessionUsage()

    session.hear('{"response":{"usage":{"input_tokens":-5}}}')
    session.hear('{"response":{"usage":{"input_tokens":5}}}')

    assert session.usage.suspect is not None
    assert not session.has_answered
    assert session.usage.units == {"input_uncached": 5}


@given(st.text(max_size=50))
def test_any_text_is_survived(text: str) -> None:
    """Half a surrogate pair, too."""
    SessionUsage().hear(text)
    SessionUsage().hear('{"usage": ' + text + "\ud800}")
