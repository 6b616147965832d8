"""`telemetry` in the file: what it means, and what is no collector."""

from __future__ import annotations

from pathlib import Path

import pytest
from config_samples import BASE, faults, loaded

from proxy.settings import Secret, Telemetry

SECTION = """telemetry:
  otlp: http://localhost:4318/
  headers: {x-api-key: "${COLLECTOR_KEY}"}
  resource: {deployment.environment.name: staging}
  sample: 0.25
"""


def test_a_section_is_read(tmp_path: Path) -> None:
    """The header's value is a secret, and the share an exact one."""
    made = loaded(tmp_path, BASE + SECTION, COLLECTOR_KEY="canary").settings.telemetry

    assert made == Telemetry("http://localhost:4318", made.headers, made.resource, 250_000)  # type: ignore[union-attr]
    assert made is not None
    assert made.headers == {"x-api-key": Secret("canary")}
    assert made.resource == {"deployment.environment.name": "staging"}
    assert "canary" not in repr(made)


def test_one_setting_turns_it_on_and_none_does_not(tmp_path: Path) -> None:
    """The address is all that is needed; everything is recorded then."""
    section = 'telemetry: {otlp: "https://otlp.example.com"}'

    assert loaded(tmp_path, BASE).settings.telemetry is None
    assert loaded(tmp_path, BASE + section).settings.telemetry == Telemetry(
        "https://otlp.example.com"
    )


@pytest.mark.parametrize(
    ("was", "now", "says"),
    [
        ("http://localhost:4318/", "localhost:4318", "telemetry.otlp"),
        ("http://localhost:4318/", "http://localhost:4318/v1/traces", "path of one signal"),
        ("http://localhost:4318/", "http://localhost:4318/?key=canary", "must end with a path"),
        ("http://localhost:4318/", "${NOWHERE}", "NOWHERE is not set"),
        ("${COLLECTOR_KEY}", "${NOWHERE}", "NOWHERE is not set"),
        ("${COLLECTOR_KEY}", "canary\\n", "not a header that can be sent"),
        ("x-api-key", "x api key", "not a header that can be sent"),
        ("x-api-key", "Content-Length", "that we set ourselves"),
        ("0.25", "2", "sample"),
        ("0.25", "0.00000001", "telemetry.sample"),
        ("sample", "samples", "samples"),
    ],
)
def test_what_is_no_collector_is_a_fault(tmp_path: Path, was: str, now: str, says: str) -> None:
    """It is found before anything starts, and no message shows a secret."""
    found = faults(tmp_path, BASE + SECTION.replace(was, now), COLLECTOR_KEY="sound")

    assert any(says in fault for fault in found), found
    assert "canary" not in repr(found)


def test_a_credential_in_the_file_is_told(tmp_path: Path) -> None:
    """As everywhere: it belongs in the environment."""
    made = loaded(tmp_path, BASE + SECTION.replace("${COLLECTOR_KEY}", "canary"))

    assert any("telemetry.headers" in str(each) for each in made.warnings)
    assert "canary" not in repr(made.warnings)
