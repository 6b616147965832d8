"""`limits.caps`: what they mean, whose goes before whose, and what is absurd in them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from config_samples import BASE, faults, loaded

from metering.caps import (
    ROLLING_DAY,
    CalendarUnit,
    CalendarWindow,
    CapMode,
    Limit,
    ScopeKind,
)
from metering.ids import scope_id
from metering.tenants import CapRule
from metering.window import rolling

CAPS = """
limits:
  caps:
    - {scope: key, window: 30d, usd: 100.00, alert_at: [0.8], mode: enforce}
    - {scope: tenant, window: 1m, requests: 600, tokens: 200000}
    - {scope: run, window: 24h, usd: 2.00, steps: 50}
    - {scope: user, window: month, timezone: Europe/Paris, usd: 20}
    - {scope: feature, id: search, window: 1440m, usd: 5, concurrent: 4}
    - {scope: project, concurrent: 8}
    - {scope: user, id: "alice@example.com", window: day, usd: 1, mode: shadow}
tenants:
  - {id: plain}
"""

RULES = (
    CapRule(ScopeKind.KEY, rolling(30 * 86_400), Limit(nano=10**11), marks_ppm=(800_000,)),
    CapRule(ScopeKind.TENANT, rolling(60), Limit(tokens=200_000, requests=600)),
    CapRule(ScopeKind.RUN, ROLLING_DAY, Limit(nano=2 * 10**9, requests=50)),
    CapRule(
        ScopeKind.USER,
        CalendarWindow(CalendarUnit.MONTH, "Europe/Paris"),
        Limit(nano=20 * 10**9),
    ),
    CapRule(ScopeKind.FEATURE, ROLLING_DAY, Limit(nano=5 * 10**9, concurrent=4), "search"),
    CapRule(ScopeKind.PROJECT, ROLLING_DAY, Limit(concurrent=8)),
    CapRule(
        ScopeKind.USER,
        CalendarWindow(CalendarUnit.DAY, "UTC"),
        Limit(nano=10**9),
        scope_id("alice@example.com"),
        CapMode.SHADOW,
    ),
)


def test_caps_are_read(tmp_path: Path) -> None:
    """Each row of `limits.caps` becomes a rule of every tenant, in the order of the file."""
    tenants = loaded(tmp_path, BASE + CAPS).settings.tenants

    assert tenants["plain"].cap_rules == RULES


def test_own_caps_take_the_place_of_those_at_the_top(tmp_path: Path) -> None:
    """A tenant's cap of the same scope, id and window goes before the one at the top."""
    text = """
limits: {caps: [{scope: key, window: 24h, usd: 9}, {scope: key, window: 1h, requests: 7}]}
tenants:
  - {id: own, limits: {caps: [{scope: key, window: 1d, requests: 5}, {scope: user, concurrent: 1}]}}
"""

    assert loaded(tmp_path, BASE + text).settings.tenants["own"].cap_rules == (
        CapRule(ScopeKind.KEY, rolling(3600), Limit(requests=7)),
        CapRule(ScopeKind.KEY, ROLLING_DAY, Limit(requests=5)),
        CapRule(ScopeKind.USER, ROLLING_DAY, Limit(concurrent=1)),
    )


