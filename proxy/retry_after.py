"""How long an upstream asks us to stay away, from the headers of its answer. Pure.

`retry-after-ms` is OpenAI's and goes first; `Retry-After` is seconds or an HTTP date (RFC 9110,
10.2.3). What cannot be read says nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime

DIGITS_MAX = 9


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
