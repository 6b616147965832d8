"""The page on counting says what is measured now."""

from __future__ import annotations

from pathlib import Path

from benchmarks.token_error import tables

PAGE = Path(__file__).parents[1] / "docs/token-counting.md"


def test_the_page_has_the_measured_error() -> None:
    """What `python -m benchmarks.token_error` prints stands in docs/token-counting.md."""
    assert tables() in PAGE.read_text(encoding="utf-8")
