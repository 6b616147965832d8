"""Stripe's signatures, against those that its own SDK makes and takes."""

from __future__ import annotations

import pytest

from metering.stripe_signature import BadSignatureError, sign, verify_signature

SECRET, OTHER = "whsec_0123456789abcdef", "whsec_fedcba9876543210"
BODY = b'{"id":"evt_1"}'
NOW_S = 1_793_491_200


def refusal(header: str, *, body: bytes = BODY, now_s: int = NOW_S) -> str:
    with pytest.raises(BadSignatureError) as caught:
        verify_signature(body, header, [SECRET], now_s=now_s)
    assert SECRET not in str(caught.value)
    return str(caught.value)


def test_it_is_the_signature_of_stripes_sdk() -> None:
    """The same text signed by the SDK's own function."""
    stripe = pytest.importorskip("stripe")
    theirs = stripe.WebhookSignature._compute_signature(f"{NOW_S}.{BODY.decode()}", SECRET)

    assert sign(BODY, SECRET, at_s=NOW_S) == f"t={NOW_S},v1={theirs}"


def test_one_of_several_secrets_is_enough() -> None:
    """While a secret is rolled, Stripe signs with both, and we know both."""
    both = sign(BODY, OTHER, at_s=NOW_S) + ",v1=" + sign(BODY, SECRET, at_s=NOW_S)[-64:]

    verify_signature(BODY, both, [SECRET], now_s=NOW_S)
    verify_signature(BODY, sign(BODY, OTHER, at_s=NOW_S), [SECRET, OTHER], now_s=NOW_S + 300)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "t=,v1=00",
        f"t={NOW_S}",
        f"t={NOW_S},v0=00",
        f"t={NOW_S},t={NOW_S},v1=00",
        "t=-1,v1=00",
        "t=\u0663,v1=00",
        f"t={NOW_S},v1=\u00e9",
        f"v1={'0' * 64}",
        f"t={NOW_S},v1={'0' * 64}",
        f"t={'9' * 5000},v1=00",
    ],
)
def test_anything_else_is_refused(header: str) -> None:
    assert refusal(header)


def test_another_body_or_time_is_refused() -> None:
    header = sign(BODY, SECRET, at_s=NOW_S)

    assert "no signature" in refusal(header, body=BODY + b" ")
    assert "no signature" in refusal(header.replace(f"t={NOW_S}", f"t={NOW_S + 1}"))


@pytest.mark.parametrize("away", [-301, 301])
def test_what_is_old_or_of_tomorrow_is_refused(away: int) -> None:
    """Who has seen a request cannot send it again later."""
    assert "300" in refusal(sign(BODY, SECRET, at_s=NOW_S - away))
