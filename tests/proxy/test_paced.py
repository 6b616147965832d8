"""What is told of margins, and which target holds for a request."""

from __future__ import annotations

from dataclasses import replace

from fixtures_door import settings

from proxy.paced import target_ms
from proxy.wishes import USUAL, Wishes


def test_the_request_s_target_goes_before_its_model_s() -> None:
    """A header, else the model's key, else none."""
    made = settings({"one": "http://x"})
    slow = replace(made, models={"m": replace(made.models["m"], target_latency_ms=900)})

    assert target_ms(slow, "m", Wishes(target_ms=5)) == 5
    assert target_ms(slow, "m", USUAL) == 900
    assert target_ms(made, "m", USUAL) is None
    assert target_ms(made, "unknown", USUAL) is None
