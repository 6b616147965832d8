"""Events as bytes."""

from __future__ import annotations

import json

from proxy.wire.anthropic_messages.client_events import dumped, event


def test_an_event_has_its_name_beside_its_data() -> None:
    """One line each, and a blank one."""
    assert event("ping", {"type": "ping"}) == b'event: ping\ndata: {"type":"ping"}\n\n'


def test_half_a_pair_can_be_written() -> None:
    """A model's text may be cut between the halves of a surrogate pair, which orjson refuses."""
    assert json.loads(dumped({"text": "\ud83d"})) == {"text": "\ud83d"}
    assert dumped({"n": 2**70}) == b'{"n":%d}' % 2**70
