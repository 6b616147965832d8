"""A ledger.url that could never hold a ledger is found by `weir config check`."""

from __future__ import annotations

from pathlib import Path

import pytest
from config_samples import BASE, faults, loaded

from proxy.config_ledger import ledger_url_fault


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite+pysqlite:///:memory:",
        "sqlite:///file::memory:?uri=true",
        "sqlite:///file:x?mode=memory&uri=true",
    ],
)
def test_a_ledger_in_memory_is_a_fault(tmp_path: Path, url: str) -> None:
    """What is settled into it leaves Redis, and would be gone with the process."""
    [fault] = faults(tmp_path, f"{BASE}ledger: {{url: '{url}'}}\n")

    assert "ledger.url: names no file" in fault


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://h/db", "must begin with sqlite: or postgresql:"),
        ("sqlite:////nowhere/at/all/ledger.db", "there is no folder /nowhere/at/all"),
        ("sqlite://host/ledger.db", "no host"),
        ("postgresql://?bogus=1", "no parameter 'bogus'"),
        ("postgresql://u:secret@h:99999/db", "its port"),
        ("postgresql://u:secret@h:x/db", "its port"),
        ("postgresql://u:secret@h:0/db", "its port"),
        ("postgresql:///db?connect_timeout=abc", "connect_timeout"),
        ("postgresql:///db?sslmode=bogus", "sslmode"),
        ("postgresql:///db?sslmode=verify-full&sslrootcert=/nope", "no file /nope for sslrootcert"),
    ],
)
def test_a_url_that_cannot_work_is_a_fault(url: str, said: str) -> None:
    """Said at the check, and not again and again by the worker; never with the password."""
    fault = ledger_url_fault(url, Path(".weir"))

    assert fault is not None
    assert said in fault[0]
    assert "secret" not in str(fault)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///ledger.db",
        "sqlite:////tmp/ledger.db",
        "postgresql://u:p@db.example:5432/weir?sslmode=require&connect_timeout=5",
        "postgresql+psycopg://u@/weir?host=/run/postgresql&application_name=weir",
        "postgresql://u@h/weir?sslmode=verify-full&sslrootcert=system",
    ],
)
def test_a_url_that_can_work_is_none(tmp_path: Path, url: str) -> None:
    assert ledger_url_fault(url, tmp_path) is None
    assert loaded(tmp_path, f"{BASE}ledger: {{url: '{url}'}}\n").settings.ledger_url == url


def test_a_ledger_may_be_in_a_data_dir_that_is_still_to_be_made(tmp_path: Path) -> None:
    folder = tmp_path / "data"

    assert ledger_url_fault(f"sqlite:///{folder}/ledger.db", folder) is None
    assert ledger_url_fault(f"sqlite:///{folder}/ledger.db", tmp_path) is not None
