"""`weir tenants` and `weir keys` with no proxy around: the ledger, and the copy beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result
from config_samples import BASE
from fixtures_ledger import new_ledger

from metering.settlement.ledger.admin_books import audits
from metering.settlement.ledger.store import open_ledger
from proxy.api_keys import key_sha256
from proxy.cli import weir
from proxy.registry_copy import read_copy

FILE = BASE + "\ntenants: [{id: ours, keys: [{id: k0, sha256: '" + "a" * 64 + "'}]}]\n"


class Place:
    """A configuration and a ledger that nobody serves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config.yaml"
        self.config.write_text(FILE, encoding="utf-8")
        self.data = folder / "data"
        self.data.mkdir()
        new_ledger(self.data).close()

    def run(self, *words: str) -> Result:
        where = ("--config", str(self.config), "--data-dir", str(self.data))
        return CliRunner().invoke(weir, [*words, *where])

    def json(self, *words: str) -> Any:
        done = self.run(*words, "--json")
        assert done.exit_code == 0, done.output
        return orjson.loads(done.stdout)

    def refused(self, *words: str) -> tuple[int, str]:
        done = self.run(*words)
        return done.exit_code, done.stderr


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_tenant_is_made_changed_and_removed(place: Place) -> None:
    """What is said goes over what was; a document is the whole; who did it is noted."""
    made = place.json("tenants", "create", "acme", "--daily-cap", "5.50", "--project", "web")
    assert made == {"id": "acme", "version": 1, "published": False}
    place.json("tenants", "set", "acme", "--name", "Acme", "--model", "small")
    shown = place.json("tenants", "show", "acme")

    assert shown["document"] == {
        "id": "acme",
        "name": "Acme",
        "models": ["small"],
        "projects": [{"id": "web"}],
        "limits": {"tenant": {"daily_cap": 5.5}},
    }
    (place.folder / "acme.yaml").write_text("limits: {tenant: {daily_cap: 0.10}}\n")
    place.json("tenants", "set", "acme", "--from", str(place.folder / "acme.yaml"))
    assert b'"daily_cap":0.10' in read_copy(place.data).body
    rows = {row["id"]: row for row in place.json("tenants", "list")["tenants"]}
    assert (rows["acme"]["daily_cap_usd"], rows["ours"]["source"]) == ("0.100000", "file")
    assert "acme" in place.run("tenants", "list").output
    place.json("tenants", "remove", "acme")
    assert read_copy(place.data).tenants == ()
    ledger = open_ledger(f"sqlite:///{place.data / 'ledger.db'}")
    found = [(each.action, each.target, each.role) for each in reversed(audits(ledger))]
    ledger.close()
    assert [action for action, *_ in found] == [
        "tenant.create",
        "tenant.set",
        "tenant.set",
        "tenant.remove",
    ]
    assert found[0][1:] == ("tenant/acme", "cli")


def test_what_cannot_be_is_refused(place: Place) -> None:
    """With the decoder's words, and an exit code that says of which kind it is."""
    place.json("tenants", "create", "acme")

    assert place.refused("tenants", "create", "ours")[0] == 2
    assert "somebody else was first" in place.refused("tenants", "create", "acme")[1]
    code, said = place.refused("tenants", "set", "acme", "--model", "smal")
    assert (code, "did you mean 'small'?" in said) == (2, True)
    assert place.refused("tenants", "set", "ours", "--name", "x")[0] == 3
    assert place.refused("tenants", "remove", "ours")[0] == 3
    assert "weir config show" in place.refused("tenants", "show", "ours")[1]
    assert place.refused("tenants", "show", "nobody")[0] == 3
    assert place.refused("keys", "create", "--tenant", "ours")[0] == 3
    assert place.refused("keys", "new", "--tenant", "acme")[0] == 2
    assert place.refused("keys", "create", "--tenant", "acme", "--expires", "soon")[0] == 2


def test_a_tenant_that_is_not_served_is_shown_as_such(place: Place) -> None:
    """The file has changed under it."""
    place.json("tenants", "create", "acme", "--model", "big")
    text = FILE.replace(
        "  big: {upstreams: [{provider: sim, model: up-big}], fallbacks: [small]}\n", ""
    )
    place.config.write_text(text, encoding="utf-8")

    [row] = [row for row in place.json("tenants", "list")["tenants"] if row["id"] == "acme"]
    assert "unknown model 'big'" in row["left_out"]
    assert "# not served" in place.run("tenants", "show", "acme").output


def test_a_key_is_shown_once_rotated_and_revoked(place: Place) -> None:
    """What starts next knows its hash, and lists show when it ends, but never what it is."""
    place.json("tenants", "create", "acme", "--project", "web")
    first = place.json("keys", "create", "--tenant", "acme", "--project", "web", "--id", "k1")
    [tenant] = read_copy(place.data).tenants
    assert tenant["keys"] == [{"id": "k1", "project": "web", "sha256": key_sha256(first["key"])}]

    second = place.json("keys", "rotate", "k1", "--tenant", "acme", "--expires", "30d")
    assert (second["rotated_from"], second["project"]) == ("k1", "web")
    place.json("keys", "revoke", "k1", "--tenant", "acme")
    listed = place.run("keys", "list", "--json", "--all").output
    rows = {row["id"]: row for row in orjson.loads(listed)["keys"]}
    assert (rows["k1"]["live"], rows[second["id"]]["live"]) == (False, True)
    assert rows["k1"]["revoked_at"] is not None
    assert rows["k0"]["source"] == "file"
    assert first["key"] not in listed
    live = place.json("keys", "list", "--tenant", "acme")["keys"]
    assert [row["id"] for row in live] == [second["id"]]
    assert "revoked" in place.run("keys", "list", "--all").output
    assert place.refused("keys", "revoke", "k9", "--tenant", "acme")[0] == 3