ABSURD = {
    "negative": (
        "{scope: key, window: 24h, usd: -1}",
        ".usd: a cap of -1 USD is negative",
    ),
    "too high": (
        "{scope: key, window: 24h, usd: 9007199.3}",
        ".usd: a cap is at most 9007199.25 USD (leave it out for none)",
    ),
    "no requests": (
        "{scope: key, window: 1m, requests: 0}",
        ".requests: a cap of 0 requests would refuse everything",
    ),
    "negative steps": (
        "{scope: run, window: 1m, steps: -1}",
        ".steps: a cap of -1 steps would refuse everything",
    ),
    "zero window": (
        "{scope: key, window: 0m, usd: 1}",
        ".window: a window of 0m has no length (write 1m to 30d, or month, say)",
    ),
    "short window": (
        "{scope: key, window: 59s, usd: 1}",
        ".window: a window of 59s is not within 1m and 30d (write 1m to 30d, or month, say)",
    ),
    "long window": (
        "{scope: key, window: 31d, usd: 1}",
        ".window: a window of 31d is not within 1m and 30d (write 1m to 30d, or month, say)",
    ),
    "no window at all": (
        "{scope: key, window: soon, usd: 1}",
        ".window: 'soon' is no window (known: day, month, week)",
    ),
    "misspelt window": (
        "{scope: key, window: mounth, usd: 1}",
        ".window: 'mounth' is no window (did you mean 'month'?)",
    ),
    "window left out": (
        "{scope: key, usd: 1}",
        ": a cap without a window (write window: 24h, say, or month)",
    ),
    "unknown scope": (
        "{scope: team, window: 24h, usd: 1}",
        (
            ".scope: must be 'tenant', 'project', 'key', 'feature', 'user', 'session' or 'run' "
            "(did you mean 'tenant'?)"
        ),
    ),
    "unknown zone": (
        "{scope: key, window: day, timezone: Europe/Pari, usd: 1}",
        (
            ".timezone: unknown time zone 'Europe/Pari' "
            "(write an IANA name such as Europe/Paris; the system needs its tzdata)"
        ),
    ),
    "zone that is a folder": (
        "{scope: key, window: day, timezone: Europe, usd: 1}",
        (
            ".timezone: unknown time zone 'Europe' "
            "(write an IANA name such as Europe/Paris; the system needs its tzdata)"
        ),
    ),
    "zone that leaves its folder": (
        "{scope: key, window: day, timezone: ../../etc/passwd, usd: 1}",
        (
            ".timezone: unknown time zone '../../etc/passwd' "
            "(write an IANA name such as Europe/Paris; the system needs its tzdata)"
        ),
    ),
    "zone of a rolling window": (
        "{scope: key, window: 24h, timezone: Europe/Paris, usd: 1}",
        (
            ".timezone: a rolling window begins nowhere, so it has no time zone "
            "(write window: day, week or month)"
        ),
    ),
    "no limit": (
        "{scope: key, window: 24h}",
        ": a cap without a limit (write usd, tokens, requests, steps or concurrent)",
    ),
    "unknown key": (
        "{scope: key, id: k2, window: 24h, usd: 1}",
        ".id: unknown key 'k2' (known: k1)",
    ),
    "unknown project": (
        "{scope: project, id: webb, window: 24h, usd: 1}",
        ".id: unknown project 'webb' (did you mean 'web'?)",
    ),
    "id of the tenant": (
        "{scope: tenant, id: a, window: 1h, usd: 1}",
        ".id: a cap of the tenant has no id (write it under tenants[].limits.caps instead)",
    ),
    "malformed id": (
        "{scope: feature, id: a/b, window: 1h, usd: 1}",
        (
            ".id: 'a/b' cannot be the id of a feature "
            "(use 1 to 64 letters, digits, dots, dashes and underscores)"
        ),
    ),
    "mark above one": (
        "{scope: key, window: 24h, usd: 1, alert_at: [80]}",
        ".alert_at[0]: must be above 0 and at most 1, not 80 (80 % of the cap is 0.8)",
    ),
    "mark that is no number": (
        "{scope: key, window: 24h, usd: 1, alert_at: [half]}",
        ".alert_at[0]: must be a number, without quotes",
    ),
    "marks of nothing": (
        "{scope: key, window: 24h, tokens: 1, alert_at: [0.8]}",
        ".alert_at: shares of what? the cap has no usd (set usd, or leave it out)",
    ),
    "alert of nothing": (
        "{scope: key, window: 24h, usd: 1, mode: alert}",
        ".mode: a cap in mode alert without alert_at does nothing (write alert_at: [0.8, 1.0])",
    ),
    "steps of a key": (
        "{scope: key, window: 24h, steps: 5}",
        ".steps: a key has no steps (write `requests`, or scope: run)",
    ),
    "steps and requests": (
        "{scope: run, window: 24h, steps: 5, requests: 5}",
        ".steps: steps are requests: write one of the two",
    ),
    "daily cap": (
        "{scope: tenant, window: 24h, usd: 5}",
        (
            ".usd: the tenant's money within 24 hours has a key of its own "
            "(write limits.tenant.daily_cap)"
        ),
    ),
}


@pytest.mark.parametrize(("cap", "message"), ABSURD.values(), ids=ABSURD)
def test_absurd_caps_are_faults(cap: str, message: str, tmp_path: Path) -> None:
    """A cap that cannot be meant is one fault, with its place and what to write instead."""
    text = f"""
limits:
  caps:
    - {cap}
tenants:
  - {{id: a, projects: [{{id: web}}], keys: [{{id: k1, sha256: {"0" * 64}}}]}}
"""

    found = faults(tmp_path, BASE + text)

    assert [each.partition("limits.caps[0]")[2] for each in found] == [message]


