"""How long an upstream asks us to stay away, from the headers of its answer or from what it says in
an error. Pure.

`retry-after-ms` is OpenAI's and goes first; `Retry-After` is seconds or an HTTP date (RFC 9110,
10.2.3). Google says it in the body, as its durations are written: `36.5s`. What cannot be read says
nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime

from proxy.error_words import ErrorWords

DIGITS_MAX = 9
_DURATION = re.compile(rf"([0-9]{{1,{DIGITS_MAX}}}(?:\.[0-9]{{1,9}})?)s", re.ASCII)


def retry_after_s(header: Callable[[str], str | None], now_ns: int) -> float | None:
    """Seconds from now on; never negative. `header` finds a header by its name."""
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
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
    except ValueError:
        return None
    # a date without a zone is one of an old server, and means UTC
    return max(0.0, (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now_ns / 1e9)


def told_delay_s(words: ErrorWords) -> float | None:
    """The same from an error's own words (`metadata.retry_delay`)."""
    told = (words.metadata or {}).get("retry_delay")
    found = _DURATION.fullmatch(told) if isinstance(told, str) else None
    return float(found[1]) if found else None
