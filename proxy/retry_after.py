"""How long an upstream asks us to stay away, from the headers of its answer or from what it says in
an error. Pure.

Who reads which: `retry-after-ms` is OpenAI's and goes first, then Azure's `x-ms-retry-after-ms`;
`Retry-After` is seconds or an HTTP date (RFC 9110, 10.2.3). Where none of them is there, the limits
that are used up say when they are whole again (`x-ratelimit-reset-*`), as a Go duration (`6m0s`),
in seconds, or as a moment. Google says it in the body, as its durations are written: `36.5s`. What
cannot be read says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from proxy.error_words import ErrorWords

DIGITS_MAX = 9
RESET_S_MAX = 86_400.0
"""A limit that is whole again later than this is no matter of waiting."""

_DURATION = re.compile(rf"([0-9]{{1,{DIGITS_MAX}}}(?:\.[0-9]{{1,9}})?)s", re.ASCII)
_GO_PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(h|ms|m|s|us|µs|ns)", re.ASCII)
_GO_UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_NUMBER = re.compile(r"[0-9]{1,16}(?:\.[0-9]{1,9})?", re.ASCII)
_EPOCH_S = 1e9
_EPOCH_MS = 1e12
"""Numbers from here on are moments, in seconds or milliseconds since 1970: no limit needs 30 years
to be whole again."""

Header = Callable[[str], str | None]

_WAITS = (("retry-after-ms", 0.001), ("x-ms-retry-after-ms", 0.001), ("retry-after", 1.0))

_LIMITS = (
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("x-ratelimit-remaining", "x-ratelimit-reset"),
    ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
    ("anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset"),
    ("anthropic-ratelimit-output-tokens-remaining", "anthropic-ratelimit-output-tokens-reset"),
)
"""What is left of a limit, and when it is whole: OpenAI's (Azure, Groq), OpenRouter's and
Anthropic's."""


def retry_after_s(header: Header, now_ns: int) -> float | None:
    """Seconds from now on; never negative. `header` finds a header by its name."""
    value = ""
    for name, unit_s in _WAITS:
        value = (header(name) or "").strip()
        whole, _, part = value.partition(".")
        if (
            whole.isascii()
            and whole.isdigit()
            and len(value) <= DIGITS_MAX
            and not part.strip("0123456789")
        ):
            return float(value) * unit_s
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    # a date without a zone is one of an old server, and means UTC
    return max(0.0, (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now_ns / 1e9)


def reset_s(header: Header, now_ns: int) -> float | None:
    """When the limits of a 429 are whole again: the last of those with nothing left; where none
    says what is left, the first to come."""
    spent, others = [], []
    for left, reset in _LIMITS:
        if (when := header(reset)) is None or (seconds := _moment_s(when, now_ns)) is None:
            continue
        told = header(left)
        if told is None:
            others.append(seconds)
        elif told.strip() == "0":
            spent.append(seconds)
    found = max(spent) if spent else min(others, default=None)
    return None if found is None or found > RESET_S_MAX else found


def used_up_s(header: Header, now_ns: int) -> float | None:
    """How long the next request would be in vain, as an answer says that was served: it used up
    the last request of a window. None for nearly every answer, found by one look."""
    left = header("x-ratelimit-remaining-requests")
    if left is None:
        left = header("anthropic-ratelimit-requests-remaining")
    if left is None or left.strip() != "0":
        return None
    return reset_s(header, now_ns)


def told_delay_s(words: ErrorWords) -> float | None:
    """The same from an error's own words (`metadata.retry_delay`)."""
    told = (words.metadata or {}).get("retry_delay")
    found = _DURATION.fullmatch(told) if isinstance(told, str) else None
    return float(found[1]) if found else None


def _moment_s(value: str, now_ns: int) -> float | None:
    """Seconds until then: of a Go duration, a number, or a moment in any of three spellings."""
    value = value.strip()[:64]
    now_s = now_ns / 1e9
    if _NUMBER.fullmatch(value):
        number = float(value)
        if number >= _EPOCH_MS:
            return max(0.0, number / 1000 - now_s)
        return max(0.0, number - now_s) if number >= _EPOCH_S else number
    parts = _GO_PART.findall(value)
    if parts and "".join(number + unit for number, unit in parts) == value:
        return sum([float(number) * _GO_UNITS_S[unit] for number, unit in parts])
    try:
        date = datetime.fromisoformat(value)
    except ValueError:
        return None
    return max(0.0, (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now_s)