def test_a_cap_stands_once(tmp_path: Path) -> None:
    """Two caps of one scope, id and window are a fault, however the window is written."""
    caps = "[{scope: key, window: 60m, usd: 1}, {scope: key, window: 1h, requests: 1}]"

    [fault] = faults(tmp_path, f"{BASE}\nlimits:\n  caps: {caps}\n")

    assert "limits.caps[1]: a cap of this scope, id and window stands on line" in fault


def test_a_tenant_names_its_own_keys(tmp_path: Path) -> None:
    """A tenant's cap cannot name the key of another tenant."""
    text = f"""
tenants:
  - {{id: a, limits: {{caps: [{{scope: key, id: theirs, window: 1h, requests: 1}}]}}}}
  - {{id: b, keys: [{{id: theirs, sha256: {"0" * 64}}}]}}
"""

    [fault] = faults(tmp_path, BASE + text)

    assert "tenants[0].limits.caps[0].id: unknown key 'theirs'" in fault


PINS = {
    "kind": ("{tenant: x}", "pin.tenant: unknown key (known: feature, run, session, user)"),
    "feature": (
        "{feature: a/b}",
        (
            "pin.feature: 'a/b' cannot be the id of a feature "
            "(use 1 to 64 letters, digits, dots, dashes and underscores)"
        ),
    ),
    "user": ('{user: ""}', "pin.user: a user is 1 to 256 printable characters"),
}


@pytest.mark.parametrize(("pin", "message"), PINS.values(), ids=PINS)
def test_pins_are_checked(pin: str, message: str, tmp_path: Path) -> None:
    """A pin names what can be pinned, by something that can be its id."""
    text = f"\ntenants: [{{id: a, keys: [{{id: k, sha256: {'0' * 64}, pin: {pin}}}]}}]\n"

    [fault] = faults(tmp_path, BASE + text)

    assert fault.partition("keys[0].")[2] == message


def test_pins_are_read(tmp_path: Path) -> None:
    """A key carries its pins, a minted one too."""
    text = f"""
tenants:
  - id: a
    keys:
      - {{id: k, sha256: {"0" * 64}, pin: {{feature: search, user: "Ann <a@example.com>"}}}}
      - {{id: m, mint: true, pin: {{run: nightly}}}}
"""

    settings = loaded(tmp_path, BASE + text).settings

    assert settings.tenants["a"].keys[0].pins == {
        ScopeKind.FEATURE: "search",
        ScopeKind.USER: "Ann <a@example.com>",
    }
    assert settings.minted_keys[0].pins == {ScopeKind.RUN: "nightly"}


def test_alerts_of_the_daily_cap(tmp_path: Path) -> None:
    """`alert_at` of the daily cap is inherited key by key, and of no use without a cap."""
    text = """
limits: {tenant: {daily_cap: 5, alert_at: [1.0, 0.5]}}
tenants: [{id: a}, {id: b, limits: {tenant: {daily_cap: null}}}]
"""

    result = loaded(tmp_path, BASE + text)

    assert result.settings.tenants["a"].limits.marks_ppm == (500_000, 1_000_000)
    assert "tenant 'b' has no cap, so no share of it is told" in str(result.warnings[0])


def test_how_requests_are_fitted(tmp_path: Path) -> None:
    """What fits a request to its means is read into the settings."""
    text = "\nlimits: {clamp_max_tokens: false, min_output_tokens: 8, on_exhausted: error}\n"

    settings = loaded(tmp_path, BASE + text).settings

    assert settings.clamp_max_tokens is False
    assert (settings.min_output_tokens, settings.stream_slice_tokens) == (8, 256)
    assert settings.on_exhausted == "error"


ROOT = Path(__file__).parents[2]


def test_the_examples_load(tmp_path: Path) -> None:
    """The caps in the comments of `config.yaml` and in docs/limits.md work as they stand."""
    example = (ROOT / "config.yaml").read_text(encoding="utf-8")
    uncommented = re.sub(r"(?m)^  # (caps:|  - \{scope)", r"  \1", example)
    page = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")
    block = page.partition("```yaml\n")[2].partition("```")[0]

    rules = loaded(tmp_path, uncommented).settings.tenants["demo"].cap_rules
    acme = loaded(tmp_path, block, ACME_WEB_KEY="sk-weir-acme-0123456789ab").settings.tenants

    assert [rule.kind for rule in rules] == ["tenant", "key", "user", "run", "feature"]
    assert len(acme["acme"].cap_rules) == 6
    assert acme["acme"].keys[0].pins == {ScopeKind.FEATURE: "search"}
