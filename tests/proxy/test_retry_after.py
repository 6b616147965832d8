"""How long an upstream asks us to stay away."""

import pytest

from proxy.error_words import ErrorWords
from proxy.retry_after import retry_after_s, told_delay_s

NOW_NS = 1_767_225_600 * 10**9  # 2026-01-01 00:00:00 UTC


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "7", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "7", "retry-after-ms": "soon"}, 7.0),
        ({"retry-after": "Thu, 01 Jan 2026 00:00:30 GMT"}, 30.0),
        ({"retry-after": "Thu, 01 Jan 2026 00:00:30 -0000"}, 30.0),
        ({"retry-after": "Wed, 31 Dec 2025 23:00:00 GMT"}, 0.0),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "1e5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "٣"}, None),
        ({"retry-after": "9" * 40}, None),
        ({"retry-after": "."}, None),
        ({"retry-after": "Thu, 99 Jan 2026 00:00:30 GMT"}, None),
    ],
)
def test_what_servers_send(headers, seconds):
    """Seconds, milliseconds and dates are read; anything else says nothing."""
    assert retry_after_s(headers.get, NOW_NS) == seconds


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("36s", 36.0),
        ("36.5s", 36.5),
        ("0s", 0.0),
        ("36", None),
        ("-1s", None),
        ("1e9s", None),
        ("9" * 40 + "s", None),
        ("٣s", None),
        (36, None),
    ],
)
def test_what_an_error_says(told, seconds):
    """Google's durations are read from its words; anything else says nothing."""
    assert told_delay_s(ErrorWords(429, "slow", metadata={"retry_delay": told})) == seconds


def test_most_errors_say_nothing():
    """There is no delay where no metadata is."""
    assert told_delay_s(ErrorWords(429, "slow")) is None
