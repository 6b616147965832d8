"""`weir payments`, over a real ledger and a Stripe on a socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fixtures_ledger import new_ledger
from fixtures_payments import USD, Till

from metering.callbacks import Callback
from metering.settlement.ledger.payment_book import keep_callbacks, retry
from proxy.cli import weir


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Till]:
    """A ledger with a payment that is booked, and one of a stranger."""
    made = Till(new_ledger(tmp_path))
    (tmp_path / "config.yaml").write_text("data_dir: .\ntenants: [{id: acme}, {id: beta}]\n")
    monkeypatch.chdir(tmp_path)
    made.clock.now_ns = 1_793_491_200_000_000_000
    made.stripe.pay()
    made.stripe.pay(5_000, customer="cus_stranger")
    made.settle()
    yield made
    made.server.stop()
    made.ledger.close()


def _run(*words: str) -> Result:
    return CliRunner().invoke(weir, ["payments", *words], catch_exceptions=False)


def _names(shop: Till, state: str) -> list[str]:
    return [name for name, (found, _) in shop.states().items() if found == state]


def test_payments_are_listed_and_shown(shop: Till) -> None:
    [booked], [stranger] = _names(shop, "booked"), _names(shop, "unassigned")
    listed = json.loads(_run("list", "--json").stdout)
    shown = json.loads(_run("show", booked, "--json").stdout)

    assert {each["id"] for each in listed["payments"]} == {booked, stranger}
    assert (shown["tenant"], shown["received"], shown["credit_usd"]) == ("acme", "100.00", "100.00")
    assert [(each["step"], each["usd"]) for each in shown["steps"]] == [("paid", "100.00")]
    assert "unknown_customer" in _run("list", "--state", "unassigned").stdout
    assert booked in _run("show", booked).stdout
    assert _run("show", "pi_none").exit_code == 3


def test_a_payment_is_assigned_once(shop: Till) -> None:
    """The worker books it; nobody can say otherwise afterwards."""
    [stranger] = _names(shop, "unassigned")

    assert _run("assign", stranger, "--tenant", "nobody", "--by", "ann").exit_code == 3
    assert _run("assign", stranger, "--tenant", "beta", "--usd", "x", "--by", "ann").exit_code == 2
    assert _run("assign", stranger, "--tenant", "beta", "--by", "ann").exit_code == 0
    assert _run("assign", stranger, "--tenant", "acme", "--by", "ann").exit_code == 3
    shop.turn(later=10**18)

    assert shop.left("beta") == 50 * USD
    shown = json.loads(_run("show", stranger, "--json").stdout)
    assert (shown["state"], shown["decided_by"]) == ("booked", "ann")


def test_what_waits_is_looked_into_again(shop: Till) -> None:
    """All of it, or one; what is not there is said."""
    assert json.loads(_run("retry", "--json").stdout) == {"retried": 1}
    assert _run("retry", "pi_none").exit_code == 3
    assert shop.turn(later=10**18).steps == {}


def test_a_callback_that_stripe_does_not_know_is_put_aside(shop: Till) -> None:
    """Asking again changes nothing; putting it aside does, once, and only what is in review."""
    stranger = Callback("evt_gone", "payment_intent.succeeded", 1_793_491_200)
    keep_callbacks(shop.ledger, [stranger], shop.clock())
    early = _run("dismiss", "evt_gone", "--by", "ann").exit_code
    shop.turn()
    assert retry(shop.ledger, "evt_gone", shop.clock()) == 1
    shop.turn(later=1)
    [listed] = json.loads(_run("list", "--json").stdout)["callbacks"]

    done = _run("dismiss", "evt_gone", "--by", "ann", "--json")

    assert (early, listed["state"], listed["reason"]) == (3, "review", "unknown_event")
    assert json.loads(done.stdout) == {"callback": "evt_gone", "dismissed_by": "ann"}
    assert _run("dismiss", "evt_gone", "--by", "ann").exit_code == 3
    assert json.loads(_run("list", "--json").stdout)["callbacks"] == []
