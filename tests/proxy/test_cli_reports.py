"""`weir usage` and `weir invoice` over a real ledger: JSON for programs, tables for people."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fixtures_ledger import book, make_event, new_ledger

from metering.settlement.ledger.store import Ledger, open_ledger
from proxy.cli import weir
from proxy.data_dir import write_state


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Path]:
    """A configuration whose ledger holds two events of acme; no Redis runs."""
    path = tmp_path / "config.yaml"
    path.write_text("data_dir: .\ntenants: [{id: acme}, {id: idle}]\n")
    ledger = new_ledger(tmp_path)
    book(ledger, [make_event(), make_event(project="web")])
    ledger.close()
    return path


def run(config: Path, *words: str) -> Result:
    return CliRunner().invoke(weir, [*words, "--config", str(config)], env={"WEIR_CONFIG": None})


def test_usage_as_json(config: Path) -> None:
    """The documented shape: rows and totals, settled through when, and how many are pending."""
    body = json.loads(run(config, "usage", "--json").stdout)

    assert body["rows"] == [
        {
            "tenant": "acme",
            "model": "gpt-4o",
            "requests": 2,
            "units": {"input_uncached": 1000, "output_text": 400},
            "cost_nano": 11_000_000,
            "admission_nano": 11_000_000,
            "margin_nano": 0,
            "margin_ppm": 0,
        }
    ]
    assert body["totals"]["unpriced"] == 0
    assert (body["totals"]["requests"], body["pending"]) == (2, None)
    assert body["settled_through"].startswith("2026-11-")


def test_reports_from_each_database(tmp_path: Path, ledger: Ledger, ledger_url: str) -> None:
    """The same numbers, whatever keeps the ledger."""
    path = tmp_path / "config.yaml"
    path.write_text(f"data_dir: .\nledger: {{url: '{ledger_url}'}}\ntenants: [{{id: acme}}]\n")
    book(ledger, [make_event(), make_event(units={"input_uncached": 3, "second": 2})])

    usage = json.loads(run(path, "usage", "--since", "2026-11-01T00:00:00Z", "--json").stdout)
    invoice = json.loads(run(path, *INVOICE, "--json").stdout)

    assert usage["totals"]["units"] == {"input_uncached": 503, "output_text": 200, "second": 2}
    assert usage["totals"]["admission_nano"] == invoice["total_nano"] == 5_515_000
    assert usage["settled_through"] == invoice["settled_through"] == "2026-11-16T00:00:00.000001Z"


def test_usage_for_people(config: Path) -> None:
    """The same as a table."""
    text = run(config, "usage", "--tenant", "acme").stdout

    assert "0.011000" in text
    assert "pending unknown (Redis is away)" in text


def test_usage_by_what_was_asked_for(config: Path) -> None:
    """Rows of other dimensions, sorted and cut; the total stays that of all."""
    result = run(
        config, "usage", "--by", "request, key", "--sort", "margin", "--limit", "1", "--json"
    )
    table = run(config, "usage", "--by", "feature").stdout

    body = json.loads(result.stdout)
    assert (body["by"], len(body["rows"])) == (["request", "key"], 1)
    assert body["rows"][0].keys() >= {"request", "key", "at", "margin_nano", "margin_ppm"}
    assert body["more"] + 1 == body["totals"]["requests"]
    assert "Feature" in table
    assert "Margin USD" in table


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--by", "planet"], "--by: 'planet' is not among tenant, project"),
        (["--by", ""], "--by: '' is not among"),
        (["--sort", "size"], "--sort: 'size' is not among name, requests"),
        (["--by", "request", "--sort", "requests"], "each row is one"),
        (["--limit", "0"], "--limit"),
    ],
)
def test_usage_by_what_there_is_not(config: Path, words: list[str], said: str) -> None:
    result = run(config, "usage", *words)

    assert (result.exit_code, said in result.stderr) == (2, True)


def test_usage_since(config: Path) -> None:
    """What lies before --since is left out."""
    body = json.loads(run(config, "usage", "--since", "2026-12-01T00:00:00Z", "--json").stdout)

    assert (body["rows"], body["totals"]["requests"]) == ([], 0)


def test_invoice_as_json(config: Path) -> None:
    """Lines sum to the total to the nano; the total is a string in cents."""
    result = run(config, "invoice", "--tenant", "acme", "--period", "2026-11", "--json")

    body = json.loads(result.stdout)
    assert sum(line["amount_nano"] for line in body["lines"]) == body["total_nano"] == 11_000_000
    assert (body["total"], body["currency"], len(body["lines"])) == ("0.01", "USD", 4)


def test_invoice_for_people(config: Path) -> None:
    """The same as a table, with its month."""
    text = run(config, "invoice", "--tenant", "acme", "--period", "2026-11").stdout

    for part in ("Invoice acme, 2026-11 (UTC)", "0.01 USD", "web", "settled through 2026-11-"):
        assert part in text


@pytest.mark.parametrize("command", ["usage", "invoice"])
def test_a_tenant_that_used_nothing(config: Path, command: str) -> None:
    """A tenant of the file without usage has an empty report; an unknown one is exit 3."""
    idle = run(config, command, "--tenant", "idle", "--json")
    unknown = run(config, command, "--tenant", "nobody")

    assert idle.exit_code == 0
    assert not (json.loads(idle.stdout).get("rows") or json.loads(idle.stdout).get("lines"))
    assert (unknown.exit_code, "no tenant 'nobody'" in unknown.stderr) == (3, True)


def test_no_ledger_yet(config: Path) -> None:
    """Where nothing was ever served there is no ledger: exit 3, and no file is made."""
    elsewhere = config.parent / "elsewhere"

    result = run(config, "usage", "--data-dir", str(elsewhere))

    assert (result.exit_code, elsewhere.exists()) == (3, False)
    assert f"no ledger at {elsewhere}/ledger.db yet" in result.stderr


def test_no_ledger_yet_while_somebody_serves(config: Path) -> None:
    """The worker makes the ledger after the start: until then nothing is settled, and exit 0."""
    elsewhere = config.parent / "elsewhere"
    elsewhere.mkdir()
    write_state(elsewhere, "http://127.0.0.1:8080")

    usage = run(config, "usage", "--data-dir", str(elsewhere))
    invoice = run(config, "invoice", "--tenant", "idle", "--data-dir", str(elsewhere), "--json")

    assert (usage.exit_code, invoice.exit_code) == (0, 0)
    assert "nothing settled yet, pending unknown" in usage.stdout
    assert json.loads(invoice.stdout)["settled_through"] is None
    assert not (elsewhere / "ledger.db").exists()


def test_unpriced_usage_is_told(config: Path) -> None:
    """What was served without a price is billed nothing, and a person is told so."""
    ledger = open_ledger(f"sqlite:///{config.parent / 'ledger.db'}")
    book(ledger, [make_event(cost_version=None, sell_version=None, model_upstream="new")])
    ledger.close()

    texts = [run(config, *words).stdout for words in (["usage"], INVOICE)]
    bodies = [json.loads(run(config, *words, "--json").stdout) for words in (["usage"], INVOICE)]

    assert all("1 event is unpriced" in text for text in texts)
    assert [bodies[0]["totals"]["unpriced"], bodies[1]["unpriced"]] == [1, 1]


INVOICE = ["invoice", "--tenant", "acme", "--period", "2026-11"]

HOSTILE = {
    "no such database": ["--config", "postgres.yaml"],
    "a malformed URL": ["--config", "malformed.yaml"],
    "a ledger below a file": ["--data-dir", "config.yaml/below"],
    "a long path": ["--data-dir", "x" * 300],
    "the home of nobody": ["--data-dir", "~no-such-user/data"],
}


@pytest.mark.parametrize("command", [["usage"], INVOICE, ["worker", "--drain"]], ids=str)
@pytest.mark.parametrize("words", HOSTILE.values(), ids=HOSTILE)
def test_what_cannot_be_opened_is_one_line(
    config: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], words: list[str]
) -> None:
    """A place that cannot be used is an exit code and a line, never a traceback."""
    monkeypatch.chdir(config.parent)
    for name, url in {"postgres": "postgresql+nodriver://h/db", "malformed": "sqlite:x"}.items():
        (config.parent / f"{name}.yaml").write_text(
            f"data_dir: nowhere\nledger: {{url: '{url}'}}\ntenants: [{{id: acme}}]\n"
        )

    words = words if "--config" in words else [*words, "--config", str(config)]
    result = CliRunner().invoke(weir, [*command, *words])

    assert result.exit_code in (1, 2, 3)
    assert isinstance(result.exception, SystemExit)
    assert len([line for line in result.stderr.splitlines() if line.startswith(SAID)]) == 1


SAID = ("weir: ", "Error: ")


@pytest.mark.parametrize("tenant", ["\udcff", "no/id", ""])
def test_a_tenant_that_cannot_be(config: Path, tenant: str) -> None:
    """What cannot be an id is not found, whatever the database would say to it."""
    assert [
        run(config, command, "--tenant", tenant).exit_code for command in ("usage", "invoice")
    ] == [3, 3]


def test_a_ledger_that_cannot_be_read(config: Path) -> None:
    """A broken database is exit 1, named, without a traceback."""
    (config.parent / "ledger.db").write_bytes(b"this is no database" * 100)
    for side in ("ledger.db-wal", "ledger.db-shm"):
        (config.parent / side).unlink(missing_ok=True)

    result = run(config, "usage")

    assert result.exit_code == 1
    assert result.stderr.startswith("weir: cannot read the ledger sqlite:///")
