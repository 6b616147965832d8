"""The library against a real Redis: holds, commits, refusals, outages, and the ledger behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fixtures_redis import RedisServer
from fixtures_worker import Site

from metering.caps import CapsUnavailableError, Denial, DenialReason, Limit, Scope, ScopeKind
from metering.library import (
    CallRefusedError,
    Metering,
    NameInUseError,
    NotRecordedError,
    Pace,
    UnpricedModelError,
    meter,
)
from metering.metered_call import CallStoppedError
from metering.price_variants import Overlay, Variants
from metering.prices import PriceBook, PriceRule
from metering.redis_caps import RedisCaps
from metering.redis_keys import RedisKeys
from metering.spool import SpoolError
from metering.tenant_caps import Labels
from metering.tenants import CapRule, SpendLimits, Tenant
from metering.window import rolling

BOOK = PriceBook((PriceRule("gpt-4o", 1_000_000, 4_000_000),))
ACME = Tenant("acme", "Acme", SpendLimits(daily_cap_nano=1_000_000))
ASK: dict[str, Any] = {"model": "gpt-4o", "prompt": "Hello world", "max_output_tokens": 100}


@pytest.fixture
async def metering(site: Site, tmp_path: Path) -> AsyncIterator[Metering]:
    await site.redis.set(site.keys.epoch(site.keys.shard("acme")), 1)
    async with Metering.open(
        site.redis_url,
        name="lib-1",
        data_dir=tmp_path,
        prices=BOOK,
        keys=site.keys,
        timeout_ms=5_000,
        pace=Pace(0.01, 0.01),
    ) as opened:
        yield opened


async def window(site: Site, field: str) -> int:
    key = site.keys.scope("acme", Scope(ScopeKind.TENANT))
    return int(await site.redis.hget(key, field) or 0)


async def holds(site: Site) -> list[bytes]:
    return [bytes(name) for name in await site.redis.hkeys(site.keys.holds("acme"))]


async def test_a_call_is_in_the_ledger_like_any_other(metering: Metering, site: Site) -> None:
    """Rated by the worker with the library's own prices, to the nano, and nothing is held after."""
    async with meter(metering, tenant=ACME, labels=Labels(run="r1"), **ASK) as call:
        assert len(await holds(site)) >= 1
        call.feed("Hello")
        call.feed(" world")

    await site.work()

    [row] = site.rows("usage_event")
    assert (row.tenant, row.run, row.provider, row.admission_nano) == (
        "acme",
        "r1",
        "external",
        10_000,
    )
    assert await window(site, "24h:n") == 10_000
    assert await holds(site) == []
    assert site.findings() == []


async def test_a_call_at_a_tier_is_rated_at_its_price(site: Site, tmp_path: Path) -> None:
    """By the worker too; held at the list price, which the provider may answer at; a tier without
    a price is refused under a cap in money."""
    half = Variants(tiers={"flex": Overlay(None, 500_000, 500_000)})
    await site.redis.set(site.keys.epoch(site.keys.shard("acme")), 1)
    book = PriceBook((PriceRule("gpt-4o", 1_000_000, 4_000_000, variants=half),))
    tenant = replace(ACME, limits=SpendLimits(daily_cap_nano=410_000))
    async with Metering.open(
        site.redis_url, name="l", data_dir=tmp_path, prices=book, keys=site.keys, timeout_ms=5_000
    ) as metering:
        less = replace(tenant, limits=SpendLimits(daily_cap_nano=390_000))
        with pytest.raises(CallRefusedError):
            async with meter(metering, tenant=less, service_tier="flex", **ASK):
                pass
        with pytest.raises(UnpricedModelError, match="service tier 'turbo' of model 'gpt-4o'"):
            async with meter(metering, tenant=tenant, service_tier="turbo", **ASK):
                pass
        async with meter(metering, tenant=tenant, service_tier="flex", region="eu", **ASK) as call:
            call.feed("Hello world")

    await site.work()

    [row] = site.rows("usage_event")
    assert (row.admission_nano, row.sell_nano) == (5_000, 5_000)
    assert site.findings() == []


async def test_a_call_that_does_not_fit_is_not_made(metering: Metering) -> None:
    """The refusal says which cap, and carries the whole denial."""
    with pytest.raises(CallRefusedError, match=r"24h cap of tenant:acme is 0\.001 USD") as refused:
        async with meter(metering, tenant=ACME, **{**ASK, "max_output_tokens": 1_000}):
            raise AssertionError("the block must not run")

    assert refused.value.denial.reason is DenialReason.NEVER


async def test_the_rules_of_a_tenant_go_for_the_library_too(metering: Metering) -> None:
    """A cap on requests of a run refuses the second call of that run, and of no other."""
    rule = CapRule(ScopeKind.RUN, rolling(3_600), Limit(requests=1))
    tenant = replace(ACME, cap_rules=(rule,))
    async with meter(metering, tenant=tenant, labels=Labels(run="r1"), **ASK) as call:
        call.feed("Hello")

    with pytest.raises(CallRefusedError, match="requests under the 1h cap of run:r1"):
        async with meter(metering, tenant=tenant, labels=Labels(run="r1"), **ASK):
            pass
    async with meter(metering, tenant=tenant, labels=Labels(run="r2"), **ASK) as call:
        call.feed("Hello")


async def test_what_failed_before_it_was_sent_is_given_back(metering: Metering, site: Site) -> None:
    """Nothing is billed and nothing is held."""
    with pytest.raises(OSError, match="no route"):
        async with meter(metering, tenant=ACME, **ASK):
            raise OSError("no route")

    assert (await window(site, "24h:n"), await holds(site)) == (0, [])


