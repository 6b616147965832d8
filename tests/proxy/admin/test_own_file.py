"""A console alone and its file, over a real ledger and a real Redis."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from config_samples import BASE
from fixtures_console import TENANTS, Desk

from metering.settlement.ledger.registry_books import put_tenant
from proxy.admin.own_file import OwnFile
from proxy.config_now import load_now
from proxy.console_alone import completed
from proxy.settings import Settings


@pytest.fixture
def file(desk: Desk) -> Path:
    """The file of the desk's console, which it follows from now on."""
    source = desk.console.settings.source
    assert source is not None
    source.write_text(BASE + TENANTS + "admin: {port: 0}\n")
    return source


async def follow(desk: Desk, file: Path) -> OwnFile:
    """What follows it, with what the test's settings have from elsewhere."""
    began = desk.console.settings

    def complete(found: Settings) -> Settings:
        return replace(
            completed(found, None, None),
            admin=began.admin,
            admin_keys=began.admin_keys,
            redis=began.redis,
            ledger_url=began.ledger_url,
        )

    read = partial(load_now, file, {}, data_dir=began.data_dir)
    own = OwnFile(desk.console, read, complete)
    assert (await own.read_again("the test begins")).ok
    return own


async def test_a_reload_where_nobody_serves_tells_all_machines(desk: Desk, file: Path) -> None:
    """The console takes up its own file; the proxies, which are elsewhere, are told in Redis."""
    await follow(desk, file)
    file.write_text(file.read_text().replace("Acme", "Acme Ltd"))

    said = await desk.ask("POST", "/admin/v1/reload", {})

    assert said.status == 200, said.raw
    assert (said.body["ok"], said.body["announced"]) == (True, True)
    assert "tenants.acme" in said.body["applied"]
    assert desk.console.settings.tenants["acme"].name == "Acme Ltd"
    word = await desk.console.redis.get(desk.console.keys.announced)
    assert bytes(word).decode().endswith(f":{said.body['sha256'][:16]}")


async def test_a_file_with_faults_is_told_and_not_announced(desk: Desk, file: Path) -> None:
    """What was there before goes on, here and everywhere."""
    await follow(desk, file)
    file.write_text(file.read_text().replace("daily_cap", "dayly_cap"))

    said = await desk.ask("POST", "/admin/v1/reload", {"all": True})

    assert (said.status, said.body["ok"], said.body["announced"]) == (200, False, False)
    assert "dayly_cap" in said.body["faults"][0]["message"] + said.body["faults"][0]["key"]
    assert await desk.console.redis.get(desk.console.keys.announced) is None
    assert desk.console.settings.tenants["acme"].name == "Acme"


async def test_without_a_supervisor_or_a_file_of_its_own_it_says_so(desk: Desk) -> None:
    """A console whose `weir serve` is gone: 409, with what to do."""
    said = await desk.ask("POST", "/admin/v1/reload", {})

    assert (said.status, said.code) == (409, "conflict")
    assert "start `weir serve`" in said.body["error"]["message"]


async def test_a_look_takes_up_what_was_announced_and_who_is_new(desk: Desk, file: Path) -> None:
    """Another machine's word has the file read; tenants come from the ledger, once."""
    own = await follow(desk, file)
    await own.look()
    file.write_text(file.read_text().replace("Acme", "Acme Ltd"))
    await desk.console.redis.set(desk.console.keys.announced, "1:abc")
    put_tenant(desk.console.ledger(), {"id": "umbra", "name": "Umbra"}, now_ns=1)
    await own.look()

    tenants = desk.console.settings.tenants
    assert (tenants["acme"].name, tenants["umbra"].is_registered) == ("Acme Ltd", True)
    before = desk.console.settings
    await own.look()
    assert desk.console.settings is before


async def test_a_changed_file_is_seen_once_it_has_settled(
    desk: Desk, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As proxies see it: a ConfigMap that changes needs no new pod, and no session ends."""
    monkeypatch.setattr("proxy.config_files.LOOK_EVERY_S", 0.0)
    own = await follow(desk, file)
    await own.look()
    file.write_text(file.read_text().replace("Acme", "Acme Ltd"))
    await own.look()
    assert desk.console.settings.tenants["acme"].name == "Acme"

    await own.look()
    assert desk.console.settings.tenants["acme"].name == "Acme Ltd"


async def test_a_ledger_that_is_away_changes_nothing(desk: Desk, file: Path) -> None:
    """The other looks go on."""
    own = await follow(desk, file)
    desk.console.settings = replace(desk.console.settings, ledger_url="sqlite:////nowhere/l.db")
    await own.look()

    assert set(desk.console.settings.tenants) == {"acme"}
