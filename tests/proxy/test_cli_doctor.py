"""`weir doctor`: each trouble is made for real, and the doctor names it and what to do."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from caps_samples import cap, hold
from click.testing import CliRunner, Result
from fixtures_ledger import BOOK, make_event, new_ledger
from fixtures_worker import Site

from metering.caps import Vector
from metering.clock import now_ns
from metering.events import Reason, UsageEvent
from metering.flags import TENANT as WHOLE
from metering.flags import Flag, FlagKind, put_up
from metering.settlement.ledger.store import open_ledger
from metering.spool_codec import SpoolRecord, encode_record
from proxy.cli import weir
from proxy.cli_times import parse_month

NOW = now_ns()
MONTH = parse_month(None, NOW)
HASH = "0" * 64


def event(**changes: Any) -> UsageEvent:
    """An event of just now."""
    times = {"occurred_at": NOW, "completed_at": NOW + 1, "emitted_at": NOW + 2}
    return make_event(**{**times, **changes})


def write_config(site: Site, folder: Path, more: str = "", tenant: str = "") -> Path:
    path = folder / "config.yaml"
    path.write_text(
        f"data_dir: {folder}\n"
        f"redis: {{url: '{site.redis_url}', prefix: '{site.keys.prefix}'}}\n"
        f"ledger: {{url: '{site.ledger_url}'}}\n"
        f"tenants: [{{id: acme, keys: [{{id: k1, sha256: '{HASH}'}}]{tenant}}}]\n{more}"
    )
    return path


def run(path: Path, *words: str) -> Result:
    return CliRunner().invoke(
        weir, ["doctor", *words, "--config", str(path)], catch_exceptions=False
    )


async def diagnose(path: Path, *words: str) -> dict[str, list[dict[str, Any]]]:
    """The findings by check; the exit code is that of the worst of them."""
    found = await asyncio.to_thread(run, path, "--json", *words)
    body = json.loads(found.stdout)
    states = {each["state"] for each in body["checks"]}
    assert found.exit_code == (1 if "trouble" in states else 0)
    assert body["ok"] is (found.exit_code == 0)
    checks: dict[str, list[dict[str, Any]]] = {}
    for each in body["checks"]:
        checks.setdefault(each["check"], []).append(each)
    return checks


def said(found: dict[str, list[dict[str, Any]]], check: str) -> tuple[str, str]:
    """The worst state of a check, and all that it says."""
    states = [each["state"] for each in found[check]]
    worst = next(state for state in ("trouble", "note", "ok") if state in states)
    return worst, " | ".join(each["said"] for each in found[check])


@pytest.fixture
async def settled(site: Site, tmp_path: Path) -> Path:
    """Two events of acme on their way through a worker into the ledger."""
    await site.publish_prices()
    await site.commit(event(), event(project="web"))
    await site.work()
    return write_config(site, tmp_path)


async def test_an_installation_that_is_well(settled: Path) -> None:
    """Every check says ok, and says what it looked at."""
    found = await diagnose(settled, "--tenant", "acme", "--month", MONTH)

    states = {name: said(found, name)[0] for name in found}
    assert {name for name, state in states.items() if state != "ok"} <= {
        "configuration",  # the file has no models
        "prices",  # and other prices than the events
    }
    assert said(found, "usage") == ("ok", f"2 events to bill in {MONTH}, 0.011000 USD as admitted")
    assert "the invoice of acme" in said(found, "invoice")[1]
    assert "2 events" in said(found, "ledger")[1]


async def test_everything_is_down(site: Site, tmp_path: Path) -> None:
    """No Redis, no ledger: it says so, and that the rest was not looked at."""
    path = write_config(site, tmp_path)
    text = path.read_text().replace(site.redis_url, f"unix://{tmp_path}/none.sock")
    path.write_text(text)

    found = await diagnose(path, "--tenant", "acme")

    assert said(found, "redis")[0] == said(found, "ledger")[0] == "trouble"
    assert "none.sock" in said(found, "redis")[1]
    for check in ("worker", "streams", "flags", "usage", "invoice", "rollups"):
        assert said(found, check)[0] == "note"
        assert said(found, check)[1].startswith("not looked at: ")


async def test_a_redis_that_hangs_is_not_waited_for(
    settled: Path, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that takes connections and says nothing is given up."""
    monkeypatch.setattr("metering.settlement.doctor_redis.PART_S", 0.2)
    settled.write_text(settled.read_text().replace(site.redis_url, f"unix://{tmp_path}/mute"))

    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(f"{tmp_path}/mute")
        mute.listen()
        found = await diagnose(settled)

    assert "no answer within" in said(found, "redis")[1]
    assert said(found, "ledger")[0] == "ok"


