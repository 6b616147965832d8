"""`providers.NAME.reconcile` as settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.config import ConfigFaults, load

TEMPLATE = "providers:\n  one: {{type: {type}, api_key: '${{KEY}}', reconcile: {{{section}}}}}\n"
ENV = {"KEY": "sk-1", "ADMIN": "sk-admin-1"}


def _load(tmp_path: Path, section: str, type_: str = "openai") -> object:
    path = tmp_path / "config.yaml"
    path.write_text(TEMPLATE.format(type=type_, section=section))
    return load(path, ENV).settings.providers["one"]


def test_a_section_says_whom_to_ask(tmp_path: Path) -> None:
    """The key is a secret, and lists are sets."""
    section = "admin_key: '${ADMIN}', project_ids: [a, b], api_key_ids: [k], alert_at: 0.2"
    section += ", models: {mine: theirs}"
    found = _load(tmp_path, section)

    assert found.reconcile.admin_key.reveal() == "sk-admin-1"
    assert found.reconcile.project_ids == {"a", "b"}
    assert (found.reconcile.api_key_ids, found.reconcile.models) == ({"k"}, {"mine": "theirs"})
    assert found.reconcile.alert_ppm == 200_000
    assert "sk-admin-1" not in repr(found)
    assert hash(found) == hash(found)


def test_an_unset_key_takes_nothing_from_requests(tmp_path: Path) -> None:
    """The account is served; who wants to ask it is told which variable is missing."""
    found = _load(tmp_path, "admin_key: '${NOT_THERE}'")

    assert found.unavailable is None
    assert (found.reconcile.admin_key, found.reconcile.unset) == (None, "NOT_THERE")


@pytest.mark.parametrize(
    ("section", "type_", "fault"),
    [
        ("admin_key: '${ADMIN}'", "gemini", "cannot be asked what was used"),
        ("url: nowhere", "openai", "providers.one.reconcile.url"),
        ("keys: [a]", "openai", "keys"),
        ("alert_at: 0.1234567", "openai", "providers.one.reconcile.alert_at"),
    ],
)
def test_what_cannot_work_is_a_fault(tmp_path: Path, section: str, type_: str, fault: str) -> None:
    """By its path and in words."""
    with pytest.raises(ConfigFaults) as failed:
        _load(tmp_path, section, type_)
    assert any(fault in str(each) for each in failed.value.faults)
