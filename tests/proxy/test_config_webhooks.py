"""Who is told what, as it is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from config_samples import BASE, faults, loaded

from metering.webhook_settings import WebhookFormat

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SECTION = """webhooks:
  - name: erp
    url: https://erp.example.com/token-31337
    secret: "${ERP_SECRET}"
    events: [usage.hourly, alert.cap_mark]
    format: cloudevents
    since: 2026-12-01
  - {name: crm, url: "https://10.0.0.7/hook", secret: "${ERP_SECRET}", events: [invoice.closed]}
"""


def test_a_section_is_read(tmp_path: Path) -> None:
    """A private address is the operator's business; neither address nor key is shown."""
    erp, crm = loaded(tmp_path, BASE + SECTION, ERP_SECRET=SECRET).settings.webhooks

    assert (erp.name, erp.events) == ("erp", frozenset({"usage.hourly", "alert.cap_mark"}))
    assert (erp.format, erp.since_ns) == (WebhookFormat.CLOUDEVENTS, 1_796_083_200_000_000_000)
    assert (crm.format, crm.since_ns, crm.timeout_s) == (WebhookFormat.STANDARD, None, 15.0)
    assert len(erp.key) == 24
    assert "31337" not in repr(erp)
    assert repr(erp.key) not in repr(erp)


def test_an_old_secret_signs_beside_the_new_one(tmp_path: Path) -> None:
    """And is as secret."""
    both = SECTION.replace("    events", '    previous_secret: "${OLD}"\n    events', 1)
    old = "whsec_" + SECRET[6:][::-1]

    erp, crm = loaded(tmp_path, BASE + both, ERP_SECRET=SECRET, OLD=old).settings.webhooks

    assert erp.previous_key is not None
    assert (erp.keys, crm.keys) == ((erp.key, erp.previous_key), (crm.key,))
    assert repr(erp.previous_key) not in repr(erp)


@pytest.mark.parametrize(
    ("was", "now", "says"),
    [
        ("usage.hourly", "usage.hourl", "webhooks[0].events[0]: unknown event 'usage.hourl'"),
        ("[invoice.closed]", "[]", "webhooks[1].events: an empty list"),
        ("name: crm", "name: erp", "webhooks[1].name: stands here twice"),
        ("name: erp", "name: e r p", "webhooks[0].name: must be an id"),
        ("https://erp", "ftp://erp", "webhooks[0].url: must be an http or https URL"),
        ("${ERP_SECRET}", "${NOT_SET}", "webhooks[0].secret: environment variable NOT_SET"),
        ("${ERP_SECRET}", "whsec_short", "webhooks[0].secret: must be whsec_"),
        ("2026-12-01", "2026-13-01", "webhooks[0].since: '2026-13-01' is no day"),
        ("since", "dead_after_days: 90\n    since", "webhooks[0].dead_after_days"),
    ],
)
def test_slips_are_faults(tmp_path: Path, was: str, now: str, says: str) -> None:
    """And none of them shows the address or the secret."""
    found = faults(tmp_path, BASE + SECTION.replace(was, now, 1), ERP_SECRET=SECRET)

    assert any(says in each for each in found), found
    assert "31337" not in str(found)
    assert SECRET not in str(found)
