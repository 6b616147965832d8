"""What is told to Stripe, as it is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from config_samples import BASE, faults, loaded

from metering.plans import API_CALLS, LLM_TOKENS
from metering.stripe_settings import StripeMeter, StripeMode

KEY = "sk_test_0123456789"
SECTION = """stripe:
  api_key: "${STRIPE_API_KEY}"
  since: 2026-12-01
  meters:
    - {meter: llm-tokens, event_name: tokens}
    - {meter: api-calls, event_name: calls}
"""


def test_without_a_section_nothing_is_told(tmp_path: Path) -> None:
    assert loaded(tmp_path, BASE).settings.stripe is None


def test_a_section_is_read(tmp_path: Path) -> None:
    found = loaded(tmp_path, BASE + SECTION, STRIPE_API_KEY=KEY).settings.stripe

    assert found is not None
    assert found.meters == (StripeMeter(LLM_TOKENS, "tokens"), StripeMeter(API_CALLS, "calls"))
    assert (found.mode, found.every_s, found.timeout_s) == (StripeMode.HOURLY, 60.0, 20.0)
    assert found.since_ns == 1_796_083_200_000_000_000
    assert KEY not in repr(found)


@pytest.mark.parametrize(
    ("was", "now", "says"),
    [
        ("llm-tokens", "llm-token", "stripe.meters[0].meter: unknown meter 'llm-token'"),
        ("event_name: calls", "event_name: tokens", "stripe.meters[1].event_name: stands here"),
        ("2026-12-01", "2026-13-01", "stripe.since: '2026-13-01' is no day"),
        ("${STRIPE_API_KEY}", "${NOT_SET}", "stripe.api_key: environment variable NOT_SET"),
        ("${STRIPE_API_KEY}", "pk_live_0123456789", "stripe.api_key: is no secret or restricted"),
        ("since", "every_s: 1\n  since", "stripe.every_s"),
        ("since", "mode: daily\n  since", "stripe.mode"),
        ("since", "api_base: http://stripe.example\n  since", "stripe.api_base: the key would"),
    ],
)
def test_slips_are_faults(tmp_path: Path, was: str, now: str, says: str) -> None:
    text = BASE + SECTION.replace(was, now, 1)

    assert any(says in each for each in faults(tmp_path, text, STRIPE_API_KEY=KEY))


@pytest.mark.parametrize(
    ("meter", "says"),
    [
        ("{name: odd, aggregation: max, units: [api_call]}", "has no sum by the hour"),
        (
            "{name: odd, aggregation: count, where: {model_requested: [x]}}",
            "looks at model_requested",
        ),
    ],
)
def test_what_hours_do_not_sum_cannot_be_told(tmp_path: Path, meter: str, says: str) -> None:
    text = f"{BASE}meters: [{meter}]\n{SECTION.replace('llm-tokens', 'odd')}"

    assert any(says in each for each in faults(tmp_path, text, STRIPE_API_KEY=KEY))


PAYMENTS = """stripe:
  api_key: "${STRIPE_API_KEY}"
  webhook_secrets: ["${NEW_SECRET}", "${OLD_SECRET}"]
"""
SECRETS = {"NEW_SECRET": "whsec_0123456789abcdef", "OLD_SECRET": "whsec_fedcba9876543210"}


def test_payments_need_no_meters(tmp_path: Path) -> None:
    """Two secrets while one is rolled; none is shown."""
    found = loaded(tmp_path, BASE + PAYMENTS, STRIPE_API_KEY=KEY, **SECRETS).settings.stripe

    assert found is not None
    assert (found.meters, found.webhook_secrets) == ((), tuple(SECRETS.values()))
    assert "whsec_" not in repr(found)


@pytest.mark.parametrize(
    ("was", "now", "says"),
    [
        ("${OLD_SECRET}", "${NOT_SET}", "webhook_secrets[1]: environment variable NOT_SET"),
        ("${OLD_SECRET}", "sk_test_31337", "webhook_secrets[1]: is no secret of a webhook"),
        ('["${NEW_SECRET}", "${OLD_SECRET}"]', "[]", "stripe.meters: no meters"),
        ("webhook", "meters: [{meter: api-calls, event_name: x}]\n  webhook", "stripe.since: miss"),
    ],
)
def test_slips_of_payments_are_faults(tmp_path: Path, was: str, now: str, says: str) -> None:
    text = BASE + PAYMENTS.replace(was, now, 1)
    found = faults(tmp_path, text, STRIPE_API_KEY=KEY, **SECRETS)

    assert any(says in each for each in found), found
    assert "31337" not in str(found)
