"""Messages to other systems: their bytes, names and signatures."""

from __future__ import annotations

import json

import pytest

from metering.settlement.webhooks import (
    HOUR_NS,
    Message,
    body_of,
    digest_of,
    headers_of,
    message_id,
    pause_ns,
    usage_data,
)
from metering.webhook_settings import WebhookFormat, read_secret

AT = 1_793_491_200 * 1_000_000_000
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MESSAGE = Message(1, "msg_1", "usage.hourly", "acme", '{"tenant":"acme"}', 0, AT, AT)


def test_the_signature_is_that_of_the_specification() -> None:
    """The example that Standard Webhooks' own libraries are tested with."""
    headers = headers_of(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        b'{"test": 2432232314}',
        read_secret(SECRET),
        at_s=1_614_265_330,
    )

    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_two_secrets_sign_side_by_side() -> None:
    """As the specification has it while a secret is replaced: each as if it were alone."""
    alone = [headers_of("m", b"{}", key, at_s=1)["webhook-signature"] for key in (b"new", b"old")]

    both = headers_of("m", b"{}", b"new", b"old", at_s=1)["webhook-signature"]

    assert both.split(" ") == alone


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "whsec_AAAA", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", f"{SECRET}!"]
)
def test_another_secret_is_refused(secret: str) -> None:
    with pytest.raises(ValueError, match="whsec_") as caught:
        read_secret(secret)
    assert "MfKQ" not in str(caught.value)


def test_both_formats_carry_the_same_data() -> None:
    """CloudEvents has every attribute that version 1.0 requires."""
    kind, plain = body_of(MESSAGE, WebhookFormat.STANDARD, source="urn:tokenweir:1")
    assert kind == "application/json"
    assert json.loads(plain) == {
        "type": "usage.hourly",
        "timestamp": "2026-11-01T00:00:00Z",
        "data": {"tenant": "acme"},
    }

    kind, event = body_of(MESSAGE, WebhookFormat.CLOUDEVENTS, source="urn:tokenweir:1")
    assert kind == "application/cloudevents+json"
    assert json.loads(event) == {
        "specversion": "1.0",
        "id": "msg_1",
        "source": "urn:tokenweir:1",
        "type": "tokenweir.usage.hourly",
        "subject": "acme",
        "time": "2026-11-01T00:00:00Z",
        "datacontenttype": "application/json",
        "data": {"tenant": "acme"},
    }


def test_the_order_of_rows_says_nothing() -> None:
    """The same usage has the same id, and another revision another one."""
    lines = [
        {"model": model, "type": "input_uncached", "quantity": 5, "sell_nano": nano}
        for model, nano in (("a", 1), ("b", 2_000_000_000))
    ]
    one = usage_data("acme", AT, lines, revision=1)
    other = usage_data("acme", AT, lines[::-1], revision=1)

    assert one == other
    assert (one["hour"], one["until"]) == ("2026-11-01T00:00:00Z", "2026-11-01T01:00:00Z")
    assert [one["amount_usd"], *(line["amount_usd"] for line in one["lines"])] == [
        "2.000000001",
        "0.000000001",
        "2.000000000",
    ]
    assert digest_of(one) == digest_of(usage_data("acme", AT, lines, revision=2))
    names = {
        message_id("usage.hourly", "acme", str(AT), revision=revision, digest=digest_of(one))
        for revision in (1, 2, 1)
    }
    assert len(names) == 2


def test_pauses_grow_to_an_hour() -> None:
    assert [pause_ns(each) // 1_000_000_000 for each in (0, 1, 9, 99)] == [5, 10, 2_560, 3_600]
    assert pause_ns(99) <= HOUR_NS
