"""`weir ledger verify` over a real ledger: what holds, what does not, and the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fixtures_ledger import allow_changes, book, make_event

from metering.settlement.ledger.store import Ledger
from proxy.cli import weir


@pytest.fixture
def config(tmp_path: Path, ledger: Ledger, ledger_url: str) -> Path:
    """A configuration whose ledger holds three events."""
    path = tmp_path / "config.yaml"
    path.write_text(
        f"data_dir: .\nledger: {{url: '{ledger_url}'}}\ntenants: [{{id: acme}}]\n", encoding="utf-8"
    )
    book(ledger, [make_event(), make_event()])
    book(ledger, [make_event(tenant="zeta")])
    return path


def run(config: Path, *words: str) -> Result:
    return CliRunner().invoke(
        weir, ["ledger", "verify", *words, "--config", str(config)], env={"WEIR_CONFIG": None}
    )


def test_a_ledger_that_holds(config: Path) -> None:
    """One line, with how much was looked at; exit 0."""
    result = run(config)

    assert result.exit_code == 0
    assert result.stdout.startswith("ok: 3 events, 2 transactions, 2 shards in ")


def test_a_ledger_that_was_changed(config: Path, ledger: Ledger) -> None:
    """A line per finding, then how many; exit 1. The same for programs."""
    with ledger.write() as connection:
        allow_changes(connection, "usage_event")
        connection.exec_driver_sql("UPDATE usage_event SET project = 'x' WHERE seq = 2")

    lines = run(config).stdout.splitlines()
    result = run(config, "--json")

    body = json.loads(result.stdout)
    assert lines[0].endswith(": column project is not what the payload says")
    assert lines[1].startswith("1 finding: 3 events, 2 transactions, 2 shards in ")
    assert (result.exit_code, body["ok"], body["findings"]) == (1, False, lines[:1])
    assert (body["events"], body["transactions"], body["shards"], body["more"]) == (3, 2, 2, 0)


def test_without_a_ledger_there_is_nothing_to_verify(tmp_path: Path) -> None:
    """Exit 3, as for every report, and no file is made."""
    path = tmp_path / "config.yaml"
    path.write_text("data_dir: .\ntenants: [{id: acme}]\n", encoding="utf-8")

    result = run(path, "--json")

    assert (result.exit_code, (tmp_path / "ledger.db").exists()) == (3, False)
    assert "no ledger at" in json.loads(result.stderr)["error"]["message"]
