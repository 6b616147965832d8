"""Tenants, projects and keys through the admin API, and what the audit trail says of it."""

from __future__ import annotations

from fixtures_console import Desk

from metering.registry_body import read_snapshot

ALL = "/admin/v1/tenants"


async def test_the_life_of_a_tenant(desk: Desk) -> None:
    """Made, changed at its version, seen by proxies, removed; each change is in the trail."""
    document = {"id": "umbra", "name": "Umbra", "limits": {"tenant": {"daily_cap": "12.50"}}}
    made = await desk.ask("POST", ALL, document)
    again = await desk.ask("POST", ALL, document)
    version = made.body["version"]
    changed = await desk.ask("PUT", f"{ALL}/umbra?version={version}", {"name": "Umbra Ltd"})
    late = await desk.ask("PUT", f"{ALL}/umbra?version={version}", {"name": "Late"})
    told, body = await desk.console.redis.hmget(desk.console.keys.registry, "version", "body")
    snapshot = read_snapshot(told.decode(), body)
    gone = await desk.ask("DELETE", f"{ALL}/umbra")
    trail = (await desk.get("/admin/v1/audit?target=tenants/umbra"))["data"]

    assert (made.status, made.body["daily_cap_usd"], made.body["published"]) == (
        201,
        "12.500000000",
        True,
    )
    assert (again.code, changed.body["name"], late.code) == ("conflict", "Umbra Ltd", "conflict")
    assert snapshot.tenants == ({"id": "umbra", "name": "Umbra Ltd"},)
    assert gone.body["removed"] is True
    assert (await desk.ask("GET", f"{ALL}/umbra")).code == "not_found"
    assert [each["action"] for each in trail] == [
        "tenant.remove",
        "tenant.replace",
        "tenant.create",
    ]
    assert (trail[1]["before"]["name"], trail[1]["after"]["name"]) == ("Umbra", "Umbra Ltd")
    assert {each["who"] for each in trail} == {"admin"}
    assert await desk.get("/admin/v1/audit/verify") == {"ok": True, "faults": []}


async def test_what_proxies_would_leave_out_is_not_written(desk: Desk) -> None:
    """The configuration's own decoder judges, and names the place."""
    cases = [
        ({"id": "n", "models": ["nope"]}, "models"),
        ({"id": "n", "limits": {"tenant": {"daily_cap": -1}}}, "limits"),
        ({"id": "n", "limts": {}}, "limts"),
        ({"id": "a/b"}, "id"),
        ({"id": "n", "keys": []}, "keys"),
    ]
    for document, place in cases:
        said = await desk.ask("POST", ALL, document)
        assert (said.status, said.code) == (400, "field_refused")
        assert place in said.body["error"]["message"]
    assert [row["id"] for row in (await desk.get(ALL))["data"]] == ["acme"]


async def test_a_refusal_names_the_field_that_was_sent(desk: Desk) -> None:
    """And not where it would stand in the tenant's document; a made-up cursor is refused, too."""
    await desk.ask("POST", ALL, {"id": "n"})
    await desk.ask("POST", f"{ALL}/n/keys", {"id": "one"})
    twice = await desk.ask("POST", f"{ALL}/n/keys", {"id": "one"})
    project = await desk.ask("PUT", f"{ALL}/n/projects/web", {"limits": {}})
    said = [
        await desk.ask("GET", f"/admin/v1/{each}?cursor={cursor}")
        for each in ("audit", "alerts")
        for cursor in ("x", "9" * 30)
    ]

    told = [(each.status, each.body["error"]["param"]) for each in (twice, project, *said)]
    assert told == [(400, "id"), (400, "limits"), *[(400, "cursor")] * 4]
    assert twice.body["error"]["message"].startswith("id: a key with the id 'one' exists")


async def test_the_files_tenants_are_read_only(desk: Desk) -> None:
    """They are seen, and changed where they stand."""
    seen = await desk.get(f"{ALL}/acme")

    assert (seen["source"], seen["daily_cap_nano"], seen["key_count"]) == ("file", 50 * 10**9, 1)
    for method, path, body in (
        ("PUT", "acme", {"name": "Other"}),
        ("DELETE", "acme", None),
        ("POST", "acme/keys", {}),
        ("PUT", "acme/projects/p", {}),
        ("DELETE", "acme/keys/k1", None),
    ):
        assert (await desk.ask(method, f"{ALL}/{path}", body)).code == "read_only"
    assert (await desk.ask("POST", ALL, {"id": "acme"})).code == "read_only"


async def test_the_life_of_a_key(desk: Desk) -> None:
    """Shown once; rotated with an overlap, after which the old one ends; revoked for good."""
    await desk.ask("POST", ALL, {"id": "t"})
    await desk.ask("PUT", f"{ALL}/t/projects/web", {"name": "Web"})
    wish = {"id": "k", "project": "web", "pin": {"feature": "search"}}
    made = await desk.ask("POST", f"{ALL}/t/keys", wish)
    rotated = await desk.ask("POST", f"{ALL}/t/keys/k/rotate", {"overlap_hours": 2})
    revoked = await desk.ask("DELETE", f"{ALL}/t/keys/{rotated.body['id']}")
    rows = (await desk.get(f"{ALL}/t/keys"))["data"]

    assert made.status == 201 and made.body["key"].startswith("sk-weir-")
    assert made.body["key"] != rotated.body["key"]
    assert (rotated.body["rotated_from"], rotated.body["project"]) == ("k", "web")
    assert revoked.body["state"] == "revoked"
    assert [(row["id"], row["state"]) for row in rows] == [
        ("k", "live"),
        (rotated.body["id"], "revoked"),
    ]
    assert rows[0]["expires_at"] is not None
    assert (await desk.ask("DELETE", f"{ALL}/t/projects/web")).code == "conflict"
    assert (await desk.ask("POST", f"{ALL}/t/keys", {"project": "none"})).code == "field_refused"


async def test_lists_come_in_pieces(desk: Desk) -> None:
    """A cursor leads on to the next piece, and the last has none."""
    for name in ("a1", "a2", "a3"):
        await desk.ask("POST", ALL, {"id": name})
    first = await desk.get(f"{ALL}?limit=2")
    second = await desk.get(f"{ALL}?limit=2&cursor={first['next_cursor']}")
    found = await desk.get(f"{ALL}?q=A2")

    assert [row["id"] for row in first["data"] + second["data"]] == ["acme", "a1", "a2", "a3"]
    assert second["next_cursor"] is None
    assert [row["id"] for row in found["data"]] == ["a2"]
    assert (await desk.ask("GET", f"{ALL}?cursor=nope")).code == "field_refused"
