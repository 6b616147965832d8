"""What a URL opens."""

from __future__ import annotations

import pytest

from metering.redis_cluster import ClusterLink
from metering.redis_connect import open_runner
from metering.redis_link import RedisLink
from metering.redis_sentinel import SentinelLink


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("redis://h", RedisLink),
        ("rediss://h", RedisLink),
        ("unix:///s", RedisLink),
        ("redis+cluster://h,i", ClusterLink),
        ("rediss+cluster://h", ClusterLink),
        ("redis+sentinel://h,i/m", SentinelLink),
        ("rediss+sentinel://h/m", SentinelLink),
    ],
)
async def test_a_url_opens_what_it_names(url: str, kind: type) -> None:
    runner = open_runner(url)

    assert isinstance(runner, kind)
    assert not runner.is_up
    assert runner.generation == 0


def test_a_url_that_names_nothing_opens_nothing() -> None:
    with pytest.raises(ValueError, match="scheme 'http'"):
        open_runner("http://h")
