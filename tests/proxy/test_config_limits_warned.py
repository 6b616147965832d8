"""Limits that can be meant, and mostly are not: warned of, and used as they stand."""

from __future__ import annotations

from pathlib import Path

import pytest
from config_samples import BASE, loaded


def test_a_cap_below_the_smallest_request_is_warned_of(tmp_path: Path) -> None:
    """A money cap that no request to some model fits under is warned of, once."""
    text = """
limits:
  caps: [{scope: key, window: 1h, usd: 0.0004}]
tenants: [{id: a}, {id: b}]
"""

    warnings = [str(each) for each in loaded(tmp_path, BASE + text).warnings]

    assert len(warnings) == 1
    assert "limits.caps[0].usd: below the price of the smallest request to 'big'" in warnings[0]


def test_a_cap_of_fewer_tokens_than_a_request_is_warned_of(tmp_path: Path) -> None:
    """With 64 tokens of output at least, and one of the prompt, 65 fit under it and 64 do not."""
    text = """
limits:
  caps: [{scope: key, window: 1h, tokens: 64}, {scope: user, window: 1h, tokens: 65}]
tenants: [{id: a}, {id: b}]
"""

    [warning] = loaded(tmp_path, BASE + text).warnings

    assert "limits.caps[0].tokens: fewer than the 65 tokens of the smallest" in str(warning)


def test_a_daily_cap_below_the_smallest_request_is_warned_of(tmp_path: Path) -> None:
    """So is a daily cap, for its tenant; one of zero shuts a tenant out and is meant."""
    caps = (
        "{id: a, limits: {tenant: {daily_cap: 0.0001}}}, {id: b, limits: {tenant: {daily_cap: 0}}}"
    )

    [warning] = loaded(tmp_path, f"{BASE}\ntenants: [{caps}]\n").warnings

    assert "tenants[0].limits.tenant: below the price of the smallest" in str(warning)


def test_a_cap_of_no_money_that_names_nobody_is_warned_of(tmp_path: Path) -> None:
    """With an id it shuts one out and is meant; on trial it refuses nobody."""
    text = """
limits:
  caps:
    - {scope: user, window: 1h, usd: 0}
    - {scope: feature, id: search, window: 1h, usd: 0}
    - {scope: run, window: 1h, usd: 0, mode: shadow}
tenants: [{id: a}]
"""

    [warning] = loaded(tmp_path, BASE + text).warnings

    assert "limits.caps[0].usd: no money for any user: whatever has a price" in str(warning)


@pytest.mark.parametrize(
    ("limits", "warned"),
    [
        ("min_output_tokens: 5000", "limits.min_output_tokens: more than the 4096 tokens"),
        ("default_output_tokens: 60", "limits.min_output_tokens: more than the 60 tokens"),
        ("default_output_tokens: 64", ""),
        (
            "stream_slice_tokens: 8192",
            "slice_tokens: more than 4096 tokens, a long answer",
        ),
        ("stream_slice_tokens: 4096", ""),
    ],
)
def test_output_that_cannot_be_meant_is_warned_of(tmp_path: Path, limits: str, warned: str) -> None:
    found = [
        str(each)
        for each in loaded(
            tmp_path, f"{BASE}\nlimits: {{{limits}}}\ntenants: [{{id: a}}]\n"
        ).warnings
    ]

    assert len(found) == bool(warned), found
    assert all(warned in each for each in found)
