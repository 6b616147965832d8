"""How deep and how full a JSON text may be, told from its bytes before anything is built of them.

Eight megabytes of `{},` take a tenth of a second of everybody's time per million values and thirty
times their size in memory, so what a parser would have to make is counted first. Rules: strings
weigh nothing here, whatever stands in them; text that is no JSON may pass, as the parser refuses it
where this stopped making sense; no step takes more than a few times the size of the text.
"""

from __future__ import annotations

import json
import re
from itertools import accumulate
from typing import Any

import orjson

DEPTH_MAX = 200
"""orjson writes 254 levels at most, and an upstream's own limit is seldom higher."""

VALUES_MAX = 200_000
"""Values, names among them. Real requests have some thousands; these take 40 ms to build."""

_BRACKETS = b"[]{}"
_ALL_BUT_BRACKETS = bytes(each for each in range(256) if each not in _BRACKETS)
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_DIGITS_AS_ZERO = bytes.maketrans(b"123456789", b"000000000")
_WIDE = b"0" * 19
_WIDE_INTEGER = re.compile(rb"(?<![0-9.eE+])-?([0-9]{19,})(?![0-9.eE])")


def is_too_full(raw: bytes, values_max: int = VALUES_MAX) -> bool:
    """Whether this text has more values than that, names among them."""
    return _outside_strings(raw, values_max) is None


def fault_in(raw: bytes, values_max: int = VALUES_MAX) -> str | None:
    """Why this text is not even parsed, in words for its author; None when it may be."""
    # Most texts are within bounds even with what stands in strings. A name has no comma of its own,
    # so half the bound: then there are at most four quotes for each of these.
    opened = raw.count(b"[") + raw.count(b"{")
    if opened <= DEPTH_MAX and opened + raw.count(b",") <= values_max // 2 and not _has_wide(raw):
        return None
    outside = _outside_strings(raw, values_max)
    if outside is None:
        return f"The body has more than {values_max} JSON values."
    brackets = outside.translate(None, _ALL_BUT_BRACKETS)
    depths = accumulate(map(_STEP.__getitem__, brackets))
    if len(brackets) > DEPTH_MAX and max(depths) > DEPTH_MAX:
        return f"The body is nested too deeply (more than {DEPTH_MAX} levels)."
    if _has_wide(outside) and any(not _fits(match[0]) for match in _WIDE_INTEGER.finditer(outside)):
        return "The body has a whole number of more than 64 bits, which JSON readers round."
    return None


EVENT_VALUES_MAX = 50_000
"""Values in one event of a stream; these take 10 ms to build, in which no other stream moves."""


class TooMuchError(ValueError):
    """It may be JSON, and is more than is read."""


_SURROGATE = re.compile("[\ud800-\udfff]")


def load_event(data: bytes, values_max: int = EVENT_VALUES_MAX) -> Any:
    """What stands in an event, as liberally as clients read it: half a surrogate pair, NaN.

    ValueError for what is no JSON, TooMuchError for what is too much of it.
    """
    if len(data) > values_max and is_too_full(data, values_max):
        raise TooMuchError("too many values")
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            return json.loads(data)
        except RecursionError:
            raise TooMuchError("nested too deeply") from None


def load_writable(data: bytes, values_max: int = EVENT_VALUES_MAX) -> Any:
    """The same for what is to be written again: halves of surrogate pairs become U+FFFD."""
    if len(data) > values_max and is_too_full(data, values_max):
        raise TooMuchError("too many values")
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        found = load_event(data, values_max)
        try:
            text = json.dumps(found, ensure_ascii=False)
        except RecursionError:
            raise TooMuchError("nested too deeply") from None
        return json.loads(_SURROGATE.sub("\ufffd", text))


def text_of(value: Any) -> str:
    """What was read so liberally, as JSON text: also what orjson does not write, which is more than
    254 levels, numbers wider than 64 bits and halves of surrogate pairs (these escaped)."""
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        return json.dumps(value)


def _outside_strings(raw: bytes, values_max: int) -> bytes | None:
    """The text with its strings empty, None if it has more than that many values."""
    plain = raw
    if b"\\" in raw:  # an escaped quote ends no string
        plain = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    if plain.count(b'"') > 2 * values_max:
        return None
    outside = b'"'.join(plain.split(b'"')[::2])
    values = outside.count(b",") + outside.count(b"[") + outside.count(b"{")
    return None if values > values_max else outside


def _has_wide(text: bytes) -> bool:
    """Whether so many digits stand in a row that a number may be wider than 64 bits."""
    return _WIDE in text.translate(_DIGITS_AS_ZERO)


def _fits(number: bytes) -> bool:
    """Between the smallest signed and the largest unsigned number of 64 bits."""
    return len(number) <= 20 and -(2**63) <= int(number) < 2**64
