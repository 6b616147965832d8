"""What a request asks of the gateway itself, in headers of ours. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from metering.ids import is_id
from metering.tenants import Tenant
from proxy.errors import InvalidRequest

NO_DEGRADE = "x-weir-no-degrade"
NO_CLAMP = "x-weir-no-clamp"
TARGET = "x-weir-target-latency-ms"
TAGS = "x-weir-tags"
EXPLAIN = "x-weir-explain"

TAGS_MAX = 16
"""More tags than that nobody means."""

_TARGET_MAX_MS = 3_600_000

_FLAGS = {"1": True, "true": True, "0": False, "false": False}


@dataclass(frozen=True, slots=True)
class Wishes:
    """May it be degraded near a cap, and may its `max_tokens` shrink to what is affordable?"""

    degrade: bool = True
    clamp: bool = True
    target_ms: int | None = None
    """How fast its answer is to be."""
    tags: frozenset[str] = frozenset()
    """What the upstream that answers is to have."""
    explain: bool = False
    """Whether the answer is to say why this upstream was chosen."""


USUAL = Wishes()


def wishes_of(headers: Mapping[str, str], tenant: Tenant) -> Wishes:
    """The wishes in these headers; InvalidRequest for one that is malformed or not granted.

    A wish that is not granted is refused and not dropped: whoever sends it counts on its effect.
    """
    no_degrade, no_clamp = _is_set(headers, NO_DEGRADE), _is_set(headers, NO_CLAMP)
    target_ms, tags = target_of(headers), tags_of(headers)
    explain = _is_set(headers, EXPLAIN)
    if not (no_degrade or no_clamp or tags or explain) and target_ms is None:
        return USUAL
    if no_degrade and not tenant.may_decline_steps:
        raise InvalidRequest(
            f"Tenant `{tenant.id}` may not decline degradation. Leave `{NO_DEGRADE}` out, or set "
            "`limits.allow_no_degrade` in the configuration.",
            param=NO_DEGRADE,
        )
    return Wishes(not no_degrade, not no_clamp, target_ms, tags, explain)


def target_of(headers: Mapping[str, str]) -> int | None:
    """`x-weir-target-latency-ms`; InvalidRequest when it is no such time."""
    value = headers.get(TARGET)
    if value is None:
        return None
    if value.isascii() and value.isdigit() and len(value) <= 9:
        target_ms = int(value)
        if 1 <= target_ms <= _TARGET_MAX_MS:
            return target_ms
    raise InvalidRequest(
        f"The header `{TARGET}` must be a whole number from 1 to {_TARGET_MAX_MS}.", param=TARGET
    )


def tags_of(headers: Mapping[str, str]) -> frozenset[str]:
    """`x-weir-tags`, a list with commas; InvalidRequest when it is none."""
    value = headers.get(TAGS)
    if value is None:
        return NO_TAGS
    tags = frozenset([each.strip() for each in value.split(",", TAGS_MAX + 1)])
    if len(tags) > TAGS_MAX or not all(map(is_tag, tags)):
        raise InvalidRequest(
            f"The header `{TAGS}` must be 1 to {TAGS_MAX} tags with commas between them, each of 1 "
            "to 64 letters, digits, dots, dashes or underscores.",
            param=TAGS,
        )
    return tags


def is_tag(text: str) -> bool:
    """Whether this can be a tag of an upstream: what can stand in a list in a header."""
    return is_id(text)


NO_TAGS: frozenset[str] = frozenset()


def _is_set(headers: Mapping[str, str], name: str) -> bool:
    value = headers.get(name)
    if value is None:
        return False
    flag = _FLAGS.get(value.strip().lower())
    if flag is None:
        raise InvalidRequest(f"The header `{name}` must be 1 or 0.", param=name)
    return flag
