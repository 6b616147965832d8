"""Two configurations side by side."""

from __future__ import annotations

from proxy.config_differences import differences
from proxy.config_leaves import Leaf


def test_what_differs() -> None:
    """Added, removed and changed; what is the same is not told."""
    before = {"server.port": Leaf(1, "a"), "data_dir": Leaf("x", "b"), "ledger.url": Leaf("l", "c")}
    after = {
        "server.port": Leaf(2, "d"),
        "ledger.url": Leaf("l", "c"),
        "tenants[a].id": Leaf(1, ""),
    }

    found = differences(before, after)

    assert [(each.key, each.kind, each.effect) for each in found] == [
        ("server.port", "changed", "after a restart"),
        ("tenants[a].id", "added", "at once"),
        ("data_dir", "removed", "after a restart"),
    ]


def test_tls_begins_with_a_restart() -> None:
    """Other certificates hold at once, HTTPS itself does not."""
    found = differences({}, {"server.tls.cert_file": Leaf("c", "a")})

    assert "after a restart" in found[0].effect


def test_only_what_is_shown_is_told() -> None:
    """A difference holds no hash."""
    found = differences({"a": Leaf("***", "h1")}, {"a": Leaf("***", "h2")})

    assert "h1" not in repr(found[0].as_json())
    assert found[0].kind == "changed"
