"""How long an upstream asks us to stay away."""

import pytest

from proxy.error_words import ErrorWords
from proxy.retry_after import reset_s, retry_after_s, told_delay_s, used_up_s

NOW_NS = 1_767_225_600 * 10**9  # 2026-01-01 00:00:00 UTC


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "7", "x-ms-retry-after-ms": "1500"}, 1.5),
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


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"x-ratelimit-reset-requests": "6m0s"}, 360.0),
        ({"x-ratelimit-reset-requests": "1h2m3.5s"}, 3723.5),
        ({"x-ratelimit-reset-tokens": "20ms"}, 0.02),
        ({"x-ratelimit-reset-tokens": "1.5s"}, 1.5),
        ({"x-ratelimit-reset-tokens": "7"}, 7.0),
        ({"x-ratelimit-reset": "1767225630"}, 30.0),
        ({"x-ratelimit-reset": "1767225630500"}, 30.5),
        ({"x-ratelimit-reset": "1767225000"}, 0.0),
        ({"anthropic-ratelimit-requests-reset": "2026-01-01T00:00:30Z"}, 30.0),
        ({"anthropic-ratelimit-requests-reset": "2026-01-01T00:00:30"}, 30.0),
        ({"x-ratelimit-reset-requests": "soon"}, None),
        ({"x-ratelimit-reset-requests": "1s!"}, None),
        ({"x-ratelimit-reset-requests": ""}, None),
        ({"x-ratelimit-reset-requests": "-5s"}, None),
        ({"x-ratelimit-reset-requests": "99999999h"}, None),
        ({"x-ratelimit-reset-requests": "2s", "x-ratelimit-reset-tokens": "9s"}, 2.0),
    ],
)
def test_when_a_limit_is_whole_again(headers, seconds):
    """Go durations, seconds and moments are read; anything else says nothing."""
    assert reset_s(headers.get, NOW_NS) == pytest.approx(seconds)


def test_the_limit_that_is_used_up_decides():
    """What has something left is in nobody's way, however late it is whole."""
    headers = {
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "2s",
        "x-ratelimit-remaining-tokens": "500",
        "x-ratelimit-reset-tokens": "6m0s",
    }

    assert reset_s(headers.get, NOW_NS) == 2.0
    headers["x-ratelimit-remaining-tokens"] = "0"
    assert reset_s(headers.get, NOW_NS) == 360.0


@pytest.mark.parametrize(("left", "seconds"), [("0", 2.0), ("1", None), (None, None), ("", None)])
def test_an_answer_says_that_it_was_the_last(left, seconds):
    """Only where nothing is left is the upstream left alone."""
    headers = {"x-ratelimit-remaining-requests": left, "x-ratelimit-reset-requests": "2s"}

    assert used_up_s(headers.get, NOW_NS) == seconds
