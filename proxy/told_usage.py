"""What the readers of all formats do alike with the usage that a provider tells: one number of it,
and the report that its parts make. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metering.usage import ReportedUsage, is_count


def count_of(usage: Mapping[str, Any], name: str, suspect: list[str]) -> int | None:
    """The number of tokens under this name; None where it is not told. What cannot be one is told
    in `suspect`."""
    value = usage.get(name)
    if value is None:
        return None
    if not is_count(value):
        suspect.append(f"{name} is not a believable count")
        return None
    return int(value)


def reported(
    given: Mapping[str, int] | None,
    made: Mapping[str, int] | None,
    usage: Mapping[str, Any],
    total_name: str,
    *,
    suspect: list[str],
    doubt: list[str],
) -> ReportedUsage:
    """Both sides, with what is odd about them; a total that is told is to be the sum of both."""
    total = usage.get(total_name)
    if total is not None and given is not None and made is not None:
        parts = sum(given.values()) + sum(made.values())
        if type(total) is not int or total != parts:
            doubt.append(f"{total_name} is not the sum of its parts")
    return ReportedUsage(
        input=given,
        output=made,
        suspect="; ".join(suspect) or None,
        doubt="; ".join(doubt) or None,
    )