async def test_the_wrong_prefix(settled: Path, site: Site) -> None:
    """It names the prefixes that are there."""
    text = settled.read_text().replace(f"prefix: '{site.keys.prefix}'", "prefix: 'nobody'")
    settled.write_text(text)

    found = await diagnose(settled)

    assert said(found, "redis")[0] == "trouble"
    assert site.keys.prefix in said(found, "redis")[1]


async def test_no_worker_has_come(site: Site, tmp_path: Path) -> None:
    """What nobody settles is seen in Redis, by its tenant."""
    await site.redis.hset(site.keys.meta, "shards", "16")
    await site.commit(event())
    new_ledger(tmp_path).close()

    found = await diagnose(write_config(site, tmp_path), "--tenant", "acme", "--month", MONTH)

    assert said(found, "worker")[0] == said(found, "windows")[0] == "trouble"
    assert "no settlement worker has ever read" in said(found, "worker")[1]
    assert "1 event not in the ledger yet" in said(found, "streams")[1]
    assert "1 event of acme in the streams" in said(found, "usage")[1]
    assert "no event of acme was ever booked; Redis has one" in said(found, "usage")[1]


async def test_an_unknown_price_version(settled: Path, site: Site) -> None:
    """Events that wait for prices say for which; what the ledger keeps is not missed."""
    await site.redis.delete(*(site.keys.prices(name) for name in (BOOK.cost_version,)))
    await site.commit(event(), event(sell_version="abcdefabcdef", admission_nano=1, cost_nano=1))

    found = await diagnose(settled, "--tenant", "acme")

    state, words = said(found, "waiting prices")
    assert (state, "abcdefabcdef (1 events)" in words) == ("trouble", True)
    assert BOOK.cost_version not in words


async def test_another_ledger(settled: Path, site: Site, tmp_path: Path) -> None:
    """Redis is settled into one, the file names another."""
    other = tmp_path / "other"
    other.mkdir()
    settled.write_text(settled.read_text().replace(site.ledger_url, f"sqlite:///{other}/ledger.db"))
    new_ledger(other).close()

    found = await diagnose(settled)

    assert said(found, "one ledger")[0] == "trouble"


