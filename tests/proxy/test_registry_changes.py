"""Changes of tenants and keys: what proxies would not serve is not written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from config_samples import BASE
from fixtures_ledger import new_ledger

from metering.settlement.ledger import registry_books as books
from metering.settlement.ledger.store import Ledger
from proxy.api_keys import key_sha256
from proxy.registry_changes import (
    ChangeRefusedError,
    Check,
    checker,
    make_key,
    put_tenant,
    rotate_key,
)

HOUR_NS = 3_600_000_000_000


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = new_ledger(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def check(tmp_path: Path) -> Check:
    source = tmp_path / "config.yaml"
    source.write_text(BASE + "\ntenants: [{id: ours}]\n", encoding="utf-8")
    return checker(source, {}, tmp_path)


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ({"name": "x"}, "id: is missing"),
        ({"id": "a b"}, "cannot be the id"),
        ({"id": "ours"}, "stands in the file"),
        ({"id": "acme", "models": ["smal"]}, r"models\[0\]: unknown model 'smal'"),
        ({"id": "acme", "colour": 1}, "colour: unknown key"),
        ({"id": "acme", "keys": [{"id": "k", "mint": True}]}, "keys: are made one by one"),
        ({"id": "acme", "limits": {"tenant": {"daily_cap": "9"}}}, "must be a number"),
    ],
)
def test_what_is_not_served_is_not_written(
    ledger: Ledger, check: Check, document: dict[str, object], why: str
) -> None:
    """The reason is the decoder's."""
    with pytest.raises(ChangeRefusedError, match=why):
        put_tenant(ledger, check, document, now_ns=1)
    assert books.number(ledger) == 0


def test_an_amount_keeps_its_digits(ledger: Ledger, check: Check) -> None:
    """Also one that JSON has made a float of."""
    put_tenant(ledger, check, {"id": "acme", "limits": {"tenant": {"daily_cap": 0.1}}}, now_ns=1)

    assert b'"daily_cap":0.1}' in books.snapshot(ledger).body


def test_a_key_is_made_once_and_kept_nowhere(ledger: Ledger, check: Check) -> None:
    """Its hash and what was wished; what would widen it is refused by name."""
    put_tenant(ledger, check, {"id": "acme", "projects": [{"id": "web"}]}, now_ns=1)
    made = make_key(ledger, check, "acme", {"project": "web", "id": None}, now_ns=2)

    assert made.row.sha256 == key_sha256(made.key)
    assert made.row.document == {"id": made.row.id, "project": "web"}
    assert made.key not in repr(made)
    for wish, why in (
        ({"sha256": "a" * 64}, "sha256: is not for a key"),
        ({"project": "wbe"}, "unknown project 'wbe'"),
        ({"act_for": ["nobody"]}, "unknown tenant 'nobody'"),
        ({"id": "a/b"}, "cannot be the id"),
    ):
        with pytest.raises(ChangeRefusedError, match=why):
            make_key(ledger, check, "acme", wish, now_ns=3)
    with pytest.raises(ChangeRefusedError, match="over already"):
        make_key(ledger, check, "acme", {}, now_ns=3, expires_at=2)
    with pytest.raises(books.RegistryMissingError):
        make_key(ledger, check, "ours", {}, now_ns=3)
    make_key(ledger, check, "acme", {"act_for": ["ours"], "pin": {"user": "u"}}, now_ns=4)


def test_rotating_widens_nothing(ledger: Ledger, check: Check) -> None:
    """The new key has the project of the old one, and stands under the same caps."""
    cap = {"scope": "key", "id": "k1", "window": "day", "usd": 1}
    put_tenant(ledger, check, {"id": "acme", "limits": {"caps": [cap]}}, now_ns=1)
    make_key(ledger, check, "acme", {"id": "k1", "pin": {"feature": "chat"}}, now_ns=2)
    made = rotate_key(ledger, "acme", "k1", now_ns=3, overlap_ns=HOUR_NS)

    old, new = books.keys(ledger, "acme")
    assert (old.expires_at, new.rotated_from, new.sha256) == (3 + HOUR_NS, "k1", made.row.sha256)
    assert new.document == {"id": new.id, "pin": {"feature": "chat"}}
    found = books.tenant(ledger, "acme")
    assert found is not None
    assert found.document["limits"]["caps"] == [cap, {**cap, "id": new.id}]
    with pytest.raises(books.RegistryMissingError):
        rotate_key(ledger, "acme", "k9", now_ns=4)