async def test_what_was_delivered_is_billed_though_it_failed(
    metering: Metering, site: Site
) -> None:
    """And so is what was delivered to somebody who was cancelled in the middle."""

    async def broken_off() -> None:
        async with meter(metering, tenant=ACME, **ASK) as call:
            call.feed("Hello")
            raise OSError("broke off")

    with pytest.raises(OSError, match="broke off"):
        await broken_off()
    fed = asyncio.Event()

    async def cancelled() -> None:
        async with meter(metering, tenant=ACME, **ASK) as call:
            call.feed("Hello")
            fed.set()
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(cancelled())
        await fed.wait()
        task.cancel()

    await site.work()
    assert [(row.status, row.admission_nano) for row in site.rows("usage_event")] == [
        ("truncated", 6_000),
        ("cancelled", 6_000),
    ]


async def test_a_kill_ends_a_call_that_runs(metering: Metering, site: Site) -> None:
    """Heard of at a renewal, raised at the next piece; what was delivered is billed."""

    async def killed() -> None:
        async with asyncio.timeout(5), meter(metering, tenant=ACME, **ASK) as call:
            call.feed("Hello")
            await site.redis.hset(site.keys.state("acme"), "killed", '{"by":"a","why":"b"}')
            while call.stop is None:
                await asyncio.sleep(0.01)
            call.feed(" world")

    with pytest.raises(CallStoppedError):
        await killed()

    assert await window(site, "24h:n") == 10_000


async def test_an_open_call_notes_how_it_stands(metering: Metering, site: Site) -> None:
    """So the worker can record it should this process be killed."""
    async with asyncio.timeout(5), meter(metering, tenant=ACME, **ASK) as call:
        call.feed("Hello")
        while not any(name.endswith(b":checkpoint") for name in await holds(site)):
            await asyncio.sleep(0.01)


async def test_a_model_without_a_price_is_not_free(metering: Metering) -> None:
    """Not where a cap in money could be passed by it."""
    with pytest.raises(UnpricedModelError, match="'other' has no price"):
        async with meter(metering, tenant=ACME, **{**ASK, "model": "other"}):
            pass
    async with meter(
        metering, tenant=replace(ACME, limits=SpendLimits()), **{**ASK, "model": "other"}
    ) as call:
        call.feed("Hello")


async def test_messages_are_counted_as_the_proxy_counts_them(metering: Metering) -> None:
    """With the framing of a chat."""
    messages = [{"role": "user", "content": "Hello world"}]
    async with meter(metering, tenant=ACME, **{**ASK, "prompt": messages}) as call:
        call.feed("Hi")

    assert call.facts.input_tokens == 9


async def test_a_name_is_for_one_process(metering: Metering, site: Site, tmp_path: Path) -> None:
    """Two writers would ruin the spool."""
    with pytest.raises(NameInUseError, match="'lib-1'"):
        async with Metering.open(
            site.redis_url, name="lib-1", data_dir=tmp_path, prices=BOOK, keys=site.keys
        ):
            pass


class AwayAtTheEnd(RedisCaps):
    """Redis takes the hold, and then nothing."""

    async def commit(self, *_: Any) -> Any:
        raise CapsUnavailableError("no connection")


class FullSpool:
    async def append(self, *_: Any) -> int:
        raise SpoolError("No space left on device")


async def test_what_redis_does_not_take_goes_to_disk_and_then_to_redis(
    metering: Metering, site: Site
) -> None:
    """The background sends it as soon as Redis is back; it counts once."""
    away = AwayAtTheEnd(metering.caps._runner, site.keys)  # type: ignore[attr-defined]
    async with meter(replace(metering, caps=away), tenant=ACME, **ASK) as call:
        call.feed("Hello")

    assert metering.spool.depth.records == 1
    async with asyncio.timeout(5):
        while not await window(site, "24h:n"):
            await asyncio.sleep(0.05)
    assert await window(site, "24h:n") == 6_000


async def test_what_nobody_takes_is_said(metering: Metering, site: Site) -> None:
    """Neither Redis nor the disk: the block ends with an error that names both."""
    away = AwayAtTheEnd(metering.caps._runner, site.keys)  # type: ignore[attr-defined]
    full: Any = FullSpool()

    with pytest.raises(NotRecordedError, match="no connection; disk: No space left"):
        async with meter(replace(metering, caps=away, spool=full), tenant=ACME, **ASK) as call:
            call.feed("Hello")


async def test_without_redis_nothing_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cap that cannot be checked is not assumed to hold."""
    monkeypatch.setattr("metering.library.START_S", 0.1)

    with pytest.raises(CapsUnavailableError):
        async with Metering.open(
            f"unix://{tmp_path}/none.sock", name="lib-2", data_dir=tmp_path, prices=BOOK
        ):
            pass


async def test_an_odd_name_is_refused(redis_server: RedisServer, tmp_path: Path) -> None:
    """It names a folder."""
    with pytest.raises(ValueError, match="'a/b'"):
        async with Metering.open(
            redis_server.url, name="a/b", data_dir=tmp_path, prices=BOOK, keys=RedisKeys("t")
        ):
            pass


def test_a_refusal_by_a_flag_names_its_scope() -> None:
    """There is no cap to speak of then."""
    denial = Denial(DenialReason.PAUSED, scope=Scope(ScopeKind.RUN, "r1"))

    assert str(CallRefusedError(denial, "acme")) == "refused: paused (run:r1)"