async def test_a_ledger_that_takes_no_writes(
    settled: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock that somebody keeps is named."""
    monkeypatch.setattr("metering.settlement.ledger.doctor_reading.WRITE_MS", 50)
    with closing(open_ledger(site.ledger_url)) as ledger, ledger.write():
        found = await diagnose(settled)

    assert said(found, "ledger") == ("trouble", said(found, "ledger")[1])
    assert "takes no writes: database is locked" in said(found, "ledger")[1]


async def test_dead_letters_and_conflicts(settled: Path, site: Site) -> None:
    """What could not be booked is told with its reason."""
    shard = site.keys.shard("acme")
    twice = event()
    await site.redis.xadd(site.keys.stream(shard), {"e": b"nonsense", "h": b"no"})
    await site.commit(twice)
    await site.commit(event(event_id=twice.event_id, project="other"))
    site.stop.clear()
    await site.work()

    state, words = said(await diagnose(settled), "dead letters")

    assert state == "trouble"
    assert "1 dead letter on no invoice" in words
    assert "1 event came a second time" in words


async def test_a_tenant_that_is_not_there(settled: Path) -> None:
    """Near names are proposed; what cannot be an id is none, and asks nobody."""
    near = await diagnose(settled, "--tenant", "acmee", "--month", MONTH)
    strange = await diagnose(settled, "--tenant", "a/b")

    assert said(near, "tenant")[0] == "trouble"
    assert "did you mean acme?" in said(near, "tenant")[1]
    assert said(near, "usage")[0] == "trouble"
    assert said(strange, "flags")[0] == "note"


async def test_a_month_without_usage(settled: Path) -> None:
    """It says in which months there is some."""
    found = await diagnose(settled, "--tenant", "acme", "--month", "2090-01")
    past = await diagnose(settled, "--tenant", "acme", "--month", _month_before())

    assert said(found, "month")[0] == "trouble"
    assert MONTH in said(past, "usage")[1]
    assert said(past, "usage")[0] == "trouble"


def _month_before() -> str:
    number = int(MONTH[:4]) * 12 + int(MONTH[5:]) - 2
    return f"{number // 12:04d}-{number % 12 + 1:02d}"


async def test_usage_that_is_not_billed(site: Site, tmp_path: Path) -> None:
    """The reasons stand beside the number; a key that is not in the file is noted."""
    await site.publish_prices()
    await site.commit(
        event(billable=False, reason_code=Reason.UPSTREAM_ERROR, units={}, api_key_id="k9")
    )
    await site.work()

    found = await diagnose(write_config(site, tmp_path), "--tenant", "acme", "--month", MONTH)

    assert said(found, "usage")[0] == "trouble"
    assert f"1 {Reason.UPSTREAM_ERROR}" in said(found, "usage")[1]
    assert "k9" in said(found, "keys")[1]


async def test_usage_without_a_price(settled: Path, site: Site) -> None:
    """A unit without a rate is on no line."""
    await site.commit(event(model_upstream="new-model", admission_nano=0, cost_nano=0))
    await site.work()

    found = await diagnose(settled, "--tenant", "acme", "--month", MONTH)

    assert said(found, "unpriced")[0] == "trouble"
    assert "new-model (1)" in said(found, "unpriced")[1]


async def test_a_paused_tenant(settled: Path, site: Site) -> None:
    """A flag is trouble, whoever put it up."""
    flag = Flag(FlagKind.PAUSED, WHOLE, by="ann", why="unpaid", at_ms=NOW // 10**6)
    await put_up(site.redis.execute_command, site.keys, "acme", flag)

    state, words = said(await diagnose(settled, "--tenant", "acme"), "flags")

    assert (state, "acme is paused since" in words, "by ann" in words) == ("trouble", True, True)


async def test_clocks_apart(settled: Path, site: Site) -> None:
    """Usage from the future is a clock that is ahead."""
    ahead = 3_600 * 10**9
    await site.commit(event(occurred_at=NOW + ahead, completed_at=NOW + ahead + 1))
    await site.work()

    state, words = said(await diagnose(settled), "clock")

    assert state == "trouble"
    assert "1 event began up to" in words
    assert "begin in the future" in words


async def test_spools_that_nobody_replays(settled: Path, tmp_path: Path) -> None:
    """Records on this machine's disk that the ledger does not have, and files with damage."""
    folder = tmp_path / "spool" / "weir-0"
    folder.mkdir(parents=True)
    record = SpoolRecord(1, hold(cap(100)), Vector(1), (b"{}",))
    (folder / "000000000001-00000000000000000001.ready").write_bytes(encode_record(record))
    (folder / "000000000002-00000000000000000002.damaged").write_bytes(b"torn")

    _, words = said(await diagnose(settled), "spools")
    (folder / "000000000002-00000000000000000002.damaged").unlink()
    waits = said(await diagnose(settled), "spools")

    assert "1 damaged file" in words
    assert waits[0] == "note"
    assert "holds 1 commit (on this machine)" in waits[1]


def test_a_file_with_faults(tmp_path: Path) -> None:
    """Nothing else can be asked; the fault is named."""
    path = tmp_path / "config.yaml"
    path.write_text("tenants: [{id: acme, plan: gold}]\nserver: {port: no}\n")

    found = run(path, "--json")
    missing = run(tmp_path / "none.yaml")

    [check] = json.loads(found.stdout)["checks"]
    assert (found.exit_code, check["check"], check["state"]) == (1, "configuration", "trouble")
    assert missing.exit_code == 1
    assert "none.yaml" in missing.stdout
    assert run(path, "--month", "May").exit_code == 2


async def test_for_people(settled: Path) -> None:
    """A table, with what to do; --all adds the numbers; nothing secret is in it."""
    shown = await asyncio.to_thread(run, settled, "--tenant", "nobody", "--all")

    assert shown.exit_code == 1
    assert "-> add it to `tenants`" in shown.stdout
    assert "begin with `tenant`" in shown.stdout
    assert '"waiting":0' in shown.stdout
    assert HASH not in shown.stdout
