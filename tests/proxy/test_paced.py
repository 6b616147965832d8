"""What is told of margins, and which target holds for a request."""

from __future__ import annotations

from dataclasses import replace

from fixtures_door import settings, tenant

from proxy.paced import credit_target_ms, target_ms
from proxy.wishes import USUAL, Wishes


def test_the_request_s_target_goes_before_its_model_s() -> None:
    """A header, else the model's key, else none."""
    made = settings({"one": "http://x"})
    slow = replace(made, models={"m": replace(made.models["m"], target_latency_ms=900)})

    assert target_ms(slow, "m", Wishes(target_ms=5)) == 5
    assert target_ms(slow, "m", USUAL) == 900
    assert target_ms(made, "m", USUAL) is None
    assert target_ms(made, "unknown", USUAL) is None


def test_only_what_was_promised_earns_credit_unless_the_tenant_may_set_it() -> None:
    """The model's key; a header counts for those who were told that it does."""
    made = settings({"one": "http://x"})
    slow = replace(made, models={"m": replace(made.models["m"], target_latency_ms=900)})
    usual, trusted = tenant(), replace(tenant(), targets_earn_credit=True)

    assert credit_target_ms(slow, usual, "m", Wishes(target_ms=5)) == 900
    assert credit_target_ms(made, usual, "m", Wishes(target_ms=5)) is None
    assert credit_target_ms(made, trusted, "m", Wishes(target_ms=5)) == 5
    assert credit_target_ms(slow, trusted, "m", USUAL) == 900
