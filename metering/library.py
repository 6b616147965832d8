"""Metering as a library: `async with meter(...)` around any inference call, without the proxy.

    async with Metering.open(url, name="nightly", data_dir=path, prices=book) as metering:
        async with meter(
            metering, tenant=acme, model="m", prompt=text, max_output_tokens=500
        ) as call:
            async for piece in model(text):
                call.feed(piece)

It stands under the same caps, in the same Redis, and goes to the same worker and ledger as what
passes the proxy. Rules: room is held before the block begins, or it does not begin; what was
counted is recorded before the block ends, in Redis or on disk, however it ends; a process that is
killed leaves its hold and checkpoint to the worker, which records them.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metering.background import spawn
from metering.caps import (
    Candidate,
    Caps,
    CapsUnavailableError,
    Denial,
    Hold,
    HoldEndedError,
    Vector,
)
from metering.clock import now_ns
from metering.ids import derived_id, is_id, uuid7
from metering.meter import Meter
from metering.metered_call import CallFacts, CallStoppedError, Ending, MeteredCall
from metering.money import AMOUNT_NANO_MAX, format_short
from metering.price_variants import is_standard
from metering.prices import Price, PriceBook
from metering.prompt import count_prompt
from metering.redis_caps import RedisCaps
from metering.redis_connect import open_runner
from metering.redis_events import publish_prices
from metering.redis_keys import RedisKeys
from metering.scope_names import scope_text
from metering.spool import Spool, SpoolError
from metering.tenant_caps import Labels, caps_under, scopes_of
from metering.tenants import DEFAULT_PROJECT, Tenant
from metering.tokenizer import Tokenizer, count_text, tokenizer_for

HOLD_TTL_MS = 180_000
"""A hold that nobody renews for so long is given back: its process is gone."""
START_S = 5.0
REPLAY_EVERY_S = 1.0


_NO_LABELS = Labels()


class CallRefusedError(Exception):
    """There is no room for the call, or it may not run; `denial` says which cap or flag."""

    def __init__(self, denial: Denial, tenant: str) -> None:
        super().__init__(_words(denial, tenant))
        self.denial = denial


class UnpricedModelError(ValueError):
    """The model, or the service tier, has no price and the tenant a cap in money: it would count as
    free, or at the list price."""


class NotRecordedError(Exception):
    """Neither Redis nor the disk took what the call used; what its last checkpoint says is recorded
    once its hold has expired."""


class NameInUseError(Exception):
    """Another process has opened this `data_dir` under the same name."""


@dataclass(frozen=True, slots=True)
class Pace:
    """When an open call says how it stands: so much of it a crash can lose."""

    first_s: float = 1.0
    every_s: float = 5.0


@dataclass(slots=True)
class Metering:
    """What calls are metered with; one per process is enough."""

    caps: Caps
    spool: Spool
    prices: PriceBook
    name: str
    pace: Pace = Pace()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        redis_url: str,
        *,
        name: str,
        data_dir: Path,
        prices: PriceBook,
        keys: RedisKeys | None = None,
        timeout_ms: int = 250,
        pace: Pace | None = None,
    ) -> AsyncIterator[Metering]:
        """Connect, check that this Redis is fit, publish the prices, send what the disk has.

        `name` is this process' own, an id that no proxy has; `data_dir` is where usage goes while
        Redis is away. `keys` must be those of the proxies (`redis.prefix`, `redis.shards`,
        `metering.queue`). Raises CapsUnavailableError when Redis does not answer, CapsSetupError
        when it cannot be used.
        """
        if not is_id(name):
            raise ValueError(f"name {name!r} must be 1 to 64 letters, digits, dots, dashes or _")
        keys = keys or RedisKeys()
        with _locked(data_dir, name):
            async with (
                open_runner(redis_url, timeout_ms=timeout_ms, name=f"weir-{name}") as link,
                _opened(Spool(data_dir, name)) as spool,
            ):
                await link.wait_up(START_S)
                caps = RedisCaps(link, keys)
                await caps.prepare()
                await publish_prices(link, keys, prices.bodies)
                await spool.replay(caps)
                replaying = spawn(_replay(spool, caps), name="library-replay")
                try:
                    yield cls(caps, spool, prices, name, pace or Pace())
                finally:
                    replaying.cancel()
                    await asyncio.wait([replaying])


def _price(book: PriceBook, provider: str, model: str) -> Price | None:
    return book.find(provider=provider, model=model, public_name=model)


@contextlib.asynccontextmanager
async def meter(
    metering: Metering,
    *,
    tenant: Tenant,
    model: str,
    prompt: str | Sequence[Mapping[str, Any]],
    max_output_tokens: int,
    provider: str = "external",
    vendor: str = "",
    project: str = DEFAULT_PROJECT,
    key_id: str = "library",
    labels: Labels = _NO_LABELS,
    step: int | None = None,
    service_tier: str | None = None,
    region: str | None = None,
) -> AsyncIterator[MeteredCall]:
    """Hold room for a call, meter it, record it when the block ends.

    `prompt` is a text or a list of chat messages; `max_output_tokens` is what the model is asked
    for, over all choices; `service_tier` and `region` decide on its price where that has such
    conditions. Raises CallRefusedError, UnpricedModelError or CapsUnavailableError
    before the block begins, and NotRecordedError at its end.
    """
    tokenizer, occurred_at = tokenizer_for(model), now_ns()
    exchange_id = uuid7(occurred_at // 1_000_000, os.urandom(10))
    facts = CallFacts(
        exchange_id=exchange_id,
        event_id=derived_id(exchange_id, "library"),
        tenant=tenant.id,
        project=project,
        key_id=key_id,
        labels=labels,
        step=step,
        vendor=vendor,
        provider=provider,
        model=model,
        price=_price(metering.prices.at(occurred_at), provider, model),
        tokenizer=tokenizer.name,
        input_tokens=await asyncio.to_thread(_count, tokenizer, prompt, model),
        occurred_at=occurred_at,
        owner=metering.name,
        region=region,
        asked_tier=service_tier,
    )
    stops = scopes_of(project, key_id, labels)
    hold = Hold(tenant.id, exchange_id, caps_under(tenant, stops), stops)
    counts = Meter(tokenizer, facts.input_tokens, output_max=max_output_tokens)
    call = MeteredCall(facts, counts, now_ns)
    await _reserve(metering, hold, _estimate(facts, tenant, max_output_tokens), facts)
    renewing = spawn(_renew(metering, hold, call), name="library-renew")
    ending = Ending.FAILED
    try:
        yield call
        ending = Ending.SERVED
    except (asyncio.CancelledError, GeneratorExit):
        ending = Ending.CANCELLED
        raise
    finally:
        renewing.cancel()
        await _whoever_cancels(_finish(metering, hold, call, ending))


def _count(tokenizer: Tokenizer, prompt: str | Sequence[Mapping[str, Any]], model: str) -> int:
    if isinstance(prompt, str):
        return tokenizer.scale(count_text(tokenizer.encoding, prompt))
    return count_prompt(tokenizer, {"model": model, "messages": list(prompt)})


COUNT_SPREAD_PART = 8
"""Of a prompt, the part by which a provider may count more or less than we do."""


def _estimate(facts: CallFacts, tenant: Tenant, max_output_tokens: int) -> Candidate:
    """What the call could come to at most."""
    if facts.price is None and tenant.has_money_cap:
        raise UnpricedModelError(
            f"model {facts.model!r} has no price and tenant {tenant.id!r} a cap in money: "
            "add a rule for it to the price book"
        )
    asked, price = facts.asked_tier, facts.price
    if (
        price
        and asked
        and tenant.has_money_cap
        and not (is_standard(asked) or price.takes_tier(asked))
    ):
        raise UnpricedModelError(
            f"service tier {asked!r} of model {facts.model!r} has no price and tenant "
            f"{tenant.id!r} a cap in money: add it to the rule's service_tier"
        )
    nano = 0
    if price is not None:
        spread = facts.input_tokens // COUNT_SPREAD_PART
        between = (facts.input_tokens - spread, facts.input_tokens + spread)
        tier = price.choose_tier(reported=None, asked=asked).tier
        nano = price.sell.dearest(tier=tier, region=facts.region, tokens=between).hold_nano(
            input_tokens=facts.input_tokens, output_tokens=max_output_tokens
        )
    tokens = facts.input_tokens + max_output_tokens
    return Candidate(facts.upstream, Vector(min(nano, AMOUNT_NANO_MAX), tokens, 1))


async def _reserve(metering: Metering, hold: Hold, candidate: Candidate, facts: CallFacts) -> None:
    try:
        answer = await metering.caps.reserve(
            hold, [candidate], owner=metering.name, ttl_ms=HOLD_TTL_MS, facts=facts.hold_facts()
        )
    except (asyncio.CancelledError, CapsUnavailableError):
        # it may have been held all the same; what this release does not reach lapses by itself
        spawn(_give_back(metering, hold), name="library-release")
        raise
    if isinstance(answer, Denial):
        raise CallRefusedError(answer, hold.tenant)


async def _give_back(metering: Metering, hold: Hold) -> None:
    with contextlib.suppress(CapsUnavailableError):
        await metering.caps.release(hold)


async def _renew(metering: Metering, hold: Hold, call: MeteredCall) -> None:
    """Keep the hold, note how the call stands, hear of pauses and kills; until cancelled."""
    said = -1
    await asyncio.sleep(metering.pace.first_s)
    while True:
        told = call.output_tokens if call.is_sent else -1
        noted = call.checkpoint() if told != said else None
        with contextlib.suppress(CapsUnavailableError, HoldEndedError):
            renewal = await metering.caps.renew(hold, ttl_ms=HOLD_TTL_MS, checkpoint=noted)
            said = told
            if renewal.stop is not None:
                call.stop = CallStoppedError(renewal.stop, renewal.scope)
        await asyncio.sleep(metering.pace.every_s)


async def _finish(metering: Metering, hold: Hold, call: MeteredCall, ending: Ending) -> None:
    """Record the call, in Redis or on disk; or give back what it held."""
    if not call.is_billed(ending):
        await _give_back(metering, hold)
        return
    actual, event = call.bill(ending)
    try:
        await metering.caps.commit(hold, actual, [event])
    except CapsUnavailableError as failure:
        try:
            await metering.spool.append(hold, actual, [event])
        except (OSError, SpoolError) as error:
            raise NotRecordedError(
                f"what exchange {hold.exchange_id} used is recorded nowhere: Redis: {failure}; "
                f"disk: {error}"
            ) from error


async def _whoever_cancels(work: Coroutine[Any, Any, None]) -> None:
    """See `work` through, and only then be cancelled."""
    running = spawn(work, name="library-finish")
    was_cancelled = False
    while not running.done():
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            was_cancelled = True
    running.result()
    if was_cancelled:
        raise asyncio.CancelledError


async def _replay(spool: Spool, caps: Caps) -> None:
    """Send what the disk has as soon as Redis takes it; until cancelled."""
    while True:
        await asyncio.sleep(REPLAY_EVERY_S)
        with contextlib.suppress(CapsUnavailableError):
            await spool.replay(caps)
            await spool.forget()


@contextlib.asynccontextmanager
async def _opened(spool: Spool) -> AsyncIterator[Spool]:
    await spool.open()
    try:
        yield spool
    finally:
        await spool.close()


@contextlib.contextmanager
def _locked(data_dir: Path, name: str) -> Iterator[None]:
    """Two writers would ruin a spool: the name is ours while the block runs."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = data_dir / f"library-{name}.lock"
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NameInUseError(
                f"{path} is locked: another process meters as {name!r}; give each its own name"
            ) from None
        yield


def _words(denial: Denial, tenant: str) -> str:
    state = denial.state
    if state is None:
        scope = "" if denial.scope is None else f" ({scope_text(denial.scope, tenant)})"
        return f"refused: {denial.reason.value}{scope}"
    of = f"the {state.cap.window.label} cap of {scope_text(state.cap.scope, tenant)}"
    if denial.dimension != "nano" or state.cap.limit.nano is None:
        return f"refused: {denial.reason.value}: {denial.dimension} under {of}"
    limit, spent, held = (
        format_short(nano) for nano in (state.cap.limit.nano, state.spent.nano, state.held.nano)
    )
    return f"refused: {denial.reason.value}: {of} is {limit} USD; spent {spent}, held {held}"
