"""W3C Trace Context in headers: read from strangers, written for upstreams. Pure.

Rules: what is not to the letter of the recommendation is as if it were not there, so an id of a
client's is hexadecimal digits of one length or nothing; versions that come later are read by their
first four fields; `tracestate` is other vendors' data and goes no further.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

TRACEPARENT = "traceparent"

_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]{0,200})?")
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16
_SAMPLED = 0x01


@dataclass(frozen=True, slots=True)
class Parent:
    """The span that a client says our work belongs to, and whether it records its trace."""

    trace_id: str
    span_id: str
    is_sampled: bool


def parent_in(values: Sequence[str]) -> Parent | None:
    """The parent that these headers name; None without one, with two, and with a malformed one."""
    if len(values) != 1 or (found := _FORM.fullmatch(values[0])) is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more is not None):
        return None
    if trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    return Parent(trace_id, span_id, is_sampled=bool(int(flags, 16) & _SAMPLED))


def traceparent(trace_id: str, span_id: str, *, is_sampled: bool) -> str:
    """The header by which the other side's work belongs to this span."""
    return f"00-{trace_id}-{span_id}-{'01' if is_sampled else '00'}"
