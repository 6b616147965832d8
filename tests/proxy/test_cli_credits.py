"""`weir credits`, over a real ledger."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fixtures_ledger import KEYS, book, make_event, new_ledger

from metering.clock import now_ns
from metering.settlement.ledger.credit_draws import draw_credits
from metering.settlement.ledger.store import Ledger
from proxy.cli import weir


@pytest.fixture
def books(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """A ledger beside a file with one tenant."""
    (tmp_path / "config.yaml").write_text("data_dir: .\ntenants: [{id: acme}]\n")
    monkeypatch.chdir(tmp_path)
    ledger = new_ledger(tmp_path)
    yield ledger
    ledger.close()


def run(*words: str) -> Result:
    return CliRunner().invoke(weir, ["credits", *words], catch_exceptions=False)


def give(*words: str) -> Result:
    return run("grant", "--tenant", "acme", "--usd", "5", *words)


@pytest.mark.usefixtures("books")
def test_a_grant_by_hand_is_made_once() -> None:
    """A repeat under the same id means the same grant, even without a time; another body not."""
    first = give("--id", "g", "--expires", "90d")
    again = give("--id", "g", "--expires", "90d")
    other = run("grant", "--tenant", "acme", "--usd", "6", "--id", "g")

    assert first.stdout == "g: 5.000000 USD granted to acme\n"
    assert again.stdout == "g: 5.000000 USD was granted before to acme\n"
    assert (other.exit_code, "amount_nano was 5000000000" in other.stderr) == (1, True)


@pytest.mark.usefixtures("books")
@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("grant", "--tenant", "acme", "--usd", "0"), 2, "no amount to grant"),
        (("grant", "--tenant", "acme", "--usd", "5", "--id", "stripe:pi_1"), 2, "its payment"),
        (("grant", "--tenant", "acme", "--usd", "5", "--id", "a b"), 2, "1 to 64 of"),
        (("grant", "--tenant", "acme", "--usd", "x"), 2, "'x' is not a number"),
        (("grant", "--tenant", "acme", "--usd", "5", "--kind", "paid"), 2, "needs --reference"),
        (("grant", "--tenant", "acme", "--usd", "5", "--from", "90d"), 2, "no RFC 3339 time"),
        (("grant", "--tenant", "acme", "--usd", "5", "--expires", "soon"), 2, "no RFC 3339"),
        (("grant", "--tenant", "acme", "--usd", "5", "--expires", "2020-01-01"), 1, "expires be"),
        (("grant", "--tenant", "acne", "--usd", "5"), 3, "no tenant 'acne'"),
        (("show", "g9"), 1, "the ledger has no grant g9"),
        (("void", "g9"), 1, "the ledger has no grant g9"),
    ],
)
def test_slips_are_told(words: tuple[str, ...], code: int, says: str) -> None:
    """Nothing is granted by a slip."""
    found = run(*words)

    assert (found.exit_code, says in found.stderr) == (code, True), found.stderr
    assert json.loads(run("list", "--json").stdout) == {"grants": []}


def test_what_became_of_a_grant_is_shown(books: Ledger) -> None:
    """In tables for people, and for programs in JSON: drawn for an event, then voided."""
    give("--id", "g", "--kind", "paid", "--reference", "PO 1", "--from", "2020-01-01")
    event = make_event()
    book(books, [event])
    draw_credits(books, [KEYS.shard("acme")], now_ns=now_ns())

    balance = json.loads(run("balance", "--json").stdout)["balances"]
    voided = run("void", "g")
    again = run("void", "g")
    shown = json.loads(run("show", "g", "--json").stdout)

    assert balance == [
        {
            "tenant": "acme",
            "left_usd": "4.994500",
            "granted_usd": "5.000000",
            "spent_usd": "0.005500",
            "expired_usd": "0.000000",
        }
    ]
    assert voided.stdout == "g: 4.994500 USD taken away\n"
    assert again.stdout == "g: nothing was left\n"
    assert [(each["kind"], each["usd"], each["event"]) for each in shown["entries"]] == [
        ("draw", "-0.005500", event.event_id),
        ("take", "-4.994500", None),
    ]
    assert (shown["left_usd"], shown["note"]) == ("0.000000", "PO 1")
    for words in (("list",), ("balance", "--tenant", "acme"), ("show", "g")):
        assert "0.005500" in run(*words).stdout


@pytest.mark.usefixtures("books")
def test_without_grants_the_tables_say_so() -> None:
    assert "Nobody was granted anything." in run("list").stdout
    assert "Nobody was granted anything." in run("balance").stdout


def test_what_has_lapsed_is_not_left(books: Ledger) -> None:
    """The list says what the balance says, from the moment on at which a grant is over."""
    times = "--from", "2020-01-01", "--expires", "2020-02-01"
    give("--id", "over", *times)
    give("--id", "later", "--from", "2199-01-01")

    rows = {row["id"]: row for row in json.loads(run("list", "--json").stdout)["grants"]}
    [balance] = json.loads(run("balance", "--json").stdout)["balances"]
    table = run("list").stdout.splitlines()

    told = {name: (row["left_usd"], row["expired_usd"]) for name, row in rows.items()}
    assert told == {"over": ("0.000000", "5.000000"), "later": ("5.000000", "0.000000")}
    assert (balance["left_usd"], balance["expired_usd"]) == ("0.000000", "5.000000")
    assert "2199-01-01" in next(line for line in table if line.startswith("later"))
