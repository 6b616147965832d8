"""Where alerts go, as it is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from config_samples import BASE, faults, loaded

from metering.alert_sinks import DEFAULT_SINKS, SinkSettings, sink_types

SECRET = "0123456789abcdef"
HOOK = "{type: webhook, url: 'https://hooks.example/x', secret: '${HOOK_SECRET}'}"


def _with(*sinks: str) -> str:
    return BASE + "alerts:\n  sinks:\n" + "".join(f"    - {each}\n" for each in sinks)


def test_without_a_section_alerts_go_to_the_log(tmp_path: Path) -> None:
    assert loaded(tmp_path, BASE).settings.sinks == DEFAULT_SINKS == (SinkSettings("log"),)


def test_every_type_of_sink_is_a_file() -> None:
    assert sink_types() == ["log", "webhook"]


def test_sinks_are_read_in_their_order(tmp_path: Path) -> None:
    text = _with("{type: log, kinds: [cap_mark]}", HOOK.replace("}'}", "}', timeout_s: 2}"))

    found = loaded(tmp_path, text, HOOK_SECRET=SECRET).settings.sinks

    assert found == (
        SinkSettings("log", kinds=frozenset({"cap_mark"})),
        SinkSettings("webhook", "https://hooks.example/x", SECRET, timeout_s=2.0),
    )
    assert SECRET not in repr(found)


@pytest.mark.parametrize(
    ("sink", "says"),
    [
        ("{type: webhok}", "alerts.sinks[0].type: unknown type 'webhok'; there are log, webhook"),
        ("{type: log, url: 'https://x/'}", "alerts.sinks[0]: a sink of type log has no url"),
        ("{type: webhook, url: 'https://x/'}", "alerts.sinks[0].secret: a webhook needs its"),
        ("{type: webhook, secret: '${HOOK_SECRET}'}", "alerts.sinks[0].url: a webhook needs its"),
        (HOOK.replace("https://hooks", "ftp://hooks"), "alerts.sinks[0].url: must be an http or"),
        (HOOK.replace("https://hooks", "https://a:b@hooks"), "must not hold a user and password"),
        (HOOK.replace("${HOOK_SECRET}", "${NOT_SET}"), "variable NOT_SET is not set"),
        (HOOK.replace("${HOOK_SECRET}", "${SHORT}"), "secret: must be at least 16 characters"),
        ("{type: log, kinds: []}", "alerts.sinks[0].kinds: an empty list wants no alert"),
        ("{type: log, kinds: [cap_marks]}", "kinds[0]: unknown kind of alert 'cap_marks'"),
        ("{type: log, timeout_s: 61}", "timeout_s: must be above 0 and at most 60"),
    ],
)
def test_what_cannot_be_meant_is_a_fault(tmp_path: Path, sink: str, says: str) -> None:
    found = faults(tmp_path, _with(sink), HOOK_SECRET=SECRET, SHORT="tooshort")

    assert any(says in fault for fault in found), found
    assert not any(SECRET in fault or "tooshort" in fault for fault in found)


def test_one_sink_twice_is_a_fault(tmp_path: Path) -> None:
    """Deliveries are noted by sink: two of the same would take each other's alerts."""
    found = faults(tmp_path, _with(HOOK, HOOK), HOOK_SECRET=SECRET)

    assert any("alerts.sinks[1]: the same sink stands here twice" in fault for fault in found)


@pytest.mark.parametrize(
    ("sink", "warns"),
    [
        (HOOK.replace("https://hooks.example", "http://hooks.example"), "clear text over http"),
        (HOOK.replace("https://hooks.example", "http://10.0.0.7"), "clear text over http"),
        (HOOK.replace("https://hooks.example", "http://127.0.0.1:9"), ""),
        (HOOK.replace("https://hooks.example", "http://localhost"), ""),
        (HOOK.replace("https://hooks.example", "https://10.0.0.7"), ""),
        (HOOK.replace("${HOOK_SECRET}", SECRET), "a credential in clear text"),
    ],
)
def test_what_is_hardly_meant_is_a_warning(tmp_path: Path, sink: str, warns: str) -> None:
    warnings = loaded(tmp_path, _with(sink), HOOK_SECRET=SECRET).warnings

    about = [str(each) for each in warnings if "alerts" in str(each)]
    assert [warns in each for each in about] == ([True] if warns else [])


def test_no_sink_at_all_is_a_warning(tmp_path: Path) -> None:
    warnings = loaded(tmp_path, BASE + "alerts: {sinks: []}\n").warnings

    assert any("nobody is told of anything" in str(each) for each in warnings)
