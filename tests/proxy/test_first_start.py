"""What is new has nothing to rebuild; everything else is left to the worker. A real Redis."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fixtures_door import settings as door_settings
from fixtures_redis import RedisServer

from proxy.embedded_redis import command
from proxy.first_start import open_windows
from proxy.settings import Settings, redis_keys


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with a ledger that does not exist yet."""
    made = door_settings({"one": "http://127.0.0.1:9/v1"})
    return replace(made, data_dir=tmp_path, ledger_url=f"sqlite:///{tmp_path / 'ledger.db'}")


def epochs(settings: Settings, server: RedisServer) -> int:
    """How many shards are marked as whole."""
    keys = redis_keys(settings)
    names = [keys.epoch(shard) for shard in range(keys.shards)]
    found = command(Path(server.path), "EXISTS", *names)
    assert isinstance(found, int)
    return found


def test_where_all_is_new_every_shard_is_whole(
    settings: Settings, own_redis_server: RedisServer
) -> None:
    """No ledger and an empty Redis: nothing can have been spent."""
    opened = open_windows(settings, Path(own_redis_server.path))

    assert opened
    assert epochs(settings, own_redis_server) == settings.redis.shards


def test_a_ledger_must_be_read_first(settings: Settings, own_redis_server: RedisServer) -> None:
    """A Redis that lost everything beside a ledger is not a new one."""
    (settings.data_dir / "ledger.db").touch()

    assert not open_windows(settings, Path(own_redis_server.path))
    assert epochs(settings, own_redis_server) == 0


def test_any_key_in_redis_may_be_spend(settings: Settings, own_redis_server: RedisServer) -> None:
    """Whatever lies there was left by somebody, who may have spent something."""
    command(Path(own_redis_server.path), "SET", "any", "key")

    assert not open_windows(settings, Path(own_redis_server.path))
    assert epochs(settings, own_redis_server) == 0


@pytest.mark.parametrize("url", ["postgresql+psycopg://db/weir", "sqlite://", "sqlite:///:memory:"])
def test_a_ledger_that_is_no_file_is_left_to_the_worker(
    settings: Settings, own_redis_server: RedisServer, url: str
) -> None:
    """Only its database knows what is in it."""
    assert not open_windows(replace(settings, ledger_url=url), Path(own_redis_server.path))


def test_a_redis_that_does_not_answer_is_left_to_the_worker(
    settings: Settings, tmp_path: Path
) -> None:
    """The start goes on: who needs Redis says so."""
    assert not open_windows(settings, tmp_path / "nobody.sock")
