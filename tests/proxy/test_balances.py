"""Prepaid tenants at the door: refused when nothing is left, served again when there is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fixtures_door import OpenDoor, settings, tenant
from fixtures_upstream import ScriptedUpstream, completion

from metering.caps import BALANCE
from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink
from metering.tenant_caps import Labels
from metering.tenants import BALANCE_RULE, ApiKey, Prepaid
from proxy.balances import Balances, look
from proxy.errors import BudgetBackendUnavailable
from proxy.standing import Standings

PLAIN = tenant(None)
STOPPED = replace(PLAIN, cap_rules=(BALANCE_RULE,), prepaid=Prepaid(hard_stop=True))
ANY_KEY = ApiKey("k1", "", "default")


def test_a_tenant_that_pays_later_stands_as_it_stands() -> None:
    """The same object: nothing is looked up for it."""
    standing = Standings().find(PLAIN, ANY_KEY, Labels())

    assert Balances().stand(PLAIN, standing) is standing


def test_the_limit_is_what_was_told() -> None:
    """The same standing as long as it is the same, for `RedisCaps` goes by identity."""
    standing = Standings().find(STOPPED, ANY_KEY, Labels())
    balances = Balances({"acme": 7})

    found = balances.stand(STOPPED, standing)

    assert [cap.limit.nano for cap in found.caps if cap.window == BALANCE] == [7]
    assert balances.stand(STOPPED, standing) is found
    balances.limits["acme"] = 8
    assert balances.stand(STOPPED, standing) is not found


def test_what_was_never_told_is_spent_by_nobody() -> None:
    standing = Standings().find(STOPPED, ANY_KEY, Labels())

    with pytest.raises(BudgetBackendUnavailable, match="credit of this account"):
        Balances().stand(STOPPED, standing)


async def test_balances_are_learned_and_not_forgotten(
    redis_link: RedisLink, redis_keys: RedisKeys
) -> None:
    """What Redis has lost stays as it was told: it changes with grants alone."""
    balances, key = Balances(), redis_keys.balances(redis_keys.shard("acme"))
    await look(balances, [STOPPED], redis_link, redis_keys)
    assert balances.limits == {}

    await redis_link.call("HSET", key, "acme", "12")
    await look(balances, [PLAIN, STOPPED], redis_link, redis_keys)
    await redis_link.call("DEL", key)
    await look(balances, [STOPPED], redis_link, redis_keys)

    assert balances.limits == {"acme": 12}


async def test_whoever_is_not_stopped_any_more_is_forgotten(
    redis_link: RedisLink, redis_keys: RedisKeys
) -> None:
    """What it spends meanwhile is not counted: when it is prepaid again it is to be told anew."""
    balances = Balances({"acme": 12})

    await look(balances, [PLAIN], redis_link, redis_keys)

    assert balances.limits == {}


async def test_a_request_is_refused_at_the_end_of_the_credit(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """429 with what is left and what to do; never 400, for credit can be added. Then it is."""
    upstream.scripts = [[completion("ok")], [completion("ok")]]
    running = await open_door(settings({"up": upstream.url}, who=STOPPED))
    unknown = await running.chat()
    running.door.balances.limits["acme"] = 10
    refused = await running.chat()
    body = (await refused.json())["error"]
    sent = len(upstream.received)
    running.door.balances.limits["acme"] = 10**9
    served = await running.chat()

    assert unknown.status == 503
    assert (refused.status, body["code"], sent) == (429, "insufficient_quota", 0)
    assert "Add credit" in body["message"]
    assert body["metadata"] == {
        "limit_source": "prepaid_balance",
        "scope": "tenant:acme",
        "window": "prepaid_balance",
        "dimension": "usd",
        "balance_usd": "0.000000",
        "held_usd": "0.000000",
        "resets_at": None,
        "remedy": "add credit, or lower max_tokens",
    }
    assert refused.headers["x-should-retry"] == "false"
    assert "x-weir-cap-reset" not in served.headers
    assert served.headers["x-weir-cap-limit-usd"] == "0.999970"  # this one is spent
    assert 0 < float(served.headers["x-weir-cap-remaining-usd"]) < 1
    assert served.status == 200
