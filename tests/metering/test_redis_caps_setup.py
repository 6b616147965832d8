"""Redis as it is found: its settings, its scripts, and what is refused before it is asked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from caps_samples import (
    SHORT,
    TENANT,
    RedisSubject,
    ask,
    cap,
    hold,
)
from fixtures_redis import RedisServer

from metering.caps import (
    Cap,
    Hold,
    Reservation,
)
from metering.redis_caps import CapsSetupError, RedisCaps
from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink
from metering.redis_wire import RedisReplyError
from metering.scripts import load_script


@pytest.fixture
async def subject(redis_link: RedisLink, redis_keys: RedisKeys) -> RedisSubject:
    made = RedisSubject(redis_link, redis_keys)
    await made.mark()
    return made


async def test_scripts_are_loaded_again_after_they_were_flushed(subject: RedisSubject) -> None:
    """A restarted or flushed Redis is no error of the request that notices first."""
    bound = cap(100)
    await subject.link.call("SCRIPT", "FLUSH")

    answers = await asyncio.gather(
        *(subject.caps.reserve(hold(bound), [ask(10)], owner="p", ttl_ms=1_000) for _ in range(5))
    )

    assert all(isinstance(answer, Reservation) for answer in answers)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda args: args[:-1], id="too few"),
        pytest.param(lambda args: ["nan" if arg == "100" else arg for arg in args], id="nan"),
        pytest.param(lambda args: ["1e3" if arg == "100" else arg for arg in args], id="float"),
        pytest.param(lambda args: ["-1" if arg == "100" else arg for arg in args], id="negative"),
        pytest.param(lambda args: ["" if arg == "100" else arg for arg in args], id="empty"),
        pytest.param(
            lambda args: ["9007199254740992" if a == "100" else a for a in args], id="2^53"
        ),
        pytest.param(lambda args: [*args[:3], "99", *args[4:]], id="more scopes than keys"),
        pytest.param(lambda args: [], id="none"),
    ],
)
async def test_a_script_refuses_arguments_that_are_no_amounts(
    redis_link: RedisLink, damage: Any
) -> None:
    """NaN compares false with every cap: it must not get as far as a comparison."""
    args = ["", "acme", "id", "1", "tenant", "1", "24h", "300000", "288"]
    args += ["1", "1", "1", "enforce", "1000", "", "", ""]
    args += ["1", "upstream", "100", "0", "1", "0", "0"]
    args += ["0", "0", "owner", "60000", "", "0"]
    keys = [
        f"{{x}}{name}" for name in ("epoch", "state", "hold", "done", "open", "notes", "c", "z")
    ]
    await redis_link.eval(load_script("reserve"), keys, args)

    with pytest.raises(RedisReplyError, match=r"^BADARG"):
        await redis_link.eval(load_script("reserve"), keys, damage(args))


async def test_prepare_refuses_another_number_of_shards(
    redis_link: RedisLink, redis_keys: RedisKeys
) -> None:
    """The same tenant would be looked for in another place, with nothing spent."""
    assert await RedisCaps(redis_link, redis_keys).prepare() == ()
    other = RedisKeys(prefix=redis_keys.prefix, shards=redis_keys.shards * 2)

    with pytest.raises(CapsSetupError, match="shards 16, this proxy has 32"):
        await RedisCaps(redis_link, other).prepare()


async def test_prepare_refuses_a_redis_that_evicts(
    own_redis_server: RedisServer, redis_keys: RedisKeys
) -> None:
    """Evicted spend is spend that is forgotten."""
    async with RedisLink(own_redis_server.target) as link:
        await link.wait_up(5)
        await link.call("CONFIG", "SET", "maxmemory-policy", "volatile-lru")

        with pytest.raises(CapsSetupError, match="volatile-lru"):
            await RedisCaps(link, redis_keys).prepare()


async def test_prepare_warns_where_config_is_forbidden(
    own_redis_server: RedisServer, redis_keys: RedisKeys
) -> None:
    """Managed servers hide CONFIG; that is a warning, not a reason not to start."""
    async with RedisLink(own_redis_server.target) as link:
        await link.wait_up(5)
        await link.call("ACL", "SETUSER", "default", "-config")

        warnings = await RedisCaps(link, redis_keys).prepare()

    assert len(warnings) == 1
    assert "noeviction" in warnings[0]


def test_two_windows_of_one_label_are_refused(redis_server: RedisServer) -> None:
    """They would write into the same fields with different buckets."""
    other = Cap(TENANT, SHORT.__class__("24h", 1_000, 5), cap(1).limit)

    async def ask_both() -> None:
        caps = RedisCaps(RedisLink(redis_server.target), RedisKeys())
        await caps.release(hold(cap(1), other))

    with pytest.raises(ValueError, match="same label"):
        asyncio.run(ask_both())


async def test_a_malformed_id_is_refused(subject: RedisSubject) -> None:
    """An exchange id is a UUIDv7: its time says where its marker is; a tenant may hold no brace."""
    for exchange, message in (
        (Hold("acme", "nonsense", ()), "UUID"),
        (hold(tenant="a{b}"), "Redis key"),
    ):
        with pytest.raises(ValueError, match=message):
            await subject.caps.reserve(exchange, [ask(1)], owner="p", ttl_ms=1_000)
